"""httpx's transports, sync and async, over pools of httpcore's connections.

Queries use them below an httpx client. The queue's batches use `Transport.exchange` alone: it is cheaper, and
the client has nothing to add to a request that is the same each time.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpcore
import httpx

from umami import _threads
from umami.errors import ResponseError

from .access import Access
from .attempt import Attempt
from .backends import AsyncBackend, Backend, Refusals
from .exchange import Exchange
from .messages import Reply, Request, printable
from .redirects import shown
from .routes import Routes

MOST_BYTES: Final = 32 * 1024 * 1024
"""The longest answer that an httpx client is given, in bytes, decompressed."""

# What `exchange` writes itself.
_OF_REQUEST: Final = frozenset(("host", "content-length"))
# What describes the body as it came, not as it is read.
_OF_TRANSFER: Final = frozenset(("content-encoding", "content-length", "transfer-encoding"))


class Pool(httpcore.ConnectionPool):
    """Connections, each of which makes one request at a time. Threads share them without a lock.

    httpcore's own pool has a lock whose `with` runs Python code. An exception that a signal handler raises
    there, such as Ctrl-C's, can leave it held: this request, the next one and the end of the process would
    wait for it for ever. Connections have such locks too, so one whose request was broken off is not used
    again.

    Args:
        max_keepalive_connections: How many unused connections it keeps.
        options: Those of httpcore's pool, which makes the connections. It bounds their number; this does
            not, as no thread has more than one in use.
    """

    def __init__(self, *, max_keepalive_connections: int, **options: Any) -> None:
        super().__init__(**options)
        self._most_unused = max_keepalive_connections
        self._unused: deque[httpcore.ConnectionInterface] = deque()
        self._made: _threads.Registry[httpcore.ConnectionInterface] = _threads.Registry()

    @property
    def connections(self) -> list[httpcore.ConnectionInterface]:
        """Those that are in use or kept. One that nobody holds is closed by its finalizer."""
        return self._made.members()

    def take(self, origin: httpcore.Origin) -> httpcore.ConnectionInterface:
        """Return a connection to a server, for one request. Those that are too old are closed.

        Each is taken out before it is looked at: no other thread may use it meanwhile.
        """
        taken = None
        for _ in range(len(self._unused)):
            try:
                connection = self._unused.popleft()
            except IndexError:  # other threads were quicker
                break
            if connection.has_expired() or not connection.is_idle():
                connection.close()
            elif taken is None and connection.can_handle_request(origin):
                taken = connection
            else:
                self._unused.append(connection)
        if taken is None:
            taken = self.create_connection(origin)
            self._made.add(taken)
        return taken

    def give_back(self, connection: httpcore.ConnectionInterface) -> None:
        """Keep a connection for another request, if it can make one."""
        if connection.is_idle() and len(self._unused) < self._most_unused:
            self._unused.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close all connections, also those in use."""
        connections = self.connections
        self._unused.clear()
        for connection in connections:
            connection.close()


class Transport(Routes[Pool], httpx.BaseTransport):
    """Makes blocking requests. May be shared by threads.

    Args:
        access: How servers are reached.
        refusals: See `backends`.
        below_gevent: See `sockets`.
    """

    def __init__(
        self, access: Access, refusals: Refusals | None = None, *, below_gevent: bool = False
    ) -> None:
        super().__init__(access, refusals)
        self._below_gevent = below_gevent

    def _new_pool(self, options: dict[str, Any]) -> Pool:
        backend = Backend(self._refusals, below_gevent=self._below_gevent)
        return Pool(**options, network_backend=backend)

    def exchange(self, request: Request, attempt: Attempt, limit: int) -> Reply:
        """Make a request and return its answer.

        Args:
            request: The request.
            attempt: Bounds its time.
            limit: The most bytes of the answer's body.

        Raises:
            Exception: No answer came: httpcore's exceptions, or what is wrong with a URL or a proxy.
        """
        if self._former:
            for pool in self._take_idle():
                pool.close()
        with Exchange(self, request, attempt, limit) as exchange:
            connection = exchange.pool.take(exchange.wire.url.origin)
            try:
                response = connection.handle_request(exchange.wire)
                exchange.begin(response)
                stream: Any = response.stream
                for chunk in stream:
                    exchange.take(chunk)
                response.close()
            except httpcore.ConnectionNotAvailable:
                raise httpcore.WriteError("another thread closed the connection") from None
            except BaseException:
                connection.close()
                raise
            exchange.pool.give_back(connection)
        return exchange.reply()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Make a request of an httpx client, whose extension `attempt` bounds its time."""
        with _httpx_errors():
            reply = self.exchange(_request(request), _attempt(request), MOST_BYTES)
        return _response(request, reply)

    def close(self) -> None:
        """Close the connections. Later requests open new ones."""
        for pool in self._take_all():
            pool.close()


class AsyncTransport(Routes[httpcore.AsyncConnectionPool], httpx.AsyncBaseTransport):
    """As `Transport`, for one event loop."""

    def _new_pool(self, options: dict[str, Any]) -> httpcore.AsyncConnectionPool:
        return httpcore.AsyncConnectionPool(**options, network_backend=AsyncBackend(self._refusals))

    async def exchange(self, request: Request, attempt: Attempt, limit: int) -> Reply:
        """As `Transport.exchange`."""
        if self._former:
            for pool in self._take_idle():
                await pool.aclose()
        with Exchange(self, request, attempt, limit) as exchange:
            response = await exchange.pool.handle_async_request(exchange.wire)
            try:
                exchange.begin(response)
                stream: Any = response.stream
                async for chunk in stream:
                    exchange.take(chunk)
            finally:
                await response.aclose()
        return exchange.reply()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As `Transport.handle_request`."""
        with _httpx_errors():
            reply = await self.exchange(_request(request), _attempt(request), MOST_BYTES)
        return _response(request, reply)

    async def aclose(self) -> None:
        """Close the connections. Later requests open new ones."""
        for pool in self._take_all():
            await pool.aclose()


def _attempt(request: httpx.Request) -> Attempt:
    attempt: Attempt = request.extensions["attempt"]
    return attempt


def _request(request: httpx.Request) -> Request:
    headers = {name: value for name, value in request.headers.items() if name not in _OF_REQUEST}
    return Request(request.method, str(request.url), headers, content=request.content or None)


def _response(request: httpx.Request, reply: Reply) -> httpx.Response:
    """Return an answer as httpx has it.

    Raises:
        ResponseError: It is too long.
    """
    if reply.body is None:
        raise ResponseError(
            f"{request.method} {shown(str(request.url))} answered {reply.status} with more than "
            f"{MOST_BYTES // 2**20} MiB. Does the URL base point at an Umami server?"
        )
    headers = [
        (name.encode(), value.encode()) for name, value in reply.headers.items() if name not in _OF_TRANSFER
    ]
    return httpx.Response(reply.status, headers=headers, content=reply.body)


@contextmanager
def _httpx_errors() -> Iterator[None]:
    """Raise httpx's exceptions in place of httpcore's, and of those that a wrong URL or proxy causes."""
    try:
        yield
    except Exception as error:
        name, text = type(error).__name__, printable(str(error))
        if name in httpcore.__all__:
            kind: Any = getattr(httpx, name, httpx.TransportError)
        elif isinstance(error, (OSError, ValueError, httpx.InvalidURL)) or _is_socks(error):
            kind = httpx.ConnectError
        else:
            raise
        # A cause may hold what a proxy said, raw.
        raise kind(text or name) from (error if str(error).isprintable() else None)


def _is_socks(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] == "socksio"
