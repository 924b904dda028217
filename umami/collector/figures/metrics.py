"""How often each value occurs: pages, referrers, browsers, channels and the like."""

from __future__ import annotations

import re
from typing import Final

from umami.collector import replies
from umami.collector.figures.channels import channels, early_channels, expanded_channels, grouped_referrer
from umami.collector.figures.filters import (
    COLUMNS,
    EVENT_COLUMNS,
    IN_RANGE,
    NO_VIEWS,
    SESSION_COLUMNS,
    Selection,
    can_filter,
    foreign_referrer,
    read_filters,
    select,
    select_views,
)
from umami.collector.figures.query import CrashError, Query, Range, read_range
from umami.collector.figures.visits import VIEWS, VISITS, as_texts
from umami.collector.javascript import decode_uri_component
from umami.collector.replies import Json
from umami.collector.store import Store

_DEFAULT_LIMIT: Final = 500
_VALUES: Final = 10
_SEARCHED_VALUES: Final = 5
_REFERRERS: Final = ("referrer", "domain")
_PLACES: Final = ("city", "region")
_ENDS: Final = ("entry", "exit")
_CUSTOM_EVENT: Final = "2"
_MALFORMED: Final = re.compile("%(?![0-9A-Fa-f]{2})")


def metrics(store: Store, website_id: str, query: Query) -> list[Json] | None:
    """Returns the answer of ``/metrics``: the visitors or events of each value. None for an unknown type.

    Raises:
        CrashError: As for `read_range`, or the database would refuse a filter, the limit or the offset.
    """
    kind, span = query["type"], read_range(query)
    if kind == "channel":
        if query.generation.early_figures:
            return early_channels(store, website_id, query, span)
        return channels(store, website_id, query, span)
    if not _is_known(kind, query):
        return None
    filters = _searching_filters(query)
    if kind == "event":
        rows = select(website_id, query, span, filters, bounces=True)
        counted, column = "count(*)", COLUMNS[kind]
    else:
        rows = _select(website_id, query, span, filters)
        counted, column = "count(distinct event.session_id)", _column(kind)
        if query.generation.early_figures:
            column = COLUMNS[kind]
        if kind in _ENDS and query.generation.early_figures:
            rows.joins.append(_end(kind))
        elif kind in _ENDS:
            if not query.generation.has_late_filters and not {"path", *_ENDS}.isdisjoint(filters):
                raise CrashError  # Umami 3.0 does not say which of two paths to filter by
            column, extreme = "ends.url_path", "min" if kind == "entry" else "max"
            # SQLite takes url_path from the row that has the minimum or the maximum.
            rows.joins.append(
                f"join (select visit_id, url_path, {extreme}(timestamp) from event where {IN_RANGE}"
                f" and type not in {NO_VIEWS} group by visit_id) ends on ends.visit_id = event.visit_id"
            )
        if not query.generation.counts_empty_values or kind in _REFERRERS:
            rows.where += f" and {column} <> ''"
    country = ", null as country" if kind in _PLACES else ""
    sql = f"select {column} as x, {counted} as y{country} {rows.rows} group by 1 order by 2 desc, 1"
    found = _all(store, sql, rows, query)
    return _early_languages(found) if kind == "language" and query.generation.early_figures else found


def expanded_metrics(store: Store, website_id: str, query: Query) -> list[Json] | None:
    """Returns the answer of ``/metrics/expanded``: five figures of each value. None for an unknown type.

    Raises:
        CrashError: As for `metrics`.
    """
    kind, span = query["type"], read_range(query)
    if kind == "channel":
        return expanded_channels(store, website_id, query, span)
    if not _is_known(kind, query):
        return None
    filters = _searching_filters(query)
    if kind == "event":
        rows = select(website_id, query, span, filters, bounces=True)
    else:
        rows = _select(website_id, query, span, filters)
    if kind in _ENDS:
        rows.joins.append(_end(kind))
    column = grouped_referrer() if kind == "domain" else _column(kind)
    names = "name, country" if kind in _PLACES else "name"
    country = "null as country, " if kind in _PLACES else ""
    empty = query.generation.counts_empty_values and (kind in SESSION_COLUMNS or kind == "event")
    sql = (
        f"select {names}, {VISITS} from (select {column} as name, {country}{VIEWS} {rows.rows}"
        f" group by 1, event.session_id, event.visit_id) {'' if empty else 'where name <> ' + repr('')}"
        f" group by {names} order by visitors desc, visits desc, 1"
    )
    return as_texts(_all(store, sql, rows, query))


def values(store: Store, website_id: str, query: Query) -> list[Json] | Json | None:
    """Returns the answer of ``/values``: the ten most frequent values of a field.

    Raises:
        CrashError: As for `read_range`, or the search has a percent sign that does not encode a character,
            or Umami 2.x is asked for screens.
    """
    kind, span = query["type"], read_range(query)
    if not _is_known(kind, query):
        return replies.bad_request(message="Invalid type.") if query.generation.early_figures else None
    if kind == "screen" and query.generation.early_figures:
        raise CrashError
    rows = select(website_id, query, span, {}, bounces=True, sessions=True)
    column = COLUMNS[kind]
    search = query.get("search")
    if search:
        if _MALFORMED.search(search):
            raise CrashError
        listed = decode_uri_component(search)
        patterns = listed.split(",")[:_SEARCHED_VALUES] if "," in listed else [f"%{search}%"]
        likes = [
            f"lower({column}) like {rows.parameter(pattern.lower())} escape '\\'" for pattern in patterns
        ]
        rows.where += f" and ({' or '.join(likes)})"
    if kind in _REFERRERS:
        rows.where += f" and {foreign_referrer(query)} and {column} <> ''"
    found = store.query(
        f"select {column} as value, count(*) as count {rows.rows}"
        f" group by 1 order by 2 desc, 1 limit {_VALUES}",
        rows.values,
    )
    return [dict(row) for row in found]


def _is_known(kind: str, query: Query) -> bool:
    if kind in ("utmSource", "utmMedium", "utmCampaign", "utmContent", "utmTerm", "distinctId"):
        return query.generation.has_late_filters
    return kind in COLUMNS and not (kind == "domain" and query.generation.early_figures)


def _searching_filters(query: Query) -> dict[str, str]:
    filters, kind = read_filters(query), query["type"]
    if query.get("search") and can_filter(kind):
        filters[kind] = f"c.{query['search']}" if query.generation.names_operators else f"~{query['search']}"
    if kind == "event":
        filters["eventType"] = _CUSTOM_EVENT
    return filters


def _select(website_id: str, query: Query, span: Range, filters: dict[str, str]) -> Selection:
    kind = query["type"]
    rows = select_views(website_id, query, span, filters, sessions=kind in SESSION_COLUMNS)
    if kind in _REFERRERS:
        rows.where += f" and {foreign_referrer(query)} and {EVENT_COLUMNS[kind]} <> ''"
    return rows


def _end(kind: str) -> str:
    """Returns the join that leaves the first or the last page views of each visit."""
    extreme = "min" if kind == "entry" else "max"
    return (
        f"join (select visit_id, {extreme}(timestamp) as at from event where {IN_RANGE}"
        f" and type not in {NO_VIEWS} group by visit_id) ends"
        " on ends.visit_id = event.visit_id and ends.at = event.timestamp"
    )


def _column(kind: str) -> str:
    column = COLUMNS[kind]
    return f"lower(substr({column}, 1, 2))" if kind == "language" else column


def _all(store: Store, sql: str, rows: Selection, query: Query) -> list[Json]:
    limited = rows.limited(query.get("limit", _DEFAULT_LIMIT), query.get("offset", 0))
    return [dict(row) for row in store.query(f"{sql} {limited}", rows.values)]


def _early_languages(found: list[Json]) -> list[Json]:
    """Puts the variants of a language together."""
    counts: dict[str, int] = {}
    for row in found:
        name = str("null" if row["x"] is None else row["x"]).lower().partition("-")[0]
        counts[name] = counts.get(name, 0) + row["y"]
    return [{"x": name, "y": count} for name, count in counts.items()]
