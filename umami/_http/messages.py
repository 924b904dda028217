"""Requests and answers, as the rest of the package knows them.

Nothing here imports httpx: that takes longer than all other imports together.
"""

import logging
import re
import sys
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from pydantic_core import from_json

from umami._version import __version__
from umami.errors import ResponseError

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

logger: Final = logging.getLogger("umami")

USER_AGENT: Final = (
    f"Umami-Client v{__version__} / "
    f"Python {'.'.join(map(str, sys.version_info[:3]))} / {sys.platform.capitalize()}"
)
"""The User-Agent of auth and query calls."""

_HEADER_LIMIT: Final = 8192  # web servers accept no longer header
_NO_HEADER: Final = re.compile(r"[^ -~]")
# A text that holds so many of a secret's first characters holds a part of that secret.
_RECOGNIZABLE: Final = 12
# The value of a header is often a common word, such as `http` or `1`, and messages are full of these. A short
# one is no secret, unless its header's name says so.
_LEAST_SECRET: Final = 6
_SECRET_NAME: Final = re.compile(r"auth|cookie|cred|key|pass|pwd|secret|session|token", re.IGNORECASE)
_HARMLESS_NAME: Final = re.compile(r"(?:x-)?forwarded(?:-.*)?|accept(?:-.*)?|host|user-agent", re.IGNORECASE)
_PERHAPS_SECRET: Final = re.compile(r"[\w+/=.~-]{12,}")


def agent_header(user_agent: str) -> str:
    """Return a User-Agent as a header can hold it: bounded, and in printable ASCII."""
    return _NO_HEADER.sub("?", user_agent[:_HEADER_LIMIT]).strip()


def secrets_of(headers: Mapping[str, str], extra: Mapping[str, str]) -> list[str]:
    """Return what no message may repeat.

    Args:
        headers: The headers of a request, a credential perhaps among them.
        extra: The extra headers that the user has set.
    """
    return [
        headers.get("Authorization", "").rpartition(" ")[2],
        *(value for name, value in extra.items() if _may_be_secret(name, value)),
    ]


def _may_be_secret(name: str, value: str) -> bool:
    """Tell whether an extra header may hold a credential, rather than what any message may say."""
    if _HARMLESS_NAME.fullmatch(name):
        return False
    return len(value) >= _LEAST_SECRET or _SECRET_NAME.search(name) is not None


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """Return a text without secrets, whole or cut off at its end."""
    for secret in secrets:
        if secret:
            text = re.sub(rf"{re.escape(secret[:_RECOGNIZABLE])}[\w+/=.~-]*", "***", text)
    return text


def printable(text: str) -> str:
    """Return a text without the characters that could control a terminal or forge a log line."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def log(level: int, message: str, *args: object) -> None:
    """Log a line.

    Senders log what they learn of a server while events are on their way. A log handler that raises must not
    change what becomes of these.
    """
    with suppress(Exception):
        logger.log(level, message, *args, stacklevel=2)


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        private: Whether the content holds a credential, which must not follow a redirect to another host.
        hint: What to do if it is answered with 401.
        once: Whether it is not repeated, even if it is a GET.
        paced: Whether it counts toward the rate of requests that Umami Cloud allows.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    params: Mapping[str, Any] | None = None
    content: bytes | None = field(default=None, repr=False)
    private: bool = False
    hint: str = ""
    once: bool = False
    paced: bool = False


Flow = Generator[Request, "httpx.Response", T]
"""A query or auth call: a generator that yields requests, is sent their responses, and returns the result."""


def json_of(response: "httpx.Response", *, private: bool = False) -> Any:
    """Return the decoded body of a response.

    Args:
        response: Any response.
        private: Whether the body may hold a credential, which no error may show.

    Raises:
        ResponseError: It is not JSON.
    """
    try:
        return from_json(response.content)
    except ValueError:
        kind = response.headers.get("content-type", "no content type")
        start = response.text[:80].strip() or "nothing"
        if private:
            start = _PERHAPS_SECRET.sub("…", start)
        raise ResponseError(
            f"{response.request.method} {response.request.url} answered {response.status_code} without JSON "
            f"({kind}, {len(response.content)} bytes: {start!r}). Does the URL base point at an Umami server?"
        ) from None


class UnansweredError(Exception):
    """No answer came to a POST.

    Attributes:
        stored_perhaps: The request was sent, so the server may have stored its events.
        status: The status of an answer whose body did not come whole; None if none came.
    """

    def __init__(self, message: str, *, stored_perhaps: bool, status: int | None = None) -> None:
        super().__init__(message)
        self.stored_perhaps = stored_perhaps
        self.status = status


class Reply(NamedTuple):
    """An answer.

    Attributes:
        status: Its status.
        headers: Its headers, their names in lower case; no control character is in them.
        body: Its body, decompressed; None if it was longer than the caller wanted to read.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | None
