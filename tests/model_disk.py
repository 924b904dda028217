"""A disk in memory. It stops at any system call, and loses what was not synced, in any order."""

import errno
import os
import random
import stat
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

BLOCK = 16
"""Small, so that holes are, too."""


class DiedError(BaseException):
    """The process was killed, or the power failed."""


@dataclass(eq=False)
class Inode:
    """A file: what processes see of it, what is on the disk itself, and what was done since."""

    number: int
    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    done: list[tuple[int, bytes | None]] = field(default_factory=list)
    locked_by: int | None = None


class ModelDisk:
    """Has the methods of `umami._spool.disk.Disk`.

    Args:
        folder: The only folder.

    Attributes:
        left: How many system calls the process makes before it dies.
        fails: How likely a call fails with an error.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.left: float = float("inf")
        self.calls = 0
        self.fails = 0.0
        self.luck = random.Random(0)
        self.names_now: dict[str, Inode] = {}
        self.names_synced: dict[str, Inode] = {}
        self.names_done: list[tuple[str, Inode | None]] = []
        self._open: dict[int, Inode] = {}
        self._numbers = 0

    # How it ends.

    def _step(self, *, may_fail: bool = True) -> None:
        self.calls += 1
        if self.left <= 0:
            raise DiedError
        self.left -= 1
        if may_fail and self.fails and self.luck.random() < self.fails:
            raise OSError(self.luck.choice([errno.EIO, errno.ENOSPC, errno.ENOLCK]), "a fault of the test's")

    def kill(self) -> None:
        """End the process: what it wrote stays."""
        self._open.clear()
        self.left = float("inf")
        for inode in self.names_now.values():
            inode.locked_by = None

    def cut_power(self) -> None:
        """End the system: of what was not synced, anything may be on the disk."""
        names = dict(self.names_synced)
        for name, inode in self.names_done:
            if self.luck.random() < 0.5:
                if inode is None:
                    names.pop(name, None)
                else:
                    names[name] = inode
        for inode in {*names.values()}:
            self._lose(inode)
        self.names_now, self.names_synced, self.names_done = names, dict(names), []
        self.kill()

    def _lose(self, inode: Inode) -> None:
        """Put together a file of blocks of any time since the last sync, with the length of any time."""
        data = bytearray(inode.synced)
        versions = [bytes(data)]
        for start, piece in inode.done:
            if piece is None:
                del data[start:]
            else:
                data += piece
            versions.append(bytes(data))
        late = self.luck.choice([0.0, 0.5, 0.9, 1.0])

        def version() -> bytes:
            return versions[-1] if self.luck.random() < late else self.luck.choice(versions)

        length = len(version())
        blocks = (version()[at : at + BLOCK].ljust(BLOCK, b"\0") for at in range(0, length, BLOCK))
        inode.data = bytearray(b"".join(blocks)[:length])
        inode.synced, inode.done = bytes(inode.data), []

    # The system calls.

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        self._step()
        name = Path(path).name
        if Path(path) == self.folder:
            inode = Inode(0)
        elif flags & os.O_CREAT:
            if name in self.names_now:
                raise FileExistsError(errno.EEXIST, name)
            self._numbers += 1
            inode = self.names_now[name] = Inode(self._numbers)
            self.names_done.append((name, inode))
        elif name not in self.names_now:
            raise FileNotFoundError(errno.ENOENT, name)
        else:
            inode = self.names_now[name]
        descriptor = 1000 + self.calls
        self._open[descriptor] = inode
        return descriptor

    def _inode(self, descriptor: int) -> Inode:
        if descriptor not in self._open:
            raise OSError(errno.EBADF, "closed")
        return self._open[descriptor]

    def close(self, descriptor: int) -> None:
        inode = self._open.pop(descriptor, None)
        if inode is not None and inode.locked_by == descriptor:
            inode.locked_by = None

    def write(self, descriptor: int, data: bytes) -> int:
        inode = self._inode(descriptor)
        try:
            self._step()
        except DiedError:
            if self.left == 0 and self.luck.random() < 0.5:
                self._put(inode, data[: self.luck.randrange(len(data))])  # a part of it came through
            self.left = -1
            raise
        written = len(data) if self.luck.random() < 0.9 else self.luck.randrange(1, len(data) + 1)
        self._put(inode, data[:written])
        return written

    @staticmethod
    def _put(inode: Inode, data: bytes) -> None:
        inode.done.append((len(inode.data), bytes(data)))
        inode.data += data

    def pread(self, descriptor: int, length: int, start: int) -> bytes:
        inode = self._inode(descriptor)
        self._step(may_fail=False)
        return bytes(inode.data[start : start + length])

    def truncate(self, descriptor: int, size: int) -> None:
        inode = self._inode(descriptor)
        self._step()
        inode.done.append((size, None))
        del inode.data[size:]

    def _status(self, inode: Inode) -> Any:
        kind = stat.S_IFDIR if inode.number == 0 else stat.S_IFREG
        return SimpleNamespace(
            st_mode=kind | 0o700,
            st_ino=inode.number,
            st_dev=1,
            st_size=len(inode.data),
            st_mtime_ns=self.calls,
            st_blocks=len(inode.data) // 512 + 1,
            st_uid=os.geteuid(),
        )

    def fstat(self, descriptor: int) -> Any:
        return self._status(self._inode(descriptor))

    def lstat(self, path: Any) -> Any:
        if Path(path) == self.folder:
            return self._status(Inode(0))
        if Path(path).name not in self.names_now:
            raise FileNotFoundError(errno.ENOENT, str(path))
        return self._status(self.names_now[Path(path).name])

    def access(self, path: Any, mode: int) -> bool:
        return True

    def mkdir(self, path: Any, mode: int = 0o777) -> None:
        raise FileExistsError(errno.EEXIST, str(path))

    def names(self, path: Any) -> list[str]:
        self._step(may_fail=False)
        return list(self.names_now)

    def unlink(self, path: Any) -> None:
        self._step()
        del self.names_now[Path(path).name]
        self.names_done.append((Path(path).name, None))

    def rename(self, path: Any, new: Any) -> None:
        self._step()
        inode = self.names_now[Path(new).name] = self.names_now.pop(Path(path).name)
        self.names_done += [(Path(new).name, inode), (Path(path).name, None)]

    def lock(self, descriptor: int) -> None:
        self._step()
        inode = self._inode(descriptor)
        if inode.locked_by not in (None, descriptor):
            raise BlockingIOError(errno.EWOULDBLOCK, "locked")
        inode.locked_by = descriptor

    def unlock(self, descriptor: int) -> None:
        self._inode(descriptor).locked_by = None

    def next_data(self, descriptor: int, start: int) -> int | None:
        return start if start < len(self._inode(descriptor).data) else None

    def sync(self, descriptor: int) -> None:
        self._step()
        inode = self._inode(descriptor)
        inode.synced, inode.done = bytes(inode.data), []

    def sync_path(self, path: Any) -> None:
        self._step()
        if Path(path) == self.folder:
            self.names_synced, self.names_done = dict(self.names_now), []
        elif Path(path).name in self.names_now:
            inode = self.names_now[Path(path).name]
            inode.synced, inode.done = bytes(inode.data), []
