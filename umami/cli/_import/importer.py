"""Sends the page views in logs, and counts what becomes of each line."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from typing import IO, Any, Final

import umami
from umami._clock import monotonic
from umami._user_agents import is_bot
from umami.errors import ValidationError
from umami.integrations._address import anonymized

from .checkpoint import Checkpoints, Keeper
from .counts import Counts, Log
from .filters import Filter
from .formats import FORMATS, detect
from .hits import Hit, Parser
from .outstanding import Outstanding
from .reading import DamagedError, Line, followed, lines, opened, rewind

_SAMPLE_LINES: Final = 200
_SAMPLE_LINES_OF_PIPE: Final = 10  # a pipe may bring one now and then
_MOST_OUTSTANDING: Final = 1_000
_MOST_SHOWN: Final = 5
_LOOK_EVERY: Final = 500
_MOST_REFUSED: Final = 20  # of the first page views
_STOP_SECONDS: Final = 5.0
_FLUSH_SECONDS: Final = 0.2
_WITHOUT_TIMES: Final = ("Umami before", "Umami 2.16")


class UnknownFormatError(ValueError):
    """A log is of no known format."""


class OldServerError(Exception):
    """The server stores the time of no event."""


class RefusedError(Exception):
    """The server refuses all page views, as its first answers show."""


class NoHostError(Exception):
    """A log does not say for which host a request was, and there is no default."""


class Importer:
    """Reads logs and counts what they hold.

    Args:
        filter: Says which requests are left out.
        make_parser: Makes a parser for each log; None finds out the format by its first lines.
        progress: Called now and then with the log that is being read.
        checkpoints: How far each log was imported; None if it is not known.
    """

    def __init__(
        self,
        filter: Filter,  # noqa: A002
        make_parser: Callable[[], Parser] | None = None,
        progress: Callable[[Log], object] = id,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.counts = Counts()
        self.stopped = threading.Event()
        self._filter = filter
        self._make_parser = make_parser
        self._progress = progress
        self._checkpoints = checkpoints

    def scan(self, path: str) -> None:
        """Count what a log holds, without sending anything.

        Raises:
            OSError: It cannot be read.
            UnknownFormatError: It is of no known format.
        """
        log = Log.of(path)
        with self._opened(log) as (file, disk, keeper):
            for line, _ in self._hits(log, disk, lines(file), keeper):
                if line is not None:
                    keeper.saw(line)
                if self.stopped.is_set():
                    return

    @contextmanager
    def _opened(
        self, log: Log, unanswered: Callable[[], list[int]] = list
    ) -> Iterator[tuple[IO[bytes], IO[bytes], Keeper]]:
        """Open a log, and find how far it was imported. Damage ends the block, and is noted."""
        with opened(log.path) as (file, disk):
            former = None if self._checkpoints is None else self._checkpoints.find(file)
            rewind(file, disk)
            try:
                yield file, disk, Keeper(self._checkpoints, former, unanswered)
            except DamagedError as error:
                self.counts.damaged.append((log.path, str(error)))

    def _hits(
        self, log: Log, disk: IO[bytes], read: Iterator[Line | None], keeper: Keeper
    ) -> Iterator[tuple[Line | None, Hit | None]]:
        """Yield each line with the page view in it; None for a line that has none, or was imported before.

        Args:
            log: The log.
            disk: Its file.
            read: Its lines. A line that is None is a pause in a log that is followed.
            keeper: Knows which lines were imported before.
        """
        counts, reason_of, start, again = self.counts, self._filter.reason, keeper.start, keeper.again
        parser, read = self._parser(log, read)
        begin = 0
        for line in read:
            if line is None:
                self._progress(log)
                yield None, None
                continue
            if log.lines % _LOOK_EVERY == 0:
                if log.size:
                    with suppress(OSError, ValueError):
                        log.position = disk.tell()
                self._progress(log)
            log.lines += 1
            counts.read += 1
            # An earlier run may have read a last line that had no end yet.
            is_new = begin >= start or line.end in again or (start <= line.end and start in again)
            begin = line.end
            hit = self._read(parser, line, log) if is_new else None
            if not is_new:
                counts.before += 1
                if log.lines < _SAMPLE_LINES and line.data is not None:
                    with suppress(Exception):  # one of the first may say how to read what follows
                        parser(_text(line.data))
            elif hit is not None:
                reason = reason_of(hit)
                if reason is not None:
                    counts.left_out[reason] += 1
                    hit = None
                else:
                    counts.sent += 1
                    counts.saw(hit.time)
            yield line, hit

    def _read(self, parser: Parser, line: Line, log: Log) -> Hit | None:
        try:
            if line.data is not None:
                hit = parser(_text(line.data))
                self.counts.headers += hit is None
                return hit
        except Exception:  # noqa: BLE001, S110 - whatever a parser makes of an odd line
            pass
        self._note_malformed(log)
        return None

    def _note_malformed(self, log: Log) -> None:
        self.counts.malformed += 1
        if len(self.counts.examples) < _MOST_SHOWN:
            self.counts.examples.append((log.path, log.lines))

    def _parser(self, log: Log, read: Iterator[Line | None]) -> tuple[Parser, Iterator[Line | None]]:
        if self._make_parser is not None:
            return self._make_parser(), read
        sample: list[Line | None] = []
        enough = _SAMPLE_LINES_OF_PIPE if log.path == "-" else _SAMPLE_LINES
        for line in read:
            if line is None and (sample or self.stopped.is_set()):
                break  # a log that is followed has no more for now
            if line is not None:
                sample.append(line)
            if len(sample) >= enough:
                break
        texts = [_text(line.data) for line in sample if line and line.data]
        name = detect([text for text in texts if text])
        if name is None and texts:
            raise UnknownFormatError(
                f"{log.path} is of no known format ({', '.join(FORMATS)}). Name it with --format, or "
                f"describe its lines with --format-regex. Its first line: {texts[0][:200]!r}"
            )
        return FORMATS[name or "combined"](), chain(sample, read)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").rstrip("\r\n")


class Sender(Importer):
    """Sends what logs hold through a client.

    Args:
        client: The client, with `outstanding.before_send` as its `before_send` and a `Watched` exporter.
        outstanding: What is sent and not answered.
        filter: Says which requests are left out.
        make_parser: Makes a parser for each log; None finds out the format by its first lines.
        progress: Called now and then with the log that is being read.
        checkpoints: Where it is kept how far each log was imported; None to keep nothing.
        sites: The websites by their host names.
        hostname: The host name of requests whose log has none; None if there is none.
        anonymize: Whether to leave out the last part of each address.
        tag_bots: Whether the page views of bots get the tag `bot`.
        with_time: Whether to send the time of each request.
        rate: The most page views a second; None for no limit.
    """

    def __init__(
        self,
        client: "umami.Client",
        outstanding: Outstanding,
        filter: Filter,  # noqa: A002
        make_parser: Callable[[], Parser] | None = None,
        progress: Callable[[Log], object] = id,
        checkpoints: Checkpoints | None = None,
        *,
        sites: Mapping[str, str] | None = None,
        hostname: str | None = None,
        anonymize: bool = False,
        tag_bots: bool = False,
        with_time: bool = True,
        rate: float | None = None,
    ) -> None:
        super().__init__(filter, make_parser, progress, checkpoints)
        self._client, self._outstanding = client, outstanding
        self._sites, self._hostname = sites or {}, hostname
        self._anonymize, self._tag_bots, self._with_time = anonymize, tag_bots, with_time
        self._is_checked = False
        self._is_refused = False
        self._interval = 1 / rate if rate else 0.0
        self._next = 0.0

    def send(self, path: str, *, follow: bool = False) -> bool:
        """Import a log, from where an earlier run stopped. Returns early once `stopped` is set.

        Args:
            path: The log; `-` for the standard input.
            follow: Whether to go on with what is added to it, if it is a plain file.

        Returns:
            Whether it was followed until it was rotated away, so that it has a successor.

        Raises:
            OSError: It cannot be read, or its place cannot be kept.
            UnknownFormatError: It is of no known format.
            OldServerError: The server stores no times, as its first answer shows.
            RefusedError: The server refuses the first page views, all of them.
            NoHostError: The log has no host names, and there is no default.
        """
        log = Log.of(path)
        with self._opened(log, self._outstanding.lines) as (file, disk, keeper):
            follows = follow and file is disk and path != "-"
            try:
                self._send_lines(log, file, disk, keeper, follow=follows)
            except DamagedError:  # what was read before that is sent
                self._finish(log, keeper)
                raise
            except BaseException:
                self.stopped.set()
                raise
            else:
                self._finish(log, keeper)
            finally:
                # From now on nothing is sent: what is not answered then is sent by the next run.
                try:
                    if self._client.shutdown(_STOP_SECONDS if self.stopped.is_set() else None):
                        self._outstanding.clear()
                finally:
                    if not self._is_refused:
                        keeper.save()
            return follows
        return False  # it is damaged

    def _send_lines(
        self, log: Log, file: IO[bytes], disk: IO[bytes], keeper: Keeper, *, follow: bool
    ) -> None:
        read: Iterator[Line | None] = followed(log.path, file) if follow else lines(file)
        for line, hit in self._hits(log, disk, read, keeper):
            if line is not None:
                if hit is not None:
                    self._send(log, hit, line.end, keeper)
                keeper.saw(line)
                if hit is not None and not self._is_checked:
                    self._check_server(log)
            if self.stopped.is_set():
                break
            if self._is_checked:
                keeper.save_if_due()

    def _finish(self, log: Log, keeper: Keeper) -> None:
        """Wait until all is answered."""
        while not self.stopped.is_set() and not self._client.flush(_FLUSH_SECONDS):
            self._progress(log)
            keeper.save_if_due()

    def _send(self, log: Log, hit: Hit, line: int, keeper: Keeper) -> None:
        self._wait(log, keeper)
        hostname = hit.host or self._hostname
        if not hostname:
            self.counts.read -= 1  # the next run reads the line again
            self.counts.sent -= 1
            raise NoHostError
        fields: dict[str, Any] = {
            "url": hit.target,
            "referrer": hit.referrer,
            "ip_address": anonymized(hit.address) if self._anonymize else hit.address or None,
            "hostname": hostname,
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
            self._note_malformed(log)

    def _check_server(self, log: Log) -> None:
        """Find out by the first page views whether the server takes any, and stores their time."""
        while not self._client.flush(_FLUSH_SECONDS) and not self.stopped.is_set():
            self._progress(log)
        stats = self._client.queue_stats()
        if self._with_time and (stats.server or "").startswith(_WITHOUT_TIMES):
            raise OldServerError(
                f"The server is {stats.server}: it would date all page views at their arrival."
            )
        # The server may well refuse bots, if they are to be sent.
        self._is_checked = stats.delivered > 0 or not self._filter.skips_bots
        if stats.rejected >= _MOST_REFUSED and not self._is_checked:
            self._is_refused = True  # so the next run sends them again
            raise RefusedError(
                f"The server refused the first {stats.rejected} page views, so the import stopped: "
                f"{stats.last_error}"
            )

    def _wait(self, log: Log, keeper: Keeper) -> None:
        """Wait until the next page view may be sent: the rate, and how many are on their way."""
        while len(self._outstanding) >= _MOST_OUTSTANDING and not self.stopped.is_set():
            if self._client.queue_stats().pending == 0:
                self._outstanding.clear()
            self.stopped.wait(0.02)
            self._progress(log)
            keeper.save_if_due()
        if self._interval:
            now = monotonic()
            self._next = max(self._next, now - 1) + self._interval
            while self._next > (now := monotonic()) and not self.stopped.is_set():
                self.stopped.wait(min(self._next - now, _FLUSH_SECONDS))
                self._progress(log)
                keeper.save_if_due()
