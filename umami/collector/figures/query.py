"""The parameters of a query: their names and checks, the period, and the unit and time zone of a series."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

from umami.collector import rules
from umami.collector.generations import Generation
from umami.collector.javascript import MAX_DATE_MS, calendar, to_number
from umami.collector.replies import Json
from umami.collector.sql_functions import find_zone

Check = Callable[["Query"], "Json | None"]

FIELDS: Final = (
    *("path", "referrer", "title", "query", "os", "browser", "device", "country", "region", "city", "tag"),
    *("hostname", "distinctId", "language", "event"),
    *("utmSource", "utmMedium", "utmCampaign", "utmContent", "utmTerm"),
)
"""The filters, and the values that can be listed."""

_LATE_FIELDS: Final = frozenset(
    {"distinctId", "utmSource", "utmMedium", "utmCampaign", "utmContent", "utmTerm"}
)
EARLY_FIELDS: Final = tuple(name for name in FIELDS if name not in _LATE_FIELDS)
"""Those of Umami 3.0."""

_LATE_PARAMETERS: Final = _LATE_FIELDS | {"match", "excludeBounce"}

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 3_600_000
_UNITS: Final = ("minute", "hour", "day", "month", "year")
_MINUTES_AT_MOST: Final = 60
_MONTHS_AT_MOST: Final = 24
_DEFAULT_PAGE_SIZE: Final = 10
_UUID: Final = re.compile(
    r"(?P<brace>\{)?(?P<digits>[0-9a-f]{4}(?:-?[0-9a-f]{4}){7})(?(brace)\})", re.IGNORECASE
)
_ZONE_NAMES: Final = {"Asia/Calcutta": "Asia/Kolkata"}

_RANGE_RULES: Final[dict[str, rules.Check]] = {
    "startAt": rules.numeric,
    "endAt": rules.numeric,
    "startDate": rules.date,
    "endDate": rules.date,
    "timezone": rules.time_zone,
    "unit": rules.unit,
    "compare": rules.one_of("prev", "yoy"),
}
FILTER_RULES: Final[dict[str, rules.Check]] = {
    "segment": rules.uuid,
    "cohort": rules.uuid,
    "eventType": rules.positive_integer,
    "match": rules.one_of("all", "any"),
}
_PAGE_RULES: Final[dict[str, rules.Check]] = {
    "page": rules.positive_integer,
    "pageSize": rules.positive_integer,
}
_MOMENTS: Final[dict[str, rules.Check]] = {"startAt": rules.integer, "endAt": rules.integer}


class Query(dict[str, str]):
    """The parameters of a request, with their names in Umami 3.1, without those that the version lacks.

    Args:
        parameters: The parameters as received.
        generation: The version of Umami that answers.
    """

    def __init__(self, parameters: Mapping[str, str], generation: Generation) -> None:
        super().__init__(parameters)
        self.generation = generation
        for own, name in generation.parameters:
            self.pop(name, None)
            if own in self:
                self[name] = self.pop(own)
            if self.get("type") in (own, name):
                self["type"] = name if self["type"] == own else ""
        if not generation.has_late_filters:
            for name in [name for name in self if name in _LATE_PARAMETERS or name[-1:].isdigit()]:
                del self[name]


class CrashError(Exception):
    """Umami fails here outside of its error handling, and answers 500 without a body."""


@dataclass(frozen=True)
class Range:
    """A period, with both ends included, in epoch milliseconds."""

    start: float
    end: float

    def before(self, compare: str) -> Range:
        """Returns the range to compare with: the one right before, or the same a year ago (``yoy``)."""
        if compare == "yoy":
            return Range(_year_before(self.start), _year_before(self.end))
        minutes = int((self.end - self.start) / _MINUTE_MS) * _MINUTE_MS
        return Range(self.start - minutes, self.end - minutes)


@dataclass(frozen=True)
class Page:
    """A page of a list: its number, from 1, and how many rows it has."""

    number: int
    size: int

    @property
    def slice(self) -> slice:
        """Where its rows are among all rows."""
        return slice((self.number - 1) * self.size, self.number * self.size)


def check_range(query: Query) -> Json | None:
    """Checks the parameters of a query about a period."""
    return _check_range(query, {})


def check_page(query: Query) -> Json | None:
    """Checks the parameters of a paged query."""
    return rules.members(query, {}, _PAGE_RULES)


def check_rows(query: Query) -> Json | None:
    """Checks the parameters of a paged query about a period."""
    return _check_range(query, _optional(_PAGE_RULES))


def check_metrics(query: Query) -> Json | None:
    """Checks the parameters of a metric: a period, and what to count."""
    return _check_range(
        query, {"type": rules.text(), **_optional({"limit": rules.numeric, "offset": rules.numeric})}
    )


def check_values(query: Query) -> Json | None:
    """Checks the parameters of a list of values: a period, and a field."""
    if query.generation.early_figures:
        return rules.members(query, {"type": rules.text(), **_MOMENTS})
    fields = FIELDS if query.generation.has_late_filters else EARLY_FIELDS
    return _check_range(query, {"type": rules.one_of(*fields)}, filters=False)


def check_moments(
    required: Mapping[str, rules.Check] | None = None, optional: Mapping[str, rules.Check] | None = None
) -> Check:
    """Returns the check of a query that needs ``startAt`` and ``endAt``, and perhaps more."""
    needed = {**_MOMENTS, **(required or {})}
    possible = {**FILTER_RULES, **(optional or {})}
    return lambda query: rules.members(query, needed, possible)


_check_series = check_moments({"timezone": rules.time_zone}, {"unit": rules.unit, "limit": rules.numeric})
_check_early_series = check_moments({"unit": rules.unit, "timezone": rules.time_zone})
check_weekly = check_moments({"timezone": rules.time_zone})
check_event_data = check_moments()
check_event_rows = check_moments(optional=_PAGE_RULES)
_check_event_values = check_moments({"propertyName": rules.text()})
check_event_numbers = check_moments({"eventName": rules.text(), "propertyName": rules.text()})
check_session_values = check_moments()


def check_event_values(query: Query) -> Json | None:
    """Checks the parameters of the values of an event's property."""
    return (check_event_data if query.generation.early_figures else _check_event_values)(query)


def check_series(query: Query) -> Json | None:
    """Checks the parameters of a series of events."""
    return (_check_early_series if query.generation.early_figures else _check_series)(query)


def check_pageviews(query: Query) -> Json | None:
    """Checks the parameters of a series of page views."""
    return (_check_early_series if query.generation.early_figures else check_range)(query)


def check_activity(query: Query) -> Json | None:
    """Checks the parameters of a session's activity: a period."""
    return rules.members(query, _MOMENTS)


def _optional(checks: Mapping[str, rules.Check]) -> dict[str, rules.Check]:
    return {name: rules.optional(check) for name, check in checks.items()}


def _check_range(query: Query, own: Mapping[str, rules.Check], *, filters: bool = True) -> Json | None:
    generation = query.generation
    checks = {**_optional(_RANGE_RULES), **own, **(_optional(FILTER_RULES) if filters else {})}
    if generation.early_figures:
        checks |= _MOMENTS
    if not generation.has_late_filters:
        return rules.members(query, checks | {"compare": rules.optional(rules.text())})
    wrong = rules.members(query, checks)
    if {"startAt", "endAt"} <= query.keys() or {"startDate", "endDate"} <= query.keys():
        return wrong
    return rules.with_error(wrong, "Either startAt+endAt or startDate+endDate must be provided")


def canonical_uuid(text: str) -> str:
    """Returns a UUID in its usual form. Accepts PostgreSQL's forms: in braces, with other dashes or none.

    Raises:
        CrashError: It is not a UUID.
    """
    match = _UUID.fullmatch(text)
    if match is None:
        raise CrashError
    return str(uuid.UUID(match["digits"].replace("-", "")))


def read_range(query: Query) -> Range:
    """Returns the period of a checked query.

    Raises:
        CrashError: It is given by ``startDate`` and ``endDate``, or is outside of JavaScript's calendar, or
            the query names a cohort, which the collector does not have.
    """
    span = Range(*(to_number(query[name]) if name in query else math.nan for name in ("startAt", "endAt")))
    if not (abs(span.start) <= MAX_DATE_MS and abs(span.end) <= MAX_DATE_MS):
        raise CrashError
    if query.get("cohort"):
        raise CrashError
    return span


def read_page(query: Query) -> Page:
    """Returns the page of a checked query."""
    size = query.get("pageSize", query.generation.page_size or _DEFAULT_PAGE_SIZE)
    return Page(int(to_number(query.get("page", 1))), int(to_number(size)))


def read_unit(query: Query, span: Range) -> str:
    """Returns the unit of a series: the given one, or the finest that suits the period if that is coarser."""
    finest = _finest_unit(query.generation, span)
    allowed = _UNITS[_UNITS.index("month" if finest == "year" else finest) :]
    unit = query.get("unit")
    return unit if unit in allowed else finest


def read_zone(query: Query) -> str | None:
    """Returns the name of the time zone, or None if it is not given. In Umami 2.x it is UTC then.

    Raises:
        CrashError: The database does not know it.
    """
    name = query.get("timezone")
    if name is None or name == "utc":
        return "utc" if query.generation.early_figures else None
    name = _ZONE_NAMES.get(name, name)
    try:
        find_zone(name)
    except KeyError as error:
        raise CrashError from error
    return name


def _finest_unit(generation: Generation, span: Range) -> str:
    months = _month(span.end) - _month(span.start)
    if int((span.end - span.start) / _MINUTE_MS) <= _MINUTES_AT_MOST:
        return "minute"
    if int((span.end - span.start) / _HOUR_MS) <= generation.hour_unit_hours:
        return "hour"
    if months <= generation.day_unit_months:
        return "day"
    return "month" if months <= _MONTHS_AT_MOST else "year"


def _month(at_ms: float) -> int:
    year, moment = calendar(int(at_ms))
    return year * 12 + moment.month


def _year_before(at_ms: float) -> float:
    try:
        at = datetime.fromtimestamp(at_ms / 1000, timezone.utc)
        return (
            at.replace(year=at.year - 1, day=min(at.day, 28) if at.month == 2 else at.day).timestamp() * 1000
        )
    except (ValueError, OverflowError, OSError):
        return at_ms
