"""The messages about events that were not delivered or not queued. They say what to do."""

from umami.models import QueueStats
from umami.settings import Settings


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
