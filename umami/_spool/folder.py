"""The folder of a spool, which several processes may share.

Each process writes files of its own, one at a time for each exporter, and takes over those whose owner has
ended. A full or failing disk is reported; events then stay in memory alone.
"""

import itertools
import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from umami._clock import monotonic

from .disk import CAN_LOCK, DISK, Disk
from .records import ForeignError, printable
from .segment import SUFFIX, Segment, TakenError, new_path
from .syncer import Syncer

logger: Final = logging.getLogger("umami")

_LEAST_SEGMENT_BYTES: Final = 1024 * 1024
_MOST_SEGMENTS: Final = 128
"""About how many files a process holds open when the spool is full of its own events."""
_MOST_ADOPTED: Final = 32
_MOST_ADOPTED_BYTES: Final = 16 * 1024 * 1024
_TRIES: Final = 100
_CREATE_AGAIN: Final = 1.0
_READ_AGAIN: Final = 60.0

Place: TypeAlias = tuple[Segment, int]
"""Where an event lies: its file, and its index there."""


@dataclass(frozen=True)
class _Skipped:
    """A file that was not taken over. It need not be read again while it stays as it was."""

    seen: tuple[int, int, int]
    exporter: str | None
    until: float


class Folder:
    """A spool's folder, as one client uses it. Guarded by the queue's lock, but for `take_over`.

    Args:
        path: Where it is. It is made if it is not there, for its owner alone.
        report: Called with the reason and the message of what goes wrong.
        disk: The disk.

    Raises:
        OSError: The folder cannot be made or used.
    """

    def __init__(self, path: Path, report: Callable[[str, str], object], disk: Disk = DISK) -> None:
        self.path = path
        self._disk = disk
        self._report = report
        if not CAN_LOCK:
            raise OSError("this system does not have the file locks that a spool needs")
        self._make()
        self._warn_of_others()
        self._sync_each = False
        self._syncer = Syncer(disk, path, self._files_of_this_process, self._sync_failed)
        self._current: dict[str, Segment] = {}
        self._own: set[Segment] = set()
        self._adopted: set[Segment] = set()
        self._skipped: dict[str, _Skipped] = {}
        self._others_bytes = 0
        self._bytes = 0  # of all files, as far as this process knows
        self._left_some = False
        self._create_again_at = 0.0
        self.configure(1024 * 1024 * 1024, "never", 0.0)

    def configure(self, max_bytes: int, sync: str, sync_interval: float) -> None:
        """Change the settings.

        Args:
            max_bytes: The most bytes of all files.
            sync: When events are put on the disk itself: `never`, `interval`, or `always`.
            sync_interval: The seconds of `interval`.
        """
        self._max_bytes = max_bytes
        self._segment_bytes = max(_LEAST_SEGMENT_BYTES, max_bytes // _MOST_SEGMENTS)
        if (sync == "always") is not self._sync_each:
            self._sync_each = sync == "always"
            for segment in list(self._current.values()):
                self.seal(segment)
        self._syncer.seconds = None if sync == "never" else sync_interval

    def _make(self) -> None:
        path_and_parents = (self.path, *self.path.parents)
        missing = list(itertools.takewhile(lambda path: not self._is_there(path), path_and_parents))
        for path in reversed(missing):
            with suppress(FileExistsError):
                self._disk.mkdir(path, 0o700 if path == self.path else 0o777)
        self._disk.names(self.path)
        if not self._disk.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(f"{self.path} cannot be read and written")

    def _is_there(self, path: Path) -> bool:
        try:
            self._disk.lstat(path)
        except FileNotFoundError:
            return False
        return True

    def _warn_of_others(self) -> None:
        status = self._disk.lstat(self.path)
        mode = stat.S_IMODE(status.st_mode)
        with suppress(Exception):  # of a log handler
            if status.st_uid not in (0, os.geteuid()):
                logger.warning(
                    "The spool %s belongs to another user (uid %d), who can read, delete and add events. Use "
                    "a folder of your own.",
                    printable(self.path),
                    status.st_uid,
                )
            elif mode & 0o077:
                logger.warning(
                    "Other users can open the spool %s (mode %o). Those who can write there can add events. "
                    "Restrict it to its owner: chmod 700.",
                    printable(self.path),
                    mode,
                )

    def write(self, name: str, event: bytes) -> Place | None:
        """Write an event of an exporter's name to disk.

        Returns:
            Where it lies now; None if there is no room for it, or the disk failed.
        """
        if self._bytes + len(event) > self._max_bytes:
            self._sum_up()  # other processes may have sent theirs
            if self._bytes + len(event) > self._max_bytes:
                message = f"The spool {printable(self.path)} is full: raise spool_max_bytes."
                self._report("spool_full", message)
                return None
        segment = self._current.get(name)
        try:
            if segment is None or segment.size > segment.most:
                if monotonic() < self._create_again_at:
                    return None  # that no file can be made was said, and trying costs much
                segment = self._current[name] = self._create(name)
                self._own.add(segment)
                self._sum_up()
            before = segment.size
            index = segment.append(event)
        except OSError as error:
            self._trouble("Events could not be written to", error)
            return None
        except BaseException:
            if segment is not None:
                self.seal(segment)  # it is not known whether the event is in it
            raise
        self._bytes += segment.size - before
        if self._syncer.seconds is not None and self._syncer.sleeps:
            self._syncer.wake()
        return segment, index

    def _files_of_this_process(self) -> set[Segment]:
        return self._own.copy()

    def _sync_failed(self, error: OSError) -> None:
        what = "Events may not survive a power failure: they could not be synced to"
        self._trouble(what, error, "spool_sync")

    def _sum_up(self) -> None:
        """Count the bytes of all files anew."""
        self._bytes = self._others_bytes + sum(own.size for own in self._own)

    def _create(self, name: str) -> Segment:
        try:
            for _ in range(_TRIES):
                try:
                    return Segment.create(
                        new_path(self.path), name, self._segment_bytes, self._disk, sync_each=self._sync_each
                    )
                except (TakenError, FileExistsError):
                    pass
                except FileNotFoundError:
                    self._make()
                    self._report(
                        "spool_made_anew",
                        f"The spool {printable(self.path)} was removed. It is created again.",
                    )
        except OSError:
            self._create_again_at = monotonic() + _CREATE_AGAIN
            raise
        raise OSError("other processes keep taking its new files")

    def seal(self, segment: Segment) -> None:
        """Write no more events to a file."""
        segment.most = -1

    def settle(self, segment: Segment, indexes: Iterable[int]) -> None:
        """Note that events are settled; a file whose events all are is deleted."""
        self._note(segment, lambda: segment.settle(indexes))
        self._end_if_settled(segment)

    def lose(self, segment: Segment, first: int, end: int) -> None:
        """Note that events cannot be read."""
        self._note(segment, lambda: segment.lose(first, end))
        self._end_if_settled(segment)

    def mark(self, segment: Segment, indexes: Iterable[int], *, settled: bool) -> None:
        """Note whether the next process is to count events as settled; see `Segment.mark`."""
        self._note(segment, lambda: segment.mark(indexes, settled=settled))

    def _note(self, segment: Segment, note: Callable[[], None]) -> None:
        before = segment.size
        try:
            note()
        except OSError as error:
            self._trouble("Deliveries could not be recorded in", error)
        self._bytes += segment.size - before
        if self._syncer.sleeps:
            self._syncer.wake()

    def _end_if_settled(self, segment: Segment) -> None:
        if not segment.unsettled:
            self.end(segment)

    def end(self, segment: Segment) -> None:
        """Delete a file whose events are all settled, or keep it under another name if it is damaged."""
        self.seal(segment)
        self._current = {name: other for name, other in self._current.items() if other is not segment}
        self._own.discard(segment)
        self._adopted.discard(segment)
        self._bytes -= segment.size
        self._syncer.has_new_names = True
        if segment.damaged:
            self._set_aside(segment)
        else:
            segment.remove()

    def _set_aside(self, segment: Segment) -> None:
        former = printable(segment.path)
        try:
            kept = segment.set_aside()
        except OSError as error:
            self._trouble(f"{former} is damaged and cannot be renamed in", error)
        else:
            message = f"A damaged file of the spool is kept as {printable(kept)}."
            if segment.is_unknown:
                message += " Nothing in it can be read, so it is not known whether events were lost."
            self._report("spool_damaged", message)
        segment.close()

    # What others left.

    @property
    def has_orphans(self) -> bool:
        """Whether files of others are being sent, or are left for later."""
        return self._left_some or bool(self._adopted)

    @property
    def wants_orphans(self) -> bool:
        """Whether files of others were left for later, and could be taken over now."""
        return self._left_some and not self._has_adopted(_MOST_ADOPTED // 2, _MOST_ADOPTED_BYTES // 2)

    def _has_adopted(self, count: int, size: int) -> bool:
        adopted = self._adopted.copy()  # in one step: `take_over` may look while a sender settles
        return len(adopted) >= count or sum(segment.size for segment in adopted) >= size

    def adopt(self, segment: Segment) -> None:
        """Make a file of `take_over` one of this process's."""
        self._own.add(segment)
        self._adopted.add(segment)
        self._bytes += segment.size
        self._note(segment, segment.repair)
        self._end_if_settled(segment)

    def take_over(self, accepts: Callable[[str], bool]) -> Iterator[Segment]:
        """Yield files whose owner has ended, locked and read, as many as this process may hold open.

        Called without the queue's lock, as it reads files: no send may wait for that.

        Args:
            accepts: Tells whether this process has an exporter of a name.
        """
        self._look_after_own()
        own = {segment.path.name for segment in self._own.copy()}
        others_bytes = 0
        left_some = False
        names = self._files()
        self._skipped = {name: self._skipped[name] for name in names if name in self._skipped}
        for name in names:
            if name in own:
                continue
            if self._has_adopted(_MOST_ADOPTED, _MOST_ADOPTED_BYTES):
                left_some = True
            else:
                segment = self._taken(name, accepts)
                if segment is not None:
                    yield segment
                    continue
            others_bytes += self._size(name)
        self._others_bytes = others_bytes
        self._left_some = left_some

    def _look_after_own(self) -> None:
        """Write to other files if somebody has removed those of this process."""
        # In this order: this process seals its file before it deletes or closes it.
        removed = [own for own in list(self._current.values()) if not own.exists() and own.most >= 0]
        for segment in removed:
            self.seal(segment)
            message = f"{printable(segment.path)} was removed: its events are no longer on disk."
            self._report("spool_removed", message)

    def _files(self) -> list[str]:
        try:
            return sorted(name for name in self._disk.names(self.path) if name.endswith(SUFFIX))
        except OSError:
            return []

    def _size(self, name: str) -> int:
        try:
            status = self._disk.lstat(self.path / name)
        except OSError:
            return 0
        # A sparse file takes less than its length.
        return min(status.st_size, status.st_blocks * 512) if stat.S_ISREG(status.st_mode) else 0

    def _taken(self, name: str, accepts: Callable[[str], bool]) -> Segment | None:
        path = self.path / name
        try:
            status = self._disk.lstat(path)
        except OSError:
            return None
        seen = status.st_ino, status.st_size, status.st_mtime_ns
        former = self._skipped.get(name)
        is_as_it_was = former is not None and former.seen == seen and monotonic() < former.until
        if former and is_as_it_was and (former.exporter is None or not accepts(former.exporter)):
            return None
        segment, until = None, float("inf")
        try:
            segment = Segment.taken(path, self._disk)
            segment.identify()
            if not segment.name or accepts(segment.name):
                segment.scan()
            if not segment.name or accepts(segment.name):
                return segment
            if former is None or former.exporter != segment.name:
                self._say_who_is_missing(path, segment.name)
        except TakenError:
            until = 0.0
        except ForeignError:
            pass
        except OSError as error:
            until = monotonic() + _READ_AGAIN
            if former is None or former.seen != seen:
                self._trouble(f"{printable(path)} cannot be read in", error, "spool_unreadable")
        self._skipped[name] = _Skipped(seen, None if segment is None else segment.name or None, until)
        if segment is not None:
            segment.close()
        return None

    def _say_who_is_missing(self, path: Path, exporter: str) -> None:
        message = (
            f"{printable(path)} has events for {printable(exporter)}, to which this client does not send. "
            "They wait for a client that does. For Umami, its url_base has that URL, user name and password."
        )
        self._report("spool_exporter", message)

    def _trouble(self, what: str, error: OSError, reason: str = "spool") -> None:
        self._report(reason, f"{what} the spool {printable(self.path)}: {printable(error)}.")

    @property
    def left(self) -> int:
        """How many events `close` would leave to another process."""
        return sum(segment.left for segment in self._own)

    def close(self) -> int:
        """Close every file: another process takes over what is not settled.

        Returns:
            How many events that are.
        """
        if self._syncer.seconds is not None:
            self._syncer.sync()
        own, self._own, self._adopted, self._current = self._own, set(), set(), {}
        left = 0
        for segment in own:
            self.seal(segment)
            count = segment.left
            left += count
            if count or segment.damaged:
                segment.close()
            else:
                segment.remove()
        return left

    def after_fork(self) -> None:
        """Close the parent's files in a fork's child, without giving them up."""
        Segment.close_all()
        self._own, self._adopted, self._current = set(), set(), {}
        self._left_some = False
