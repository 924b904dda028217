"""The simple reports: goal, UTM, breakdown and retention. The other reports are missing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, timezone
from typing import Any, Final

from umami.collector import rules
from umami.collector.figures.filters import COLUMNS, SESSION_COLUMNS, read_filters, select
from umami.collector.figures.query import (
    EARLY_FIELDS,
    FIELDS,
    FILTER_RULES,
    CrashError,
    Query,
    Range,
    read_zone,
)
from umami.collector.figures.visits import VIEWS, VISITS
from umami.collector.generations import Generation
from umami.collector.javascript import looks_like_date, parse_date
from umami.collector.replies import Json
from umami.collector.store import Store

_UTM: Final = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")
_UTM_ROWS: Final = 50
_BREAKDOWN_ROWS: Final = 500
_RETENTION_DAYS: Final = 31
_DATES: Final[Mapping[str, rules.Check]] = {"startDate": rules.moment, "endDate": rules.moment}
_FILTERS: Final[Mapping[str, rules.Check]] = {**dict.fromkeys(FIELDS, rules.text()), **FILTER_RULES}

Report = Callable[[Store, str, Query, Range, Json], Any]


def check_report(kind: str, body: Any, generation: Generation) -> Json | None:
    """Checks the body of a report's request."""
    needed, possible = _PARAMETERS[kind]
    if not generation.has_late_filters:
        needed = {"fields": _early_fields} if "fields" in needed else needed
        possible = dict.fromkeys(possible, rules.text())
    return rules.members(
        body,
        {
            "websiteId": rules.uuid,
            "filters": lambda value: rules.members(value, {}, _FILTERS),
            "type": rules.one_of(kind),
            "parameters": lambda value: rules.members(value, {**_DATES, **needed}, possible),
        },
    )


def report_span(parameters: Json) -> Range:
    """Returns the period of a checked report.

    Raises:
        CrashError: A date is of a form that the collector does not read, such as a month.
    """
    return Range(_moment(parameters["startDate"]), _moment(parameters["endDate"]))


def _goal(store: Store, website_id: str, query: Query, span: Range, parameters: Json) -> Json:
    """Returns how many visitors reached a goal, and how many there were."""
    by_path, text = parameters["type"] == "path", parameters["value"]
    filters = read_filters(query)
    early = not query.generation.has_late_filters
    kinds = {**filters, "eventType": "1" if by_path else "2"}
    filters.pop("eventType", None)
    # In Umami 3.0, only those count who viewed any page, or had any event.
    everyone = select(website_id, query, span, kinds if early else filters, bounces=True)
    total = store.query(f"select count(distinct event.session_id) {everyone.rows}", everyone.values)
    rows = select(website_id, query, span, kinds, bounces=True)
    column = "event.url_path" if by_path else "event.name"
    if not early and (text.startswith("*") or text.endswith("*")):
        pattern = re.escape(re.sub(r"^\*|\*\Z", "%", text)).replace("%", ".*").replace("_", ".")
        rows.where += f" and {column} regexp {rows.parameter(f'(?-i)^{pattern}$')}"
    else:
        rows.where += f" and {column} = {rows.parameter(text)}"
    reached = store.query(f"select count(distinct event.session_id) {rows.rows}", rows.values)
    return {"num": reached[0][0], "total": total[0][0]}


def _utm(store: Store, website_id: str, query: Query, span: Range, _: Json) -> Json:
    """Returns the page views of each value of each campaign parameter."""
    found = {}
    for column in _UTM:
        rows = select(website_id, query, span, _views(query), bounces=True)
        values = store.query(
            f"select event.{column} as utm, count(*) as views {rows.rows} and event.{column} <> ''"
            f" group by 1 order by 2 desc, 1 limit {_UTM_ROWS}",
            rows.values,
        )
        found[column] = [dict(value) for value in values]
    return found


def _breakdown(store: Store, website_id: str, query: Query, span: Range, parameters: Json) -> list[Json]:
    """Returns the five figures of each combination of some fields."""
    fields: list[str] = parameters["fields"]
    if not fields:
        raise CrashError
    sessions = not SESSION_COLUMNS.keys().isdisjoint(fields)
    rows = select(website_id, query, span, _views(query), bounces=True, sessions=sessions)
    names = ", ".join(f'"{name}"' for name in fields)
    columns = ", ".join(f'{COLUMNS[name]} as "{name}"' for name in fields)
    numbers = ", ".join(str(number) for number in range(1, len(fields) + 3))
    found = store.query(
        f"select {VISITS}, {names} from (select {columns}, {VIEWS} {rows.rows} group by {numbers})"
        f" group by {names} order by visitors desc, 1 desc limit {_BREAKDOWN_ROWS}",
        rows.values,
    )
    return [
        {
            "views": str(row["pageviews"]),
            **{name: row[name] for name in ("visitors", "visits", "bounces")},
            "totaltime": str(row["totaltime"]),
            **{name: row[name] for name in fields},
        }
        for row in map(dict, found)
    ]


def _retention(store: Store, website_id: str, query: Query, span: Range, parameters: Json) -> list[Json]:
    """Returns how many of the visitors of a day came again, and after how many days."""
    if "timezone" in parameters:
        query["timezone"] = parameters["timezone"]
    zone = read_zone(query)
    rows = select(website_id, query, span, bounces=True)
    first = f"min(period(event.timestamp, 'day', {rows.parameter(zone)}))"
    firsts = {
        row[0]: row[1]
        for row in store.query(
            f"select event.session_id, {first} {rows.rows} group by event.session_id", rows.values
        )
    }
    days = store.query(
        "select distinct session_id, period(timestamp, 'day', :p4) from event"
        " where website_id = :p1 and timestamp between :p2 and :p3",
        (website_id, span.start / 1000, span.end / 1000, zone),
    )
    sizes: dict[str, int] = {}
    returned: dict[tuple[str, int], int] = {}
    for day in firsts.values():
        sizes[day] = sizes.get(day, 0) + 1
    for session_id, day in days:
        start = firsts.get(session_id)
        if start is not None:
            key = (start, (date.fromisoformat(day[:10]) - date.fromisoformat(start[:10])).days)
            returned[key] = returned.get(key, 0) + 1
    return [
        {
            "date": start,
            "day": day,
            "visitors": sizes[start],
            "returnVisitors": count,
            "percentage": _plain(count * 100 / sizes[start]),
        }
        for (start, day), count in sorted(returned.items())
        if day <= _RETENTION_DAYS
    ]


def _plain(number: float) -> float:
    """Returns a whole number as JavaScript writes it: without a decimal point."""
    return int(number) if number.is_integer() else number


def _views(query: Query) -> dict[str, str]:
    return {**read_filters(query), "eventType": "1"}


def _moment(value: Any) -> float:
    if not isinstance(value, str):
        return float(value)
    try:
        moment = (
            parse_date(value)
            if looks_like_date(value)
            else datetime.fromisoformat(value.replace("Z", "+00:00"))
        )
    except ValueError:
        moment = None
    if moment is None:
        raise CrashError
    return moment.replace(tzinfo=moment.tzinfo or timezone.utc).timestamp() * 1000


def _listed(*names: str) -> rules.Check:
    """A list of some of the names."""

    def check(value: Any) -> Json | None:
        if not isinstance(value, list):
            return rules.expected("array", value)
        wrong = [rules.one_of(*names)(field) for field in value]
        while wrong and wrong[-1] is None:
            wrong.pop()
        return {"errors": [], "items": wrong} if wrong else None

    return check


_early_fields: Final = _listed(*EARLY_FIELDS)


_PARAMETERS: Final[Mapping[str, tuple[Mapping[str, rules.Check], Mapping[str, rules.Check]]]] = {
    "goal": ({"type": rules.text(), "value": rules.text()}, {}),
    "utm": ({}, {}),
    "breakdown": ({"fields": _listed(*FIELDS)}, {}),
    "retention": ({}, {"timezone": rules.time_zone}),
}
REPORTS: Final[Mapping[str, Report]] = {
    "goal": _goal,
    "utm": _utm,
    "breakdown": _breakdown,
    "retention": _retention,
}
"""What computes each report."""
