"""Umami's validation: which requests it accepts, and its 400 for the others.

A check returns None if the value is valid. Otherwise it returns a tree of messages, in the form of zod,
Umami's validation library.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final
from zoneinfo import available_timezones

from umami.collector import urls
from umami.collector.generations import Generation
from umami.collector.javascript import MAX_DATE_MS, UNDEFINED, length, to_number, type_name
from umami.collector.replies import Json

Check = Callable[[Any], "Json | None"]

_MAX_SAFE_INTEGER: Final = 2**53 - 1
_UUID = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    r"|00000000-0000-0000-0000-000000000000|ffffffff-ffff-ffff-ffff-ffffffffffff",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"\d{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01])(T[0-2]\d:[0-5]\d(:[0-5]\d(\.\d+)?)?(Z|[+-]\d{2}:\d{2})?)?)?",
    re.ASCII,
)
_OFFSET = re.compile(r"[+-]([01]\d|2[0-3])(:?[0-5]\d)?", re.ASCII)
_SHORT_ZONES: Final = (
    "act aet agt art ast bet bst cat cnt cst ctt eat ect iet ist jst mit net nst plt pnt prt pst sst vst"
)
"""Time zones that JavaScript knows in addition to those of the IANA database."""

_LAST_YEAR: Final = 275_760
_UNITS: Final = ("year", "month", "hour", "day", "minute")


def expected(kind: str, value: Any) -> Json:
    """Returns the message that a value is not of a kind."""
    return {"errors": [f"Invalid input: expected {kind}, received {type_name(value)}"]}


def text(limit: int | None = None) -> Check:
    """A string, of at most `limit` UTF-16 units."""

    def check(value: Any) -> Json | None:
        if not isinstance(value, str):
            return expected("string", value)
        if limit is not None and length(value) > limit:
            return {"errors": [f"Too big: expected string to have <={limit} characters"]}
        return None

    return check


def uuid(value: Any) -> Json | None:
    """A UUID with dashes, of an existing version and variant."""
    if not isinstance(value, str):
        return expected("string", value)
    return None if _UUID.fullmatch(value) else {"errors": ["Invalid UUID"]}


def address(value: Any) -> Json | None:
    """A URL or a path."""
    if not isinstance(value, str):
        return expected("string", value)
    try:
        urls.parse(value, "https://localhost")
    except urls.InvalidURLError:
        return {"errors": ["Invalid URL."]}
    return None


def record(value: Any) -> Json | None:
    """An object with any members."""
    return None if isinstance(value, dict) else expected("record", value)


def one_of(*options: str) -> Check:
    """One of the given strings."""
    listed = "|".join(f'"{option}"' for option in options)
    return lambda value: (
        None
        if isinstance(value, str) and value in options
        else {"errors": [f"Invalid option: expected one of {listed}"]}
    )


def number(low: int, high: int) -> Check:
    """A JSON number from `low` to `high`."""

    def check(value: Any) -> Json | None:
        if type_name(value) != "number":
            return expected("number", value)
        if value < low:
            return {"errors": [f"Too small: expected number to be >={low}"]}
        return {"errors": [f"Too big: expected number to be <={high}"]} if value > high else None

    return check


def numeric(value: Any) -> Json | None:
    """Anything that ``Number()`` converts to a finite number."""
    converted = to_number(value)
    if math.isfinite(converted):
        return None
    received = "NaN" if math.isnan(converted) else "number"
    return {"errors": [f"Invalid input: expected number, received {received}"]}


def integer(value: Any) -> Json | None:
    """Anything that ``Number()`` converts to an integer which is exact in JavaScript."""
    wrong = numeric(value)
    if wrong is not None:
        return wrong
    converted = to_number(value)
    if not converted.is_integer():
        return {"errors": ["Invalid input: expected int, received number"]}
    if converted > _MAX_SAFE_INTEGER:
        return {"errors": [f"Too big: expected int to be <={_MAX_SAFE_INTEGER}"]}
    if converted < -_MAX_SAFE_INTEGER:
        return {"errors": [f"Too small: expected int to be >=-{_MAX_SAFE_INTEGER}"]}
    return None


def positive_integer(value: Any) -> Json | None:
    """An `integer` above zero."""
    wrong = integer(value)
    if wrong is None and to_number(value) <= 0:
        return {"errors": ["Too small: expected number to be >0"]}
    return wrong


def date(value: Any) -> Json | None:
    """A date in ISO form, or a number that JavaScript reads as a month or a year."""
    text = str(value)
    if text.isascii() and text.isdecimal():
        is_date = len(text) <= 6 and (int(text) <= 12 or 31 < int(text) <= _LAST_YEAR)
    else:
        is_date = _DATE.fullmatch(text) is not None
    return None if is_date else {"errors": ["Invalid input: expected date, received Date"]}


def moment(value: Any) -> Json | None:
    """A time in epoch milliseconds, or a `date`."""
    if type_name(value) == "number":
        return None if abs(value) <= MAX_DATE_MS else date("")
    return date(value)


def unit(value: Any) -> Json | None:
    """A unit of time of Umami's charts."""
    if not isinstance(value, str):
        return expected("string", value)
    return None if value in _UNITS else {"errors": ["Invalid unit"]}


def time_zone(value: Any) -> Json | None:
    """The name of a time zone, or its offset (``+02:00``)."""
    if not isinstance(value, str):
        return expected("string", value)
    known = _time_zones()
    is_zone = _OFFSET.fullmatch(value) or value.lower() in known or (not known and value)
    return None if is_zone else {"errors": ["Invalid timezone"]}


@cache
def _time_zones() -> frozenset[str]:
    """Returns the names of time zones, in lower case; none on a machine without the IANA database."""
    names = {name.lower() for name in available_timezones()} - {"factory", "localtime", "posixrules"}
    return frozenset(names | set(_SHORT_ZONES.split()) if names else ())


def optional(check: Check) -> Check:
    """What `check` accepts, or a missing value. Null is not a missing value."""
    return lambda value: None if value is UNDEFINED else check(value)


def nullable(check: Check) -> Check:
    """What `check` accepts, or null."""
    return lambda value: None if value is None else check(value)


def members(
    value: Any, required: Mapping[str, Check], optional: Mapping[str, Check] | None = None
) -> Json | None:
    """Checks the members of an object. Others are ignored.

    Args:
        value: The value that should be an object.
        required: The required members, with a check for each.
        optional: The optional members, with a check for each. Null is not the same as absent.

    Returns:
        The tree of messages, or None.
    """
    if not isinstance(value, dict):
        return expected("object", value)
    wrong = {
        name: found
        for name, check in required.items()
        if (found := check(value.get(name, UNDEFINED))) is not None
    }
    for name, check in (optional or {}).items():
        if name in value and (found := check(value[name])) is not None:
            wrong[name] = found
    return {"errors": [], "properties": wrong} if wrong else None


def with_error(wrong: Json | None, message: str, member: str | None = None) -> Json:
    """Adds a message about an object as a whole.

    Args:
        wrong: The messages about its members, if any.
        message: The message to add.
        member: The member that the message belongs to; None for the object itself.
    """
    found: Json = wrong or {"errors": []}
    messages = [text for each in found.get("properties", {}).values() for text in each["errors"]]
    # zod stops after a member with a wrong type, but not after one with a wrong value.
    if any(text.startswith(("Invalid input", "Invalid option")) for text in messages):
        return found
    target = found
    if member is not None:
        target = found.setdefault("properties", {}).setdefault(member, {"errors": []})
    target["errors"].append(message)
    return found


_MILLISECONDS = number(0, 60_000)
_PAYLOAD: Final[dict[str, Check]] = {
    "website": uuid,
    "link": uuid,
    "pixel": uuid,
    "data": record,
    "hostname": text(100),
    "language": text(35),
    "referrer": address,
    "screen": text(11),
    "title": text(),
    "url": address,
    "name": text(50),
    "tag": text(50),
    "ip": text(),
    "userAgent": text(),
    "timestamp": integer,
    "id": text(),
    "browser": text(),
    "os": text(),
    "device": text(),
    "lcp": _MILLISECONDS,
    "inp": _MILLISECONDS,
    "cls": number(0, 100),
    "fcp": _MILLISECONDS,
    "ttfb": _MILLISECONDS,
}
_FORMULA: Final = re.compile(r"[=+@\t\r-]")


def _both(*checks: Check) -> Check:
    """What all checks accept."""
    return lambda value: next((wrong for check in checks if (wrong := check(value)) is not None), None)


def _matching(pattern: re.Pattern[str]) -> Check:
    wrong = {"errors": [f"Invalid string: must match pattern /{pattern.pattern}/"]}
    return lambda value: None if pattern.fullmatch(value) else wrong


def _internet_address(value: Any) -> Json | None:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return {"errors": ["Invalid IP address"]}
    return None


def _no_formula(value: Any) -> Json | None:
    return {"errors": ["Invalid string"]} if _FORMULA.match(value) else None


def _commerce(value: Any) -> Json | None:
    """Refuses a ``commerce`` that is not an object. The rules for its members are not published."""
    found = value.get("commerce", UNDEFINED) if isinstance(value, dict) else UNDEFINED
    if found is UNDEFINED or isinstance(found, dict):
        return None
    return {"errors": [], "properties": {"commerce": expected("object", found)}}


@cache
def _payload_rules(generation: Generation) -> dict[str, Check]:
    """Returns the check of each field of the payload that a version of Umami knows."""
    checks = dict(_PAYLOAD)
    if generation.hostname_pattern is not None:
        checks["hostname"] = _both(checks["hostname"], _matching(generation.hostname_pattern))
    if generation.splits_url:
        checks["url"] = checks["referrer"] = text(generation.max_text)
        checks["title"] = text(generation.max_text)
    if generation.checks_ip:
        checks["ip"] = _both(checks["ip"], _internet_address)
    if generation.refuses_formulas:
        checks["name"] = checks["tag"] = _both(text(50), _no_formula)
    if generation.checks_commerce:
        checks["data"] = _both(record, _commerce)
    for name in generation.null_is_absent:
        checks[name] = nullable(checks[name])
    return {name: check for name, check in checks.items() if name not in generation.ignored_fields}


def _required(generation: Generation) -> set[str]:
    """Returns the required fields of a payload. Since 3.0, a link or a pixel may replace the website."""
    return {
        name
        for name, needed in (
            ("website", "pixel" in generation.ignored_fields),
            ("url", generation.needs_url),
        )
        if needed
    }


def _payload(value: Any, generation: Generation) -> Json | None:
    checks = _payload_rules(generation)
    required = _required(generation)
    wrong = members(value, {name: checks[name] for name in required}, checks)
    if not isinstance(value, dict) or "website" in required:
        return wrong
    if sum(bool(value.get(source)) for source in ("website", "link", "pixel")) == 1:
        return wrong
    return with_error(wrong, "Exactly one of website, link, or pixel must be provided", "website")


def check_send(body: Any, generation: Generation) -> Json | None:
    """Checks one event: the body of ``/api/send``, or an item of a batch."""
    kind = one_of(*generation.types)
    if generation.errors != "object":  # before zod 4, a missing type has a message of its own
        kind = _both(text(), kind)
    return members(body, {"type": kind, "payload": lambda value: _payload(value, generation)})


def check_batch(body: Any, generation: Generation) -> Json | None:
    """Checks that a batch is an array of objects. The objects themselves are checked later."""
    if not isinstance(body, list):
        return expected("array", body)
    if generation.max_batch is not None and len(body) > generation.max_batch:
        return {"errors": [f"Too big: expected array to have <={generation.max_batch} items"]}
    wrong = [record(item) for item in body]
    while wrong and wrong[-1] is None:
        wrong.pop()
    return {"errors": [], "items": wrong} if wrong else None
