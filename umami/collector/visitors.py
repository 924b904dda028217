"""The visitor of an event: address, browser and device, session and visit."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import socket
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from umami.collector.javascript import calendar, to_number

LAPTOP_WIDTH: Final = 1920
"""A desktop browser on a screen of at most this width, in pixels, counts as a laptop."""

_DESKTOP_WIDTH: Final = 1920
_SMALL_LAPTOP_WIDTH: Final = 1024
_MOBILE_WIDTH: Final = 479

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
"""Addresses that Umami takes for its own, because a machine can bind to them."""

_LONGEST_READ: Final = 2048
"""How many characters of a User-Agent are read. Umami reads all of them, which may take minutes."""
_LONGEST_DEVICE: Final = 500
"""How many characters are searched for the device, as in Umami."""


def _rule(name: str, *parts: str) -> tuple[str, tuple[re.Pattern[str], ...]]:
    """Returns a rule: `name` applies to a text that contains all parts, one after another.

    A single pattern with ``.*`` between the parts would take quadratic or cubic time.
    """
    return name, tuple(re.compile(part, re.ASCII) for part in parts)


_BROWSERS: Final = (
    _rule("aol", r"AOLShield/[\d._]"),
    _rule("edge", r"Edge/[\d._]"),
    _rule("edge-ios", r"EdgiOS/[\d._]"),
    _rule("yandexbrowser", r"YaBrowser/[\d._]"),
    _rule("kakaotalk", r"KAKAOTALK\s[\d.]"),
    _rule("samsung", r"SamsungBrowser/[\d.]"),
    _rule("silk", r"\bSilk/[\d._-]"),
    _rule("miui", r"MiuiBrowser/[\d.]+\Z"),
    _rule("edge-chromium", r"EdgA?/[\d.]"),
    _rule("chromium-webview", r"wv\)", r"Chrom(?:e|ium)/[\d.]+(?::?\s|\Z)"),
    _rule("opera", r"Chrom", r"OPR/[\d.]+(?::?\s|\Z)"),
    _rule("chrome", r"Chrom(?:e|ium)/[\d.]+(?::?\s|\Z)"),
    _rule("crios", r"CriOS/[\d.]+(?::?\s|\Z)"),
    _rule("firefox", r"Firefox/[\d.]+(?:\s|\Z)"),
    _rule("fxios", r"FxiOS/[\d.]"),
    _rule("opera-mini", r"Opera Mini", r"Version/[\d.]"),
    _rule("opera", r"Opera/[\d.]+(?:\s|\Z)"),
    _rule("opera", r"OPR/[\d.]+(?::?\s|\Z)"),
    _rule("ie", r"Trident/7\.0", r"rv:[\d.]", r"\)", r"Gecko\Z"),
    _rule("ie", r"MSIE\s[\d.]+;", r"Trident/[4-7].0"),
    _rule("ie", r"MSIE\s7\.0"),
    _rule("bb10", r"BB10;\sTouch", r"Version/[\d.]"),
    _rule("android", r"Android\s[\d.]"),
    _rule("ios", r"Version/[\d._]", r"Mobile", r"Safari"),
    _rule("safari", r"Version/[\d._]", r"Safari"),
    _rule("facebook", r"FB[AS]V/[\d.]"),
    _rule("instagram", r"Instagram\s[\d.]"),
    _rule("ios-webview", r"AppleWebKit/[\d.]", r"Mobile|Gecko\)\Z"),
)
_SYSTEMS: Final = (
    _rule("iOS", r"iP(?:hone|od|ad)"),
    _rule("Android OS", r"Android"),
    _rule("BlackBerry OS", r"BlackBerry|BB10"),
    _rule("Windows Mobile", r"IEMobile"),
    _rule("Amazon OS", r"Kindle"),
    _rule("Windows 2000", r"Windows NT 5.0|Windows 2000"),
    _rule("Windows XP", r"Windows NT 5.1|Windows XP"),
    _rule("Windows Server 2003", r"Windows NT 5.2"),
    _rule("Windows Vista", r"Windows NT 6.0"),
    _rule("Windows 7", r"Windows NT 6.1"),
    _rule("Windows 8", r"Windows NT 6.2"),
    _rule("Windows 8.1", r"Windows NT 6.3"),
    _rule("Windows 10", r"Windows NT 10.0"),
    _rule("Open BSD", r"OpenBSD"),
    _rule("Sun OS", r"SunOS"),
    _rule("Chrome OS", r"CrOS"),
    _rule("Linux", r"Linux|X11"),
    _rule("Mac OS", r"Mac_PowerPC|Macintosh"),
)
_MOBILE_SYSTEMS: Final = frozenset({"iOS", "Android OS", "BlackBerry OS", "Windows Mobile", "Amazon OS"})
_ANDROID: Final = (r"droid ", r"; [^;]", r" bui|; wv\)|\) applew|; hmsc")
_DEVICES: Final = (  # of a User-Agent in lower case
    _rule("tablet", r"\b(?:sm-[ptx]\w\w|gt-[pn]\d\d)"),
    _rule("mobile", r"\b(?:s[cgp]h|gt|sm)-(?![lr])\w"),
    _rule("mobile", r"[/(]ip(?:hone|od)[\w, ]*[/);]"),
    _rule("tablet", r"\b(?:ios|apple\w+)/", r"[(/]ipad"),
    _rule("tablet", r"\bipad[\d,]*[;\] ]", r"mac |i(?:pad)?os"),
    _rule("desktop", r"macintosh;"),
    _rule("tablet", r"\bpixel (?:c|tablet)\b"),
    _rule("mobile", r"droid", r"; pixel"),
    _rule("smarttv", r"smart-tv", r"samsung"),
    _rule("smarttv", r"crkey"),
    _rule("smarttv", r"droid", r"\baft\w+(?: bui|\))"),
    _rule("smarttv", r"bravia\w* ", r" bui|\)"),
    _rule("smarttv", r"\broku[\dx]*[)/]"),
    _rule("console", r"playstation \w|\bxbox(?: one)?(?!; xbox)[); ]|nintendo \w"),
    _rule("wearable", r"\bsm-[lr]\d\d[0156]|watch ?os[,/][\d.]"),
    _rule("xr", r"quest(?: \d| pro)?s?", r"vr"),
    _rule("embedded", r"tesla(?: qtcarbrowser|/[-\w.])"),
    _rule("smarttv", r"\b(?:(?:4k|android|smart|opera)[- ]?tv|tv; rv:)"),
    _rule("mobile", *_ANDROID, r"mobile safari"),
    _rule("xr", *_ANDROID, r"vr safari"),
    _rule("tablet", *_ANDROID, r"\d safari"),
    _rule("tablet", r"\btab(?:let)?[;/]"),
    _rule("mobile", r"phone|mobile[;/]"),
    _rule("mobile", r"mobile ", r"safari"),
)


@dataclass(frozen=True)
class Visitor:
    """The visitor of an event, as Umami determines it.

    Attributes:
        ip: The address, from the payload, a proxy's header or the connection.
        user_agent: The User-Agent, from the payload or the header.
        browser: The browser's name, such as ``chrome``.
        os: The operating system, such as ``Windows 10``.
        device: ``desktop``, ``laptop``, ``mobile``, …; None if only the screen tells, and there is none.
    """

    ip: str
    user_agent: str
    browser: str | None
    os: str | None
    device: str | None


def identify(
    payload: Mapping[str, Any], headers: Mapping[str, str], peer: str, *, device_by_screen: bool = False
) -> Visitor:
    """Determines the visitor of an event.

    Args:
        payload: The event's payload. It takes precedence.
        headers: The request's headers, by lower-case name.
        peer: The client's address.
        device_by_screen: Whether the screen and the operating system tell the kind of device, as before
            Umami 3.0.
    """
    user_agent = payload.get("userAgent") or headers.get("user-agent", "")
    browser, system, type_ = _client(user_agent[:_LONGEST_READ])
    screen = payload.get("screen") or ""
    device = _device_of_screen(screen, system) if device_by_screen else _device(type_, screen)
    return Visitor(
        ip=payload.get("ip") or _header_address(headers, peer),
        user_agent=user_agent,
        browser=payload.get("browser", browser),
        os=payload.get("os", system),
        device=payload.get("device", device),
    )


def _device(type_: str, screen: str) -> str:
    """Returns the kind of device, by the kind that the User-Agent tells."""
    width = screen.partition("x")[0]
    is_laptop = type_ == "desktop" and width.isdecimal() and int(width) <= LAPTOP_WIDTH
    return "laptop" if is_laptop else type_


def _device_of_screen(screen: str, system: str | None) -> str | None:
    """Returns the kind of device as before Umami 3.0. No comparison holds for a width that is no number."""
    if not screen:
        return None
    width = to_number(screen.partition("x")[0])
    if system in _MOBILE_SYSTEMS:
        return "tablet" if system == "Amazon OS" or width > _MOBILE_WIDTH else "mobile"
    if system is not None:
        return "laptop" if system == "Chrome OS" or width < _DESKTOP_WIDTH else "desktop"
    if width >= _DESKTOP_WIDTH:
        return "desktop"
    if width >= _SMALL_LAPTOP_WIDTH:
        return "laptop"
    return "tablet" if width >= _MOBILE_WIDTH else "mobile"


def is_local(ip: str) -> bool:
    """Whether an address needs no GeoIP lookup, because it is private or this machine's own."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        try:
            # Old forms that resolvers still accept, such as 127.1 and 0x7f.1.
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
    """Whether a proxy's header names the visitor's country, so that no lookup is needed."""
    return any(headers.get(name) for name in _COUNTRY_HEADERS)


def session_id(secret: str, source: str, visitor: Visitor, distinct_id: str | None, at_ms: int | None) -> str:
    """Returns the session's id. It depends on the distinct id, or on address, User-Agent and month.

    Args:
        secret: The server's secret.
        source: The website's id as it was sent. Its case matters.
        visitor: The visitor.
        distinct_id: The visitor's distinct id, if any.
        at_ms: When the event happened, in epoch milliseconds; None if sessions do not end with the month.
    """
    if distinct_id:
        return _hashed(secret, source, distinct_id)
    if at_ms is None:
        return _hashed(secret, source, visitor.ip, visitor.user_agent, "")
    year, moment = calendar(at_ms)
    return _hashed(secret, source, visitor.ip, visitor.user_agent, f"{year:04}-{moment:%m}")


def visit_id(secret: str, session: str, at_ms: int) -> str:
    """Returns the visit's id: the events of a session in one clock hour. `at_ms` is epoch milliseconds."""
    return _hashed(secret, session, str(at_ms // 3_600_000))


def _hashed(secret: str, *parts: str) -> str:
    digest = hashlib.sha512("\n".join((*parts, secret)).encode("utf-8", "replace")).hexdigest()
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, digest))


def _header_address(headers: Mapping[str, str], peer: str) -> str:
    """Returns the address in a proxy's header; the peer's if there is none, ``""`` if the header is empty."""
    for name in _ADDRESS_HEADERS:
        # Umami's web server adds this header with the peer's address, unless the request has it.
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
    """Returns the browser, the operating system and the kind of device of a User-Agent."""
    device = _first(_DEVICES, user_agent[:_LONGEST_DEVICE].lower())
    return _first(_BROWSERS, user_agent), _first(_SYSTEMS, user_agent), device or "desktop"


def _first(rules: Iterable[tuple[str, Iterable[re.Pattern[str]]]], text: str) -> str | None:
    return next((name for name, parts in rules if _has(text, parts)), None)


def _has(text: str, parts: Iterable[re.Pattern[str]]) -> bool:
    at = 0
    for part in parts:
        found = part.search(text, at)
        if found is None:
            return False
        at = found.end()
    return True
