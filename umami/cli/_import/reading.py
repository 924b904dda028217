"""Reads the lines of a log: compressed or not, of any length, and as it grows."""

import bz2
import errno
import gzip
import io
import lzma
import os
import stat
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

LONGEST: Final = 65_536
"""The most bytes of a line that are read; a longer one is malformed."""

_POLL_SECONDS: Final = 0.5
_NEWLINE: Final = 10
_MAGIC: Final = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst"}


class DamagedError(Exception):
    """The compressed data of a log is damaged, or ends too early."""


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
        if path == "-" and sys.stdin is None:
            raise OSError(errno.EBADF, "it is closed", "standard input")
        disk: Any = sys.stdin.buffer if path == "-" else stack.enter_context(Path(path).open("rb"))
        if not stat.S_ISREG(os.fstat(disk.fileno()).st_mode):  # on Windows, pipes call themselves seekable
            disk = io.BufferedReader(stack.enter_context(_Pipe(disk)))
        start = disk.peek(8)[:8]
        kind = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)
        if kind is None:
            yield disk, disk
            return
        readers: dict[str, Any] = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open, "zst": _zstd}
        yield io.BufferedReader(_Decompressed(stack.enter_context(readers[kind](disk))), 1 << 18), disk


class _Decompressed(io.RawIOBase):
    """Decompressed data, each read as much as there is at once: so what precedes damage is read first."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can go back."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        return int(self._source.seek(offset, whence))

    def readinto(self, buffer: Any) -> int:
        """Read what there is."""
        data = self._source.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def rewind(file: IO[bytes], disk: IO[bytes]) -> None:
    """Have a log that `opened` yielded begin again. Of a pipe, that is possible once."""
    file.seek(0)
    pipe = getattr(disk, "raw", None)
    if isinstance(pipe, _Pipe):
        pipe.keep_no_more()


class _Pipe(io.RawIOBase):
    """A pipe that can be read from its beginning again, once: what was read until then is in a file."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._kept: IO[bytes] = tempfile.SpooledTemporaryFile(1 << 20)  # noqa: SIM115 - closed by `close`
        self._position = 0
        self._keeps = True

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can go back."""
        return True

    def tell(self) -> int:
        """Return how much has been read."""
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go back to the beginning."""
        if offset or whence or not self._keeps:
            raise io.UnsupportedOperation("a pipe can go back once, to its beginning")
        self._keeps = False
        self._kept.seek(0)
        self._position = 0
        return 0

    def keep_no_more(self) -> None:
        """Copy no more; if it did not go back, since its reader had all in memory, drop the copy."""
        if self._keeps:
            self._keeps = False
            self._kept.truncate(0)

    def readinto(self, buffer: Any) -> int:
        """Read what there is."""
        data = b"" if self._keeps else self._kept.read(len(buffer))
        if not data:
            data = self._source.read1(len(buffer))  # type: ignore[attr-defined]
            if self._keeps:
                self._kept.write(data)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        """Delete what was kept."""
        self._kept.close()
        super().close()


def _zstd(file: Any) -> Any:
    return _zstd_module().ZstdFile(file)


def _zstd_module() -> Any:
    for name in ("compression.zstd", "backports.zstd"):  # the former from Python 3.14 on
        with suppress(ModuleNotFoundError):
            return import_module(name)
    message = "Reading .zst needs Python 3.14 or backports.zstd: pip install 'umami-analytics[cli]'"
    raise ModuleNotFoundError(message, name="backports.zstd")


def lines(file: IO[bytes]) -> Iterator[Line]:
    """Yield the lines of a log from its beginning.

    Args:
        file: The log.

    Raises:
        DamagedError: Its compressed data is damaged, or ends too early.
        OSError: It cannot be read.
    """
    try:
        yield from _lines(file, 0, partial=True)
    except OSError as error:
        if error.errno is not None:  # the system's; those of gzip and bz2 have none
            raise
        raise DamagedError(str(error)) from error
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise DamagedError(str(error)) from error
    except Exception as error:
        if type(error).__name__ != "ZstdError":  # of a module that may not be there
            raise
        raise DamagedError(str(error)) from error


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
    return not os.path.samestat(now, identity) or now.st_size < end
