"""Real servers for the tests' applications, and a client that keeps its events in memory."""

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from conftest import DEADLINE, SITE

import umami
from umami.exporters import Exported, Exporter, MemoryExporter


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


@contextmanager
def full_client() -> Iterator[umami.Client]:
    """Yield a client whose queue is full, and whose sends wait for room longer than a request waits."""
    gate = threading.Event()

    class Held(MemoryExporter):
        def export(self, events: Any, deadline: float | None) -> Any:
            gate.wait()
            return super().export(events, deadline)

    client = umami.Client(
        exporter=Held(),
        website_id=SITE,
        hostname="example.com",
        queue_size=1,
        overflow="block",
        shutdown_timeout=0.1,
        block_timeout=2 * DEADLINE,
    )
    client.new_event("first")
    try:
        yield client
    finally:
        gate.set()
        assert client.shutdown(DEADLINE)


def until(condition: Any) -> None:
    give_up = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < give_up, "it did not come"
        time.sleep(0.005)


class Gated:
    """An Umami server that answers only when its gate is open.

    If the gate is to be opened by an event loop, a send that blocks that loop is not answered in time.

    Args:
        waiting: Why the sends of its client wait for it: `direct mode` or `full queue`.
    """

    def __init__(self, waiting: str) -> None:
        self._waiting = waiting
        self._gate = threading.Event()
        self._answered: list[tuple[bool, dict[str, Any]]] = []

    def opens_soon(self) -> None:
        """Have the running event loop open the gate, if it does not block."""
        asyncio.get_running_loop().call_later(0.05, self._gate.set)

    @property
    def payloads(self) -> list[dict[str, Any]]:
        """What it was sent, but for the filler. It fails if an event came that no gate was opened for."""
        assert all(in_time for in_time, _ in self._answered)
        return [payload for _, payload in self._answered if payload.get("name") != "filler"]

    def client(self) -> AbstractContextManager[umami.Client]:
        """Start the server, and return a context manager with a client whose sends wait for it."""
        return self._direct() if self._waiting == "direct mode" else self._full()

    def _answer(self, event: dict[str, Any]) -> None:
        self._answered.append((self._gate.wait(10), event["payload"]))

    @contextmanager
    def _full(self) -> Iterator[umami.Client]:
        begun = threading.Event()

        class GatedExporter(Exporter):
            name = "gated"

            def export(exporter, events: Any, deadline: float) -> Exported:  # noqa: N805
                begun.set()
                for event in events:
                    self._answer(json.loads(event))
                return Exported()

        client = umami.Client(
            exporter=GatedExporter(),
            website_id=SITE,
            hostname="example.com",
            queue_size=1,
            batch_size=1,
            overflow="block",
            block_timeout=60,
            senders=1,
        )
        client.new_event("filler")
        assert begun.wait(DEADLINE)  # an event that is under way has its room in the queue still
        yield client
        assert client.shutdown(DEADLINE)

    @contextmanager
    def _direct(self) -> Iterator[umami.Client]:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:  # noqa: N805
                self._answer(json.loads(handler.rfile.read(int(handler.headers["Content-Length"]))))
                handler.send_response(200)
                handler.end_headers()
                handler.wfile.write(b'{"cache":"x"}')

            def log_message(handler, *_: Any) -> None:  # noqa: N805
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=[0.01])
            thread.start()
            try:
                yield umami.Client(
                    url_base=f"http://127.0.0.1:{server.server_port}",
                    website_id=SITE,
                    hostname="example.com",
                    mode="direct",
                    timeout=60,
                )
            finally:
                server.shutdown()
                thread.join(DEADLINE)


@contextmanager
def uvicorn_serving(app: Any, **options: Any) -> Iterator[int]:
    """Serve an ASGI application with uvicorn, and yield the port."""
    import uvicorn

    class Server(uvicorn.Server):
        async def main_loop(self) -> None:
            while not self.should_exit:  # noqa: ASYNC110 - another thread sets it
                await asyncio.sleep(0.01)  # uvicorn itself looks every 0.1 seconds

    server = Server(uvicorn.Config(app, port=0, log_level="warning", **options))
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
    """Make a request, wait until the server has done all for it, and return the answer's status and body.

    Args:
        port: The server's.
        path: With a query, if need be.
        method: The method.
        peer: The address to connect from, in 127.0.0.0/8.
        headers: With `_` in place of `-`.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE, source_address=(peer, 0))
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers={"Connection": "close", **named})
        with connection.sock.dup() as ended:
            answer = connection.getresponse()
            body = answer.read()
            while ended.recv(4096):  # servers close the connection last
                pass
        return answer.status, body
    finally:
        connection.close()
