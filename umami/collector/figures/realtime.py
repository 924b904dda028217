"""What happened in the last 30 minutes."""

from __future__ import annotations

import time
from collections import Counter
from typing import Final

from umami.collector.figures.filters import read_filters, select
from umami.collector.figures.query import Query, Range
from umami.collector.figures.series import views_and_visitors
from umami.collector.replies import Json
from umami.collector.store import Store

_MINUTES: Final = 30
_MINUTE_MS: Final = 60_000
_EVENTS: Final = 100


def realtime(store: Store, website_id: str, query: Query) -> Json:
    """Returns the answer of ``/realtime/{id}``."""
    now = time.time() * 1000
    span = Range((now // _MINUTE_MS - _MINUTES) * _MINUTE_MS, now)
    query["startAt"], query["endAt"] = f"{span.start:.0f}", f"{span.end:.0f}"
    if query.generation.early_figures:
        for name in read_filters(query):
            del query[name]
    rows = select(website_id, query, span, bounces=True, sessions=True)
    hostname = ", event.hostname" if query.generation.has_late_filters else ""
    found = store.query(
        "select event.session_id as sessionId, event.name as eventName,"
        " strftime('%Y-%m-%dT%H:%M:%fZ', event.timestamp, 'unixepoch') as createdAt,"
        " session.browser, session.os, session.device, null as country, event.url_path as urlPath,"
        f" event.referrer_domain as referrerDomain{hostname} {rows.rows}"
        f" order by event.timestamp desc, event.rowid desc limit {_EVENTS}",
        rows.values,
    )
    activity = [dict(row) for row in reversed(found)]
    seen: set[str] = set()
    events: list[Json] = []
    for each in activity:
        if each["sessionId"] not in seen:
            seen.add(each["sessionId"])
            events.append({"__type": "session", **each})
        events.append({"__type": "event" if each["eventName"] else "pageview", **each})
    series = views_and_visitors(store, website_id, query, span)
    return {
        "countries": {},
        "urls": _counted(activity, "urlPath"),
        "referrers": _counted(activity, "referrerDomain"),
        "events": events[::-1],
        "series": {"views": series["pageviews"], "visitors": series["sessions"]},
        "totals": {
            "views": sum(point["y"] for point in series["pageviews"]),
            "visitors": sum(point["y"] for point in series["sessions"]),
            "events": sum(1 for each in activity if each["eventName"]),
            "countries": 0,
        },
        "timestamp": int(now),
    }


def _counted(activity: list[Json], name: str) -> dict[str, int]:
    return dict(Counter(each[name] for each in activity if each[name]))
