"""The page that shows the latest events, and the JSON that it loads every second."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from umami.collector.journal import Journal
from umami.collector.records import StoredEvent
from umami.collector.replies import Json
from umami.collector.store import Store

STATE: Final = "/collector/state"
"""The path of the page's data. Umami has no such route."""

_RECENT: Final = 50
_REFUSED: Final = (
    "The collector does not show its events under this host name. Open it under localhost or its address, "
    "or allow the name: umami collector --allow-host NAME, or Collector(allow_hosts=['NAME']).\n"
)
_HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
"""They keep pages of other origins from embedding or loading this one. There is no CORS header."""


class Page:
    """Answers the page's two routes.

    Args:
        store: Holds the events.
        journal: Holds the counts.
        hosts: The allowed host names, in addition to IP addresses and ``localhost``.
    """

    def __init__(self, store: Store, journal: Journal, hosts: Iterable[str]) -> None:
        self._store = store
        self._journal = journal
        self._hosts = frozenset(host.lower() for host in hosts)
        self.routes = [Route("/", self._page), Route(STATE, self._state)]

    async def _page(self, request: Request) -> Response:
        if not self._is_allowed(request):
            return PlainTextResponse(_REFUSED, 403, _HEADERS)
        return HTMLResponse(_html(), headers=_HEADERS)

    async def _state(self, request: Request) -> Response:
        if not self._is_allowed(request):
            return PlainTextResponse(_REFUSED, 403, _HEADERS)
        latest = reversed(self._store.events(last=_RECENT))
        state = {
            "events": self._journal.event_count,
            "requests": self._journal.request_count,
            "websites": self._store.websites()[1],
            "latest": [_summary(event) for event in latest],
        }
        return JSONResponse(state, headers=_HEADERS)

    def _is_allowed(self, request: Request) -> bool:
        """Whether the request's host name is allowed.

        The owner of any other name can let it resolve to this machine (DNS rebinding). The owner's pages
        would then have the same origin as this one, and could read it. IP addresses are safe from that.
        """
        match = re.fullmatch(r"\[?(.+?)\]?(:\d*)?", request.headers.get("host", ""))
        host = match[1].lower().removesuffix(".") if match else ""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return host == "localhost" or host.endswith(".localhost") or host in self._hosts
        return True


def _summary(event: StoredEvent) -> Json:
    return {
        "id": event.id,
        "at": event.timestamp,
        "type": event.type.name.replace("_", " ").lower(),
        "name": event.name or event.title,
        "address": (event.hostname or "") + event.url_path,
        "session": event.session_id,
        "data": event.data,
    }


@lru_cache(maxsize=1)
def _html() -> str:
    return files("umami.collector").joinpath("page.html").read_text("utf-8")
