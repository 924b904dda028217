"""All system calls of a spool. Tests replace them with a disk in memory."""

import os
import stat
import sys
from typing import Final

try:
    import fcntl
except ImportError:
    CAN_LOCK = False
else:
    CAN_LOCK = True

# A stranger may have put anything into the folder. To open it must not wait (as for a FIFO, or a file with a
# lease on it), nor follow a symbolic link.
OPEN: Final = (
    os.O_RDWR
    | os.O_APPEND
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class Disk:
    """The disk of this machine. Each method may raise OSError."""

    open = staticmethod(os.open)
    close = staticmethod(os.close)
    write = staticmethod(os.write)
    truncate = staticmethod(os.ftruncate)
    access = staticmethod(os.access)
    fstat = staticmethod(os.fstat)
    lstat = staticmethod(os.lstat)
    unlink = staticmethod(os.unlink)
    rename = staticmethod(os.rename)
    mkdir = staticmethod(os.mkdir)
    names = staticmethod(os.listdir)
    sync = staticmethod(getattr(os, "fdatasync", os.fsync))
    if sys.platform != "win32":
        pread = staticmethod(os.pread)

    @staticmethod
    def lock(descriptor: int) -> None:
        """Lock a file for this process alone.

        Raises:
            BlockingIOError: Another has locked it.
        """
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @staticmethod
    def unlock(descriptor: int) -> None:
        """Release the lock of a file."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)

    @staticmethod
    def next_data(descriptor: int, start: int) -> int | None:
        """Return where a sparse file has bytes, from `start` on; None if it has none."""
        if not hasattr(os, "SEEK_DATA"):
            return start
        try:
            return os.lseek(descriptor, start, os.SEEK_DATA)
        except OSError:
            return None

    def sync_path(self, path: str | os.PathLike[str]) -> None:
        """Have a file's content on the disk itself, or a folder's list of files; one that is gone is none."""
        try:
            descriptor = self.open(path, os.O_RDONLY | (OPEN & ~(os.O_RDWR | os.O_APPEND)))
        except FileNotFoundError:
            return
        try:
            (os.fsync if stat.S_ISDIR(self.fstat(descriptor).st_mode) else self.sync)(descriptor)
        finally:
            self.close(descriptor)


DISK: Final = Disk()
