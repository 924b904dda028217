"""Real servers for the tests' applications, and a client that keeps its events in memory."""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from conftest import DEADLINE, SITE

import umami
from umami.exporters import MemoryExporter


class Sent(umami.Client):
    """A client whose events stay in memory."""

    def __init__(self, **settings: Any) -> None:
        self.exporter = MemoryExporter()
        super().__init__(
            exporter=self.exporter, **{"website_id": SITE, "hostname": "example.com", **settings}
        )

    @property
    def payloads(self) -> list[dict[str, Any]]:
        """The payloads of the events so far, those in the queue included."""
        assert self.flush(timeout=DEADLINE)
        return [event["payload"] for event in self.exporter.events]

    @property
    def urls(self) -> list[str]:
        """The URLs of the page views so far."""
        return [payload["url"] for payload in self.payloads if "name" not in payload]


def until(condition: Any) -> None:
    give_up = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < give_up, "it did not come"
        time.sleep(0.005)


@contextmanager
def uvicorn_serving(app: Any, **options: Any) -> Iterator[int]:
    """Serve an ASGI application with uvicorn, and yield the port."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", **options))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        assert server.started
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(DEADLINE)
        assert not thread.is_alive()


@contextmanager
def werkzeug_serving(app: Any) -> Iterator[int]:
    """Serve a WSGI application with werkzeug, and yield the port."""
    from werkzeug.serving import make_server

    with make_server("127.0.0.1", 0, app, threaded=True) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.port
        finally:
            server.shutdown()
            thread.join(DEADLINE)


def request(
    port: int, path: str, method: str = "GET", *, peer: str = "127.0.0.1", **headers: str
) -> tuple[int, bytes]:
    """Make a request, and return the status and the body of the answer.

    Args:
        port: The server's.
        path: With a query, if need be.
        method: The method.
        peer: The address to connect from, in 127.0.0.0/8.
        headers: With `_` in place of `-`.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE, source_address=(peer, 0))
    try:
        connection.request(
            method, path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
