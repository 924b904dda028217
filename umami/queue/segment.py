"""One file of the spool: events as they were queued, and which of them are settled.

A file begins with the destination of its events and goes on with records, each framed by its kind, its
length and checksums: `E` is an event, `S` lists events that are settled, by their index in the file, and
`U` some that are not after all.
The process that owns a file holds an exclusive lock on it for as long as it lives; a file that can be
locked has lost its owner. Records are appended with one write each, so that a killed process leaves at
most one torn record, the last.
"""

import contextlib
import os
import re
import struct
import weakref
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Final

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
_ANY_MAGIC: Final = re.compile(rb"umami-spool-\d+\n")
_FRAME: Final = struct.Struct("<cII")
_CHECK: Final = struct.Struct("<I")
_HEAD: Final = _FRAME.size + _CHECK.size
_PAIR: Final = struct.Struct("<II")
_EVENT: Final = b"E"
_SETTLED: Final = b"S"
_UNSETTLED: Final = b"U"
_DESTINATION: Final = b"D"
_KINDS: Final = re.compile(b"[ESUD]")
_CHUNK: Final = 256 * 1024
_OURS: Final = os.O_RDWR | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)


class DamagedError(Exception):
    """A file of the spool does not hold what was written to it."""


class TakenError(Exception):
    """Another process owns the file, or has just finished with it."""


class ForeignError(Exception):
    """Another version wrote the file, and is to send it."""


class Segment:
    """A locked, open file of the spool. Not thread-safe: its spool sees to that.

    Attributes:
        path: Where it is.
        destination: Where its events go; without headers when it was read from a file.
        private: Whether they need a credential of the destination's.
        size: Its length in bytes.
        count: How many events it holds.
        torn: Whether its last record was cut short, and dropped.
        lost: How many events of a damaged file could not be saved into this one.
    """

    _open: ClassVar["weakref.WeakSet[Segment]"] = weakref.WeakSet()

    def __init__(self, path: Path, descriptor: int, destination: Destination) -> None:
        self._descriptor = descriptor
        self._open.add(self)
        self.path = path
        self.destination = destination
        self.private = destination.is_private
        self.size = 0
        self.count = 0
        self.torn = False
        self.lost = 0
        self._settled: set[int] = set()
        self._unnoted: set[int] = set()
        self._marked: set[int] = set()

    def __del__(self) -> None:
        """Let go of a file that nobody thinks of any more."""
        self.close()

    @classmethod
    def close_all(cls) -> None:
        """Close every file without giving it up, as a fork's child does with its parent's."""
        for segment in tuple(cls._open):
            segment.close()

    @property
    def unsettled(self) -> int:
        """How many of its events are not settled."""
        return self.count - len(self._settled)

    @property
    def left(self) -> int:
        """How many of its events the next owner would send."""
        return self.count - len(self._settled | self._marked)

    @classmethod
    def create(cls, path: Path, destination: Destination) -> "Segment":
        """Create a file that this process owns.

        Raises:
            TakenError: A neighbour took the file before it could be locked.
            OSError: It cannot be created or written.
        """
        segment = cls(path, os.open(path, _OURS | os.O_CREAT | os.O_EXCL, 0o600), destination)
        try:
            segment._lock()
            about = {
                "send_url": destination.send_url,
                "batch_url": destination.batch_url,
                "private": destination.is_private,
            }
            segment._append(_MAGIC + _framed(_DESTINATION, to_json(about)))
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
            segment = cls(path, os.open(path, _OURS), Destination("", None))
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
        self._scan()
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
        self._scan()

    def _scan(self) -> None:
        for kind, payload, after in _records(self._descriptor):
            self._note(kind, payload)
            self.size = after
        if not self.destination.send_url and self.count:
            raise DamagedError("it names no destination")

    def _note(self, kind: bytes, payload: bytes) -> None:
        if kind == _DESTINATION:
            self._note_destination(payload)
        elif kind == _EVENT:
            self.count += 1
        elif kind in (_SETTLED, _UNSETTLED):
            change = self._settled.update if kind == _SETTLED else self._settled.difference_update
            for first, count in _PAIR.iter_unpack(payload):
                change(range(first, first + count))

    def _note_destination(self, payload: bytes) -> None:
        try:
            about = from_json(payload)
            self.destination = Destination(str(about["send_url"]), about["batch_url"])
            self.private = bool(about.get("private"))
        except (ValueError, TypeError, LookupError, AttributeError):
            raise DamagedError("it names no destination") from None

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
        for kind, payload in _remains(_contents(self._descriptor)):
            exact = exact and kind != b""
            if kind == _EVENT and payload is not None and exact:
                good[self.count] = payload
            if payload is not None and kind != _EVENT:
                with contextlib.suppress(DamagedError):
                    self._note(kind, payload)
            self.count += kind in (_EVENT, b"")
        saved = [event for index, event in good.items() if index not in self._settled]
        if not self.destination.send_url:
            saved = []
        settled = sum(index < self.count for index in self._settled)
        self.lost = self.count - settled - len(saved)
        return saved

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
            OSError: It could not be written, and is with the next ones. The events count as settled for
                this process all the same.
        """
        self._settled.update(indexes)
        self._unnoted.update(indexes)
        self._append(_listed(_SETTLED, self._unnoted))
        self._unnoted.clear()

    def mark(self, indexes: Iterable[int], *, settled: bool) -> None:
        """Write down what another process is to think of events that for this one are not settled.

        Raises:
            OSError: It could not be written.
        """
        self._append(_listed(_SETTLED if settled else _UNSETTLED, indexes))
        (self._marked.update if settled else self._marked.difference_update)(indexes)

    def events(self) -> Iterator[tuple[int, bytes]]:
        """Read the events that are not settled, each with its index.

        Raises:
            DamagedError: The file changed under its owner.
            OSError: It cannot be read.
        """
        index = 0
        for kind, payload, _ in _records(self._descriptor):
            if kind == _EVENT:
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
        """Rename the file, which is damaged, so that nobody trips over it again; return its new name."""
        return self.path.rename(self.path.with_suffix(DAMAGED_SUFFIX))


def _framed(kind: bytes, payload: bytes) -> bytes:
    frame = _FRAME.pack(kind, len(payload), zlib.crc32(payload))
    return frame + _CHECK.pack(zlib.crc32(frame)) + payload


def _listed(kind: bytes, indexes: Iterable[int]) -> bytes:
    return _framed(kind, b"".join(_PAIR.pack(*run) for run in _runs(sorted(indexes))))


def _contents(descriptor: int) -> bytes:
    window = _Window(descriptor)
    return window.read(0, os.fstat(descriptor).st_size)


class _Window:
    """Reads a file piece by piece, a large one too."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._start = 0
        self._data = b""

    def read(self, start: int, length: int) -> bytes:
        """Return so many bytes from `start` on, fewer at the end of the file."""
        offset = start - self._start
        data = self._data[offset : offset + length]
        if len(data) < length:
            self._start, self._data = start, b""
            while len(self._data) < length:
                chunk = os.pread(
                    self._descriptor, max(_CHUNK, length - len(self._data)), start + len(self._data)
                )
                if not chunk:
                    break
                self._data += chunk
            data = self._data[:length]
        return data


def _records(descriptor: int) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield each whole record's kind and payload, and where it ends; stop at one that was cut short.

    Raises:
        DamagedError: A record is wrong in a way that no interrupted write explains.
        ForeignError: Another version wrote the file.
    """
    window = _Window(descriptor)
    magic = window.read(0, len(_MAGIC))
    if magic != _MAGIC:
        if _MAGIC.startswith(magic):
            return  # its owner died while creating it
        if _ANY_MAGIC.match(window.read(0, 2 * len(_MAGIC))):
            raise ForeignError
        raise DamagedError("it does not begin as a spool file does")
    start = len(_MAGIC)
    while len(head := window.read(start, _HEAD)) == _HEAD:
        kind, length, checksum = _FRAME.unpack_from(head)
        if not _is_frame(head):
            raise DamagedError(f"its record at byte {start} is not what was written")
        payload = window.read(start + _HEAD, length)
        if len(payload) < length:
            return
        if zlib.crc32(payload) != checksum:
            raise DamagedError(f"its record at byte {start} is not what was written")
        start += _HEAD + length
        yield kind, payload, start


def _is_frame(head: bytes) -> bool:
    return (zlib.crc32(head[: _FRAME.size]),) == _CHECK.unpack_from(head, _FRAME.size)


def _remains(data: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield what can be recognised of a damaged file: each record's kind and payload.

    The payload is None if only the frame is whole. Where no frame is, the kind is empty.
    """
    start = len(_MAGIC)
    while len(head := data[start : start + _HEAD]) == _HEAD:
        if not _is_frame(head):
            yield b"", None
            later = (match.start() for match in _KINDS.finditer(data, start + 1))
            found = (at for at in later if len(data) - at >= _HEAD and _is_frame(data[at : at + _HEAD]))
            start = next(found, len(data))
            continue
        kind, length, checksum = _FRAME.unpack_from(head)
        start += _HEAD + length
        payload = data[start - length : start]
        yield kind, payload if zlib.crc32(payload) == checksum else None


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
