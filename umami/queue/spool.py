"""The folder where queued events wait on disk, shared by processes, for those who ask for it.

Each process writes files of its own, one at a time for each destination, and takes over those whose
owner is gone. A full or failing disk is reported, and the events then live in memory alone.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from .delivery import Destination
from .segment import CAN_LOCK, SUFFIX, DamagedError, Segment, TakenError, set_aside

_SEGMENT_BYTES: Final = 1024 * 1024

Place = tuple[Segment, int]
"""Where an event lies: its file, and its index there."""


@dataclass(frozen=True)
class SpoolPlan:
    """Where a spool is, and how much it may hold.

    Attributes:
        folder: The folder; it is made if it is not there, for its owner alone.
        max_bytes: The most bytes of all files in it.
        headers: What goes with requests of events that another process left.
    """

    folder: Path
    max_bytes: int
    headers: Mapping[str, str]


class Spool:
    """A spool's folder, as one client uses it. Guarded by its buffer's lock.

    Args:
        plan: Where it is.
        report: Called with what goes wrong.

    Raises:
        OSError: The folder cannot be made or used.
    """

    def __init__(self, plan: SpoolPlan, report: Callable[[str, str, str, list[bytes]], None]) -> None:
        self.folder = plan.folder
        self.max_bytes = plan.max_bytes
        self._headers = plan.headers
        self._report = report
        if not CAN_LOCK:
            raise OSError("this system has no file locks of the kind that a spool needs")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(self.folder, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(f"{self.folder} cannot be read and written")
        self._names = itertools.count()
        self._current: dict[tuple[str, str | None], Segment] = {}
        self._own: set[Segment] = set()
        self._others_bytes = 0
        self._bytes = 0  # of all files, as far as this process knows

    def write(self, destination: Destination, event: bytes) -> Place | None:
        """Write an event to disk.

        Returns:
            Where it lies now; None if there is no room for it, or the disk failed.
        """
        if self._bytes + len(event) > self.max_bytes:
            self._report(
                "trouble", "spool_full", f"The spool {self.folder} is full: see spool_max_bytes.", []
            )
            return None
        key = (destination.send_url, destination.batch_url)
        segment = self._current.get(key)
        try:
            if segment is None or segment.size > _SEGMENT_BYTES:
                segment = self._current[key] = Segment.create(self._new_path(), destination)
                self._own.add(segment)
                self._bytes = self._others_bytes + sum(own.size for own in self._own)
            before = segment.size
            index = segment.append(event)
        except OSError as error:
            self._trouble("Events could not be written to", error)
            return None
        self._bytes += segment.size - before
        return segment, index

    def _new_path(self) -> Path:
        return self.folder / f"{os.getpid()}-{time.time_ns():x}-{next(self._names)}{SUFFIX}"

    def seal(self, segment: Segment) -> None:
        """Write nothing more to a file."""
        self._current = {key: other for key, other in self._current.items() if other is not segment}

    def settle(self, segment: Segment, indexes: Iterable[int]) -> None:
        """Note that events are settled; a file whose events all are is deleted."""
        try:
            segment.settle(indexes)
        except OSError as error:
            self._trouble("What was delivered could not be noted in", error)
        if not segment.unsettled:
            self.discard(segment)

    def discard(self, segment: Segment) -> None:
        """Delete a file."""
        self.seal(segment)
        self._own.discard(segment)
        self._bytes -= segment.size
        segment.remove()

    def give_up(self, segment: Segment, error: Exception) -> None:
        """Set a file aside that cannot be read."""
        self.seal(segment)
        self._own.discard(segment)
        self._set_aside(segment.path, error)
        segment.close()

    def adopt(self) -> Segment | None:
        """Take over a file whose owner is gone.

        Returns:
            One file, its destination's headers filled in; None if there is none. Ask again after one.
        """
        own = {segment.path for segment in self._own}
        self._others_bytes = 0
        for path in _files(self.folder):
            if path in own:
                continue
            segment = self._take_over(path)
            if segment is not None:
                self._own.add(segment)
                return segment
        return None

    def _take_over(self, path: Path) -> Segment | None:
        try:
            segment = Segment.adopt(path)
        except TakenError:
            self._others_bytes += _size(path)
        except DamagedError as error:
            self._set_aside(path, error)
        except OSError as error:
            self._trouble(f"{path} cannot be read in", error)
        else:
            if segment.unsettled or segment.torn:
                segment.destination = replace(segment.destination, headers=self._headers)
                return segment
            segment.remove()
        return None

    def _set_aside(self, path: Path, error: Exception) -> None:
        try:
            kept = set_aside(path)
        except OSError as failure:
            self._trouble(f"{path} is damaged and cannot be renamed in", failure)
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
        own, self._own, self._current = self._own, set(), {}
        left = sum(segment.unsettled for segment in own)
        for segment in own:
            if segment.unsettled:
                segment.close()
            else:
                segment.remove()
        return left

    def forget(self) -> None:
        """Close the files without giving them up, as a fork's child does with its parent's."""
        own, self._own, self._current = self._own, set(), {}
        for segment in own:
            segment.close()
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
