"""The counts of what became of every event."""

from collections import Counter
from dataclasses import dataclass, field

from umami.models import QueueStats


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

    def lose(self, reason: str, count: int) -> None:
        """Count events that were never pending as dropped."""
        self.submitted += count
        self.dropped[reason] += count

    def balance(self, pending: int) -> None:
        """Set `submitted` by the others, so that the equation holds."""
        self.submitted = self.delivered + self.rejected + sum(self.dropped.values()) + pending

    def stats(self, pending: int, pending_bytes: int) -> QueueStats:
        """Return the counts as they are now, with those of the events that are pending."""
        return QueueStats(
            submitted=self.submitted,
            delivered=self.delivered,
            rejected=self.rejected,
            dropped=dict(self.dropped),
            pending=pending,
            pending_bytes=pending_bytes,
            retries=self.retries,
            requests=self.requests,
            last_error=self.last_error,
        )
