"""The folder of a spool, which several processes may share.

Each process writes files of its own, one at a time for each exporter, and takes over those whose owner has
ended. A full or failing disk is reported; events then stay in memory alone.
"""

import itertools
import logging
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

from .records import DamagedError, ForeignError
from .segment import CAN_LOCK, SUFFIX, Segment, TakenError

logger: Final = logging.getLogger("umami")

_LEAST_SEGMENT_BYTES: Final = 1024 * 1024
_MOST_SEGMENTS: Final = 128
"""About how many files a process holds open when the spool is full of its own events."""
_MOST_ADOPTED: Final = 32
_MOST_ADOPTED_BYTES: Final = 16 * 1024 * 1024
_TRIES: Final = 100

Place: TypeAlias = tuple[Segment, int]
"""Where an event lies: its file, and its index there."""


class Folder:
    """A spool's folder, as one client uses it. Guarded by the queue's lock, but for `take_over`.

    Args:
        path: Where it is. It is made if it is not there, for its owner alone.
        max_bytes: The most bytes of all files in it.
        report: Called with the reason and the message of what goes wrong.

    Raises:
        OSError: The folder cannot be made or used.
    """

    def __init__(self, path: Path, max_bytes: int, report: Callable[[str, str], object]) -> None:
        self.path = path
        self.resize(max_bytes)
        self._report = report
        if not CAN_LOCK:
            raise OSError("this system has no file locks of the kind that a spool needs")
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(f"{self.path} cannot be read and written")
        self._warn_of_others()
        self._names = itertools.count()
        self._current: dict[str, Segment] = {}
        self._own: set[Segment] = set()
        self._adopted: set[Segment] = set()
        self._others_bytes = 0
        self._bytes = 0  # of all files, as far as this process knows
        self._left_some = False

    def resize(self, max_bytes: int) -> None:
        """Change the most bytes of all files."""
        self._max_bytes = max_bytes
        self._segment_bytes = max(_LEAST_SEGMENT_BYTES, max_bytes // _MOST_SEGMENTS)

    def _warn_of_others(self) -> None:
        mode = stat.S_IMODE(self.path.stat().st_mode)
        if mode & 0o077:
            with suppress(Exception):  # of a log handler
                logger.warning(
                    "Other users can open the spool %s (mode %o), and whoever can write there can have "
                    "events sent. Restrict it to its owner: chmod 700.",
                    self.path,
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
            message = f"The spool {self.path} is full: raise spool_max_bytes."
            self._report("spool_full", message)
            return None
        segment = self._current.get(name)
        try:
            if segment is None or segment.size > self._segment_bytes:
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
        return segment, index

    def _sum_up(self) -> None:
        """Count the bytes of all files anew."""
        self._bytes = self._others_bytes + sum(own.size for own in self._own)

    def _create(self, name: str) -> Segment:
        for _ in range(_TRIES):
            with suppress(TakenError, FileExistsError):
                return Segment.create(self._new_path(), name)
        raise OSError("others keep taking its new files")

    def _new_path(self) -> Path:
        return self.path / f"{os.getpid()}-{time.time_ns():x}-{next(self._names)}{SUFFIX}"

    def seal(self, segment: Segment) -> None:
        """Write nothing more to a file."""
        self._current = {key: other for key, other in self._current.items() if other is not segment}

    def settle(self, segment: Segment, indexes: Iterable[int]) -> None:
        """Note that events are settled; a file whose events all are is deleted."""
        self._note(segment, lambda: segment.settle(indexes))
        if not segment.unsettled:
            self.discard(segment)

    def mark(self, segment: Segment, indexes: Iterable[int], *, settled: bool) -> None:
        """Note whether the next process is to count events as settled; see `Segment.mark`."""
        self._note(segment, lambda: segment.mark(indexes, settled=settled))

    def _note(self, segment: Segment, note: Callable[[], None]) -> None:
        before = segment.size
        try:
            note()
        except OSError as error:
            self._trouble("Delivered events could not be noted in", error)
        self._bytes += segment.size - before

    def discard(self, segment: Segment) -> None:
        """Delete a file."""
        self._let_go(segment)
        self._bytes -= segment.size
        segment.remove()

    def give_up(self, segment: Segment, error: Exception) -> None:
        """Set a file aside that cannot be read."""
        self._let_go(segment)
        try:
            self._set_aside(segment, error)
        except OSError as failure:
            self._trouble(f"{segment.path} is damaged and cannot be renamed in", failure)
        segment.close()

    def _let_go(self, segment: Segment) -> None:
        self.seal(segment)
        self._own.discard(segment)
        self._adopted.discard(segment)

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

    def add(self, segment: Segment) -> None:
        """Make a file of `take_over` one of this process's."""
        self._own.add(segment)
        self._adopted.add(segment)
        self._bytes += segment.size

    def take_over(self, accepts: Callable[[str], bool]) -> Iterator[Segment]:
        """Yield files whose owner has ended, locked and read, as many as this process may hold open.

        Called without the queue's lock, as it reads files: no send may wait for that.

        Args:
            accepts: Tells whether this process has an exporter of a name.
        """
        own = {segment.path for segment in self._own.copy()}
        others_bytes = 0
        left_some = False
        for path in _files(self.path):
            if path in own:
                continue
            if self._has_adopted(_MOST_ADOPTED, _MOST_ADOPTED_BYTES):
                left_some = True
            else:
                segment = self._taken(path, accepts)
                if segment is not None:
                    yield segment
                    continue
            others_bytes += _size(path)
        self._others_bytes = others_bytes
        self._left_some = left_some

    def _taken(self, path: Path, accepts: Callable[[str], bool]) -> Segment | None:
        segment, damage = None, None
        try:
            segment = Segment.taken(path)
            try:
                segment.scan()
            except DamagedError as error:
                damage = error
            if segment.name and (damage or segment.unsettled) and not accepts(segment.name):
                message = (
                    f"{path} holds events for {segment.name}, which this client does not send to. They wait "
                    "for one that does: for Umami, one with that url_base and its user and password."
                )
                self._report("spool_exporter", message)
            else:
                if damage is None:
                    segment.cut_torn()
                else:
                    segment = self._salvaged(segment, damage)
                if segment.unsettled or segment.torn or segment.lost:
                    return segment
                segment.remove()
        except (TakenError, ForeignError):
            pass
        except OSError as error:
            self._trouble(f"{path} cannot be read in", error)
        if segment is not None:
            segment.close()
        return None

    def _salvaged(self, damaged: Segment, error: DamagedError) -> Segment:
        """Set a damaged file aside, and return a new one with what is left of its events.

        Raises:
            OSError: One of both cannot be done. Then the file is as it was, for another round.
        """
        events = damaged.salvage()
        segment = self._create(damaged.name)
        try:
            segment.lost = damaged.lost
            for event in events:
                segment.append(event)
            self._set_aside(damaged, error)
        except BaseException:
            segment.remove()
            raise
        damaged.close()
        return segment

    def _set_aside(self, segment: Segment, error: Exception) -> None:
        kept = segment.set_aside()
        self._report("spool_damaged", f"A file of the spool is damaged ({error}). It was renamed to {kept}.")

    def _trouble(self, what: str, error: OSError) -> None:
        self._report("spool", f"{what} the spool {self.path}: {error}.")

    def close(self) -> int:
        """Close every file: another process takes over what is not settled.

        Returns:
            How many events that are.
        """
        own, self._own, self._adopted, self._current = self._own, set(), set(), {}
        left = sum(segment.left for segment in own)
        for segment in own:
            if segment.left:
                segment.close()
            else:
                segment.remove()
        return left

    def after_fork(self) -> None:
        """Close the parent's files in a fork's child, without giving them up."""
        Segment.close_all()
        self._own, self._adopted, self._current = set(), set(), {}
        self._left_some = False
        self._names = itertools.count()


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == SUFFIX)
    except OSError:
        return []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
