"""The web service of the scenario `middleware`: a page that is tracked as the environment says."""

import os
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

import umami
from umami.integrations.asgi import UmamiMiddleware

from .subjects import SITE

TRACKING: Final = os.environ["LOADTEST_TRACKING"]


async def untracked(_: Request) -> Response:
    """Serve the page."""
    return HTMLResponse("<h1>Checkout</h1>")


async def by_hand(request: Request) -> Response:
    """Serve the page, and send its page view as one writes it by hand."""
    umami.new_page_view(
        "Checkout",
        request.url.path,
        referrer=request.headers.get("referer", ""),
        language=request.headers.get("accept-language", "en-US"),
        ua=request.headers.get("user-agent", ""),
        ip_address=None if request.client is None else request.client.host,
    )
    return HTMLResponse("<h1>Checkout</h1>")


page: Callable[[Request], Awaitable[Response]] = by_hand if TRACKING == "by hand" else untracked
app = Starlette(routes=[Route("/checkout", page, name="Checkout")])
if TRACKING != "none":
    umami.configure(url_base=os.environ["LOADTEST_URL"], website_id=SITE, hostname="example.com")
if TRACKING == "middleware":
    app.add_middleware(UmamiMiddleware)
