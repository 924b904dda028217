"""Reads Umami's answers: whether an event was stored, is refused, or must be sent again.

Umami may answer 200 to a batch of which nothing was stored, and 500 to an event that it did store. Only this
module decides which answers are Umami's own, in the form of any generation, and what they mean.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic_core import from_json

from umami.queue.exporter import Outcome, Status

from .answers import words, words_of
from .generations import Generation

BOT: Final = Outcome(
    Status.REJECTED,
    "bot",
    "Umami dropped it as a bot's: its User-Agent is not a browser's. "
    "Pass the visitor's as ua=, or set DISABLE_BOT_CHECK=1 on the server.",
)

_MOST_REASON: Final = 50
# These statuses ask to try again later, in whatever form and whoever sent them.
_TRY_LATER: Final = frozenset((408, 425, 429, 502, 503, 504))
# Prisma's codes for a database that does not answer, is overloaded, or aborted a transaction for another.
_DATABASE_AWAY: Final = frozenset(
    ("P1001", "P1002", "P1008", "P1017", "P2024", "P2028", "P2034", "P2037", "ECONNREFUSED", "ETIMEDOUT")
)
_CONNECTION_DIED: Final = (
    "terminating connection",
    "Connection terminated unexpectedly",
    "Server has closed the connection",
    "ECONNRESET",
)
_DATABASE_AWAY_WORDS: Final = (
    *_CONNECTION_DIED,
    "Can't reach database server",
    "shutting down",
    "starting up",
    "not yet accepting connections",
    "is not queryable",
    "too many clients",
)
_BAD_DATA: Final = frozenset(("P2000", "P2020", "P2010", "ERR_INVALID_URL"))
# SQL states of a database that is away or overloaded: connection, rollback, resources, operator.
_STATE_AWAY: Final = re.compile(r"(?:08|40|53)\w{3}|57P0[123]", re.ASCII)
_STATE_NAMED: Final = re.compile(r"\b[Cc]ode: `(\w{5})`|\b(57P0[123])\b", re.ASCII)
# What is stored after the event's own row, and may fail then: its data, or its revenue.
_STORED_FIRST: Final = frozenset(("EventData", "Revenue"))
_STORED_FIRST_ERRORS: Final = frozenset(("PrismaClientValidationError", "RangeError"))
# Umami before 2.16 refuses in plain text.
_TEXT_REFUSAL: Final = re.compile(
    r"payload\b|type (?:is|must)|.{0,60}\bis a required field|Website not found|Session not found"
    r"|Wrong payload type|Data required|Invalid JSON|Invalid request|Body exceeded",
    re.ASCII,
)


def of_item(response: Any) -> Outcome:
    """Return what became of one item of a batch, by Umami's answer to it."""
    error = response.get("error") if isinstance(response, dict) else None
    if isinstance(error, dict):
        return _of_error(error)
    text = words_of(response)
    if error:  # a string or a list: 2.17 to 2.20
        return Outcome(Status.REJECTED, "400", text or "400")
    return Outcome(Status.DOUBTFUL, "unknown", text or f"Umami answered {str(response)[:100]!r}.")


def of_send(status: int, body: bytes, generation: Generation) -> Outcome | None:
    """Return what became of an event that was sent alone, by an answer of Umami's own that is not a 2xx.

    Returns:
        What became of the event; None if the answer is not of Umami's form, or does not tell.
    """
    if status in _TRY_LATER:
        return None
    answer = decoded(body)
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, dict) and _is_umamis(error, status):
        return _of_error(error, status)
    if status == 400 and isinstance(error, (str, list)):
        return Outcome(Status.REJECTED, "400", _said(status, body))
    if status == 403 and error == "Forbidden":
        return Outcome(Status.REJECTED, "403", _said(status, body))
    if answer is None:
        return _of_text(status, body, generation)
    return None


def is_server_error(body: bytes) -> bool:
    """Tell whether a 500 is Umami's own and gives no reason, as when a whole batch fails."""
    answer = decoded(body)
    error = answer.get("error") if isinstance(answer, dict) else None
    return isinstance(error, dict) and not _cause(error) and error.get("code") == "server-error"


def is_broken_batch(body: bytes) -> bool:
    """Tell whether a 500 is the one that Umami 2.17 to 2.20 answers to every batch on Node 24."""
    return b"Cannot read private member" in body


def is_page(body: bytes) -> bool:
    """Tell whether a body is a page of HTML, which is never Umami's answer to an event."""
    return body.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<"


def decoded(body: bytes) -> Any:
    """Return a JSON body's value; None if it is not JSON."""
    try:
        return from_json(body)
    except ValueError:
        return None


def _is_umamis(error: Mapping[str, Any], status: int) -> bool:
    """Tell whether an error that is an object has one of Umami's forms."""
    if "status" in error:
        return error["status"] == status and "message" in error
    name = error.get("name")
    # A ZodError, or an exception as 2.16 to 2.20 pass it on.
    return (
        (status == 400 and isinstance(error.get("issues"), list))
        or (status >= 400 and isinstance(name, str) and ("message" in error or "code" in error))
        or (status == 500 and isinstance(error.get("code"), str))
    )


def _of_text(status: int, body: bytes, generation: Generation) -> Outcome | None:
    """Judge a plain text, as Umami before 2.16 answers it."""
    text = body[:2000].decode("utf-8", "replace")
    if is_page(body) or not text.strip():
        return None
    if status in (400, 500) and any(mark in text for mark in _DATABASE_AWAY_WORDS):
        died = any(mark in text for mark in _CONNECTION_DIED)
        return Outcome(Status.UNCERTAIN if died else Status.RETRY, "database", _said(status, body))
    if generation > Generation.TEXT or status not in (400, 404, 413, 500):
        return None
    if status == 500:
        is_own = generation is Generation.TEXT
        return Outcome(Status.DOUBTFUL, "500", _said(status, body)) if is_own else None
    if _TEXT_REFUSAL.match(text.lstrip()) or (status == 400 and generation is Generation.TEXT):
        return Outcome(Status.REJECTED, str(status), _said(status, body))
    return None


def _of_error(error: Mapping[str, Any], status: int | None = None) -> Outcome:
    cause = _cause(error)
    if cause:
        return _of_exception(cause, status or error.get("status"))
    own = error.get("status", status or 400)
    code = own if isinstance(own, int) else 400
    said = _said(code, None, {"error": error})
    if code in _TRY_LATER:
        return Outcome(Status.RETRY, str(code), said)
    return Outcome(Status.DOUBTFUL if code >= 500 else Status.REJECTED, str(code), said)


def _cause(error: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the exception behind an error: from 3.0 on a member of it, before that the error itself."""
    cause = error.get("errorObject")
    if isinstance(cause, dict):
        return cause
    is_exception = "status" not in error and "issues" not in error and ("name" in error or "code" in error)
    return error if is_exception else {}


def _of_exception(cause: Mapping[str, Any], status: Any) -> Outcome:
    code = _short(cause.get("code") or "")
    text = str(cause.get("message") or "")
    meta = cause.get("meta")
    named = meta.get("modelName") if isinstance(meta, dict) else None
    model = named if isinstance(named, str) else ""  # it is not there with every error
    said = _said(status if isinstance(status, int) else 500, None, {"error": dict(cause)})
    if model in _STORED_FIRST or str(cause.get("name")) in _STORED_FIRST_ERRORS:
        lost = f"{said} (the event is stored, its {model or 'data'} is not)"
        return Outcome(Status.INCOMPLETE, code or "500", lost)
    state = _sql_state(cause, text)
    is_away = code in _DATABASE_AWAY or _STATE_AWAY.fullmatch(state) is not None
    if is_away or (not code and any(mark in text for mark in _DATABASE_AWAY_WORDS)):
        # Without a code and a model, the connection may have died after the row was written.
        died = not code and not model and any(mark in text for mark in _CONNECTION_DIED)
        return Outcome(Status.UNCERTAIN if died else Status.RETRY, code or state or "database", said)
    # PostgreSQL's class 22 is bad data too.
    if code in _BAD_DATA or state.startswith("22"):
        return Outcome(Status.REJECTED, code or state, said)
    return Outcome(Status.DOUBTFUL, code or "500", said)


def _sql_state(cause: Mapping[str, Any], text: str) -> str:
    inner = cause.get("cause")
    if not isinstance(inner, dict):
        meta = cause.get("meta")
        adapter = meta.get("driverAdapterError") if isinstance(meta, dict) else None
        inner = adapter.get("cause") if isinstance(adapter, dict) else None
    state = inner.get("originalCode") or inner.get("code") if isinstance(inner, dict) else None
    if isinstance(state, str):
        return state
    named = _STATE_NAMED.search(text[:2000])
    return (named[1] or named[2]) if named else ""


def _said(status: int, body: bytes | None, answer: Any = None) -> str:
    text = words(body) if body is not None else words_of(answer)
    return f"{status} {text}" if text else str(status)


def _short(value: Any) -> str:
    """Return a reason of bounded length: the server may send any."""
    return "".join(letter for letter in str(value)[:_MOST_REASON] if letter.isprintable())
