"""Sends the page views in logs, and counts what becomes of each line."""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final

import umami
from umami._clock import monotonic
from umami._user_agents import is_bot
from umami.errors import ValidationError
from umami.integrations._address import anonymized

from .checkpoint import Checkpoints, Place, Tracker
from .filters import Filter
from .formats import FORMATS, detect
from .hits import Hit, Parser
from .outstanding import Outstanding
from .reading import Line, followed, lines, opened

_SAMPLE_LINES: Final = 200
_CHECKPOINT_SECONDS: Final = 1.0
_MOST_OUTSTANDING: Final = 1_000
_MOST_SHOWN: Final = 5
_LOOK_EVERY: Final = 500
_STOP_SECONDS: Final = 5.0
_WITHOUT_TIMES: Final = ("Umami before", "Umami 2.16")


@dataclass
class Counts:
    """What became of the lines. The sums balance.

    Attributes:
        read: Lines read in this run.
        before: Of these, lines that were imported by an earlier run.
        headers: Of these, lines that hold no request, such as a header.
        malformed: Of these, lines that cannot be read.
        left_out: Of these, requests that were left out, by reason.
        sent: Of these, page views that were sent, or would have been.
        examples: The first malformed lines, by their log and number.
        first: The time of the earliest page view, in epoch seconds.
        last: The time of the latest.
    """

    read: int = 0
    before: int = 0
    headers: int = 0
    malformed: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    examples: list[tuple[str, int]] = field(default_factory=list)
    first: float | None = None
    last: float | None = None

    def saw(self, moment: float) -> None:
        """Widen the range of time."""
        self.first = moment if self.first is None else min(self.first, moment)
        self.last = moment if self.last is None else max(self.last, moment)


@dataclass
class Log:
    """One log as it is read.

    Attributes:
        path: Its path; `-` for the standard input.
        size: The size of its file in bytes; 0 if it is not known.
        position: How many bytes of its file have been read.
    """

    path: str
    size: int = 0
    position: int = 0


class UnknownFormatError(ValueError):
    """A log is of no known format."""


class OldServerError(Exception):
    """The server stores the time of no event."""


class Importer:
    """Reads logs and sends what they hold.

    Args:
        filter: Says which requests are left out.
        make_parser: Makes a parser for each log; None finds out the format by its first lines.
        counts: What is counted.
        progress: Called now and then with the log that is being read.
    """

    def __init__(
        self,
        filter: Filter,  # noqa: A002
        make_parser: Callable[[], Parser] | None = None,
        progress: Callable[[Log], object] = id,
    ) -> None:
        self.counts = Counts()
        self.stopped = threading.Event()
        self._filter = filter
        self._make_parser = make_parser
        self._progress = progress

    def scan(self, path: str) -> None:
        """Count what a log holds, without sending anything.

        Raises:
            OSError: It cannot be read.
            UnknownFormatError: It is of no known format.
        """
        log = _log(path)
        with opened(path) as (file, disk):
            for _ in self._hits(log, disk, lines(file), 0, frozenset()):
                if self.stopped.is_set():
                    return

    def _hits(
        self, log: Log, disk: IO[bytes], read: Iterator[Line | None], start: int, again: Collection[int]
    ) -> Iterator[tuple[Line | None, Hit | None]]:
        """Yield each line with the page view in it; None for a line that has none, or was imported before.

        Args:
            log: The log.
            disk: Its file.
            read: Its lines. A line that is None is a pause in a log that is followed.
            start: Where the lines begin that were not imported before.
            again: The ends of lines before that which were not answered.
        """
        counts, reason_of = self.counts, self._filter.reason
        parser, read = self._parser(log, read)
        number = begin = 0
        for line in read:
            number += 1
            if line is None or number % _LOOK_EVERY == 0:
                if log.size:
                    with suppress(OSError, ValueError):
                        log.position = disk.tell()
                self._progress(log)
            if line is None:
                yield None, None
                continue
            counts.read += 1
            # An earlier run may have read a last line that had no end yet.
            is_new = begin >= start or line.end in again or (start <= line.end and start in again)
            begin = line.end
            # The first lines may say how to read what follows.
            hit = self._read(parser, line, log, number) if is_new or number < _SAMPLE_LINES else None
            if not is_new:
                counts.before += 1
                hit = None
            elif hit is not None:
                reason = reason_of(hit)
                if reason is not None:
                    counts.left_out[reason] += 1
                    hit = None
                else:
                    counts.sent += 1
                    counts.saw(hit.time)
            yield line, hit

    def _read(self, parser: Parser, line: Line, log: Log, number: int) -> Hit | None:
        try:
            if line.data is not None:
                hit = parser(line.data.decode("utf-8", "replace").rstrip("\r\n"))
                self.counts.headers += hit is None
                return hit
        except Exception:  # noqa: BLE001, S110 - whatever a parser makes of an odd line
            pass
        self.counts.malformed += 1
        if len(self.counts.examples) < _MOST_SHOWN:
            self.counts.examples.append((log.path, number))
        return None

    def _parser(self, log: Log, read: Iterator[Line | None]) -> tuple[Parser, Iterator[Line | None]]:
        if self._make_parser is not None:
            return self._make_parser(), read
        sample: list[Line | None] = []
        for line in read:
            if line is None and (sample or self.stopped.is_set()):
                break  # a log that is followed has no more for now
            if line is not None:
                sample.append(line)
            if len(sample) >= _SAMPLE_LINES:
                break
        texts = [line.data.decode("utf-8", "replace").rstrip("\r\n") for line in sample if line and line.data]
        name = detect([text for text in texts if text])
        if name is None and texts:
            raise UnknownFormatError(
                f"{log.path} is of no known format ({', '.join(FORMATS)}). Name it with --format, or "
                f"describe its lines with --format-regex. Its first line: {texts[0][:200]!r}"
            )
        return FORMATS[name or "combined"](), _chained(sample, read)


class Sender(Importer):
    """Sends what logs hold through a client.

    Args:
        client: The client, with `outstanding.before_send` as its `before_send` and a `Watched` exporter.
        outstanding: What is sent and not answered.
        checkpoints: Where it is kept how far each log was imported; None to keep nothing.
        sites: The websites by their host names.
        anonymize: Whether to leave out the last part of each address.
        tag_bots: Whether the page views of bots get the tag `bot`.
        with_time: Whether to send the time of each request.
        rate: The most page views a second; None for no limit.
    """

    def __init__(
        self,
        client: "umami.Client",
        outstanding: Outstanding,
        checkpoints: Checkpoints | None,
        filter: Filter,  # noqa: A002
        make_parser: Callable[[], Parser] | None = None,
        progress: Callable[[Log], object] = id,
        *,
        sites: Mapping[str, str] | None = None,
        anonymize: bool = False,
        tag_bots: bool = False,
        with_time: bool = True,
        rate: float | None = None,
    ) -> None:
        super().__init__(filter, make_parser, progress)
        self._client, self._outstanding, self._checkpoints = client, outstanding, checkpoints
        self._sites = sites or {}
        self._anonymize, self._tag_bots, self._with_time = anonymize, tag_bots, with_time
        self._is_checked = not with_time
        self._interval = 1 / rate if rate else 0.0
        self._next = 0.0

    def send(self, path: str, *, follow: bool = False) -> None:
        """Import a log, from where an earlier run stopped. Returns early once `stopped` is set.

        Of the standard input nothing is remembered: it cannot be read from its beginning again.

        Args:
            path: The log; `-` for the standard input.
            follow: Whether to go on with what is added to it.

        Raises:
            OSError: It cannot be read, or its place cannot be kept.
            UnknownFormatError: It is of no known format.
            OldServerError: The server stores no times, as its first answer shows.
        """
        log = _log(path)
        former: Place | None = None
        if path != "-" and self._checkpoints is not None:
            with opened(path) as (file, _):
                former = self._checkpoints.find(file)
        again = set(() if former is None else former.unanswered)
        tracker = Tracker()
        try:
            former = self._send_lines(log, tracker, former, again, follow=follow)
            while not self.stopped.is_set() and not self._client.flush(0.2):
                self._progress(log)
        except BaseException:
            self.stopped.set()
            raise
        finally:
            # From now on nothing is sent: what is not answered then is sent by the next run.
            if self._client.shutdown(_STOP_SECONDS if self.stopped.is_set() else None):
                self._outstanding.clear()
            if path != "-":
                self._save(tracker, former, again)

    def _send_lines(
        self, log: Log, tracker: Tracker, former: Place | None, again: set[int], *, follow: bool
    ) -> Place | None:
        start = 0 if former is None else former.offset
        due = monotonic() + _CHECKPOINT_SECONDS
        with opened(log.path) as (file, disk):
            follows = follow and file is disk and log.path != "-"
            read: Iterator[Line | None] = followed(log.path, file) if follows else lines(file)
            for line, hit in self._hits(log, disk, read, start, again):
                if line is not None:
                    if hit is not None:
                        self._send(hit, line.end)
                    tracker.saw(line)
                    again -= {line.end, start} if line.end >= start else {line.end}
                    if hit is not None and not self._is_checked:
                        self._check_server(log)
                if self.stopped.is_set():
                    break
                if log.path != "-" and monotonic() >= due:
                    former = self._save(tracker, former, again)
                    due = monotonic() + _CHECKPOINT_SECONDS
        return former

    def _save(self, tracker: Tracker, former: Place | None, again: Collection[int]) -> Place | None:
        """Keep the place that was reached, with what is not answered."""
        if self._checkpoints is None:
            return former
        place = tracker.place()
        if former is not None and (place is None or place.offset < former.offset):
            place = former  # an earlier run came further
        if place is None:
            return former
        place = replace(place, unanswered=sorted({*again, *self._outstanding.lines()}))
        if place != former:
            self._checkpoints.save(place, former)
        return place

    def _send(self, hit: Hit, line: int) -> None:
        self._wait()
        fields: dict[str, Any] = {
            "url": hit.target,
            "referrer": hit.referrer,
            "ip_address": _anonymous(hit.address) if self._anonymize else hit.address or None,
            "hostname": hit.host or None,
            "website_id": self._sites.get(hit.host.lower()) if self._sites else None,
            "language": "",
            "screen": "",
            **hit.more,
        }
        if self._with_time:
            fields["timestamp"] = hit.time
        if self._tag_bots and (not hit.ua or is_bot(hit.ua)):
            fields["tag"] = "bot"
        self._outstanding.sending(line)
        name = fields.pop("name", None)
        try:
            if name is not None:
                self._client.new_event(name, ua=hit.ua or None, **fields)
            else:
                self._client.new_page_view(fields.pop("title", ""), ua=hit.ua, **fields)
        except ValidationError:
            self.counts.sent -= 1
            self.counts.malformed += 1

    def _check_server(self, log: Log) -> None:
        """Find out by the first page view whether the server stores its time."""
        while not self._client.flush(0.2) and not self.stopped.is_set():
            self._progress(log)
        server = self._client.queue_stats().server or ""
        if server.startswith(_WITHOUT_TIMES):
            raise OldServerError(f"The server is {server}: it would date all page views at their arrival.")
        self._is_checked = True

    def _wait(self) -> None:
        """Wait until the next page view may be sent: the rate, and how many are on their way."""
        while len(self._outstanding) >= _MOST_OUTSTANDING and not self.stopped.is_set():
            if self._client.queue_stats().pending == 0:
                self._outstanding.clear()
            self.stopped.wait(0.02)
        if self._interval:
            now = monotonic()
            self._next = max(self._next, now - 1) + self._interval
            if self._next > now:
                self.stopped.wait(self._next - now)


def _log(path: str) -> Log:
    try:
        return Log(path, 0 if path == "-" else Path(path).stat().st_size)
    except OSError:
        return Log(path)


def _chained(first: Sequence[Line | None], rest: Iterator[Line | None]) -> Iterator[Line | None]:
    yield from first
    yield from rest


def _anonymous(address: str) -> str | None:
    try:
        return anonymized(address)
    except ValueError:
        return None
