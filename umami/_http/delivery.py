"""One call of an exporter: the requests that it makes for a batch, and what became of the batch's events."""

import logging
from collections.abc import Sequence
from typing import Final

from umami._clock import monotonic
from umami._user_agents import BROWSER_USER_AGENT
from umami.queue.exporter import UNSENT, Exported, Failure, Outcome, Status, Trouble

from . import foreign, verdicts
from .connections import Connections
from .learned import Learned
from .messages import Reply, UnansweredError, agent_header, log, logger, secrets_of, without_secrets
from .target import Target

# Umami's own account of one failed item has about 4.7 KB; twice that leaves room for a longer stack.
_ANSWER_BYTES: Final = 64 * 1024
_ANSWER_BYTES_PER_EVENT: Final = 10 * 1024
_LEAST_SECONDS: Final = 0.1
_SLOW_SECONDS: Final = 1.0
_FIRST_BYTES: Final = 80


class Delivery:
    """The delivery of one batch.

    Args:
        events: The encoded events.
        deadline: The monotonic time by which it must end; None for no other limit than the timeouts.
        target: Where the events go.
        connections: How it is reached.
        learned: What is known of the server.

    Attributes:
        unsent: The indexes of the events that no request has carried.
        outcomes: What became of the others, unless they are simply delivered.
        failure: The request that failed as a whole, if one did.
        requests: How many requests were made.
    """

    def __init__(
        self,
        events: Sequence[bytes],
        deadline: float | None,
        target: Target,
        connections: Connections,
        learned: Learned,
    ) -> None:
        self.events = events
        self.target = target
        self.learned = learned
        self.unsent: set[int] = set()
        self.outcomes: dict[int, Outcome] = {}
        self.failure: Failure | None = None
        self.requests = 0
        self._deadline = deadline
        self._connections = connections
        self._seconds = 0.0  # of the last request

    @property
    def must_stop(self) -> bool:
        """Whether to make no other request now: the time is up, or the rate is limited.

        Between the requests of one batch there is no pause, and a rate limit would refuse the second one. The
        queue paces batches.
        """
        is_late = self._deadline is not None and monotonic() >= self._deadline
        return is_late or self.learned.is_rate_limited

    @property
    def at_most_once(self) -> bool:
        """Whether no event may be sent again that may be stored."""
        return self._connections.settings().at_most_once

    def exported(self) -> Exported:
        """Return what became of the batch, without secrets."""
        if not (self.unsent or self.outcomes or self.failure):
            return Exported(requests=self.requests)  # as mostly
        secrets = self._secrets()
        outcomes = dict.fromkeys(self.unsent, UNSENT)
        for index, outcome in self.outcomes.items():
            outcomes[index] = outcome._replace(message=without_secrets(outcome.message, secrets))
        failure = self.failure
        if failure is not None:
            failure = failure._replace(message=without_secrets(failure.message, secrets))
        return Exported(outcomes, failure, self.requests)

    def post(
        self,
        url: str,
        body: bytes,
        indexes: Sequence[int],
        agent: str | None = None,
        method: str = "POST",
    ) -> Reply | Failure:
        """Make one request.

        Args:
            url: Where to.
            body: What it carries.
            indexes: The events in it.
            agent: The User-Agent of its header; None for a browser's.
            method: Another method than POST.
        """
        count = len(indexes)
        settings = self._connections.settings()
        timeout, patience = settings.timeout, settings.timeout + settings.item_timeout * count
        if self._deadline is not None:
            left = max(_LEAST_SECONDS, self._deadline - monotonic())
            patience, timeout = min(patience, left), min(timeout, left)
        header = agent_header(agent) if agent else BROWSER_USER_AGENT
        self.requests += 1
        started = monotonic()
        try:
            reply: Reply = self._connections.poster.post(
                url,
                body,
                {**self.target.headers, "User-Agent": header},
                timeout=timeout,
                patience=patience,
                limit=_ANSWER_BYTES + _ANSWER_BYTES_PER_EVENT * count,
                method=method,
            )
        except UnansweredError as error:
            self._seconds = monotonic() - started
            self._log(method, url, len(body), count, error)
            if error.status is not None and 200 <= error.status < 300:
                return Reply(error.status, {}, None)  # a body that was cut short
            if error.stored_perhaps and self._seconds >= timeout:
                self.learned.too_slow(count)
            return self.away(str(error), url, indexes, stored_perhaps=error.stored_perhaps)
        self._seconds = monotonic() - started
        self._log(method, url, len(body), count, reply)
        return reply

    def _log(self, method: str, url: str, size: int, count: int, result: Reply | UnansweredError) -> None:
        """Log a request at DEBUG: what it carried, what came of it, and through which proxy it went."""
        if not logger.isEnabledFor(logging.DEBUG):
            return
        if isinstance(result, Reply):
            outcome = f"answered {result.status}{self._connections.poster.describe(url)}"
        else:
            outcome = f"no answer: {result}"
        log(
            logging.DEBUG,
            "%s %s: %d event%s, %d bytes, %.3f s: %s",
            method,
            url,
            count,
            "s" * (count != 1),
            size,
            self._seconds,
            without_secrets(outcome, self._secrets()),
        )

    def _secrets(self) -> list[str]:
        return secrets_of(self.target.headers, self._connections.settings().headers or {})

    def away(
        self, message: str, url: str, indexes: Sequence[int], *, stored_perhaps: bool = False
    ) -> Failure:
        """Return the failure of a request whose server is not there, or not well."""
        self.learned.away()
        return Failure(f"{url}: {message}", indexes, stored_perhaps=stored_perhaps)

    def database_away(self, outcomes: Sequence[Outcome], url: str, indexes: Sequence[int]) -> Failure:
        """Return the failure of a request of which Umami says that its database took none of the events.

        Args:
            outcomes: What it says of each; `UNCERTAIN` if the database may have stored the event.
            url: What was asked.
            indexes: The events.
        """
        stored_perhaps = any(outcome.status is Status.UNCERTAIN for outcome in outcomes)
        failure = self.away(outcomes[0].message, url, indexes, stored_perhaps=stored_perhaps)
        return failure._replace(blameless=not stored_perhaps)

    def foreign(self, reply: Reply, url: str, indexes: Sequence[int]) -> Failure:
        """Return the failure of a request with an error answer that is not Umami's: a proxy's, say."""
        learned = self.learned
        learned.in_trouble = True
        failure = foreign.failure(reply, url, indexes, just_accepted=learned.just_accepted)
        if failure.trouble is Trouble.THROTTLED:
            learned.rate_limited()
        elif failure.trouble is Trouble.AWAY:
            learned.away()
            # A gateway that answers 502 at once has found no server; one that waited found it too slow.
            if failure.stored_perhaps and (reply.status != 502 or self._seconds >= _SLOW_SECONDS):
                learned.too_slow(len(indexes))
        return failure

    def unclear(
        self, reply: Reply, url: str, indexes: Sequence[int], *, whole: bool = False
    ) -> Failure | None:
        """Judge a 2xx that is not of Umami's form; return None if it counts as success.

        A page of HTML comes from another server. Anything else was accepted by something, which may have
        stored the events. The first such answer is taken for a damaged one of Umami's, and the events are
        sent again, a single one first. If that is answered so too, this server always answers so, and its
        events count as delivered.

        Args:
            reply: The answer.
            url: What was asked.
            indexes: The events that the request carried.
            whole: Whether the answer is surely not a damaged one.
        """
        status, body = reply.status, reply.body
        if body is not None and verdicts.is_page(body):
            message = f"answered {status} with an HTML page, not as Umami does: is the URL right?"
            return self.away(message, url, indexes)
        if body is None:
            shown = "a body that is too long or incomplete"
        else:
            shown = repr(body[:_FIRST_BYTES])[1:] if body else "nothing"
        if self.learned.answers_unclearly or whole:
            self.learned.warn(
                f"{url} answered {status} with {shown}, not as Umami does. Its events count as delivered: "
                "check that they are stored, and that the URL is right."
            )
            return None
        message = f"answered {status} with {shown}, not as Umami does: is the URL right?"
        failure = self.away(message, url, indexes, stored_perhaps=True)
        self.learned.answers_unclearly = bool(indexes)
        return failure
