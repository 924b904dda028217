"""Remembers how far each log was imported, and recognizes a log by what it holds.

A log may come again under another name or compressed, and a name may stand for another log after a rotation.
So a log is known by the hash of its beginning, and a place in it by the hash of the line before it.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import IO, Final

from umami._clock import monotonic

from .reading import DamagedError, Line, lines

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_HEAD: Final = 1024
_VERSION: Final = 1
_SAVE_SECONDS: Final = 1.0


@dataclass
class Place:
    """A place in a log, up to which it was imported.

    Attributes:
        head: The hash of the log's first bytes.
        head_bytes: How many these are.
        offset: How many bytes of the log come before the place.
        last: The hash of the line that ends there.
        unanswered: Where lines before the place end that were sent and not answered.
    """

    head: str
    head_bytes: int
    offset: int
    last: str
    unanswered: list[int] = field(default_factory=list)


class Tracker:
    """Follows a log as it is read, so that the place is known at any time."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._hashed: tuple[int, str] = (-1, "")
        self._last: Line | None = None

    def saw(self, line: Line) -> None:
        """Take note of the next line, unless it is too long: that is read again, and is malformed again."""
        if line.data is None:
            return
        if len(self._head) < _HEAD:
            self._head += line.data[: _HEAD - len(self._head)]
        self._last = line

    def begins_like(self, place: Place) -> bool:
        """Tell whether the log begins as the one of a place does."""
        return sha256(self._head[: place.head_bytes]).hexdigest() == place.head

    def may_begin_like(self, place: Place) -> bool:
        """Tell whether it may do so, as far as it has been read."""
        return len(self._head) < place.head_bytes or self.begins_like(place)

    def place(self) -> Place | None:
        """Return the place after the last line; None before the first."""
        last = self._last
        if last is None or last.data is None:
            return None
        size = min(_HEAD, last.end)
        if self._hashed[0] != size:
            self._hashed = size, sha256(self._head[:size]).hexdigest()
        return Place(self._hashed[1], size, last.end, sha256(last.data).hexdigest())


class WrongStateError(ValueError):
    """A file does not hold checkpoints."""


class Checkpoints:
    """The places of all logs that were imported to one destination, in a file.

    Args:
        path: The file. It is made with the first place.

    Raises:
        WrongStateError: The file is not one of these.
        OSError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: list[Place] = []
        try:
            record = json.loads(path.read_text("utf-8"))
            self._places = [Place(**each) for each in record["logs"] if record["version"] == _VERSION]
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError) as error:
            raise WrongStateError(f"{path} holds no checkpoints of an import: {error!r}") from None

    def save(self, place: Place, former: Place | None) -> None:
        """Remember a place, in the file too.

        Args:
            place: The place.
            former: The place in the same log that it replaces.
        """
        self._places = [each for each in self._places if each is not former]
        self._places.append(place)
        self.write()

    def write(self) -> None:
        """Write the file, such that a crash leaves the old one or the new one."""
        self.path.parent.mkdir(0o700, parents=True, exist_ok=True)
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        record = {"version": _VERSION, "logs": [asdict(each) for each in self._places]}
        with draft.open("w", encoding="utf-8") as file:
            json.dump(record, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)

    def find(self, file: IO[bytes]) -> Place | None:
        """Return the place up to which a log was imported already, if it was.

        Args:
            file: The log, which is read from its beginning, no further than needed.
        """
        wanted = sorted(self._places, key=lambda place: place.offset)
        tracker = Tracker()
        reached: Place | None = None
        is_begun = True
        with suppress(DamagedError):  # whoever reads the log on will see
            for line in lines(file) if wanted else ():
                tracker.saw(line)
                if is_begun:
                    # A log that begins otherwise need not be read to the last place of all logs.
                    wanted = [place for place in wanted if tracker.may_begin_like(place)]
                    is_begun = line.end < _HEAD
                while wanted and wanted[0].offset <= line.end:
                    place = wanted.pop(0)
                    # A last line that had no end yet may have one now.
                    data = line.data or b""
                    length = len(data) - (line.end - place.offset)
                    is_there = length > 0 and sha256(data[:length]).hexdigest() == place.last
                    if is_there and tracker.begins_like(place):
                        reached = place
                if not wanted:
                    break
        return reached


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Keep other imports from the same checkpoints, as long as the block runs.

    Each import writes all places that it knows. So those of two at a time would overwrite each other's.

    Args:
        path: The file of the checkpoints.

    Returns:
        False if another import uses them.
    """
    path.parent.mkdir(0o700, parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as file:
        try:
            if sys.platform == "win32":
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # the latter on Windows
            yield False
            return
        yield True


class Keeper:
    """Keeps how far one log was imported, up to date within a second.

    Args:
        checkpoints: Where it is kept; None to keep nothing.
        former: How far an earlier run came; None if there was none.
        unanswered: Returns the ends of the lines that were sent and not answered yet.

    Attributes:
        start: Where the lines begin that were not imported before.
        again: The ends of lines before that which were sent and not answered, and not sent again yet.
    """

    def __init__(
        self, checkpoints: Checkpoints | None, former: Place | None, unanswered: Callable[[], list[int]]
    ) -> None:
        self.start = 0 if former is None else former.offset
        self.again = set(() if former is None else former.unanswered)
        self._checkpoints, self._former, self._unanswered = checkpoints, former, unanswered
        self._tracker = Tracker()
        self._due = monotonic() + _SAVE_SECONDS

    def saw(self, line: Line) -> None:
        """Take note of the next line, which was sent or left out."""
        self._tracker.saw(line)
        self.again -= {line.end, self.start} if line.end >= self.start else {line.end}

    def save_if_due(self) -> None:
        """Save the place if a second has passed."""
        if monotonic() >= self._due:
            self.save()

    def save(self) -> None:
        """Save the place that was reached, with what is not answered."""
        self._due = monotonic() + _SAVE_SECONDS
        if self._checkpoints is None:
            return
        former, place = self._former, self._tracker.place()
        if former is not None and (place is None or place.offset < former.offset):
            place = former  # an earlier run came further
        if place is None:
            return
        place = replace(place, unanswered=sorted({*self.again, *self._unanswered()}))
        if place != former:
            self._checkpoints.save(place, former)
            self._former = place
