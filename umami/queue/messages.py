"""What the log says: of fields that were made to fit, and of events that were not delivered or not queued.

The messages say what to do.
"""

from typing import Final

from umami.models import QueueStats
from umami.settings import Settings

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


def of_flush(what: str, seconds: float, stats: QueueStats, trouble: str | None) -> str:
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


def of_end(what: str, shutdown_timeout: float, stats: QueueStats, trouble: str | None, kept: int) -> str:
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


def of_full(settings: Settings) -> str:
    """Return the message for an event that was dropped because the queue is full."""
    hint = "" if settings.overflow == "block" else ' To have sends wait for room, set overflow="block".'
    bounds = f"queue_size={settings.queue_size}, queue_bytes={settings.queue_bytes}"
    return f"The queue is full ({bounds}): the server is away, or takes events too slowly.{hint}"


def _why(trouble: str | None) -> str:
    if trouble is None:
        return "There was not enough time to send them."
    return f"The last request failed: {trouble.rstrip('.')}."
