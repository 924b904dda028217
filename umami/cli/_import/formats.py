"""The formats of logs, each as a function from a line to a request.

The usual parser, apachelogs, takes 100 microseconds a line: a quarter of an hour for ten million lines. These
take about five microseconds. The tests compare the results of both.
"""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from pydantic_core import from_json

from .hits import Hit, Parser
from .times import any_time, clf_time

# Each part is linear in the length of the line, whatever it holds.
_QUOTED: Final = r'"([^"\\]*(?:\\.[^"\\]*)*)"'
_COMMON: Final = rf"(\S+) \S+ [^\[]*\[([^\]]*)\] {_QUOTED} (\d{{3}}|-) \S+"
_HEADERS: Final = rf"(?: (?:-|{_QUOTED}) (?:-|{_QUOTED}))?(?: .*)?"  # older Traefiks quote no `-`
_COMMON_LINE: Final = re.compile(rf"{_COMMON}{_HEADERS}", re.DOTALL)
_VHOST_LINE: Final = re.compile(rf"(\S+) {_COMMON}{_HEADERS}", re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\(x[0-9A-Fa-f]{2}|.)", re.DOTALL)
_ALB_FIELD: Final = re.compile(rf"{_QUOTED}|(\S+)")
_PORT: Final = re.compile(r":\d+$")


def common(line: str) -> Hit:
    """Read Apache's and nginx's `common` and `combined`, and what Traefik and others write in their form."""
    match = _COMMON_LINE.fullmatch(line)
    if match is None:
        raise ValueError
    address, time, request, status, referrer, ua = match.groups()
    return _clf(address, time, request, status, referrer, ua)


def vhost(line: str) -> Hit:
    """Read Apache's `vhost_combined`: the site's host name, then `combined`."""
    match = _VHOST_LINE.fullmatch(line)
    if match is None:
        raise ValueError
    host, address, time, request, status, referrer, ua = match.groups()
    if not (address[0].isdigit() or ":" in address):
        raise ValueError(address)  # it is `combined`, and that is no address
    hit = _clf(address, time, request, status, referrer, ua)
    hit.host = _PORT.sub("", host)
    return hit


def _clf(address: str, time: str, request: str, status: str, referrer: str | None, ua: str | None) -> Hit:
    if "\\" in request:
        request = _unescaped(request)
    method, target = _request(request)
    return Hit(
        clf_time(time),
        "" if address == "-" else address,
        method,
        target,
        0 if status == "-" else int(status),
        _text(referrer),
        _text(ua),
    )


def _request(line: str) -> tuple[str, str]:
    """Return the method and the target of a request line; blanks if it is none, as of a scanner's bytes."""
    parts = line.split(" ")
    if len(parts) < 2 or not parts[0].isalpha():
        return "", ""
    target = (
        " ".join(parts[1:-1]) if len(parts) > 2 and parts[-1].startswith("HTTP/") else " ".join(parts[1:])
    )
    return parts[0].upper(), _path(target)


def _path(target: str) -> str:
    if not target.startswith("/"):
        parts = urlsplit(target)  # a proxy's request, with the whole URL
        if not parts.netloc:
            return ""
        target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    # With two slashes, Umami would take the first part for a host.
    return f"/{target.lstrip('/')}" if target.startswith("//") else target


def _text(value: str | None) -> str:
    if value is None or value == "-":
        return ""
    return _unescaped(value) if "\\" in value else value


def _unescaped(text: str) -> str:
    r"""Undo the escapes of Apache and nginx: `\x22`, `\"`. Those of several bytes make one character."""
    return _ESCAPE.sub(_character, text.encode("utf-8", "replace")).decode("utf-8", "replace")


def _character(match: "re.Match[bytes]") -> bytes:
    found = match[1]
    return bytes([int(found[1:], 16)]) if len(found) == 3 else found


# JSON: each server's own names.

_NAMES: Final[Mapping[str, Sequence[str]]] = {
    "time": (
        *("time_iso8601", "msec", "time_local", "StartUTC", "StartLocal", "timestamp", "@timestamp"),
        *("time", "ts", "date"),
    ),
    "address": ("remote_addr", "client_ip", "ClientHost", "ClientAddr", "remote_ip", "ip", "http_x_real_ip"),
    "method": ("request_method", "method", "RequestMethod"),
    "target": ("request_uri", "uri", "RequestPath", "url", "path"),
    "query": ("args", "query_string", "request_query"),
    "status": ("status", "DownstreamStatus", "OriginStatus"),
    "referrer": ("http_referer", "http_referrer", "referrer", "referer", "request_Referer"),
    "ua": ("http_user_agent", "user_agent", "ua", "request_User-Agent"),
    "host": ("http_host", "host", "vhost", "server_name", "RequestHost"),
    "purpose": ("http_sec_purpose", "http_purpose", "request_Sec-Purpose", "request_Purpose"),
}


def json(line: str) -> Hit:
    """Read a line of JSON of nginx, Caddy, Traefik or CloudFront, by the usual names of their fields."""
    record = from_json(line)
    if not isinstance(record, dict):
        raise TypeError
    if "cs-uri-stem" in record:
        return _of_cloudfront(record)
    request = record.get("request")
    if isinstance(request, dict):  # Caddy's
        headers = request.get("headers") or {}
        record = {
            **request,
            **record,
            "http_user_agent": _first(headers, "User-Agent"),
            "http_referer": _first(headers, "Referer"),
            "http_sec_purpose": _first(headers, "Sec-Purpose"),
            "http_purpose": _first(headers, "Purpose"),
        }
    values = {field: _named(record, names) for field, names in _present(tuple(record)).items()}
    if isinstance(request, str) and (values["method"] is None or values["target"] is None):
        method, target = _request(request)
        values["method"], values["target"] = values["method"] or method, values["target"] or target
    if values["query"] is not None and "?" not in str(values["target"]):  # of nginx's $uri and $args
        values["target"] = f"{values['target']}?{values['query']}"
    if values["target"] is None and not record.keys().isdisjoint(_NAMES["target"]):
        values["target"] = ""  # as of a scanner's bytes
    return _hit(values)


@lru_cache(64)
def _present(names: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the names that a record has of each field. A log's records have the same names."""
    return {field: [name for name in usual if name in names] for field, usual in _NAMES.items()}


def _first(headers: Any, name: str) -> Any:
    values = headers.get(name)
    return values[0] if isinstance(values, list) and values else values


def _named(record: Mapping[str, Any], names: Sequence[str]) -> Any:
    for name in names:
        value = record.get(name)
        if value is not None and value != "":
            return value
    return None


def _hit(values: Mapping[str, Any]) -> Hit:
    """Return the request of a record's values. Without method or status, a page was shown."""
    if values["target"] is None:
        raise ValueError("target")
    target = _path(str(values["target"]))
    return Hit(
        any_time(values["time"]),
        _address(str(values.get("address") or "")),
        str(values.get("method") or "GET").upper() if target else "",
        target,
        int(values.get("status") or 200),
        _dashed(values.get("referrer")),
        _dashed(values.get("ua")),
        _PORT.sub("", str(values.get("host") or "")),
        str(values.get("purpose") or ""),
    )


def _address(text: str) -> str:
    """Return an address without its port and brackets."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _dashed(value: Any) -> str:
    return "" if value is None or value == "-" else str(value)


# Amazon's.

_CLOUDFRONT: Final = [
    "date",
    "time",
    "x-edge-location",
    "sc-bytes",
    "c-ip",
    "cs-method",
    "cs(Host)",
    "cs-uri-stem",
    "sc-status",
    "cs(Referer)",
    "cs(User-Agent)",
    "cs-uri-query",
]


def cloudfront() -> Parser:
    """Return a parser for CloudFront's standard logs, which name their columns in a line `#Fields:`."""
    names = _CLOUDFRONT

    def parse(line: str) -> Hit | None:
        nonlocal names
        if line.startswith("#Fields:"):
            names = line[8:].split()
            if not {"cs(Host)", "x-edge-location"} & {*names}:
                raise ValueError(names)  # of another server, such as IIS
            return None
        if line.startswith("#Version:"):
            return None
        return _of_cloudfront(dict(zip(names, line.split("\t"), strict=False)))

    return parse


def _of_cloudfront(record: Mapping[str, str]) -> Hit:
    query = record.get("cs-uri-query", "-")
    return Hit(
        any_time(f"{record['date']}T{record['time']}"),
        record["c-ip"],
        record["cs-method"].upper(),
        _path(record["cs-uri-stem"] + ("" if query in ("-", "") else f"?{query}")),
        int(record["sc-status"]),
        _decoded(record.get("cs(Referer)")),
        _decoded(record.get("cs(User-Agent)")),
        _dashed(record.get("x-host-header")) or _dashed(record.get("cs(Host)")),
    )


def _decoded(value: str | None) -> str:
    text = unquote(_dashed(value))
    return unquote(text) if "%20" in text else text  # which older logs encode twice


def alb(line: str) -> Hit:
    """Read a line of an Application Load Balancer. It has no referrers."""
    parts = [quoted or plain for quoted, plain in _ALB_FIELD.findall(line)]
    method, _, rest = parts[12].partition(" ")
    url = rest.rpartition(" ")[0]
    return Hit(
        any_time(parts[1]),
        _address(parts[3]),
        "" if method == "-" else method.upper(),
        _path(url),
        int(parts[8]) if parts[8] != "-" else 0,
        "",
        _dashed(parts[13]),
        urlsplit(url).hostname or "",
    )


# Tables, and patterns of the user's.

FIELDS: Final = ("time", "address", "method", "target", "status", "referrer", "ua", "host", "purpose")
EXTRA: Final = ("name", "title", "language", "screen", "distinct_id", "tag")


def table(columns: Mapping[str, str]) -> Parser:
    """Return a parser for CSV, whose first line names the columns, or for lines of JSON.

    Args:
        columns: The names of the columns by the names of fields, of which `time` and `target` are needed. A
            field that is not in it has a column of its own name.
    """
    header: list[str] = []

    def parse(line: str) -> Hit | None:
        nonlocal header
        if line.startswith("{"):
            record = from_json(line)
        else:
            row = next(csv.reader([line], strict=True))
            if not header:
                header = row
                missing = [name for name in ("time", "target") if columns.get(name, name) not in header]
                if missing:
                    header = []
                    raise ValueError(missing)
                return None
            record = dict(zip(header, row, strict=True))
        values = {name: record.get(columns.get(name, name)) for name in FIELDS}
        hit = _hit(values)
        for name in EXTRA:
            value = record.get(columns.get(name, name))
            if value is not None and value != "":
                hit.more[name] = value
        return hit

    return parse


def pattern(text: str) -> Parser:
    """Return a parser for a regular expression with groups that are named as the fields.

    Raises:
        ValueError: It is no regular expression, or lacks `time` or `target` and `request`.
    """
    try:
        found = re.compile(text)
    except re.error as error:
        raise ValueError(f"it is no regular expression: {error}") from None
    names = set(found.groupindex)
    unknown = names - {*FIELDS, *EXTRA, "request"}
    if unknown:
        raise ValueError(f"it has unknown groups: {', '.join(sorted(unknown))}")
    if "time" not in names or not names & {"target", "request"}:
        raise ValueError("it needs the groups `time`, and `target` or `request`")

    def parse(line: str) -> Hit | None:
        match = found.match(line)
        if match is None:
            raise ValueError
        values: dict[str, Any] = match.groupdict()
        if "request" in values:
            values["method"], values["target"] = _request(values["request"] or "")
        hit = _hit(values)
        hit.more.update({name: values[name] for name in EXTRA if values.get(name)})
        return hit

    return parse


FORMATS: Final[Mapping[str, Callable[[], Parser]]] = {
    "vhost_combined": lambda: vhost,
    "combined": lambda: common,
    "json": lambda: json,
    "cloudfront": cloudfront,
    "alb": lambda: alb,
}
"""The formats that are told by their lines."""


def detect(lines: Sequence[str]) -> str | None:
    """Return the name of the format that reads most of some lines, at least half; None if there is none."""
    best, most = None, len(lines) / 2
    for name, make in FORMATS.items():
        parse, count = make(), 0
        for line in lines:
            try:
                count += (hit := parse(line)) is None or bool(hit.method)
            except Exception:  # noqa: BLE001, S112 - it is of another format, whatever the parser says
                continue
        if count and count > most:
            best, most = name, count
    return best
