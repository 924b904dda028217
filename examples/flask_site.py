"""A small Flask shop, with page views, events and the browser's script.

Run it with `flask --app examples.flask_site run` or `gunicorn examples.flask_site:app`. Set UMAMI_URL,
UMAMI_WEBSITE_ID and UMAMI_HOSTNAME to say where the events go.
"""

from flask import Flask, render_template_string

import umami
from umami.integrations.flask import Umami

app = Flask(__name__)
# Pages whose HTML has the script are counted by it, not by the extension.
app.config.update(UMAMI_ROUTES="template", UMAMI_EXCLUDE=["/with-script"], UMAMI_FLUSH_ON_SIGTERM=True)
Umami(app)


@app.get("/items/<int:number>")
def item(number: int) -> str:
    """Show an item."""
    return f"<h1>Item {number}</h1>"


@app.post("/buy")
def buy() -> dict[str, bool]:
    """Sell something."""
    umami.new_revenue_event(19.99, "EUR", event_name="purchase")  # knows the visitor and the page
    return {"ok": True}


@app.get("/with-script")
def with_script() -> str:
    """Show a page that is counted in the browser."""
    return render_template_string("<head>{{ umami_tracker() }}</head>")
