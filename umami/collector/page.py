"""A page that shows what has arrived, and the JSON that it asks for every second."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from umami.collector.journal import Journal
from umami.collector.records import StoredEvent
from umami.collector.replies import Json
from umami.collector.responses import body_response
from umami.collector.store import Store

STATE: Final = "/collector/state"
"""The path of the page's data. Not one of Umami's."""

_RECENT: Final = 50


class Page:
    """Answers the page's two routes.

    Args:
        store: Where the latest events are.
        journal: What knows how many there are.
    """

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store = store
        self._journal = journal
        self.routes = [Route("/", self._page), Route(STATE, self._state)]

    async def _page(self, _: Request) -> Response:
        return HTMLResponse(_html())

    async def _state(self, _: Request) -> Response:
        latest = reversed(self._store.events(last=_RECENT))
        return body_response(
            200,
            {
                "events": self._journal.event_count,
                "requests": self._journal.request_count,
                "websites": self._store.websites()[1],
                "latest": [_summary(event) for event in latest],
            },
        )


def _summary(event: StoredEvent) -> Json:
    return {
        "id": event.id,
        "at": event.timestamp,
        "type": event.type.name.replace("_", " ").lower(),
        "name": event.name or event.title,
        "address": event.hostname + event.url_path,
        "session": event.session_id,
        "data": event.data,
    }


@lru_cache(maxsize=1)
def _html() -> str:
    return files("umami.collector").joinpath("page.html").read_text("utf-8")
