"""Tasks that know the visitor who caused them.

Run `celery -A examples.celery_tasks worker`, and `python -m examples.celery_tasks` to queue a task. The
broker is a folder, so that no other server is needed. Set UMAMI_URL, UMAMI_WEBSITE_ID and UMAMI_HOSTNAME to
say where the events go.
"""

import os
from pathlib import Path

from celery import Celery

import umami
from umami.integrations.celery import install

folder = Path(os.environ.get("BROKER_FOLDER", "broker"))
folder.mkdir(exist_ok=True)

app = Celery("shop", broker="filesystem://")
app.conf.broker_transport_options = dict.fromkeys(
    ("data_folder_in", "data_folder_out", "control_folder"), str(folder)
)
install(app, events=["success", "failure"])


@app.task
def ship(order: int) -> None:
    """Ship an order."""
    umami.new_event("shipped", custom_data={"order": order})  # for the visitor who bought it


if __name__ == "__main__":
    # In a web application, the middleware sets the visitor.
    browser = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
    with umami.visitor(ip_address="203.0.113.7", ua=browser, url="/checkout"):
        umami.new_event("bought")
        app.send_task("examples.celery_tasks.ship", [17])
