"""The generations of Umami that a client has to tell apart, and what each can store.

The client does not ask for a version: the form of each answer shows which generation gave it.
"""

import re
from collections.abc import Sequence
from enum import IntEnum
from itertools import repeat
from operator import contains
from typing import Any, Final

from pydantic_core import from_json, to_json


class Generation(IntEnum):
    """A range of versions that give the same answers; a later one is greater."""

    UNKNOWN = 0
    TEXT = 1
    V2_16 = 2
    V2_17 = 3
    V3_0_2 = 4

    def __str__(self) -> str:
        return _NAMES[self]


_NAMES: Final = {
    Generation.UNKNOWN: "not known yet",
    Generation.TEXT: "Umami before 2.16",
    Generation.V2_16: "Umami 2.16",
    Generation.V2_17: "Umami 2.17 or later",
    Generation.V3_0_2: "Umami 3.0.2 or later",
}

NOT_STORED: Final = {
    Generation.TEXT: (
        "it dates events at their arrival and ignores distinct_id, before 2.10 ip_address, before 2.14 tag"
    ),
    Generation.V2_16: "it dates events at their arrival and ignores distinct_id",
}
"""What a server does not store of an event, in words."""

_ORIGIN: Final = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_PORT: Final = re.compile(r":\d*$")
_A: Final = ord("A")


def adapted(event: bytes, generation: Generation) -> tuple[bytes, str | None]:
    """Return an event such that a server can store it, and its own User-Agent for the request's header.

    Umami up to 2.16 reads the User-Agent from the header only, and one in the payload does harm; `identify`
    needs a `url`; it stores an absolute `url` with its origin, and refuses a host name with a port. Whatever
    such a server would store is kept.

    Args:
        event: The encoded event.
        generation: The server's. One that is not known yet is treated as an old one.
    """
    if generation >= Generation.V2_17:
        return event, user_agent(event)
    body = from_json(event)
    payload: dict[str, Any] = body["payload"]
    agent = payload.pop("userAgent", None)
    url = payload.get("url")
    payload["url"] = _path(url) if isinstance(url, str) else "/"
    if isinstance(payload.get("hostname"), str):
        payload["hostname"] = _PORT.sub("", payload["hostname"])
    return to_json(body), agent if isinstance(agent, str) else None


def _path(url: str) -> str:
    """Return an absolute URL without its origin."""
    origin = _ORIGIN.match(url)
    if origin is None:
        return url
    rest = url[origin.end() :]
    return rest if rest.startswith("/") else f"/{rest}"


def may_name_agents(events: Sequence[bytes]) -> bool:
    """Tell, by one byte and so very fast, whether some of the events may have a User-Agent of their own."""
    return any(map(contains, events, repeat(_A)))


def user_agent(event: bytes) -> str | None:
    """Return the User-Agent of an event's own, if it has one."""
    if _A not in event or b'"userAgent":' not in event:
        return None  # as nearly always; this takes no decoding
    agent = from_json(event)["payload"].get("userAgent")
    return agent if isinstance(agent, str) else None
