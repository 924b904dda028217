"""JavaScript's conversions, on which Umami's rules are based.

Umami counts lengths in UTF-16 code units, converts query parameters and timestamps with ``Number()``, and
decodes titles and paths with ``decodeURI``. Python's own functions differ from these in details.
"""

from __future__ import annotations

import json
import math
import re
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final

UNDEFINED: Final = object()
"""The value of a body that is not JSON, and of a missing key."""

MAX_DATE_MS: Final = 8_640_000_000_000_000
"""The latest JavaScript ``Date``, in epoch milliseconds. Its negative is the earliest."""

_CYCLE_MS: Final = 146_097 * 86_400_000
"""400 years in milliseconds. The calendar repeats itself after these."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPES = re.compile("(?:%[0-9A-Fa-f]{2})+")
_MALFORMED_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_URI_RESERVED: Final = frozenset(b";/?:@&=+$,#")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|Infinity)", re.ASCII)
_RADIX_NUMBER = re.compile(r"0(?:[xX][0-9A-Fa-f]+|[oO][0-7]+|[bB][01]+)")
_BLANKS: Final = " \t\n\r\v\f\xa0\ufeff\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
_DATE_TIME = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})(?:\.(\d{3})(?:Z|\+(\d{2}):(\d{2}))?)?", re.ASCII
)


def parse_json(body: bytes) -> Any:
    """Parses a request body as ``request.json()`` does.

    Invalid UTF-8 and lone surrogates become U+FFFD. A byte order mark is skipped. ``NaN`` and ``Infinity``
    are not JSON.

    Args:
        body: The request's body.

    Returns:
        The value, or `UNDEFINED` if the body is not JSON.
    """
    text = body.decode("utf-8-sig", "replace")
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return UNDEFINED
    # A surrogate can only come from an escape, so most values need not be searched for them.
    return _well_formed(value) if "\\ud" in text.lower() else value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _well_formed(value: Any) -> Any:
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_well_formed(item) for item in value]
    if isinstance(value, dict):
        return {_well_formed(key): _well_formed(item) for key, item in value.items()}
    return value


def type_name(value: Any) -> str:
    """Returns the type of a JSON value as in Umami's validation messages, such as ``null`` or ``array``."""
    if value is UNDEFINED:
        return "undefined"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, (int, float)):
        return "number"
    return "array" if isinstance(value, list) else "object"


def length(text: str) -> int:
    """Returns the length in UTF-16 code units, of which an emoji has two."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2


def cut(text: str, units: int) -> str:
    """Cuts a text to at most `units` UTF-16 code units. Half an emoji at the end becomes U+FFFD."""
    if len(text) * 2 <= units or length(text) <= units:
        return text
    half = text.encode("utf-16-le")[: units * 2].decode("utf-16-le", "surrogatepass")
    return _LONE_SURROGATE.sub("\ufffd", half)


def to_number(value: Any) -> float:
    """Converts a value as ``Number(value)`` does. Returns NaN if it is not a number."""
    if value is None:
        return 0.0
    if isinstance(value, (bool, int, float)):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    if isinstance(value, list):
        if len(value) > 1:
            return math.nan
        return to_number(_array_text(value))
    if not isinstance(value, str):
        return math.nan
    text = value.strip(_BLANKS)
    if not text:
        return 0.0
    if _RADIX_NUMBER.fullmatch(text):
        return to_number(int(text, 0))
    return float(text) if _NUMBER.fullmatch(text) else math.nan


def fixed(number: float, decimals: int) -> str:
    """Formats a number as ``toFixed`` does: without a minus before zero, and infinity as a word."""
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return f"{number + 0.0:.{decimals}f}"


def json_text(value: Any) -> str:
    """Formats a JSON value as ``JSON.stringify`` does."""
    if isinstance(value, list):
        return f"[{','.join(map(json_text, value))}]"
    if isinstance(value, dict):
        members = (f"{json.dumps(key, ensure_ascii=False)}:{json_text(item)}" for key, item in value.items())
        return f"{{{','.join(members)}}}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number = to_number(value)
        return _number_text(number) if math.isfinite(number) else "null"
    return json.dumps(value, ensure_ascii=False)


def _number_text(number: float) -> str:
    """Formats a finite number as ``String`` does: from 1e-6 to 1e21 without an exponent."""
    if not number:
        return "0"
    sign = "-" if number < 0 else ""
    _, figures, exponent = Decimal(repr(abs(number))).normalize().as_tuple()
    digits = "".join(map(str, figures))
    point = len(digits) + int(exponent)  # its place in the digits
    if 0 < point <= 21:
        digits = digits.ljust(point, "0")
        return f"{sign}{digits[:point]}{'.' * (point < len(digits))}{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    return f"{sign}{digits[0]}{'.' * (len(digits) > 1)}{digits[1:]}e{point - 1:+}"


def _array_text(items: list[Any]) -> str:
    if not items or items[0] is None:
        return ""
    item = items[0]
    if isinstance(item, list):
        return _array_text(item) if len(item) < 2 else "NaN"
    if isinstance(item, (bool, dict)):
        return "NaN"
    return str(item)


def decode_uri(text: str) -> str:
    """Decodes percent-escapes as ``decodeURI`` does, leaving the reserved characters escaped.

    Text with a malformed escape is returned unchanged.
    """
    return _decode_escapes(text, _URI_RESERVED)


def decode_uri_component(text: str) -> str:
    """Decodes every percent-escape. Text with a malformed escape is returned unchanged."""
    return _decode_escapes(text, frozenset())


def _decode_escapes(text: str, kept: frozenset[int]) -> str:
    if "%" not in text:
        return text
    if _MALFORMED_ESCAPE.search(text):
        return text

    def decode(match: re.Match[str]) -> str:
        raw = bytes.fromhex(match[0].replace("%", ""))
        raw.decode()
        return b"".join(b"%%%02X" % byte if byte in kept else bytes([byte]) for byte in raw).decode()

    try:
        return _ESCAPES.sub(decode, text)
    except UnicodeDecodeError:
        return text


def looks_like_date(text: str) -> bool:
    """Whether Umami stores a string in custom data as a date, such as ``2026-01-02T03:04:05.678Z``."""
    return len(text) >= 19 and _DATE_TIME.fullmatch(text) is not None


def iso(moment: datetime) -> str:
    """Formats a time as ``toISOString`` does: in UTC, with milliseconds and a Z."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def calendar(at_ms: int) -> tuple[int, datetime]:
    """Converts epoch milliseconds to a date of any year.

    Returns:
        The year, and a datetime with the right date and time of day, but in a year that Python supports.
    """
    cycles, rest = divmod(at_ms, _CYCLE_MS)
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=rest)
    return moment.year + 400 * cycles, moment


def parse_date(text: str) -> datetime | None:
    """Parses a string that looks like a date as ``new Date()`` does on a server whose time zone is UTC.

    A month may have 31 days: those it lacks belong to the next month. 24:00:00 is the next midnight.

    Args:
        text: A string for which `looks_like_date` is true.

    Returns:
        The time, in UTC; None if there is no such date. Year 0, which Python lacks, becomes year 1.
    """
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, milli, offset_hours, offset_minutes = (
        int(group or 0) for group in match.groups()
    )
    midnight = (hour, minute, second, milli) == (24, 0, 0, 0)
    in_range = (
        1 <= month <= 12
        and 1 <= day <= 31
        and (hour < 24 or midnight)
        and max(minute, second, offset_minutes) < 60
        and offset_hours < 24
    )
    if not in_range:
        return None
    moment = datetime(max(year, 1), month, 1, tzinfo=timezone.utc)
    try:
        return moment + timedelta(
            days=day - 1,
            hours=hour - offset_hours,
            minutes=minute - offset_minutes,
            seconds=second,
            milliseconds=milli,
        )
    except OverflowError:
        return moment
