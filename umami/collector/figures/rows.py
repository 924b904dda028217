"""Lists of events and of sessions, a page at a time, and single sessions."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qsl

from umami.collector.figures.filters import select_rows
from umami.collector.figures.query import (
    CrashError,
    Page,
    Query,
    Range,
    canonical_uuid,
    read_page,
    read_range,
)
from umami.collector.replies import Json
from umami.collector.store import Store, moment_text

_ACTIVITIES: Final = 500
_CLICK_IDS: Final = ("gclid", "fbclid", "msclkid", "ttclid", "li_fat_id", "twclid")
_CREATED_AT: Final = "strftime('%Y-%m-%dT%H:%M:%fZ', event.timestamp, 'unixepoch')"
_LATE_KEYS: Final = ("hostname", "country", "city", "device", "os", "browser", "hasData")
"""The keys of an event that Umami 2.x does not have."""

_PLACE: Final = "null as country, null as city"
_PROFILE: Final = "session.browser, session.os, session.device, session.screen, session.language"
_KINDS: Final = "coalesce(sum(event.type = 1), 0) as views, coalesce(sum(event.type = 2), 0) as events"


def events(store: Store, website_id: str, query: Query) -> Json:
    """Returns the answer of ``/events``: a page of events, the newest first.

    Raises:
        CrashError: As for `read_range`, or the order is given to Umami 2.x.
    """
    rows, page = select_rows(website_id, query), read_page(query)
    early, search = query.generation.early_figures, query.get("search")
    if early and query.get("orderBy"):
        raise CrashError  # the query is ordered already
    if search:
        pattern = f"{rows.parameter(f'%{search}%'.lower() if early else search.lower())} escape '\\'"
        rows.where += (
            f" and (event.type = 2 and lower(event.name) like {pattern}"
            f" or event.type = 1 and lower(event.url_path) like {pattern})"
        )
    count = store.query_kept(f"select count(*) {rows.rows}", rows.values)[0][0]
    found = store.query(
        f"select event.id, event.website_id as websiteId, event.session_id as sessionId,"
        f" {_CREATED_AT} as createdAt, event.hostname, event.url_path as urlPath,"
        " event.url_query as urlQuery, event.referrer_path as referrerPath,"
        " event.referrer_query as referrerQuery, event.referrer_domain as referrerDomain,"
        f" {_PLACE}, session.device, session.os, session.browser, event.title as pageTitle,"
        " event.type as eventType, event.name as eventName, has_values(event.data) as hasData"
        f" from ({rows.page(page)}) page join event on event.rowid = page.id"
        " left join session on session.session_id = event.session_id"
        " order by event.timestamp desc, event.rowid desc",
        rows.values,
    )
    data = [dict(row) for row in found]
    for row in data:
        row["hasData"] = bool(row["hasData"])
        if early:
            for name in _LATE_KEYS:
                del row[name]
    return _paged(data, count, page, query)


def sessions(store: Store, website_id: str, query: Query) -> Json:
    """Returns the answer of ``/sessions``: a page of sessions, the last seen first.

    A session that was seen on several host names is in it once for each, but for Umami 2.x.

    Raises:
        CrashError: As for `events`.
    """
    rows, page = select_rows(website_id, query, sessions=True), read_page(query)
    generation, search = query.generation, query.get("search")
    early = generation.early_figures
    if early and query.get("orderBy"):
        raise CrashError
    if search:
        pattern = f"{rows.parameter(f'%{search}%'.lower())} escape '\\'"
        columns = ("distinct_id", "browser", "os", "device")
        found = " or ".join(f"lower(session.{column}) like {pattern}" for column in columns)
        rows.where += f" and ({found})"
    grouped = store.query_kept(
        f"select session.session_id, event.hostname, {_PROFILE}, min(event.timestamp) as first,"
        f" max(event.timestamp) as last, count(distinct event.visit_id) as visits, {_KINDS}"
        f" {rows.rows} group by {'1' if early else '1, 2'} order by last desc, min(event.rowid) desc",
        rows.values,
    )
    data = [
        {
            "id": row["session_id"],
            "websiteId": website_id,
            **({} if early else {"hostname": row["hostname"]}),
            **_profile(row),
            "country": None,
            "region": None,
            "city": None,
            "firstAt": moment_text(row["first"]),
            "lastAt": moment_text(row["last"]),
            "visits": row["visits"],
            "views": row["views"],
            **({"events": row["events"]} if generation.counts_session_events else {}),
            "createdAt": moment_text(row["last"]),
        }
        for row in grouped[page.slice]
    ]
    return _paged(data, len(grouped), page, query)


def session(store: Store, website_id: str, query: Query, session_id: str) -> Json:
    """Returns the answer of ``/sessions/{sid}``: a session; ``{}`` if there is none.

    Raises:
        CrashError: The id is not a UUID, or Umami 2.x has no such session.
    """
    session_id = canonical_uuid(session_id)
    visits = store.query(
        f"select {_PROFILE}, session.distinct_id, min(event.timestamp) as first,"
        f" max(event.timestamp) as last, {_KINDS}"
        " from session join event on event.session_id = session.session_id"
        " where session.website_id = :p1 and session.session_id = :p2 group by event.visit_id",
        (website_id, session_id),
    )
    if not visits and query.generation.early_figures:
        raise CrashError
    if not visits:
        return {}
    return {
        "id": session_id,
        "distinctId": visits[0]["distinct_id"],
        "websiteId": website_id,
        **_profile(visits[0]),
        "country": None,
        "region": None,
        "city": None,
        "firstAt": moment_text(min(visit["first"] for visit in visits)),
        "lastAt": moment_text(max(visit["last"] for visit in visits)),
        "visits": len(visits),
        # The database's driver makes texts of sums of sums.
        "views": str(sum(visit["views"] for visit in visits)),
        "events": str(sum(visit["events"] for visit in visits)),
        "totaltime": str(sum(int(visit["last"] - visit["first"]) for visit in visits)),
    }


def session_activity(store: Store, website_id: str, query: Query, session_id: str) -> list[Json]:
    """Returns the answer of ``/sessions/{sid}/activity``: the last 500 events of a session.

    Raises:
        CrashError: The id is not a UUID.
    """
    span, session_id = read_range(query), canonical_uuid(session_id)
    if query.generation.early_figures:
        return _early_activity(store, website_id, session_id, span)
    hostname = "event.hostname, " if query.generation.has_late_filters else ""
    found = store.query(
        f"select {_CREATED_AT} as createdAt, event.url_path as urlPath, event.url_query as urlQuery,"
        " event.referrer_domain as referrerDomain, event.id as eventId, event.type as eventType,"
        f" event.name as eventName, event.visit_id as visitId, {hostname}has_values(event.data) as hasData"
        " from event where website_id = :p1 and session_id = :p2 and timestamp between :p3 and :p4"
        f" order by timestamp desc, rowid desc limit {_ACTIVITIES}",
        (website_id, session_id, span.start / 1000, span.end / 1000),
    )
    return [{**dict(row), "hasData": bool(row["hasData"])} for row in found]


def _early_activity(store: Store, website_id: str, session_id: str, span: Range) -> list[Json]:
    """Returns the last 500 events of a session, with all their columns, as Umami 2.x does."""
    found = store.query(
        "select event.id, event.website_id as websiteId, event.session_id as sessionId,"
        f" event.visit_id as visitId, {_CREATED_AT} as createdAt, event.url_path as urlPath,"
        " event.url_query as urlQuery, utm_source as utmSource, utm_medium as utmMedium,"
        " utm_campaign as utmCampaign, utm_content as utmContent, utm_term as utmTerm,"
        " event.referrer_path as referrerPath, event.referrer_query as referrerQuery,"
        f" event.referrer_domain as referrerDomain, event.title as pageTitle"
        f"{''.join(f', null as {name.replace(chr(95), str())}' for name in _CLICK_IDS)},"
        " event.type as eventType, event.name as eventName, event.tag, event.hostname from event"
        " where website_id = :p1 and session_id = :p2 and timestamp between :p3 and :p4"
        f" order by timestamp desc, rowid desc limit {_ACTIVITIES}",
        (website_id, session_id, span.start / 1000, span.end / 1000),
    )
    rows = [dict(row) for row in found]
    for row in rows:
        query = dict(parse_qsl(row["urlQuery"] or ""))
        row.update({name.replace("_", ""): query.get(name) for name in _CLICK_IDS})
    return rows


def _profile(row: Any) -> Json:
    return {name: row[name] for name in ("browser", "os", "device", "screen", "language")}


def _paged(data: list[Json], count: int, page: Page, query: Query) -> Json:
    most = query.generation.most_rows
    if most is not None:
        data, count = data[: max(0, most - page.slice.start)], min(count, most)
    reply: Json = {"data": data, "count": count, "page": page.number, "pageSize": page.size}
    if query.generation.pages_tell_order and "orderBy" in query:
        reply["orderBy"] = query["orderBy"]
    return reply
