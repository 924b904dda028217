"""One request and its answer, in httpcore's terms; a transport makes it, sync or async.

The answer is read within a bound of bytes, before and after it is decompressed, and of time (see `attempt`).
"""

import re
import zlib
from contextvars import Token
from typing import Any, Final, Generic

import httpcore

from .attempt import Attempt, current
from .messages import Reply, Request, printable
from .routes import P, Route, Routes, ServerURL, parsed

_KEEP_ALIVE: Final = re.compile(r"\btimeout\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
_COMPRESSED: Final = frozenset(("gzip", "x-gzip", "deflate"))
_GZIP_OR_ZLIB: Final = zlib.MAX_WBITS | 32


class Exchange(Generic[P]):
    """A request that is made within `with`, and its answer as it comes.

    Args:
        routes: How servers are reached.
        request: The request.
        attempt: Bounds its time.
        limit: The most bytes of the answer's body, compressed or not.

    Attributes:
        pool: The pool that makes it.
        wire: What the pool takes.
    """

    __slots__ = (
        "_attempt", "_chunks", "_decoder", "_headers", "_length", "_limit", "_read", "_status", "_token",
        "pool", "wire",
    )  # fmt: skip

    def __init__(self, routes: Routes[P], request: Request, attempt: Attempt, limit: int) -> None:
        url = parsed(request.url)
        route = routes.route(url.server)
        self.pool = routes.pool(route)
        self.wire = _wire(request, url, route, attempt)
        self._attempt = attempt
        self._limit = limit
        self._status = 0
        self._headers: dict[str, str] = {}
        self._decoder: Any = None
        self._chunks: list[bytes] = []
        self._read = 0  # bytes as they came
        self._length = 0  # bytes after decompression

    def __enter__(self) -> "Exchange[P]":
        self._token: Token[Attempt] = current.set(self._attempt)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        current.reset(self._token)
        return self._attempt.has_enough and isinstance(error, httpcore.ReadError)

    def begin(self, response: httpcore.Response) -> None:
        """Take the head of the answer."""
        self._status = self._attempt.status = response.status
        for name, value in response.headers:
            self._headers[name.decode("latin-1").lower()] = printable(value.decode("latin-1"))
        kept = _KEEP_ALIVE.search(self._headers.get("keep-alive", ""))
        if kept:
            response.extensions["network_stream"].get_extra_info("umami.use").keep(int(kept[1]))
        if self._headers.get("content-encoding", "").strip().lower() in _COMPRESSED:
            self._decoder = zlib.decompressobj(_GZIP_OR_ZLIB)

    def take(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        if self._attempt.has_enough:
            return
        is_first, self._read = self._read == 0, self._read + len(chunk)
        if self._decoder is not None:
            chunk = self._decompressed(chunk, is_first=is_first)
        self._chunks.append(chunk)
        self._length += len(chunk)
        self._attempt.has_enough = max(self._read, self._length) > self._limit

    def _decompressed(self, chunk: bytes, *, is_first: bool) -> bytes:
        most = self._limit - self._length + 1
        try:
            data: bytes = self._decoder.decompress(chunk, most)
        except zlib.error:
            if not is_first:
                return b""  # what came until here is all that can be read
            self._decoder = zlib.decompressobj(-zlib.MAX_WBITS)  # what some servers call deflate
            return self._decompressed(chunk, is_first=False)
        return data

    def reply(self) -> Reply:
        """Return the answer."""
        body = None if self._attempt.has_enough else b"".join(self._chunks)
        return Reply(self._status, self._headers, body)


def _wire(request: Request, url: ServerURL, route: Route, attempt: Attempt) -> httpcore.Request:
    wire = url.wire
    if b":" in wire.host and route.proxy is not None and not route.proxy.scheme.startswith("socks"):
        # httpcore tells a proxy the host without the brackets of an IPv6 address; the backend takes them off.
        wire = httpcore.URL(scheme=wire.scheme, host=b"[%b]" % wire.host, port=wire.port, target=wire.target)
    headers = [(b"Host", url.host)]
    headers.extend((name.encode(), value.encode()) for name, value in request.headers.items())
    content = request.content
    if content is not None or request.method == "POST":
        headers.append((b"Content-Length", b"%d" % len(content or b"")))
    # The backends bound the other waits; the one for a free connection is httpcore's own.
    timeout = {"pool": attempt.left()}
    return httpcore.Request(
        request.method, wire, headers=headers, content=content, extensions={"timeout": timeout}
    )
