"""Why events are dropped: the reasons, and which waiting events are dropped because of a setting.

A reason is a key of `QueueStats.dropped`, and the `reason` of an `ErrorReport`.
"""

from collections.abc import Callable
from time import time
from typing import Final, NamedTuple

from pydantic_core import from_json

from umami.settings import Settings

QUEUE_FULL: Final = "queue_full"
TOO_LARGE: Final = "too_large"
SHUTDOWN: Final = "shutdown"
BEFORE_SEND: Final = "before_send"
UNCERTAIN: Final = "uncertain"
UNANSWERED: Final = "unanswered"
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
"""Every reason, and what it means."""


class Why(NamedTuple):
    """Why events are dropped: the reason that they are counted under, and a message for the log."""

    reason: str
    message: str


Rule = Callable[[bytes], Why | None]
"""Returns why an event must be dropped; None if it is to be sent."""

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
    """Tell whether an event happened before a time, in epoch seconds, as its JSON says."""
    try:
        return bool(from_json(event)["payload"]["timestamp"] < before)
    except (ValueError, LookupError, TypeError):
        return False  # `before_send` took its time away
