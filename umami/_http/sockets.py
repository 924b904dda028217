"""Blocking sockets for httpcore, the same for plain programs and for those that gevent has patched.

TLS goes through memory buffers, so that it works over any socket, and over another TLS connection. In a
program that gevent has patched, the workers use the operating system's sockets. gevent's own sockets wait in
a hub of the thread that made them, and hubs in several threads break forks and the end of a process.
"""

import _socket
import math
import socket
import ssl
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import httpcore

from umami._clock import monotonic

T = TypeVar("T")

_RECORD_BYTES: Final = 16 * 1024


class Sockets(httpcore.NetworkBackend):
    """Makes connections.

    Args:
        below_gevent: Whether to use the operating system's sockets even if gevent has patched `socket`.
    """

    def __init__(self, *, below_gevent: bool = False) -> None:
        self._module: Any = _socket if below_gevent else socket

    def look_up(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host."""
        with _raised_as(httpcore.ConnectTimeout, httpcore.ConnectError):
            found = self._module.getaddrinfo(host, port, 0, _socket.SOCK_STREAM)
            return list(dict.fromkeys(address[0] for *_, address in found))

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> "Connection":
        """Connect to an address."""
        with _raised_as(httpcore.ConnectTimeout, httpcore.ConnectError):
            family, kind, protocol, _, address = _socket.getaddrinfo(host, port, 0, _socket.SOCK_STREAM)[0]
            connection = self._module.socket(family, kind, protocol)
            try:
                for option in socket_options or ():
                    connection.setsockopt(*option)
                if local_address is not None:
                    connection.bind((local_address, 0))
                connection.settimeout(timeout)
                connection.connect(address)
                connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            except BaseException:
                connection.close()
                raise
            return Connection(connection)


class Connection(httpcore.NetworkStream):
    """A connection.

    Args:
        connected: A connected socket.
    """

    def __init__(self, connected: Any) -> None:
        self._socket = connected

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what has come, at most `max_bytes`; nothing at the end."""
        with _raised_as(httpcore.ReadTimeout, httpcore.ReadError):
            self._socket.settimeout(timeout)
            data: bytes = self._socket.recv(max_bytes)
            return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of `buffer`."""
        if buffer:
            with _raised_as(httpcore.WriteTimeout, httpcore.WriteError):
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
        """Return whether there is something to read, or how many bytes the peer has not acknowledged."""
        if info == "is_readable":
            return self._is_readable()
        return self._unacknowledged() if info == "unacknowledged" else None

    def _is_readable(self) -> bool:
        try:
            self._socket.settimeout(0)
            self._socket.recv(1, _socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def _unacknowledged(self) -> int:
        """Return how many of the sent bytes the peer's system has not received; 0 if this is not known."""
        with suppress(ImportError, AttributeError, OSError):  # on other systems than Linux
            import fcntl
            import termios

            answer = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, bytes(4))
            return int.from_bytes(answer, sys.byteorder)
        return 0


class Encrypted(httpcore.NetworkStream):
    """A connection that speaks TLS.

    A step of TLS may take many reads and writes below it, as many as the peer likes. So each of its timeouts
    bounds the sum of them.

    Args:
        plain: The connection below.
        context: The TLS context.
        server_hostname: The name that the certificate must have.
        timeout: The most seconds that the handshake takes.
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
        try:
            with _raised_as(httpcore.ConnectTimeout, httpcore.ConnectError):
                self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
                self._exchange(self._tls.do_handshake, _end(timeout))
        except BaseException:
            plain.close()
            raise

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what has come, at most `max_bytes`; nothing at the end."""
        with _raised_as(httpcore.ReadTimeout, httpcore.ReadError):
            try:
                return self._exchange(lambda: self._tls.read(max_bytes), _end(timeout))
            except ssl.SSLEOFError:
                return b""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of `buffer`."""
        give_up = _end(timeout)
        with _raised_as(httpcore.WriteTimeout, httpcore.WriteError):
            while buffer:  # a record at a time
                buffer = buffer[self._exchange(lambda: self._tls.write(buffer), give_up) :]  # noqa: B023

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

    def _exchange(self, step: Callable[[], T], give_up: float) -> T:
        """Take one step of the protocol: send and read what it needs."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush(give_up)
                data = self._plain.read(_RECORD_BYTES, _left(give_up))
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except ssl.SSLError:
                with suppress(httpcore.NetworkError, httpcore.TimeoutException, TimeoutError):
                    self._flush(give_up)  # the alert that tells the peer why
                raise
            else:
                self._flush(give_up)
                return result

    def _flush(self, give_up: float) -> None:
        """Send what the protocol wants to send, if anything."""
        if self._outgoing.pending:
            self._plain.write(self._outgoing.read(), _left(give_up))


def _end(timeout: float | None) -> float:
    """Return the monotonic time at which a timeout that begins now is over."""
    return math.inf if timeout is None else monotonic() + timeout


def _left(give_up: float) -> float | None:
    """Return the seconds until then, as a timeout.

    Raises:
        TimeoutError: There are none left.
    """
    if give_up == math.inf:
        return None
    left = give_up - monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


@contextmanager
def _raised_as(timeout: type[Exception], failure: type[Exception]) -> Iterator[None]:
    """Raise httpcore's exceptions in place of the operating system's."""
    try:
        yield
    except (TimeoutError, httpcore.TimeoutException) as error:
        raise timeout(error) from error
    # ValueError: an impossible host name, or a certificate's name that cannot be checked.
    except (OSError, ValueError, httpcore.NetworkError) as error:
        raise failure(error) from error
