"""Counts over a whole period: visitors, events, sessions."""

from __future__ import annotations

import time
from typing import Final

from umami.collector.figures.filters import select, select_views
from umami.collector.figures.query import Query, Range, read_range
from umami.collector.replies import Json
from umami.collector.store import Store, moment_text

STATS: Final = ("pageviews", "visitors", "visits", "bounces", "totaltime")
_ACTIVE_SECONDS: Final = 300
_FIRST_SECOND: Final = 946_684_800
"""Events before the year 2000 do not count in the range of dates."""


def stats(store: Store, website_id: str, query: Query) -> tuple[Json, Json]:
    """Returns the figures of ``/stats``, for the query's range and for the range to compare with."""
    span = read_range(query)
    return _stats(store, website_id, query, span), _stats(store, website_id, query, _earlier(query, span))


def event_stats(store: Store, website_id: str, query: Query) -> Json:
    """Returns the answer of ``/events/stats``: how often custom events happened."""
    span = read_range(query)
    counted = [_event_stats(store, website_id, query, each) for each in (span, _earlier(query, span))]
    return {"data": counted[0] | {"comparison": counted[1]}}


def session_stats(store: Store, website_id: str, query: Query) -> Json:
    """Returns the answer of ``/sessions/stats``. Its page views are all events."""
    rows = select(website_id, query, read_range(query), bounces=True, sessions=True)
    row = store.query(
        "select count(*), count(distinct event.session_id), count(distinct event.visit_id), 0,"
        f" coalesce(sum(event.type = 2), 0) {rows.rows}",
        rows.values,
    )[0]
    names = ("pageviews", "visitors", "visits", "countries", "events")
    return {name: {"value": value} for name, value in zip(names, row, strict=True)}


def active_visitors(store: Store, website_id: str) -> int:
    """Returns the number of visitors in the last five minutes."""
    sql = "select count(distinct session_id) from event where website_id = :p1 and timestamp >= :p2"
    count: int = store.query(sql, (website_id.lower(), time.time() - _ACTIVE_SECONDS))[0][0]
    return count


def date_range(store: Store, website_id: str, query: Query) -> Json:
    """Returns the answer of ``/daterange``: the times of the first and the last event."""
    first, last = store.query(
        "select min(timestamp), max(timestamp) from event where website_id = :p1 and timestamp >= :p2",
        (website_id, _FIRST_SECOND),
    )[0]
    names = ("mindate", "maxdate") if query.generation.early_figures else ("startDate", "endDate")
    return dict(zip(names, (moment_text(first), moment_text(last)), strict=True))


def _stats(store: Store, website_id: str, query: Query, span: Range) -> Json:
    bounces = not query.get("excludeBounce")
    rows = select_views(website_id, query, span)
    visits = (
        "select event.session_id, event.visit_id, count(*) as views,"
        f" min(event.timestamp) as first, max(event.timestamp) as last {rows.rows} group by 1, 2"
    )
    row = store.query(
        "select coalesce(sum(views), 0), count(distinct session_id), count(distinct visit_id),"
        f" {'coalesce(sum(views = 1), 0)' if bounces else 0},"
        f" coalesce(sum(cast(last - first as integer)), 0) from ({visits})",
        rows.values,
    )[0]
    return dict(zip(STATS, row, strict=True))


def _event_stats(store: Store, website_id: str, query: Query, span: Range) -> Json:
    rows = select(website_id, query, span, bounces=True)
    row = store.query(
        "select count(*), count(distinct event.session_id), count(distinct event.visit_id),"
        f" count(distinct event.name) {rows.rows} and event.type = 2",
        rows.values,
    )[0]
    return dict(zip(("events", "visitors", "visits", "uniqueEvents"), row, strict=True))


def _earlier(query: Query, span: Range) -> Range:
    generation = query.generation
    # Umami 3.0 always compares with the period right before.
    compares = generation.has_late_filters or generation.early_figures
    return span.before(query.get("compare", "prev") if compares else "prev")
