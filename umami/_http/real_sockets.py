"""Connections that block their thread and nothing else, for the senders of a gevent program.

The sockets that gevent has put in the place of `socket`'s wait in a hub of the thread that made them, and
hubs in several threads get along neither with forks nor with the end of a process. So these are made of
the sockets below, as `httpcore` allows; TLS is spoken through buffers, since gevent's is tied to its sockets.
"""

import _socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import httpcore

T = TypeVar("T")

_RECORD_BYTES: Final = 16 * 1024


class RealSockets(httpcore.NetworkBackend):
    """Makes connections."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> "Connection":
        """Connect to the first of a host's addresses that answers."""
        with _told_as(httpcore.ConnectTimeout, httpcore.ConnectError):
            failure = OSError(f"{host} has no address")
            for family, kind, protocol, _, address in _socket.getaddrinfo(host, port, 0, _socket.SOCK_STREAM):
                connection = _socket.socket(family, kind, protocol)
                try:
                    for option in socket_options or ():
                        connection.setsockopt(*option)
                    if local_address is not None:
                        connection.bind((local_address, 0))
                    connection.settimeout(timeout)
                    connection.connect(address)
                except OSError as error:
                    connection.close()
                    failure = error
                else:
                    connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
                    return Connection(connection)
            raise failure


class Connection(httpcore.NetworkStream):
    """A connection.

    Args:
        socket: A connected socket.
    """

    def __init__(self, socket: _socket.socket) -> None:
        self._socket = socket

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what has come, at most so many bytes; nothing at the end."""
        with _told_as(httpcore.ReadTimeout, httpcore.ReadError):
            self._socket.settimeout(timeout)
            return self._socket.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of `buffer`."""
        with _told_as(httpcore.WriteTimeout, httpcore.WriteError):
            self._socket.settimeout(timeout)
            self._socket.sendall(buffer)

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> "Encrypted":
        """Speak TLS from now on."""
        return Encrypted(self, ssl_context, server_hostname, timeout)

    def get_extra_info(self, info: str) -> Any:
        """Return whether there is something to read; nothing else is known."""
        return self._is_readable() if info == "is_readable" else None

    def _is_readable(self) -> bool:
        self._socket.settimeout(0)
        try:
            self._socket.recv(1, _socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True


class Encrypted(httpcore.NetworkStream):
    """A connection that speaks TLS.

    Args:
        plain: What carries it.
        context: How.
        server_hostname: Whose certificate is expected.
        timeout: The most seconds that a step of the handshake waits.
    """

    def __init__(
        self,
        plain: httpcore.NetworkStream,
        context: ssl.SSLContext,
        server_hostname: str | None,
        timeout: float | None,
    ) -> None:
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        with _told_as(httpcore.ConnectTimeout, httpcore.ConnectError):
            self._exchange(self._tls.do_handshake, timeout)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what has come, at most so many bytes; nothing at the end."""
        with _told_as(httpcore.ReadTimeout, httpcore.ReadError):
            try:
                return self._exchange(lambda: self._tls.read(max_bytes), timeout)
            except ssl.SSLEOFError:
                return b""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of `buffer`."""
        with _told_as(httpcore.WriteTimeout, httpcore.WriteError):
            while buffer:
                buffer = buffer[self._exchange(lambda: self._tls.write(buffer), timeout) :]  # noqa: B023

    def close(self) -> None:
        """Close it."""
        self._plain.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> "Encrypted":
        """Speak TLS inside of TLS, as through an https proxy."""
        return Encrypted(self, ssl_context, server_hostname, timeout)

    def get_extra_info(self, info: str) -> Any:
        """Return what is known of the connection below, and the TLS object."""
        return self._tls if info == "ssl_object" else self._plain.get_extra_info(info)

    def _exchange(self, step: Callable[[], T], timeout: float | None) -> T:
        """Take a step of the protocol, and send and read what it needs."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._plain.write(self._outgoing.read(), timeout)
                data = self._plain.read(_RECORD_BYTES, timeout)
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            else:
                self._plain.write(self._outgoing.read(), timeout)
                return result


@contextmanager
def _told_as(timeout: type[Exception], failure: type[Exception]) -> Iterator[None]:
    """Raise what httpx understands."""
    try:
        yield
    except (TimeoutError, httpcore.TimeoutException) as error:
        raise timeout(error) from error
    except (OSError, httpcore.NetworkError) as error:
        raise failure(error) from error
