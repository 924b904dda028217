"""Answers the query routes from the store: stats, events, metrics, active visitors."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from string import digits
from typing import Any, Final

from umami.collector import rules
from umami.collector.javascript import MAX_DATE_MS, to_number
from umami.collector.replies import Json
from umami.collector.store import Store

Query = Mapping[str, str]

STATS: Final = ("pageviews", "visitors", "visits", "bounces", "totaltime")
SUMS: Final = ("pageviews", "bounces", "totaltime")
"""The figures that are sums, which Umami 3.0 answers with null when there are no rows."""

_ACTIVE_SECONDS: Final = 300
_MINUTE_MS: Final = 60_000
_DEFAULT_LIMIT: Final = 500
_NO_VIEWS: Final = "(2, 5)"
"""The event types that are no page views in Umami's figures: custom events and performance."""


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
_COLUMNS: Final = _EVENT_COLUMNS | _SESSION_COLUMNS
_FILTERS: Final = frozenset(_COLUMNS) - {"entry", "exit", "domain", "screen"}
_OPERATOR: Final = re.compile("(eq|neq|c|dnc)[.](.*)", re.DOTALL)
_UUID: Final = re.compile(r"\{?[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\}?", re.IGNORECASE)
_FROM: Final = "from event left join session on session.session_id = event.session_id"

_RANGE_RULES: Final[dict[str, rules.Check]] = {
    "startAt": rules.numeric,
    "endAt": rules.numeric,
    "startDate": rules.date,
    "endDate": rules.date,
    "compare": rules.one_of("prev", "yoy"),
    "match": rules.one_of("all", "any"),
    "eventType": rules.positive_integer,
    "segment": rules.uuid,
    "cohort": rules.uuid,
    "limit": rules.numeric,
    "offset": rules.numeric,
}
_PAGE_RULES: Final[dict[str, rules.Check]] = {
    "page": rules.positive_integer,
    "pageSize": rules.positive_integer,
}


class CrashError(Exception):
    """Umami fails here outside of its handlers, and answers 500 with nothing in it."""


@dataclass(frozen=True)
class Range:
    """A span of time, both ends included, in epoch milliseconds."""

    start: float
    end: float

    def before(self, compare: str) -> Range:
        """The range to compare with: the one right before, or the same a year (``yoy``) ago."""
        if compare == "yoy":
            return Range(_year_before(self.start), _year_before(self.end))
        minutes = int((self.end - self.start) / _MINUTE_MS) * _MINUTE_MS
        return Range(self.start - minutes, self.end - minutes)


def check_range(query: Query) -> Json | None:
    """Checks the parameters that the queries over a span of time share."""
    return _check_range(query, {})


def check_metrics(query: Query) -> Json | None:
    """Checks the parameters of a metric: a span of time, and what it counts."""
    return _check_range(query, {"type": rules.text()})


def _check_range(query: Query, required: Mapping[str, rules.Check]) -> Json | None:
    wrong = rules.members(dict(query), required, _RANGE_RULES)
    if wrong is None and not (
        {"startAt", "endAt"} <= query.keys() or {"startDate", "endDate"} <= query.keys()
    ):
        return {"errors": ["Either startAt+endAt or startDate+endDate must be provided"]}
    return wrong


def check_page(query: Query) -> Json | None:
    """Checks the parameters of a paged query."""
    return rules.members(dict(query), {}, _PAGE_RULES)


def require_uuid(text: str) -> None:
    """Makes sure that the database would take a text for a UUID.

    Raises:
        CrashError: It would not.
    """
    if _UUID.fullmatch(text) is None:
        raise CrashError


def read_range(query: Query) -> Range:
    """The span of time that a checked query is about.

    Raises:
        CrashError: It is given by ``startDate`` and ``endDate``, or lies beyond JavaScript's calendar.
    """
    span = Range(*(to_number(query[name]) if name in query else math.nan for name in ("startAt", "endAt")))
    if not (abs(span.start) <= MAX_DATE_MS and abs(span.end) <= MAX_DATE_MS):
        raise CrashError
    return span


def stats(store: Store, website_id: str, query: Query) -> tuple[Json, Json]:
    """The figures of ``/stats`` for the query's range, and those for the range to compare with."""
    span = read_range(query)
    return _stats(store, website_id, query, span), _stats(store, website_id, query, _earlier(query, span))


def event_stats(store: Store, website_id: str, query: Query) -> Json:
    """The answer of ``/events/stats``: how often custom events happened."""
    span = read_range(query)
    counted = [_event_stats(store, website_id, query, each) for each in (span, _earlier(query, span))]
    return {"data": counted[0] | {"comparison": counted[1]}}


def active_visitors(store: Store, website_id: str) -> int:
    """How many visitors the last five minutes saw."""
    sql = "select count(distinct session_id) from event where website_id = ? and timestamp >= ?"
    count: int = store.query(sql, (website_id.lower(), time.time() - _ACTIVE_SECONDS))[0][0]
    return count


def metrics(store: Store, website_id: str, query: Query) -> list[Json] | None:
    """The answer of ``/metrics``: how often each value occurs. None for a type that there is not."""
    kind = query["type"]
    if kind not in _COLUMNS:
        return None
    column = "substr(session.language, 1, 2)" if kind == "language" else _COLUMNS[kind]
    where, values = _where(website_id, query, read_range(query))
    if query.get("search"):
        where += f" and {column} like ?"
        values.append(f"%{query['search']}%")
    if kind == "event":
        counted = "count(*)"
        where += " and event.type = 2"
    else:
        counted = "count(distinct event.session_id)"
        where += f" and event.type not in {_NO_VIEWS} and {column} <> ''"
    if kind in ("entry", "exit"):
        extreme = "min" if kind == "entry" else "max"
        same_visit = f"other.visit_id = event.visit_id and other.type not in {_NO_VIEWS}"
        where += f" and event.timestamp = (select {extreme}(timestamp) from event other where {same_visit})"  # noqa: S608
    if kind in ("referrer", "domain"):
        where += " and event.referrer_domain not in (event.hostname, substr(event.hostname, 5))"
    limit = int(to_number(query.get("limit", _DEFAULT_LIMIT)))
    offset = int(to_number(query.get("offset", 0)))
    sql = f"select {column}, {counted} {_FROM} where {where} group by 1 order by 2 desc, 1"
    rows = store.query(f"{sql} limit ? offset ?", (*values, limit, offset))
    return [{"x": value, "y": count} for value, count in rows]


def _stats(store: Store, website_id: str, query: Query, span: Range) -> Json:
    where, values = _where(website_id, query, span)
    visits = (
        f"select event.session_id, event.visit_id, count(*) as views,"
        f" min(event.timestamp) as first, max(event.timestamp) as last"
        f" {_FROM} where {where} and event.type not in {_NO_VIEWS} group by 1, 2"
    )
    if query.get("excludeBounce"):
        visits += " having count(*) > 1"
    row = store.query(
        "select coalesce(sum(views), 0), count(distinct session_id), count(distinct visit_id),"  # noqa: S608
        f" coalesce(sum(views = 1), 0), coalesce(sum(cast(last - first as integer)), 0) from ({visits})",
        values,
    )[0]
    return dict(zip(STATS, row, strict=True))


def _event_stats(store: Store, website_id: str, query: Query, span: Range) -> Json:
    where, values = _where(website_id, query, span)
    row = store.query(
        "select count(*), count(distinct event.session_id), count(distinct event.visit_id),"
        f" count(distinct event.name) {_FROM} where {where} and event.type = 2",
        values,
    )[0]
    return dict(zip(("events", "visitors", "visits", "uniqueEvents"), row, strict=True))


def _where(website_id: str, query: Query, span: Range) -> tuple[str, list[Any]]:
    values: list[Any] = [website_id.lower(), span.start / 1000, span.end / 1000]
    clauses = [
        clause
        for name, value in query.items()
        if name.rstrip(digits) in _FILTERS
        for clause in [_filter(_COLUMNS[name.rstrip(digits)], value, values)]
    ]
    where = "event.website_id = ? and event.timestamp between ? and ?"
    if clauses:
        where += f" and ({(' or ' if query.get('match') == 'any' else ' and ').join(clauses)})"
    if "eventType" in query:
        where += " and event.type = ?"
        values.append(int(to_number(query["eventType"])))
    return where, values


def _filter(column: str, value: str, values: list[Any]) -> str:
    match = _OPERATOR.fullmatch(value)
    operator, text = (match[1], match[2]) if match else ("eq", value)
    if operator in ("c", "dnc"):
        values.append(f"%{text}%")
        return f"{column} {'not ' if operator == 'dnc' else ''}like ?"
    options: Sequence[str] = text.split(",")
    values.extend(options)
    return f"{column} {'not ' if operator == 'neq' else ''}in ({', '.join('?' * len(options))})"


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
