"""Events that a server refused, kept in files as JSON lines, to be read and sent again."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from pydantic_core import from_json, to_json

from umami import _threads

from .disk import CAN_LOCK, DISK, OPEN, Disk
from .records import printable
from .segment import new_path

REJECTED_SUFFIX: Final = ".jsonl"


class Rejected:
    """Writes rejected events to a file in a folder. Any thread may call it.

    Args:
        folder: The folder. It is made if it is not there, for its owner alone.
        report: Called with the reason and the message of what goes wrong.
        disk: The disk.

    Attributes:
        max_bytes: The most bytes of a file.

    Raises:
        OSError: The folder cannot be made or used.
    """

    def __init__(self, folder: Path, report: Callable[[str, str], object], disk: Disk = DISK) -> None:
        self._descriptor = -1
        self.folder = folder
        self.max_bytes = 0
        self._report = report
        self._disk = disk
        folder.mkdir(0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{folder} cannot be written to")
        self.after_fork()

    def __del__(self) -> None:
        """Let go of the file."""
        self._close()

    def write(self, exporter: str, reason: str, message: str, events: Sequence[bytes]) -> None:
        """Write events.

        Args:
            exporter: The name of the exporter that they were for.
            reason: The short name of why they were rejected.
            message: Why, in words.
            events: Their JSON.
        """
        time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        about = {"rejected": reason, "message": message, "time": time, "exporter": exporter}
        begin = to_json(about)[:-1] + b',"event":'
        lines = b"".join(b"%b%b}\n" % (begin, event) for event in events)
        with self._lock:
            if self._size + len(lines) > self.max_bytes:
                full = f"{printable(self.folder)} is full, so rejected events are no longer kept. "
                self._report("spool_rejected_full", full + "Raise spool_max_bytes, or run umami spool send.")
                return
            try:
                self._append(lines)
            except OSError as error:
                why = f"Rejected events could not be written to {printable(self.folder)}: {printable(error)}."
                self._report("spool_rejected", why)

    def _append(self, lines: bytes) -> None:
        if self._descriptor < 0:
            path = new_path(self.folder, REJECTED_SUFFIX)
            self._descriptor = self._disk.open(path, OPEN | os.O_CREAT | os.O_EXCL, 0o600)
            if CAN_LOCK:
                self._disk.lock(self._descriptor)  # for as long as this process writes there
        written = 0
        while written < len(lines):
            written += self._disk.write(self._descriptor, lines[written:])
        self._size += written

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):
                self._disk.close(descriptor)

    def after_fork(self) -> None:
        """Start another file, as a fork's child does."""
        self._lock = _threads.RLock()
        self._size = 0
        self._close()


def parsed(line: bytes) -> tuple[str, bytes] | None:
    """Return the exporter's name and the event of a line; None if it is no such line."""
    try:
        read: Any = from_json(line)
        exporter, event = read["exporter"], read["event"]
    except (ValueError, TypeError, LookupError):
        return None
    if "rejected" not in read or not isinstance(exporter, str) or not isinstance(event, dict):
        return None
    return exporter, to_json(event)
