"""httpcore's network backends, sync and async, within the time of the current attempt (see `attempt`).

They also decide how long a connection may be reused.

They rely on what httpcore does not promise; a bound in pyproject.toml guards it. Before httpcore reuses a
connection it asks the stream whether it `is_readable`, and closes it then. It writes the head of a request
first, and its body in the next call. It passes the host of a proxied request on as it is, brackets included.
"""

import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Generic, TypeVar

import httpcore

from umami import _threads
from umami._clock import monotonic

from .attempt import current
from .sockets import Sockets

S = TypeVar("S", bound=httpcore.NetworkStream | httpcore.AsyncNetworkStream)

# Umami closes an idle connection after five seconds: one that is kept for less is not closed while in use.
KEEPALIVE: Final = 4.0
# A server that is told to end refuses new connections and waits for the old ones: none of ours gets old.
MOST_AGE: Final = 30.0
_KEEPALIVE_MARGIN: Final = 1.0
_MOST_SERVERS: Final = 64


class Refusals:
    """When each server last refused a connection: it may be ending, and wait for those that are open."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, int], float] = {}

    @contextmanager
    def noting(self, server: tuple[str, int]) -> Iterator[None]:
        """Note it if the server refuses a connection."""
        try:
            yield
        except httpcore.ConnectError:
            if len(self._times) > _MOST_SERVERS:
                self._times.clear()
            self._times[server] = monotonic()
            raise

    def since(self, server: tuple[str, int], moment: float) -> bool:
        """Tell whether a server has refused a connection since then."""
        return self._times.get(server, 0.0) > moment


class Use:
    """How long requests may use a connection. Its streams, plain and TLS, share it.

    Args:
        server: What it is a connection to.
        refusals: Those of that server among others.
    """

    __slots__ = ("_born", "_held", "_refusals", "_server", "_until")

    def __init__(self, server: tuple[str, int], refusals: Refusals) -> None:
        self._server = server
        self._refusals = refusals
        self._born = monotonic()
        self._until = self._born + MOST_AGE
        self._held = b""

    def keep(self, seconds: float) -> None:
        """Let it be reused for so long at most, as the server said."""
        self._until = min(self._born + MOST_AGE, monotonic() + seconds - _KEEPALIVE_MARGIN)

    @property
    def is_over(self) -> bool:
        """Whether no other request may use it."""
        return monotonic() > self._until or self._refusals.since(self._server, self._born)

    def packet(self, buffer: bytes) -> bytes:
        """Return what to write now: the head of a POST waits for its body, and both go in one packet."""
        if buffer.startswith(b"POST "):
            self._held = buffer
            return b""
        held, self._held = self._held, b""
        return held + buffer if held else buffer


class _Stream(Generic[S]):
    """What sync and async streams share.

    Args:
        stream: The stream that it puts bounds on.
        use: How long requests may use the connection.
    """

    def __init__(self, stream: S, use: Use) -> None:
        self._stream = stream
        self._use = use

    def get_extra_info(self, info: str) -> Any:
        """Return what is known of it. One that may not be reused is called readable: httpcore closes it."""
        if info == "umami.use":
            return self._use
        return (info == "is_readable" and self._use.is_over) or self._stream.get_extra_info(info)


class Stream(_Stream[httpcore.NetworkStream], httpcore.NetworkStream):
    """A connection. Each wait takes what the current attempt has left, whatever `timeout` says."""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        """Return what has come."""
        attempt = current.get()
        try:
            data = self._stream.read(max_bytes, attempt.left_to_read())
        except httpcore.ReadError as error:
            attempt.broke(error)
            raise
        if data:
            attempt.received()
        else:
            attempt.closed(self._stream.get_extra_info("unacknowledged"))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        """Send all of `buffer`."""
        attempt, data = current.get(), self._use.packet(buffer)
        if data:
            self._stream.write(data, attempt.left())
            if data.startswith(b"POST "):  # no talk with a proxy
                attempt.wrote()

    def close(self) -> None:
        """Close it."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> "Stream":
        """Speak TLS from now on."""
        host = _bare(server_hostname)
        return Stream(self._stream.start_tls(ssl_context, host, current.get().left()), self._use)


class Backend(httpcore.NetworkBackend):
    """Connects, one address of a host after another. A fork waits for the look-up of the host's name.

    Args:
        refusals: Where it notes them.
        below_gevent: See `Sockets`.
    """

    def __init__(self, refusals: Refusals, *, below_gevent: bool) -> None:
        self._sockets = Sockets(below_gevent=below_gevent)
        self._refusals = refusals

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> Stream:
        """Connect to the first of a host's addresses that answers."""
        with _look_up():
            try:
                addresses = _threads.bounded(lambda: self._sockets.look_up(host, port), current.get().left())
            except TimeoutError:
                raise httpcore.ConnectTimeout(f"the name {host} could not be looked up in time") from None
        use = Use((host, port), self._refusals)
        with self._refusals.noting((host, port)):
            for others, address in zip(reversed(range(len(addresses))), addresses, strict=True):
                share = current.get().left() / (others + 1)
                try:
                    connected = self._sockets.connect_tcp(address, port, share, local_address, socket_options)
                except (httpcore.ConnectError, httpcore.ConnectTimeout):
                    if not others:
                        raise
                else:
                    return Stream(connected, use)
        raise httpcore.ConnectError(f"{host} has no address")


class AsyncStream(_Stream[httpcore.AsyncNetworkStream], httpcore.AsyncNetworkStream):
    """As `Stream`."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        """Return what has come."""
        return await self._stream.read(max_bytes, current.get().left_to_read())

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        """Send all of `buffer`."""
        data = self._use.packet(buffer)
        if data:
            await self._stream.write(data, current.get().left())

    async def aclose(self) -> None:
        """Close it."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> "AsyncStream":
        """Speak TLS from now on."""
        host = _bare(server_hostname)
        return AsyncStream(await self._stream.start_tls(ssl_context, host, current.get().left()), self._use)


class AsyncBackend(httpcore.AsyncNetworkBackend):
    """As `Backend`, on the caller's event loop."""

    def __init__(self, refusals: Refusals) -> None:
        self._anyio = httpcore.AnyIOBackend()
        self._refusals = refusals

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> AsyncStream:
        """Connect to the first of a host's addresses that answers."""
        use = Use((host, port), self._refusals)
        with _look_up(), self._refusals.noting((host, port)):
            try:
                connected = await self._anyio.connect_tcp(
                    host, port, current.get().left(), local_address, socket_options
                )
            except ValueError as error:  # it is not a host name
                raise httpcore.ConnectError(str(error)) from error
        return AsyncStream(connected, use)


@contextmanager
def _look_up() -> Iterator[None]:
    """Look up a name: a fork waits for it."""
    _threads.look_ups.begin()
    try:
        yield
    finally:
        _threads.look_ups.end()


def _bare(host: str | None) -> str | None:
    """Return a host name, or an IPv6 address, without brackets."""
    return host and host.strip("[]")
