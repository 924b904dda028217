"""What is counted while logs are read."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Counts:
    """What became of the lines. The sums balance.

    Attributes:
        read: Lines read in this run.
        before: Of these, lines that were imported by an earlier run.
        headers: Of these, lines that hold no request, such as a header.
        malformed: Of these, lines that cannot be read.
        left_out: Of these, requests that were left out, by reason.
        sent: Of these, page views that were sent, or would have been.
        examples: The first malformed lines, by their log and number.
        damaged: Logs whose compressed data is damaged or ends too early, with what is wrong.
        first: The time of the earliest page view, in epoch seconds.
        last: The time of the latest.
    """

    read: int = 0
    before: int = 0
    headers: int = 0
    malformed: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    examples: list[tuple[str, int]] = field(default_factory=list)
    damaged: list[tuple[str, str]] = field(default_factory=list)
    first: float | None = None
    last: float | None = None

    def saw(self, moment: float) -> None:
        """Widen the range of time."""
        self.first = moment if self.first is None else min(self.first, moment)
        self.last = moment if self.last is None else max(self.last, moment)


@dataclass
class Log:
    """One log as it is read.

    Attributes:
        path: Its path; `-` for the standard input.
        size: The size of its file in bytes; 0 if it is not known.
        position: How many bytes of its file have been read.
        lines: How many lines have been read.
    """

    path: str
    size: int = 0
    position: int = 0
    lines: int = 0

    @classmethod
    def of(cls, path: str) -> "Log":
        """Return a log that has not been read yet."""
        try:
            return cls(path, 0 if path == "-" else Path(path).stat().st_size)
        except OSError:
            return cls(path)
