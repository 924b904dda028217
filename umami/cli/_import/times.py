"""Reads the times in logs.

`strptime` takes 24 microseconds for a time, ten times as long as all else about a line. So a time is cut by
position, and its minute is computed once: the next lines of a log are of the same minute.
"""

from datetime import datetime, timezone
from functools import lru_cache
from typing import Final

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}


def clf_time(text: str) -> float:
    """Return the epoch seconds of a time such as `10/Oct/2000:13:55:36 -0700`.

    Raises:
        ValueError: It is no such time.
    """
    if len(text) != 26 or text[17] != ":" or text[20] != " ":
        raise ValueError(text)
    return _clf_minute(text[:17], text[21:]) + _second(text[18:20])


def iso_time(text: str) -> float:
    """Return the epoch seconds of a time such as `2024-05-01T10:00:00.25+02:00`, in UTC if it names no zone.

    Caddy may write `2024/05/01 10:00:00.25`.

    Raises:
        ValueError: It is no such time.
    """
    if len(text) < 19 or text[16] != ":" or text[10] not in "T ":
        raise ValueError(text)
    rest = text[19:]
    fraction = 0.0
    if rest[:1] in (".", ","):
        digits = len(rest) - len(rest[1:].lstrip("0123456789"))
        fraction = float(f"0.{rest[1:digits] or 0}")
        rest = rest[digits:]
    return _iso_minute(text[:10], text[11:16], rest.strip()) + _second(text[17:19]) + fraction


def any_time(value: object) -> float:
    """Return the epoch seconds of a time in either form, or of a number of seconds or milliseconds.

    Raises:
        ValueError: It is no time.
    """
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            text = str(value).strip()
            return clf_time(text) if len(text) > 2 and text[2] == "/" else iso_time(text)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e15:
        raise ValueError(value)
    return value / 1000 if value >= 1e11 else float(value)


def _second(text: str) -> int:
    second = int(text)
    if not (text.isdecimal() and second <= 60):
        raise ValueError(text)
    return second


@lru_cache(256)
def _clf_minute(minute: str, zone: str) -> float:
    if minute[2] != "/" or minute[6] != "/" or minute[11] != ":" or minute[14] != ":":
        raise ValueError(minute)
    month = _MONTHS.get(minute[3:6].title())
    if month is None:
        raise ValueError(minute)
    day, year, hour, of_hour = (
        int(part) for part in (minute[:2], minute[7:11], minute[12:14], minute[15:17])
    )
    return datetime(year, month, day, hour, of_hour, tzinfo=timezone.utc).timestamp() - _offset(zone)


@lru_cache(256)
def _iso_minute(day: str, minute: str, zone: str) -> float:
    moment = datetime.fromisoformat(f"{day.replace('/', '-')}T{minute}:00+00:00")
    return moment.timestamp() - _offset(zone)


def _offset(zone: str) -> int:
    if zone in ("", "Z", "z", "UTC"):
        return 0
    digits = zone[1:].replace(":", "")
    if zone[0] not in "+-" or len(digits) != 4 or not digits.isdecimal():
        raise ValueError(zone)
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return -seconds if zone[0] == "-" else seconds
