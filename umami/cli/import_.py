"""`umami import`: sends the page views in the logs of web servers."""

import argparse
import hashlib
import signal
import sys
from contextlib import AbstractContextManager
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ._client import add_server, log_shown, resolved_settings, server_settings
from ._errors import FAILED, INTERRUPTED, OK, WRONG, CommandError
from ._import import report
from ._output import clear_progress, complain, is_terminal, printable
from ._parser import last_moment, moment
from ._signals import handled_by

if TYPE_CHECKING:
    from ._import.checkpoint import Checkpoints
    from ._import.filters import Filter
    from ._import.importer import Importer

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
zcat access.log.*.gz | umami import -               # from a pipe
"""

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
        metavar="FORMAT",
        default="auto",
        choices=("auto", "combined", "vhost_combined", "json", "cloudfront", "alb", "table"),
        help="the log's format; combined (or common) and vhost_combined, of Apache and nginx; json of nginx, "
        "Caddy, Traefik; cloudfront; alb; table: CSV with a header, or lines of JSON (default: by the first "
        "lines)",
    )
    formats.add_argument(
        "--format-regex",
        metavar="PATTERN",
        help="a regular expression with the groups time, and request or target; and method, status, address, "
        "referrer, ua, host",
    )
    formats.add_argument(
        "--columns",
        metavar="FIELD=COLUMN,...",
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
        "--since", metavar="TIME", type=_since, help="only from this time on: 2026-01-31, or with a time"
    )
    what.add_argument(
        "--until", metavar="TIME", type=_until, help="only up to this time; a date means all of that day"
    )
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
    add_server(parser)


def run(arguments: argparse.Namespace) -> int:
    """Imports the logs."""
    if sys.platform == "win32":  # where shells leave patterns to the command
        found = [glob(each) or [each] for each in arguments.files]  # noqa: PTH207 - some are absolute
        arguments.files = [name for names in found for name in names]
    from ._import.checkpoint import Checkpoints, WrongStateError, locked
    from ._import.importer import UnknownFormatError

    sites = {host.lower(): site for host, site in (_pair(each, "HOST=UUID") for each in arguments.site)}
    try:
        chosen, make_parser = _filter(arguments, sites), _parser(arguments)
    except ModuleNotFoundError as error:
        raise CommandError(f"{error}, or use --bots keep", WRONG) from error
    except ValueError as error:
        raise CommandError(str(error), WRONG) from error
    if arguments.rate is not None and not arguments.rate > 0:
        raise CommandError("--rate must be a number of page views a second, above 0", WRONG)
    state = _state_file(arguments, sites)
    with log_shown(verbose=arguments.verbose), report.Progress() as progress:
        try:
            if arguments.dry_run:
                return _scan(arguments, chosen, make_parser, progress, Checkpoints(state))
            _check_settings(arguments, sites)
            with locked(state) as is_free:
                if not is_free:
                    raise CommandError(
                        f"another import with the same {state} is running: wait for it, or name another "
                        "file with --state",
                        WRONG,
                    )
                checkpoints = Checkpoints(state)
                checkpoints.write()  # which shows now, and not after some events, whether it can
                if not (arguments.yes or arguments.follow or "-" in arguments.files):
                    code = _scan(arguments, chosen, make_parser, progress, checkpoints)
                    if code == INTERRUPTED:
                        return code
                    if not _is_wanted():
                        raise CommandError("nothing was sent")
                return _send(arguments, chosen, make_parser, progress, checkpoints, sites)
        except UnknownFormatError as error:
            raise CommandError(str(error), WRONG) from error
        except WrongStateError as error:
            raise CommandError(f"{error}. Name another file with --state", WRONG) from error
        except ModuleNotFoundError as error:
            raise CommandError(str(error)) from error


def _scan(
    arguments: argparse.Namespace,
    chosen: "Filter",
    make_parser: Any,
    progress: report.Progress,
    checkpoints: "Checkpoints",
) -> int:
    """Count what is in the logs, and say it."""
    from ._import.importer import Importer

    counter = Importer(chosen, make_parser, progress.show, checkpoints)
    with _stopping(counter):
        for path in arguments.files:
            counter.scan(path)
    clear_progress()
    if counter.stopped.is_set():
        complain("interrupted; nothing was sent")
        return INTERRUPTED
    report.say_found(counter.counts, arguments)
    return FAILED if counter.counts.damaged else OK


def _send(
    arguments: argparse.Namespace,
    chosen: "Filter",
    make_parser: Any,
    progress: report.Progress,
    checkpoints: "Checkpoints",
    sites: dict[str, str],
) -> int:
    import umami

    from ._import.importer import NoHostError, OldServerError, RefusedError, Sender, UnknownFormatError
    from ._import.outstanding import Outstanding, Watched

    outstanding = Outstanding()
    reports: dict[str, int] = {}

    def note(error: Any) -> None:
        name = f"{error.kind}: {error.reason}"
        reports[name] = reports.get(name, 0) + error.count

    website: Any = {"website_id": next(iter(sites.values()))} if sites else {}
    exporter = umami.exporters.umami_exporter(**server_settings(arguments))
    client = umami.Client(
        exporter=Watched(exporter, outstanding.settle),
        before_send=outstanding.before_send,
        on_error=note,
        shutdown_timeout=0,
        spool=None,
        rejected=None,
        mode="queued",
        **website,
    )
    sender = Sender(
        client,
        outstanding,
        chosen,
        make_parser,
        progress.show,
        checkpoints,
        sites=sites,
        hostname=arguments.hostname or resolved_settings({}).hostname or next(iter(sites), None),
        anonymize=arguments.anonymize_ip,
        tag_bots=arguments.bots == "tag",
        with_time=not arguments.without_time,
        rate=arguments.rate,
    )
    progress.sends(sender.counts, client)
    failure: CommandError | None = None
    try:
        with _stopping(sender):
            for number, path in enumerate(arguments.files, 1):
                follows = arguments.follow and number == len(arguments.files)
                while sender.send(path, follow=follows) and not sender.stopped.is_set():
                    pass  # its successor, after a rotation
                if sender.stopped.is_set():
                    break
    except OldServerError as error:
        raise CommandError(f"{error} Use --without-time to import anyway.") from error
    except RefusedError as error:
        raise CommandError(str(error)) from error
    except NoHostError:
        failure = CommandError("the log names no hosts: set UMAMI_HOSTNAME, or pass --hostname NAME", WRONG)
    except (UnknownFormatError, ModuleNotFoundError) as error:
        failure = CommandError(str(error), WRONG)
    except OSError as error:
        failure = CommandError(f"{error.filename or 'a log'}: {error.strerror or error}")
    clear_progress()
    stats = client.queue_stats()
    report.say_sent(sender.counts, stats, reports, arguments)
    if failure is not None:
        raise failure
    if sender.stopped.is_set():
        complain("interrupted; the same command goes on where this one stopped")
        return INTERRUPTED
    return FAILED if stats.rejected or stats.pending or stats.dropped or sender.counts.damaged else OK


def _check_settings(arguments: argparse.Namespace, sites: dict[str, str]) -> None:
    """Refuse to start where no page view could be sent."""
    settings = resolved_settings({})
    if not settings.enabled:
        raise CommandError("UMAMI_DISABLED is set: nothing would be sent. --dry-run works", WRONG)
    if not (sites or settings.website_id):
        raise CommandError("no website is set: set UMAMI_WEBSITE_ID, or pass --site HOST=UUID", WRONG)
    server_settings(arguments)


def _filter(arguments: argparse.Namespace, sites: dict[str, str]) -> "Filter":
    from ._import.filters import Filter

    return Filter(
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


def _parser(arguments: argparse.Namespace) -> Any:
    from ._import.formats import EXTRA, FIELDS, FORMATS, pattern, table

    if arguments.format_regex is not None:
        try:
            parse = pattern(arguments.format_regex)
        except ValueError as error:
            raise ValueError(f"--format-regex: {error}") from error
        return lambda: parse
    if arguments.format == "table":
        columns = dict(_pair(each, "FIELD=COLUMN") for each in arguments.columns.split(",") if each)
        unknown = columns.keys() - {*FIELDS, *EXTRA}
        if unknown:
            raise ValueError(f"--columns has unknown fields: {', '.join(sorted(unknown))}")
        return lambda: table(columns)
    if arguments.columns:
        raise ValueError("--columns needs --format table")
    return None if arguments.format == "auto" else FORMATS[arguments.format]


def _pair(text: str, form: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (name.strip() and separator and value.strip()):
        option = "--site" if form == "HOST=UUID" else "--columns"
        raise CommandError(f"{option} must be {form}, got {printable(text)}", WRONG)
    return name.strip(), value.strip()


def _since(text: str) -> float:
    return moment(text).timestamp()


def _until(text: str) -> float:
    return last_moment(text).timestamp()


def _state_file(arguments: argparse.Namespace, sites: dict[str, str]) -> Path:
    """Return where the checkpoints of imports to this server and these websites are."""
    if arguments.state:
        return Path(arguments.state)
    from . import _logins

    settings = resolved_settings({} if arguments.server is None else {"url_base": arguments.server})
    server = _logins.one_form(settings.url_base or "")
    websites = sorted(sites.items()) if sites else settings.website_id
    name = hashlib.sha256(f"{server} {websites}".encode()).hexdigest()[:16]
    return _logins.folder() / f"import-{name}.json"


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
