"""`umami spool`: lists, sends or deletes the events in a spool."""

import argparse
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from umami._clock import monotonic

from ._client import log_shown
from ._errors import INTERRUPTED, OK, WRONG, CommandError
from ._output import clear_progress, counted, printable, say, show_progress
from ._signals import interrupted_by

if TYPE_CHECKING:
    from umami.models import ErrorReport

NAME: Final = "spool"
SUMMARY: Final = "list, send or delete the events in a spool"
USAGE: Final = "umami spool {list,send,clear} [FOLDER] [options]"
DESCRIPTION: Final = "Lists the files in a spool's folder, sends their events, or deletes them.\n"
EXAMPLES: Final = """\
umami spool list /var/lib/shop/umami   # what is waiting
umami spool send /var/lib/shop/umami   # send it to UMAMI_URL
umami spool clear /var/lib/shop/umami  # delete it, after a question
"""

_PROGRESS_SECONDS: Final = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("action", choices=("list", "send", "clear"), help="list, send or delete")
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        default=os.environ.get("UMAMI_SPOOL"),
        help="the folder (default: UMAMI_SPOOL)",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=60.0,
        help="stop sending after this time (default: %(default)g)",
    )
    parser.add_argument(
        "--damaged",
        action="store_true",
        help="also send the events that can be read from damaged files",
    )
    parser.add_argument("--yes", action="store_true", help="delete without asking")
    parser.add_argument("--verbose", action="store_true", help="print each request on stderr")


def run(arguments: argparse.Namespace) -> int:
    """Does what the action says."""
    if not arguments.folder or not Path(arguments.folder).is_dir():
        what = f"{arguments.folder} is not a folder" if arguments.folder else "no folder is given"
        raise CommandError(f"{what}: pass the spool's folder, or set UMAMI_SPOOL", WRONG)
    actions = {"list": _list_spool, "send": _send_spool, "clear": _clear_spool}
    try:
        return actions[arguments.action](arguments)
    except ValueError as error:
        raise CommandError(str(error), WRONG) from error


def _list_spool(arguments: argparse.Namespace) -> int:
    from umami import spool

    files = spool.files(arguments.folder)
    for file in files:
        events = "?" if file.events is None else f"{file.events:,}"
        where, name = printable(file.exporter or "-"), printable(file.path.name)
        print(f"{events:>10} events  {file.size:>12,} bytes  {file.state:10}  {where}  {name}")
    waiting = [file.events or 0 for file in files if file.state == "waiting"]
    print(f"Waiting to be sent: {counted(sum(waiting), 'event')} in {counted(len(waiting), 'file')}.")
    return OK


def _send_spool(arguments: argparse.Namespace) -> int:
    import umami
    from umami import spool

    if arguments.damaged:
        print(f"Read from damaged files: {counted(spool.read_damaged(arguments.folder), 'event')}.")
    if refused := spool.read_rejected(arguments.folder):
        print(f"Sending again after a rejection: {counted(refused, 'event')}.")
    reasons: Counter[str] = Counter()

    def note(report: "ErrorReport") -> None:
        reasons[f"{report.kind}: {report.reason}"] += report.count

    end = monotonic() + arguments.timeout
    with log_shown(verbose=arguments.verbose):
        client = umami.Client(
            spool=arguments.folder, rejected=arguments.folder, shutdown_timeout=0, on_error=note
        )
        is_interrupted = False
        with interrupted_by(signal.SIGINT, signal.SIGTERM):
            try:
                while not client.flush(max(0.0, min(_PROGRESS_SECONDS, end - monotonic()))):
                    stats = client.queue_stats()
                    show_progress(f"{stats.delivered:,} sent, {stats.pending:,} left")
                    if monotonic() >= end:
                        break
            except KeyboardInterrupt:
                is_interrupted = True
        if not client.queue_stats().pending:
            client.shutdown()  # waits until all calls of `note` are made
    stats = client.queue_stats()
    clear_progress()
    print(
        f"{stats.delivered:,} sent, {stats.rejected:,} rejected, "
        f"{sum(stats.dropped.values()):,} dropped, {stats.pending:,} left"
    )
    for reason, count in sorted(reasons.items()):
        say(f"{count:>10,}  {reason}")
    if stats.rejected:
        say(f"Rejected events stay in {arguments.folder}, to be sent again.")
    if stats.pending and is_interrupted:
        raise CommandError("interrupted; what is left stays in the spool", INTERRUPTED)
    if stats.pending:
        raise CommandError(
            f"not all events were sent: {stats.last_error or 'the time was too short, see --timeout'}"
        )
    left = [file for file in spool.files(arguments.folder) if file.state == "waiting"]
    if left:
        names = ", ".join(sorted({file.exporter or "?" for file in left}))
        raise CommandError(
            f"{counted(sum(file.events or 0 for file in left), 'event')} not sent, because this command has "
            f"no exporter named {names}. Use a client with that exporter, or with that server's user name "
            "and password in url_base."
        )
    return OK


def _clear_spool(arguments: argparse.Namespace) -> int:
    from umami import spool

    if not arguments.yes:
        print(f"Delete all events in {arguments.folder}? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise CommandError("nothing was deleted")
    cleared = spool.clear(arguments.folder)
    events = sum(file.events or 0 for file in cleared)
    print(f"Deleted: {counted(events, 'event')} in {counted(len(cleared), 'file')}.")
    return OK
