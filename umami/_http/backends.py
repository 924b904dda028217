"""httpcore's network backends, sync and async: the time of a request, and what is known of a connection.

httpcore hands the timeouts of a request to the backend as they are, so each of ours is an `Attempt`: it
bounds the sum of all waits, where httpcore bounds each one, and learns how far the request got.
"""

import math
import ssl
import time
from collections.abc import Iterable
from typing import Any, Final

import httpcore

from umami import _threads

from .sockets import Sockets

# Umami closes an idle connection after five seconds; one kept for less is not closed while it is reused.
KEEPALIVE: Final = 4.0
# A server that is told to end refuses new connections and waits for the old ones: none of ours is old.
MOST_AGE: Final = 30.0
_KEEPALIVE_MARGIN: Final = 1.0
_LEAST_WAIT: Final = 0.001
_UNBOUNDED: Final = 3600.0
# Alerts that need not have to do with the handshake.
_UNCLEAR_ALERTS: Final = ("INTERNAL_ERROR", "BAD_RECORD_MAC", "UNEXPECTED_MESSAGE", "USER_CANCELLED")


class Attempt:
    """One request's time, and what is known of how far it got.

    Args:
        timeout: Seconds to connect and to write the request.
        patience: Seconds more for the whole of the answer.
        give_up: When all of it must be over, on the monotonic clock.

    Attributes:
        sent: The whole request was handed to the operating system.
        unprocessed: The server cannot have acted on it, though it was.
        status: The answer's, once its head has come.
    """

    __slots__ = ("_answered", "_give_up", "_patience", "_until", "sent", "status", "unprocessed")

    def __init__(self, timeout: float, patience: float, give_up: float = math.inf) -> None:
        self._give_up = give_up
        self._until = min(give_up, time.monotonic() + timeout)
        self._patience = patience
        self._answered = False
        self.sent = False
        self.unprocessed = False
        self.status: int | None = None

    def left(self) -> float:
        """Return the seconds that the next wait may take."""
        return max(_LEAST_WAIT, self._until - time.monotonic())

    def wrote(self) -> None:
        """Take note that the request was written."""
        self.sent = True
        self._until = min(self._give_up, time.monotonic() + self._patience)

    def read(self, data: bytes, stream: Any) -> None:
        """Take note of what came."""
        if data:
            self._answered = True
        elif self.sent and not self._answered:
            # The connection's end acknowledges what had come before it: without all of the request, the
            # server had closed the connection before it could have read it.
            self.unprocessed = bool(stream.get_extra_info("unacknowledged"))

    def failed_to_read(self, error: Exception) -> None:
        """Take note that the connection broke."""
        reason = getattr(error.__cause__, "reason", None) or ""
        if not self._answered and "ALERT" in reason and not any(word in reason for word in _UNCLEAR_ALERTS):
            self.unprocessed = True  # it refused the handshake, a missing client certificate, say

    @property
    def stored_perhaps(self) -> bool:
        """Whether the server may have acted on the request, if it did not answer."""
        return self.sent and not self.unprocessed


class Refusals:
    """When each server last refused a connection: it may be ending, and wait for those that are open."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, int], float] = {}

    def add(self, server: tuple[str, int]) -> None:
        """Take note that a server refused a connection now."""
        if len(self._times) > 64:
            self._times.clear()
        self._times[server] = time.monotonic()

    def since(self, server: tuple[str, int], moment: float) -> bool:
        """Tell whether a server has refused a connection since then."""
        return self._times.get(server, 0.0) > moment


class _Use:
    """What the streams of one connection share: which request uses it, and until when others may.

    Args:
        server: What it is a connection to.
        refusals: Those of that server among others.
        attempt: The request that it is made for.
    """

    __slots__ = ("_born", "_refusals", "_server", "_until", "attempt", "held")

    def __init__(self, server: tuple[str, int], refusals: Refusals, attempt: Attempt) -> None:
        self._server = server
        self._refusals = refusals
        self._born = time.monotonic()
        self._until = self._born + MOST_AGE
        self.attempt = attempt
        self.held = b""

    def by(self, timeout: Any) -> Attempt:
        """Return the request that uses it now."""
        if isinstance(timeout, Attempt):
            self.attempt = timeout
        return self.attempt

    def keep(self, seconds: float) -> None:
        """Let it be reused for so long at most, as the server said."""
        self._until = min(self._born + MOST_AGE, time.monotonic() + seconds - _KEEPALIVE_MARGIN)

    def is_over(self) -> bool:
        """Tell whether no other request may use it."""
        return time.monotonic() > self._until or self._refusals.since(self._server, self._born)

    def whole(self, buffer: bytes) -> bytes:
        """Return what to write now: the head of a POST goes out with its body, in one packet."""
        if buffer.startswith(b"POST "):
            self.held = buffer
            return b""
        held, self.held = self.held, b""
        return held + buffer if held else buffer


class Stream(httpcore.NetworkStream):
    """A connection whose waits an `Attempt` bounds."""

    def __init__(self, stream: httpcore.NetworkStream, use: _Use) -> None:
        self._stream = stream
        self.use = use

    def read(self, max_bytes: int, timeout: float | Attempt | None = None) -> bytes:
        """Return what has come."""
        attempt = self.use.by(timeout)
        try:
            data = self._stream.read(max_bytes, attempt.left())
        except httpcore.ReadError as error:
            attempt.failed_to_read(error)
            raise
        attempt.read(data, self._stream)
        return data

    def write(self, buffer: bytes, timeout: float | Attempt | None = None) -> None:
        """Send all of `buffer`."""
        attempt, data = self.use.by(timeout), self.use.whole(buffer)
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
        timeout: float | Attempt | None = None,
    ) -> "Stream":
        """Speak TLS from now on."""
        left = self.use.by(timeout).left()
        return Stream(self._stream.start_tls(ssl_context, _bare(server_hostname), left), self.use)

    def get_extra_info(self, info: str) -> Any:
        """Return what is known of it. One that may not be reused is called readable: httpcore closes it."""
        if info == "is_readable" and self.use.is_over():
            return True
        return self._stream.get_extra_info(info)


class Backend(httpcore.NetworkBackend):
    """Connects, one address of a host after another. A fork waits for the look-up of its name.

    Args:
        refusals: Where it takes note of those.
        below_gevent: See `Sockets`.
    """

    def __init__(self, refusals: Refusals, *, below_gevent: bool) -> None:
        self._sockets = Sockets(below_gevent=below_gevent)
        self._refusals = refusals

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | Attempt | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> Stream:
        """Connect to the first of a host's addresses that answers."""
        attempt = _attempt(timeout)
        _threads.look_ups.begin()
        try:
            addresses = self._sockets.look_up(host, port)
        finally:
            _threads.look_ups.end()
        use = _Use((host, port), self._refusals, attempt)
        for others, address in zip(reversed(range(len(addresses))), addresses, strict=True):
            try:
                connected = self._sockets.connect_tcp(
                    address, port, attempt.left() / (others + 1), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                if not others:
                    if isinstance(error, httpcore.ConnectError):
                        self._refusals.add((host, port))
                    raise
            else:
                return Stream(connected, use)
        raise httpcore.ConnectError(f"{host} has no address")


class AsyncStream(httpcore.AsyncNetworkStream):
    """As `Stream`."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, use: _Use) -> None:
        self._stream = stream
        self.use = use

    async def read(self, max_bytes: int, timeout: float | Attempt | None = None) -> bytes:
        """Return what has come."""
        return await self._stream.read(max_bytes, self.use.by(timeout).left())

    async def write(self, buffer: bytes, timeout: float | Attempt | None = None) -> None:
        """Send all of `buffer`."""
        attempt, data = self.use.by(timeout), self.use.whole(buffer)
        if data:
            await self._stream.write(data, attempt.left())

    async def aclose(self) -> None:
        """Close it."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | Attempt | None = None,
    ) -> "AsyncStream":
        """Speak TLS from now on."""
        left = self.use.by(timeout).left()
        return AsyncStream(await self._stream.start_tls(ssl_context, _bare(server_hostname), left), self.use)

    def get_extra_info(self, info: str) -> Any:
        """Return what is known of it. One that may not be reused is called readable: httpcore closes it."""
        if info == "is_readable" and self.use.is_over():
            return True
        return self._stream.get_extra_info(info)


class AsyncBackend(httpcore.AsyncNetworkBackend):
    """As `Backend`, on the event loop of whoever calls."""

    def __init__(self, refusals: Refusals) -> None:
        self._anyio = httpcore.AnyIOBackend()
        self._refusals = refusals

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | Attempt | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> AsyncStream:
        """Connect to the first of a host's addresses that answers."""
        attempt = _attempt(timeout)
        use = _Use((host, port), self._refusals, attempt)
        _threads.look_ups.begin()
        try:
            connected = await self._anyio.connect_tcp(
                host, port, attempt.left(), local_address, socket_options
            )
        except httpcore.ConnectError:
            self._refusals.add((host, port))
            raise
        except ValueError as error:  # a host name that can be none
            raise httpcore.ConnectError(str(error)) from error
        finally:
            _threads.look_ups.end()
        return AsyncStream(connected, use)


def _bare(host: str | None) -> str | None:
    """Return a host name, or an IPv6 address, without brackets."""
    return host and host.strip("[]")


def _attempt(timeout: float | Attempt | None) -> Attempt:
    if isinstance(timeout, Attempt):
        return timeout
    seconds = _UNBOUNDED if timeout is None else timeout
    return Attempt(seconds, seconds)
