"""How each server is reached, straight or through a proxy: httpcore's pools of connections, one a route."""

import functools
import logging
from typing import Any, Final, Generic, NamedTuple, TypeVar

import httpcore
import httpx

from umami import _threads
from umami._proxy import Proxy

from . import proxies
from .access import Access
from .backends import KEEPALIVE, Refusals
from .messages import log

P = TypeVar("P", bound=httpcore.ConnectionPool | httpcore.AsyncConnectionPool)

_MOST_CONNECTIONS: Final = 100
_MOST_KEPT: Final = 20
_MOST_SERVERS: Final = 64


class Route(NamedTuple):
    """How a server is reached."""

    scheme: str
    proxy: Proxy | None


class ServerURL(NamedTuple):
    """A URL in parts.

    Attributes:
        wire: The URL as httpcore takes it.
        host: The value of the header `Host`.
        server: The scheme, and the host with its port.
    """

    wire: httpcore.URL
    host: bytes
    server: tuple[str, str]


@functools.lru_cache(maxsize=64)
def parsed(url: str) -> ServerURL:
    """Return a URL in parts.

    Raises:
        httpx.InvalidURL: It is not an http or https URL.
    """
    parts = httpx.URL(url)
    if parts.scheme not in ("http", "https") or not parts.host:
        raise httpx.InvalidURL("it must begin with http:// or https://, and name a host")
    wire = httpcore.URL(scheme=parts.raw_scheme, host=parts.raw_host, port=parts.port, target=parts.raw_path)
    return ServerURL(wire, parts.netloc, (parts.scheme, parts.netloc.decode()))


class Routes(Generic[P]):
    """Chooses the route to each server, and keeps a pool of connections for each route.

    Args:
        access: How servers are reached.
        refusals: See `backends`.
    """

    def __init__(self, access: Access, refusals: Refusals | None = None) -> None:
        self.access = access
        self._refusals = refusals or Refusals()
        self._chosen: dict[tuple[str, str], Route] = {}
        self._pools: dict[Route, P] = {}
        self._former: list[P] = []
        self._lock = _threads.RLock()

    def _new_pool(self, options: dict[str, Any]) -> P:
        raise NotImplementedError

    def switch(self, access: Access) -> None:
        """Reach servers as `access` says from now on. Requests under way end as they began."""
        if access is not self.access:
            with self._lock:
                self.access = access
                self._chosen.clear()
                self._former.extend(self._pools.values())
                self._pools.clear()

    def describe(self, url: str) -> str:
        """Return which proxy is on the route to a URL, as the end of a message; blank if there is none."""
        try:
            proxy = self.route(parsed(url).server).proxy
        except Exception:  # noqa: BLE001 - the message is about another failure
            return ""
        return f" (through the proxy {proxy})" if proxy else ""

    def route(self, server: tuple[str, str]) -> Route:
        """Return how a server is reached. The environment is asked once for each server."""
        route = self._chosen.get(server)
        if route is None:
            if len(self._chosen) >= _MOST_SERVERS:
                self._chosen.clear()
            url = "://".join(server)
            access = self.access
            route = Route(server[0], proxies.choice(url, access.proxy))
            with self._lock:
                if access is self.access:  # another thread may have switched
                    self._chosen[server] = route
            log(logging.DEBUG, "Requests to %s %s.", url, _words(route))
        return route

    def pool(self, route: Route) -> P:
        """Return the pool of a route."""
        while (pool := self._pools.get(route)) is None:
            access = self.access
            made = self._new_pool(self._options(route))
            with self._lock:
                if access is self.access:  # another thread may have switched
                    self._pools.setdefault(route, made)
        return pool

    def _options(self, route: Route) -> dict[str, Any]:
        """Return what httpcore's pools take."""
        proxy = None
        if route.proxy is not None:
            host = route.proxy.host.encode("ascii" if route.proxy.host.isascii() else "idna")
            url = httpcore.URL(
                scheme=route.proxy.scheme.encode(), host=host, port=route.proxy.port, target=b"/"
            )
            user, password = route.proxy.account or ("", "")
            account = (_Hidden(user.encode()), _Hidden(password.encode())) if route.proxy.account else None
            context = self.access.proxy_context() if route.proxy.scheme == "https" else None
            proxy = httpcore.Proxy(url, auth=account, ssl_context=context)
        return {
            "ssl_context": self.access.context() if route.scheme == "https" else None,
            "proxy": proxy,
            "max_connections": _MOST_CONNECTIONS,
            "max_keepalive_connections": _MOST_KEPT,
            "keepalive_expiry": KEEPALIVE,
        }

    def _take_idle(self) -> list[P]:
        """Return the pools of a former access that can be closed, and forget them."""
        with self._lock:
            former, self._former = self._former, []
            # Since Python 3.12 a Ctrl-C at the end of a loop, a list comprehension's too, passes by a `with`
            # around it. So no loop stands here.
            idle = list(filter(_is_idle, former))
            self._former.extend(pool for pool in former if pool not in idle)
            return idle

    def _take_all(self) -> list[P]:
        """Return all pools, and forget them."""
        with self._lock:
            pools = [*self._pools.values(), *self._former]
            self._pools.clear()
            self._former.clear()
            return pools


def _words(route: Route) -> str:
    """Return a route in words."""
    return f"go through the proxy {route.proxy}" if route.proxy else "use no proxy"


def _is_idle(pool: Any) -> bool:
    return not any(map(_is_busy, pool.connections))


def _is_busy(connection: Any) -> bool:
    return not (connection.is_idle() or connection.is_closed())


class _Hidden(bytes):
    """A proxy's user or password, which httpcore would show at the level DEBUG."""

    def __repr__(self) -> str:
        return "b'***'"
