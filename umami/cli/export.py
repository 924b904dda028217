"""`umami export`: writes events, sessions or a ranking to a file, and goes on where it was interrupted."""

import argparse
import contextlib
import csv
import functools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final, TextIO

from umami._clock import monotonic

from ._client import add_server, add_website, chosen_website, connected, need_login, server_url
from ._errors import FAILED, OK, WRONG, CommandError
from ._output import clear_progress, complain, counted, printable, show_progress
from ._parser import add_filter, last_moment, moment, span

NAME: Final = "export"
SUMMARY: Final = "write events, sessions or metrics to a CSV, JSON lines or Parquet file"
USAGE: Final = "umami export {events,sessions,metrics} [WEBSITE] [--since 30d] [--output FILE] [options]"
DESCRIPTION: Final = """\
Writes the rows of a range of time to a file. The file has its name once it is complete; until then it is
FILE.part.

Events and sessions are fetched a page at a time, and their number is checked against the server's count. To
resume an export of them that was interrupted, run the same command again. Metrics are one request, which such
a run makes anew.
"""
EXAMPLES: Final = """\
umami export events --since 30d --output events.csv
umami export events example.com --since 2026-01-01 --until 2026-01-31 --format jsonl --output january.jsonl
umami export sessions --since 7d --filter country=DE --format parquet --output sessions.parquet
umami export metrics --type utm_source --since 90d
"""

_EVERY: Final = 1000
"""How many rows are written between two checkpoints."""
_SHOW_SECONDS: Final = 0.5
_TIMES: Final = {"events": "createdAt", "sessions": "lastAt"}
"""What events and sessions are sorted by, the latest first."""
_MOST_METRICS: Final = 1_000_000
_MOST_COUNTED: Final = 1_000
"""What Umami 2.17 and older count at most."""
_BATCH: Final = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("what", choices=("events", "sessions", "metrics"), help="which rows")
    add_website(parser)
    parser.add_argument(
        "--since",
        metavar="TIME",
        default="30d",
        help="the beginning: a time, or 12h, 30d or 4w ago (default: 30d)",
    )
    parser.add_argument(
        "--until", metavar="TIME", type=last_moment, help="the end, not after now (default: now)"
    )
    parser.add_argument(
        "--format",
        choices=("csv", "jsonl", "parquet"),
        help="by default that of the file's name, or csv",
    )
    parser.add_argument("--output", metavar="FILE", type=Path, help="the file (default: stdout)")
    parser.add_argument(
        "--type", metavar="FIELD", default="path", help="of metrics: which field (default: path)"
    )
    add_filter(parser)
    add_server(parser)


def run(arguments: argparse.Namespace) -> int:
    """Writes the rows."""
    form = _format(arguments)
    if form == "parquet":
        if arguments.output is None:
            raise CommandError("--format parquet needs --output FILE", WRONG)
        _need_pyarrow()
    with connected(arguments) as client:
        need_login(client)
        website = chosen_website(client, arguments.website).id
        asked = {
            name: str(getattr(arguments, name)) for name in ("what", "since", "until", "type", "filters")
        }
        asked |= {"website": website, "format": form, "server": server_url(client)}
        with contextlib.closing(_Part(arguments.output, asked)) as part:
            now = datetime.now().astimezone()
            until = part.until or min(arguments.until or now, now)
            since = part.since or _since(arguments.since, until)
            part.began(since, until)
            ask = functools.partial(
                getattr(client, arguments.what), website_id=website, **dict(arguments.filters)
            )
            if arguments.what == "metrics":
                return _write_metrics(ask(arguments.type, since, until, limit=_MOST_METRICS), part)
            return _write_rows(ask, since, until, part)


def _write_metrics(ranking: Sequence[Any], part: "_Part") -> int:
    _write(ranking, part, len(ranking))
    part.finish()
    return OK


def _write_rows(ask: Callable[..., Any], since: datetime, until: datetime, part: "_Part") -> int:
    """Write events or sessions, and check their number."""

    def count() -> int:
        rows = ask(since, until, page_size=1)
        next(rows, None)
        return int(rows.count or 0)

    left_until = until if part.last is None else part.last + timedelta(milliseconds=1)
    _write(ask(since, left_until, page_size=_EVERY), part, count())
    part.finish()
    now = count()
    if now == _MOST_COUNTED < part.rows:
        complain(f"the server never reports more than {now:,} rows, so their number could not be checked")
    elif now != part.rows:
        complain(f"the server now counts {now:,}: rows were stored or deleted meanwhile")
        return FAILED
    return OK


def _write(rows: Iterable[Any], part: "_Part", total: int) -> None:
    """Write those rows that are not written yet, with a checkpoint now and then."""
    write = part.writer()
    shown = 0.0
    for row in rows:
        if part.has(row):
            continue
        write(row)
        part.rows += 1
        if part.rows % _EVERY == 0:
            part.check()
        if monotonic() - shown > _SHOW_SECONDS:
            shown = monotonic()
            show_progress(f"{part.rows:,} of {total:,} rows")
    clear_progress()
    part.check()


class _Part:
    """A file that is written, and where an interrupted export of the same is to go on.

    Beside `FILE.part` lies `FILE.part.json`: how long the former was at the last checkpoint. Events come
    newest first, and sessions the last seen first. So the rows that are missing are in the range that ends
    with the last row of the file. That range also lists rows that the file has: those of the last moment, and
    sessions that were seen again after it. They are left out by their keys, which are read from the file.

    Args:
        path: The file; None for stdout.
        asked: What was asked for: only an export of the same is resumed.
    """

    def __init__(self, path: Path | None, asked: dict[str, str]) -> None:
        self.path = path
        self.rows = 0
        self.since: datetime | None = None
        self.until: datetime | None = None
        self.last: datetime | None = None
        self._asked = asked
        self._format = asked["format"]
        self._known: set[int] = set()  # hashes of the keys of those rows that may come again
        self._kept = 0
        if path is None:
            self.file: TextIO = sys.stdout
            return
        self._part, self._notes = Path(f"{path}.part"), Path(f"{path}.part.json")
        was_there = self._part.exists()
        size = self._read()
        if not size:
            self._notes.unlink(missing_ok=True)  # they are of another export, whose rows are about to go
        self.file = self._part.open("r+" if size else "w", encoding="utf-8", newline="")
        self.file.seek(0, os.SEEK_END)
        if size:
            complain(f"resuming after {counted(self.rows, 'row')}")
        elif was_there:
            complain(f"starting over: {self._part} is not a part of this export")

    def _read(self) -> int:
        """Read what is written already; return the size of the part that is complete."""
        try:
            notes = json.loads(self._notes.read_text("utf-8"))
            size = int(notes["size"])
            if notes["asked"] != self._asked or self._part.stat().st_size < size:
                return 0
            os.truncate(self._part, size)
            since, until = map(datetime.fromisoformat, (notes["since"], notes["until"]))
            time, count, last = _TIMES[self._asked["what"]], 0, ""
            for row in self._complete_rows():
                count, last = count + 1, row[time]
            near = _read_time(last) + timedelta(milliseconds=1)
            self._known = {
                self._key(row["id"], row["hostname"])
                for row in self._complete_rows()
                if time == "lastAt" or _read_time(row[time]) <= near
            }
        except (OSError, ValueError, LookupError, TypeError, AttributeError, csv.Error):
            return 0
        self.rows = self._kept = count
        self.since, self.until, self.last = since, until, _read_time(last)
        return size

    def _complete_rows(self) -> Iterator[dict[str, Any]]:
        with self._part.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file) if self._format == "csv" else map(json.loads, file)

    def began(self, since: datetime, until: datetime) -> None:
        """Note the range: an export that goes on has the same, even if it was to end now."""
        self.since, self.until = since, until

    def writer(self) -> Callable[[Any], object]:
        """Return what writes a row."""
        if self._format != "csv":
            return lambda row: self.file.write(json.dumps(row.model_dump(), ensure_ascii=False) + "\n")
        from umami._table import csv_writer

        return csv_writer(self.file, head=not self.rows)

    def has(self, row: Any) -> bool:
        """Tell whether a row was written before the export was interrupted."""
        return bool(self._known) and self._key(row.id, row.hostname) in self._known

    def _key(self, id_: str, hostname: str | None) -> int:
        """Return what tells a row from others, as `_queries/rows.py` does."""
        by_host = self._asked["server"] != "Umami Cloud" or self._asked["filters"] != "[]"
        return hash((id_, (hostname or "") if by_host else ""))

    def check(self) -> None:
        """Note that all that was written so far is complete."""
        self.file.flush()
        if self.path is None or self.since is None or self.until is None or self._asked["what"] not in _TIMES:
            return
        notes = {
            "asked": self._asked,
            "size": self._part.stat().st_size,
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
        }
        new = Path(f"{self._notes}.new")
        new.write_text(json.dumps(notes), "utf-8")
        new.replace(self._notes)
        self._kept = self.rows

    def finish(self) -> None:
        """Give the file its name."""
        if self.path is None:
            return
        self.file.close()
        if self._format == "parquet":
            _to_parquet(self._part, self.path)
            self._part.unlink()
        else:
            self._part.replace(self.path)
        self._notes.unlink(missing_ok=True)
        self._kept = 0
        complain(f"wrote {counted(self.rows, 'row')} to {self.path}")

    def close(self) -> None:
        """Close the file. If the export ended early, say what there is to go on with."""
        if self.path is not None:
            self.file.close()
        if self._kept:
            complain(f"{self._part} has {counted(self._kept, 'row')}: run the same command again to resume")


def _to_parquet(source: Path, target: Path) -> None:
    """Convert JSON lines, a batch at a time. Columns of which nothing is known are texts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def batches() -> Iterator[list[dict[str, Any]]]:
        with source.open(encoding="utf-8") as lines:
            batch = []
            for line in lines:
                batch.append(json.loads(line))
                if len(batch) == _BATCH:
                    yield batch
                    batch = []
            if batch:
                yield batch

    kinds: dict[str, Any] = {}
    for batch in batches():
        for row in batch:
            for name, value in row.items():
                if value is not None or name not in kinds:
                    kinds[name] = type(value)
    known = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema([(name, known.get(kind, pa.string())) for name, kind in kinds.items()])
    new = Path(f"{target}.new")
    with pq.ParquetWriter(new, schema) as writer:
        for batch in batches():
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
    new.replace(target)


def _need_pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError:
        raise CommandError("Parquet needs pyarrow: pip install 'umami-analytics[parquet]'", WRONG) from None


def _format(arguments: argparse.Namespace) -> str:
    if arguments.format is not None:
        return str(arguments.format)
    ending = "" if arguments.output is None else arguments.output.suffix.lstrip(".").lower()
    return ending if ending in ("csv", "jsonl", "parquet") else "csv"


def _since(text: str, until: datetime) -> datetime:
    try:
        return until - span(text)
    except argparse.ArgumentTypeError:
        pass
    try:
        return moment(text)
    except argparse.ArgumentTypeError:
        raise CommandError(
            f"--since: {printable(text)!r} is no time, and no span such as 30d", WRONG
        ) from None


def _read_time(text: str) -> datetime:
    read = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return read if read.tzinfo else read.replace(tzinfo=timezone.utc)
