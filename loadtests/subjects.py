"""The subjects: the clients to measure, with a common interface. This module has this client and the floor.

The floor is the least that this design can cost. It encodes events with `to_json`, appends them to a deque,
and posts batches over one `httpx.Client`, without checks, retries or counts.
"""

import abc
import atexit
import importlib
import itertools
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final, TypeVar

from .sink import MARK

SITE: Final = "978435e2-7ba1-4337-9860-ec31ece2db60"
CUSTOM: Final[dict[str, Any]] = {
    "plan": "pro",
    "items": 3,
    "total": 19.99,
    "coupon": MARK.decode(),
    "member": True,
}
"""The custom data of the typical event. It also has a name, URL, title and user id."""
USER: Final = "user-12345"
BROWSER: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"

Send = Callable[[], object]
T = TypeVar("T")


class Subject(abc.ABC):
    """A client, configured as its documentation recommends, with a sink as server.

    Args:
        url: The sink's URL.
        batch: The number of events in a request; None for the default.
        room: The size of the queue in events, if it can be set.
    """

    room: ClassVar[int] = 10_000
    """How many events it can queue before it drops any, as configured here."""
    pace: ClassVar[float] = 1.0
    """The part of a scenario's events that it sends, so that slow clients do not take longer."""

    def __init__(self, url: str, batch: int | None = None, room: int | None = None) -> None:
        self.url = url
        self.batch = batch
        self.wanted_room = room or 0
        self.start()

    @abc.abstractmethod
    def start(self) -> None:
        """Configure the client."""

    @abc.abstractmethod
    def sender(self, kind: str = "event") -> Send:
        """Return a function that sends one typical event, page view or revenue event."""

    @abc.abstractmethod
    def flush(self) -> None:
        """Wait until the events are delivered, with the client's own flush."""

    def sender_async(self, kind: str = "event") -> Callable[[], Awaitable[object]]:
        """Return the async version of a sender."""
        raise TypeError(f"{type(self).__name__} has no async send of {kind}")

    def wait_for_room(self) -> None:  # noqa: B027 - most need not wait
        """Wait until the queue has room for 100 events. Only for clients whose queue size cannot be set."""

    def facts(self) -> dict[str, float]:
        """Return the client's own counts at the end."""
        return {}


def typical(send: Callable[..., T]) -> Callable[[], T]:
    """Return a function that sends the typical event with an Umami client's `send`."""
    return lambda: send("checkout", url="/checkout", title="Checkout", custom_data=CUSTOM, distinct_id=USER)


def send_visit(send: Callable[..., T], path: str, ua: str) -> T:
    """Send the page view of a service's visitor with an Umami client's `send`."""
    return send("Checkout", path, ua=ua, ip_address="203.0.113.7", distinct_id=USER)


class Ours(Subject):
    """This repository's client."""

    room = 100_000

    def start(self) -> None:
        """Configure the module's default client."""
        self.umami: Any = importlib.import_module("umami")
        settings: dict[str, Any] = {"url_base": self.url, "website_id": SITE, "hostname": "example.com"}
        if self.batch:
            settings["batch_size"] = self.batch
        if self.wanted_room > self.room:
            settings |= {"queue_size": self.wanted_room, "queue_bytes": self.wanted_room * 1024}
        self.umami.configure(**settings)

    def sender(self, kind: str = "event") -> Send:
        """Return a sync send."""
        umami = self.umami
        if kind == "page_view":
            send = umami.new_page_view
            return lambda: send("Checkout", "/checkout", distinct_id=USER)
        if kind == "visit":  # as a service tracks it
            return lambda: send_visit(umami.new_page_view, "/checkout", BROWSER)
        if kind == "revenue":
            send = umami.new_revenue_event
            return lambda: send(
                19.99,
                "EUR",
                "checkout",
                url="/checkout",
                title="Checkout",
                custom_data=CUSTOM,
                distinct_id=USER,
            )
        return typical(umami.new_event)

    def sender_async(self, kind: str = "event") -> Callable[[], Awaitable[object]]:  # noqa: ARG002
        """Return an async send of the typical event."""
        return typical(self.umami.new_event_async)

    def flush(self) -> None:
        """Wait until all events are settled."""
        self.umami.flush(120)

    def facts(self) -> dict[str, float]:
        """Return the counts of `queue_stats`."""
        stats = self.umami.queue_stats()
        return {
            "pending": stats.pending,
            "pending_bytes": stats.pending_bytes,
            "dropped": sum(stats.dropped.values()),
            "retries": stats.retries,
        }


class OursSpooled(Ours):
    """This repository's client with a spool: each event is on disk when its send returns."""

    def start(self) -> None:
        """Configure the module's default client, with a folder that is deleted at the end."""
        folder = tempfile.mkdtemp(prefix="umami-loadtest-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)  # runs after the client's own handler
        super().start()
        self.umami.configure(spool=folder)


class Floor(Subject):
    """The least that this design can cost."""

    room = 10_000_000

    def start(self) -> None:
        """Create the HTTP client before any measurement begins."""
        self.to_json: Any = importlib.import_module("pydantic_core").to_json
        httpx: Any = importlib.import_module("httpx")
        self.client = httpx.Client(headers={"Content-Type": "application/json"}, timeout=120)
        self.queue: deque[bytes] = deque()

    def sender(self, kind: str = "event") -> Send:
        """Return a function that encodes and queues the same event as this client."""
        to_json, append = self.to_json, self.queue.append
        if kind == "page_view":
            return lambda: append(
                to_json(
                    {
                        "payload": {
                            "title": "Checkout",
                            "url": "/checkout",
                            "id": USER,
                            "referrer": "",
                            "timestamp": 1_700_000_000,
                            "hostname": "example.com",
                            "website": SITE,
                            "language": "en-US",
                            "screen": "1920x1080",
                        },
                        "type": "event",
                    }
                )
            )
        extra: dict[str, Any] = {"revenue": 19.99, "currency": "EUR"} if kind == "revenue" else {}
        data = {**CUSTOM, **extra}
        return lambda: append(
            to_json(
                {
                    "payload": {
                        "name": "checkout",
                        "title": "Checkout",
                        "url": "/checkout",
                        "data": data,
                        "id": USER,
                        "referrer": "",
                        "timestamp": 1_700_000_000,
                        "hostname": "example.com",
                        "website": SITE,
                        "language": "en-US",
                        "screen": "1920x1080",
                    },
                    "type": "event",
                }
            )
        )

    def flush(self) -> None:
        """Post all queued events, batch after batch, in this thread."""
        while self.queue:
            self.post_batch(min(self.batch or 50, len(self.queue)))

    def post_batch(self, count: int) -> None:
        """Post the first `count` events of the queue."""
        pop = self.queue.popleft
        events = [pop() for _ in range(count)]
        self.client.post(f"{self.url}/api/batch", content=b"[" + b",".join(events) + b"]").raise_for_status()


class FloorThreads(Floor):
    """The floor with as many threads as this client has senders, and one shared `httpx.Client`.

    With a `batch` of 1, each event goes to `/api/send`, as on Umami Cloud.
    """

    threads: ClassVar[int] = 8

    def flush(self) -> None:
        """Post all queued events, with all threads."""
        workers = [threading.Thread(target=self._post) for _ in range(self.threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def _post(self) -> None:
        size = self.batch or 50
        while True:
            events = []
            try:
                for _ in range(size):
                    events.append(self.queue.popleft())
            except IndexError:
                pass
            if not events:
                return
            path, body = (
                ("/api/send", events[0]) if size == 1 else ("/api/batch", b"[" + b",".join(events) + b"]")
            )
            self.client.post(f"{self.url}{path}", content=body).raise_for_status()


class FloorPair(FloorThreads):
    """The floor with two connections, as many as this client opens to a server with batches."""

    threads = 2


class FloorServing(Floor):
    """The floor in a service: a thread posts each full batch."""

    def start(self) -> None:
        """Create the HTTP client, and start the thread."""
        super().start()
        self._count = itertools.count(1)
        self._full = threading.Semaphore(0)
        threading.Thread(target=self._post_for_ever, daemon=True).start()

    def visit(self, path: str, ua: str) -> None:
        """Queue the page view of a service's visitor."""
        self.queue.append(
            self.to_json(
                {
                    "payload": {
                        "title": "Checkout",
                        "url": path,
                        "id": USER,
                        "referrer": "",
                        "ip": "203.0.113.7",
                        "userAgent": ua,
                        "timestamp": 1_700_000_000,
                        "hostname": "example.com",
                        "website": SITE,
                        "language": "en-US",
                        "screen": "1920x1080",
                    },
                    "type": "event",
                }
            )
        )
        if next(self._count) % 50 == 0:
            self._full.release()

    def _post_for_ever(self) -> None:
        while self._full.acquire():
            self.post_batch(50)


class Nothing(Subject):
    """No tracking at all."""

    def start(self) -> None:
        """Do nothing."""

    def sender(self, kind: str = "event") -> Send:  # noqa: ARG002
        """Return a function that does nothing."""
        return lambda: None

    def flush(self) -> None:
        """Do nothing."""
        time.sleep(0)
