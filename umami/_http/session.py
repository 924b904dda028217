"""Runs the calls that go straight through, sync and async: queries, logins and direct sends."""

import time
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import replace
from typing import Any, Final, TypeVar, cast

import anyio.lowlevel
import httpcore
import httpx

from umami import _threads
from umami.errors import ResponseError

from .access import Access
from .backends import Attempt
from .messages import Flow, Reply, Request, printable
from .pool import AsyncPools, Pools
from .redirects import Redirects, TooManyRedirectsError, shown

T = TypeVar("T")

MOST_BYTES: Final = 32 * 1024 * 1024
"""The longest answer that is read, in bytes, decompressed."""

_HEADERS: Final = {"Accept": "*/*", "Accept-Encoding": "identity"}
# What describes the body as it came, not as it is read.
_OF_TRANSFER: Final = frozenset(("content-encoding", "content-length", "transfer-encoding"))
_LATE: Final = {
    "ConnectTimeout": "no connection",
    "WriteTimeout": "the request was not taken",
    "ReadTimeout": "no whole answer",
}

Steps = Generator[tuple[Request, Attempt], Reply, T]
"""What goes on the wire for a flow: yields requests, each with its time, and is sent the answers."""


class Session:
    """Runs flows over pooled connections: pools for all threads, and for each event loop.

    Args:
        timeout: Returns the seconds that a request may take as a whole, redirects included.
        access: Returns how servers are reached: a change of it holds from the next call on.
    """

    def __init__(self, timeout: Callable[[], float], access: Callable[[], Access]) -> None:
        self._timeout = timeout
        self._access = access
        self._lock = _threads.RLock()
        self._redirects = Redirects()
        self._pools: Pools | None = None
        self._of_loop: anyio.lowlevel.RunVar[AsyncGenerator[AsyncPools, None]]
        self._of_loop = anyio.lowlevel.RunVar(f"umami.session.{id(self)}")

    def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end and return its result."""
        pools = self._sync_pools()
        steps = self._steps(flow, pools)
        try:
            step = next(steps)
            while True:
                try:
                    reply = pools.exchange(*step, MOST_BYTES)
                except Exception as error:  # noqa: BLE001 - the flow decides
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as end:
            return cast("T", end.value)

    async def run_async(self, flow: Flow[T]) -> T:
        """Run a flow to its end without blocking the event loop, and return its result."""
        pools = await self._async_pools()
        steps = self._steps(flow, pools)
        try:
            step = next(steps)
            while True:
                try:
                    reply = await pools.exchange(*step, MOST_BYTES)
                except Exception as error:  # noqa: BLE001 - the flow decides
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as end:
            return cast("T", end.value)

    def _steps(self, flow: Flow[T], pools: Pools | AsyncPools) -> Steps[T]:
        try:
            request = next(flow)
            while True:
                try:
                    response = yield from self._request(request, pools)
                except Exception as error:  # noqa: BLE001 - the flow decides
                    request = flow.throw(error)
                else:
                    request = flow.send(response)
        except StopIteration as end:
            return cast("T", end.value)

    def _request(self, request: Request, pools: Pools | AsyncPools) -> Steps[httpx.Response]:
        """Make one request of a flow, redirects followed, within its time.

        Raises:
            httpx.HTTPError: No answer came; the message names the request.
            ResponseError: The answer is too long.
        """
        timeout = self._timeout()
        give_up = time.monotonic() + timeout
        headers = {**_HEADERS, **pools.access.headers, **request.headers}
        url = str(httpx.URL(request.url, params=request.params)) if request.params else request.url
        hop = replace(request, url=url, params=None, headers=headers)
        hops = self._redirects.follow(hop, give_up)
        try:
            hop = next(hops)
            while True:
                left = give_up - time.monotonic()
                hop = hops.send((yield hop, Attempt(left, left, give_up)))
        except StopIteration as end:
            return _response(*end.value)
        except TooManyRedirectsError as error:
            return _response(*error.last)
        except Exception as error:  # noqa: BLE001 - what is raised depends on what it is
            explained = _explained(error, hop, timeout, pools.via(hop.url))
            # A cause may hold what a proxy said, raw.
            raise explained from (error if str(error).isprintable() else None)
        finally:
            hops.close()

    def _sync_pools(self) -> Pools:
        with self._lock:
            access = self._access()
            if self._pools is None:
                self._pools = Pools(access)
            self._pools.switch(access)
            return self._pools

    async def _async_pools(self) -> AsyncPools:
        access = self._access()
        pools = self._of_loop.get(None)
        if pools is None:
            pools = _pools_of_loop(access)
            self._of_loop.set(pools)
        own = await anext(pools)
        own.switch(access)
        return own

    def close(self) -> None:
        """Close the connections of the sync calls."""
        with self._lock:
            pools, self._pools = self._pools, None
        if pools is not None:
            pools.close()

    async def aclose(self) -> None:
        """Close the connections of the sync calls, and of this event loop's async ones."""
        self.close()
        pools = self._of_loop.get(None)
        if pools is not None:
            self._of_loop.set(_pools_of_loop(self._access()))
            await pools.aclose()


async def _pools_of_loop(access: Access) -> AsyncGenerator[AsyncPools, None]:
    """Yield the same pools again and again; as their event loop ends, so does this, and closes them."""
    pools = AsyncPools(access)
    try:
        while True:
            yield pools
    finally:
        await pools.aclose()


def _response(request: Request, reply: Reply) -> httpx.Response:
    """Return an answer as the callers of queries know it.

    Raises:
        ResponseError: It is too long.
    """
    url = shown(request.url)
    if reply.body is None:
        raise ResponseError(
            f"{request.method} {url} answered {reply.status} with more than {MOST_BYTES // 2**20} MiB. "
            "Does the URL base point at an Umami server?"
        )
    return httpx.Response(
        reply.status,
        headers=[
            (name.encode(), value.encode())
            for name, value in reply.headers.items()
            if name not in _OF_TRANSFER
        ],
        content=reply.body,
        request=httpx.Request(request.method, url),
    )


def _explained(error: Any, request: Request, timeout: float, via: str) -> Exception:
    """Return httpx's exception for a request that was not answered, with the request's name in it."""
    name = type(error).__name__
    if name in httpcore.__all__:
        kind: Any = getattr(httpx, name, httpx.TransportError)
    elif isinstance(error, (OSError, ValueError, httpx.InvalidURL)) or "socksio" in type(error).__module__:
        kind = httpx.ConnectError
    else:
        return cast("Exception", error)
    url = shown(request.url)
    late = _LATE.get(name)
    what = f"{late} within {timeout:g} s" if late else printable(str(error)) or name
    return cast(
        "Exception", kind(f"{request.method} {url}: {what}{via}", request=httpx.Request(request.method, url))
    )
