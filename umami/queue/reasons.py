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


WARNINGS: Final = {
    "data_commerce": "custom_data has the key `commerce`, which newer Umami servers reserve.",
    "formula_event_name": "An event_name begins with =, +, -, @, tab or return: Umami 3.3 refuses it.",
    "formula_tag": "A tag begins with =, +, -, @, tab or return: Umami 3.3 refuses it.",
    "ip_address_list": (
        "ip_address is a list, as in X-Forwarded-For, and visitors can forge parts of it. The last public "
        "address in it is sent. Find out the visitor's address with umami's middleware and its setting "
        "trusted_proxies, or with your framework's proxy middleware (uvicorn's --proxy-headers, ProxyFix)."
    ),
    "website_id": (
        "website_id {} is not a UUID, and Umami will reject its events. Copy the website's id from Umami's "
        "settings. (Ids of tests are sent as they are.)"
    ),
}
"""What is logged once, with a value in it or without."""

REPAIRS: Final = {
    "browser": "a browser over 20 characters was omitted",
    "custom_data_array": "an array in custom_data was cut to 500 characters",
    "custom_data_date": "an invalid date in custom_data was sent with a space in place of its T",
    "custom_data_key": "a key in custom_data was cut to 500 characters",
    "custom_data_text": "a text in custom_data was cut to 500 characters",
    "device": "a device over 20 characters was omitted",
    "distinct_id": "a distinct_id over 50 characters was replaced by its digest",
    "ip_address": "ip_address is not a valid IP address and was omitted",
    "language": "a language was cut to its first tag",
    "large_number": "a number of 1e15 or more in custom_data was sent as text",
    "not_finite": "NaN or infinity in custom_data was sent as null",
    "os": "an os over 20 characters was omitted",
    "referrer": "a referrer is not a valid URL and was omitted, or was too long and was cut",
    "screen": "a screen over 11 characters was omitted",
    "title": "U+0000 in a title was replaced, or a title was too long and was cut",
    "ua": "a ua was too long and was cut",
    "unprintable": "U+0000 or a lone surrogate was replaced",
    "url": "a url was percent-encoded, or it or a campaign value in it was too long and was cut",
}
"""What each key of `QueueStats.repaired` means."""


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
    return f"The queue is full ({bounds}): the server is away, or takes events too slowly.{hint}"


def _why(trouble: str | None) -> str:
    if trouble is None:
        return "There was not enough time to send them."
    return f"The last request failed: {trouble.rstrip('.')}."
