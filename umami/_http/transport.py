"""HTTP, and the only place that knows httpx: to swap it for a fork, change the import here.

Two ways in: `Poster`, which the queue's senders use and which says of each failure whether the server
may have stored the events all the same; and `Session`, which runs the calls that go straight through,
sync and async. Both follow redirects themselves, so that a POST stays a POST and a credential never
goes to another host.
"""

import functools
import ssl
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio.lowlevel
import httpx

from umami import threads

from .messages import MOST_REDIRECTS, Flow, Reply, Request, UnansweredError, redirected

T = TypeVar("T")

# Umami closes an idle connection after five seconds; one kept for less is not closed while it is reused.
_KEEPALIVE: Final = 4.0
_LEAST_READ: Final = 0.001
_HEADERS: Final = {"Accept": "*/*", "Accept-Encoding": "identity", "Content-Type": "application/json"}
# Before any of a request is written. The last is the resolver's, of a name that can be no host's.
_NEVER_LEFT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
    httpx.InvalidURL,
    UnicodeError,
)


class Poster:
    """Posts the queue's batches. May be shared by threads; each has connections of its own.

    It uses httpx's transports without the client around them, which makes a request a third dearer and has
    nothing to add to one that is the same each time.
    """

    def __init__(self) -> None:
        self._lines: dict[tuple[int, str], _Line] = {}
        self._context: ssl.SSLContext | None = None

    def post(
        self,
        url: str,
        content: bytes,
        headers: Mapping[str, str],
        *,
        timeout: float,
        patience: float,
        limit: int,
        method: str = "POST",
    ) -> Reply:
        """POST `content` and return the answer, redirects followed.

        Args:
            url: Where to.
            content: The body.
            headers: The headers; a credential among them does not follow a redirect to another host.
            timeout: Seconds for connecting and for writing.
            patience: Seconds for the whole of the answer, however slowly it comes.
            limit: The most bytes of the answer to read.
            method: Another method than POST.

        Raises:
            UnansweredError: No answer came, or not a whole one.
        """
        request = Request(method, url, {**_HEADERS, **headers}, content=content)
        limits = {"connect": timeout, "write": timeout, "pool": timeout, "read": patience}
        give_up = time.monotonic() + timeout + patience
        for _ in range(MOST_REDIRECTS + 1):
            try:
                answer = self._attempt(request, limits, patience, limit)
            except _NEVER_LEFT as error:
                raise UnansweredError(_described(error), stored_perhaps=False) from error
            except httpx.HTTPError as error:
                raise UnansweredError(_described(error), stored_perhaps=True) from error
            if isinstance(answer, Reply):
                return answer
            request = answer
            if time.monotonic() > give_up:
                raise UnansweredError(
                    f"the redirects took too long, the last to {request.url}", stored_perhaps=False
                )
        raise UnansweredError(
            f"more than {MOST_REDIRECTS} redirects, the last to {request.url}", stored_perhaps=False
        )

    def _attempt(
        self, request: Request, limits: dict[str, float], patience: float, limit: int
    ) -> Reply | Request:
        line = self._line(request.url)
        clock = line.clock
        clock.read_until = time.monotonic() + limits["connect"] + patience
        post = httpx.Request(
            request.method,
            _parsed(request.url),
            headers=request.headers,
            content=request.content,
            extensions={"timeout": limits, "trace": clock.watch},
        )
        answer = line.transport.handle_request(post)
        try:
            answer.request = post
            follow = redirected(request, answer)
            if follow is not None:
                return follow
            try:
                body = _read(answer, clock, limit)
            except httpx.HTTPError as error:
                raise UnansweredError(
                    _described(error), stored_perhaps=True, status=answer.status_code
                ) from error
            return Reply(answer.status_code, answer.headers, body)
        finally:
            answer.close()

    def _line(self, url: str) -> "_Line":
        scheme, _, rest = url.partition("://")
        key = threads.get_ident(), f"{scheme.lower()}://{rest.partition('/')[0]}"
        line = self._lines.get(key)
        if line is None:
            try:
                line = self._lines[key] = self._new_line(*key)
            except Exception as error:  # a proxy or a certificate file that the environment names wrongly
                raise UnansweredError(_described(error), stored_perhaps=False) from error
        return line

    def _new_line(self, thread: int, origin: str) -> "_Line":
        way = urlsplit(origin).scheme, _proxy_to(origin)
        # One for all servers that a thread reaches in the same way: it closes what another of them left idle.
        for (other_thread, _), line in tuple(self._lines.items()):
            if other_thread == thread and line.way == way:
                return line
        return _Line(way, self._new_transport(*way))

    def _new_transport(self, scheme: str, proxy: str | None) -> httpx.HTTPTransport:
        transport = httpx.HTTPTransport(
            verify=self._context_with_authorities() if scheme == "https" else _WITHOUT_AUTHORITIES,
            limits=httpx.Limits(keepalive_expiry=_KEEPALIVE),
            proxy=proxy,
        )
        if threads.is_patched():
            _use_real_sockets(transport)
        return transport

    def _context_with_authorities(self) -> ssl.SSLContext:
        with threads.importing:
            if self._context is None:
                self._context = httpx.create_ssl_context()
            return self._context

    def prepare(self, url: str) -> None:
        """Make ready to post from this thread, which takes a while the first time."""
        with suppress(UnansweredError):  # `post` will say so
            self._line(url)

    def leave(self) -> None:
        """Close this thread's connections. A later `post` opens new ones."""
        mine = threads.get_ident()
        for key in tuple(self._lines):
            if key[0] == mine:
                self._lines.pop(key).transport.close()


# Loading the certificate authorities takes some 20 ms of CPU, which plain http has no use for; a context
# without any still refuses every peer. A process's first context takes 1 ms, better at its start than while
# an event loop runs.
_WITHOUT_AUTHORITIES: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

_parsed: Final = functools.lru_cache(maxsize=64)(httpx.URL)


def _use_real_sockets(transport: httpx.HTTPTransport) -> None:
    """Have a transport connect without gevent, which httpx itself has no setting for."""
    from .real_sockets import RealSockets

    transport._pool._network_backend = RealSockets()  # noqa: SLF001


def _proxy_to(origin: str) -> str | None:
    """Return the proxy that the environment names for a server, if it does."""
    parts = urlsplit(origin)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


class _Line:
    """A thread's connections.

    Args:
        way: The scheme and the proxy that they go by.
        transport: What makes them.
    """

    def __init__(self, way: tuple[str, str | None], transport: httpx.HTTPTransport) -> None:
        self.way = way
        self.transport = transport
        self.clock = _Clock()


class _Clock:
    """Bounds the time of a whole answer, which a server may send byte by byte, its head included.

    httpx bounds each read of a connection, not their sum; so each is given what is left of the sum.
    """

    read_until = 0.0

    def watch(self, event: str, info: Mapping[str, Any]) -> None:
        """Bound the reads of each new connection, and tell of look-ups; called by httpx with all it does."""
        if event.endswith("connect_tcp.started"):
            threads.look_ups.begin()
        elif event.endswith(("connect_tcp.complete", "connect_tcp.failed")):
            threads.look_ups.end()
        if not event.endswith(("connect_tcp.complete", "start_tls.complete")):
            return
        stream = info["return_value"]
        read = stream.read

        def bounded(max_bytes: int, timeout: float | None = None) -> bytes:
            left = max(_LEAST_READ, self.read_until - time.monotonic())
            data: bytes = read(max_bytes, left if timeout is None else min(timeout, left))
            return data

        stream.read = bounded


def _read(answer: httpx.Response, clock: _Clock, limit: int) -> bytes | None:
    """Read a body within a bound of bytes and of time, since a server may send for ever."""
    chunks = []
    length = 0
    for chunk in cast("httpx.SyncByteStream", answer.stream):
        chunks.append(chunk)
        length += len(chunk)
        if length > limit:
            return None
        if time.monotonic() > clock.read_until:
            raise httpx.ReadTimeout("the answer took too long to come")
    return b"".join(chunks)


def _described(error: Exception) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class Session:
    """Runs flows over pooled connections: one pool for all threads, one for each event loop.

    Args:
        timeout: Returns the seconds that connecting, writing and each read may take.
    """

    def __init__(self, timeout: Callable[[], float]) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._pool: anyio.lowlevel.RunVar[AsyncGenerator[httpx.AsyncClient, None]]
        self._pool = anyio.lowlevel.RunVar(f"umami.session.{id(self)}")

    def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end and return its result."""
        try:
            request = next(flow)
            while True:
                try:
                    response = self._sync_client().request(**self._arguments(request))
                except Exception as error:  # noqa: BLE001 - the flow decides
                    request = flow.throw(error)
                else:
                    request = flow.send(response)
        except StopIteration as end:
            return cast("T", end.value)

    async def run_async(self, flow: Flow[T]) -> T:
        """Run a flow to its end without blocking the event loop, and return its result."""
        try:
            request = next(flow)
            while True:
                try:
                    client = await self._async_client()
                    response = await client.request(**self._arguments(request))
                except Exception as error:  # noqa: BLE001 - the flow decides
                    request = flow.throw(error)
                else:
                    request = flow.send(response)
        except StopIteration as end:
            return cast("T", end.value)

    def _arguments(self, request: Request) -> dict[str, Any]:
        return {
            "method": request.method,
            "url": request.url,
            "headers": request.headers,
            "params": request.params,
            "content": request.content,
            "timeout": self._timeout(),
        }

    def _sync_client(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                self._client = httpx.Client(limits=httpx.Limits(keepalive_expiry=_KEEPALIVE))
            return self._client

    async def _async_client(self) -> httpx.AsyncClient:
        pool = self._pool.get(None)
        if pool is None:
            pool = _async_pool()
            self._pool.set(pool)
        return await anext(pool)

    def close(self) -> None:
        """Close the connections of the sync calls."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    async def aclose(self) -> None:
        """Close the connections of the sync calls, and of this event loop's async ones."""
        self.close()
        pool = self._pool.get(None)
        if pool is not None:
            self._pool.set(_async_pool())
            await pool.aclose()


async def _async_pool() -> AsyncGenerator[httpx.AsyncClient, None]:
    """Yield one client again and again; when its event loop ends, so does the generator, and closes it."""
    async with httpx.AsyncClient(limits=httpx.Limits(keepalive_expiry=_KEEPALIVE)) as client:
        while True:
            yield client
