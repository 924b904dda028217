"""Posts the queue's batches, and says of each failure whether the server may have stored them."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from umami import _threads
from umami._clock import monotonic

from .access import Access
from .attempt import Attempt
from .backends import Refusals
from .messages import Reply, Request, UnansweredError, printable
from .redirects import Redirects, TooManyRedirectsError
from .routes import parsed
from .transports import Transport

_HEADERS: Final = {"Accept": "*/*", "Accept-Encoding": "identity", "Content-Type": "application/json"}


class Poster:
    """Posts batches. May be shared by threads; each has connections of its own.

    Args:
        access: Returns how servers are reached: a change of it holds from the next request on.
    """

    def __init__(self, access: Callable[[], Access]) -> None:
        self._access = access
        self._transports: dict[int, Transport] = {}
        self._refusals = Refusals()
        self._redirects = Redirects()

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
            limit: The most bytes of the answer to read, compressed or not.
            method: Another method than POST, for a request without a body.

        Raises:
            UnansweredError: No answer came, or not a whole one. What was posted may be stored then, unless
                one of these is sure: no connection was made (its name, its TLS or the proxy failed, a TLS
                alert in place of a first answer included); the request was not written to its end; or the
                server closed the connection before it had received the request's end (Linux tells, for a
                connection that was kept and closed while it was idle).
        """
        transport = self._transport()
        request = Request(
            method, url, {**_HEADERS, **transport.access.headers, **headers}, content=content or None
        )
        give_up = monotonic() + timeout + patience
        hops = self._redirects.follow(request, give_up)
        attempt = Attempt(timeout, patience, give_up)
        try:
            request = next(hops)
            while True:
                request = hops.send(transport.exchange(request, attempt, limit))
                attempt = Attempt(timeout, patience, give_up)
        except StopIteration as end:
            answered: Reply = end.value[1]
            return answered
        except TooManyRedirectsError as error:
            raise UnansweredError(str(error), stored_perhaps=False) from error
        except Exception as error:
            message = _described(error) + transport.describe(request.url)
            raise UnansweredError(
                message, stored_perhaps=attempt.stored_perhaps, status=attempt.status
            ) from error
        finally:
            hops.close()

    def _transport(self) -> Transport:
        """Return this thread's connections."""
        thread, access = _threads.get_ident(), self._access()
        transport = self._transports.get(thread)
        if transport is None:
            transport = Transport(access, self._refusals, below_gevent=_threads.is_patched())
            self._transports[thread] = transport
        transport.switch(access)
        return transport

    def prepare(self, url: str) -> None:
        """Get ready to post from this thread, which takes a while the first time."""
        with suppress(Exception):  # `post` will say so
            transport = self._transport()
            transport.pool(transport.route(parsed(url).server))

    def describe(self, url: str) -> str:
        """Return which proxy requests to a URL go through; see `Routes.describe`."""
        return self._transport().describe(url)

    def leave(self) -> None:
        """Close this thread's connections. A later `post` opens new ones."""
        transport = self._transports.pop(_threads.get_ident(), None)
        if transport is not None:
            transport.close()


def _described(error: Any) -> str:
    text = printable(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
