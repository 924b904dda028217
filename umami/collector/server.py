"""Runs an ASGI application with uvicorn in a thread, and can stop it without waiting for requests."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from contextlib import suppress

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from umami import _threads
from umami.collector.app import TRANSPORT

_logger = logging.getLogger("umami.collector")

_LOOK_AGAIN = 0.01


class ServerThread:
    """An HTTP server in a thread. It has its port from its creation until `stop`.

    A signal handler may raise anywhere in `start`, as at Ctrl-C. `stop` then ends the thread all the same, or
    keeps it from beginning. Neither waits for a `Future` or an `Event`: these have locks that such an
    exception can leave held.

    Args:
        app: The application to serve.
        host: The address to listen on.
        port: The port; 0 for a free one.
        keep_alive: Seconds until an idle connection is closed.

    Raises:
        OSError: The port is in use, or the host is not an address of this machine.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, *, keep_alive: int) -> None:
        self._listener = _bind(host, port)
        self.port: int = self._listener.getsockname()[1]
        self._server = _Server(app, keep_alive=keep_alive)
        self._thread = threading.Thread(target=self._run, name="umami-collector", daemon=True)
        # Whether the thread runs. Who comes first says so, in one call that nothing can interrupt.
        self._settled: dict[str, bool] = {}

    def start(self) -> None:
        """Starts the thread, and returns when it listens."""
        self._thread.start()
        self._server.wait()

    def stop(self, *, finish: bool = False) -> None:
        """Cuts all connections, and returns when the thread has ended. May be called from any thread.

        Args:
            finish: First serve the connections in use until they are closed. Another call with False cuts
                them.
        """
        if self._settled.setdefault("runs", False):
            self._server.request_stop(finish=finish)
            self._thread.join()
        else:
            self._listener.close()

    def _run(self) -> None:
        if self._settled.setdefault("runs", True):
            self._server.run_on(self._listener)


def _bind(host: str, port: int) -> socket.socket:
    # asyncio sets TCP_NODELAY only if the socket's protocol is TCP, which socket.create_server does not set.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, proto=socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except BaseException:
        listener.close()
        raise
    return listener


class _Server(uvicorn.Server):
    """A uvicorn server that tells when it listens, and drops requests in progress when it stops."""

    def __init__(self, app: ASGIApp, *, keep_alive: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                server_header=False,
                date_header=False,
                timeout_keep_alive=keep_alive,
            )
        )
        self._listening = _threads.waiter()
        self._is_listening = False
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._is_to_stop = False
        self._finishes = False

    def wait(self) -> None:
        """Returns when it listens, or raises why it does not. May be called once."""
        self._listening.acquire()
        if self._failure is not None:
            raise self._failure

    def run_on(self, listener: socket.socket) -> None:
        """Serves on a bound socket until `request_stop`."""
        try:
            asyncio.run(self.serve([listener]))
        except BaseException as error:
            if self._is_listening:
                raise
            self._failure = error
            self._listening.release()
        finally:
            listener.close()

    def request_stop(self, *, finish: bool) -> None:
        """Ends `run_on`, soon or when all connections are closed. May be called from any thread."""
        self._finishes = finish
        self._is_to_stop = True  # for `main_loop`, if there is no event loop yet
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed: another thread has stopped the server
                self._loop.call_soon_threadsafe(self._stop.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._is_listening = True
        self._listening.release()

    async def main_loop(self) -> None:
        if not self._is_to_stop:
            await self._stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        # asyncio accepts a connection first, and sets it up in a task. One that only begins after the server
        # was closed fails, and leaves the connection open (CPython 3.10 to 3.13).
        for server in self.servers:
            for listener in server.sockets:
                with suppress(NotImplementedError):  # by the event loop of Windows
                    asyncio.get_running_loop().remove_reader(listener)
        await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        if self._finishes:
            # As Node.js does: connections in use are served for as long as the client uses them.
            for connection in list(self.server_state.connections):
                if isinstance(connection, _Protocol) and connection.is_idle:
                    connection.shutdown()
                elif isinstance(connection, _Protocol) and connection.is_of_the_page:
                    connection.transport.abort()  # a page that is left open would go on for ever
        # A connection is removed only after its whole answer was sent.
        while self._finishes and (self.server_state.connections or self.server_state.tasks):  # noqa: ASYNC110 - uvicorn has no event for that
            await asyncio.sleep(_LOOK_AGAIN)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        # Let the requests see that their connections are lost, so that they end without an error.
        await asyncio.sleep(0)
        # Not only uvicorn's tasks: one that sets up a connection closes it when it is cancelled.
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Protocol(H11Protocol):
    """HTTP/1.1, with the connection's transport in the scope, so that the app can cut it."""

    @property
    def is_idle(self) -> bool:
        """Whether a request was answered and no other has begun. A new connection is not idle."""
        answered = self.cycle is not None and self.cycle.response_complete
        return answered and self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]

    @property
    def is_of_the_page(self) -> bool:
        """Whether its request is not for Umami, but for the collector's page."""
        return self.cycle is not None and self.cycle.scope["path"].startswith("/collector/")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.logger = _logger
        self.access_log = False
        app = self.app

        async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            scope["extensions"] = {TRANSPORT: transport}
            await app(scope, receive, send)

        self.app = with_transport
