"""A small web shop that tracks its page views and purchases: `uvicorn examples.service:app`.

Set UMAMI_URL, UMAMI_WEBSITE_ID and UMAMI_HOSTNAME to say where the events go.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import umami

PAGES = {"/": "Home", "/pricing": "Pricing", "/about": "About us"}


class TrackPageViews:
    """Send a page view for every page that is served."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Track the request, then let the application answer it."""
        if scope["type"] == "http" and scope["path"] in PAGES:
            request = Request(scope)
            umami.new_page_view(
                PAGES[request.url.path],
                str(request.url.path),
                referrer=request.headers.get("referer", ""),
                language=request.headers.get("accept-language", "en-US"),
                ua=request.headers.get("user-agent", ""),
                ip_address=request.headers.get("x-forwarded-for"),
            )
        await self.app(scope, receive, send)


async def page(request: Request) -> Response:
    """Serve a page."""
    return PlainTextResponse(PAGES[request.url.path])


async def buy(request: Request) -> Response:
    """Sell something, and track it."""
    order = await request.json()
    umami.new_event("add-to-cart", url="/pricing", custom_data={"plan": order["plan"]})
    umami.new_revenue_event(order["price"], "EUR", event_name="purchase", url="/pricing")
    return JSONResponse({"ok": True})


async def ledger(_: Request) -> Response:
    """Show the counts of events so far."""
    return JSONResponse(umami.queue_stats().model_dump())


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Deliver the queued events before the server stops, and print the counts."""
    async with umami.lifespan():
        yield
    print("LEDGER", umami.queue_stats().model_dump_json(), flush=True)


app = Starlette(
    routes=[
        *(Route(path, page) for path in PAGES),
        Route("/buy", buy, methods=["POST"]),
        Route("/ledger", ledger),
    ],
    middleware=[Middleware(TrackPageViews)],
    lifespan=lifespan,
)
