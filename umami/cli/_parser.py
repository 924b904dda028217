"""How help is laid out, and the types of arguments that several commands have."""

import argparse
import re
import shutil
import textwrap
from datetime import datetime, timedelta
from typing import Any, Final

_MOST_COLUMNS: Final = 100
_LONGEST: Final = timedelta(days=36_525)
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Formatter(argparse.HelpFormatter):
    """Wraps each paragraph to the terminal, and keeps the lines of those titled, say, `examples:`."""

    def __init__(self, prog: str, **options: Any) -> None:
        width = min(shutil.get_terminal_size().columns, _MOST_COLUMNS) - 2
        super().__init__(prog, **{"max_help_position": 28, "width": width, **options})

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(_filled(each, width, indent) for each in text.strip().split("\n\n"))


def _filled(paragraph: str, width: int, indent: str) -> str:
    head, *lines = paragraph.splitlines()
    if head.endswith(":"):
        return "\n".join([head, *(f"  {line}" for line in lines)])
    return textwrap.fill(" ".join(paragraph.split()), width, initial_indent=indent, subsequent_indent=indent)


def moment(text: str) -> datetime:
    """Reads a time: epoch seconds, or a date with or without a time in ISO's form, local unless it says."""
    try:
        if text.replace(".", "", 1).isdecimal():
            return datetime.fromtimestamp(float(text)).astimezone()
        return datetime.fromisoformat(text.removesuffix("Z") + "+00:00" * text.endswith("Z")).astimezone()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time, such as 2026-03-01T12:30") from None


def last_moment(text: str) -> datetime:
    """Reads the end of a range of time: as `moment`, but a date alone means the end of that day."""
    return moment(f"{text}T23:59:59.999999" if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else text)


def add_filter(parser: argparse.ArgumentParser) -> None:
    """Adds the option `--filter`."""
    parser.add_argument(
        "--filter",
        dest="filters",
        metavar="NAME=VALUE",
        nargs="+",
        action="extend",
        type=_filter,
        default=[],
        help="only what matches, such as path=/pricing or country=DE",
    )


def _filter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not name or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def span(text: str) -> timedelta:
    """Reads a span of time: a number with m, h, d or w."""
    match = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if match is None or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a span, such as 30m, 24h, 7d or 4w")
    span = timedelta(**{_UNITS[match[2]]: int(match[1])})
    if span > _LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is longer than 100 years")
    return span
