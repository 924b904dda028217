"""The files of a spool: list them, delete them, and read damaged or rejected events again.

To send the events, create a client with the folder, and flush: `umami.Client(spool=folder).flush()`.
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
        path: Its path.
        size: Its size in bytes.
        state: `waiting`: to be sent. `in use`: by a running process. `damaged`: kept after its intact events
            were sent. `rejected`: events that a server refused. `foreign`: not written by this version.
            `unreadable`: it cannot be read.
        events: The number of events that are not settled and can be read; None if it is unknown.
        exporter: The name of their exporter; None if it is unknown.
    """

    path: Path
    size: int
    state: str
    events: int | None = None
    exporter: str | None = None


def files(folder: str | os.PathLike[str]) -> list[SpoolFile]:
    """List the files of a spool.

    Args:
        folder: The spool's folder.

    Returns:
        All files, including those that are in use or damaged.

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
    """Delete the files of a spool, except those that a running process uses, and foreign ones.

    Args:
        folder: The spool's folder.

    Returns:
        The deleted files.

    Raises:
        OSError: The folder cannot be read, or a file cannot be deleted.

    Example:
        ```python
        lost = sum(file.events or 0 for file in umami.spool.clear("/var/spool/umami"))
        ```
    """
    return [file for path in _paths(folder) if (file := _delete(path)) is not None]


def read_damaged(folder: str | os.PathLike[str]) -> int:
    """Read the events that can be read from damaged files, so that they are sent.

    They are copied to new files, which the next process that uses the folder sends. In the damaged file they
    are marked as sent.

    Args:
        folder: The spool's folder.

    Returns:
        The number of events.

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
    """Read the events that a server refused and the setting `rejected` kept, so that they are sent again.

    They are moved to new files, which the next process that uses the folder as its spool sends.

    Args:
        folder: The folder of rejected events.

    Returns:
        The number of events.

    Raises:
        OSError: The folder or a file cannot be read or written.
        ValueError: A file has other lines. It is left unchanged.

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
        lines = path.read_bytes().split(b"\n")
        for number, line in enumerate(
            lines[:-1], 1
        ):  # what follows the last line break was cut short by a kill
            read = parsed(line)
            if read is None and number == 1:
                return 0  # somebody else's file
            if read is None:
                raise ValueError(f"{path}, line {number} is not a rejected event")
            found.setdefault(read[0], []).append(read[1])
        for exporter, events in found.items():
            _write(path.parent, exporter, events)
        if found:
            path.unlink()
    finally:
        file.close()
    return sum(map(len, found.values()))


def _write(folder: Path, exporter: str, events: Iterable[bytes]) -> None:
    """Write events to a new file of a spool, and sync it to disk."""
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
        raise OSError("this system does not have the file locks that a spool needs")
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
