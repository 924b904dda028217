"""The interface between the queue and a destination: an exporter delivers a batch and returns the result.

The queue cuts batches, retries, backs off, isolates events that fail alone, and counts. An exporter makes
requests and reads answers. Neither knows how the other works.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple

UNANSWERED: Final = "unanswered"
"""The reason of a failure without any answer."""


class Status(Enum):
    """What became of one event."""

    DELIVERED = "delivered"
    INCOMPLETE = "incomplete"  # stored, but not all of it
    REJECTED = "rejected"  # refused for good
    RETRY = "retry"  # not stored, for a reason that will pass
    DOUBTFUL = "doubtful"  # not stored, for a reason that may lie in the event
    UNCERTAIN = "uncertain"  # may be stored
    UNSENT = "unsent"  # not tried


_SETTLED: Final = frozenset((Status.DELIVERED, Status.INCOMPLETE, Status.REJECTED))


class Outcome(NamedTuple):
    """The outcome of one event.

    Attributes:
        status: Its status.
        reason: A short name under which it is counted, such as `bot`.
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
        indexes: The indexes of the events in the request.
        trouble: Why it failed.
        reason: A short name under which an event is counted if it always fails like this.
        stored_perhaps: Whether the destination may have stored the events anyway.
        retry_after: The seconds that the destination asked to wait; None if it did not.
        decisive: Whether one refusal of an event alone, while others are accepted, is final.
        blameless: Whether no event can be the cause, for example because the destination's database is down.
            The events are then kept, even if others are accepted.
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
    """The result of a batch.

    Attributes:
        outcomes: The outcomes of events, by index. Those neither here nor in `failure` were delivered.
        failure: The request that failed as a whole, if any. No other request was made after it.
        requests: The number of requests that were made.

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

    def settled(self, events: Sequence[bytes]) -> list[bytes]:
        """Return the events of the batch that are not to be sent again. For exporters around another one.

        Args:
            events: The events of the batch.

        Returns:
            Those that were delivered or rejected.
        """
        others = {index for index, outcome in self.outcomes.items() if outcome.status not in _SETTLED}
        if self.failure is not None:
            others.update(self.failure.indexes)
        return [event for index, event in enumerate(events) if index not in others]


def _is_failure(failure: object) -> bool:
    return (
        isinstance(failure, Failure)
        and isinstance(failure.message, str)
        and isinstance(failure.trouble, Trouble)
        and isinstance(failure.reason, str)
        and isinstance(failure.retry_after, (int, float, type(None)))
    )


class Limits(NamedTuple):
    """The limits of an exporter.

    Attributes:
        events: The maximum number of events in a batch.
        bytes: The maximum size of the events in a batch, with one byte between two events.
        threads: The number of threads that are useful. The setting `senders` overrides it.
    """

    events: int = 500
    bytes: int = 10 * 1024 * 1024
    threads: int = 2


class Exporter(ABC):
    r"""Delivers batches of encoded events. Called by several threads at once.

    Subclass it, set `name`, and write `export`. The rest has defaults.

    Attributes:
        name: The name of the destination. Events in a spool go only to an exporter with the same name.

    Example:
        ```python
        class FileExporter(umami.exporters.Exporter):
            name = "file"

            def export(self, events, deadline):
                try:
                    with open("events.jsonl", "ab") as file:
                        file.write(b"".join(event + b"\n" for event in events))
                except OSError as error:
                    failure = umami.exporters.Failure(str(error), range(len(events)), blameless=True)
                    return umami.exporters.Exported(failure=failure)
                return umami.exporters.Exported()
        ```
    """

    name: str

    @abstractmethod
    def export(self, events: Sequence[bytes], deadline: float | None) -> Exported:
        """Deliver some events.

        If it raises an exception, the whole batch is dropped, with the reason `internal_error`. If the events
        may succeed later, return a `Failure`.

        Args:
            events: Their JSON, oldest first. No event has a line break in it.
            deadline: The `time.monotonic()` by which to return; None for the exporter's own timeout.

        Returns:
            The result of the batch.
        """

    @property
    def limits(self) -> Limits:
        """Its limits, which may change.

        The queue is locked: return at once, and take no lock of `export`'s.
        """
        return Limits()

    def describe(self) -> str | None:
        """Return what is known about the destination, as text for people; None if nothing is known yet.

        The queue is locked: return at once, and take no lock of `export`'s.
        """
        return None

    def prepare(self) -> None:  # noqa: B027 - not every exporter needs it, and so the next ones
        """Prepare to export in this thread. Called before its first batch; it may take some time."""

    def leave(self) -> None:  # noqa: B027
        """Release the resources of this thread, such as connections. It may export again later."""

    def after_fork(self) -> None:  # noqa: B027
        """Drop what belongs to the parent, such as connections. Called in the child process after a fork."""


def checked(exported: object, count: int) -> Exported:
    """Return what an exporter returned for a batch of `count` events.

    Raises:
        TypeError: It is not an `Exported`.
        IndexError: It names an event twice, or an index that is not in the batch.
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
