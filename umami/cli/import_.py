"""`umami import`: sends the page views in the logs of web servers."""

import argparse
import hashlib
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from umami._clock import monotonic

from ._errors import FAILED, INTERRUPTED, OK, WRONG, CommandError
from ._output import complain, counted, is_terminal, printable, say, show_json
from ._signals import handled_by

if TYPE_CHECKING:
    from ._import.importer import Counts, Importer, Log, Sender

NAME: Final = "import"
SUMMARY: Final = "send the page views in web servers' logs"
USAGE: Final = "umami import [options] FILE ..."
DESCRIPTION: Final = """\
Reads the logs of web servers and sends the page views in them, with their time, address, User-Agent and
referrer. Logs may be compressed. Without options, only what a visitor saw is sent: not assets, errors,
redirects, prefetches, bots, and methods other than GET.

An import that was interrupted goes on where it stopped. A log that was imported is recognized by what it
holds, also under another name or compressed. Umami stores 100 to 170 events a second.
"""
EXAMPLES: Final = """\
umami import --dry-run access.log                   # what is in it, and what would be sent
umami import access.log*                            # rotated and compressed logs too
umami import --site example.com=UUID --site shop.example.com=UUID vhosts.log
umami import --follow access.log                    # go on with what is added to it
journalctl -o cat -u caddy | umami import -         # from a pipe, of which nothing is remembered
"""

_EVENTS_A_SECOND: Final = 130
_PROGRESS_SECONDS: Final = 0.5
_FLAGS: Final = {
    "assets": "images, scripts, style sheets and the like",
    "errors": "answers other than 2xx and 304",
    "methods": "methods other than GET",
    "prefetches": "pages that a browser loads in advance",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("files", metavar="FILE", nargs="+", help="a log, or - for standard input")
    formats = parser.add_argument_group("format")
    formats.add_argument(
        "--format",
        default="auto",
        choices=("auto", "combined", "vhost_combined", "json", "cloudfront", "alb", "table"),
        help="combined (or common) and vhost_combined, of Apache and nginx; json of nginx, Caddy, Traefik; "
        "cloudfront; alb; table: CSV with a header, or lines of JSON (default: by the first lines)",
    )
    formats.add_argument(
        "--format-regex",
        metavar="PATTERN",
        help="a regular expression with the groups time, and request or target; and method, status, address, "
        "referrer, ua, host",
    )
    formats.add_argument(
        "--columns",
        metavar="FIELD=COLUMN,…",
        default="",
        help="with --format table, the columns of time, target, address, referrer, ua, host, title, name, "
        "distinct_id, tag, language, if they have other names",
    )
    where = parser.add_argument_group("website")
    where.add_argument(
        "--site",
        metavar="HOST=UUID",
        action="append",
        default=[],
        help="the website of a host name in the logs; may be repeated. Other hosts are left out",
    )
    where.add_argument("--server", metavar="URL", help="the Umami server (default: UMAMI_URL)")
    where.add_argument("--hostname", help="the host name, where the log has none (default: UMAMI_HOSTNAME)")
    what = parser.add_argument_group("what is sent")
    for name, kind in _FLAGS.items():
        what.add_argument(f"--{name}", action="store_true", help=f"also {kind}")
    what.add_argument(
        "--bots",
        choices=("skip", "tag", "keep"),
        default="skip",
        help="leave bots out, by Umami's own rule; tag them `bot`; or send them (default: %(default)s)",
    )
    for name, kind in (
        ("--exclude", "leave out these paths, such as '/admin/*'"),
        ("--include", "send only these paths"),
        ("--exclude-ip", "leave out these addresses and networks"),
        ("--exclude-ua", "leave out these User-Agents, as patterns such as '*monitor*'"),
    ):
        what.add_argument(
            name, metavar="PATTERN", action="append", default=[], help=f"{kind}; may be repeated"
        )
    what.add_argument(
        "--since", metavar="TIME", type=_moment, help="only from this time on: 2026-01-31, or with a time"
    )
    what.add_argument("--until", metavar="TIME", type=_moment, help="only before this time")
    what.add_argument("--anonymize-ip", action="store_true", help="set the last part of each address to zero")
    what.add_argument(
        "--without-time", action="store_true", help="for a server before Umami 2.17, which stores none"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--dry-run", action="store_true", help="count, and send nothing")
    how.add_argument("--yes", action="store_true", help="start without counting first and without asking")
    how.add_argument("--rate", metavar="NUMBER", type=float, help="send at most so many page views a second")
    how.add_argument("--follow", action="store_true", help="go on with what is added to the last log")
    how.add_argument(
        "--state",
        metavar="FILE",
        help="where to keep how far each log was imported (default: in the folder for the user's state)",
    )
    how.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Imports the logs."""
    from ._import.filters import Filter
    from ._import.importer import Importer, UnknownFormatError

    sites = dict(_pair(each, "--site", "HOST=UUID") for each in arguments.site)
    sites = {host.lower(): website for host, website in sites.items()}
    try:
        chosen = Filter(
            **{name: getattr(arguments, name) for name in _FLAGS},
            bots=arguments.bots,
            exclude=arguments.exclude,
            include=arguments.include,
            exclude_ip=arguments.exclude_ip,
            exclude_ua=arguments.exclude_ua,
            since=arguments.since,
            until=arguments.until,
            sites=sites,
        )
        make_parser = _parser(arguments)
    except ModuleNotFoundError as error:
        raise CommandError(f"{error}, or use --bots keep", WRONG) from error
    except ValueError as error:
        raise CommandError(str(error), WRONG) from error
    if arguments.rate is not None and not arguments.rate > 0:
        raise CommandError("--rate must be a number of page views a second, above 0", WRONG)
    shown = _Progress()
    counts_first = arguments.dry_run or not (arguments.yes or arguments.follow or "-" in arguments.files)
    try:
        if counts_first:
            counter = Importer(chosen, make_parser, shown.show)
            with _stopping(counter):
                for path in arguments.files:
                    counter.scan(path)
            shown.clear()
            if counter.stopped.is_set():
                return INTERRUPTED
            _say_found(counter.counts, arguments)
            if arguments.dry_run:
                return OK
            if not _is_wanted():
                raise CommandError("nothing was sent")
        return _send(arguments, chosen, make_parser, sites, shown)
    except (UnknownFormatError, EOFError, ModuleNotFoundError) as error:
        raise CommandError(str(error)) from error
    finally:
        shown.clear()


def _send(
    arguments: argparse.Namespace, chosen: Any, make_parser: Any, sites: dict[str, str], shown: "_Progress"
) -> int:
    import umami

    from ._import.checkpoint import Checkpoints
    from ._import.importer import OldServerError, Sender
    from ._import.outstanding import Outstanding, Watched

    outstanding = Outstanding()
    reports: dict[str, int] = {}

    def report(error: Any) -> None:
        name = f"{error.kind}: {error.reason}"
        reports[name] = reports.get(name, 0) + error.count

    server: Any = {"url_base": arguments.server} if arguments.server else {}
    exporter = Watched(umami.exporters.umami_exporter(**server), outstanding.settle)
    settings: dict[str, Any] = {
        "exporter": exporter,
        "before_send": outstanding.before_send,
        "on_error": report,
    }
    if arguments.hostname:
        settings["hostname"] = arguments.hostname
    if sites:
        settings["website_id"] = next(iter(sites.values()))
        settings.setdefault("hostname", next(iter(sites)))
    logging.getLogger("umami").setLevel(logging.CRITICAL)  # the result says it all
    client = umami.Client(**settings, shutdown_timeout=0, spool=None, enabled=True, mode="queued")
    _check_site(client)
    try:
        checkpoints = Checkpoints(_state_file(arguments, sites))
    except ValueError as error:
        raise CommandError(f"{error}. Name another file with --state.", WRONG) from error
    sender = Sender(
        client,
        outstanding,
        checkpoints,
        chosen,
        make_parser,
        shown.show,
        sites=sites,
        anonymize=arguments.anonymize_ip,
        tag_bots=arguments.bots == "tag",
        with_time=not arguments.without_time,
        rate=arguments.rate,
    )
    shown.sends(sender, client)
    try:
        with _stopping(sender):
            for number, path in enumerate(arguments.files, 1):
                follows = arguments.follow and number == len(arguments.files)
                sender.send(path, follow=follows)
                while follows and not sender.stopped.is_set():  # its successor, after a rotation
                    sender.send(path, follow=True)
                if sender.stopped.is_set():
                    break
    except OldServerError as error:
        raise CommandError(f"{error} Use --without-time to import anyway.") from error
    finally:
        shown.clear()
    stats = client.queue_stats()
    _say_sent(sender.counts, stats, reports, arguments)
    if sender.stopped.is_set():
        complain("interrupted; the same command goes on where this one stopped")
        return INTERRUPTED
    return FAILED if stats.rejected or stats.pending or stats.dropped else OK


def _check_site(client: Any) -> None:
    """Refuse to start where each page view would be refused: without a website or a host name."""
    import umami

    try:
        with umami.testing.capture():
            client.new_page_view("", "/")
    except umami.errors.ValidationError as error:
        raise CommandError(
            f"{error} Set UMAMI_WEBSITE_ID and UMAMI_HOSTNAME, or use --site HOST=UUID and --hostname.", WRONG
        ) from error


def _parser(arguments: argparse.Namespace) -> Any:
    from ._import.formats import EXTRA, FIELDS, FORMATS, pattern, table

    if arguments.format_regex is not None:
        parse = pattern(arguments.format_regex)
        return lambda: parse
    if arguments.format == "table":
        columns = dict(
            _pair(each, "--columns", "FIELD=COLUMN") for each in arguments.columns.split(",") if each
        )
        unknown = columns.keys() - {*FIELDS, *EXTRA}
        if unknown:
            raise ValueError(f"--columns has unknown fields: {', '.join(sorted(unknown))}")
        return lambda: table(columns)
    return None if arguments.format == "auto" else FORMATS[arguments.format]


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (name.strip() and separator and value.strip()):
        raise CommandError(f"{option} must be {form}, got {printable(text)}", WRONG)
    return name.strip(), value.strip()


def _moment(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()  # without a zone, local time
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time such as 2026-01-31 or 2026-01-31T12:00"
        ) from None


def _state_file(arguments: argparse.Namespace, sites: dict[str, str]) -> Path:
    """Return where the checkpoints of imports to this server and these websites are."""
    if arguments.state:
        return Path(arguments.state)
    from . import _logins

    names = ("UMAMI_URL", "UMAMI_URL_BASE", "UMAMI_WEBSITE_ID")
    where = "\n".join(
        [
            arguments.server or "",
            *(os.environ.get(name, "") for name in names),
            *map(repr, sorted(sites.items())),
        ]
    )
    return _logins.folder() / f"import-{hashlib.sha256(where.encode()).hexdigest()[:16]}.json"


def _stopping(importer: "Importer") -> AbstractContextManager[None]:
    """Have the first Ctrl-C or SIGTERM stop the import in good order, and the second one at once."""

    def stop(*_: Any) -> None:
        if importer.stopped.is_set():
            raise KeyboardInterrupt
        importer.stopped.set()

    return handled_by(stop, signal.SIGINT, signal.SIGTERM)


def _is_wanted() -> bool:
    """Ask, on a terminal."""
    if not (is_terminal() and sys.stdin.isatty()):
        return True
    print("Import? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


# What is printed.


def _say_found(counts: "Counts", arguments: argparse.Namespace) -> None:
    if arguments.json and arguments.dry_run:
        show_json(_record(counts))
        return
    for line in _lines(counts):
        say(line)
    if counts.first is not None and counts.last is not None:
        first, last = (
            datetime.fromtimestamp(each).astimezone().isoformat(" ", "minutes")
            for each in (counts.first, counts.last)
        )
        say(f"from {first} to {last}")
    rate = min(_EVENTS_A_SECOND, arguments.rate or _EVENTS_A_SECOND)
    seconds = _duration(counts.sent / rate)
    say(f"{counted(counts.sent, 'page view')} to send: about {seconds} at {rate:g} a second")


def _say_sent(counts: "Counts", stats: Any, reports: dict[str, int], arguments: argparse.Namespace) -> None:
    if arguments.json:
        outcome = {"delivered": stats.delivered, "rejected": stats.rejected, "dropped": stats.dropped}
        show_json({**_record(counts), **outcome, "unanswered": stats.pending, "reasons": reports})
        return
    for line in _lines(counts):
        say(line)
    say(f"{stats.delivered:>12,}  delivered")
    for name, count in sorted(reports.items()):
        if name.startswith(("rejected", "dropped")):
            say(f"{count:>12,}  {name}")
    if stats.pending:
        say(f"{stats.pending:>12,}  not answered; the next run sends them")
    if stats.last_error and (stats.pending or stats.rejected):
        complain(f"the last error: {stats.last_error}")


def _lines(counts: "Counts") -> Iterator[str]:
    yield f"{counts.read:>12,}  lines read"
    parts = [
        ("imported before", counts.before),
        ("headers", counts.headers),
        ("malformed", counts.malformed),
        *((f"left out: {reason}", count) for reason, count in counts.left_out.most_common()),
        ("page views", counts.sent),
    ]
    for name, count in parts:
        if count or name == "page views":
            yield f"{count:>12,}  {name}"
    for path, number in counts.examples:
        yield f"{'':12}  malformed: {path}, line {number:,}"


def _record(counts: "Counts") -> dict[str, Any]:
    return {
        "read": counts.read,
        "imported_before": counts.before,
        "headers": counts.headers,
        "malformed": counts.malformed,
        "left_out": dict(counts.left_out),
        "sent": counts.sent,
    }


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class _Progress:
    """One line on stderr, if that is a terminal: how far the log is, and how fast it goes."""

    def __init__(self) -> None:
        self._on = is_terminal(sys.stderr)
        self._due = self._began = monotonic()
        self._sender: Sender | None = None
        self._stats: Callable[[], Any] | None = None
        self._is_shown = False

    def sends(self, sender: "Sender", client: Any) -> None:
        """Show what is delivered from now on."""
        self._sender, self._stats = sender, client.queue_stats
        self._began = monotonic()

    def show(self, log: "Log") -> None:
        """Show how far it is. Called often; most calls return at once."""
        now = monotonic()
        if not self._on or now < self._due:
            return
        self._due = now + _PROGRESS_SECONDS
        parts = [printable(Path(log.path).name)]
        if log.size:
            parts.insert(0, f"{min(1.0, log.position / log.size):4.0%}")
        if self._sender is not None and self._stats is not None:
            stats = self._stats()
            done = stats.delivered + stats.rejected
            parts += [f"{self._sender.counts.read:,} lines", f"{done:,} sent"]
            parts.append(f"{done / max(now - self._began, 0.1):.0f}/s")
            if log.size and log.position > log.size // 100:
                left = (now - self._began) * (log.size / log.position - 1)
                parts.append(f"{_duration(left)} left")
            if stats.pending and stats.last_error:
                parts.append("the server does not take them")
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write("\r" + "  ".join(parts)[:width].ljust(width))
        sys.stderr.flush()
        self._is_shown = True

    def clear(self) -> None:
        """Remove the line."""
        if self._is_shown:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write("\r" + " " * width + "\r")
            sys.stderr.flush()
            self._is_shown = False
