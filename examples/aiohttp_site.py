"""A small shop with aiohttp, with page views and events: `python -m examples.aiohttp_site [PORT]`.

Set UMAMI_URL, UMAMI_WEBSITE_ID and UMAMI_HOSTNAME to say where the events go.
"""

import sys

from aiohttp import web

import umami
from umami.integrations.aiohttp import install

routes = web.RouteTableDef()


@routes.get(r"/items/{number:\d+}", name="item")
async def item(request: web.Request) -> web.Response:
    """Show an item."""
    return web.Response(text=f"<h1>Item {request.match_info['number']}</h1>", content_type="text/html")


@routes.post("/buy")
async def buy(_: web.Request) -> web.Response:
    """Sell something."""
    umami.new_revenue_event(19.99, "EUR", event_name="purchase")  # knows the visitor and the page
    return web.json_response({"ok": True})


app = web.Application()
app.add_routes(routes)
install(app, routes="template")

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]) if sys.argv[1:] else 8080)
