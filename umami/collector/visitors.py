"""Who an event comes from: address, browser, whether it is a bot; and its session and visit."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from umami.collector.javascript import calendar

LAPTOP_WIDTH: Final = 1920
"""Pixels: a desktop browser on a screen up to this wide counts as a laptop."""

_ADDRESS_HEADERS: Final = (
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-nf-client-connection-ip",
    "do-connecting-ip",
    "x-real-ip",
    "x-appengine-user-ip",
    "x-forwarded-for",
    "forwarded",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded",
)
_COUNTRY_HEADERS: Final = (
    "cf-ipcountry",
    "x-vercel-ip-country",
    "cloudfront-viewer-country",
    "eo-ipcountry",
)
_PRIVATE: Final = (*map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")),)
_BINDABLE: Final = ("0.0.0.0", "255.255.255.255", "::")  # noqa: S104
"""No visitor's addresses, but a machine can bind to them, which is how Umami tells its own."""

_BOT = re.compile(
    r"""
    # Words that no browser's User-Agent holds.
    (?<!\ cu)bots?(?:\b|_) | crawl | spider | headless | (?<!lib)http | google(?!app|/google|\ pixel)
    | (?<!cam)scan | fetcher | feed | preview | validator | proxy | server | monitor\b | tools | download
    | lighthouse | phantomjs | synthetic | java(?!;) | \bnode\b | library | parser | scrape | archive | url
    | @[a-z][\w-]+\. | \.com\b | \(\) | \|
    # The names of HTTP clients and fetchers, at the start.
    | ^(?:python|postman|php|wget|whatsapp|facebook|wordpress|w3c|yahoo|yandex|custom|email|rss|bot|client/)
    # Nothing but words and at most one version: "curl/8.5.0", "myapp/1.0", "Mozilla/5.0", "My App 2".
    | ^[\w\ .\-():%?]+(?:/v?\d+(?:\.\d+)*)?(?:,|$)
    | ^\w+/[\w()]*$ | ^[^\ ]{50,}$ | ^\d+\b | ^\W | ^\w*search\b
    | ^mozilla/\d\.\d\ [\w.-]+$ | ^mozilla/\d\.\d\ \((?:compatible;)?(?:\s?[\w.-]+/\d+\.\d+)?\)$
    """,
    re.IGNORECASE | re.VERBOSE,
)

_BROWSERS: Final = (
    ("edge", re.compile(r"Edge/[\d._]+")),
    ("edge-ios", re.compile(r"EdgiOS/[\d._]+")),
    ("yandexbrowser", re.compile(r"YaBrowser/[\d._]+")),
    ("samsung", re.compile(r"SamsungBrowser/[\d.]+")),
    ("edge-chromium", re.compile(r"EdgA?/[\d.]+")),
    ("chromium-webview", re.compile(r"wv\).*Chrom(?:e|ium)/[\d.]+(?:\s|$)")),
    ("opera", re.compile(r"OPR/[\d.]+")),
    ("chrome", re.compile(r"Chrom(?:e|ium)/[\d.]+(?::?\s|$)")),
    ("crios", re.compile(r"CriOS/[\d.]+(?::?\s|$)")),
    ("firefox", re.compile(r"Firefox/[\d.]+(?:\s|$)")),
    ("fxios", re.compile(r"FxiOS/[\d.]+")),
    ("opera", re.compile(r"Opera/[\d.]+(?:\s|$)")),
    ("ie", re.compile(r"Trident/7\.0.*rv:[\d.]+.*\).*Gecko$|MSIE\s[\d.]+;.*Trident/[4-7].0|MSIE\s7\.0")),
    ("android", re.compile(r"Android\s[\d.]+")),
    ("ios", re.compile(r"Version/[\d._]+.*Mobile.*Safari")),
    ("safari", re.compile(r"Version/[\d._]+.*Safari")),
    ("ios-webview", re.compile(r"AppleWebKit/[\d.]+.*(?:Mobile|Gecko\)$)")),
)
_SYSTEMS: Final = (
    ("iOS", re.compile("iP(?:hone|od|ad)")),
    ("Android OS", re.compile("Android")),
    ("Windows XP", re.compile("Windows NT 5.1|Windows XP")),
    ("Windows 7", re.compile("Windows NT 6.1")),
    ("Windows 8", re.compile("Windows NT 6.2")),
    ("Windows 8.1", re.compile("Windows NT 6.3")),
    ("Windows 10", re.compile("Windows NT 10.0")),
    ("Chrome OS", re.compile("CrOS")),
    ("Linux", re.compile("Linux|X11")),
    ("Mac OS", re.compile("Macintosh")),
)
_DEVICES: Final = (
    ("smarttv", re.compile(r"SMART-TV|SmartTV|\bTV\b", re.IGNORECASE)),
    ("tablet", re.compile(r"iPad|Tablet|Android(?!.*Mobile)", re.IGNORECASE)),
    ("mobile", re.compile(r"iPhone|iPod|Mobile", re.IGNORECASE)),
)


@dataclass(frozen=True)
class Visitor:
    """Where a request comes from, as Umami sees it.

    Attributes:
        ip: The address, from the payload, a proxy's header or the connection.
        user_agent: The User-Agent, from the payload or the header.
        browser: The browser's name, such as ``chrome``.
        os: The operating system, such as ``Windows 10``.
        device: ``desktop``, ``laptop``, ``mobile``, …
    """

    ip: str
    user_agent: str
    browser: str | None
    os: str | None
    device: str


def identify(payload: Mapping[str, Any], headers: Mapping[str, str], peer: str) -> Visitor:
    """Finds out who sent an event.

    Args:
        payload: The event's payload, which overrides everything else.
        headers: The request's headers, by lower-case name.
        peer: The address the connection comes from.
    """
    user_agent = payload.get("userAgent") or headers.get("user-agent", "")
    browser, system, device = _client(user_agent)
    width = payload.get("screen", "").partition("x")[0]
    if device == "desktop" and width.isdecimal() and int(width) <= LAPTOP_WIDTH:
        device = "laptop"
    return Visitor(
        ip=payload.get("ip") or _header_address(headers, peer),
        user_agent=user_agent,
        browser=payload.get("browser", browser),
        os=payload.get("os", system),
        device=payload.get("device", device),
    )


@lru_cache(maxsize=1024)
def is_bot(user_agent: str) -> bool:
    """Whether Umami drops what this User-Agent sends. An empty one passes."""
    return bool(user_agent) and _BOT.search(user_agent) is not None


def is_local(ip: str) -> bool:
    """Whether an address needs no GeoIP lookup: it is private, or this machine's own."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        try:
            # Forms of old, such as 127.1 and 0x7f.1, which resolvers still take for addresses.
            address = ipaddress.IPv4Address(socket.inet_aton(ip))
        except (OSError, ValueError):
            return ip in ("", "localhost")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or str(address) in _BINDABLE
        or any(address in network for network in _PRIVATE)
    )


def has_country(headers: Mapping[str, str]) -> bool:
    """Whether a proxy has said in a header which country the visitor is in, so that nothing is looked up."""
    return any(headers.get(name) for name in _COUNTRY_HEADERS)


def session_id(secret: str, source: str, visitor: Visitor, distinct_id: str | None, at_ms: int) -> str:
    """Derives the session: by the distinct id, else by address, User-Agent and month.

    Args:
        secret: The server's secret.
        source: The website's id as it was sent; its case matters.
        visitor: Who sent the event.
        distinct_id: The id the website gives the visitor, if any.
        at_ms: When the event happened, epoch milliseconds.
    """
    if distinct_id:
        return _hashed(secret, source, distinct_id)
    year, moment = calendar(at_ms)
    return _hashed(secret, source, visitor.ip, visitor.user_agent, f"{year:04}-{moment:%m}")


def visit_id(secret: str, session: str, at_ms: int) -> str:
    """Derives the visit: the session's events of one clock hour. `at_ms` is epoch milliseconds."""
    return _hashed(secret, session, str(at_ms // 3_600_000))


def _hashed(secret: str, *parts: str) -> str:
    digest = hashlib.sha512("\n".join((*parts, secret)).encode("utf-8", "replace")).hexdigest()
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, digest))


def _header_address(headers: Mapping[str, str], peer: str) -> str:
    """The address that a proxy's header gives; the peer's if there is none, ``""`` if the header is empty."""
    for name in _ADDRESS_HEADERS:
        # Umami's web server adds this one with the peer's address, unless the request has it.
        value = headers.get(name, peer if name == "x-forwarded-for" else "")
        if not value:
            continue
        if name == "x-forwarded-for":
            value = value.partition(",")[0].strip()
        elif name == "forwarded" and (found := re.search(r"for=(\[?[0-9a-fA-F:.]+\]?)", value)):
            value = found[1]
        return re.sub(r"^([\d.]+):\d+$", r"\1", value)
    return ""


@lru_cache(maxsize=1024)
def _client(user_agent: str) -> tuple[str | None, str | None, str]:
    """The browser, the operating system and the kind of device that a User-Agent names."""
    browser, system, device = (
        next((name for name, pattern in table if pattern.search(user_agent)), None)
        for table in (_BROWSERS, _SYSTEMS, _DEVICES)
    )
    return browser, system, device or "desktop"
