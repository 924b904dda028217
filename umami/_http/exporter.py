"""Delivers batches to one Umami server, of any generation, and learns from its answers which that is.

A batch goes to `/api/batch` in one request where the server has that route, else one event at a time to
`/api/send`. Umami drops what a bot's User-Agent sends, and in a batch leaves no trace of which events those
were; so events of a User-Agent that is not surely a browser's go apart, such that the answer tells.
"""

import logging
import re
import time
from collections.abc import Iterator, Sequence
from typing import Final

from umami._user_agents import is_surely_browser
from umami.queue.destination import Destination
from umami.queue.exporter import UNSENT, Exported, Failure, Limits, Outcome, Status, Trouble

from . import foreign, verdicts
from .connections import Connections
from .generations import NOT_STORED, Generation, adapted, may_name_agent, user_agent
from .messages import Reply, UnansweredError, agent_header, without_secrets

MOST_EVENTS: Final = 500
"""The most events that Umami takes in a batch, since 3.3."""

# Umami's own account of one failed item has about 4.7 KB; twice that leaves room for a longer stack.
_ANSWER_BYTES: Final = 64 * 1024
_ANSWER_BYTES_PER_EVENT: Final = 10 * 1024
_BODY_BYTES: Final = 10 * 1024 * 1024
_MOST_VERDICTS: Final = 2048
_BATCH_AGAIN_SECONDS: Final = 600.0
_LARGER_AGAIN_SECONDS: Final = 600.0
_WARN_AGAIN_SECONDS: Final = 60.0
_JUST_NOW_SECONDS: Final = 2.0
_LIMITED_SECONDS: Final = 60.0
_SLOW_SECONDS: Final = 1.0
_LEAST_SECONDS: Final = 0.1
_FIRST_BYTES: Final = 80
_TOKEN: Final = re.compile(rb"\s*eyJ[\w-]+\.[\w-]+\.[\w-]+\s*")
# What every version of isbot takes for a bot's.
_BOT: Final = re.compile(r"googlebot|bingbot|crawler|spider|^curl/|^python-requests/", re.IGNORECASE)

_logger: Final = logging.getLogger("umami")


class UmamiExporter:
    """Delivers to one Umami server.

    Args:
        destination: Where it is.
        connections: How it is reached.
        generation: What kind of server it is, if that is known.

    Attributes:
        destination: May be replaced by one with other headers.
    """

    def __init__(
        self,
        destination: Destination,
        connections: Connections,
        generation: Generation = Generation.UNKNOWN,
    ) -> None:
        self.destination = destination
        self._connections = connections
        self._given = generation
        self._known = generation  # to be shown; `_generation` is what the answers since the last outage say
        self._accepted_at = -_JUST_NOW_SECONDS
        self._in_trouble = False  # whether the last request failed
        self._unclear = False
        self._fell_back = False
        self._limited_until = 0.0
        self._most_events = MOST_EVENTS
        self._most_events_at = 0.0
        self._said: dict[str, float] = {}
        self._forget()

    def _forget(self) -> None:
        """Know nothing of the server: after an outage it may be another, or set otherwise."""
        self._generation = self._given
        self._asked = False
        self._batch_works = False
        self._single_until = 0.0
        self._most_bytes = _BODY_BYTES
        self._accepted_bytes = 0
        self._checks_bots = True
        self._bots: dict[str, bool] = {}

    @property
    def limits(self) -> Limits:
        """What goes into one request; one event where there is no batch route."""
        if not self._batches:
            return Limits(1, _BODY_BYTES, threads=8)
        quiet = time.monotonic() - self._most_events_at
        doubled = min(10, int(quiet / _LARGER_AGAIN_SECONDS))
        return Limits(min(MOST_EVENTS, self._most_events << doubled), self._most_bytes)

    @property
    def knows(self) -> str | None:
        """What kind of server it is."""
        if self._known is Generation.UNKNOWN:
            return None
        batches = self._batches and self._known >= Generation.V2_17
        return f"{self._known}, {'in batches' if batches else 'one event a request'}"

    @property
    def _batches(self) -> bool:
        return self.destination.batch_url is not None and time.monotonic() >= self._single_until

    def prepare(self) -> None:
        """Build this thread's connections."""
        self._connections.poster.prepare(self.destination.send_url)

    def leave(self) -> None:
        """Close this thread's connections."""
        self._connections.leave()

    def after_fork(self) -> None:
        """Use connections of this process."""
        self._connections.after_fork()

    def export(self, events: Sequence[bytes], deadline: float | None) -> Exported:
        """Deliver events, in as few requests as let each one's fate be known."""
        work = _Work(events, deadline)
        batches = self._batches
        for indexes, agent in self._requests(events):
            work.left.difference_update(indexes)
            if batches:
                work.failure = self._post_batch(work, indexes, agent)
            else:
                work.failure = self._post_one(work, indexes[0])
            if work.failure is not None or self._batches is not batches or self._must_stop(work):
                break
        return work.done(self._secrets())

    def _must_stop(self, work: "_Work") -> bool:
        """Whether no other request is to be made of a batch now: its time is up, or the rate is limited.

        Between the requests of one batch there is no pause, and a rate limit would refuse the second one. The
        queue paces batches.
        """
        return work.is_late() or time.monotonic() < self._limited_until

    def _requests(self, events: Sequence[bytes]) -> Iterator[tuple[Sequence[int], str | None]]:
        """Yield the events of each request by their indexes, and their User-Agent if it is on trial."""
        if not self._batches:
            yield from (([index], None) for index in range(len(events)))
            return
        if not (self._checks_bots and any(map(may_name_agent, events))):
            yield range(len(events)), None  # as mostly
            return
        sure: list[int] = []
        bots: list[int] = []
        unsure: dict[str, list[int]] = {}
        for index, event in enumerate(events):
            agent = user_agent(event)
            if agent is None or is_surely_browser(agent) or self._bots.get(agent) is False:
                sure.append(index)
            elif agent in self._bots:
                bots.append(index)
            else:
                unsure.setdefault(agent, []).append(index)
        if sure:
            yield sure, None
        if bots:
            yield bots, ""
        yield from ((indexes, agent) for agent, indexes in unsure.items())

    # Many events in one request.

    def _post_batch(self, work: "_Work", indexes: Sequence[int], agent: str | None) -> Failure | None:
        """Post some events.

        Args:
            work: The batch that they are of.
            indexes: Which they are.
            agent: None if their User-Agents are browsers'; if not, the one that they have in common, or blank
                if each has one that the server has taken for a bot's before.
        """
        if agent is not None and not self._answers_tell(work):
            return self._post_each(work, indexes)
        if work.requests and self._must_stop(work):
            work.left.update(indexes)
            return None
        url = self.destination.batch_url or ""
        events = (
            work.events if len(indexes) == len(work.events) else [work.events[index] for index in indexes]
        )
        body = b"[" + b",".join(events) + b"]"
        reply = self._post(work, url, body, indexes)
        if isinstance(reply, Failure):
            return reply
        text = reply.body or b""
        if 200 <= reply.status < 300:
            self._accepted_bytes = max(self._accepted_bytes, len(body))
            return self._read_batch(work, reply, url, indexes, agent)
        is_unexplained = reply.status == 500 and verdicts.is_server_error(text)
        if reply.status in (404, 405):
            if not self._batch_works or len(indexes) == 1:
                return self._post_first(work, reply, url, indexes)
        elif reply.status == 500 and (
            verdicts.is_broken_batch(text) or (is_unexplained and not self._answers_tell(work))
        ):
            return self._post_first(work, reply, url, indexes)
        own = verdicts.of_send(reply.status, text, self._generation)
        if own is None:
            if reply.status == 413:
                self._learn_size(len(body), len(indexes))
            return self._foreign(work, reply, url, indexes)
        if own.status in (Status.RETRY, Status.UNCERTAIN):
            return self._away(own.message, url, indexes, stored_perhaps=own.status is Status.UNCERTAIN)
        if len(indexes) > 1:  # one of them may be the cause
            return Failure(
                f"{url} answered {own.message}",
                indexes,
                Trouble.REFUSED,
                reason=own.reason,
                stored_perhaps=is_unexplained,  # those before the cause
                decisive=True,
            )
        self._accepted()
        work.outcomes[indexes[0]] = own
        return None

    def _post_each(self, work: "_Work", indexes: Sequence[int]) -> Failure | None:
        """Post events one by one, where a batch's answer would not tell which were dropped as bots'."""
        for position, index in enumerate(indexes):
            if work.requests and self._must_stop(work):
                work.left.update(indexes[position:])
                return None
            failure = self._post_one(work, index)
            if failure is not None:
                work.left.update(indexes[position + 1 :])
                return failure
        return None

    def _read_batch(
        self, work: "_Work", reply: Reply, url: str, indexes: Sequence[int], agent: str | None
    ) -> Failure | None:
        answer = verdicts.decoded(reply.body or b"")
        details = answer.get("details") if isinstance(answer, dict) else None
        if (
            not isinstance(details, list)
            or answer.get("size") != len(indexes)
            or answer.get("errors") != len(details)
        ):
            return self._unclear_answer(reply.status, reply.body, url, indexes)
        outcomes: dict[int, Outcome] = {}
        for detail in details:
            position = detail.get("index") if isinstance(detail, dict) else None
            if isinstance(position, int) and 0 <= position < len(indexes):
                outcomes[indexes[position]] = verdicts.of_item(detail.get("response"))
        trouble = {outcome.status for outcome in outcomes.values()}
        if len(outcomes) == len(indexes) and trouble <= {Status.RETRY, Status.UNCERTAIN}:
            first = outcomes[indexes[0]].message
            return self._away(first, url, indexes, stored_perhaps=Status.UNCERTAIN in trouble)
        if self._fell_back:
            self._fell_back = False
            _logger.warning("%s works again: events go there in batches.", url)
        self._batch_works = True
        self._accepted(Generation.V3_0_2 if "cache" in answer else Generation.V2_17)
        kept = [index for index in indexes if index not in outcomes] if outcomes else indexes
        if kept and "cache" not in answer and self._answers_tell(work):
            # The key is there whenever an item was stored.
            outcomes.update(dict.fromkeys(kept, verdicts.BOT))
            self._judge(agent, is_bot=True)
        elif kept:
            self._judge(agent, is_bot=False)
        work.outcomes.update(outcomes)
        return None

    def _answers_tell(self, work: "_Work") -> bool:
        """Whether the answer to a batch shows that all its events were dropped as bots'; ask if need be."""
        if not self._asked and self._generation < Generation.V3_0_2:
            reply = self._post(work, self.destination.batch_url or "", b"[]", [])
            answer = verdicts.decoded(reply.body or b"") if isinstance(reply, Reply) else None
            if isinstance(answer, dict) and answer.get("size") == 0:
                self._asked = True
                self._learn(Generation.V3_0_2 if "cache" in answer else Generation.V2_17)
        return self._generation >= Generation.V3_0_2

    def _judge(self, agent: str | None, *, is_bot: bool) -> None:
        """Remember what the server makes of a User-Agent."""
        if agent is None:
            return
        if not agent:  # several that it took for bots' before
            if not is_bot:
                self._bots.clear()
            return
        if len(self._bots) >= _MOST_VERDICTS:
            self._bots.clear()
        self._bots[agent] = is_bot
        if not is_bot and _BOT.search(agent):
            self._checks_bots = False  # DISABLE_BOT_CHECK is set

    # One event a request.

    def _post_first(
        self, work: "_Work", reply: Reply, batch_url: str, indexes: Sequence[int]
    ) -> Failure | None:
        """Post the first of a batch's events alone: the answer tells whether only the batch route fails."""
        first, *others = indexes
        work.left.update(others)
        was_away = self._in_trouble
        self._single_until = time.monotonic() + _BATCH_AGAIN_SECONDS
        if self._must_stop(work):
            work.left.add(first)
            return None  # the answer to the next request decides
        failure = self._post_one(work, first)
        if failure is None and was_away and reply.status in (404, 405):
            # The server may have come back between the two answers.
            again = self._post(work, batch_url, b"[]", [])
            if isinstance(again, Failure) or again.status not in (404, 405):
                self._single_until = 0.0
                return None
        if failure is not None and failure.trouble is not Trouble.THROTTLED:
            self._single_until = 0.0
        if failure is None:
            if not self._fell_back:
                self._fell_back = True
                _logger.warning(
                    "%s answered %d: the server has no batch route that works. Events go one by one to %s. "
                    "The batch route is tried again every %d minutes.",
                    batch_url,
                    reply.status,
                    self.destination.send_url,
                    _BATCH_AGAIN_SECONDS // 60,
                )
        elif reply.status == 404 and failure.reason == "404" and self._is_too_old(work):
            failure = self._post_one(work, first)  # a server that restarts may have come up between the two
            if failure is None or failure.reason != "404":
                return failure
            work.left.difference_update(others)
            message = (
                f"{self.destination.send_url} answered 404 and the server is an Umami: it is older than 2.0, "
                "which this client cannot send to. Upgrade the server."
            )
            work.outcomes.update(dict.fromkeys(indexes, Outcome(Status.REJECTED, "too_old", message)))
            return None
        return failure

    def _is_too_old(self, work: "_Work") -> bool:
        """Tell an Umami that has no route for events from a proxy that has no server behind it."""
        url = f"{self.destination.send_url.removesuffix('/send')}/heartbeat"
        reply = self._post(work, url, b"", [], method="GET")
        return (
            isinstance(reply, Reply)
            and reply.status == 200
            and verdicts.decoded(reply.body or b"") in ({}, {"ok": True})
        )

    def _post_one(self, work: "_Work", index: int) -> Failure | None:
        url = self.destination.send_url
        event, agent = adapted(work.events[index], self._generation)
        reply = self._post(work, url, event, [index], agent)
        if isinstance(reply, Failure):
            return reply
        text = reply.body or b""
        if 200 <= reply.status < 300:
            return self._read_one(work, reply, url, index, agent)
        own = verdicts.of_send(reply.status, text, self._generation)
        if own is None:
            return self._foreign(work, reply, url, [index])
        if own.status in (Status.RETRY, Status.UNCERTAIN):
            return self._away(own.message, url, [index], stored_perhaps=own.status is Status.UNCERTAIN)
        self._accepted()
        work.outcomes[index] = own
        return None

    def _read_one(
        self, work: "_Work", reply: Reply, url: str, index: int, agent: str | None
    ) -> Failure | None:
        text = reply.body or b""
        if _TOKEN.fullmatch(text):
            self._accepted(Generation.TEXT)
            return None
        answer = verdicts.decoded(text)
        is_bot = isinstance(answer, dict) and (
            "beep" in answer or (not answer and self._generation is Generation.TEXT)
        )
        if is_bot:
            self._accepted()
            work.outcomes[index] = verdicts.BOT
        elif isinstance(answer, dict) and "sessionId" in answer:
            self._accepted(Generation.V2_17)
        elif isinstance(answer, dict) and "cache" in answer:
            self._accepted(Generation.V2_16)
        else:
            return self._unclear_answer(reply.status, reply.body, url, [index])
        if agent is not None and not is_surely_browser(agent):
            self._judge(agent, is_bot=is_bot)
        return None

    # What goes on the wire, and answers that are not Umami's.

    def _post(
        self,
        work: "_Work",
        url: str,
        body: bytes,
        indexes: Sequence[int],
        agent: str | None = None,
        method: str = "POST",
    ) -> Reply | Failure:
        """Make one request."""
        count = len(indexes)
        connections = self._connections
        patience = connections.timeout + connections.item_timeout * count
        timeout = connections.timeout
        if work.deadline is not None:
            left = max(_LEAST_SECONDS, work.deadline - time.monotonic())
            patience, timeout = min(patience, left), min(timeout, left)
        header = agent_header(agent) if agent else connections.browser
        work.requests += 1
        started = time.monotonic()
        try:
            reply: Reply = connections.poster.post(
                url,
                body,
                {**self.destination.headers, "User-Agent": header},
                timeout=timeout,
                patience=patience,
                limit=_ANSWER_BYTES + _ANSWER_BYTES_PER_EVENT * count,
                method=method,
            )
        except UnansweredError as error:
            work.seconds = time.monotonic() - started
            _logger.debug(
                "%s %s: %d events, no answer in %.3f s: %s", method, url, count, work.seconds, error
            )
            if error.status is not None and 200 <= error.status < 300:
                return Reply(error.status, {}, None)  # a body that was cut short
            if error.stored_perhaps and work.seconds >= timeout:
                self._was_too_slow(count)
            return self._away(str(error), url, indexes, stored_perhaps=error.stored_perhaps)
        work.seconds = time.monotonic() - started
        _logger.debug(
            "%s %s: %d events, %d bytes, answered %d in %.3f s",
            method,
            url,
            count,
            len(body),
            reply.status,
            work.seconds,
        )
        return reply

    def _accepted(self, generation: Generation = Generation.UNKNOWN) -> None:
        """An answer was Umami's."""
        self._accepted_at = time.monotonic()
        self._in_trouble = self._unclear = False
        self._learn(generation)

    def _learn(self, generation: Generation) -> None:
        if self._given is not Generation.UNKNOWN or generation <= self._generation:
            return
        self._generation = generation
        if generation is self._known or (generation is Generation.V2_17 and self._known > generation):
            return  # to be told apart by a batch's answer
        self._known = generation
        _logger.info("%s is %s.", self.destination.send_url, generation)
        if generation in NOT_STORED:
            self._warn(
                f"{self.destination.send_url} is {generation}: {NOT_STORED[generation]}. "
                "Upgrade the server to keep them."
            )

    def _away(
        self, message: str, url: str, indexes: Sequence[int], *, stored_perhaps: bool = False
    ) -> Failure:
        """The server is not there, or not well."""
        self._in_trouble = True
        self._forget()
        return Failure(f"{url}: {message}", indexes, stored_perhaps=stored_perhaps)

    def _foreign(self, work: "_Work", reply: Reply, url: str, indexes: Sequence[int]) -> Failure:
        """Something between this client and Umami answered, in an error's place."""
        self._in_trouble = True
        just_accepted = time.monotonic() - self._accepted_at < _JUST_NOW_SECONDS
        failure = foreign.failure(reply, url, indexes, just_accepted=just_accepted)
        if failure.trouble is Trouble.THROTTLED:
            self._limited_until = time.monotonic() + _LIMITED_SECONDS
        elif failure.trouble is Trouble.AWAY:
            self._forget()
            # A gateway that answers 502 at once has found no server; one that waited found it too slow.
            if failure.stored_perhaps and (reply.status != 502 or work.seconds >= _SLOW_SECONDS):
                self._was_too_slow(len(indexes))
        return failure

    def _unclear_answer(
        self, status: int, body: bytes | None, url: str, indexes: Sequence[int]
    ) -> Failure | None:
        """Judge a 2xx that is not Umami's.

        A page of HTML is another's. Anything else was accepted by something, which may have stored the
        events. The first such answer is taken for what is left of Umami's, and the events are sent again, one
        first; if that is answered so too, this is how this server answers, and its word is taken.
        """
        if body is not None and verdicts.is_page(body):
            message = f"answered {status} with a page of HTML, not as Umami does: is the URL right?"
            return self._away(message, url, indexes)
        if body is None:
            shown = "a body that is too long or cut short"
        else:
            shown = repr(body[:_FIRST_BYTES])[1:] if body else "nothing"
        if self._unclear:
            self._warn(
                f"{url} answered {status} with {shown}, not as Umami does. Its events count as delivered: "
                "check that they are stored, and that the URL is right."
            )
            return None
        message = f"answered {status} with {shown}, not as Umami does: is the URL right?"
        failure = self._away(message, url, indexes, stored_perhaps=True)
        self._unclear = bool(indexes)
        return failure

    def _learn_size(self, size: int, count: int) -> None:
        """A body was said to be too large: approach the size that is taken, by halves."""
        if count == 1 or size <= self._accepted_bytes:
            self._most_bytes = _BODY_BYTES  # larger ones are taken, so it is not the size
            return
        self._most_bytes = (size + self._accepted_bytes) // 2
        self._warn(
            f"{self.destination.batch_url} takes no request of {size} bytes: batches are made smaller."
        )

    def _was_too_slow(self, count: int) -> None:
        """A request of so many events took longer than somebody waits: make them smaller for a while."""
        if count > 1:
            self._most_events = min(self.limits.events, max(1, count // 2))
            self._most_events_at = time.monotonic()

    def _secrets(self) -> list[str]:
        """Return what no message may repeat."""
        credential = self.destination.headers.get("Authorization", "").rpartition(" ")[2]
        return [credential, *self._connections.headers().values()]

    def _warn(self, message: str) -> None:
        """Say something in the log, once a minute at the most."""
        now = time.monotonic()
        if now - self._said.get(message, -_WARN_AGAIN_SECONDS) >= _WARN_AGAIN_SECONDS:
            if len(self._said) > 100:
                self._said.clear()
            self._said[message] = now
            _logger.warning("%s", without_secrets(message, self._secrets()))


class _Work:
    """One batch: what has become of its events so far.

    Attributes:
        left: The indexes of the events that no request has carried.
        outcomes: What became of the others, if they are not simply delivered.
        requests: How many requests were made.
        seconds: How long the last of them took.
    """

    def __init__(self, events: Sequence[bytes], deadline: float | None) -> None:
        self.events = events
        self.deadline = deadline
        self.left = set(range(len(events)))
        self.outcomes: dict[int, Outcome] = {}
        self.failure: Failure | None = None
        self.requests = 0
        self.seconds = 0.0

    def is_late(self) -> bool:
        """Tell whether the time is up."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def done(self, secrets: list[str]) -> Exported:
        """Return what became of the batch, with no secret in it."""
        outcomes = dict.fromkeys(self.left, UNSENT)
        for index, outcome in self.outcomes.items():
            outcomes[index] = outcome._replace(message=without_secrets(outcome.message, secrets))
        failure = self.failure
        if failure is not None:
            failure = failure._replace(message=without_secrets(failure.message, secrets))
        return Exported(outcomes, failure, self.requests)
