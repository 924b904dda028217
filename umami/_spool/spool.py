"""The queue's store on disk: a folder, and the events of each exporter in it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from umami.queue.store import Loss

from .disk import DISK, Disk
from .folder import Folder
from .partition import SpoolPartition
from .segment import Segment


@dataclass
class SpoolOrphan:
    """A file of the spool whose owner has ended; see `umami.queue.store.Orphan`."""

    name: str
    events: int
    losses: list[Loss]
    _segment: Segment
    _spool: "Spool"

    def adopt(self) -> None:
        """Make its events this process's own."""
        self._spool.adopt(self._segment)


class Spool:
    """Keeps events on disk; see `umami.queue.store.Store`.

    Args:
        path: The folder. It is made if it is not there, for its owner alone.
        report: Called with the reason and the message of what goes wrong.
        disk: The disk.

    Raises:
        OSError: The folder cannot be made or used.
    """

    def __init__(self, path: Path, report: Callable[[str, str], object], disk: Disk = DISK) -> None:
        self._folder = Folder(path, report, disk)
        self._partitions: dict[str, SpoolPartition] = {}

    @property
    def path(self) -> Path:
        """The folder."""
        return self._folder.path

    def configure(self, max_bytes: int, sync: str, sync_interval: float) -> None:
        """Change the settings.

        Args:
            max_bytes: The most bytes of all files.
            sync: When events are put on the disk itself: `never`, `interval`, or `always`.
            sync_interval: The seconds of `interval`.
        """
        self._folder.configure(max_bytes, sync, sync_interval)

    def partition(self, name: str) -> SpoolPartition:
        """Return the partition of an exporter's name."""
        if name not in self._partitions:
            self._partitions[name] = SpoolPartition(self._folder, name)
        return self._partitions[name]

    def orphans(self, accepts: Callable[[str], bool]) -> Iterator[SpoolOrphan]:
        """Find files whose owner has ended."""
        for segment in self._folder.take_over(accepts):
            yield SpoolOrphan(segment.name, segment.unsettled, segment.losses, segment, self)

    def adopt(self, segment: Segment) -> None:
        """Make a file's events this process's own."""
        self._folder.adopt(segment)
        if segment.unsettled:
            self.partition(segment.name).adopt(segment)

    @property
    def has_orphans(self) -> bool:
        """Whether files of others are being sent, or are left for later."""
        return self._folder.has_orphans

    @property
    def wants_orphans(self) -> bool:
        """Whether files of others were left for later, and could be taken over now."""
        return self._folder.wants_orphans

    @property
    def left(self) -> int:
        """How many events `close` would leave to another process."""
        return self._folder.left

    def close(self) -> int:
        """Leave what is not settled to another process, and return how many events that are."""
        self._partitions.clear()
        return self._folder.close()

    def after_fork(self) -> None:
        """Let go of the parent's files in a fork's child."""
        self._partitions.clear()
        self._folder.after_fork()
