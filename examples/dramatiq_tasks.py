"""Actors that know the visitor who caused their messages.

Run `dramatiq examples.dramatiq_tasks`, and `python -m examples.dramatiq_tasks` to send a message. REDIS_URL
is the broker's. Set UMAMI_URL, UMAMI_WEBSITE_ID and UMAMI_HOSTNAME to say where the events go.
"""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

import umami
from umami.integrations.dramatiq import install

broker = RedisBroker(url=os.environ.get("REDIS_URL", "redis://localhost"))
install(broker, events=["success", "failure"])
dramatiq.set_broker(broker)


@dramatiq.actor
def ship(order: int) -> None:
    """Ship an order."""
    umami.new_event("shipped", custom_data={"order": order})  # for the visitor who bought it


if __name__ == "__main__":
    # In a web application, the middleware sets the visitor.
    browser = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
    with umami.visitor(ip_address="203.0.113.7", ua=browser, url="/checkout"):
        umami.new_event("bought")
        ship.send(17)
