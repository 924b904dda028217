"""Why events are dropped, changed or left over: the reasons, and what the log says of them.

The reason of a drop is a key of `QueueStats.dropped`, and the `reason` of an `ErrorReport`. The messages say
what to do.
"""

from collections.abc import Callable
from time import time
from typing import Final, NamedTuple

from pydantic_core import from_json

from umami._models import QueueStats
from umami.settings import Settings

from .exporter import UNANSWERED

QUEUE_FULL: Final = "queue_full"
TOO_LARGE: Final = "too_large"
SHUTDOWN: Final = "shutdown"
BEFORE_SEND: Final = "before_send"
UNCERTAIN: Final = "uncertain"
RETRY_LIMIT: Final = "retry_limit"
EXPIRED: Final = "expired"
INTERNAL_ERROR: Final = "internal_error"
TORN: Final = "torn"
SPOOL_DAMAGED: Final = "spool_damaged"

DROP_REASONS: Final = {
    QUEUE_FULL: "the queue was full",
    TOO_LARGE: "it is larger than `queue_bytes`, or `before_send` made it larger than `batch_bytes` allows",
    SHUTDOWN: "it was sent during or after a shutdown, or when the process was ending",
    BEFORE_SEND: "`before_send` dropped it, or failed",
    UNCERTAIN: "the server may have stored it, and `at_most_once` is set",
    UNANSWERED: "the server never answered it, while it accepted others",
    RETRY_LIMIT: "it failed as often as `retry_limit` allows",
    EXPIRED: "it was older than `max_event_age`",
    INTERNAL_ERROR: "the exporter failed with an exception",
    TORN: "its record in the spool is incomplete, because of a kill or a power failure",
    SPOOL_DAMAGED: "its part of the spool is damaged or cannot be read",
}
"""Every reason, and what it means. docs/queue.md has the same words."""


class Why(NamedTuple):
    """Why events are dropped: the reason that they are counted under, and a message for the log."""

    reason: str
    message: str


Rule = Callable[[bytes], Why | None]
"""Returns why an event must be dropped; None if it is to be sent.

Events with an equal answer are dropped and reported together: the message must not speak of a single event.
"""

OVERFLOW: Final = Why(QUEUE_FULL, "The queue was full: the oldest events were dropped to make room.")


def discard_rule(settings: Settings) -> Rule | None:
    """Return the rule for waiting events, asked before each batch is cut; None if no setting needs one."""
    age = settings.max_event_age
    if age is None:
        return None
    before = time() - age
    expired = Why(EXPIRED, f"They were older than max_event_age ({age:g} s).")
    return lambda event: expired if _happened_before(event, before) else None


def _happened_before(event: bytes, before: float) -> bool:
    """Tell whether an event happened before a time, in epoch seconds, as its JSON says.

    The event has the whole second in which it happened, so it may have happened up to a second later.
    """
    try:
        return bool(from_json(event)["payload"]["timestamp"] + 1 <= before)
    except (ValueError, LookupError, TypeError):
        return False  # `before_send` took its time away


def flush_message(what: str, seconds: float, stats: QueueStats, trouble: str | None) -> str:
    """Return the message for a flush or a shutdown that returns False.

    Args:
        what: The call.
        seconds: How long it waited.
        stats: The counts.
        trouble: The error of the last request; None if it did not fail.
    """
    return (
        f"{what} returned False after {seconds:.3g} s: {stats.pending} of {stats.submitted} events are still "
        f"queued. {_why(trouble)} "
        f"To wait longer, pass a longer timeout; without one, flush() waits until all are settled."
    )


def end_message(what: str, shutdown_timeout: float, stats: QueueStats, trouble: str | None, kept: int) -> str:
    """Return the message about the events that are left when the process ends.

    Args:
        what: What ends.
        shutdown_timeout: The setting.
        stats: The counts.
        trouble: The error of the last request; None if it did not fail.
        kept: How many of the events are kept in the spool.
    """
    in_spool = f", {kept} of them kept in the spool" if kept else ""
    left = f"{what} with {stats.pending} event{'s' * (stats.pending != 1)} not delivered{in_spool}."
    line = f"{left} {stats.delivered} of {stats.submitted} were delivered. {_why(trouble)}"
    if kept >= stats.pending:
        return f"{line} The next process that uses the spool sends them."
    return (
        f"{line} To wait until all are settled, call flush() before the end; to wait longer at the end, "
        f"raise shutdown_timeout (now {shutdown_timeout:g} s); to keep them for the next process, set spool."
    )


def full_message(settings: Settings) -> str:
    """Return the message for an event that was dropped because the queue is full."""
    hint = "" if settings.overflow == "block" else ' To have sends wait for room, set overflow="block".'
    bounds = f"queue_size={settings.queue_size}, queue_bytes={settings.queue_bytes}"
    return f"The queue is full ({bounds}): the server is down or too slow.{hint}"


def _why(trouble: str | None) -> str:
    if trouble is None:
        return "There was not enough time to send them."
    return f"The last request failed: {trouble.rstrip('.')}."
