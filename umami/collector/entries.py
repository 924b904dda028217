"""The entries of the feed: how they are made, and what the page and the JSON routes show of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from umami.collector.feed import Entry, Reception
from umami.collector.replies import Json, status_of
from umami.collector.store import Row

_SHOWN: Final = 500
"""How many characters of each value a row of the page has. The detail view has them all."""

_MOST_BODY: Final = 256 * 1024
_SECRETS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "x-umami-api-key"})
_decode: Final = json.JSONDecoder().raw_decode


def entry_for(reception: Reception, index: int | None, reply: Json, row: Row) -> Entry:
    """Returns the entry of an event.

    Args:
        reception: The request that it came in.
        index: Its position in a batch; None if it came alone.
        reply: The reply to it, in the form of Umami 3.
        row: The row that is stored for it; empty if there is none.
    """
    entry = Entry(reception, index, "stored", status=status_of(reply))
    entry.session = row.get("session_id") or reply.get("sessionId", "")
    entry.ip = row.get("ip", "")
    if "error" in reply:
        entry.verdict, entry.reason = "rejected", _reason(reply["error"])
        if row:
            entry.reason = f"Stored, but not all of it: {entry.reason}"
    elif "beep" in reply:
        entry.verdict, entry.reason = "bot", "Umami takes this User-Agent for a bot, and drops its events."
    return entry


def _reason(error: Any) -> str:
    """Returns what an error reply says, in one line."""
    if not isinstance(error, dict):
        return str(error)
    thrown = error.get("errorObject")
    if isinstance(thrown, dict):
        *_, last = str(thrown.get("message", "")).strip().splitlines() or [""]
        return " ".join(filter(None, [str(thrown.get("code", thrown.get("name", ""))), last]))
    return "; ".join(_complaints(error, ())) or str(error.get("message", ""))


def _complaints(tree: Json, path: tuple[str, ...]) -> Iterator[str]:
    for message in tree.get("errors", ()):
        yield f"{'.'.join(path)}: {message}" if path else str(message)
    for name, below in tree.get("properties", {}).items():
        yield from _complaints(below, path if name == "payload" else (*path, name))


def item_text(entry: Entry) -> str:
    """Returns an event's JSON exactly as it arrived; of a whole request, its body."""
    items = _item_texts(entry.reception.request.body, split=entry.index is not None)
    position = entry.index or 0
    return items[position] if position < len(items) else ""


def item(entry: Entry) -> Any:
    """Returns an event, parsed; None if it is not JSON, and for a whole request."""
    if not entry.is_event:
        return None
    try:
        return json.loads(item_text(entry))
    except (ValueError, RecursionError):
        return None


@lru_cache(maxsize=4)  # the events of a batch are asked for one after another
def _item_texts(body: bytes, *, split: bool) -> tuple[str, ...]:
    text = body.decode("utf-8", "replace").removeprefix("\ufeff")
    if not split:
        return (text.strip(),)
    texts: list[str] = []
    position = text.find("[") + 1
    while True:
        while text[position : position + 1] in {" ", "\t", "\r", "\n", ","}:
            position += 1
        try:
            _, end = _decode(text, position)
        except (ValueError, RecursionError):
            return tuple(texts)
        texts.append(text[position:end])
        position = end


def summary(entry: Entry) -> Json:
    """Returns a row of the page. Long values are cut."""
    payload = _payload(entry)
    values = {
        "name": payload.get("name") or payload.get("event_name") or payload.get("title"),
        "url": _address(payload),
        "website": payload.get("website") or payload.get("link") or payload.get("pixel"),
        "ip": entry.ip or payload.get("ip") or entry.reception.client,
        "agent": payload.get("userAgent") or entry.reception.request.headers.get("user-agent"),
        "visitor": payload.get("id"),
        "referrer": payload.get("referrer"),
        "tag": payload.get("tag"),
        "data": payload.get("data", payload.get("event_data")),
        "reason": entry.reason,
    }
    return {
        "id": entry.id,
        "at": entry.at,
        "kind": kind(entry),
        "verdict": entry.verdict,
        "values": {name: _cut(value) for name, value in values.items() if value not in (None, "")},
    }


def kind(entry: Entry) -> str:
    """Returns what kind of event it is, such as ``page view``; ``request`` for a whole request."""
    if not entry.is_event:
        return "request"
    body = item(entry)
    payload = _payload(entry)
    given = body.get("type") if isinstance(body, dict) else None
    if given in ("identify", "performance"):
        return str(given)
    for named in ("link", "pixel"):
        if payload.get(named):
            return named
    return "event" if payload.get("name") or payload.get("event_name") else "page view"


def record(entry: Entry) -> Json:
    """Returns an entry for tests and for exports, with the whole event."""
    payload = _payload(entry)
    return {
        "id": entry.id,
        "at": entry.at,
        "kind": kind(entry),
        "verdict": entry.verdict,
        "reason": entry.reason or None,
        "name": payload.get("name", payload.get("event_name")),
        "data": payload.get("data", payload.get("event_data")),
        "session": entry.session or None,
        "event": item(entry),
    }


def detail(entry: Entry) -> Json:
    """Returns all that the detail view shows: the exact JSON, and the request that it came in."""
    request = entry.reception.request
    body = request.body.decode("utf-8", "replace")
    return {
        "id": entry.id,
        "at": entry.at,
        "kind": kind(entry),
        "verdict": entry.verdict,
        "reason": entry.reason,
        "status": entry.status,
        "index": entry.index,
        "session": entry.session,
        "json": item_text(entry) if entry.is_event else "",
        "request": {
            "method": request.method,
            "path": request.path + (f"?{request.query}" if request.query else ""),
            "status": request.status,
            "client": f"{entry.reception.client}:{request.client_port}",
            "headers": [(name, _masked(name, value)) for name, value in request.headers.items()],
            "body": body[:_MOST_BODY],
            "bytes": len(request.body),
            "is_cut": len(body) > _MOST_BODY,
        },
    }


def _payload(entry: Entry) -> Json:
    body = item(entry)
    payload = body.get("payload") if isinstance(body, dict) else None
    return payload if isinstance(payload, dict) else {}


def _address(payload: Json) -> str | None:
    """Returns the page's address: with the host name, unless the URL has one itself."""
    url, host = payload.get("url"), payload.get("hostname")
    if not isinstance(url, str) or not isinstance(host, str) or "://" in url:
        return url if isinstance(url, str) else None
    return host + url


def _cut(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _masked(name: str, value: str) -> str:
    return f"({len(value)} characters, not shown)" if name in _SECRETS else value
