"""What lies in a spool's folder, to look at and to clear away.

To send it, make a client of the folder and flush: `umami.Client(spool=folder).flush()`.
"""

from dataclasses import dataclass
from pathlib import Path

from .queue.segment import DAMAGED_SUFFIX, SUFFIX, DamagedError, Segment, TakenError


@dataclass(frozen=True)
class SpoolFile:
    """A file of a spool.

    Attributes:
        path: Where it is.
        size: Its length in bytes.
        state: `waiting` for a process to send it, `in use` by one that runs, or `damaged`.
        events: How many of its events are not settled; None if that cannot be told.
        send_url: Where they go; None if that cannot be told.
    """

    path: Path
    size: int
    state: str
    events: int | None = None
    send_url: str | None = None


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
    paths = (path for path in sorted(Path(folder).iterdir()) if path.suffix in (SUFFIX, DAMAGED_SUFFIX))
    return [file for path in paths if (file := _look(path)) is not None]


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
    cleared = [file for file in files(folder) if file.state != "in use"]
    for file in cleared:
        file.path.unlink(missing_ok=True)
    return cleared


def _look(path: Path) -> SpoolFile | None:
    try:
        size = path.stat().st_size
        if path.suffix == DAMAGED_SUFFIX:
            return SpoolFile(path, size, "damaged")
        segment = Segment.adopt(path)
    except FileNotFoundError:
        return None  # sent a moment ago
    except TakenError:
        return SpoolFile(path, size, "in use")
    except DamagedError:
        return SpoolFile(path, size, "damaged")
    segment.close()
    return SpoolFile(path, size, "waiting", segment.unsettled, segment.destination.send_url)
