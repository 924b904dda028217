"""A small FastAPI shop, with page views and events.

Run it with `uvicorn examples.fastapi_site:app`. Set UMAMI_URL, UMAMI_WEBSITE_ID and UMAMI_HOSTNAME to say
where the events go.
"""

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

import umami
from umami.integrations.asgi import UmamiMiddleware

app = FastAPI(lifespan=umami.lifespan)
app.add_middleware(UmamiMiddleware, title="html")


@app.get("/items/{number}", response_class=HTMLResponse)
async def item(number: int) -> str:
    """Show an item."""
    return f"<title>An item</title><h1>Item {number}</h1>"


@app.post("/buy/{number}")
async def buy(number: int) -> dict[str, int]:
    """Sell an item."""
    umami.new_revenue_event(19.99, "EUR", event_name="purchase")  # knows the visitor and the page
    return {"bought": number}
