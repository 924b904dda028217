"""httpx's transports, sync and async, over httpcore's pools.

Queries use them below an httpx client. The queue's batches use `Transport.exchange` alone: it is cheaper, and
the client has nothing to add to a request that is the same each time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpcore
import httpx

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


class Transport(Routes[httpcore.ConnectionPool], httpx.BaseTransport):
    """Makes blocking requests. May be shared by _threads.

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

    def _new_pool(self, options: dict[str, Any]) -> httpcore.ConnectionPool:
        backend = Backend(self._refusals, below_gevent=self._below_gevent)
        return httpcore.ConnectionPool(**options, network_backend=backend)

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
            response = exchange.pool.handle_request(exchange.wire)
            try:
                exchange.begin(response)
                stream: Any = response.stream
                for chunk in stream:
                    exchange.take(chunk)
            finally:
                response.close()
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
