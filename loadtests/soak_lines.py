"""Child processes that take commands: each is a line of standard input, answered with a line of JSON.

A child ends when its standard input ends, so it does not outlive the process that started it.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
_END_SECONDS: Final = 30.0

Commands = Mapping[str, Callable[[], Any]]


class ChildError(Exception):
    """A child has ended or does not answer."""


class Child:
    """A module that runs in a process of its own and takes commands.

    Args:
        module: Its name. It gets `task` as its argument, and calls `serve`.
        task: Its task.
        log: The file for its stderr.
    """

    def __init__(self, module: str, task: Mapping[str, Any], log: Path) -> None:
        self.name = module.rpartition("_")[2]
        self._log: IO[bytes] = log.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(task)],
            cwd=ROOT,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self.pid = self._process.pid

    def ask(self, command: str, within: float = _END_SECONDS) -> Any:
        """Give a command, and return the answer.

        Raises:
            ChildError: There was no answer within so many seconds. The child is killed then.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        watchdog = threading.Timer(within, self._process.kill)
        watchdog.start()
        try:
            self._process.stdin.write(f"{command}\n".encode())
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            watchdog.cancel()
        if not line.endswith(b"\n"):
            code = self._process.wait()
            raise ChildError(f"the {self.name} did not answer {command!r} and ended with {code}")
        return json.loads(line)

    def end(self) -> int:
        """Close its standard input, wait until it ends, and return its exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            return self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return self.kill()
        finally:
            self._process.stdout.close()
            self._log.close()

    def kill(self) -> int:
        """Kill it if it still runs, and return its exit code."""
        self._process.kill()
        return self._process.wait()


def serve(commands: Commands) -> None:
    """Run the command in each line of standard input, until that ends."""
    for line in sys.stdin:
        print(json.dumps(commands[line.strip()]()), flush=True)


def _environment() -> dict[str, str]:
    """Return the environment without the variables that configure the client."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("UMAMI_")}
    return {**kept, "PYTHONPATH": str(ROOT), "NO_PROXY": "*"}
