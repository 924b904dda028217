"""A small web shop that tracks its page views and purchases: `uvicorn examples.service:app`.

Set UMAMI_URL, UMAMI_WEBSITE_ID and UMAMI_HOSTNAME to say where the events go.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

import umami
from umami.integrations.asgi import UmamiMiddleware

PAGES = {"/": "Home", "/pricing": "Pricing", "/about": "About us"}


async def page(request: Request) -> Response:
    """Serve a page. The middleware sends a page view for it."""
    return HTMLResponse(f"<h1>{PAGES[request.url.path]}</h1>")


async def buy(request: Request) -> Response:
    """Sell something, and track it. The events belong to the visitor of the request."""
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
        *(Route(path, page, name=title) for path, title in PAGES.items()),
        Route("/buy", buy, methods=["POST"]),
        Route("/ledger", ledger),
    ],
    # A reverse proxy on this machine may say in X-Forwarded-For who the visitor is.
    middleware=[Middleware(UmamiMiddleware, trusted_proxies=["127.0.0.1"])],
    lifespan=lifespan,
)
