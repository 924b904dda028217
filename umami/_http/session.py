"""Runs the calls that go straight through an httpx client, sync or async: queries, logins, direct sends."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from dataclasses import replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final, TypeVar, cast

import anyio.lowlevel
import httpx

from umami._clock import monotonic

from .access import Access
from .attempt import Attempt
from .messages import Flow, Reply, Request, printable, secrets_of, without_secrets
from .redirects import Redirects, TooManyRedirectsError, shown
from .routes import Routes
from .transports import AsyncTransport, Transport

T = TypeVar("T")
Send = Callable[[httpx.Request], Awaitable[httpx.Response]]

_HEADERS: Final = {"Accept": "*/*", "Accept-Encoding": "identity"}
_LATE: Final[dict[type[Exception], str]] = {
    httpx.ConnectTimeout: "no connection",
    httpx.WriteTimeout: "the request could not be sent",
    httpx.ReadTimeout: "no complete answer",
}

logger: Final = logging.getLogger("umami")


class Session:
    """Runs flows: with one client for all threads, and one for each event loop.

    Args:
        timeout: Returns the seconds that a request may take as a whole, redirects included.
        access: Returns how servers are reached: a change of it holds from the next call on.
    """

    def __init__(self, timeout: Callable[[], float], access: Callable[[], Access]) -> None:
        self._timeout = timeout
        self._access = access
        self._redirects = Redirects()
        self._transport = Transport(access())
        self._client = httpx.Client(transport=self._transport, **_options())
        self._of_loop: anyio.lowlevel.RunVar[AsyncGenerator[tuple[httpx.AsyncClient, AsyncTransport], None]]
        self._of_loop = anyio.lowlevel.RunVar(f"umami.session.{id(self)}")

    def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end and return its result."""

        async def send(request: httpx.Request) -> httpx.Response:
            return self._client.send(request)

        self._transport.switch(self._access())
        return _completed(self._run(flow, send, self._transport))

    async def run_async(self, flow: Flow[T]) -> T:
        """Run a flow to its end without blocking the event loop, and return its result."""
        clients = self._of_loop.get(None)
        if clients is None:
            clients = _client_of_loop(self._access())
            self._of_loop.set(clients)
        client, transport = await anext(clients)
        transport.switch(self._access())
        return await self._run(flow, client.send, transport)

    async def _run(self, flow: Flow[T], send: Send, routes: Routes[Any]) -> T:
        try:
            request = next(flow)
            while True:
                try:
                    response = await self._response(request, send, routes)
                except Exception as error:  # noqa: BLE001 - the flow decides
                    request = flow.throw(error)
                else:
                    request = flow.send(response)
        except StopIteration as end:
            return cast("T", end.value)

    async def _response(self, request: Request, send: Send, routes: Routes[Any]) -> httpx.Response:
        """Make one request of a flow, redirects followed, within its time.

        Raises:
            httpx.TransportError: No answer came; the message names the request.
            ResponseError: The answer is too long.
        """
        timeout = self._timeout()
        give_up = monotonic() + timeout
        headers = {**_HEADERS, **routes.access.headers, **request.headers}
        url = str(httpx.URL(request.url, params=request.params)) if request.params else request.url
        hop = replace(request, url=url, params=None, headers=headers)
        hops = self._redirects.follow(hop, give_up)
        try:
            hop = next(hops)
            while True:
                response = await _sent(hop, send, give_up, routes)
                hop = hops.send(Reply(response.status_code, response.headers, response.content))
        except (StopIteration, TooManyRedirectsError):
            return response
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise _explained(error, hop, timeout, routes.describe(hop.url)) from error.__cause__
        finally:
            hops.close()

    def close(self) -> None:
        """Close the connections of the sync calls. Later calls open new ones."""
        self._transport.close()

    async def aclose(self) -> None:
        """Close the connections of the sync calls, and of this event loop's async ones."""
        self.close()
        clients = self._of_loop.get(None)
        if clients is not None:
            self._of_loop.set(_client_of_loop(self._access()))
            await clients.aclose()


def _options() -> dict[str, Any]:
    """Return what both kinds of httpx clients are made with: nothing from the environment, no cookies."""
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
    return {"trust_env": False, "follow_redirects": False, "cookies": no_cookies}


def _completed(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never has to wait, such as a sync call's, and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast("T", end.value)
    raise RuntimeError("a sync call waited for an event loop")


async def _client_of_loop(
    access: Access,
) -> AsyncGenerator[tuple[httpx.AsyncClient, AsyncTransport], None]:
    """Yield the same client again and again; an event loop that ends closes this, and so the connections."""
    transport = AsyncTransport(access)
    client = httpx.AsyncClient(transport=transport, **_options())
    try:
        while True:
            yield client, transport
    finally:
        await client.aclose()


async def _sent(request: Request, send: Send, give_up: float, routes: Routes[Any]) -> httpx.Response:
    """Make one request and return the response, whose own `request` has no credentials."""
    started = monotonic()
    attempt = Attempt(give_up - started, give_up - started, give_up)
    wire = httpx.Request(
        request.method,
        request.url,
        headers=request.headers,
        content=request.content,
        extensions={"attempt": attempt},
    )
    try:
        response = await send(wire)
    except Exception as error:
        _log(request, started, error, routes)
        raise
    _log(request, started, response, routes)
    response.request = httpx.Request(request.method, shown(request.url))
    return response


def _log(request: Request, started: float, result: httpx.Response | Exception, routes: Routes[Any]) -> None:
    """Log a request at DEBUG: what came of it, and through which proxy it went."""
    if not logger.isEnabledFor(logging.DEBUG):
        return
    if isinstance(result, httpx.Response):
        outcome = f"answered {result.status_code}"
    else:
        outcome = f"no answer: {printable(str(result))}"
    secrets = secrets_of(request.headers, routes.access.headers)
    logger.debug(
        "%s %s: %.3f s: %s%s",
        request.method,
        shown(request.url),
        monotonic() - started,
        without_secrets(outcome, secrets),
        routes.describe(request.url),
    )


def _explained(error: Exception, request: Request, timeout: float, via: str) -> httpx.TransportError:
    """Return an exception of the same type that names its request."""
    url = shown(request.url)
    late = _LATE.get(type(error))
    what = f"{late} within {timeout:g} s" if late else printable(str(error))
    kind = type(error) if isinstance(error, httpx.TransportError) else httpx.ConnectError
    return kind(f"{request.method} {url}: {what}{via}", request=httpx.Request(request.method, url))
