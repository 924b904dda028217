"""Redirects: a POST stays a POST, and a credential goes to no other server.

A permanent redirect of a POST is remembered, so that events do not travel twice, the first time in clear.
"""

import logging
from collections.abc import Generator
from dataclasses import replace
from typing import Any, Final
from urllib.parse import SplitResult, urljoin, urlsplit

from umami import _threads
from umami._clock import monotonic

from .messages import Reply, Request, log, printable

MOST_REDIRECTS: Final = 5
_PERMANENT: Final = frozenset((301, 308))
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
# What another server may see of a request's headers.
_PUBLIC: Final = frozenset(("accept", "accept-encoding", "content-type", "user-agent"))
_ROUTES: Final = ("/api/batch", "/api/send")
_MOST_MOVED: Final = 64
_MOVED_SECONDS: Final = 600.0


class TooManyRedirectsError(Exception):
    """A request was redirected too often, or for too long.

    Attributes:
        last: The last request that was answered, and its answer.
    """

    def __init__(self, what: str, target: Request, last: tuple[Request, Reply]) -> None:
        super().__init__(f"{what}, the last to {shown(target.url)}")
        self.last = last


class Redirects:
    """Follows redirects, and remembers the permanent ones of POSTs. May be shared by threads."""

    def __init__(self) -> None:
        self._moved: dict[str, tuple[str, float]] = {}
        self._named: set[str] = set()
        self._lock = _threads.RLock()

    def follow(self, request: Request, give_up: float) -> Generator[Request, Reply, tuple[Request, Reply]]:
        """Yield a request, then one for each redirect; return the last one and its answer.

        Args:
            request: The request.
            give_up: When to follow no other redirect, on the monotonic clock.

        Raises:
            TooManyRedirectsError: There were too many, or they took too long.
        """
        url, posts = request.url, request.method == "POST"
        known, until = self._moved.get(url, ("", 0.0))
        start = redirected(request, known) if posts and monotonic() < until else request
        permanent, done = posts, False
        try:
            request = start or request
            for _ in range(MOST_REDIRECTS + 1):
                reply = yield request
                follow = _asked(request, reply)
                if follow is None:
                    done = reply.status < 400
                    if done and permanent and request.url != url:
                        self._remember(url, request.url)
                    return request, reply
                permanent = permanent and reply.status in _PERMANENT
                last, request = (request, reply), follow
                if monotonic() > give_up:
                    raise TooManyRedirectsError("the redirects took too long", request, last)
            raise TooManyRedirectsError(f"more than {MOST_REDIRECTS} redirects", request, last)
        finally:
            if known and not done:
                with self._lock:
                    self._moved.pop(url, None)

    def _remember(self, url: str, target: str) -> None:
        """Remember a permanent redirect to the same route elsewhere, but not one to a login page, say."""
        base, target_base = _base(url), _base(target)
        if base is None or target_base is None:
            return
        with self._lock:
            _make_room(self._moved)
            _make_room(self._named)
            self._moved[url] = target, monotonic() + _MOVED_SECONDS
            if base in self._named:
                return
            self._named.add(base)
        there = shown(target_base)
        log(logging.WARNING, "%s redirects to %s: set url_base to %s.", shown(base), there, there)


def _make_room(known: dict[str, Any] | set[str]) -> None:
    if len(known) >= _MOST_MOVED:
        known.clear()


def _base(url: str) -> str | None:
    """Return the base of the URL of a route for events; None for another URL."""
    bare = url.rstrip("/")
    for route in _ROUTES:
        if bare.endswith(route):
            return bare.removesuffix(route)
    return None


def shown(url: str) -> str:
    """Return a URL as a log may show it."""
    return printable(_without_account(urlsplit(url)).geturl())


def _asked(request: Request, reply: Reply) -> Request | None:
    """Return the request that an answer redirects to; None if it is not a redirect, or not to an http URL."""
    location = reply.headers.get("location") if reply.status in _REDIRECTS else None
    if not location:
        return None
    try:
        return redirected(request, urljoin(request.url, location))
    except ValueError:  # the location is not a URL
        return None


def redirected(request: Request, target: str) -> Request | None:
    """Return the same request to another URL; None if it must not go there.

    Raises:
        ValueError: `target` is not a URL.
    """
    parts = _without_account(urlsplit(target))
    _port(parts)  # a wrong one is a ValueError
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    headers = request.headers
    if not _may_see_all(parts, urlsplit(request.url)):
        if request.private:
            return None
        headers = {name: value for name, value in headers.items() if name.lower() in _PUBLIC}
    return replace(request, url=parts._replace(fragment="").geturl(), headers=headers, params=None)


def _without_account(parts: SplitResult) -> SplitResult:
    return parts._replace(netloc=parts.netloc.rpartition("@")[2])


def _may_see_all(target: SplitResult, origin: SplitResult) -> bool:
    """Tell whether a credential may go along: to the same server, or up from http to https on its host."""
    if target.hostname != origin.hostname:
        return False
    if target.scheme == origin.scheme:
        return _port(target) == _port(origin)
    return target.scheme == "https" and _port(target) == 443 and _port(origin) == 80


def _port(parts: SplitResult) -> int:
    return parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
