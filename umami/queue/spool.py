"""The folder where queued events wait on disk, shared by processes, for those who ask for it.

Each process writes files of its own, one at a time for each destination, and takes over those whose
owner is gone. A full or failing disk is reported, and the events then live in memory alone.
"""

import itertools
import os
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from .destination import Destination
from .records import DamagedError, ForeignError
from .report import logger
from .segment import CAN_LOCK, SUFFIX, Segment, TakenError

_LEAST_SEGMENT_BYTES: Final = 1024 * 1024
_MOST_SEGMENTS: Final = 128
"""About how many files a process holds open when the spool is full of its own events."""
_MOST_ADOPTED: Final = 32
_MOST_ADOPTED_BYTES: Final = 16 * 1024 * 1024
_TRIES: Final = 100

Place = tuple[Segment, int]
"""Where an event lies: its file, and its index there."""


@dataclass(frozen=True)
class SpoolPlan:
    """Where a spool is, and how much it may hold.

    Attributes:
        folder: The folder; it is made if it is not there, for its owner alone.
        max_bytes: The most bytes of all files in it.
        headers: What goes with requests of events that another process left.
        home: Where this process's own events go, if that is known.
    """

    folder: Path
    max_bytes: int
    headers: Mapping[str, str]
    home: Destination | None = None


class Spool:
    """A spool's folder, as one client uses it. Guarded by its buffer's lock, but for `orphans`.

    Args:
        plan: Where it is.
        report: Called with what goes wrong.

    Raises:
        OSError: The folder cannot be made or used.
    """

    def __init__(self, plan: SpoolPlan, report: Callable[[str, str, str, list[bytes]], None]) -> None:
        self.folder = plan.folder
        self.resize(plan.max_bytes)
        self._headers = plan.headers
        self._report = report
        if not CAN_LOCK:
            raise OSError("this system has no file locks of the kind that a spool needs")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(self.folder, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(f"{self.folder} cannot be read and written")
        self._warn_of_others()
        self._names = itertools.count()
        self._current: dict[tuple[str, str | None], Segment] = {}
        self._own: set[Segment] = set()
        self._adopted: set[Segment] = set()
        self._others_bytes = 0
        self._bytes = 0  # of all files, as far as this process knows
        self._left_some = False

    def resize(self, max_bytes: int) -> None:
        """Hold other bytes at the most, from now on."""
        self._max_bytes = max_bytes
        self._segment_bytes = max(_LEAST_SEGMENT_BYTES, max_bytes // _MOST_SEGMENTS)

    def _warn_of_others(self) -> None:
        mode = stat.S_IMODE(self.folder.stat().st_mode)
        if mode & 0o077:
            with suppress(Exception):  # a log handler's fault is none of the spool's
                logger.warning(
                    "The spool %s is open to others (mode %o): who can write there can have events sent. "
                    "Make it yours alone: chmod 700.",
                    self.folder,
                    mode,
                )

    def write(self, destination: Destination, event: bytes) -> Place | None:
        """Write an event to disk.

        Returns:
            Where it lies now; None if there is no room for it, or the disk failed.
        """
        if self._bytes + len(event) > self._max_bytes:
            self._report(
                "trouble", "spool_full", f"The spool {self.folder} is full: see spool_max_bytes.", []
            )
            return None
        key = (destination.send_url, destination.batch_url)
        segment = self._current.get(key)
        try:
            if segment is None or not self._is_for(segment, destination):
                segment = self._current[key] = self._create(destination)
                self._own.add(segment)
                self._bytes = self._others_bytes + sum(own.size for own in self._own)
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

    def _is_for(self, segment: Segment, destination: Destination) -> bool:
        return segment.size <= self._segment_bytes and (
            segment.destination is destination or segment.private == destination.is_private
        )

    def _create(self, destination: Destination) -> Segment:
        for _ in range(_TRIES):
            with suppress(TakenError, FileExistsError):
                return Segment.create(self._new_path(), destination)
        raise OSError("others keep taking its new files")

    def _new_path(self) -> Path:
        return self.folder / f"{os.getpid()}-{time.time_ns():x}-{next(self._names)}{SUFFIX}"

    def seal(self, segment: Segment) -> None:
        """Write nothing more to a file."""
        self._current = {key: other for key, other in self._current.items() if other is not segment}

    def settle(self, segment: Segment, indexes: Iterable[int]) -> None:
        """Note that events are settled; a file whose events all are is deleted."""
        self._note(segment, lambda: segment.settle(indexes))
        if not segment.unsettled:
            self.discard(segment)

    def mark(self, segment: Segment, indexes: Iterable[int], *, settled: bool) -> None:
        """Note what another process is to think of events if this one dies; see `Segment.mark`."""
        self._note(segment, lambda: segment.mark(indexes, settled=settled))

    def _note(self, segment: Segment, note: Callable[[], None]) -> None:
        before = segment.size
        try:
            note()
        except OSError as error:
            self._trouble("What was delivered could not be noted in", error)
        self._bytes += segment.size - before

    def discard(self, segment: Segment) -> None:
        """Delete a file."""
        self._let_go(segment)
        self._bytes -= segment.size
        segment.remove()

    def give_up(self, segment: Segment, error: Exception) -> None:
        """Set a file aside that cannot be read."""
        self._let_go(segment)
        self._set_aside(segment, error)
        segment.close()

    def _let_go(self, segment: Segment) -> None:
        self.seal(segment)
        self._own.discard(segment)
        self._adopted.discard(segment)

    # What others left.

    @property
    def is_busy(self) -> bool:
        """Whether files of others are being sent, or wait until these are."""
        return self._left_some or bool(self._adopted)

    @property
    def is_hungry(self) -> bool:
        """Whether there are files of others that were too many, and now are not."""
        return self._left_some and not self._has_adopted(_MOST_ADOPTED // 2, _MOST_ADOPTED_BYTES // 2)

    def _has_adopted(self, count: int, size: int) -> bool:
        adopted = self._adopted.copy()  # in one step: `orphans` may look while a sender settles
        return len(adopted) >= count or sum(segment.size for segment in adopted) >= size

    def own(self) -> set[Path]:
        """Return the files of this process."""
        return {segment.path for segment in self._own}

    def add(self, segment: Segment) -> None:
        """Make a file of `orphans` one of this process's."""
        self._own.add(segment)
        self._adopted.add(segment)
        self._bytes += segment.size

    def orphans(self, own: Collection[Path], trusted: Collection[str]) -> Iterator[Segment]:
        """Take over files whose owner is gone, as many as this process may hold open.

        To be called without the buffer's lock, as it reads files: no send is to wait for that.

        Args:
            own: The files of this process.
            trusted: The destinations that it has the credential of; others' private events are not for it.

        Yields:
            Each file, its destination's headers filled in.
        """
        others_bytes = 0
        left_some = False
        for path in _files(self.folder):
            if path in own:
                continue
            if self._has_adopted(_MOST_ADOPTED, _MOST_ADOPTED_BYTES):
                left_some = True
            else:
                segment = self._take_over(path, trusted)
                if segment is not None:
                    yield segment
                    continue
            others_bytes += _size(path)
        self._others_bytes = others_bytes
        self._left_some = left_some

    def _take_over(self, path: Path, trusted: Collection[str]) -> Segment | None:
        segment = None
        try:
            segment = Segment.taken(path)
            try:
                segment.read()
            except DamagedError as error:
                segment = self._salvaged(segment, error)
            if segment.private and segment.destination.send_url not in trusted:
                url = segment.destination.send_url
                message = f"{path} waits for a client whose url_base has the user and password of {url}."
                self._report("trouble", "spool_credential", message, [])
            elif segment.unsettled or segment.torn or segment.lost:
                segment.destination = replace(segment.destination, headers=self._headers)
                return segment
            else:
                segment.remove()
        except (TakenError, ForeignError):
            pass
        except OSError as error:
            self._trouble(f"{path} cannot be read in", error)
        if segment is not None:
            segment.close()
        return None

    def _salvaged(self, damaged: Segment, error: DamagedError) -> Segment:
        """Set a damaged file aside, and return a new one with what is left of its events."""
        events = damaged.salvage()
        self._set_aside(damaged, error)
        headers = {"Authorization": "Basic "} if damaged.private else {}
        segment = self._create(replace(damaged.destination, headers=headers))
        segment.lost = damaged.lost
        for event in events:
            segment.append(event)
        damaged.close()
        return segment

    def _set_aside(self, segment: Segment, error: Exception) -> None:
        try:
            kept = segment.set_aside()
        except OSError as failure:
            self._trouble(f"{segment.path} is damaged and cannot be renamed in", failure)
        else:
            message = f"A file of the spool is damaged ({error}): it is kept as {kept}."
            self._report("trouble", "spool_damaged", message, [])

    def _trouble(self, what: str, error: OSError) -> None:
        self._report("trouble", "spool", f"{what} the spool {self.folder}: {error}.", [])

    def close(self) -> int:
        """Let go of every file: another process takes over what is not settled.

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

    def forget(self) -> None:
        """Close the files without giving them up, as a fork's child does with its parent's."""
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
