"""Requests and answers, as the rest of the package speaks of them: what to make of a redirect, and of a body.

`transport` puts them on the wire. Nothing here imports httpx, which takes longer than all the rest.
"""

import re
import sys
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import urljoin, urlsplit

from pydantic_core import from_json

from umami._version import __version__
from umami.errors import ResponseError

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

USER_AGENT: Final = (
    f"Umami-Client v{__version__} / "
    f"Python {'.'.join(map(str, sys.version_info[:3]))} / {sys.platform.capitalize()}"
)
"""What auth and query calls call themselves."""

MOST_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
_CREDENTIALS: Final = frozenset(("authorization", "x-umami-api-key", "cookie"))
_PERHAPS_SECRET: Final = re.compile(r"[\w+/=.~-]{12,}")


@dataclass(frozen=True)
class Request:
    """One request of a call that goes straight through.

    Attributes:
        private: Whether the content is a credential, which goes to no other host either.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    params: Mapping[str, Any] | None = None
    content: bytes | None = field(default=None, repr=False)
    private: bool = False


Flow = Generator[Request, "httpx.Response", T]
"""A call as it goes on the wire: yields its requests, is sent the responses, returns its result."""


def exchange(request: Request) -> Flow["httpx.Response"]:
    """Make one request, redirects followed, and return the response.

    Raises:
        httpx.HTTPStatusError: It is no 2xx.
    """
    for _ in range(MOST_REDIRECTS):
        response = yield request
        follow = redirected(request, response)
        if follow is None:
            break
        request = follow
    response.raise_for_status()
    return response


def redirected(request: Request, response: "httpx.Response") -> Request | None:
    """Return the request that a redirect asks for, with the same method and body, or None if it is none."""
    if response.status_code not in _REDIRECTS:
        return None
    location = response.headers.get("location")
    if not location:
        return None
    try:
        target = urljoin(str(response.request.url), location)
        same_origin = _same_origin(target, request.url)
    except ValueError:  # it is no URL
        return None
    if not target.startswith(("http://", "https://")):
        return None
    headers = dict(request.headers)
    if not same_origin:
        if request.private:
            return None
        headers = {name: value for name, value in headers.items() if name.lower() not in _CREDENTIALS}
    return replace(request, url=target, headers=headers, params=None)


def _same_origin(one: str, other: str) -> bool:
    """Tell whether a credential may go along: the same host, and not from https down to http.

    Raises:
        ValueError: One of them is no URL.
    """
    a, b = urlsplit(one), urlsplit(other)
    same_door = (a.scheme, a.port) == (b.scheme, b.port) or (
        a.scheme == "https" and b.scheme == "http" and not a.port
    )
    return same_door and a.hostname == b.hostname


def json_of(response: "httpx.Response", *, private: bool = False) -> Any:
    """Return the decoded body of a response.

    Args:
        response: Any response.
        private: Whether the body may hold a credential, which no error is to show.

    Raises:
        ResponseError: It is no JSON.
    """
    try:
        return from_json(response.content)
    except ValueError:
        kind = response.headers.get("content-type", "no content type")
        start = response.text[:80].strip() or "nothing"
        if private:
            start = _PERHAPS_SECRET.sub("…", start)
        raise ResponseError(
            f"{response.request.method} {response.request.url} answered {response.status_code} with no JSON "
            f"({kind}, {len(response.content)} bytes: {start!r}). Does the URL base point at an Umami server?"
        ) from None


class UnansweredError(Exception):
    """No answer came to a POST.

    Attributes:
        stored_perhaps: The request had left; the server may have stored what it carried.
        status: The status of an answer whose body did not come whole; None if none came.
    """

    def __init__(self, message: str, *, stored_perhaps: bool, status: int | None = None) -> None:
        super().__init__(message)
        self.stored_perhaps = stored_perhaps
        self.status = status


class Reply(NamedTuple):
    """An answer to a POST. `body` is None if it was longer than the caller wanted to read."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None
