"""Runs the calls that go straight through an httpx client, sync or async: queries, logins, direct sends.

A GET that was not answered, or with a status that asks to try again, is repeated by the policy of the
queue's retries, within `query_timeout`.
"""

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from dataclasses import replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final, NamedTuple, TypeVar, cast
from weakref import WeakKeyDictionary

import anyio.lowlevel
import httpx

from umami._clock import monotonic
from umami.queue.retry import Attempts, RetryPolicy
from umami.settings import Settings

from .access import Access
from .attempt import Attempt
from .foreign import retry_after
from .messages import Flow, Reply, Request, printable, secrets_of, without_secrets
from .pacing import Pace
from .redirects import Redirects, TooManyRedirectsError, shown
from .routes import Routes
from .transports import AsyncTransport, Transport

T = TypeVar("T")
Send = Callable[[httpx.Request], Awaitable[httpx.Response]]

_HEADERS: Final = {"Accept": "*/*", "Accept-Encoding": "identity"}
_TRY_LATER: Final = frozenset((429, 502, 503, 504))
_NOT_REACHED: Final = (httpx.ConnectError, httpx.ConnectTimeout)
# Not a ReadTimeout: a query that takes too long would take as long again, and load the server for nothing.
_LOST: Final = (*_NOT_REACHED, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
_MOST_REACHED: Final = 64
_LEAST_TIMEOUT: Final = 0.001
_LATE: Final[dict[type[Exception], str]] = {
    httpx.ConnectTimeout: "no connection",
    httpx.WriteTimeout: "the request could not be sent",
    httpx.ReadTimeout: "no complete answer",
}

logger: Final = logging.getLogger("umami")


class _Wire(NamedTuple):
    """How a flow's requests are made, and its waits: sync, or in an event loop."""

    send: Send
    sleep: Callable[[float], Awaitable[object]]
    routes: Routes[Any]


class Session:
    """Runs flows: with one client for all threads, and one for each event loop.

    Args:
        settings: Returns the client's settings: a change of them holds from the next call on.
        access: Returns how servers are reached, likewise.
        policy: Returns when failed requests are made again.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        access: Callable[[], Access],
        policy: Callable[[], RetryPolicy],
    ) -> None:
        self._settings = settings
        self._access = access
        self._policy = policy
        self._redirects = Redirects()
        self._pace = Pace()
        self._reached: set[str] = set()  # the servers that have answered
        self._transport = Transport(access())
        self._client = httpx.Client(transport=self._transport, **_options())

    def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end and return its result."""

        async def send(request: httpx.Request) -> httpx.Response:
            return self._client.send(request)

        async def sleep(seconds: float) -> None:
            time.sleep(seconds)  # noqa: ASYNC251 - no event loop runs this

        self._transport.switch(self._access())
        return _completed(self._run(flow, _Wire(send, sleep, self._transport)))

    async def run_async(self, flow: Flow[T]) -> T:
        """Run a flow to its end without blocking the event loop, and return its result."""
        of_loop = _clients_of_loop()
        clients = of_loop.get(self)
        if clients is None:
            clients = of_loop[self] = _client_of_loop(self._access())
        client, transport = await anext(clients)
        transport.switch(self._access())
        return await self._run(flow, _Wire(client.send, anyio.sleep, transport))

    async def _run(self, flow: Flow[T], wire: _Wire) -> T:
        try:
            request = next(flow)
            give_up = monotonic() + self._settings().query_timeout
            while True:
                if request.paced and (seconds := self._pace.wait()):
                    give_up += seconds  # it is not the server that is slow
                    await wire.sleep(seconds)
                try:
                    response = await self._answered(request, wire, give_up)
                except Exception as error:  # noqa: BLE001 - the flow decides
                    request = flow.throw(error)
                else:
                    request = flow.send(response)
        except StopIteration as end:
            return cast("T", end.value)

    async def _answered(self, request: Request, wire: _Wire, give_up: float) -> httpx.Response:
        """Make one request of a flow until it is answered, or until there is no time for another attempt."""
        policy = attempts = None
        earlier: httpx.Response | httpx.TransportError | None = None
        server = request.url.partition("/api")[0]
        while True:
            result: httpx.Response | httpx.TransportError
            wait = None
            cut_short = give_up - monotonic() < self._settings().timeout
            try:
                result = await self._response(request, wire, give_up)
                if len(self._reached) < _MOST_REACHED:
                    self._reached.add(server)
                if result.status_code not in _TRY_LATER or request.method != "GET" or request.once:
                    return result
                wait = retry_after(result.headers)
            except httpx.TransportError as error:
                # An attempt with too little time for an answer says less than the one before it.
                if earlier is not None and cut_short and isinstance(error, httpx.TimeoutException):
                    return _outcome(earlier)
                if not isinstance(error, _LOST) or request.method != "GET" or request.once:
                    raise
                # A server that has never answered is one that is named wrongly, most likely.
                if isinstance(error, _NOT_REACHED) and server not in self._reached:
                    raise
                result = error
            if policy is None or attempts is None:
                policy = self._policy()
                attempts = Attempts(policy)
            if wait is not None:
                wait = min(wait, policy.retry_after_max)
            what = str(result) if isinstance(result, Exception) else f"answered {result.status_code}"
            seconds = attempts.fail(policy, what, wait)
            if attempts.is_over(policy) or monotonic() + seconds >= give_up:
                return _outcome(result)
            earlier = result
            await wire.sleep(seconds)

    async def _response(self, request: Request, wire: _Wire, give_up: float) -> httpx.Response:
        """Make one request, redirects followed, within its time.

        Raises:
            httpx.TransportError: No answer came; the message names the request.
            ResponseError: The answer is too long.
        """
        routes, now = wire.routes, monotonic()
        timeout = max(_LEAST_TIMEOUT, min(self._settings().timeout, give_up - now))
        give_up = now + timeout
        headers = {**_HEADERS, **routes.access.headers, **request.headers}
        url = str(httpx.URL(request.url, params=request.params)) if request.params else request.url
        hop = replace(request, url=url, params=None, headers=headers)
        hops = self._redirects.follow(hop, give_up)
        try:
            hop = next(hops)
            while True:
                response = await _sent(hop, wire.send, give_up, routes)
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
        clients = _clients_of_loop().pop(self, None)
        if clients is not None:
            await clients.aclose()


def _outcome(result: httpx.Response | httpx.TransportError) -> httpx.Response:
    """Return the response, or raise the error."""
    if isinstance(result, Exception):
        raise result
    return result


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


_Clients = WeakKeyDictionary[Session, AsyncGenerator[tuple[httpx.AsyncClient, AsyncTransport], None]]
_clients: Final = anyio.lowlevel.RunVar[_Clients]("umami.clients")


def _clients_of_loop() -> _Clients:
    """Return the httpx clients of this event loop.

    Nothing else holds them: when a session is gone, the loop closes its client, as it does at its own end.
    (trio mentions the former in a ResourceWarning.)
    """
    clients = _clients.get(None)
    if clients is None:
        clients = WeakKeyDictionary()
        _clients.set(clients)
    return clients


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
