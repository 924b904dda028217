"""The channels that visitors came by: search engines, social networks, advertisements and the like."""

from __future__ import annotations

import re
from typing import Final

from umami.collector.figures.filters import foreign_referrer, select, select_views
from umami.collector.figures.query import CrashError, Query, Range
from umami.collector.figures.visits import VIEWS, VISITS, as_texts
from umami.collector.replies import Json
from umami.collector.store import Store

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


_EARLY_CHANNELS: Final = (
    *("direct", "referral", "affiliate", "email", "sms"),
    *("organicSearch", "organicSocial", "organicShopping", "organicVideo"),
    *("paidAds", "paidSearch", "paidSocial", "paidShopping", "paidVideo"),
)
_EARLY_RULES: Final[tuple[tuple[str, tuple[str, ...], str], ...]] = (
    ("paidAds", (), "|".join(map(re.escape, _ADVERTISEMENTS))),
    ("referral", (), "utm_medium=(referral|app|link)"),
    ("affiliate", (), "utm_medium=affiliate"),
    ("sms", (), "utm_(source|medium)=sms"),
    ("{}Search", _SEARCH, "utm_medium=organic"),
    ("{}Social", _SOCIAL, "utm_medium=(social|sm)"),
    ("email", _MAIL, "utm_medium=.*e[-_ ]?mail"),
    ("{}Shopping", _SHOPS, "utm_campaign=.*(([^a-df-z]|^)shop|shopping)"),
    ("{}Video", _VIDEO, "utm_medium=.*video"),
)
"""The channels of Umami 2.x: parts of the referrer's domain, patterns in the URL's query. The first wins."""


def channels(store: Store, website_id: str, query: Query, span: Range) -> list[Json]:
    """Returns the visitors of each channel."""
    rows = select_views(website_id, query, span)
    found = store.query(
        f"select {_channel(query)} as x, count(distinct event.session_id) as y {rows.rows}"
        " group by 1 having x <> '' order by 2 desc, 1",
        rows.values,
    )
    return [dict(row) for row in found]


def expanded_channels(store: Store, website_id: str, query: Query, span: Range) -> list[Json]:
    """Returns the five figures of each channel."""
    rows = select_views(website_id, query, span)
    hostname = ", event.hostname" if query.generation.has_late_filters else ""
    found = store.query(
        f"select name, {VISITS} from (select {_channel(query)} as name, {VIEWS} {rows.rows}"
        " group by event.referrer_domain, event.url_query, event.utm_medium, event.utm_source,"
        f" event.session_id, event.visit_id{hostname}) where name <> ''"
        " group by name order by visitors desc, visits desc, 1",
        rows.values,
    )
    return [each | {"y": None} for each in as_texts([dict(row) for row in found])]


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


def early_channels(store: Store, website_id: str, query: Query, span: Range) -> list[Json]:
    """Returns the visitors of each channel as Umami 2.x does: all channels, told by referrer and URL.

    Raises:
        CrashError: There is a filter on sessions, which are not in the query.
    """
    rows = select(website_id, query, span)
    if rows.joins and "referrer" not in query:
        raise CrashError
    found = store.query(
        "select event.referrer_domain, event.url_query, count(distinct event.session_id)"
        f" {rows.rows} group by 1, 2",
        rows.values,
    )
    counts = dict.fromkeys(_EARLY_CHANNELS, 0)
    for domain, url_query, visitors in found:
        if not domain and not url_query:
            counts["direct"] += visitors
        channel = _early_channel(domain or "", url_query or "")
        if channel:
            counts[channel] += visitors
    return [{"x": name, "y": counts[name]} for name in sorted(counts, key=lambda name: -counts[name])]


def _early_channel(domain: str, query: str) -> str | None:
    paid = "paid" if re.search("utm_medium=(.*cp.*|ppc|retargeting|paid.*)", query) else "organic"
    for channel, domains, pattern in _EARLY_RULES:
        if any(part in domain for part in domains) or re.search(pattern, query):
            return channel.format(paid)
    return None


def grouped_referrer() -> str:
    """Returns the SQL of the site that a referrer belongs to."""
    groups = " ".join(
        f"when {_like('event.referrer_domain', parts)} then '{domain}'" for domain, parts in _GROUPS.items()
    )
    return f"case {groups} else 'Other' end"


def _like(column: str, parts: tuple[str, ...]) -> str:
    return "(" + " or ".join(f"{column} like '%{part}%'" for part in parts) + ")"
