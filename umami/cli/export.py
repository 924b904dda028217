"""`umami export`: writes events, sessions or a ranking to a file, and goes on where it was interrupted."""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from umami._clock import monotonic

from ._client import add_server, add_website, chosen_website, connected, need_login
from ._errors import FAILED, OK, WRONG, CommandError
from ._output import clear_progress, complain, counted, printable, show_progress
from ._parser import last_moment, moment, span

if TYPE_CHECKING:
    from umami import Client

NAME: Final = "export"
SUMMARY: Final = "write events, sessions or metrics to a CSV, JSON lines or Parquet file"
USAGE: Final = "umami export {events,sessions,metrics} [WEBSITE] [--since 30d] [--output FILE] [options]"
DESCRIPTION: Final = """\
Writes the rows of a range of time to a file, a page at a time, and checks their number against the server's
count. An export of events to a file that was interrupted goes on where it was: run the same command again.
The file has its name once it is complete; until then it is FILE.part.
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
    parser.add_argument("--until", metavar="TIME", type=last_moment, help="the end (default: now)")
    parser.add_argument(
        "--format",
        choices=("csv", "jsonl", "parquet"),
        help="by default that of the file's name, or csv",
    )
    parser.add_argument("--output", metavar="FILE", type=Path, help="the file (default: stdout)")
    parser.add_argument(
        "--type", metavar="FIELD", default="path", help="of metrics: which field (default: path)"
    )
    parser.add_argument(
        "--filter",
        dest="filters",
        metavar="NAME=VALUE",
        nargs="+",
        action="extend",
        type=_filter,
        default=[],
        help="only what matches, such as country=DE",
    )
    add_server(parser)


def run(arguments: argparse.Namespace) -> int:
    """Writes the rows."""
    form, output = _format(arguments), arguments.output
    if output is None:
        if form == "parquet":
            raise CommandError("--format parquet needs --output FILE", WRONG)
        return _run(arguments, form, _Part(None, {}))
    if form == "parquet":
        _need_pyarrow()
    asked = {
        name: str(getattr(arguments, name))
        for name in ("what", "website", "since", "until", "type", "filters")
    }
    with contextlib.closing(_Part(output, {**asked, "format": form})) as part:
        return _run(arguments, form, part)


def _run(arguments: argparse.Namespace, form: str, part: "_Part") -> int:
    with connected(arguments) as client:
        need_login(client)
        website = chosen_website(client, arguments.website).id
        until = part.until or (arguments.until or datetime.now().astimezone())
        since = part.since or _since(arguments.since, until)
        part.began(since, until)
        filters = dict(arguments.filters)
        if arguments.what == "metrics":
            rows: Iterator[Any] = _metrics(client, arguments.type, since, until, website, filters)
            total = None
        else:
            listed = getattr(client, arguments.what)
            last = until if part.last is None else part.last + timedelta(milliseconds=1)
            rows = iter(listed(since, last, website, page_size=_EVERY, **filters))
            total = _count(listed(since, until, website, page_size=1, **filters))
        written = _write(rows, part, form, total, follow=arguments.what == "events")
        if part.path is not None:
            part.finish(form)
            complain(f"wrote {counted(written, 'row')} to {part.path}")
        if total is not None:
            now = _count(listed(since, until, website, page_size=1, **filters))
            if written != now:
                complain(f"the server counts {now:,} by now: rows were stored or deleted meanwhile")
                return FAILED
    return OK


def _count(rows: Any) -> int:
    next(rows, None)
    return int(rows.count or 0)


def _metrics(
    client: "Client", kind: Any, since: datetime, until: datetime, website: str, filters: dict[str, Any]
) -> Iterator[Any]:
    offset = 0
    while page := client.metrics(kind, since, until, website, limit=_EVERY, offset=offset, **filters):
        yield from page
        if len(page) < _EVERY:
            return
        offset += len(page)


def _write(rows: Iterator[Any], part: "_Part", form: str, total: int | None, *, follow: bool) -> int:
    """Write the rows, with a checkpoint now and then; return how many there are in the file."""
    write = _writer(part.file, form, head=not part.rows)
    shown = 0.0
    for row in rows:
        if follow and part.has(row):
            continue
        write(row)
        part.took(row if follow else None)
        if part.rows % _EVERY == 0:
            part.check()
        if monotonic() - shown > _SHOW_SECONDS:
            shown = monotonic()
            of = "" if total is None else f" of {total:,}"
            show_progress(f"{part.rows:,}{of} rows")
    clear_progress()
    part.check()
    return part.rows


def _writer(file: TextIO, form: str, *, head: bool) -> Callable[[Any], object]:
    if form != "csv":
        return lambda row: file.write(json.dumps(row.model_dump(), ensure_ascii=False) + "\n")
    from umami._table import csv_writer

    return csv_writer(file, head=head)


class _Part:
    """A file that is written, and where an interrupted export of the same is to go on.

    Beside `FILE.part` lies `FILE.part.json`: how long the former was at the last checkpoint, and its last
    rows. Events come newest first, so those that are left are those until the last row's time, apart from
    the rows of that time that are written already.

    Args:
        path: The file; None for stdout.
        asked: What was asked for: only an export of the same goes on.
    """

    def __init__(self, path: Path | None, asked: dict[str, str]) -> None:
        self.path = path
        self.rows = 0
        self.since: datetime | None = None
        self.until: datetime | None = None
        self.last: datetime | None = None
        self._ids: dict[str, datetime] = {}  # of the rows of the last millisecond and the one after it
        self._asked = asked
        if path is None:
            self.file: TextIO = sys.stdout
            return
        self._part, self._notes = Path(f"{path}.part"), Path(f"{path}.part.json")
        size = self._read()
        self.file = self._part.open("r+" if size else "w", encoding="utf-8", newline="")
        self.file.truncate(size)
        self.file.seek(0, os.SEEK_END)
        if size:
            complain(f"goes on after {counted(self.rows, 'row')}")

    def _read(self) -> int:
        """Read where to go on; return the size of the part that is complete."""
        try:
            notes = json.loads(self._notes.read_text("utf-8"))
            if notes["asked"] != self._asked or self._part.stat().st_size < notes["size"]:
                return 0
            self.rows = int(notes["rows"])
            self.since, self.until = map(datetime.fromisoformat, (notes["since"], notes["until"]))
            self._ids = {each: datetime.fromisoformat(at) for each, at in notes["ids"].items()}
            self.last = datetime.fromisoformat(notes["last"])
            return int(notes["size"])
        except (OSError, ValueError, LookupError, TypeError):
            return 0

    def began(self, since: datetime, until: datetime) -> None:
        """Note the range: an export that goes on has the same, even if it was to end now."""
        self.since, self.until = since, until

    def has(self, row: Any) -> bool:
        """Tell whether an event was written before the export was interrupted."""
        return row.id in self._ids

    def took(self, row: Any) -> None:
        """Note a row that was written; None if the export could not go on after it."""
        self.rows += 1
        if row is None or self.path is None:
            return
        at = _read_time(row.createdAt)
        if self.last != at:
            near = at + timedelta(milliseconds=1)
            self._ids = {each: other for each, other in self._ids.items() if other <= near}
            self.last = at
        self._ids[row.id] = at

    def check(self) -> None:
        """Note that all that was written so far is complete."""
        self.file.flush()
        if self.path is None or self.last is None or self.since is None or self.until is None:
            return
        notes = {
            "asked": self._asked,
            "size": self._part.stat().st_size,
            "rows": self.rows,
            "ids": {each: at.isoformat() for each, at in self._ids.items()},
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "last": self.last.isoformat(),
        }
        new = Path(f"{self._notes}.new")
        new.write_text(json.dumps(notes), "utf-8")
        new.replace(self._notes)

    def finish(self, form: str) -> None:
        """Give the file its name."""
        assert self.path is not None  # noqa: S101 - for the type checker
        self.file.close()
        if form == "parquet":
            _to_parquet(self._part, self.path)
            self._part.unlink()
        else:
            self._part.replace(self.path)
        self._notes.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


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
        raise CommandError("Parquet needs pyarrow: pip install umami-analytics[parquet]", WRONG) from None


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


def _filter(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value
