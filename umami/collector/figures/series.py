"""Series over time: page views, visitors and events in each hour, day or month, and the hours of a week."""

from __future__ import annotations

from typing import Final

from umami.collector.figures.filters import read_filters, select, select_rows, select_views
from umami.collector.figures.query import CrashError, Query, Range, read_range, read_unit, read_zone
from umami.collector.replies import Json
from umami.collector.store import Store, moment_text

_DAYS: Final = 7
_HOURS: Final = 24


def pageviews(store: Store, website_id: str, query: Query) -> Json:
    """Returns the answer of ``/pageviews``: page views and visitors over time.

    Raises:
        CrashError: As for `read_range`, or the period to compare with is unknown.
    """
    span = read_range(query)
    series = views_and_visitors(store, website_id, query, span)
    compare = query.get("compare")
    if not compare:
        return series
    generation = query.generation
    if compare not in ("prev", "yoy") and not generation.early_figures:
        raise CrashError  # Umami 3.0 does not check it
    before = span.before(compare)
    compared = views_and_visitors(store, website_id, query, before)
    return {**series, **_dates(span), "compare": {**compared, **_dates(before)}}


def views_and_visitors(store: Store, website_id: str, query: Query, span: Range) -> Json:
    """Returns the page views and the visitors in each unit of time of a period."""
    rows = select_views(website_id, query, span)
    # The unit is that of the whole query, also for the range to compare with.
    unit = rows.parameter(read_unit(query, read_range(query)))
    period = f"period(event.timestamp, {unit}, {rows.parameter(read_zone(query))})"
    found = store.query(
        f"select {period}, count(*), count(distinct event.session_id) {rows.rows} group by 1 order by 1",
        rows.values,
    )
    return {
        "pageviews": [{"x": period, "y": views} for period, views, _ in found],
        "sessions": [{"x": period, "y": visitors} for period, _, visitors in found],
    }


def event_series(store: Store, website_id: str, query: Query) -> list[Json]:
    """Returns the answer of ``/events/series``: how often each event happened, over time."""
    span = read_range(query)
    filters = read_filters(query)
    if not query.generation.has_late_filters:
        filters.pop("eventType", None)  # Umami 3.0 sets it to that of custom events
    rows = select(website_id, query, span, filters, bounces=True)
    rows.where += " and event.type = 2"
    unit, zone = rows.parameter(read_unit(query, span)), rows.parameter(read_zone(query))
    if query.generation.has_late_filters and query.get("limit") not in (None, "", "0"):
        rows.where += (
            " and event.name in (select name from event where website_id = :p1"
            " and timestamp between :p2 and :p3 and type = 2 group by name order by count(*) desc"
            f" {rows.limited(query['limit'])})"
        )
    found = store.query(
        f"select event.name as x, period(event.timestamp, {unit}, {zone}) as t, count(*) as y {rows.rows}"
        " group by 1, 2 order by 2, 1",
        rows.values,
    )
    return [dict(row) for row in found]


def weekly_sessions(store: Store, website_id: str, query: Query) -> list[list[int]]:
    """Returns the answer of ``/sessions/weekly``: the visitors in each hour of each day of the week."""
    generation = query.generation
    if generation.has_late_filters:
        rows = select_views(website_id, query, read_range(query))
    else:
        rows = select_rows(website_id, query)
    # Umami 3.0 does not heed the time zone.
    zone = read_zone(query) if generation.has_late_filters or generation.early_figures else None
    hour = f"week_hour(event.timestamp, {rows.parameter(zone or 'utc')})"
    found = {
        row[0]: row[1]
        for row in store.query(
            f"select {hour}, count(distinct event.session_id) {rows.rows} group by 1", rows.values
        )
    }
    return [[found.get(f"{day}:{hour:02}", 0) for hour in range(_HOURS)] for day in range(_DAYS)]


def _dates(span: Range) -> Json:
    return {"startDate": moment_text(span.start / 1000), "endDate": moment_text(span.end / 1000)}
