"""The seam between the queue and what it delivers to: an exporter takes a batch and says what became of it.

The queue cuts batches, retries, backs off, isolates an event that fails alone, and counts. It knows nothing
of how an exporter reaches its destination.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from .destination import Destination


class Status(Enum):
    """What became of one event."""

    DELIVERED = "delivered"
    INCOMPLETE = "incomplete"  # stored, but not all of it
    REJECTED = "rejected"  # refused for good
    RETRY = "retry"  # not stored, for a reason that will pass
    DOUBTFUL = "doubtful"  # not stored, for a reason that may lie in the event
    UNCERTAIN = "uncertain"  # may be stored
    UNSENT = "unsent"  # not tried


class Outcome(NamedTuple):
    """What became of one event, the short reason that it is counted under, and the whole story in words."""

    status: Status
    reason: str = ""
    message: str = ""


UNSENT: Final = Outcome(Status.UNSENT)


class Trouble(Enum):
    """What a request failed of."""

    AWAY = "away"  # the destination is not there, or not well: wait, and ask with one event
    REFUSED = "refused"  # something refused the request, perhaps for one of its events: try half of it
    THROTTLED = "throttled"  # too many requests: make them less often, and no smaller


class Failure(NamedTuple):
    """A request that failed as a whole.

    Attributes:
        message: What happened, in words.
        events: The indexes of the events that it carried.
        trouble: What it failed of.
        reason: The short name that an event is counted under if it always fails so.
        stored_perhaps: Whether the destination may have stored the events all the same.
        retry_after: The seconds that the destination asked to wait; None if it did not.
        decisive: Whether an event that is refused alone, while others are accepted, need not be tried again.
    """

    message: str
    events: Sequence[int]
    trouble: Trouble = Trouble.AWAY
    reason: str = "unanswered"
    stored_perhaps: bool = False
    retry_after: float | None = None
    decisive: bool = False


@dataclass(frozen=True)
class Exported:
    """What became of a batch.

    Attributes:
        outcomes: What became of events, by index. One that is neither here nor in `failure` is delivered.
        failure: The request that failed as a whole, if one did; no other was made after it.
        requests: How many requests were made.
    """

    outcomes: Mapping[int, Outcome] = field(default_factory=lambda: MappingProxyType({}))
    failure: Failure | None = None
    requests: int = 1


class Limits(NamedTuple):
    """What an exporter takes at a time; it may change as the exporter learns.

    Attributes:
        events: The most events of a batch.
        bytes: The most bytes of a batch's events, with one byte between two.
        threads: How many threads are of use.
    """

    events: int
    bytes: int
    threads: int = 2


class Exporter(Protocol):
    """Delivers batches. Called by several threads at once.

    Attributes:
        destination: Where to; replaced where the credential changes.
    """

    destination: Destination

    @property
    def limits(self) -> Limits:
        """What it takes at a time."""

    @property
    def knows(self) -> str | None:
        """What it has learnt of its destination, in words for people; None for nothing yet."""

    def prepare(self) -> None:
        """Make ready to export from this thread, which may take a while. Called before its first batch."""

    def export(self, events: Sequence[bytes], deadline: float | None) -> Exported:
        """Deliver some events.

        Args:
            events: Their encoded bodies, oldest first.
            deadline: The monotonic time by which to return; None for the exporter's own patience.

        Returns:
            What became of each.
        """

    def leave(self) -> None:
        """Let go of what this thread holds. It may export again."""

    def after_fork(self) -> None:
        """Start clean in a fork's child: connections are the parent's."""
