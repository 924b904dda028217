"""One batch to the server, and what became of each of its events.

Umami answers 200 to a batch of which nothing was stored, and 500 to an event that it did store: what
the answers mean is decided here, and nowhere else.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from pydantic_core import from_json

from umami._http.messages import Reply, UnansweredError

from .retry import Answer, Policy

# Umami's own account of one failed item has about 4.7 KB; twice that leaves room for a longer stack.
_ANSWER_BYTES: Final = 64 * 1024
_ANSWER_BYTES_PER_EVENT: Final = 10 * 1024
_NO_BATCH_ROUTE: Final = frozenset((404, 405))
_BROKEN_BATCH_ROUTE: Final = b"Cannot read private member"
_DATABASE_AWAY: Final = frozenset(("P1001", "P1017"))
_DATABASE_AWAY_WORDS: Final = (
    "terminating connection",
    "shutting down",
    "starting up",
    "not yet accepting connections",
    "Connection terminated unexpectedly",
    "is not queryable",
)
# A gateway that lost the server behind it, or gave up waiting, does not know what that did.
_NO_WORD_FROM_BEHIND: Final = frozenset((502, 504, 520, 524))
_MOST_WORDS: Final = 300
_MOST_REASON: Final = 50
# So many first characters give a credential away, with what follows them.
_TELLING: Final = 12
_BAD_DATA: Final = frozenset(("P2000", "P2020", "P2010", "ERR_INVALID_URL"))
# What fails after the event's own row is stored: its data, or its revenue.
_STORED_FIRST: Final = frozenset(("EventData", "Revenue"))
_STORED_FIRST_ERRORS: Final = frozenset(("PrismaClientValidationError", "RangeError"))
BOT: Final = (
    "Umami dropped it as a bot's: its User-Agent is not a browser's. "
    "Pass the visitor's as ua=, or set DISABLEBOT_CHECK=1 on the server."
)


class Fate(Enum):
    """What an answer says of one event."""

    DELIVERED = "delivered"
    INCOMPLETE = "incomplete"  # the event is stored, its data is not
    REJECTED = "rejected"
    AGAIN = "again"  # not stored, for a reason that will pass
    DOUBTFUL = "doubtful"  # not stored, for a reason that may be the event's own


class Verdict(NamedTuple):
    """One event's fate, the reason it is counted under, and the server's words."""

    fate: Fate
    reason: str = ""
    message: str = ""


DELIVERED: Final = Verdict(Fate.DELIVERED)


class Settled(NamedTuple):
    """The server answered for each event. `verdicts` has those that were not simply delivered, by index."""

    verdicts: Mapping[int, Verdict] = MappingProxyType({})


class Failed(NamedTuple):
    """The request settled nothing, and may do better later."""

    answer: Answer
    message: str
    stored_perhaps: bool


class Refused(NamedTuple):
    """The server refused the request as a whole, for good."""

    reason: str
    message: str


class NoBatchRoute(NamedTuple):
    """The server has no working route for batches."""

    message: str


Outcome = Settled | Failed | Refused | NoBatchRoute


@dataclass(frozen=True)
class Destination:
    """Where events go: the routes of one server.

    Attributes:
        send_url: The route for one event.
        batch_url: The route for many; None where there is none.
        headers: What goes with each request; credentials may be among them.
    """

    send_url: str
    batch_url: str | None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_private(self) -> bool:
        """Whether what guards the server lets nobody in without the credential of the headers.

        Umami itself takes events from anybody; a login's token, which may go along, is not needed.
        """
        return self.headers.get("Authorization", "").startswith("Basic ")

    def hide(self, text: str) -> str:
        """Take the credential of the headers out of a text, whole or cut off at its end."""
        secret = self.headers.get("Authorization", "").rpartition(" ")[2]
        return re.sub(rf"{re.escape(secret[:_TELLING])}[\w+/=.~-]*", "***", text) if secret else text


@dataclass(frozen=True)
class Courier:
    """Carries batches.

    Attributes:
        post: See `transport.Poster.post`.
        policy: What is worth another attempt.
        timeout: Seconds to connect, to write, and to wait for the answer to one event.
        item_timeout: Seconds more to wait for each event, which the server takes one after another.
    """

    post: Callable[..., Reply]
    policy: Policy
    timeout: float
    item_timeout: float

    def deliver(
        self, events: Sequence[bytes], to: Destination, *, batched: bool, within: float | None = None
    ) -> Outcome:
        """Make one request of `events` and say what became of it.

        Args:
            events: Encoded events; one only, unless batched.
            to: Where to.
            batched: Whether to use the batch route.
            within: Seconds left for all of it, if the caller's time is bounded.
        """
        count = len(events)
        url = to.batch_url if batched and to.batch_url else to.send_url
        patience = self.timeout + self.item_timeout * count
        timeout = self.timeout
        if within is not None:
            patience, timeout = min(patience, within), min(timeout, within)
        try:
            reply = self.post(
                url,
                b"[" + b",".join(events) + b"]" if batched else events[0],
                to.headers,
                timeout=timeout,
                patience=patience,
                limit=_ANSWER_BYTES + _ANSWER_BYTES_PER_EVENT * count,
            )
        except UnansweredError as error:
            return Failed(error, f"{url}: {error}", error.stored_perhaps)
        outcome = self._read_batch(reply, url, count) if batched else self._read_one(reply, url)
        if not isinstance(outcome, Settled):
            return outcome._replace(message=to.hide(outcome.message))
        if not outcome.verdicts:
            return outcome
        return Settled(
            {
                index: verdict._replace(message=to.hide(verdict.message))
                for index, verdict in outcome.verdicts.items()
            }
        )

    def _read_batch(self, reply: Reply, url: str, count: int) -> Outcome:
        body = reply.body or b""
        if reply.status in _NO_BATCH_ROUTE or (reply.status >= 500 and _BROKEN_BATCH_ROUTE in body):
            return NoBatchRoute(f"{url} answered {reply.status}")
        answer = _decoded(body)
        if reply.status == 500 and _choked(answer):
            return Refused("500", f"{url} answered 500{_said(reply)}")
        if not 200 <= reply.status < 300:
            return self._read_failure(reply, url)
        if (
            not isinstance(answer, dict)
            or answer.get("size") != count
            or not isinstance(answer.get("details"), list)
        ):
            return _not_umami(reply, url)
        verdicts = {}
        for detail in answer["details"]:
            index = detail.get("index") if isinstance(detail, dict) else None
            if isinstance(index, int) and 0 <= index < count:
                verdicts[index] = _verdict(detail.get("response"))
        if len(verdicts) != answer.get("errors"):
            return _not_umami(reply, url)
        if len(verdicts) == count and all(verdict.fate is Fate.AGAIN for verdict in verdicts.values()):
            # The database is away: no event's own matter, but an outage.
            return Failed(reply, f"{url}: {verdicts[0].message}", stored_perhaps=False)
        if "cache" not in answer:
            # Present whenever any item was stored, and null when none was answered OK.
            for index in range(count):
                verdicts.setdefault(index, Verdict(Fate.REJECTED, "bot", BOT))
        return Settled(verdicts)

    def _read_one(self, reply: Reply, url: str) -> Outcome:
        answer = _decoded(reply.body or b"")
        if 200 <= reply.status < 300:
            if not isinstance(answer, dict):
                return _not_umami(reply, url)
            if "beep" in answer:
                return Settled({0: Verdict(Fate.REJECTED, "bot", BOT)})
            return Settled() if "sessionId" in answer or "cache" in answer else _not_umami(reply, url)
        if _error_object(answer):
            verdict = _verdict(answer)
            if verdict.fate is Fate.AGAIN:
                return Failed(reply, f"{url}: {verdict.message}", stored_perhaps=False)
            return Settled({0: verdict})
        return self._read_failure(reply, url)

    def _read_failure(self, reply: Reply, url: str) -> Outcome:
        message = f"{url} answered {reply.status}{_said(reply)}"
        if self.policy.again(reply):
            return Failed(reply, message, stored_perhaps=reply.status in _NO_WORD_FROM_BEHIND)
        return Refused(str(reply.status), message)


def _verdict(response: Any) -> Verdict:
    """Judge one item by Umami's answer to it."""
    error = response.get("error") if isinstance(response, dict) else None
    if not isinstance(error, dict):
        return Verdict(Fate.DOUBTFUL, "unknown", "The server gave no reason.")
    status = error.get("status")
    cause = _error_object(response)
    if not cause:
        fate = Fate.DOUBTFUL if isinstance(status, int) and status >= 500 else Fate.REJECTED
        return Verdict(fate, _short(status or "unknown"), _words(error))
    code = _short(cause.get("code") or "")
    words = str(cause.get("message") or "")
    meta = cause.get("meta")
    model = str(meta.get("modelName")) if isinstance(meta, dict) else ""
    said = f"{_short(status)} {code} {' '.join(words.split())[:_MOST_WORDS]}".replace("  ", " ")
    if model in _STORED_FIRST or str(cause.get("name")) in _STORED_FIRST_ERRORS:
        lost = f"{said} (the event is stored, its {model or 'data'} is not)"
        return Verdict(Fate.INCOMPLETE, code or _short(status), lost)
    if code in _DATABASE_AWAY or (not code and any(mark in words for mark in _DATABASE_AWAY_WORDS)):
        return Verdict(Fate.AGAIN, code or "database", said)
    # PostgreSQL's class 22 is bad data too; whether before or after the event was stored, it does not say.
    bad = code in _BAD_DATA or _sql_state(cause).startswith("22")
    return Verdict(Fate.REJECTED if bad else Fate.DOUBTFUL, code or _short(status), said)


def _short(value: Any) -> str:
    """Make a reason of what a server may have made as long as it likes."""
    return str(value)[:_MOST_REASON]


def _sql_state(cause: Mapping[str, Any]) -> str:
    inner = cause.get("cause")
    return str(inner.get("originalCode") or "") if isinstance(inner, dict) else ""


def _choked(answer: Any) -> bool:
    """Tell Umami's own 500 to a whole batch: one item broke it, after those before were stored."""
    error = answer.get("error") if isinstance(answer, dict) else None
    return isinstance(error, dict) and error.get("code") == "server-error" and not _error_object(answer)


def _error_object(answer: Any) -> dict[str, Any]:
    error = answer.get("error") if isinstance(answer, dict) else None
    cause = error.get("errorObject") if isinstance(error, dict) else None
    return cause if isinstance(cause, dict) else {}


def _words(error: Mapping[str, Any]) -> str:
    """Say what a validation error complains of, field by field."""
    text = f"{error.get('status')} {error.get('message')}"[:_MOST_WORDS]
    faults: list[str] = []
    _collect(error, "", faults)
    return f"{text}: {'; '.join(faults)[:_MOST_WORDS]}" if faults else text


def _collect(node: Any, path: str, faults: list[str]) -> None:
    if not isinstance(node, dict):
        return
    found = node.get("errors")
    for fault in found if isinstance(found, list) else ():
        faults.append(f"{path}: {fault}" if path else str(fault))
    properties = node.get("properties")
    for name, child in properties.items() if isinstance(properties, dict) else ():
        _collect(child, f"{path}.{name}" if path else str(name), faults)


def _not_umami(reply: Reply, url: str) -> Failed:
    """Judge a 2xx that is not Umami's: a proxy's page, or another service's answer."""
    size = "a body too long to read" if reply.body is None else f"{len(reply.body)} bytes"
    kind = reply.headers.get("content-type", "no content type")
    return Failed(
        reply,
        f"{url} answered {reply.status} with {size} of {kind}, not as Umami does: is the URL right?",
        # A page is another's; anything else may be what is left of Umami's answer.
        stored_perhaps=not (reply.body or b"").lstrip().startswith(b"<"),
    )


def _said(reply: Reply) -> str:
    answer = _decoded(reply.body or b"")
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, dict):
        return f" ({_words(error)})"
    text = " ".join((reply.body or b"")[:200].decode("utf-8", "replace").split())[:80]
    return f" ({text!r})" if text else ""


def _decoded(body: bytes) -> Any:
    try:
        return from_json(body)
    except ValueError:
        return None
