"""Syncs a spool's files to disk at intervals, in a thread of its own.

It opens the files again for that, so it delays neither sends nor the queue's work with its files. The thread
ends when nothing is written for a while. The next write starts it again.
"""

import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from umami import _threads

from .disk import Disk
from .segment import Segment

_QUIET_ROUNDS: Final = 10


class Syncer:
    """Syncs the files of a process.

    Args:
        disk: The disk.
        folder: The spool's folder.
        files: Returns the files of this process: a bound method, whose object may go meanwhile.
        fail: Called with the error of a sync that failed.

    Attributes:
        seconds: How often; None for never.
        sleeps: Whether a write must call `wake`.
        has_new_names: Whether files were deleted or renamed since the folder was synced.
    """

    def __init__(
        self,
        disk: Disk,
        folder: Path,
        files: Callable[[], Iterable[Segment]],
        fail: Callable[[OSError], object],
    ) -> None:
        self.seconds: float | None = None
        self._disk = disk
        self._folder = folder
        self._files = weakref.WeakMethod(files)
        self._fail = weakref.WeakMethod(fail)
        self.reset()

    def reset(self) -> None:
        """Start clean, as a fork's child does."""
        self._lock = _threads.RLock()
        self.sleeps = True
        self.has_new_names = False

    def wake(self) -> None:
        """Sync soon what was written, if files are to be synced at all."""
        if self.seconds is None:
            return
        with self._lock:
            if not self.sleeps:
                return
            self.sleeps = False
        thread = _threads.Thread("umami-spool-sync")
        try:
            thread.start(self._run)
        except BaseException as error:
            if thread.call_off():
                self.sleeps = True
                if isinstance(error, RuntimeError):  # too many threads, or the interpreter is shutting down
                    return  # the next write tries again, and the end of the process syncs what is left
            raise

    def _run(self) -> None:
        try:
            quiet = 0
            while quiet < _QUIET_ROUNDS and self.seconds is not None:
                _threads.waiter().acquire(True, self.seconds)
                quiet = 0 if self.sync() else quiet + 1
        finally:
            self.sleeps = True
            if self.seconds is not None and self._written():
                self.wake()  # for what was written in this very moment

    def sync(self) -> bool:
        """Sync what was written; tell whether anything was."""
        written = self._written()
        names = self.has_new_names or any(segment.synced < 0 for segment, _ in written)
        self.has_new_names = False
        for segment, size in written:
            self._sync(segment.path)
            segment.synced = size  # what failed is not tried again: the disk may have dropped it
        if names:
            self._sync(self._folder)
        return bool(written)

    def _sync(self, path: Path) -> None:
        try:
            self._disk.sync_path(path)
        except OSError as error:
            fail = self._fail()
            if fail is not None:
                fail(error)

    def _written(self) -> list[tuple[Segment, int]]:
        files = self._files()
        return [] if files is None else [(file, file.size) for file in files() if file.size != file.synced]
