"""Puts requests on the wire and reads their answers, through httpcore's pools, sync and async.

There is a pool for each way to servers: http or https, and by which proxy. An answer is read within a
bound of time (see `backends`) and of bytes, before and after it is decompressed.
"""

import functools
import re
import zlib
from typing import Any, Final, NamedTuple

import httpcore
import httpx

from umami import _threads

from . import proxies
from .access import Access
from .backends import KEEPALIVE, AsyncBackend, Attempt, Backend, Refusals
from .messages import Reply, Request, printable

_MOST_CONNECTIONS: Final = 100
_MOST_KEPT: Final = 20
_MOST_SERVERS: Final = 64
_KEEP_ALIVE: Final = re.compile(r"\btimeout\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
_COMPRESSED: Final = frozenset(("gzip", "x-gzip", "deflate"))
_GZIP_OR_ZLIB: Final = zlib.MAX_WBITS | 32


class Way(NamedTuple):
    """How a server is reached."""

    scheme: str
    proxy: proxies.Proxy | None


class _Target(NamedTuple):
    """A URL as httpcore takes it."""

    url: httpcore.URL
    host: bytes
    server: tuple[str, str]


@functools.lru_cache(maxsize=64)
def _target(url: str) -> _Target:
    """Return a URL in parts.

    Raises:
        httpx.InvalidURL: It is none.
    """
    parsed = httpx.URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise httpx.InvalidURL("it must begin with http:// or https://, and name a host")
    wire = httpcore.URL(
        scheme=parsed.raw_scheme, host=parsed.raw_host, port=parsed.port, target=parsed.raw_path
    )
    return _Target(wire, parsed.netloc, (parsed.scheme, parsed.netloc.decode()))


def _wire(request: Request, attempt: Attempt, way: Way, target: _Target) -> httpcore.Request:
    url = target.url
    if b":" in url.host and way.proxy is not None and not way.proxy.scheme.startswith("socks"):
        # httpcore tells a proxy the host as it is; the backend takes the brackets off again.
        url = httpcore.URL(scheme=url.scheme, host=b"[%b]" % url.host, port=url.port, target=url.target)
    headers = [(b"Host", target.host)]
    headers.extend((name.encode(), value.encode()) for name, value in request.headers.items())
    content = request.content
    if content is not None or request.method == "POST":
        headers.append((b"Content-Length", b"%d" % len(content or b"")))
    # The backend gets the attempt; only the wait for a free connection is httpcore's own.
    timeout = {"connect": attempt, "read": attempt, "write": attempt, "pool": attempt.left()}
    return httpcore.Request(
        request.method, url, headers=headers, content=content, extensions={"timeout": timeout}
    )


class _Answer:
    """An answer as it comes.

    Args:
        response: Its head.
        limit: The most bytes to read, compressed or not.
    """

    def __init__(self, response: httpcore.Response, limit: int) -> None:
        self.status = response.status
        self.headers: dict[str, str] = {}
        for name, value in response.headers:
            self.headers[name.decode("latin-1").lower()] = printable(value.decode("latin-1"))
        kept = _KEEP_ALIVE.search(self.headers.get("keep-alive", ""))
        if kept:
            use = getattr(response.extensions["network_stream"], "use", None)
            if use is not None:
                use.keep(int(kept[1]))
        self._limit = limit
        self._read = 0
        self._length = 0
        self._chunks: list[bytes] = []
        encoding = self.headers.get("content-encoding", "").strip().lower()
        self._decoder = zlib.decompressobj(_GZIP_OR_ZLIB) if encoding in _COMPRESSED else None
        self._first = True

    def take(self, chunk: bytes) -> bool:
        """Take the next bytes of the body; tell whether there may be more."""
        if self.is_too_long:
            return False
        self._read += len(chunk)
        if self._decoder is not None:
            chunk = self._decompressed(self._decoder, chunk)
        self._chunks.append(chunk)
        self._length += len(chunk)
        return not self.is_too_long

    @property
    def is_too_long(self) -> bool:
        """Whether it has more bytes than the caller wants to read."""
        return max(self._read, self._length) > self._limit

    def _decompressed(self, decoder: Any, chunk: bytes) -> bytes:
        most = self._limit - self._length + 1
        try:
            data: bytes = decoder.decompress(chunk, most)
        except zlib.error:
            if not self._first:
                return b""  # what came until here is all that can be read
            decoder = self._decoder = zlib.decompressobj(-zlib.MAX_WBITS)  # what some servers call deflate
            self._first = False
            return self._decompressed(decoder, chunk)
        self._first = False
        return data

    def reply(self) -> Reply:
        """Return what has come of it."""
        return Reply(self.status, self.headers, None if self.is_too_long else b"".join(self._chunks))


class _Ways:
    """What sync and async pools share.

    Args:
        access: How servers are reached.
        refusals: See `backends`.
    """

    def __init__(self, access: Access, refusals: Refusals | None = None) -> None:
        self.access = access
        self._refusals = refusals or Refusals()
        self._chosen: dict[tuple[str, str], Way] = {}
        self._pools: dict[Way, Any] = {}
        self._stale: list[Any] = []
        self._lock = _threads.Lock()

    def switch(self, access: Access) -> None:
        """Reach servers as `access` says from now on; what is under way ends as it began."""
        if access is not self.access:
            with self._lock:
                self.access = access
                self._chosen.clear()
                self._stale.extend(self._pools.values())
                self._pools.clear()

    def _no_longer_used(self) -> list[Any]:
        """Return the pools of a former access that can be closed."""
        with self._lock:
            stale, self._stale = self._stale, []
            idle = [pool for pool in stale if not any(map(_is_busy, pool.connections))]
            self._stale.extend(pool for pool in stale if pool not in idle)
            return idle

    def _all(self) -> list[Any]:
        """Forget all pools, and return them."""
        with self._lock:
            pools = [*self._pools.values(), *self._stale]
            self._pools.clear()
            self._stale.clear()
            return pools

    def via(self, url: str) -> str:
        """Return what a message is to say of the way to a server."""
        try:
            proxy = self.way(_target(url).server).proxy
        except Exception:  # noqa: BLE001 - the message has another cause
            return ""
        return f" (through the proxy {proxy})" if proxy else ""

    def way(self, server: tuple[str, str]) -> Way:
        """Return how a server is reached. The environment is asked once for each server."""
        way = self._chosen.get(server)
        if way is None:
            if len(self._chosen) >= _MOST_SERVERS:
                self._chosen.clear()
            way = Way(server[0], proxies.choice("://".join(server), self.access.proxy))
            self._chosen[server] = way
        return way

    def _options(self, way: Way, backend: Any) -> dict[str, Any]:
        """Return what httpcore's pools take."""
        proxy = None
        if way.proxy is not None:
            host = way.proxy.host.encode("ascii" if way.proxy.host.isascii() else "idna")
            url = httpcore.URL(scheme=way.proxy.scheme.encode(), host=host, port=way.proxy.port, target=b"/")
            user, password = way.proxy.account or ("", "")
            account = (_Hidden(user.encode()), _Hidden(password.encode())) if way.proxy.account else None
            context = self.access.proxy_context() if way.proxy.scheme == "https" else None
            proxy = httpcore.Proxy(url, auth=account, ssl_context=context)
        return {
            "ssl_context": self.access.context() if way.scheme == "https" else None,
            "proxy": proxy,
            "max_connections": _MOST_CONNECTIONS,
            "max_keepalive_connections": _MOST_KEPT,
            "keepalive_expiry": KEEPALIVE,
            "network_backend": backend,
        }


def _is_busy(connection: Any) -> bool:
    return not (connection.is_idle() or connection.is_closed())


class _Hidden(bytes):
    """A proxy's user or password, which httpcore would show at the level DEBUG."""

    def __repr__(self) -> str:
        return "b'***'"


class Pools(_Ways):
    """Pools of blocking connections. May be shared by _threads.

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

    def exchange(self, request: Request, attempt: Attempt, limit: int) -> Reply:
        """Make a request and return its answer.

        Args:
            request: The request.
            attempt: Bounds its time.
            limit: The most bytes of the answer's body.

        Raises:
            Exception: No answer came; httpcore's, or what a proxy's or a URL's fault is.
        """
        if self._stale:
            for pool in self._no_longer_used():
                pool.close()
        target = _target(request.url)
        way = self.way(target.server)
        response = self._pool(way).handle_request(_wire(request, attempt, way, target))
        attempt.status = response.status
        try:
            answer = _Answer(response, limit)
            stream: Any = response.stream
            for chunk in stream:
                if not answer.take(chunk):
                    break
            return answer.reply()
        finally:
            response.close()

    def prepare(self, url: str) -> None:
        """Make ready for requests to a server."""
        self._pool(self.way(_target(url).server))

    def _pool(self, way: Way) -> httpcore.ConnectionPool:
        pool: httpcore.ConnectionPool | None = self._pools.get(way)
        if pool is None:
            backend = Backend(self._refusals, below_gevent=self._below_gevent)
            made = httpcore.ConnectionPool(**self._options(way, backend))
            with self._lock:
                pool = self._pools.setdefault(way, made)
        return pool

    def close(self) -> None:
        """Close the connections."""
        for pool in self._all():
            pool.close()


class AsyncPools(_Ways):
    """Pools of connections of one event loop."""

    async def exchange(self, request: Request, attempt: Attempt, limit: int) -> Reply:
        """As `Pools.exchange`."""
        if self._stale:
            for pool in self._no_longer_used():
                await pool.aclose()
        target = _target(request.url)
        way = self.way(target.server)
        response = await self._pool(way).handle_async_request(_wire(request, attempt, way, target))
        try:
            answer = _Answer(response, limit)
            stream: Any = response.stream
            try:
                async for chunk in stream:
                    if not answer.take(chunk):
                        await response.aclose()  # the next read fails, which ends httpcore's generators
            except httpcore.ReadError:
                if not answer.is_too_long:
                    raise
            return answer.reply()
        finally:
            await response.aclose()

    def _pool(self, way: Way) -> httpcore.AsyncConnectionPool:
        pool: httpcore.AsyncConnectionPool | None = self._pools.get(way)
        if pool is None:
            options = self._options(way, AsyncBackend(self._refusals))
            pool = self._pools[way] = httpcore.AsyncConnectionPool(**options)
        return pool

    async def aclose(self) -> None:
        """Close the connections."""
        for pool in self._all():
            await pool.aclose()
