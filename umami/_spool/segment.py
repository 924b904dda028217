"""One file of the spool: events as they were queued, and which of them are settled.

The process that owns a file holds an exclusive lock on it for as long as it lives; a file that can be
locked has lost its owner.
"""

import contextlib
import itertools
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Final

from pydantic_core import from_json, to_json

from umami import _threads
from umami.queue.reasons import SPOOL_DAMAGED, TORN
from umami.queue.store import Loss

from .disk import DISK, OPEN, Disk
from .ranges import Ranges, runs_of
from .records import (
    EVENT,
    EXPORTER,
    HEAD,
    LOST,
    MAGIC,
    SETTLED,
    UNSETTLED,
    ForeignError,
    Record,
    Window,
    check_magic,
    framed,
    listed,
    printable,
    ranges,
    records,
    tail_of,
)

SUFFIX: Final = ".events"
DAMAGED_SUFFIX: Final = ".damaged"

_OUR_NAME: Final = re.compile(r"\d+-[0-9a-f]+-\d+(?:\.events|\.damaged)")
_NAME_FIRST: Final = 4096
_NAME_EVERY: Final = 64 * 1024
"""The exporter's name is repeated after so many bytes, and earlier at the beginning."""
_MOST_RUNS: Final = 64
"""Up to so many, each record of settled events repeats all that were settled before: one may be damaged."""
_EVENT_BYTES: Final = 400
"""The size of an event, as a guess."""


_names: Final = itertools.count()


def new_path(folder: Path, suffix: str = SUFFIX) -> Path:
    """Return a name for a new file in a folder."""
    return folder / f"{os.getpid()}-{time.time_ns():x}-{next(_names)}{suffix}"


class TakenError(Exception):
    """Another process owns the file, or has just finished with it."""


class Segment:
    """A locked, open file of the spool. Not thread-safe: its spool sees to that.

    Attributes:
        path: Where it is.
        name: The name of its events' exporter.
        size: Its length in bytes.
        count: How many events were written to it.
        synced: How many of these are on the disk itself; below 0 if its name may not be.
        most: No event is appended once it has more bytes.
        damaged: Whether it holds what cannot be read, and is worth keeping.
    """

    _open: ClassVar["_threads.Registry[Segment]"] = _threads.Registry()
    _descriptor = -1  # also of one whose making was broken off

    def __init__(self, path: Path, descriptor: int, disk: Disk) -> None:
        self._disk = disk
        self._write = disk.write
        self._descriptor = descriptor
        self._open.add(self)
        self.path = path
        self.name = ""
        self.size = 0
        self.synced = -1
        self.count = 0
        self.most: float = -1
        self.damaged = False
        self._sync_each = False
        self._name_again_at = 0
        self._settled = Ranges()
        self._unnoted: set[int] = set()
        self._marked: set[int] = set()
        self._missing = Ranges()
        self._lost = 0
        self._torn = 0
        self._cut = False
        self._estimated = ""
        self._end = 0
        self._event_bytes = 0

    def __del__(self) -> None:
        """Close a file that is no longer referenced."""
        self.close()

    @classmethod
    def close_all(cls) -> None:
        """Close every file without giving it up, as a fork's child does with its parent's."""
        for segment in cls._open.members():
            segment.close()

    @property
    def is_unknown(self) -> bool:
        """Whether nothing in it tells of any event."""
        return not self.name and not self.count

    @property
    def unsettled(self) -> int:
        """How many of its events are not settled."""
        return self.count - len(self._settled)

    def unsettled_within(self, first: int, end: int) -> int:
        """How many are not, of those with indexes from `first` on and below `end`."""
        return end - first - self._settled.within(first, end)

    @property
    def losses(self) -> list[Loss]:
        """What could not be read of it."""
        found = []
        if self._torn:
            message = f"The end of {printable(self.path)} is incomplete, as after a kill or a power failure."
            message += self._estimated
            found.append(Loss(self._torn, TORN, message))
        if self._lost:
            message = f"A part of {printable(self.path)} is damaged.{self._estimated}"
            found.append(Loss(self._lost, SPOOL_DAMAGED, message))
        return found

    @property
    def left(self) -> int:
        """How many of its events the next owner would send; none if the file is gone."""
        if not self.exists():
            return 0
        return self.unsettled - sum(index not in self._settled for index in self._marked)

    def exists(self) -> bool:
        """Tell whether the file is where it was made: somebody may have removed it, or its folder."""
        try:
            there, here = self._disk.lstat(self.path), self._disk.fstat(self._descriptor)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    # Opening.

    @classmethod
    def create(
        cls, path: Path, name: str, most: float, disk: Disk = DISK, *, sync_each: bool = False
    ) -> "Segment":
        """Create a file that this process owns.

        Args:
            path: Where.
            name: The name of its events' exporter.
            most: No event is appended once it has so many bytes.
            disk: The disk.
            sync_each: Whether an event is to be on the disk itself when `append` returns.

        Raises:
            TakenError: A neighbour took the file before it could be locked.
            OSError: It cannot be created or written.
        """
        segment = cls(path, disk.open(path, OPEN | os.O_CREAT | os.O_EXCL, 0o600), disk)
        segment.name = name
        segment.most = most
        try:
            segment._lock()
            segment._append(MAGIC + segment._named())
            if sync_each:
                segment.sync()
                segment._sync_each = True
        except BaseException:
            segment.remove()
            raise
        return segment

    @classmethod
    def taken(cls, path: Path, disk: Disk = DISK) -> "Segment":
        """Lock a file whose owner is gone, and look no further.

        Raises:
            TakenError: It has an owner.
            ForeignError: It is no file.
            OSError: It cannot be opened.
        """
        if not stat.S_ISREG(cls._status(path, disk).st_mode):
            raise ForeignError  # before it is opened: with some devices that alone does something
        try:
            segment = cls(path, disk.open(path, OPEN), disk)
        except (FileNotFoundError, BlockingIOError):  # a lease; it has ended when the process has
            raise TakenError from None
        try:
            segment.size = disk.fstat(segment._descriptor).st_size
            segment._lock()
        except BaseException:
            segment.close()
            raise
        return segment

    @staticmethod
    def _status(path: Path, disk: Disk) -> os.stat_result:
        try:
            return disk.lstat(path)
        except FileNotFoundError:
            raise TakenError from None

    def _lock(self) -> None:
        try:
            self._disk.lock(self._descriptor)
        except BlockingIOError:
            raise TakenError from None
        if not self.exists():
            raise TakenError  # it was sent and deleted between the opening and the locking

    def look(self, *, again: bool = False) -> None:
        """Read a file as `scan` does, but hold up no process that wants it.

        Raises:
            ForeignError: It is none of umami's, or another version's.
            OSError: It cannot be read.
        """
        self._disk.unlock(self._descriptor)
        self.scan(again=again)

    # Reading.

    def identify(self) -> None:
        """Read the name of its exporter, if it stands at the beginning.

        Raises:
            ForeignError: It is none of umami's, or another version's.
            OSError: It cannot be read.
        """
        window = self._window()
        first = next(records(window), None)
        if first is not None and first.kind == EXPORTER and first.start == len(MAGIC):
            self._note_exporter(first.payload)

    def _window(self) -> Window:
        window = Window(self._disk, self._descriptor)
        check_magic(window, is_named_so=_OUR_NAME.fullmatch(self.path.name) is not None)
        return window

    def scan(self, *, again: bool = False) -> None:
        """Read a file, and leave it as it is.

        Args:
            again: Whether events that were counted as lost are to be sent if they can be read now.

        Raises:
            ForeignError: It is none of umami's, or another version's.
            OSError: It cannot be read.
        """
        window = self._window()
        self.size = self._disk.fstat(self._descriptor).st_size
        self._end = len(MAGIC) if window.read(0, len(MAGIC)) == MAGIC else 0
        for record in records(window):
            self._note(record, again=again)
        whole = self.count - len(self._missing)
        tail = tail_of(window, self._end, self.size, self._event_bytes // whole if whole else _EVENT_BYTES)
        self._cut = tail.torn
        self._estimated = " The number is estimated from the size of the part." if tail.estimated else ""
        self._torn, self._lost = (tail.lost, 0) if tail.torn else (0, tail.lost)
        self.damaged = len(self._missing) > 0 or self._lost > 0
        if not self.name:
            self._lost += self._torn + self.unsettled  # nobody knows where to send them
            self._torn = 0
            self.damaged = self.damaged or self._lost > 0
            self._settled.add(0, self.count)
            if self.is_unknown:  # it is kept as it is; a count would be a guess
                self._lost, self._cut = 0, False
            return
        for run in self._missing:
            self._lost += self.unsettled_within(run.start, run.stop)
            self._settled.add(run.start, run.stop)

    def _note(self, record: Record, *, again: bool) -> None:
        """Take in a record. What its checksum does not explain is no record."""
        kind, index, payload, start, end = record
        missing = index - self.count
        if missing < 0 or missing * HEAD > start - self._end:
            return
        self._missing.add(self.count, index)
        self.count = index
        self._end = end
        if kind == EVENT:
            self.count += 1
            self._event_bytes += end - start
        elif kind == EXPORTER:
            self._note_exporter(payload)
        elif kind == SETTLED or (kind == LOST and not again):
            for run in ranges(payload):
                self._settled.add(run.start, min(run.stop, self.count))
        elif kind == UNSETTLED:
            for run in ranges(payload):
                self._settled.remove(run.start, run.stop)

    def _note_exporter(self, payload: bytes) -> None:
        with contextlib.suppress(ValueError, TypeError, LookupError):
            self.name = self.name or str(from_json(payload)["exporter"])

    def events(self, first: int = 0) -> Iterator[tuple[int, bytes]]:
        """Read the events that are not settled, from index `first` on, each with its index.

        Raises:
            OSError: It cannot be read.
        """
        for kind, index, payload, _, _ in records(self._window()):
            if kind == EVENT and first <= index < self.count and index not in self._settled:
                yield index, payload
                first = index + 1

    # Writing.

    def _named(self) -> bytes:
        self._name_again_at = self.size + max(_NAME_FIRST, min(self.size, _NAME_EVERY))
        return framed(EXPORTER, self.count, to_json({"exporter": self.name}))

    def append(self, event: bytes) -> int:
        """Write an event, and return its index.

        Raises:
            OSError: It could not be written; the file is as it was.
        """
        index = self.count
        record = framed(EVENT, index, event)
        if self.size > self._name_again_at:
            record = self._named() + record
        self._append(record, 1)
        if self._sync_each:
            self._sync(len(record))
        return index

    def _sync(self, size: int) -> None:
        try:
            self._disk.sync(self._descriptor)
        except BaseException:
            # What a failed sync leaves is not known: no more events go to this file.
            self.most = -1
            with contextlib.suppress(OSError):
                self._disk.truncate(self._descriptor, self.size - size)
                self.size, self.count = self.size - size, self.count - 1
            raise
        self.synced = self.size

    def settle(self, indexes: Iterable[int]) -> None:
        """Write down that events are settled.

        Raises:
            OSError: It could not be written, and is with the next ones. The events count as settled for
                this process all the same.
        """
        self._unnoted.update(indexes)
        runs = list(runs_of(sorted(self._unnoted)))
        for run in runs:
            self._settled.add(run.start, run.stop)
        if self._settled.runs <= _MOST_RUNS:
            runs = [*self._settled.without(self._missing)]
        self._append(listed(SETTLED, self.count, runs))
        self._unnoted.clear()

    def mark(self, indexes: Iterable[int], *, settled: bool) -> None:
        """Write down what another process is to think of events that for this one are not settled.

        Raises:
            OSError: It could not be written.
        """
        self._append(listed(SETTLED if settled else UNSETTLED, self.count, runs_of(sorted(indexes))))
        (self._marked.update if settled else self._marked.difference_update)(indexes)

    def lose(self, first: int, end: int) -> None:
        """Write down that events could not be read, and are counted as lost.

        Raises:
            OSError: It could not be written. They count so for this process all the same.
        """
        self.damaged = True
        self._missing.add(first, end)
        self._settled.add(first, end)
        self._append(listed(LOST, self.count, self._missing))

    def repair(self) -> None:
        """After a scan, cut off what was torn, and write down what is lost: the next owner must not count it.

        Raises:
            OSError: It could not be done.
        """
        if self._cut:
            self._disk.truncate(self._descriptor, self._end)
            self.size = self._end
        if self._lost or self._torn:
            self._append(listed(LOST, self.count, self._missing if self.name else [range(self.count)]))

    def _append(self, record: bytes, events: int = 0) -> None:
        size = len(record)
        try:
            written = self._write(self._descriptor, record)
            while written < size:
                written += self._write(self._descriptor, record[written:])
            # Both or none: readers ignore records whose count of events is not the file's.
            self.size, self.count = self.size + size, self.count + events
        except BaseException:
            try:
                self._disk.truncate(self._descriptor, self.size)
            except OSError:
                self.most = -1
            raise

    def sync(self) -> None:
        """Have all of it on the disk itself, its name in the folder included.

        Raises:
            OSError: That failed.
        """
        self._disk.sync(self._descriptor)
        self._disk.sync_path(self.path.parent)
        self.synced = self.size

    def close(self) -> None:
        """Let go of the file, for another process to take over."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            self._disk.close(descriptor)

    def remove(self) -> None:
        """Delete the file, whose events are all settled."""
        with contextlib.suppress(OSError):
            if self.exists():
                self._disk.unlink(self.path)
        self.close()

    def set_aside(self) -> Path:
        """Rename the file, which is damaged, so that it is not read again; return its new name.

        Raises:
            OSError: It could not be renamed.
        """
        path = self.path.with_suffix(DAMAGED_SUFFIX)
        self._disk.rename(self.path, path)
        self.path = path
        return path
