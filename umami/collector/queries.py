"""Computes the answers to queries: statistics, events, metrics, active visitors."""

from __future__ import annotations

import math
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from umami.collector import rules
from umami.collector.javascript import MAX_DATE_MS, to_number
from umami.collector.replies import Json
from umami.collector.store import Store, compiled_pattern

STATS: Final = ("pageviews", "visitors", "visits", "bounces", "totaltime")
SUMS: Final = ("pageviews", "bounces", "totaltime")
"""The figures that are sums. In Umami 3.0 the sum of no rows is null."""

_ACTIVE_SECONDS: Final = 300
_MINUTE_MS: Final = 60_000
_BIGINT: Final = 2**63
_DEFAULT_LIMIT: Final = 500
_NO_VIEWS: Final = "(2, 5)"
"""The event types that do not count as page views: custom events and performance."""

_EVENT_COLUMNS: Final = {
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
_SESSION_COLUMNS: Final = {
    "browser": "session.browser",
    "os": "session.os",
    "device": "session.device",
    "screen": "session.screen",
    "language": "session.language",
    "distinctId": "session.distinct_id",
    "country": "null",
    "city": "null",
    "region": "null",
}
_METRICS: Final = _EVENT_COLUMNS | _SESSION_COLUMNS
_FILTERS: Final = {name: column for name, column in _METRICS.items() if name != "screen"} | {
    "eventType": "event.type"
}
_NUMBERED_ONLY: Final = frozenset({"entry", "exit", "domain"})
"""Filters that Umami's validation removes unless they end with a number (``entry1``)."""

_OPERATOR: Final = re.compile(
    "(eq|neq|s|ns|c|dnc|re|nre|t|f|gt|lt|gte|lte|bf|af)[.]([^\n\r\u2028\u2029]*)",
)
_SIGNS: Final = {"!": "neq", "~": "c", "!~": "dnc"}
_SIGN: Final = re.compile("(!~|!|~|)(.*)", re.DOTALL)
_INTEGER: Final = re.compile(r"\s*[+-]?\d{1,9}\s*", re.ASCII)
_UUID: Final = re.compile(
    r"(?P<brace>\{)?(?P<digits>[0-9a-f]{4}(?:-?[0-9a-f]{4}){7})(?(brace)\})", re.IGNORECASE
)
_FROM: Final = "from event left join session on session.session_id = event.session_id"
_IN_RANGE: Final = "website_id = :p1 and timestamp between :p2 and :p3"
_FOREIGN_REFERRER: Final = (
    "event.referrer_domain <> case when event.hostname glob 'www?*' then substr(event.hostname, 5) "
    "else event.hostname end"
)

_RANGE_RULES: Final[dict[str, rules.Check]] = {
    "startAt": rules.numeric,
    "endAt": rules.numeric,
    "startDate": rules.date,
    "endDate": rules.date,
    "timezone": rules.time_zone,
    "unit": rules.unit,
    "compare": rules.one_of("prev", "yoy"),
}
_METRICS_RULES: Final[dict[str, rules.Check]] = {"limit": rules.numeric, "offset": rules.numeric}
_FILTER_RULES: Final[dict[str, rules.Check]] = {
    "segment": rules.uuid,
    "cohort": rules.uuid,
    "eventType": rules.positive_integer,
    "match": rules.one_of("all", "any"),
}
_PAGE_RULES: Final[dict[str, rules.Check]] = {
    "page": rules.positive_integer,
    "pageSize": rules.positive_integer,
}


class Query(dict[str, str]):
    """The parameters of a request, with their names in Umami 3.1.

    Attributes:
        names_operators: Whether operators in filters are names, as in ``neq.a``, or signs, as in ``!a``.
        separates_values: Whether a comma in a filter separates values.
    """

    names_operators: bool = True
    separates_values: bool = True


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


def check_range(query: Query) -> Json | None:
    """Checks the parameters of a query about a period."""
    return _check_range(query, _optional(_RANGE_RULES | _FILTER_RULES))


def check_metrics(query: Query) -> Json | None:
    """Checks the parameters of a metric: a period, and what to count."""
    counted = {"type": rules.text(), **_optional(_METRICS_RULES | _FILTER_RULES)}
    return _check_range(query, {**_optional(_RANGE_RULES), **counted})


def _optional(checks: Mapping[str, rules.Check]) -> dict[str, rules.Check]:
    return {name: rules.optional(check) for name, check in checks.items()}


def _check_range(query: Query, checks: Mapping[str, rules.Check]) -> Json | None:
    wrong = rules.members(query, checks)
    if {"startAt", "endAt"} <= query.keys() or {"startDate", "endDate"} <= query.keys():
        return wrong
    return rules.with_error(wrong, "Either startAt+endAt or startDate+endDate must be provided")


def check_page(query: Query) -> Json | None:
    """Checks the parameters of a paged query."""
    return rules.members(query, {}, _PAGE_RULES)


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
            the query names a segment or a cohort, which the collector does not have.
    """
    span = Range(*(to_number(query[name]) if name in query else math.nan for name in ("startAt", "endAt")))
    if not (abs(span.start) <= MAX_DATE_MS and abs(span.end) <= MAX_DATE_MS):
        raise CrashError
    if query.get("segment") or query.get("cohort"):
        raise CrashError
    return span


def stats(store: Store, website_id: str, query: Query) -> tuple[Json, Json]:
    """Returns the figures of ``/stats``, for the query's range and for the range to compare with."""
    span = read_range(query)
    return _stats(store, website_id, query, span), _stats(store, website_id, query, _earlier(query, span))


def event_stats(store: Store, website_id: str, query: Query) -> Json:
    """Returns the answer of ``/events/stats``: how often custom events happened."""
    span = read_range(query)
    counted = [_event_stats(store, website_id, query, each) for each in (span, _earlier(query, span))]
    return {"data": counted[0] | {"comparison": counted[1]}}


def active_visitors(store: Store, website_id: str) -> int:
    """Returns the number of visitors in the last five minutes."""
    sql = "select count(distinct session_id) from event where website_id = :p1 and timestamp >= :p2"
    count: int = store.query(sql, (website_id.lower(), time.time() - _ACTIVE_SECONDS))[0][0]
    return count


def metrics(store: Store, website_id: str, query: Query) -> list[Json] | None:
    """Returns the answer of ``/metrics``: how often each value occurs. None for an unknown type.

    Raises:
        CrashError: As for `read_range`, or the database would refuse a filter, the limit or the offset.
    """
    kind, span = query["type"], read_range(query)
    if kind not in _METRICS:
        return None
    filters = _filters(query)
    if query.get("search") and kind in _FILTERS:
        filters[kind] = f"c.{query['search']}"
    if kind == "event":
        filters["eventType"] = "2"
        where, values = _where(website_id, query, span, filters)
        counted, column, source = "count(*)", _METRICS[kind], _FROM
    else:
        where, values = _where(website_id, query, span, filters, bounces=not query.get("excludeBounce"))
        counted, column, source = "count(distinct event.session_id)", _METRICS[kind], _FROM
        if kind == "language":
            column = f"lower(substr({column}, 1, 2))"
        if kind in ("entry", "exit"):
            column, extreme = "ends.url_path", "min" if kind == "entry" else "max"
            # SQLite takes url_path from the row that has the minimum or the maximum.
            source += (
                f" join (select visit_id, url_path, {extreme}(timestamp) from event where {_IN_RANGE}"  # noqa: S608
                f" and type not in {_NO_VIEWS} group by visit_id) ends on ends.visit_id = event.visit_id"
            )
        where += f" and event.type not in {_NO_VIEWS} and {column} <> ''"
        if kind in ("referrer", "domain"):
            where += f" and {_FOREIGN_REFERRER}"
    sql = f"select {column}, {counted} {source} where {where} group by 1 order by 2 desc, 1"
    values += [_row_count(query.get("limit", _DEFAULT_LIMIT)), _row_count(query.get("offset", 0))]
    rows = store.query(f"{sql} limit :p{len(values) - 1} offset :p{len(values)}", values)
    return [{"x": value, "y": count} for value, count in rows]


def _row_count(value: object) -> int:
    """Converts a limit or an offset as PostgreSQL does: rounded, halves away from zero."""
    number = to_number(value)
    count = int(math.copysign(math.floor(abs(number) + 0.5), number))
    if not 0 <= count < _BIGINT:
        raise CrashError
    return count


def _stats(store: Store, website_id: str, query: Query, span: Range) -> Json:
    bounces = not query.get("excludeBounce")
    where, values = _where(website_id, query, span, _filters(query), bounces=bounces)
    visits = (
        f"select event.session_id, event.visit_id, count(*) as views,"
        f" min(event.timestamp) as first, max(event.timestamp) as last"
        f" {_FROM} where {where} and event.type not in {_NO_VIEWS} group by 1, 2"
    )
    row = store.query(
        "select coalesce(sum(views), 0), count(distinct session_id), count(distinct visit_id),"  # noqa: S608
        f" {'coalesce(sum(views = 1), 0)' if bounces else 0},"
        f" coalesce(sum(cast(last - first as integer)), 0) from ({visits})",
        values,
    )[0]
    return dict(zip(STATS, row, strict=True))


def _event_stats(store: Store, website_id: str, query: Query, span: Range) -> Json:
    where, values = _where(website_id, query, span, _filters(query))
    row = store.query(
        "select count(*), count(distinct event.session_id), count(distinct event.visit_id),"
        f" count(distinct event.name) {_FROM} where {where} and event.type = 2",
        values,
    )[0]
    return dict(zip(("events", "visitors", "visits", "uniqueEvents"), row, strict=True))


def _filters(query: Query) -> dict[str, str]:
    """Returns the filters. A number at the end (``path2``) allows a filter more than once."""
    return {
        name: value
        for name, value in query.items()
        if _base_name(name) in _FILTERS and name not in _NUMBERED_ONLY
    }


def _base_name(parameter: str) -> str:
    return parameter.rstrip("0123456789")


def _where(
    website_id: str, query: Query, span: Range, filters: Mapping[str, str], *, bounces: bool = True
) -> tuple[str, list[Any]]:
    """Returns the SQL condition for the rows to count, and the values of its numbered parameters.

    Args:
        website_id: The website.
        query: Says whether all filters must match, or any.
        span: The period.
        filters: The filters, by name.
        bounces: Whether to count visits with a single page view.
    """
    values: list[Any] = [website_id.lower(), span.start / 1000, span.end / 1000]
    needed: list[str] = ["event.website_id = :p1 and event.timestamp between :p2 and :p3"]
    alternatives: list[str] = []
    for name, value in filters.items():
        base = _base_name(name)
        operator, text = _operator(value, names=query.names_operators)
        separates = query.separates_values and operator in ("eq", "neq")
        clause = _filter(base, operator, text.split(",") if separates else [text], values)
        is_alternative = query.get("match") == "any" and base != "eventType"
        (alternatives if is_alternative else needed).append(clause)
        if base == "referrer":
            needed.append(f"({_FOREIGN_REFERRER} or event.referrer_domain is null)")
    if alternatives:
        needed.append(f"({' or '.join(alternatives)})")
    if not bounces:
        needed.append(
            f"(event.session_id, event.visit_id) in (select session_id, visit_id from event where {_IN_RANGE}"  # noqa: S608
            " and type = 1 group by 1, 2 having count(*) > 1)"
        )
    return " and ".join(needed), values


def _operator(value: str, *, names: bool) -> tuple[str, str]:
    """Splits a filter's value into the name of its operator and the text to compare with."""
    match = (_OPERATOR if names else _SIGN).fullmatch(value)
    operator, text = (match[1], match[2]) if match else ("eq", value)
    return operator if names else _SIGNS.get(operator, "eq"), text


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


def _earlier(query: Query, span: Range) -> Range:
    return span.before(query.get("compare", "prev"))


def _year_before(at_ms: float) -> float:
    try:
        at = datetime.fromtimestamp(at_ms / 1000, timezone.utc)
        return (
            at.replace(year=at.year - 1, day=min(at.day, 28) if at.month == 2 else at.day).timestamp() * 1000
        )
    except (ValueError, OverflowError, OSError):
        return at_ms
