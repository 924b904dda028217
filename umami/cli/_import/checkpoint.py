"""Remembers how far each log was imported, and recognizes a log by what it holds.

A log may come again under another name or compressed, and a name may stand for another log after a rotation.
So a log is known by the hash of its beginning, and a place in it by the hash of the line before it.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import IO, Final

from .reading import Line, lines

_HEAD: Final = 1024
_VERSION: Final = 1


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
        """Take note of the next line."""
        if len(self._head) < _HEAD and line.data is not None:
            self._head += line.data[: _HEAD - len(self._head)]
        self._last = line

    def begins_like(self, place: Place) -> bool:
        """Tell whether the log begins as the one of a place does."""
        return sha256(self._head[: place.head_bytes]).hexdigest() == place.head

    def place(self) -> Place | None:
        """Return the place after the last line; None before the first, and after one that is too long."""
        last = self._last
        if last is None or last.data is None:
            return None
        size = min(_HEAD, last.end)
        if self._hashed[0] != size:
            self._hashed = size, sha256(self._head[:size]).hexdigest()
        return Place(self._hashed[1], size, last.end, sha256(last.data).hexdigest())


class Checkpoints:
    """The places of all logs that were imported to one destination, in a file.

    Args:
        path: The file. It is made with the first place.

    Raises:
        ValueError: The file is not one of these.
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
            raise ValueError(f"{path} holds no checkpoints of an import: {error!r}") from None

    def save(self, place: Place, former: Place | None) -> None:
        """Remember a place, and write the file such that a crash leaves the old one or the new one.

        Args:
            place: The place.
            former: The place in the same log that it replaces.
        """
        self._places = [each for each in self._places if each is not former]
        self._places.append(place)
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
            file: The log, which is read from its beginning.
        """
        wanted = sorted(self._places, key=lambda place: place.offset)
        tracker = Tracker()
        reached: Place | None = None
        position = 0
        for line in lines(file) if wanted else ():
            data = line.data or b""
            tracker.saw(line)
            while position < len(wanted) and wanted[position].offset <= line.end:
                place = wanted[position]
                position += 1
                # A last line that had no end yet may have one now.
                length = len(data) - (line.end - place.offset)
                if (
                    length > 0
                    and sha256(data[:length]).hexdigest() == place.last
                    and tracker.begins_like(place)
                ):
                    reached = place
            if position == len(wanted):
                break
        return reached
