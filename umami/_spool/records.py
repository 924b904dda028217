"""How a file of the spool is written: records, each framed by its kind, its length and checksums.

A file begins with the name of its events' exporter (`X`). Of what follows, `E` is an event, `S` lists events
that are settled, by their index in the file, and `U` some that are not after all. A record is appended
with one write, so that a killed process leaves at most one that is torn, the last. What is wrong in any
other way is damage; of a damaged file, what can be recognised is read.
"""

import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

MAGIC: Final = b"umami-spool-1\n"
EVENT: Final = b"E"
SETTLED: Final = b"S"
UNSETTLED: Final = b"U"
EXPORTER: Final = b"X"

_ANY_MAGIC: Final = re.compile(rb"umami-spool-\d+\n")
_FRAME: Final = struct.Struct("<cII")
_CHECK: Final = struct.Struct("<I")
_HEAD: Final = _FRAME.size + _CHECK.size
_PAIR: Final = struct.Struct("<II")
_KINDS: Final = re.compile(b"[ESUX]")
_CHUNK: Final = 256 * 1024


class DamagedError(Exception):
    """A file of the spool does not hold what was written to it."""


class ForeignError(Exception):
    """Another version wrote the file, and is to send it."""


def framed(kind: bytes, payload: bytes) -> bytes:
    """Return a record."""
    frame = _FRAME.pack(kind, len(payload), zlib.crc32(payload))
    return frame + _CHECK.pack(zlib.crc32(frame)) + payload


def listed(kind: bytes, indexes: Iterable[int]) -> bytes:
    """Return a record that lists events, by their indexes."""
    return framed(kind, b"".join(_PAIR.pack(*run) for run in _runs(sorted(indexes))))


def ranges(payload: bytes) -> Iterator[range]:
    """Yield the indexes that a record lists.

    Raises:
        DamagedError: It is no such list.
    """
    if len(payload) % _PAIR.size:
        raise DamagedError("a list of settled events is cut short")
    for first, count in _PAIR.iter_unpack(payload):
        yield range(first, first + count)


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


def records(descriptor: int) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield each whole record's kind and payload, and where it ends; stop at one that was cut short.

    Raises:
        DamagedError: A record is wrong in a way that no interrupted write explains.
        ForeignError: Another version wrote the file.
    """
    window = _Window(descriptor)
    magic = window.read(0, len(MAGIC))
    if magic != MAGIC:
        if MAGIC.startswith(magic):
            return  # its owner died while creating it
        if _ANY_MAGIC.match(window.read(0, 2 * len(MAGIC))):
            raise ForeignError
        raise DamagedError("it does not begin as a spool file does")
    start = len(MAGIC)
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


def remains(descriptor: int) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield what can be recognised of a damaged file: each record's kind and payload.

    The payload is None if only the frame is whole. Where no frame is, the kind is empty.
    """
    data = _Window(descriptor).read(0, os.fstat(descriptor).st_size)
    start = len(MAGIC)
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
