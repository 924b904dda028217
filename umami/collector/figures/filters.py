"""Turns the filters of a query into SQL."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from umami.collector.figures.query import CrashError, Page, Query, Range, read_range
from umami.collector.javascript import to_number
from umami.collector.sql_functions import compiled_pattern

NO_VIEWS: Final = "(2, 5)"
"""The event types that do not count as page views: custom events and performance."""

EVENT_COLUMNS: Final = {
    "path": "event.url_path",
    "entry": "event.url_path",
    "exit": "event.url_path",
    "referrer": "event.referrer_domain",
    "domain": "event.referrer_domain",
    "title": "event.title",
    "query": "event.url_query",
    "event": "event.name",
    "tag": "event.tag",
    "hostname": "event.hostname",
    "utmSource": "event.utm_source",
    "utmMedium": "event.utm_medium",
    "utmCampaign": "event.utm_campaign",
    "utmContent": "event.utm_content",
    "utmTerm": "event.utm_term",
}
SESSION_COLUMNS: Final = {
    "browser": "session.browser",
    "os": "session.os",
    "device": "session.device",
    "screen": "session.screen",
    "language": "session.language",
    "country": "null",
    "city": "null",
    "region": "null",
    "distinctId": "session.distinct_id",
}
COLUMNS: Final = EVENT_COLUMNS | SESSION_COLUMNS
_FILTERS: Final = {name: column for name, column in COLUMNS.items() if name != "screen"} | {
    "eventType": "event.type"
}
_NUMBERED_ONLY: Final = frozenset({"entry", "exit", "domain"})
"""Filters that Umami's validation removes unless they end with a number (``entry1``)."""

_NAMED: Final = "(eq|neq|s|ns|c|dnc{late}|t|f|gt|lt|gte|lte|bf|af)[.]([^\n\r\u2028\u2029]*)"
_OPERATOR: Final = re.compile(_NAMED.format(late="|re|nre"))
_EARLY_OPERATOR: Final = re.compile(_NAMED.format(late=""))
_SIGNS: Final = {"!": "neq", "~": "c", "!~": "dnc"}
_SIGN: Final = re.compile("(!~|!|~|)(.*)", re.DOTALL)
_INTEGER: Final = re.compile(r"\s*[+-]?\d{1,9}\s*", re.ASCII)
_BIGINT: Final = 2**63
_JOIN: Final = "join session on session.session_id = event.session_id"
_HOST_WITHOUT_WWW: Final = (
    "case when event.hostname glob 'www?*' then substr(event.hostname, 5) else event.hostname end"
)
IN_RANGE: Final = "website_id = :p1 and timestamp between :p2 and :p3"


@dataclass
class Selection:
    """The rows of events that a query is about.

    Attributes:
        joins: The joins after ``from event``.
        where: The condition.
        values: The values of the numbered parameters in the condition.
    """

    joins: list[str]
    where: str
    values: list[Any]

    @property
    def rows(self) -> str:
        """The SQL from ``from`` on."""
        return f"from event {' '.join(self.joins)} where {self.where}"

    def limited(self, limit: object, offset: object = 0) -> str:
        """Returns the SQL of a limit and an offset, and adds their values."""
        self.values += [row_count(limit), row_count(offset)]
        return f"limit :p{len(self.values) - 1} offset :p{len(self.values)}"

    def page(self, page: Page) -> str:
        """Returns the query for the row ids of a page, the newest event first.

        It walks an index, so that it reads little more than the page.
        """
        newest = "order by event.timestamp desc, event.rowid desc"
        return f"select event.rowid as id {self.rows} {newest} {self.limited(page.size, page.slice.start)}"

    def parameter(self, value: object) -> str:
        """Adds a value, and returns the name of its parameter."""
        self.values.append(value)
        return f":p{len(self.values)}"


def select(
    website_id: str,
    query: Query,
    span: Range,
    filters: Mapping[str, str] | None = None,
    *,
    bounces: bool | None = None,
    sessions: bool = False,
) -> Selection:
    """Returns the events of a website in a period that match the filters of a query.

    Args:
        website_id: The website.
        query: Says whether all filters must match, or any.
        span: The period.
        filters: The filters, by name. By default, those of the query.
        bounces: Whether to count visits with a single page view. By default, as the query says.
        sessions: Whether columns of sessions are needed.

    Raises:
        CrashError: The database would refuse a filter.
    """
    filters = read_filters(query) if filters is None else filters
    values: list[Any] = [website_id.lower(), span.start / 1000, span.end / 1000]
    needed: list[str] = ["event.website_id = :p1 and event.timestamp between :p2 and :p3"]
    alternatives: list[str] = []
    for name, value in filters.items():
        base = _base_name(name)
        operator, text = _operator(value, query)
        separates = query.generation.separates_values and operator in ("eq", "neq")
        clause = _filter(base, operator, text.split(",") if separates else [text], values)
        is_alternative = query.get("match") == "any" and base != "eventType"
        (alternatives if is_alternative else needed).append(clause)
        sessions = sessions or base in SESSION_COLUMNS
        if base == "referrer":
            needed.append(f"({foreign_referrer(query)} or event.referrer_domain is null)")
    if alternatives:
        needed.append(f"({' or '.join(alternatives)})")
    if bounces is False or (bounces is None and query.get("excludeBounce")):
        needed.append(
            f"(event.session_id, event.visit_id) in (select session_id, visit_id from event where {IN_RANGE}"
            " and type = 1 group by 1, 2 having count(*) > 1)"
        )
    return Selection([_JOIN] if sessions else [], " and ".join(needed), values)


def select_views(
    website_id: str,
    query: Query,
    span: Range,
    filters: Mapping[str, str] | None = None,
    *,
    sessions: bool = False,
) -> Selection:
    """Does the same as `select`, for page views alone."""
    selection = select(website_id, query, span, filters, sessions=sessions)
    selection.where += f" and event.type not in {NO_VIEWS}"
    return selection


def select_rows(website_id: str, query: Query, *, sessions: bool = False) -> Selection:
    """Does the same as `select`, for lists and custom data, which Umami 2.x does not filter."""
    filters: dict[str, str] | None = {} if query.generation.early_figures else None
    return select(website_id, query, read_range(query), filters, bounces=True, sessions=sessions)


def foreign_referrer(query: Query) -> str:
    """Returns the condition that the referrer is another site."""
    own = "event.hostname" if query.generation.own_referrer_has_www else _HOST_WITHOUT_WWW
    return f"event.referrer_domain <> {own}"


def read_filters(query: Query) -> dict[str, str]:
    """Returns the filters. A number at the end (``path2``) allows a filter more than once."""
    return {
        name: value
        for name, value in query.items()
        if _base_name(name) in _FILTERS and name not in _NUMBERED_ONLY
    }


def can_filter(name: str) -> bool:
    """Whether there is a column to filter by."""
    return name in _FILTERS


def row_count(value: object) -> int:
    """Converts a limit or an offset as PostgreSQL does: rounded, halves away from zero.

    Raises:
        CrashError: It is negative or too large.
    """
    number = to_number(value)
    count = int(math.copysign(math.floor(abs(number) + 0.5), number))
    if not 0 <= count < _BIGINT:
        raise CrashError
    return count


def _base_name(parameter: str) -> str:
    return parameter.rstrip("0123456789")


def _operator(value: str, query: Query) -> tuple[str, str]:
    """Splits a filter's value into the name of its operator and the text to compare with."""
    generation = query.generation
    if not generation.names_operators:
        match = _SIGN.fullmatch(value)
        return (_SIGNS.get(match[1], "eq"), match[2]) if match else ("eq", value)
    match = (_OPERATOR if generation.has_late_filters else _EARLY_OPERATOR).fullmatch(value)
    if match is None:
        return "eq", value
    # Before 3.1, a filter without a text is compared as it is.
    return match[1], match[2] if match[2] or generation.has_late_filters else value


def _filter(name: str, operator: str, options: list[str], values: list[Any]) -> str:
    """Returns the SQL condition of one filter, and adds its parameters to `values`.

    Raises:
        CrashError: The database refuses it, or Umami builds invalid SQL because it ignores the operator.
    """
    column, denied = _FILTERS[name], "not " if operator in ("neq", "dnc", "nre") else ""
    if any("\0" in option for option in options):
        raise CrashError
    if operator in ("eq", "neq"):
        if name == "eventType" and not all(map(_INTEGER.fullmatch, options)):
            raise CrashError
        values += map(int, options) if name == "eventType" else options
        numbers = range(len(values) - len(options) + 1, len(values) + 1)
        return f"{column} {denied}in ({', '.join(f':p{number}' for number in numbers)})"
    [text] = options
    if name == "eventType":
        raise CrashError
    if operator in ("c", "dnc"):
        values.append(f"%{text}%".lower())
        return f"lower({column}) {denied}like :p{len(values)} escape '\\'"
    if operator in ("re", "nre"):
        try:
            compiled_pattern(text)
        except re.error as error:
            raise CrashError from error
        values.append(text)
        return f"{column} {denied}regexp :p{len(values)}"
    raise CrashError
