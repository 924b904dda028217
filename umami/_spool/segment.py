"""One file of the spool: events as they were queued, and which of them are settled.

The process that owns a file holds an exclusive lock on it for as long as it lives; a file that can be
locked has lost its owner.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Final

from pydantic_core import from_json, to_json

from umami import _threads
from umami.queue.reasons import SPOOL_DAMAGED, TORN
from umami.queue.store import Loss

from .records import (
    EVENT,
    EXPORTER,
    MAGIC,
    SETTLED,
    UNSETTLED,
    DamagedError,
    framed,
    listed,
    ranges,
    records,
    remains,
)

try:
    import fcntl
except ImportError:
    CAN_LOCK = False
else:
    CAN_LOCK = True

SUFFIX: Final = ".events"
DAMAGED_SUFFIX: Final = ".damaged"

DAMAGE: Final = "Their file in the spool is damaged."

_OURS: Final = os.O_RDWR | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)


class TakenError(Exception):
    """Another process owns the file, or has just finished with it."""


class Segment:
    """A locked, open file of the spool. Not thread-safe: its spool sees to that.

    Attributes:
        path: Where it is.
        name: The name of its events' exporter.
        size: Its length in bytes.
        count: How many events it holds.
        torn: Whether its last record was cut short, and dropped.
        lost: How many events of a damaged file could not be saved into this one.
    """

    _open: ClassVar["_threads.Registry[Segment]"] = _threads.Registry()

    def __init__(self, path: Path, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._open.add(self)
        self.path = path
        self.name = name
        self.size = 0
        self.count = 0
        self.torn = False
        self.lost = 0
        self._settled: set[int] = set()
        self._unnoted: set[int] = set()
        self._marked: set[int] = set()

    def __del__(self) -> None:
        """Close a file that is no longer referenced."""
        self.close()

    @classmethod
    def close_all(cls) -> None:
        """Close every file without giving it up, as a fork's child does with its parent's."""
        for segment in cls._open.members():
            segment.close()

    @property
    def unsettled(self) -> int:
        """How many of its events are not settled."""
        return self.count - len(self._settled)

    @property
    def losses(self) -> list[Loss]:
        """What could not be read of it."""
        found = []
        if self.torn:
            found.append(Loss(1, TORN, f"The last record of {self.path} was cut short, as by a kill."))
        if self.lost:
            found.append(Loss(self.lost, SPOOL_DAMAGED, DAMAGE))
        return found

    @property
    def left(self) -> int:
        """How many of its events the next owner would send."""
        return self.count - len(self._settled | self._marked)

    @classmethod
    def create(cls, path: Path, name: str) -> "Segment":
        """Create a file that this process owns.

        Raises:
            TakenError: A neighbour took the file before it could be locked.
            OSError: It cannot be created or written.
        """
        segment = cls(path, os.open(path, _OURS | os.O_CREAT | os.O_EXCL, 0o600), name)
        try:
            segment._lock()
            segment._append(MAGIC + framed(EXPORTER, to_json({"exporter": name})))
        except BaseException:
            segment.remove()
            raise
        return segment

    @classmethod
    def taken(cls, path: Path) -> "Segment":
        """Lock a file whose owner is gone, and look no further.

        Raises:
            TakenError: It has an owner.
            OSError: It cannot be opened.
        """
        try:
            segment = cls(path, os.open(path, _OURS), "")
        except FileNotFoundError:
            raise TakenError from None
        try:
            segment._lock()
        except BaseException:
            segment.close()
            raise
        return segment

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TakenError from None
        if os.fstat(self._descriptor).st_nlink == 0:
            raise TakenError  # finished and removed between the opening and the locking

    def read(self) -> None:
        """Read a file that was `taken`, and cut off what is torn.

        Raises:
            ForeignError: Another version wrote it.
            DamagedError: It is damaged.
            OSError: It cannot be read.
        """
        self.scan()
        self.cut_torn()

    def cut_torn(self) -> None:
        """Cut off a record that was cut short, after `scan`.

        Raises:
            OSError: It cannot be done.
        """
        if os.fstat(self._descriptor).st_size > self.size:
            self.torn = self.size > 0
            os.ftruncate(self._descriptor, self.size)

    def look(self) -> None:
        """Read a file that was `taken`, and leave it as it is, for others to take at once.

        Raises:
            ForeignError: Another version wrote it.
            DamagedError: It is damaged.
            OSError: It cannot be read.
        """
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self.scan()

    def scan(self) -> None:
        """Read a file, and leave it as it is.

        Raises:
            ForeignError: Another version wrote it.
            DamagedError: It is damaged.
            OSError: It cannot be read.
        """
        for kind, payload, after in records(self._descriptor):
            self._note(kind, payload)
            self.size = after
        if not self.name and self.count:
            raise DamagedError("it names no exporter")

    def _note(self, kind: bytes, payload: bytes) -> None:
        if kind == EXPORTER:
            self._note_exporter(payload)
        elif kind == EVENT:
            self.count += 1
        elif kind in (SETTLED, UNSETTLED):
            listed_ranges = list(ranges(payload))
            if any(each.stop > self.count for each in listed_ranges):
                raise DamagedError("it settles events that it does not hold")
            change = self._settled.update if kind == SETTLED else self._settled.difference_update
            change(*listed_ranges)

    def _note_exporter(self, payload: bytes) -> None:
        try:
            self.name = str(from_json(payload)["exporter"])
        except (ValueError, TypeError, LookupError):
            raise DamagedError("it names no exporter") from None

    def salvage(self) -> list[bytes]:
        """Read what is left of a damaged file: its unsettled events. Those that are not are in `lost`.

        An event whose frame is whole is counted although its content is not, so the indexes of what
        follows hold. After a broken frame they do not: events are lost from there on, and what is said of
        earlier ones is heeded.
        """
        self.count, self.lost = 0, 0
        self._settled.clear()
        good: dict[int, bytes] = {}
        exact = True
        for kind, payload in remains(self._descriptor):
            exact = exact and kind != b""
            if kind == EVENT and payload is not None and exact:
                good[self.count] = payload
            if payload is not None and kind != EVENT:
                with contextlib.suppress(DamagedError):
                    self._note(kind, payload)
            self.count += kind in (EVENT, b"")
        saved = [event for index, event in good.items() if index not in self._settled]
        if not self.name:
            saved = []
        settled = sum(index < self.count for index in self._settled)
        self.lost = self.count - settled - len(saved)
        return saved

    def append(self, event: bytes) -> int:
        """Write an event, and return its index.

        Raises:
            OSError: It could not be written; the file is as it was.
        """
        self._append(framed(EVENT, event))
        self.count += 1
        return self.count - 1

    def settle(self, indexes: Iterable[int]) -> None:
        """Write down that events are settled.

        Raises:
            OSError: It could not be written, and is with the next ones. The events count as settled for
                this process all the same.
        """
        self._settled.update(indexes)
        self._unnoted.update(indexes)
        self._append(listed(SETTLED, self._unnoted))
        self._unnoted.clear()

    def mark(self, indexes: Iterable[int], *, settled: bool) -> None:
        """Write down what another process is to think of events that for this one are not settled.

        Raises:
            OSError: It could not be written.
        """
        self._append(listed(SETTLED if settled else UNSETTLED, indexes))
        (self._marked.update if settled else self._marked.difference_update)(indexes)

    def events(self) -> Iterator[tuple[int, bytes]]:
        """Read the events that are not settled, each with its index.

        Raises:
            DamagedError: The file changed under its owner.
            OSError: It cannot be read.
        """
        index = 0
        for kind, payload, _ in records(self._descriptor):
            if kind == EVENT:
                if index not in self._settled:
                    yield index, payload
                index += 1

    def _append(self, record: bytes) -> None:
        try:
            written = os.write(self._descriptor, record)
            while written < len(record):
                written += os.write(self._descriptor, record[written:])
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(record)

    def close(self) -> None:
        """Let go of the file, for another process to take over."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def remove(self) -> None:
        """Delete the file, whose events are all settled."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        self.close()

    def set_aside(self) -> Path:
        """Rename the file, which is damaged, so that it is not read again; return its new name."""
        return self.path.rename(self.path.with_suffix(DAMAGED_SUFFIX))
