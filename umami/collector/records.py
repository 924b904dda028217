"""The stored events and identities, and the received requests."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import ROUND_HALF_UP, Decimal
from enum import IntEnum
from typing import Any, Final

from umami.collector.javascript import fixed, iso, json_text, looks_like_date, parse_date, to_number

_FOUR_DECIMALS: Final = Decimal("0.0001")
MAX_NUMBER: Final = 1e15
"""The database cannot store numbers of this size or more."""


class EventType(IntEnum):
    """Umami's ``event_type``."""

    PAGE_VIEW = 1
    CUSTOM_EVENT = 2
    LINK = 3
    PIXEL = 4
    PERFORMANCE = 5


@dataclass(frozen=True)
class StoredEvent:
    """One stored event: a row of Umami's table ``website_event``.

    Umami stores some values once for a session (browser, language, …). Here they are those of this event.

    Attributes:
        timestamp: When the event happened, in epoch seconds.
        type: Page view (1), custom event (2), link (3), pixel (4) or performance (5).
        data: The custom data as received; None if there was none, or if storing it failed.
    """

    id: str
    website_id: str
    session_id: str
    visit_id: str
    timestamp: float
    type: EventType
    name: str | None
    title: str | None
    hostname: str | None
    url_path: str
    url_query: str | None
    referrer_domain: str | None
    referrer_path: str | None
    referrer_query: str | None
    tag: str | None
    distinct_id: str | None
    ip: str
    user_agent: str
    language: str | None
    screen: str | None
    browser: str | None
    os: str | None
    device: str | None
    data: dict[str, Any] | None

    @property
    def created_at(self) -> datetime:
        """When the event happened, in UTC.

        Raises:
            OverflowError: It is after the year 9999, the last one of `datetime`.
        """
        try:
            return datetime.fromtimestamp(self.timestamp, timezone.utc)
        except (ValueError, OSError) as error:
            raise OverflowError(f"{self.timestamp} s is after the year 9999") from error

    @property
    def properties(self) -> dict[str, Property]:
        """The custom data as Umami stores it: flattened, by dotted key, each value with its type."""
        return {prop.key: prop for prop in flatten(self.data or {})}


@dataclass(frozen=True)
class Identity:
    """One stored ``identify`` call.

    Attributes:
        timestamp: When it was sent, in epoch seconds.
        data: The data of the session, as received.
    """

    website_id: str
    session_id: str
    distinct_id: str | None
    timestamp: float
    data: dict[str, Any]


@dataclass(frozen=True)
class Property:
    """One value of custom data: a row of Umami's table ``event_data``.

    Attributes:
        key: The dotted path to the value.
        type: ``string``, ``number``, ``boolean``, ``date`` or ``array``.
        text: The value as text; a number with four decimals, a date in UTC, an array as JSON.
        number: The value of a number, rounded to four decimals; None for infinity.
        date: The value of a date, in UTC; None if the text only looks like a date.
    """

    key: str
    type: str
    text: str
    number: float | None = None
    date: datetime | None = None


def flatten(data: Mapping[str, Any], parent: str = "") -> Iterator[Property]:
    """Flattens custom data as Umami does.

    Args:
        data: The custom data.
        parent: The dotted path to it.

    Yields:
        A property for each value that is not an object, in order.
    """
    for key, value in data.items():
        path = f"{parent}.{key}" if parent else key
        if isinstance(value, dict):
            yield from flatten(value, path)
        elif isinstance(value, bool):
            yield Property(path, "boolean", "true" if value else "false")
        elif isinstance(value, (int, float)):
            number = to_number(value)
            yield Property(path, "number", fixed(number, 4), _rounded(number))
        elif isinstance(value, str) and looks_like_date(value):
            date = parse_date(value)
            yield Property(path, "date", value if date is None else iso(date), date=date)
        elif isinstance(value, str):
            yield Property(path, "string", value)
        else:
            yield Property(path, "array", json_text(value))


def _rounded(number: float) -> float | None:
    """Returns a number as PostgreSQL stores it in a column ``numeric(19, 4)``; None for infinity."""
    if math.isinf(number):
        return None
    if abs(number) >= MAX_NUMBER:
        return number
    return float(Decimal(repr(number)).quantize(_FOUR_DECIMALS, ROUND_HALF_UP)) + 0.0


def head(data: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Returns custom data with only its first `count` properties, in the order of `flatten`."""
    kept: dict[str, Any] = {}
    for key, value in data.items():
        if count <= 0:
            break
        if isinstance(value, dict):
            part = head(value, count)
            count -= len(list(flatten(part)))
            kept |= {key: part} if part else {}
        else:
            kept[key] = value
            count -= 1
    return kept


class Headers(Mapping[str, str]):
    """Request headers. Names are case-insensitive.

    Example:
        ```python
        Headers([("content-type", "text/plain")])["Content-Type"]  # "text/plain"
        ```
    """

    def __init__(self, items: list[tuple[str, str]]) -> None:
        self._values: dict[str, str] = {}
        for name, value in items:
            known = self._values.get(name.lower())
            self._values[name.lower()] = value if known is None else f"{known}, {value}"

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({list(self._values.items())!r})"


@dataclass(eq=False)
class Request:
    """One received request.

    Attributes:
        method: The HTTP method.
        path: The path, percent-decoded.
        query: The query string, without the question mark.
        headers: The headers. Names are case-insensitive.
        body: The body, as bytes.
        client_port: The client's port. Requests with the same port came over one connection.
        at: When the request was complete, as a time of `time.monotonic`.
        status: The status of the answer; None before the answer, and if the connection was cut.
    """

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes = field(repr=False)
    client_port: int
    at: float = field(default_factory=time.monotonic)
    status: int | None = None

    @property
    def json(self) -> Any:
        """The parsed body.

        Raises:
            ValueError: The body is not JSON.
        """
        return json.loads(self.body)
