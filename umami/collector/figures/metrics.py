"""How often each value occurs: pages, referrers, browsers, channels and the like."""

from __future__ import annotations

import re
from typing import Final

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
from umami.collector.javascript import decode_uri_component
from umami.collector.replies import Json
from umami.collector.store import Store

_DEFAULT_LIMIT: Final = 500
_VALUES: Final = 10
_SEARCHED_VALUES: Final = 5
_REFERRERS: Final = ("referrer", "domain")
_PLACES: Final = ("city", "region")
_CUSTOM_EVENT: Final = "2"
_MALFORMED: Final = re.compile("%(?![0-9A-Fa-f]{2})")

_SEARCH: Final = (
    *("baidu.com", "bing.com", "chatgpt.com", "duckduckgo.com", "ecosia.org", "google.", "msn.com"),
    *("perplexity.ai", "search.brave.com", "yandex."),
)
_SOCIAL: Final = (
    *("bsky.app", "facebook.com", "fb.com", "ig.com", "instagram.com", "linkedin.", "news.ycombinator.com"),
    *("pinterest.", "reddit.", "snapchat.", "t.co", "threads.net", "tiktok.", "twitter.com", "x.com"),
)
_MAIL: Final = ("gmail.", "hotmail.", "mail.yahoo.", "outlook.", "proton.me", "protonmail.")
_SHOPS: Final = (
    *("alibaba.com", "aliexpress.com", "amazon.", "bestbuy.com", "ebay.com", "etsy.com", "newegg.com"),
    *("target.com", "walmart.com"),
)
_VIDEO: Final = ("twitch.", "youtube.")
_ADVERTISEMENTS: Final = (
    *("ad_id=", "aid=", "dclid=", "epik=", "fbclid=", "gclid=", "li_fat_id=", "msclkid=", "ob_click_id="),
    *("pc_id=", "rdt_cid=", "scid=", "ttclid=", "twclid=", "utm_medium=cpc", "utm_medium=paid"),
    *("utm_medium=paid_social", "utm_source=google"),
)
_GROUPS: Final = {
    "baidu.com": ("baidu.",),
    "bing.com": ("bing.",),
    "brave.com": ("brave.",),
    "chatgpt.com": ("chatgpt.",),
    "duckduckgo.com": ("duckduckgo.",),
    "facebook.com": ("facebook.",),
    "github.com": ("github.",),
    "google.com": ("google.",),
    "news.ycombinator.com": ("news.ycombinator.com",),
    "instagram.com": ("instagram.", "ig.com"),
    "linkedin.com": ("linkedin.",),
    "pinterest.com": ("pinterest.",),
    "reddit.com": ("reddit.",),
    "snapchat.com": ("snapchat.",),
    "twitter.com": ("twitter.", "t.co", "x.com"),
    "yahoo.com": ("yahoo.",),
    "yandex.ru": ("yandex.",),
}
"""The domains that expanded metrics put together, with the parts of a referrer's name that tell them."""

_VISITS: Final = (
    "sum(views) as pageviews, count(distinct session_id) as visitors, count(distinct visit_id) as visits,"
    " sum(views = 1) as bounces, sum(cast(last - first as integer)) as totaltime"
)
_VIEWS: Final = (
    "event.session_id, event.visit_id, count(*) as views,"
    " min(event.timestamp) as first, max(event.timestamp) as last"
)


def metrics(store: Store, website_id: str, query: Query) -> list[Json] | None:
    """Returns the answer of ``/metrics``: the visitors or events of each value. None for an unknown type.

    Raises:
        CrashError: As for `read_range`, or the database would refuse a filter, the limit or the offset.
    """
    kind, span = query["type"], read_range(query)
    if kind == "channel" and query.generation.has_channels:
        return _channels(store, website_id, query, span)
    if not _is_known(kind, query):
        return None
    filters = _searching_filters(query)
    if kind == "event":
        rows = select(website_id, query, span, filters, bounces=True)
        counted, column = "count(*)", COLUMNS[kind]
    else:
        rows = _select(website_id, query, span, filters)
        counted, column = "count(distinct event.session_id)", _column(kind)
        if kind in ("entry", "exit"):
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
    return _all(store, sql, rows, query)


def expanded_metrics(store: Store, website_id: str, query: Query) -> list[Json] | None:
    """Returns the answer of ``/metrics/expanded``: five figures of each value. None for an unknown type.

    Raises:
        CrashError: As for `metrics`.
    """
    kind, span = query["type"], read_range(query)
    if kind == "channel":
        return _expanded_channels(store, website_id, query, span)
    if not _is_known(kind, query):
        return None
    filters = _searching_filters(query)
    if kind == "event":
        rows = select(website_id, query, span, filters, bounces=True)
    else:
        rows = _select(website_id, query, span, filters)
    if kind in ("entry", "exit"):
        extreme = "min" if kind == "entry" else "max"
        rows.joins.append(
            f"join (select visit_id, {extreme}(timestamp) as at from event where {IN_RANGE}"
            f" and type not in {NO_VIEWS} group by visit_id) ends"
            " on ends.visit_id = event.visit_id and ends.at = event.timestamp"
        )
    column = _grouped_referrer() if kind == "domain" else _column(kind)
    names = "name, country" if kind in _PLACES else "name"
    country = "null as country, " if kind in _PLACES else ""
    empty = query.generation.counts_empty_values and (kind in SESSION_COLUMNS or kind == "event")
    sql = (
        f"select {names}, {_VISITS} from (select {column} as name, {country}{_VIEWS} {rows.rows}"
        f" group by 1, event.session_id, event.visit_id) {'' if empty else 'where name <> ' + repr('')}"
        f" group by {names} order by visitors desc, visits desc, 1"
    )
    return _texts(_all(store, sql, rows, query))


def values(store: Store, website_id: str, query: Query) -> list[Json]:
    """Returns the answer of ``/values``: the ten most frequent values of a field.

    Raises:
        CrashError: As for `read_range`, or the search has a percent sign that does not encode a character.
    """
    kind = query["type"]
    rows = select(website_id, query, read_range(query), {}, bounces=True, sessions=True)
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
    late = kind.startswith("utm") or kind in ("distinctId", "domain")
    return kind in COLUMNS and (query.generation.has_late_filters or not late)


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


def _column(kind: str) -> str:
    column = COLUMNS[kind]
    return f"lower(substr({column}, 1, 2))" if kind == "language" else column


def _all(store: Store, sql: str, rows: Selection, query: Query) -> list[Json]:
    limited = rows.limited(query.get("limit", _DEFAULT_LIMIT), query.get("offset", 0))
    return [dict(row) for row in store.query(f"{sql} {limited}", rows.values)]


def _texts(figures: list[Json]) -> list[Json]:
    """Makes texts of two sums, as Umami's driver of the database does."""
    return [each | {name: str(each[name]) for name in ("pageviews", "totaltime")} for each in figures]


def _channels(store: Store, website_id: str, query: Query, span: Range) -> list[Json]:
    rows = select_views(website_id, query, span)
    found = store.query(
        f"select {_channel(query)} as x, count(distinct event.session_id) as y {rows.rows}"
        " group by 1 having x <> '' order by 2 desc, 1",
        rows.values,
    )
    return [dict(row) for row in found]


def _expanded_channels(store: Store, website_id: str, query: Query, span: Range) -> list[Json]:
    rows = select_views(website_id, query, span)
    found = store.query(
        f"select name, {_VISITS} from (select {_channel(query)} as name, {_VIEWS} {rows.rows}"
        " group by event.referrer_domain, event.url_query, event.utm_medium, event.utm_source,"
        " event.session_id, event.visit_id, event.hostname) where name <> ''"
        " group by name order by visitors desc, visits desc, 1",
        rows.values,
    )
    return [each | {"y": None} for each in _texts([dict(row) for row in found])]


def _channel(query: Query) -> str:
    """Returns the SQL of the channel that a page view came by."""
    medium, source, referrer = "event.utm_medium", "event.utm_source", "event.referrer_domain"
    # GLOB distinguishes upper and lower case, LIKE does not.
    paid = " or ".join(f"{medium} glob '{glob}'" for glob in ("p*", "*ppc*", "*retargeting*", "*paid*"))
    kind = f"case when {paid} then 'paid' else 'organic' end"
    foreign = (
        ""
        if query.generation.own_referrer_has_www
        else (f" when {foreign_referrer(query)} and {referrer} <> '' then 'referral'")
    )
    return (
        f"case when {referrer} = '' and event.url_query = '' then 'direct'"
        f" when {_like('event.url_query', _ADVERTISEMENTS)} then 'paidAds'"
        f" when {_like(medium, ('referral', 'app', 'link'))} then 'referral'"
        f" when {_like(medium, ('affiliate',))} then 'affiliate'"
        f" when {_like(medium, ('sms',))} or {_like(source, ('sms',))} then 'sms'"
        f" when {_like(referrer, _SEARCH)} or {_like(medium, ('organic',))} then {kind} || 'Search'"
        f" when {_like(referrer, _SOCIAL)} then {kind} || 'Social'"
        f" when {_like(referrer, _MAIL)} or {_like(medium, ('mail',))} then 'email'"
        f" when {_like(referrer, _SHOPS)} or {_like(medium, ('shop',))} then {kind} || 'Shopping'"
        f" when {_like(referrer, _VIDEO)} or {_like(medium, ('video',))} then {kind} || 'Video'"
        f"{foreign} else '' end"
    )


def _grouped_referrer() -> str:
    groups = " ".join(
        f"when {_like('event.referrer_domain', parts)} then '{domain}'" for domain, parts in _GROUPS.items()
    )
    return f"case {groups} else 'Other' end"


def _like(column: str, parts: tuple[str, ...]) -> str:
    return "(" + " or ".join(f"{column} like '%{part}%'" for part in parts) + ")"
