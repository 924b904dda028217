"""Reads the lines of a log: compressed or not, of any length, and as it grows."""

import bz2
import gzip
import io
import lzma
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

LONGEST: Final = 65_536
"""The most bytes of a line that are read; a longer one is malformed."""

_POLL_SECONDS: Final = 0.5
_NEWLINE: Final = 10
_MAGIC: Final = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst"}


class Line(NamedTuple):
    """A line.

    Attributes:
        data: Its bytes, with the end of line if it has one; None if it is too long.
        end: How many bytes of the log come before its end.
    """

    data: bytes | None
    end: int


@contextmanager
def opened(path: str) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Open a log, decompressed by what its first bytes say; `-` is the standard input.

    Returns:
        Its reader, and that of the file itself, whose position shows how much has been read.

    Raises:
        OSError: It cannot be opened.
        ModuleNotFoundError: It is a zst file, and nothing can read that.
    """
    with ExitStack() as stack:
        disk: Any = sys.stdin.buffer if path == "-" else stack.enter_context(Path(path).open("rb"))
        if not isinstance(disk, io.BufferedReader):
            disk = io.BufferedReader(disk)
        start = disk.peek(8)[:8]
        kind = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)
        if kind is None:
            yield disk, disk
            return
        readers: dict[str, Any] = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open, "zst": _zstd}
        yield io.BufferedReader(stack.enter_context(readers[kind](disk)), 1 << 18), disk


def _zstd(file: Any) -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found]  # from Python 3.14 on
    except ModuleNotFoundError:
        try:
            from backports import zstd  # type: ignore[import-not-found]
        except ModuleNotFoundError:
            message = "Reading .zst needs Python 3.14 or backports.zstd: pip install backports.zstd"
            raise ModuleNotFoundError(message, name="backports.zstd") from None
    return zstd.ZstdFile(file)


def lines(file: IO[bytes]) -> Iterator[Line]:
    """Yield the lines of a log from its beginning.

    Args:
        file: The log.

    Raises:
        EOFError: A compressed file ends too early.
        OSError: It cannot be read, or its compressed data is damaged.
    """
    return _lines(file, 0, partial=True)


def _lines(file: IO[bytes], end: int, *, partial: bool) -> Iterator[Line]:
    """Yield the lines after the first `end` bytes; a last one that has no end yet only if `partial`."""
    readline = file.readline
    while data := readline(LONGEST):
        end += len(data)
        if data[-1] != _NEWLINE and len(data) == LONGEST:
            while data := readline(LONGEST):
                end += len(data)
                if data[-1] == _NEWLINE:
                    break
            yield Line(None, end)
        elif data[-1] != _NEWLINE and not partial:
            file.seek(end - len(data))
            return
        else:
            yield Line(data, end)


def followed(path: str, file: IO[bytes]) -> Iterator[Line | None]:
    """Yield the lines of a plain file as it grows, until it is rotated away. Yield None where it waits.

    Args:
        path: The file's path, where its successor appears.
        file: The open file.
    """
    end = 0
    identity = os.fstat(file.fileno())
    while True:
        # Looked at first: what was written before the rotation is then read to its end.
        rotated = _is_another(path, identity, end)
        for line in _lines(file, end, partial=rotated):
            end = line.end
            yield line
        if rotated:
            return
        yield None
        time.sleep(_POLL_SECONDS)


def _is_another(path: str, identity: os.stat_result, end: int) -> bool:
    try:
        now = Path(path).stat()
    except FileNotFoundError:
        return False  # rotation is under way
    return (now.st_dev, now.st_ino) != (identity.st_dev, identity.st_ino) or now.st_size < end
