"""A small shop as a plain WSGI application, with page views and events.

Run it with `gunicorn examples.wsgi_site:app` or another WSGI server. Set UMAMI_URL, UMAMI_WEBSITE_ID and
UMAMI_HOSTNAME to say where the events go, and UMAMI_FLUSH_ON_SIGTERM=1 for servers that end their processes
without exit handlers: waitress, and Hypercorn with several workers.
"""

from collections.abc import Callable, Iterable
from typing import Any

import umami
from umami.integrations.wsgi import UmamiMiddleware


def shop(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Show an item, or sell one."""
    if environ["REQUEST_METHOD"] == "POST":
        umami.new_revenue_event(19.99, "EUR", event_name="purchase")  # knows the visitor and the page
    start_response("200 OK", [("Content-Type", "text/html")])
    return [b"<title>An item</title><h1>An item</h1>"]


app = UmamiMiddleware(shop, title="html")
