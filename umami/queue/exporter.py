"""The seam between the queue and where events go: an exporter delivers a batch and says what became of it.

The queue cuts batches, retries, backs off, isolates an event that fails alone, and keeps the ledger. An
exporter makes requests and reads answers. Neither knows how the other works.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple

from .reasons import UNANSWERED


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
    """What became of one event.

    Attributes:
        status: What became of it.
        reason: The short name that it is counted under, such as `bot`.
        message: What happened, in words.
    """

    status: Status
    reason: str = ""
    message: str = ""


DELIVERED: Final = Outcome(Status.DELIVERED)
UNSENT: Final = Outcome(Status.UNSENT)


class Trouble(Enum):
    """Why a whole request failed."""

    AWAY = "away"  # the destination is not there, or not well: wait, then try one event
    REFUSED = "refused"  # something refused the request, perhaps for one of its events: try half of it
    THROTTLED = "throttled"  # too many requests: send them less often, but no smaller


class Failure(NamedTuple):
    """A request that failed as a whole.

    Attributes:
        message: What happened, in words.
        indexes: The indexes of the events that it carried.
        trouble: Why it failed.
        reason: The short name that an event is counted under if it always fails like this.
        stored_perhaps: Whether the destination may have stored the events all the same.
        retry_after: The seconds that the destination asked to wait; None if it did not.
        decisive: Whether one refusal of an event alone, while others are accepted, is final.
        blameless: Whether no event can be the cause, such as when the destination says that its database is
            away. The events are then kept, whatever becomes of others.
    """

    message: str
    indexes: Sequence[int]
    trouble: Trouble = Trouble.AWAY
    reason: str = UNANSWERED
    stored_perhaps: bool = False
    retry_after: float | None = None
    decisive: bool = False
    blameless: bool = False


@dataclass(frozen=True)
class Exported:
    """What became of a batch.

    Attributes:
        outcomes: What became of events, by index. One that is neither here nor in `failure` is delivered.
        failure: The request that failed as a whole, if one did. No other was made after it.
        requests: How many requests were made.

    Raises:
        TypeError: An outcome, the failure or the number of requests is not of the right type.
    """

    outcomes: Mapping[int, Outcome] = field(default_factory=lambda: MappingProxyType({}))
    failure: Failure | None = None
    requests: int = 1

    def __post_init__(self) -> None:
        if type(self.requests) is not int or self.requests < 0:
            raise TypeError(f"requests must be a number of requests, got {self.requests!r}")
        if self.failure is not None and not _is_failure(self.failure):
            raise TypeError(
                f"failure must be None or a Failure with values of its types, got {self.failure!r}"
            )
        for outcome in self.outcomes.values():
            if not isinstance(outcome, Outcome) or not isinstance(outcome.status, Status):
                raise TypeError(f"an outcome must be an Outcome with a Status, got {outcome!r}")
            if not isinstance(outcome.reason, str) or not isinstance(outcome.message, str):
                raise TypeError(f"an outcome's reason and message must be strings, got {outcome!r}")


def _is_failure(failure: object) -> bool:
    return (
        isinstance(failure, Failure)
        and isinstance(failure.message, str)
        and isinstance(failure.trouble, Trouble)
        and isinstance(failure.reason, str)
        and isinstance(failure.retry_after, (int, float, type(None)))
    )


class Limits(NamedTuple):
    """What an exporter takes at a time.

    Attributes:
        events: The most events of a batch.
        bytes: The most bytes of a batch's events, with one byte between two.
        threads: The most threads that are of use, unless the setting `senders` says otherwise.
    """

    events: int = 500
    bytes: int = 10 * 1024 * 1024
    threads: int = 2


class Exporter(ABC):
    r"""Delivers batches of encoded events. Called by several threads at once.

    Subclass it, set `name`, and write `export`. The rest has defaults.

    Attributes:
        name: Where it delivers to. A spool notes it: stored events go only to the exporter of this name.

    Example:
        ```python
        class FileExporter(umami.exporters.Exporter):
            name = "file"

            def export(self, events, deadline):
                try:
                    with open("events.jsonl", "ab") as file:
                        file.write(b"".join(event + b"\n" for event in events))
                except OSError as error:
                    failure = umami.exporters.Failure(str(error), range(len(events)))
                    return umami.exporters.Exported(failure=failure)
                return umami.exporters.Exported()
        ```
    """

    name: str

    @abstractmethod
    def export(self, events: Sequence[bytes], deadline: float | None) -> Exported:
        """Deliver some events.

        If it raises, its whole batch is dropped, with the reason `internal_error`. Return a `Failure` for
        what may succeed later.

        Args:
            events: Their JSON, oldest first. No event has a line break in it.
            deadline: The `time.monotonic()` by which to return; None for the exporter's own timeout.

        Returns:
            What became of each.
        """

    @property
    def limits(self) -> Limits:
        """What it takes at a time. May change as the exporter learns."""
        return Limits()

    def describe(self) -> str | None:
        """Return what it has learnt of its destination, for people to read; None for nothing yet."""
        return None

    def prepare(self) -> None:  # noqa: B027 - not every exporter needs it, and so the next ones
        """Get ready to export from this thread. Called before its first batch; may take a while."""

    def leave(self) -> None:  # noqa: B027
        """Release what this thread holds, such as connections. It may export again."""

    def after_fork(self) -> None:  # noqa: B027
        """Start clean in a fork's child: connections are the parent's."""


def checked(exported: object, count: int) -> Exported:
    """Return what an exporter returned for a batch of `count` events.

    Raises:
        TypeError: It is not an `Exported`.
        IndexError: It names an event twice, or one that the batch has not.
    """
    if not isinstance(exported, Exported):
        raise TypeError(f"export() must return an Exported, got {repr(exported)[:200]}")
    if exported.failure is None and not exported.outcomes:
        return exported  # as mostly
    failed = () if exported.failure is None else exported.failure.indexes
    if len(set(failed)) < len(failed) or not {*failed, *exported.outcomes} <= set(range(count)):
        shown = repr([*failed, *exported.outcomes])[:200]
        raise IndexError(f"export() may name each of its {count} events once, by its index; got {shown}")
    return exported
