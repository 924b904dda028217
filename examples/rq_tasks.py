"""Jobs that know the visitor who caused them.

Run `rq worker --worker-class umami.integrations.rq.Worker --job-class examples.rq_tasks.ShopJob`, and
`python -m examples.rq_tasks` to queue a job. REDIS_URL names the server for both, RQ_REDIS_URL that of the
worker. Set UMAMI_URL, UMAMI_WEBSITE_ID and UMAMI_HOSTNAME to say where the events go.
"""

import os

import redis
import rq

import umami
from umami.integrations.rq import Job


class ShopJob(Job):
    """A job that carries the visitor, and whose outcome is an event."""

    umami_events = ("success", "failure")


def ship(order: int) -> None:
    """Ship an order."""
    umami.new_event("shipped", custom_data={"order": order})  # for the visitor who bought it


if __name__ == "__main__":
    connection = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://localhost"))
    queue = rq.Queue(connection=connection, job_class=ShopJob)
    # In a web application, the middleware sets the visitor.
    browser = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
    with umami.visitor(ip_address="203.0.113.7", ua=browser, url="/checkout"):
        umami.new_event("bought")
        queue.enqueue("examples.rq_tasks.ship", 17)
