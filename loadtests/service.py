"""One measurement of the scenario `service`: uvicorn serves the tracked page to wrk."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from . import environments
from .model import Case, MeasurementError, Metrics

_WRK_SCRIPT: Final = Path(__file__).with_name("wrk.lua")
_START_SECONDS: Final = 20.0


def measure_service(case: Case, python: Path, port: int) -> Metrics:
    """Run the service under load.

    Raises:
        MeasurementError: The service or wrk failed.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise MeasurementError("wrk is not installed: apt-get install wrk")
    seconds, connections = int(case.options["seconds"]), int(case.options["connections"])
    with serving(case, python, "loadtests.app:app", LOADTEST_URL=f"http://127.0.0.1:{port}") as (
        service,
        own,
    ):
        try:
            load: list[str | Path] = [wrk, "-t1", f"-c{connections}", "--timeout", "30s", "-s", _WRK_SCRIPT]
            url = f"http://127.0.0.1:{own}/checkout"
            subprocess.run([*load, "-d1s", url], check=True, capture_output=True, timeout=60)
            cpu = cpu_seconds(service.pid)
            done = subprocess.run(
                [*load, f"-d{seconds}s", url],
                check=True,
                capture_output=True,
                text=True,
                timeout=seconds + 60,
            )
            cpu = cpu_seconds(service.pid) - cpu
        except subprocess.SubprocessError as error:
            raise MeasurementError(f"wrk: {error}") from None
    found: Metrics = json.loads(done.stdout.splitlines()[-1])
    found["cpu_us"] = cpu / max(1.0, found["requests"]) * 1e6
    return found


@contextmanager
def serving(
    case: Case, python: Path, app: str, **more: str
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Serve an application with uvicorn, and yield its process and port.

    Args:
        case: The measurement.
        python: The interpreter.
        app: The application, as uvicorn takes it.
        more: Environment variables.
    """
    own = _free_port()
    variables = {
        **environments.variables(case.subject),
        "LOADTEST_SUBJECT": case.subject,
        "UMAMI_SHUTDOWN_TIMEOUT": "1",
        **more,
    }
    command: list[str | Path] = [python, "-m", "uvicorn", app, "--port", str(own), "--log-level", "critical"]
    quiet = subprocess.DEVNULL
    place = environments.import_path(case.subject)[0]
    with subprocess.Popen(command, env=variables, cwd=place, stdout=quiet, stderr=quiet) as service:
        try:
            _wait_until_up(own, service)
            yield service, own
        finally:
            service.kill()  # the events that are still queued do not matter


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_until_up(port: int, service: "subprocess.Popen[bytes]") -> None:
    give_up = time.monotonic() + _START_SECONDS
    while time.monotonic() < give_up and service.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/nothing-here")
            connection.getresponse()
        except OSError:
            time.sleep(0.05)
        else:
            return
        finally:
            connection.close()
    raise MeasurementError("the service did not start")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
