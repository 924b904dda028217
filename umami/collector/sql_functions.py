"""The functions that SQLite lacks: lower case beyond ASCII, regular expressions, and local times."""

from __future__ import annotations

import json
import re
import sqlite3
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from umami.collector.javascript import calendar
from umami.collector.records import flatten

_MINUTE_SECONDS: Final = 60
_OFFSET: Final = re.compile(r"([+-])(\d\d)(?::?(\d\d))?", re.ASCII)
_PARTS: Final = {"minute": 5, "hour": 4, "day": 3, "month": 2, "year": 1}
_FIRST: Final = ("", "01", "01", "00", "00")


def register(connection: sqlite3.Connection) -> None:
    """Adds the functions to a connection."""
    connection.create_function("lower", 1, _lower, deterministic=True)
    connection.create_function("regexp", 2, _matches, deterministic=True)
    connection.create_function("period", 3, _period, deterministic=True)
    connection.create_function("week_hour", 2, _week_hour, deterministic=True)
    connection.create_function("has_values", 1, _has_values, deterministic=True)


def compiled_pattern(pattern: str) -> re.Pattern[str]:
    """Compiles the pattern of a filter. It ignores case, unless it begins with ``(?c)`` or ``(?-i)``.

    The first is for PostgreSQL, the second for the Cloud's ClickHouse.

    Raises:
        re.error: The pattern is invalid.
    """
    for heed_case in ("(?c)", "(?-i)"):
        if pattern.startswith(heed_case):
            return re.compile(pattern.removeprefix(heed_case))
    return re.compile(pattern, re.IGNORECASE)


@lru_cache
def find_zone(name: str) -> tzinfo:
    """Returns a time zone, by its name in any case or by an offset.

    PostgreSQL reads offsets as POSIX does: a plus is west of Greenwich.

    Raises:
        KeyError: There is no such time zone.
    """
    match = _OFFSET.fullmatch(name)
    if match is not None:
        west = timedelta(hours=int(match[2]), minutes=int(match[3] or 0))
        return timezone(-west if match[1] == "+" else west)
    if name.lower() == "utc":
        return timezone.utc
    return ZoneInfo({known.lower(): known for known in available_timezones()}[name.lower()])


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _matches(pattern: str, text: str | None) -> bool | None:
    return None if text is None else compiled_pattern(pattern).search(text) is not None


def _period(timestamp: float, unit: str, zone: str | None) -> str:
    """Returns the beginning of the year, month, day, hour or minute of a time.

    Without a time zone, it is in UTC, in the form of ISO 8601.
    """
    return _period_of_minute(int(timestamp // _MINUTE_SECONDS), unit, zone)


@lru_cache(maxsize=65_536)
def _period_of_minute(minute: int, unit: str, zone: str | None) -> str:
    year, moment = _local(minute, zone)
    fields = (f"{year:04}", *moment.strftime("%m %d %H %M").split())
    known = _PARTS[unit]
    parts = (*fields[:known], *_FIRST[known:])
    date, clock = "-".join(parts[:3]), ":".join(parts[3:])
    return f"{date} {clock}:00" if zone else f"{date}T{clock}:00Z"


def _week_hour(timestamp: float, zone: str) -> str:
    """Returns the day of the week, from 0 for Sunday, and the hour, as in ``3:07``."""
    return _week_hour_of_minute(int(timestamp // _MINUTE_SECONDS), zone)


@lru_cache(maxsize=65_536)
def _week_hour_of_minute(minute: int, zone: str) -> str:
    return _local(minute, zone)[1].strftime("%w:%H")


def _local(minute: int, zone: str | None) -> tuple[int, datetime]:
    """Returns the year, and the local time in a year that Python supports."""
    year, moment = calendar(minute * _MINUTE_SECONDS * 1000)
    if zone is None:
        return year, moment
    local = moment.astimezone(find_zone(zone))
    return year + local.year - moment.year, local


def _has_values(data: str | None) -> bool:
    """Whether custom data has at least one value."""
    if data is None:
        return False
    return "{}" not in data or any(True for _ in flatten(json.loads(data)))
