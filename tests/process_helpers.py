"""Helpers for tests with real processes: start a program, read its output, end it."""

import os
import queue
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from conftest import CORE_ONLY, DEADLINE, FOR_SERVERS, ROOT, SITE
from secrecy import watch

from umami.collector import Collector


def settings(server: Collector | int, **more: object) -> dict[str, str]:
    """Return environment variables that make a program send to a collector, or to a port of localhost."""
    port = server if isinstance(server, int) else urlsplit(server.url).port
    basic = {"url": f"http://localhost:{port}", "website_id": SITE, "hostname": "example.com"}
    return {f"UMAMI_{name.upper()}": str(value) for name, value in {**basic, **more}.items()}


def once(*names: str) -> Counter[str]:
    """Return what `stored` returns if each of these events arrived exactly once."""
    return Counter(dict.fromkeys(names, 1))


def finished(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run Python with `arguments`, and return its exit code and output."""
    with running(*arguments, **environment) as child:
        code = child.end()
        return subprocess.CompletedProcess(child.process.args, code, "".join(child.lines()), child.stderr)


class Child:
    """A running program, whose output can be waited for line by line."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.pid = process.pid
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._errors: list[str] = []
        self._readers = [threading.Thread(target=self._read_lines, daemon=True)]
        if process.stderr is not None:
            self._readers.append(threading.Thread(target=self._read_errors, daemon=True))
        for reader in self._readers:
            reader.start()

    def _read_lines(self) -> None:
        for line in self.process.stdout:
            watch.look("the output of a child process", line)
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _read_errors(self) -> None:
        for line in self.process.stderr:
            watch.look("the errors of a child process", line)
            self._errors.append(line)

    def line(self) -> str:
        """Wait for its next line of output, and return it."""
        line = self._lines.get(timeout=DEADLINE)
        assert line is not None, f"it ended: {''.join(self._errors)}"
        return line

    def lines(self) -> list[str]:
        """Return the rest of its output, line by line."""
        return list(iter(lambda: self._lines.get(timeout=DEADLINE), None))

    def says(self, pattern: str, times: int = 1) -> "re.Match[str]":
        """Wait until that many lines match a pattern, and return the last match."""
        while True:
            match = re.search(pattern, self.line())
            times -= match is not None
            if match and not times:
                return match

    def terminate(self) -> None:
        """Send SIGTERM until it has ended: Python sleeps on one that comes just before it begins to wait."""
        while self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(2)

    def end(self) -> int:
        """Wait until it ends, and return its exit code."""
        code = self.process.wait(DEADLINE)
        for reader in self._readers:
            reader.join(DEADLINE)
        return code

    @property
    def stderr(self) -> str:
        """What it has written to stderr; complete after `end`."""
        return "".join(self._errors)


@contextmanager
def running(*arguments: str, errors: int = subprocess.PIPE, **environment: str) -> Iterator[Child]:
    """Start Python with `arguments`, such as `-c` and a program, and kill it and its children at the end.

    Args:
        arguments: Python's.
        errors: `subprocess.STDOUT` to read its stderr along with its output.
        environment: Variables to add.
    """
    watch.learn_environment(environment)
    command = [sys.executable, *map(textwrap.dedent, arguments)]
    with subprocess.Popen(
        command,
        env={
            **os.environ,
            **(CORE_ONLY if "-c" in arguments else FOR_SERVERS),
            "PYTHONUNBUFFERED": "1",  # its lines are waited for
            **environment,
        },
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield Child(process)
        finally:
            # Its children too: one that is left behind would keep its output open for ever.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
