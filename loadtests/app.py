"""The web service of the scenario `service`: one page, tracked by the subject that the environment names."""

import os
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from .peers import SUBJECTS
from .subjects import USER, send_visit

_NAME = os.environ["LOADTEST_SUBJECT"]
_SUBJECT = SUBJECTS[_NAME](os.environ["LOADTEST_URL"])


def _page_view() -> Any:
    """Return the function that tracks a page view. Its arguments are path and User-Agent; it may be async."""
    subject: Any = _SUBJECT
    if _NAME == "ours":
        return partial(send_visit, subject.umami.new_page_view)
    if _NAME == "floor-serving":
        return subject.visit
    if _NAME == "umami-1.0.0":
        return partial(send_visit, subject.umami.new_page_view_async)
    if _NAME == "posthog":
        capture = subject.client.capture
        return lambda path, ua: capture(
            "$pageview",
            distinct_id=USER,
            properties={"$current_url": path, "title": "Checkout", "$useragent": ua, "$ip": "203.0.113.7"},
        )
    return lambda path, ua: None  # noqa: ARG005


_TRACK = _page_view()


async def page(request: Request) -> Response:
    """Serve the page and track it. If tracking fails, the page is served all the same."""
    try:
        tracked = _TRACK(request.url.path, request.headers.get("user-agent", ""))
        if tracked is not None and hasattr(tracked, "__await__"):
            await tracked
    except Exception:  # noqa: BLE001 - some clients raise if the server is down
        return PlainTextResponse("Checkout")
    return PlainTextResponse("Checkout")


app = Starlette(routes=[Route("/checkout", page)])
