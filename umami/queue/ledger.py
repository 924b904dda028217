"""The counts of what became of every event."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Ledger:
    """Counts of events by where they ended, kept under the buffer's lock.

    `submitted == delivered + rejected + dropped.total() + pending`, where pending is counted by the
    buffer itself, not derived, so that a mistake in either shows.
    """

    submitted: int = 0
    delivered: int = 0
    rejected: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    requests: int = 0
    last_error: str | None = None
