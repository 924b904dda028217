"""What the commands print: text without control characters, tables, JSON, CSV.

On a terminal, tables are drawn by `rich` where it is installed (`pip install 'umami-analytics[cli]'`).
Otherwise they are plain columns. Nothing is coloured in a pipe, or if `NO_COLOR` is set.
"""

import argparse
import os
import shutil
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TextIO


def printable(text: str) -> str:
    """Returns a text with control characters escaped, so that it cannot change the terminal."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def counted(count: int, what: str) -> str:
    """Returns a number with its noun: `1 event`, `2,000 events`."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def say(text: str = "") -> None:
    """Prints a line, with what the terminal cannot show escaped."""
    print(_encodable(printable(text), sys.stdout))


def complain(message: str) -> None:
    """Prints an error on stderr."""
    print(f"umami: {_encodable(printable(message), sys.stderr)}", file=sys.stderr)


def is_terminal(stream: TextIO | None = None) -> bool:
    """Tells whether the output goes to a terminal, and not to a pipe or a file."""
    return (sys.stdout if stream is None else stream).isatty()


def has_colors(stream: TextIO | None = None) -> bool:
    """Tells whether the output may be coloured: on a terminal, unless the user does not want it."""
    if sys.platform == "win32" and not (os.environ.get("WT_SESSION") or os.environ.get("TERM")):
        return False  # an old console would show the codes
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def colored(text: str, color: str) -> str:
    """Returns a text in a color, if the output may be colored: `red`, `green`, `yellow` or `dim`."""
    code = {"red": 31, "green": 32, "yellow": 33, "dim": 2}[color]
    return f"\033[{code}m{text}\033[0m" if has_colors() else text


def show_progress(text: str) -> None:
    """Shows how far the command is, if stderr is a terminal: one line, which the next one replaces."""
    if not is_terminal(sys.stderr):
        return
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    width = (columns or shutil.get_terminal_size().columns) - 1
    shown = _encodable(printable(text), sys.stderr)[:width]
    while _width(shown) > width:
        shown = shown[:-1]
    sys.stderr.write(f"\r{shown}{' ' * (width - _width(shown))}")
    sys.stderr.flush()


def clear_progress() -> None:
    """Removes the line."""
    show_progress("")
    if is_terminal(sys.stderr):
        print(end="\r", file=sys.stderr, flush=True)


def add_formats(parser: argparse.ArgumentParser, *, csv: bool = True) -> None:
    """Adds the options `--json` and `--csv`."""
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="print JSON")
    if csv:
        formats.add_argument("--csv", action="store_true", help="print CSV")


def show(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], arguments: argparse.Namespace) -> None:
    """Prints rows as the options of `add_formats` say: as a table, CSV, or a JSON array of objects.

    Args:
        rows: The rows. Table and CSV show their `columns`, JSON shows all of a row.
        columns: The keys to show, in order.
        arguments: The command's arguments.
    """
    if arguments.json:
        show_json([dict(row) for row in rows])
    elif arguments.csv:
        _show_csv(rows, columns)
    else:
        _show_table(rows, columns)


def show_json(value: Any) -> None:
    """Prints a value as JSON, in ASCII, so that it holds no control characters."""
    import json

    print(json.dumps(value, indent=2, default=str))


def _show_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_encodable(_plain(row[name]), sys.stdout) for name in columns] for row in rows)


def _show_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    numeric = [all(isinstance(row[name], (int, float)) for row in rows) and bool(rows) for name in columns]
    texts = [[_encodable(printable(_readable(row[name])), sys.stdout) for name in columns] for row in rows]
    if is_terminal() and _show_rich_table(texts, columns, numeric):
        return
    table = [[name.upper() for name in columns], *texts]
    widths = [max(map(_width, column)) for column in zip(*table, strict=True)]
    for line in table:
        cells = [
            " " * (width - _width(cell)) + cell if right else cell + " " * (width - _width(cell))
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        print("  ".join(cells).rstrip())


def _show_rich_table(texts: list[list[str]], columns: Sequence[str], numeric: list[bool]) -> bool:
    """Prints a table as wide as the terminal; returns False if `rich` is not installed."""
    try:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ModuleNotFoundError:
        return False
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name, right in zip(columns, numeric, strict=True):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for line in texts:
        table.add_row(*map(Text, line))  # not as markup
    Console(no_color=not has_colors(), highlight=False).print(table)
    return True


def _plain(value: Any) -> str:
    return "" if value is None else str(value)


def _readable(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else _plain(value)


def _width(text: str) -> int:
    """Returns how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 1 + (unicodedata.east_asian_width(each) in "WF")
        for each in text
    )


def _encodable(text: str, stream: TextIO) -> str:
    """Returns a text with what the stream's encoding lacks escaped."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
