"""Ranges of time: from a moment to another, or a period such as `7d` or `this_month`."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any, Final

from umami._events.fields import text
from umami._events.values import given
from umami.errors import ValidationError

_ROLLING: Final = re.compile(r"([1-9]\d{0,4})\s*(m|h|d|w)")
_UNITS: Final = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_PERIODS: Final = (
    "a number of m, h, d or w, such as '7d', or today, yesterday, this_week, last_week, this_month, "
    "last_month, this_year or last_year"
)


def _month(day: date) -> date:
    return day.replace(day=1)


# The first day of each named period and the day after its last, by today's date.
_NAMED: Final[Mapping[str, Callable[[date], tuple[date, date]]]] = {
    "today": lambda day: (day, day + timedelta(1)),
    "yesterday": lambda day: (day - timedelta(1), day),
    "this_week": lambda day: (day - timedelta(day.weekday()), day + timedelta(7 - day.weekday())),
    "last_week": lambda day: (day - timedelta(day.weekday() + 7), day - timedelta(day.weekday())),
    "this_month": lambda day: (_month(day), _month(_month(day) + timedelta(31))),
    "last_month": lambda day: (_month(_month(day) - timedelta(1)), _month(day)),
    "this_year": lambda day: (date(day.year, 1, 1), date(day.year + 1, 1, 1)),
    "last_year": lambda day: (date(day.year - 1, 1, 1), date(day.year, 1, 1)),
}


@dataclass(frozen=True)
class Range:
    """A range of time.

    Attributes:
        start: Its first moment, in epoch milliseconds.
        end: Its last moment, likewise.
        timezone: The name of the time zone that was given; None for the local one.
    """

    start: int
    end: int
    timezone: str | None

    def ending(self, end: int) -> "Range":
        """Return the range that ends at another moment."""
        return replace(self, end=end)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of a query."""
        return {"startAt": self.start, "endAt": self.end}

    @property
    def zone(self) -> str:
        """The name of the time zone, for a route that requires one.

        Raises:
            ValidationError: None was given, and the system does not tell the local one.
        """
        return self.timezone or local_timezone()


def range_of(start_at: Any, end_at: Any, period: Any, zone: Any) -> Range:
    """Return the range that a query's arguments name.

    Args:
        start_at: The first moment, a datetime or a date.
        end_at: The last moment; None for now.
        period: A period in place of both.
        zone: The name of the time zone of naive datetimes, dates and periods; None for the local one.

    Raises:
        ValidationError: They name none.
    """
    tz = None if zone is None else _zone(zone)
    if period is not None:
        if start_at is not None or end_at is not None:
            raise ValidationError("Give start_at and end_at, or period, not both.")
        start, end = _period(period, tz)
    elif start_at is None:
        raise ValidationError("Give start_at, and end_at unless it is now; or period, such as period='7d'.")
    else:
        start = milliseconds("start_at", start_at, tz)
        end = milliseconds("end_at", datetime.now(timezone.utc) if end_at is None else end_at, tz)
    if start > end:
        raise ValidationError(f"start_at must not be after end_at: {start_at} is after {end_at or 'now'}.")
    return Range(start, end, zone)


def milliseconds(field: str, moment: Any, tz: tzinfo | None = None) -> int:
    """Return a datetime, or a date's midnight, as epoch milliseconds; a naive one is in `tz`, or local."""
    if not isinstance(moment, datetime):
        if type(moment) is not date:
            raise ValidationError(f"{field} must be a datetime or a date, got {given(moment)}.")
        moment = datetime.combine(moment, datetime.min.time())
    if moment.tzinfo is None and tz is not None:
        moment = moment.replace(tzinfo=tz)
    try:
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError, OSError) as error:
        raise ValidationError(f"{field} is out of range: {error}.") from None


def _period(period: Any, tz: tzinfo | None) -> tuple[int, int]:
    wanted = text("period", period).strip().lower()
    rolling = _ROLLING.fullmatch(wanted)
    if rolling is not None:
        now = datetime.now(timezone.utc)
        try:
            start = now - int(rolling[1]) * _UNITS[rolling[2]]
        except OverflowError as error:
            raise ValidationError(f"period is out of range: {error}.") from None
        return milliseconds("period", start), milliseconds("period", now)
    if wanted not in _NAMED:
        raise ValidationError(f"period must be {_PERIODS}, got {given(period)}.")
    first, after = _NAMED[wanted](datetime.now(tz).date())
    return milliseconds("period", first, tz), milliseconds("period", after, tz) - 1


def _zone(zone: Any) -> tzinfo:
    from zoneinfo import ZoneInfo

    name = text("timezone", zone)
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):  # ZoneInfoNotFoundError is a KeyError
        if name.upper() == "UTC":
            return timezone.utc
        raise ValidationError(
            f"timezone must be the name of a time zone, such as 'Europe/Berlin', got {given(name)}."
        ) from None


def local_timezone() -> str:
    """Return the name of the local time zone.

    Raises:
        ValidationError: The system does not tell it.
    """
    from zoneinfo import ZoneInfo

    for found in (os.environ.get("TZ", "").lstrip(":"), *_names_of_files()):
        try:
            ZoneInfo(found)
        except (ValueError, OSError, LookupError):
            continue
        return found
    now = datetime.now().astimezone()
    if not now.utcoffset() and not now.dst():
        return "UTC"
    raise ValidationError(
        "timezone must be given here, such as timezone='Europe/Berlin': the system does not tell the name of "
        "the local time zone."
    )


def _names_of_files() -> list[str]:
    names = []
    try:
        target = os.path.realpath("/etc/localtime")
        names.append(target.partition("zoneinfo/")[2])
        names.append(Path("/etc/timezone").read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        pass
    return names
