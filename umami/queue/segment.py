"""One file of the spool: events as they were queued, and which of them are settled.

A file begins with the destination of its events and goes on with records, each framed by its kind, its
length and checksums: `E` is an event, `S` lists events that are settled, by their index in the file.
The process that owns a file holds an exclusive lock on it for as long as it lives; a file that can be
locked has lost its owner. Records are appended with one write each, so that a killed process leaves at
most one torn record, the last.
"""

import contextlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from pydantic_core import from_json, to_json

from .delivery import Destination

try:
    import fcntl
except ImportError:
    CAN_LOCK = False
else:
    CAN_LOCK = True

SUFFIX: Final = ".events"
DAMAGED_SUFFIX: Final = ".damaged"

_MAGIC: Final = b"umami-spool-1\n"
_FRAME: Final = struct.Struct("<cII")
_CHECK: Final = struct.Struct("<I")
_HEAD: Final = _FRAME.size + _CHECK.size
_PAIR: Final = struct.Struct("<II")
_EVENT: Final = b"E"
_SETTLED: Final = b"S"
_DESTINATION: Final = b"D"


class DamagedError(Exception):
    """A file of the spool does not hold what was written to it."""


class TakenError(Exception):
    """Another process owns the file, or has just finished with it."""


class Segment:
    """A locked, open file of the spool. Not thread-safe: its spool sees to that.

    Attributes:
        path: Where it is.
        destination: Where its events go.
        size: Its length in bytes.
        count: How many events it holds.
        torn: Whether its last record was cut short, and dropped.
    """

    def __init__(self, path: Path, descriptor: int, destination: Destination) -> None:
        self.path = path
        self.destination = destination
        self.size = 0
        self.count = 0
        self.torn = False
        self._descriptor = descriptor
        self._settled: set[int] = set()

    @property
    def unsettled(self) -> int:
        """How many of its events are not settled."""
        return self.count - len(self._settled)

    @classmethod
    def create(cls, path: Path, destination: Destination) -> "Segment":
        """Create a file that this process owns.

        Raises:
            OSError: It cannot be created or written.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        segment = cls(path, descriptor, destination)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            about = to_json({"send_url": destination.send_url, "batch_url": destination.batch_url})
            segment._append(_MAGIC + _framed(_DESTINATION, about))
        except BaseException:
            segment.remove()
            raise
        return segment

    @classmethod
    def adopt(cls, path: Path) -> "Segment":
        """Take over a file whose owner is gone.

        Raises:
            TakenError: It has an owner.
            DamagedError: It is damaged; it is left as it is.
            OSError: It cannot be read.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            raise TakenError from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise TakenError from None
        if os.fstat(descriptor).st_nlink == 0:
            os.close(descriptor)
            raise TakenError  # finished and removed between the opening and the locking
        try:
            return cls._read(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    @classmethod
    def _read(cls, path: Path, descriptor: int) -> "Segment":
        data = _contents(descriptor)
        segment = cls(path, descriptor, Destination("", None))
        end = len(_MAGIC)
        for kind, payload, after in _records(data):
            if kind == _DESTINATION:
                about = from_json(payload)
                segment.destination = Destination(about["send_url"], about["batch_url"])
            elif kind == _EVENT:
                segment.count += 1
            elif kind == _SETTLED:
                for first, count in _PAIR.iter_unpack(payload):
                    segment._settled.update(range(first, first + count))
            end = after
        if not segment.destination.send_url and segment.count:
            raise DamagedError("it names no destination")
        if end < len(data):
            segment.torn = True
            os.ftruncate(descriptor, end)
        segment.size = min(end, len(data))
        return segment

    def append(self, event: bytes) -> int:
        """Write an event, and return its index.

        Raises:
            OSError: It could not be written; the file is as it was.
        """
        self._append(_framed(_EVENT, event))
        self.count += 1
        return self.count - 1

    def settle(self, indexes: Iterable[int]) -> None:
        """Write down that events are settled.

        Raises:
            OSError: It could not be written. The events count as settled for this process all the same.
        """
        indexes = sorted(indexes)
        self._settled.update(indexes)
        self._append(_framed(_SETTLED, b"".join(_PAIR.pack(*run) for run in _runs(indexes))))

    def events(self) -> Iterator[tuple[int, bytes]]:
        """Read the events that are not settled, each with its index.

        Raises:
            DamagedError: The file changed under its owner.
            OSError: It cannot be read.
        """
        index = 0
        for kind, payload, _ in _records(_contents(self._descriptor)):
            if kind == _EVENT:
                if index not in self._settled:
                    yield index, payload
                index += 1

    def _append(self, record: bytes) -> None:
        written = 0
        try:
            while written < len(record):
                written += os.write(self._descriptor, record[written:])
        except OSError:
            if written:
                os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(record)

    def close(self) -> None:
        """Let go of the file, for another process to take over."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        """Delete the file, whose events are all settled."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        self.close()


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that nobody trips over it again, and return its new name."""
    return path.rename(path.with_suffix(DAMAGED_SUFFIX))


def _framed(kind: bytes, payload: bytes) -> bytes:
    frame = _FRAME.pack(kind, len(payload), zlib.crc32(payload))
    return b"%b%b%b" % (frame, _CHECK.pack(zlib.crc32(frame)), payload)


def _contents(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    chunks = []
    offset = 0
    while offset < size and (chunk := os.pread(descriptor, size - offset, offset)):
        chunks.append(chunk)
        offset += len(chunk)
    return b"".join(chunks)


def _records(data: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield each whole record's kind and payload, and where it ends; stop at one that was cut short.

    Raises:
        DamagedError: A record is wrong in a way that no interrupted write explains.
    """
    if not data.startswith(_MAGIC):
        if _MAGIC.startswith(data):
            return  # its owner died while creating it
        raise DamagedError("it does not begin as a spool file does")
    start = len(_MAGIC)
    while start + _HEAD <= len(data):
        frame = data[start : start + _FRAME.size]
        (check,) = _CHECK.unpack_from(data, start + _FRAME.size)
        kind, length, checksum = _FRAME.unpack(frame)
        after = start + _HEAD + length
        payload = data[start + _HEAD : after]
        if zlib.crc32(frame) != check or (after <= len(data) and zlib.crc32(payload) != checksum):
            raise DamagedError(f"its record at byte {start} is not what was written")
        if after > len(data):
            return
        yield kind, payload, after
        start = after


def _runs(indexes: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield ascending indexes as runs: the first, and how many follow on from it."""
    first = count = 0
    for index in indexes:
        if count and index == first + count:
            count += 1
        else:
            if count:
                yield first, count
            first, count = index, 1
    if count:
        yield first, count
