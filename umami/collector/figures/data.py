"""The custom data of events and of sessions."""

from __future__ import annotations

from statistics import fmean, median
from typing import Final

from umami.collector.figures.filters import Selection, select, select_rows
from umami.collector.figures.query import CrashError, Query, canonical_uuid, read_page, read_range
from umami.collector.replies import Json
from umami.collector.store import Store

_PROPERTIES: Final = 500
_VALUES: Final = 100
_JOIN: Final = "join event_data data on data.event = event.rowid"
_SESSION_JOIN: Final = "join session_data data on data.session_id = event.session_id"
_VALUE: Final = (
    "case data.type when 2 then replace(data.text, '.0000', '')"
    " when 4 then substr(data.date, 1, 14) || '00:00Z' else data.text end"
)
_EARLY_VALUE: Final = (
    "case data.type when 2 then replace(data.text, '.0000', '')"
    " when 4 then substr(data.date, 1, 10) || ' ' || substr(data.date, 12, 3) || '00:00' else data.text end"
)
_COLUMNS: Final = (
    "data.text as stringValue, data.number as numberValue, data.date as dateValue, data.type as dataType,"
    " strftime('%Y-%m-%dT%H:%M:%fZ', data.timestamp, 'unixepoch') as createdAt"
)


def event_data(store: Store, website_id: str, query: Query) -> Json:
    """Returns the answer of ``/event-data``: a page of events with their custom data, the newest first."""
    store.flatten_data()
    rows, page = select_rows(website_id, query), read_page(query)
    rows.where += " and exists (select 1 from event_data data where data.event = event.rowid)"
    count = store.query_kept(f"select count(*) {rows.rows}", rows.values)[0][0]
    found = store.query(
        f"select event.id as eventId, event.name as eventName, data.key as dataKey, {_COLUMNS}"
        f" from ({rows.page(page)}) page join event on event.rowid = page.id"
        " join event_data data on data.event = page.id"
        " order by event.timestamp desc, event.rowid desc, data.rowid",
        rows.values,
    )
    data: dict[str, Json] = {}
    for row in map(dict, found):
        event_id, name = row.pop("eventId"), row.pop("eventName")
        entry = data.setdefault(
            event_id,
            {"websiteId": website_id, "eventId": event_id, "eventName": name, "eventProperties": []},
        )
        entry["eventProperties"].append(row)
    return {"data": list(data.values()), "count": count, "page": page.number, "pageSize": page.size}


def event_data_of(store: Store, website_id: str, _: Query, event_id: str) -> list[Json]:
    """Returns the answer of ``/event-data/{id}``: the custom data of one event.

    Raises:
        CrashError: The id is not a UUID.
    """
    store.flatten_data()
    found = store.query(
        "select event.website_id as websiteId, event.id as eventId, event.name as eventName,"
        f" data.key as dataKey, {_COLUMNS} from event {_JOIN}"
        " where event.website_id = :p1 and event.id = :p2 order by data.rowid",
        (website_id, canonical_uuid(event_id)),
    )
    return [dict(row) for row in found]


def event_data_events(store: Store, website_id: str, query: Query) -> list[Json]:
    """Returns the answer of ``/event-data/events``: how often each value of an event's properties occurs.

    Raises:
        CrashError: No event is given. Umami 2.x counts the properties of all events then.
    """
    generation, event = query.generation, query.get("event")
    if not event and not generation.early_figures:
        raise CrashError
    store.flatten_data()
    filters = None if generation.has_late_filters else {"event": event} if event else {}
    rows = select(website_id, query, read_range(query), filters, bounces=True)
    rows.joins.append(_JOIN)
    if not event:
        found = store.query(
            "select event.name as eventName, data.key as propertyName, data.type as dataType,"
            f" count(*) as total {rows.rows} group by 1, 2, 3 order by 1, 2, 3 limit {_PROPERTIES}",
            rows.values,
        )
        return [dict(row) for row in found]
    found = store.query(
        "select event.name as eventName, data.key as propertyName, data.type as dataType,"
        f" data.text as propertyValue, count(*) as total {rows.rows}"
        " group by 1, 2, 3, 4 order by 1, 2, 3, 5 desc, 4",
        rows.values,
    )
    return [dict(row) for row in found]


def event_data_fields(store: Store, website_id: str, query: Query) -> list[Json]:
    """Returns the answer of ``/event-data/fields``: 100 values of properties, with their number."""
    rows = _select(store, website_id, query)
    found = store.query(
        f"select data.key as propertyName, data.type as dataType, {_value(query)} as value,"
        " count(*) as total"
        f" {rows.rows} group by 1, 2, 3 order by 2 desc, 1, 3 limit {_VALUES}",
        rows.values,
    )
    return [dict(row) for row in found]


def event_data_properties(store: Store, website_id: str, query: Query) -> list[Json]:
    """Returns the answer of ``/event-data/properties``: how often each event has each property."""
    rows = _select(store, website_id, query)
    _name_property(rows, query)
    found = store.query(
        f"select event.name as eventName, data.key as propertyName, count(*) as total {rows.rows}"
        f" group by 1, 2 order by 3 desc, 1, 2 limit {_PROPERTIES}",
        rows.values,
    )
    return [dict(row) for row in found]


def event_data_values(store: Store, website_id: str, query: Query) -> list[Json]:
    """Returns the answer of ``/event-data/values``: how often each value of a property occurs."""
    rows = _select(store, website_id, query)
    rows.where += f" and data.key = {rows.parameter(query.get('propertyName'))}"
    if query.generation.early_figures:
        rows.where += f" and event.name = {rows.parameter(query.get('eventName'))}"
    return _values(store, rows, "count(*)", query)


def event_data_numbers(store: Store, website_id: str, query: Query) -> Json:
    """Returns the answer of ``/event-data-pivot/numeric-stats``: the statistics of a property's numbers.

    By Umami's OpenAPI document. It was not compared with a real server.
    """
    rows = _select(store, website_id, query)
    rows.where += f" and data.key = {rows.parameter(query['propertyName'])}"
    rows.where += f" and event.name = {rows.parameter(query['eventName'])} and data.number is not null"
    numbers = [row[0] for row in store.query(f"select cast(data.number as real) {rows.rows}", rows.values)]
    if not numbers:
        return dict.fromkeys(("total", "average", "median", "min", "max"))
    return {
        "total": sum(numbers),
        "average": fmean(numbers),
        "median": median(numbers),
        "min": min(numbers),
        "max": max(numbers),
    }


def event_data_stats(store: Store, website_id: str, query: Query) -> Json:
    """Returns the answer of ``/event-data/stats``: the numbers of events with data, properties and values."""
    rows = _select(store, website_id, query)
    events, properties, records = store.query(
        f"select count(distinct event.rowid), count(distinct data.key), count(*) {rows.rows}", rows.values
    )[0]
    return {"events": events, "properties": properties, "records": str(records) if records else None}


def session_data(store: Store, website_id: str, _: Query, session_id: str) -> list[Json]:
    """Returns the answer of ``/sessions/{sid}/properties``: the data of one session.

    Raises:
        CrashError: The id is not a UUID.
    """
    store.flatten_data()
    found = store.query(
        "select data.website_id as websiteId, data.session_id as sessionId, data.key as dataKey,"
        " data.type as dataType, replace(data.text, '.0000', '') as stringValue,"
        " data.number as numberValue, data.date as dateValue,"
        " strftime('%Y-%m-%dT%H:%M:%fZ', data.timestamp, 'unixepoch') as createdAt"
        " from session_data data where data.website_id = :p1 and data.session_id = :p2 order by data.key",
        (website_id, canonical_uuid(session_id)),
    )
    return [dict(row) for row in found]


def session_data_properties(store: Store, website_id: str, query: Query) -> list[Json]:
    """Returns the answer of ``/session-data/properties``: how many sessions have each property."""
    rows = _select(store, website_id, query, _SESSION_JOIN)
    _name_property(rows, query)
    found = store.query(
        "select data.key as propertyName, count(distinct data.session_id) as total"
        f" {rows.rows} group by 1 order by 2 desc, 1 limit {_PROPERTIES}",
        rows.values,
    )
    return [dict(row) for row in found]


def session_data_values(store: Store, website_id: str, query: Query) -> list[Json]:
    """Returns the answer of ``/session-data/values``: how many sessions have each value of a property.

    Raises:
        CrashError: Always, for Umami 2.x.
    """
    if query.generation.early_figures:
        raise CrashError
    rows = _select(store, website_id, query, _SESSION_JOIN)
    rows.where += f" and data.key = {rows.parameter(query.get('propertyName'))}"
    return _values(store, rows, "count(distinct data.session_id)", query)


def _select(store: Store, website_id: str, query: Query, join: str = _JOIN) -> Selection:
    store.flatten_data()
    rows = select_rows(website_id, query)
    rows.joins.append(join)
    return rows


def _name_property(rows: Selection, query: Query) -> None:
    """Restricts the rows to the property that the query may name in Umami 2.x."""
    if query.generation.early_figures and "propertyName" in query:
        rows.where += f" and data.key = {rows.parameter(query['propertyName'])}"


def _value(query: Query) -> str:
    return _EARLY_VALUE if query.generation.early_figures else _VALUE


def _values(store: Store, rows: Selection, counted: str, query: Query) -> list[Json]:
    found = store.query(
        f"select {_value(query)} as value, {counted} as total {rows.rows}"
        f" group by 1 order by 2 desc, 1 limit {_VALUES}",
        rows.values,
    )
    return [dict(row) for row in found]
