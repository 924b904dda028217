"""A small Litestar shop, with page views and events: `uvicorn examples.litestar_site:app`.

Set UMAMI_URL, UMAMI_WEBSITE_ID and UMAMI_HOSTNAME to say where the events go.
"""

from typing import Any

from litestar import Litestar, MediaType, Request, get, post

import umami
from umami.integrations.litestar import UmamiPlugin


@get("/items/{number:int}", media_type=MediaType.HTML)
async def item(request: Request[Any, Any, Any]) -> str:
    """Show an item."""
    return f"<h1>Item {request.path_params['number']}</h1>"


@post("/buy")
async def buy() -> dict[str, bool]:
    """Sell something."""
    umami.new_revenue_event(19.99, "EUR", event_name="purchase")  # knows the visitor and the page
    return {"ok": True}


app = Litestar([item, buy], plugins=[UmamiPlugin(routes="template", exclude=["/schema/*"])])
