"""The reasons for drops: the keys of `QueueStats.dropped`, and the `reason` of an `ErrorReport`."""

from typing import Final

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
