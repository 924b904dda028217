"""A page that shows what has arrived, and the JSON that it asks for every second."""

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
"""The path of the page's data. Not one of Umami's."""

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
"""Without any that lets in pages of other origins; these keep them from showing or loading it."""


class Page:
    """Answers the page's two routes.

    Args:
        store: Where the latest events are.
        journal: What knows how many there are.
        hosts: The names that it may be opened under, beside addresses and ``localhost``.
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
        """Whether the request names a host that is ours.

        The owner of any other name can have it lead here (DNS rebinding): his pages would be of our origin.
        An address belongs to whoever answers there.
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
