"""The page that shows what arrives, and the routes for it and for tests in other languages.

Umami has none of these routes: ``/``, and those below ``/collector/``.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final, Protocol

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from umami.collector import stream
from umami.collector.entries import detail, kind, record, summary
from umami.collector.fault_requests import Faulty, WrongFaultError, change, describe
from umami.collector.faults import FaultPlan
from umami.collector.feed import CHART_STEP, KEPT, Entry, Feed
from umami.collector.guard import HEADERS, Guard
from umami.collector.replies import Json
from umami.collector.store import Store

STREAM: Final = "/collector/stream"
"""The path of the server-sent events. Their answer does not end, so it is not made as the others are."""

_MOST_WAIT: Final = 60.0
_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_FILES: Final = ("page.css", "page.js", "grid.js", "detail.js")

Endpoint = Callable[[Request], Awaitable[Response]]


class Shown(Faulty, Protocol):
    """What the page asks of a `Collector`."""

    umami: str

    @property
    def event_count(self) -> int:
        """How many events are stored."""

    @property
    def request_count(self) -> int:
        """How many requests were received."""

    def clear(self) -> None:
        """Forgets all events and requests."""


class Page:
    """Answers the page's routes.

    Args:
        collector: Whose page it is.
        store: Holds the events.
        faults: The scripted faults.
        feed: Holds what arrived.
        hosts: The allowed host names, in addition to IP addresses and ``localhost``.
    """

    def __init__(
        self, collector: Shown, store: Store, faults: FaultPlan, feed: Feed, hosts: Iterable[str]
    ) -> None:
        self._collector = collector
        self._store = store
        self._faults = faults
        self._feed = feed
        self._guard = Guard(hosts)
        self.routes = [
            self._route("/", self._file),
            *(self._route(f"/collector/{name}", self._file) for name in _FILES),
            self._route("/collector/events", self._events),
            self._route("/collector/rejected", self._events),
            self._route("/collector/entries/{number:int}", self._entry),
            self._route("/collector/export", self._export),
            self._route("/collector/clear", self._clear, "POST"),
            self._route("/collector/faults", self._list_faults),
            self._route("/collector/faults", self._change_faults, "POST"),
        ]

    def _route(self, path: str, endpoint: Endpoint, method: str = "GET") -> Route:
        async def guarded(request: Request) -> Response:
            refusal = self._guard.refusal(request)
            return endpoint_refused(refusal) if refusal else await endpoint(request)

        return Route(path, guarded, methods=[method])

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers the request for server-sent events: all that is kept, and then what arrives."""
        request = Request(scope)
        refusal = self._guard.refusal(request)
        if refusal or request.method != "GET":
            answer = endpoint_refused(refusal) if refusal else Response(status_code=405, headers=HEADERS)
            await answer(scope, receive, send)
            return
        await stream.serve(
            self._feed, self._state, request.headers.get("last-event-id", ""), HEADERS, receive, send
        )

    def _state(self) -> Json:
        """Returns what the page shows beside the entries."""
        return {
            "version": self._collector.umami,
            "kept": KEPT,
            "counts": self._feed.counts,
            "stored": self._collector.event_count,
            "requests": self._collector.request_count,
            "step": CHART_STEP,
            "chart": self._feed.chart(),
            **self._fault_state(),
        }

    def _fault_state(self) -> Json:
        return {
            "faults": [describe(fault) for fault in self._faults.active],
            "database": "away" if self._store.is_away else "there",
        }

    async def _file(self, request: Request) -> Response:
        name = request.url.path.rpartition("/")[2] or "page.html"
        return Response(_read(name), headers=HEADERS, media_type=_TYPES[name.rpartition(".")[2]])

    async def _events(self, request: Request) -> Response:
        """Returns entries, and waits until there are some if asked to."""
        asked = request.query_params
        verdicts = ("stored",) if request.url.path.endswith("/events") else ("rejected", "bot")
        try:
            since, count = int(asked.get("since", 0)), int(asked.get("count", 1))
            wait = min(float(asked.get("wait", 0)), _MOST_WAIT)
        except ValueError:
            return _json({"error": "since and count must be integers, and wait a number of seconds."}, 400)
        deadline = stream.now() + wait
        found: list[Json] = []
        while True:
            version = self._feed.version
            for entry in self._feed.after(since):
                since = entry.id
                if entry.is_event and entry.verdict in verdicts:
                    shown = record(entry)
                    found += [shown] if _is_asked_for(shown, asked) else []
            left = deadline - stream.now()
            if len(found) >= count or not left > 0:
                return _json({"events": found, "last": since})
            await self._feed.wait(version, left)

    async def _entry(self, request: Request) -> Response:
        entry = self._feed.find(request.path_params["number"])
        if entry is None:
            return _json({"error": "The collector does not keep it any more."}, 404)
        return _json(detail(entry))

    async def _export(self, request: Request) -> Response:
        asked = request.query_params
        lines = "".join(json.dumps(record(entry)) + "\n" for entry in _filtered(self._feed.after(0), asked))
        headers = {**HEADERS, "content-disposition": 'attachment; filename="umami-events.jsonl"'}
        return Response(lines, headers=headers, media_type="application/x-ndjson")

    async def _clear(self, _: Request) -> Response:
        self._collector.clear()
        return Response(status_code=204, headers=HEADERS)

    async def _list_faults(self, _: Request) -> Response:
        return _json(self._fault_state())

    async def _change_faults(self, request: Request) -> Response:
        if not self._guard.is_loopback(request):
            return endpoint_refused("Faults can only be switched on from the collector's own machine.\n")
        try:
            change(self._collector, await request.body())
        except WrongFaultError as error:
            return _json({"error": str(error)}, 400)
        return _json(self._fault_state())


def endpoint_refused(why: str) -> Response:
    """Returns a 403."""
    return PlainTextResponse(why, 403, HEADERS)


def _json(value: Any, status: int = 200) -> Response:
    # As ASCII: an event may hold half of a surrogate pair, which UTF-8 cannot express.
    return Response(json.dumps(value), status, HEADERS, "application/json")


def _is_asked_for(shown: Json, asked: Any) -> bool:
    return all(asked[key] == str(shown[key]) for key in ("name", "kind") if key in asked)


def _filtered(entries: Iterable[Entry], asked: Any) -> Iterator[Entry]:
    """Yields the entries that the page's filters let through."""
    verdict, wanted, words = asked.get("verdict"), asked.get("kind"), asked.get("search", "").lower().split()
    for entry in entries:
        if (verdict and entry.verdict != verdict) or (wanted and kind(entry) != wanted):
            continue
        text = "\n".join(summary(entry)["values"].values()).lower() if words else ""
        if all(word in text for word in words):
            yield entry


@lru_cache
def _read(name: str) -> str:
    return (files("umami.collector") / "static" / name).read_text("utf-8")
