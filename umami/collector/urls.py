"""Parses URLs as a browser does (WHATWG standard), as far as Umami's answers depend on it.

Umami stores the result of JavaScript's ``new URL(url, base)``, and refuses what that refuses. `urllib.parse`
differs from it, and accepts nearly everything.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

from umami._events.hosts import to_ascii

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}
_SCHEME = re.compile("([A-Za-z][A-Za-z0-9+.-]*):")
_FORBIDDEN_IN_DOMAIN = re.compile("[\x00-\x20#%/:<>?@[\\\\\\]^|\x7f]")
_FORBIDDEN_IN_OPAQUE_HOST = re.compile("[\x00\t\n\r #/:<>?@[\\\\\\]^|]")
_NUMERIC_LABEL = re.compile("[0-9]+|0[xX][0-9A-Fa-f]*")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_PATH_SAFE = re.sub('["#<>?`{}]', "", _PRINTABLE)
_QUERY_SAFE = re.sub('["#<>]', "", _PRINTABLE)
_SPECIAL_QUERY_SAFE = _QUERY_SAFE.replace("'", "")
_FRAGMENT_SAFE = re.sub('["<>`]', "", _PRINTABLE)
_MAX_PORT = 65535
_IPV4_PARTS = 4


@dataclass(frozen=True)
class URL:
    """The parts of a URL that Umami uses, percent-encoded as in JavaScript."""

    scheme: str
    hostname: str
    path: str
    query: str = ""
    fragment: str = ""


class InvalidURLError(ValueError):
    """JavaScript's ``new URL()`` throws ``TypeError: Invalid URL``."""


@lru_cache(maxsize=8192)
def parse(text: str, base: str | None = None) -> URL:
    """Parses a URL.

    Args:
        text: An absolute URL; with a base, also a relative one.
        base: An absolute http or https URL.

    Returns:
        Its parts.

    Raises:
        InvalidURLError: The text, or the base, is not a URL.

    Example:
        ```python
        parse("/pricing?plan=pro", "https://example.com").path  # "/pricing"
        ```
    """
    parent = None if base is None else parse(base)
    text = re.sub("[\t\n\r]", "", text.strip("".join(map(chr, range(0x21)))))
    scheme_match = _SCHEME.match(text)
    if scheme_match is None:
        if parent is None:
            raise InvalidURLError(text)
        return _relative(text, parent)
    scheme, rest = scheme_match[1].lower(), text[scheme_match.end() :]
    if scheme in _DEFAULT_PORTS:
        if parent is not None and scheme == parent.scheme and not rest.startswith("//"):
            return _relative(rest, parent)
        return _with_authority(scheme, rest.lstrip("/\\"))
    rest, fragment = _split(rest, "#")
    rest, query = _split(rest, "?")
    host, path = "", rest
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        host, path = _opaque_host(scheme, host), slash + path
    if path.startswith("/"):
        path = _normalised(path)
    return URL(scheme, host, path, quote(query, _QUERY_SAFE), quote(fragment, _FRAGMENT_SAFE))


def _relative(text: str, parent: URL) -> URL:
    if re.match(r"[/\\]{2}", text):
        return _with_authority(parent.scheme, text.lstrip("/\\"))
    path, query, fragment = _tail(text)
    if not path:
        return URL(parent.scheme, parent.hostname, parent.path, query or parent.query, fragment)
    if path[0] not in "/\\":
        path = parent.path.rpartition("/")[0] + "/" + path
    return URL(parent.scheme, parent.hostname, _normalised(path.replace("\\", "/")), query, fragment)


def _with_authority(scheme: str, rest: str) -> URL:
    match = re.match(r"[^/\\?#]*", rest)
    authority = match[0] if match else ""
    path, query, fragment = _tail(rest[len(authority) :])
    return URL(scheme, _host(authority), _normalised(path.replace("\\", "/") or "/"), query, fragment)


def _tail(text: str) -> tuple[str, str, str]:
    text, fragment = _split(text, "#")
    path, query = _split(text, "?")
    return path, quote(query, _SPECIAL_QUERY_SAFE), quote(fragment, _FRAGMENT_SAFE)


def _split(text: str, mark: str) -> tuple[str, str]:
    head, _, tail = text.partition(mark)
    return head, tail


def _normalised(path: str) -> str:
    segments: list[str] = []
    *directories, name = path.split("/")[1:]
    for segment in directories:
        _enter(segments, segment)
    dots = re.sub("%2[eE]", ".", name)
    _enter(segments, name)
    if dots in (".", ".."):
        segments.append("")
    return "/" + quote("/".join(segments), _PATH_SAFE)


def _enter(segments: list[str], segment: str) -> None:
    dots = re.sub("%2[eE]", ".", segment)
    if dots == "..":
        del segments[-1:]
    elif dots != ".":
        segments.append(segment)


def _host(authority: str) -> str:
    address = authority.rpartition("@")[2]
    bracketed = re.fullmatch(r"(\[[^\]]*\])(?::0*([0-9]{0,5}))?", address)
    plain = re.fullmatch(r"([^:\[\]]*)(?::0*([0-9]{0,5}))?", address)
    match = bracketed or plain
    if match is None or not match[1]:
        raise InvalidURLError(authority)
    try:
        if int(match[2] or 0) > _MAX_PORT:
            raise InvalidURLError(authority)
        if bracketed:
            return f"[{ipaddress.IPv6Address(match[1][1:-1]).compressed}]"
        return _domain(match[1])
    except ValueError as error:
        raise InvalidURLError(authority) from error


def _domain(name: str) -> str:
    name = to_ascii(unquote_to_bytes(name).decode())
    if not name or _FORBIDDEN_IN_DOMAIN.search(name):
        raise InvalidURLError(name)
    labels = name.removesuffix(".").split(".")
    return _ipv4(labels) if _NUMERIC_LABEL.fullmatch(labels[-1]) else name


def _ipv4(labels: list[str]) -> str:
    if len(labels) > _IPV4_PARTS or not all(map(_NUMERIC_LABEL.fullmatch, labels)):
        raise InvalidURLError(".".join(labels))
    *heads, last = map(_ipv4_number, labels)
    if any(head > 255 for head in heads) or last >= 256 ** (5 - len(labels)):
        raise InvalidURLError(".".join(labels))
    value = last + sum(head << (8 * (3 - place)) for place, head in enumerate(heads))
    return str(ipaddress.IPv4Address(value))


def _ipv4_number(label: str) -> int:
    if label[:2].lower() == "0x":
        return int(label[2:] or "0", 16)
    try:
        return int(label, 8 if len(label) > 1 and label[0] == "0" else 10)
    except ValueError as error:
        raise InvalidURLError(label) from error


def _opaque_host(scheme: str, authority: str) -> str:
    host = re.sub(r":\d*$", "", authority.rpartition("@")[2])
    if scheme != "file" and _FORBIDDEN_IN_OPAQUE_HOST.search(host):
        raise InvalidURLError(authority)
    return host
