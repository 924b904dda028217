"""How a file of the spool is written: records, each of which can be recognised and checked by itself.

A record begins with the byte FF, which no JSON holds, and its kind, and says how many events come before it.
So a damaged file costs what is damaged: the next whole record is found by its first byte and its checksum,
and says how many events are missing.

`X` names the exporter of the events; it is repeated now and then. `E` is an event; its index is the number
of events before it. `S` lists events that are settled, by their indexes, `U` some that are not after all, and
`L` some that could not be read and were counted as lost. A record is appended with one write, so that a
killed process leaves at most one that is cut short, the last.
"""

import errno
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from .disk import Disk

MAGIC: Final = b"umami-spool-2\n"
EVENT: Final = b"E"
SETTLED: Final = b"S"
UNSETTLED: Final = b"U"
LOST: Final = b"L"
EXPORTER: Final = b"X"

_MARK: Final = b"\xff"
_ANY_MAGIC: Final = re.compile(rb"umami-spool-\d+\n")
_FRAME: Final = struct.Struct("<ccII")
_CHECK: Final = struct.Struct("<I")
HEAD: Final = _FRAME.size + _CHECK.size
_PAIR: Final = struct.Struct("<II")
_CHUNK: Final = 256 * 1024
_MOST_BYTES: Final = 16 * 1024 * 1024
"""No record has more: what claims to is none, and needs no memory."""
_MOST_WASTED: Final = 64 * 1024 * 1024
"""After so many bytes of what looked like records and was none, the rest of a file is given up."""
_BLOCK: Final = 4096
_MOST_UNREADABLE: Final = 16

_frame = _FRAME.pack
_check = _CHECK.pack
_crc = zlib.crc32


class ForeignError(Exception):
    """The file is none of umami's."""


class VersionError(ForeignError):
    """Another version of umami wrote the file, and is to send it."""


def framed(kind: bytes, index: int, payload: bytes) -> bytes:
    """Return a record that comes after `index` events."""
    frame = _frame(_MARK, kind, index, len(payload))
    return frame + _check(_crc(payload, _crc(frame))) + payload


def listed(kind: bytes, index: int, runs: Iterable[range]) -> bytes:
    """Return a record that lists events, by runs of their indexes."""
    return framed(kind, index, b"".join(_PAIR.pack(run.start, len(run)) for run in runs))


def ranges(payload: bytes) -> list[range]:
    """Return the runs of indexes that a record lists; none if it is no such list."""
    if len(payload) % _PAIR.size:
        return []
    return [range(first, first + count) for first, count in _PAIR.iter_unpack(payload)]


class Record(NamedTuple):
    """A whole record: its kind, how many events come before it, its content, and where it lies."""

    kind: bytes
    before: int
    payload: bytes
    start: int
    end: int


class Window:
    """Reads a file piece by piece, a large one too. A block that the disk cannot read is read as zeros.

    Args:
        disk: The disk.
        descriptor: The file.
    """

    def __init__(self, disk: Disk, descriptor: int) -> None:
        self._disk = disk
        self._descriptor = descriptor
        self._start = 0
        self._data = b""
        self._unreadable = 0

    def read(self, start: int, length: int) -> bytes:
        """Return so many bytes from `start` on, fewer at the end of the file."""
        offset = start - self._start
        data = self._data[offset : offset + length] if offset >= 0 else b""
        if len(data) < length:
            pieces = [self._data[offset:] if 0 <= offset < len(self._data) else b""]
            had = len(pieces[0])
            while had < length:
                piece = self._piece(start + had, max(_CHUNK, length - had))
                if not piece:
                    break
                pieces.append(piece)
                had += len(piece)
            self._start, self._data = start, b"".join(pieces)
            data = self._data[:length]
        return data

    def _piece(self, start: int, length: int) -> bytes:
        try:
            return self._disk.pread(self._descriptor, length, start)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        data = b""
        while len(data) < length:
            at = start + len(data)
            size = _BLOCK - at % _BLOCK
            try:
                block = self._disk.pread(self._descriptor, size, at)
            except OSError:
                self._unreadable += 1
                if self._unreadable > _MOST_UNREADABLE:
                    raise
                block = bytes(size)
            data += block
            if len(block) < size:
                break
        return data

    def find(self, start: int) -> int | None:
        """Return where the next byte is, from `start` on, that begins a record; None if there is none."""
        while data := self.read(start, _CHUNK):
            found = data.find(_MARK)
            if found >= 0:
                return start + found
            after = self._disk.next_data(self._descriptor, start + len(data))
            if after is None:
                return None
            start = max(after, start + len(data))
        return None

    def is_zero(self, start: int) -> bool:
        """Tell whether there are nothing but zeros from `start` on."""
        while data := self.read(start, _CHUNK):
            if data.strip(b"\0"):
                return False
            after = self._disk.next_data(self._descriptor, start + len(data))
            if after is None:
                return True
            start = max(after, start + len(data))
        return True


def check_magic(window: Window, *, is_named_so: bool) -> None:
    """Look whether a file is umami's, of this version.

    Args:
        window: The file.
        is_named_so: Whether its name is one that a spool gives.

    Raises:
        ForeignError: It is not.
    """
    begin = window.read(0, 2 * len(MAGIC))
    if begin.startswith(MAGIC):
        return
    if _ANY_MAGIC.match(begin):
        raise VersionError
    # Its owner died while creating it, or its first block did not reach the disk before a power failure.
    if not is_named_so or not MAGIC.startswith(begin[: len(MAGIC)].rstrip(b"\0")):
        raise ForeignError


def records(window: Window) -> Iterator[Record]:
    """Yield the whole records of a file; what lies between is damaged.

    Raises:
        OSError: It cannot be read.
    """
    at: int | None = len(MAGIC) if window.read(0, len(MAGIC)) == MAGIC else 0
    wasted = 0
    while at is not None and wasted <= _MOST_WASTED:
        head = window.read(at, HEAD)
        if len(head) < HEAD:
            return
        mark, kind, index, length = _FRAME.unpack_from(head)
        if mark == _MARK and length <= _MOST_BYTES:
            payload = window.read(at + HEAD, length)
            if len(payload) == length:
                if (_crc(payload, _crc(head[: _FRAME.size])),) == _CHECK.unpack_from(head, _FRAME.size):
                    end = at + HEAD + length
                    yield Record(kind, index, payload, at, end)
                    at = end
                    continue
                wasted += length
        at = window.find(at + 1)


class Tail(NamedTuple):
    """The end of a file, after its last whole record.

    Attributes:
        size: How many bytes.
        torn: Whether a write was broken off there, by a kill or a power failure: it was not damaged later.
        lost: How many events were in it, as far as that can be told.
        estimated: Whether that is estimated from its size.
    """

    size: int
    torn: bool
    lost: int
    estimated: bool = False


def tail_of(window: Window, start: int, size: int, event_size: int) -> Tail:
    """Look at the end of a file.

    Args:
        window: The file.
        start: Where its last whole record ends.
        size: The file's length.
        event_size: How long its events' records are.
    """
    left = size - start
    if left <= 0:
        return Tail(0, False, 0)
    head = window.read(start, HEAD)
    lost = first = 0
    if head[:1] == _MARK:
        lost = int(head[1:2] not in (SETTLED, UNSETTLED, LOST, EXPORTER))
        first = HEAD + (_FRAME.unpack_from(head)[3] if len(head) == HEAD else 0)
        if len(head) < HEAD or left < first <= HEAD + _MOST_BYTES:
            return Tail(left, True, lost)
        first = min(first, left)
    # After a power failure a file may be as long as it was, and end in zeros.
    estimate = (min(left - first, _MOST_BYTES) + event_size // 2) // event_size
    zeros = start + len(window.read(start, first).rstrip(b"\0"))
    return Tail(left, zeros < size and window.is_zero(zeros), lost + estimate, estimate > 0)


def printable(text: object) -> str:
    """Return a text for a log or a terminal: what would control that is escaped."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(text))
