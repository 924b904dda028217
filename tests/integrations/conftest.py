"""Fixtures for the task queues."""

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import DEADLINE

from integrations.web_servers import until


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a Redis server, which listens on a Unix socket alone and keeps nothing."""
    redis_server = shutil.which("redis-server")
    if redis_server is None:
        pytest.skip("redis-server is not installed")
    with tempfile.TemporaryDirectory() as folder:
        address = Path(folder) / "redis"
        # It stops by itself even if this process is killed.
        command = [
            "timeout",
            "1h",
            redis_server,
            "--port",
            "0",
            "--unixsocket",
            str(address),
            "--save",
            "",
            "--dir",
            folder,
        ]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                until(lambda: _is_served(address))
                yield f"unix://{address}"
            finally:
                process.terminate()
                process.wait(DEADLINE)


def _is_served(path: Path) -> bool:
    """Return whether a server accepts connections at a Unix socket: it exists before that."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0
