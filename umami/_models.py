"""The models of the queue. Those of queries, which take a while to import, are in `models`."""

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """A record of Umami's. Its validator is built at the first use.

    Errors do not show the value that was not valid, which may be a token.
    """

    model_config = ConfigDict(defer_build=True, hide_input_in_errors=True)


class QueueStats(Model):
    """The counts of events at one instant.

    They always balance: `submitted == delivered + rejected + sum(dropped.values()) + pending`.

    Attributes:
        submitted: Events that sends put into the queue, or tried to.
        delivered: Events that the server stored.
        rejected: Events that the server refused for good, or dropped as a bot's.
        dropped: Events that the client gave up, by reason: `queue_full`, `too_large`, `before_send`,
            `shutdown`, `uncertain`, `unanswered`, `retry_limit`, `expired`, `internal_error`, `torn`,
            `spool_damaged`.
        pending: Events in the queue or in a request.
        pending_bytes: The encoded size of the pending events.
        retries: Requests with events that had been sent before.
        requests: Requests made to deliver events.
        repaired: Fields that were changed to fit Umami's limits, by kind.
        server: What the answers show about the server; None before the first.
        last_error: The last error of a delivery, in words, or None.
    """

    model_config = ConfigDict(frozen=True)

    submitted: int = 0
    delivered: int = 0
    rejected: int = 0
    dropped: dict[str, int] = {}
    pending: int = 0
    pending_bytes: int = 0
    retries: int = 0
    requests: int = 0
    repaired: dict[str, int] = {}
    server: str | None = None
    last_error: str | None = None


class ErrorReport(Model):
    """What `on_error` is called with: events that were rejected, dropped, or not stored completely.

    Attributes:
        kind: `rejected` by the server, `dropped` by this client, or `incomplete`: stored by the server, but
            without custom data.
        reason: The reason that `QueueStats.dropped` counts it under, or the server's status or error code.
        message: What happened, with the server's own words.
        count: The number of events.
        events: The encoded bodies of the first of them.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    reason: str
    message: str
    count: int
    events: tuple[bytes, ...] = ()
