"""What lies in a spool's folder, to look at and to clear away.

To send it, make a client of the folder and flush: `umami.Client(spool=folder).flush()`.
"""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ._spool.disk import CAN_LOCK
from ._spool.records import ForeignError, VersionError
from ._spool.rejected import REJECTED_SUFFIX, parsed
from ._spool.segment import DAMAGED_SUFFIX, SUFFIX, Segment, TakenError, new_path

_SUFFIXES = (SUFFIX, DAMAGED_SUFFIX, REJECTED_SUFFIX)


@dataclass(frozen=True)
class SpoolFile:
    """A file of a spool.

    Attributes:
        path: Where it is.
        size: Its length in bytes.
        state: `waiting` for a process to send it, `in use` by one that runs, `damaged`: set aside after what
            was whole in it was sent, `rejected`: what a server refused, `foreign`: another version's or none
            of umami's, or `unreadable`.
        events: How many of its events are not settled, and can be read; None if that cannot be told.
        exporter: The name of their exporter; None if that cannot be told.
    """

    path: Path
    size: int
    state: str
    events: int | None = None
    exporter: str | None = None


def files(folder: str | os.PathLike[str]) -> list[SpoolFile]:
    """Tell what lies in a spool, file by file.

    Args:
        folder: The spool's folder.

    Returns:
        Its files, those in use and those set aside as damaged included.

    Raises:
        OSError: The folder cannot be read.

    Example:
        ```python
        for file in umami.spool.files("/var/spool/umami"):
            print(file.path, file.state, file.events)
        ```
    """
    return [file for path in _paths(folder) if (file := _look(path)) is not None]


def clear(folder: str | os.PathLike[str]) -> list[SpoolFile]:
    """Delete what lies in a spool, but for the files that a running process uses, and those of others.

    Args:
        folder: The spool's folder.

    Returns:
        What was deleted.

    Raises:
        OSError: The folder cannot be read, or a file not be deleted.

    Example:
        ```python
        lost = sum(file.events or 0 for file in umami.spool.clear("/var/spool/umami"))
        ```
    """
    return [file for path in _paths(folder) if (file := _delete(path)) is not None]


def read_damaged(folder: str | os.PathLike[str]) -> int:
    """Have events sent that can be read by now, of files that were set aside as damaged.

    They are copied to new files, which the next process that uses the folder sends. They count as sent in the
    damaged file from then on.

    Args:
        folder: The spool's folder.

    Returns:
        How many events.

    Raises:
        OSError: The folder or a file cannot be read or written.

    Example:
        ```python
        if umami.spool.read_damaged("/var/spool/umami"):
            umami.Client(spool="/var/spool/umami").flush()
        ```
    """
    return sum(_copy(path) for path in _paths(folder) if path.suffix == DAMAGED_SUFFIX)


def read_rejected(folder: str | os.PathLike[str]) -> int:
    """Have events sent again that a server refused, and that the setting `rejected` has kept.

    They are moved to new files, which the next process that uses the folder as its spool sends.

    Args:
        folder: The folder.

    Returns:
        How many events.

    Raises:
        OSError: The folder or a file cannot be read or written.
        ValueError: A file holds other lines. It is left as it is.

    Example:
        ```python
        if umami.spool.read_rejected("/var/spool/umami-rejected"):
            umami.Client(spool="/var/spool/umami-rejected").flush()
        ```
    """
    return sum(_move(path) for path in _paths(folder) if path.suffix == REJECTED_SUFFIX)


def _copy(path: Path) -> int:
    try:
        damaged = Segment.taken(path)
    except (TakenError, ForeignError):
        return 0
    try:
        damaged.scan(again=True)
        events = dict(damaged.events())
        if not damaged.name or not events:
            return 0
        _write(path.parent, damaged.name, events.values())
        damaged.settle(events)
    except ForeignError:
        return 0
    finally:
        damaged.close()
    return len(events)


def _move(path: Path) -> int:
    try:
        file = Segment.taken(path)  # whose lock its writer holds
    except (TakenError, ForeignError):
        return 0
    try:
        found: dict[str, list[bytes]] = {}
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            read = parsed(line)
            if read is None:
                raise ValueError(f"{path}, line {number}: this is no rejected event")
            found.setdefault(read[0], []).append(read[1])
        for exporter, events in found.items():
            _write(path.parent, exporter, events)
        path.unlink()
    finally:
        file.close()
    return sum(map(len, found.values()))


def _write(folder: Path, exporter: str, events: Iterable[bytes]) -> None:
    """Write events to a new file of a spool, on the disk itself."""
    segment = Segment.create(new_path(folder), exporter, math.inf)
    try:
        for event in events:
            segment.append(event)
        segment.sync()
    except BaseException:
        segment.remove()
        raise
    segment.close()


def _paths(folder: str | os.PathLike[str]) -> list[Path]:
    if not CAN_LOCK:
        raise OSError("this system has no file locks of the kind that a spool needs")
    return [path for path in sorted(Path(folder).iterdir()) if path.suffix in _SUFFIXES]


def _look(path: Path) -> SpoolFile | None:
    size = 0
    try:
        size = path.lstat().st_size
        segment = Segment.taken(path)
        try:
            if path.suffix == REJECTED_SUFFIX:
                return _rejected(path)
            segment.look(again=path.suffix == DAMAGED_SUFFIX)
        finally:
            segment.close()
    except FileNotFoundError:
        return None  # sent a moment ago
    except TakenError:
        return SpoolFile(path, size, "in use")
    except ForeignError:
        return SpoolFile(path, size, "foreign")
    except OSError:
        return SpoolFile(path, size, "unreadable")
    return _described(segment)


def _described(segment: Segment) -> SpoolFile:
    is_waiting = segment.path.suffix == SUFFIX
    events = segment.unsettled if segment.name or not segment.damaged else None
    return SpoolFile(
        segment.path, segment.size, "waiting" if is_waiting else "damaged", events, segment.name or None
    )


def _rejected(path: Path) -> SpoolFile:
    with path.open("rb") as lines:
        count = sum(1 for line in lines if parsed(line))
    if not count:
        raise ForeignError
    return SpoolFile(path, path.stat().st_size, "rejected", count)


def _delete(path: Path) -> SpoolFile | None:
    """Delete a file, unless a process uses it: until it is gone, none can take it over."""
    try:
        segment = Segment.taken(path)
    except (TakenError, ForeignError):
        return None
    try:
        try:
            if path.suffix == REJECTED_SUFFIX:
                file = _rejected(path)
            else:
                segment.scan(again=path.suffix == DAMAGED_SUFFIX)
                file = _described(segment)
        except VersionError:
            file = SpoolFile(path, segment.size, "foreign")
        except ForeignError:
            return None
        path.unlink()
    finally:
        segment.close()
    return file
