"""The servers of a campaign: a real Umami, controlled by commands, or the collector in a process."""

import contextlib
import http.client
import json
import shlex
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from loadtests.soak_lines import Child, serve

from .traffic import WEBSITE

NODE: Final = 22
_COMMAND_SECONDS: Final = 120.0
_ITEM_SECONDS: Final = 0.005  # half of what a real one takes: enough for faults in the middle of a batch
_HEALTHY_SECONDS: Final = 90.0
_NAMES: Final = ("umami", "url", "start", "stop", "kill", "database_stop", "database_start", "rows")


class Server(Protocol):
    """A server that can be stopped, killed and cut off from its database."""

    umami: str
    name: str
    real: bool
    website_id: str
    url: str

    def start(self) -> None:
        """Start it and its database; return when it answers."""

    def stop(self) -> None:
        """Stop it with SIGTERM, or kill it if it does not end."""

    def kill(self) -> None:
        """Stop it with SIGKILL."""

    def database_stop(self) -> None:
        """Stop its database."""

    def database_start(self) -> None:
        """Start its database."""

    def rows(self) -> Counter[str]:
        """Return the number of stored rows, by the event's name, or the path of a page view."""


class RealServer:
    """A real server, described by a file with its version, its URL and the commands that control it.

    Args:
        file: JSON with `umami` (the version), `url`, optionally `website_id` and `name` (by default the
            version), and the commands `start`, `stop`, `kill`, `database_stop`, `database_start` and `rows`.
            The last one prints a line for each stored event: its name, or the path of a page view.

    Raises:
        ValueError: Something is missing in the file.
    """

    real = True

    def __init__(self, file: Path) -> None:
        self._told: Mapping[str, str] = json.loads(file.read_text())
        missing = [name for name in _NAMES if name not in self._told]
        if missing:
            raise ValueError(f"{file} lacks {', '.join(missing)}")
        self.umami = self._told["umami"]
        self.name = self._told.get("name", self.umami)
        self.url = self._told["url"].rstrip("/")
        self.website_id = self._told.get("website_id", WEBSITE)

    def start(self) -> None:
        self._run("start")
        deadline = time.monotonic() + _HEALTHY_SECONDS
        while not self._is_healthy():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.url} is not healthy after {_HEALTHY_SECONDS:.0f} s")
            time.sleep(0.1)

    def stop(self) -> None:
        try:
            self._run("stop")
        except RuntimeError as error:
            print(f"{error}: killing it, as Docker does", file=sys.stderr)
            self.kill()

    def kill(self) -> None:
        self._run("kill")

    def database_stop(self) -> None:
        self._run("database_stop")

    def database_start(self) -> None:
        self._run("database_start")

    def rows(self) -> Counter[str]:
        return Counter(self._run("rows").split("\n"))

    def _run(self, name: str) -> str:
        command = shlex.split(self._told[name])
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=_COMMAND_SECONDS, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{self._told[name]!r} ended with {done.returncode}")
        return done.stdout.decode()

    def _is_healthy(self) -> bool:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=5)
        try:
            connection.request("GET", "/api/heartbeat")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class CollectorServer:
    """The collector as one version of Umami, in a process of its own.

    Args:
        umami: The version.
        folder: The folder for its database and its log.
        node: The version of Node.js to answer as.
    """

    real = False
    website_id = WEBSITE

    def __init__(self, umami: str, folder: Path, node: int = NODE) -> None:
        self.umami = umami
        self.name = umami if node == NODE else f"{umami} on Node {node}"
        self._node = node
        self.url = ""
        self._folder = folder
        self._database = folder / f"{self.name}.sqlite"
        self._child: Child | None = None

    def start(self) -> None:
        if self._child is None:
            task = {
                "umami": self.umami,
                "node": self._node,
                "database": str(self._database),
                "port": urlsplit(self.url).port or 0,
            }
            self._child = Child(__name__, task, self._folder / f"{self.name}.log")
            self.url = self._child.ask("url")

    def stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.ask("stop")
            child.end()

    def kill(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.end()

    def database_stop(self) -> None:
        assert self._child is not None
        self._child.ask("database_away")

    def database_start(self) -> None:
        if self._child is not None:
            self._child.ask("database_back")

    def rows(self) -> Counter[str]:
        with contextlib.closing(sqlite3.connect(self._database)) as connection:
            rows = connection.execute(
                "select coalesce(nullif(name, ''), url_path), count(*) from event group by 1"
            )
            return Counter(dict(rows))


def _main() -> None:
    """Run the collector, as the process of a `Child`."""
    from umami.collector import Collector

    task: dict[str, Any] = json.loads(sys.argv[1])
    collector = Collector(
        umami=task["umami"],
        node=task["node"],
        port=task["port"],
        database=task["database"],
        item_delay=_ITEM_SECONDS,
    )
    collector.start()
    serve(
        {
            "url": lambda: collector.url,
            "stop": lambda: collector.stop(finish=True),
            "database_away": collector.database_away,
            "database_back": collector.database_back,
        }
    )


if __name__ == "__main__":
    _main()
