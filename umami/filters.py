"""Filters of queries that are more than a plain value.

Every figure takes filters by keyword. A plain value is literal, and a list means any of its values. What else
Umami can do is written with these functions; the client translates them for the server's version, and raises
`UnsupportedError` with the reason where that version cannot do it.

Example:
    ```python
    from umami import filters

    stats = umami.website_stats(period="7d", path=filters.contains("/blog"), country=["DE", "AT"])
    ```
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from typing_extensions import TypedDict

from ._events.fields import text
from ._events.values import given
from .errors import ValidationError

__all__ = [
    "Filter",
    "Filters",
    "Step",
    "any_of",
    "contains",
    "eq",
    "event",
    "excludes",
    "matches",
    "ne",
    "path",
]


@dataclass(frozen=True, repr=False)
class Filter:
    """What a field is compared with, and how. The functions of this module make it.

    Attributes:
        operator: `eq`, `ne`, `contains`, `excludes` or `matches`.
        values: The values; more than one for `eq` and `ne` alone.
    """

    operator: Literal["eq", "ne", "contains", "excludes", "matches"]
    values: tuple[str, ...]

    def __repr__(self) -> str:
        name = "any_of" if self.operator == "eq" and len(self.values) > 1 else self.operator
        return f"{name}({', '.join(map(given, self.values))})"


Value = str | Filter | Sequence[str | Filter]
"""A filter's value: a text, a list of texts, or what the functions of this module return, alone or listed."""


class OtherFilters(TypedDict, total=False):
    """The filters that `website_stats` takes beside those that it has always had."""

    path: Value
    hostname: Value
    language: Value
    tag: Value
    distinct_id: Value
    utm_source: Value
    utm_medium: Value
    utm_campaign: Value
    utm_content: Value
    utm_term: Value
    segment: str
    cohort: str
    event_type: int
    exclude_bounce: bool
    match: Literal["all", "any"]


class FiltersButEvent(OtherFilters, total=False):
    """Every filter but `event`, for functions that have an argument of this name."""

    referrer: Value
    title: Value
    query: Value
    os: Value
    browser: Value
    device: Value
    country: Value
    region: Value
    city: Value


class Filters(FiltersButEvent, total=False):
    """Every filter, as the figures take them."""

    event: Value


@dataclass(frozen=True)
class Step:
    """A step of a report: `path()` and `event()` make it.

    Attributes:
        type: `path` or `event`.
        value: The path or the name of the event.
    """

    type: Literal["path", "event"]
    value: str


def eq(value: str) -> Filter:
    """Return a filter for exactly this value, as a plain value is.

    Args:
        value: The value.
    """
    return Filter("eq", _texts("eq", (value,)))


def ne(*values: str) -> Filter:
    """Return a filter for all but these values.

    Args:
        values: The values. Umami 2 and 3.0 take one only.
    """
    return Filter("ne", _texts("ne", values))


def any_of(*values: str | Iterable[str]) -> Filter:
    """Return a filter for any of these values, as a list is.

    Args:
        values: The values, or one list of them. Umami before 3.1 takes one only.
    """
    listed = values[0] if len(values) == 1 and not isinstance(values[0], str) else values
    return Filter("eq", _texts("any_of", listed))


def contains(value: str) -> Filter:
    """Return a filter for values that contain a text, in small or capital letters; from Umami 2.11 on.

    Args:
        value: The text. No character in it is a wildcard.
    """
    return Filter("contains", _texts("contains", (value,)))


def excludes(value: str) -> Filter:
    """Return a filter for values that do not contain a text; from Umami 2.11 on.

    Args:
        value: The text. No character in it is a wildcard.
    """
    return Filter("excludes", _texts("excludes", (value,)))


def matches(pattern: str) -> Filter:
    """Return a filter for values in which a regular expression is found; from Umami 3.1 on.

    Args:
        pattern: The pattern, in the language of the server's database; it ignores case. `^` and `$` tie it to
            the value's ends. Umami answers a pattern that is not valid with 500.
    """
    return Filter("matches", _texts("matches", (pattern,)))


def path(value: str) -> Step:
    """Return the step of a report that is reached by viewing a path.

    Args:
        value: The path; a `*` at an end stands for any text.
    """
    return Step("path", *_texts("path", (value,)))


def event(name: str) -> Step:
    """Return the step of a report that is reached by an event.

    Args:
        name: The event's name; a `*` at an end stands for any text.
    """
    return Step("event", *_texts("event", (name,)))


def _texts(name: str, values: Iterable[object]) -> tuple[str, ...]:
    texts = tuple(text(name, value) for value in values)
    if not texts:
        raise ValidationError(f"{name} must have at least one value.")
    if name not in ("eq", "ne", "any_of") and not texts[0]:
        raise ValidationError(f"{name} must not be empty.")
    return texts
