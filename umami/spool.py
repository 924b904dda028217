"""What lies in a spool's folder, to look at and to clear away.

To send it, make a client of the folder and flush: `umami.Client(spool=folder).flush()`.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ._spool.records import DamagedError, ForeignError
from ._spool.segment import DAMAGED_SUFFIX, SUFFIX, Segment, TakenError


@dataclass(frozen=True)
class SpoolFile:
    """A file of a spool.

    Attributes:
        path: Where it is.
        size: Its length in bytes.
        state: `waiting` for a process to send it, `in use` by one that runs, `damaged`, or `foreign`, which
            is of another version.
        events: How many of its events are not settled; None if that cannot be told.
        exporter: The name of their exporter; None if that cannot be told.
    """

    path: Path
    size: int
    state: str
    events: int | None = None
    exporter: str | None = None


def files(folder: str | Path) -> list[SpoolFile]:
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


def clear(folder: str | Path) -> list[SpoolFile]:
    """Delete what lies in a spool, but for the files that a running process uses.

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


def _paths(folder: str | Path) -> list[Path]:
    return [path for path in sorted(Path(folder).iterdir()) if path.suffix in (SUFFIX, DAMAGED_SUFFIX)]


def _look(path: Path) -> SpoolFile | None:
    try:
        size = path.stat().st_size
        if path.suffix == DAMAGED_SUFFIX:
            return SpoolFile(path, size, "damaged")
        segment = Segment.taken(path)
        try:
            segment.look()
        finally:
            segment.close()
    except FileNotFoundError:
        return None  # sent a moment ago
    except TakenError:
        return SpoolFile(path, size, "in use")
    except ForeignError:
        return SpoolFile(path, size, "foreign")
    except DamagedError:
        return SpoolFile(path, size, "damaged")
    return SpoolFile(path, size, "waiting", segment.unsettled, segment.name)


def _delete(path: Path) -> SpoolFile | None:
    """Delete a file, unless a process uses it: until it is gone, none can take it over."""
    try:
        segment = Segment.taken(path)
    except TakenError:
        return None
    try:
        file = SpoolFile(path, path.stat().st_size, "damaged")
        if path.suffix == SUFFIX:
            with suppress(DamagedError, ForeignError):
                segment.read()
                file = replace(file, state="waiting", events=segment.unsettled, exporter=segment.name)
        path.unlink()
    finally:
        segment.close()
    return file
