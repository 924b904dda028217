"""The ``umami`` command. Each subcommand registers its arguments and the function that runs it."""

from __future__ import annotations

import argparse
import ipaddress
import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ._clock import monotonic

if TYPE_CHECKING:
    from umami.collector import Collector

_PROGRESS_SECONDS: Final = 0.5
_REMEMBERED_REQUESTS: Final = 1000


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: The arguments; by default, those of the process.

    Returns:
        The exit code.

    Example:
        ```python
        main(["collector", "--stop-after", "60"])
        ```
    """
    parser = argparse.ArgumentParser(prog="umami", description="Tools for the Umami analytics client.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_collector(commands)
    spool = _add_spool(commands)
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["spool"]:  # whose options may stand anywhere, which argparse allows of no subcommand
        return _run_spool(spool.parse_intermixed_args(words[1:]))
    arguments = parser.parse_args(words)
    code: int = arguments.run(arguments)
    return code


def _add_collector(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "collector",
        help="run a server that answers as Umami does, for development and tests",
        description="Runs a server that answers as Umami does, for development and tests. The first line of "
        "its output is its address. Open that in a browser to see the events it received.",
    )
    parser.set_defaults(run=_run_collector)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    parser.add_argument("--database", metavar="FILE", help="SQLite file to keep events in (default: memory)")
    parser.add_argument(
        "--no-auto-register",
        dest="auto_register",
        action="store_false",
        help="refuse events for websites that have not been created",
    )
    parser.add_argument("--username", default="admin", help="user name for the login (default: %(default)s)")
    parser.add_argument("--password", default="umami", help="password for the login (default: %(default)s)")
    parser.add_argument(
        "--umami",
        metavar="VERSION",
        default="3.1",
        help="version of Umami to answer as, such as 2.15, or 'cloud' (default: %(default)s)",
    )
    parser.add_argument(
        "--node", type=int, default=22, help="version of Node.js to answer as (default: %(default)s)"
    )
    parser.add_argument("--stop-after", metavar="SECONDS", type=float, help="stop after this time")
    parser.add_argument("--quiet", action="store_true", help="print only the address")
    parser.add_argument(
        "--allow-host",
        dest="allow_hosts",
        metavar="NAME",
        action="append",
        default=[],
        help="serve the page under this host name too, not only localhost and addresses; may be repeated",
    )
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        help="allow a --host that other machines can reach; they can then send and read events",
    )


def _run_collector(arguments: argparse.Namespace) -> int:
    if not arguments.allow_remote and not _is_loopback(arguments.host):
        return _fail(f"{arguments.host} is not a loopback address: add --allow-remote to allow it")
    try:
        from umami.collector import Collector
    except ModuleNotFoundError as error:
        return _fail(str(error))
    try:
        collector = Collector(
            arguments.host,
            arguments.port,
            arguments.database,
            arguments.auto_register,
            arguments.username,
            arguments.password,
            arguments.umami,
            arguments.node,
            keep_requests=_REMEMBERED_REQUESTS,
            allow_hosts=arguments.allow_hosts,
        )
    except ValueError as error:
        return _fail(str(error))
    with _interrupted_by(signal.SIGINT, signal.SIGTERM):
        try:
            collector.start()
            print(f"Umami collector listening on {collector.url}", flush=True)
            _wait(collector, arguments.stop_after, show=not arguments.quiet and sys.stdout.isatty())
        except OSError as error:
            return _fail(f"cannot listen on {arguments.host}:{arguments.port}: {error.strerror}")
        except KeyboardInterrupt:
            pass
        finally:
            collector.stop()
    return 0


def _wait(collector: Collector, seconds: float | None, *, show: bool) -> None:
    """Waits for so many seconds, or until it is interrupted, and shows the counts meanwhile."""
    end = math.inf if seconds is None else monotonic() + seconds
    try:
        while (left := end - monotonic()) > 0:
            if show:
                counts = f"{collector.event_count:,} events, {collector.request_count:,} requests"
                print(f"\r{counts}  (press Ctrl+C to stop)", end="", flush=True)
            time.sleep(min(left, _PROGRESS_SECONDS))
    finally:
        if show:
            print()


def _add_spool(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "spool",
        help="list, send or delete the events in a spool",
        description="Lists the files in a spool's folder, sends their events, or deletes them.",
    )
    parser.add_argument("action", choices=("list", "send", "clear"), help="list, send or delete")
    parser.add_argument(
        "folder", nargs="?", default=os.environ.get("UMAMI_SPOOL"), help="the folder (default: UMAMI_SPOOL)"
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=60.0,
        help="stop sending after this time (default: %(default)s)",
    )
    parser.add_argument(
        "--damaged",
        action="store_true",
        help="also send the events that can be read from damaged files",
    )
    parser.add_argument("--yes", action="store_true", help="delete without asking")
    return parser


def _run_spool(arguments: argparse.Namespace) -> int:
    if not arguments.folder or not Path(arguments.folder).is_dir():
        return _fail(f"{arguments.folder or 'UMAMI_SPOOL'} is not a folder: pass the spool's folder")
    from umami.errors import ValidationError

    actions = {"list": _list_spool, "send": _send_spool, "clear": _clear_spool}
    try:
        return actions[arguments.action](arguments)
    except (OSError, ValueError, ValidationError) as error:
        return _fail(str(error))


def _list_spool(arguments: argparse.Namespace) -> int:
    from umami import spool

    files = spool.files(arguments.folder)
    for file in files:
        events = "?" if file.events is None else f"{file.events:,}"
        where, name = _printable(file.exporter or "-"), _printable(file.path.name)
        print(f"{events:>10} events  {file.size:>12,} bytes  {file.state:10}  {where}  {name}")
    waiting = [file.events or 0 for file in files if file.state == "waiting"]
    print(f"Waiting to be sent: {_counted(sum(waiting), 'event')} in {_counted(len(waiting), 'file')}.")
    return 0


def _printable(text: str) -> str:
    """Returns a text for a terminal, with control characters escaped."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _send_spool(arguments: argparse.Namespace) -> int:
    import umami
    from umami import spool

    if arguments.damaged:
        print(f"Read from damaged files: {_counted(spool.read_damaged(arguments.folder), 'event')}.")
    if refused := spool.read_rejected(arguments.folder):
        print(f"Sending again after a rejection: {_counted(refused, 'event')}.")
    client = umami.Client(spool=arguments.folder, rejected=arguments.folder, shutdown_timeout=0)
    end = monotonic() + arguments.timeout
    with _interrupted_by(signal.SIGINT, signal.SIGTERM):
        try:
            while not client.flush(max(0.0, min(_PROGRESS_SECONDS, end - monotonic()))):
                stats = client.queue_stats()
                if sys.stdout.isatty():
                    print(f"\r{stats.delivered:,} sent, {stats.pending:,} left", end="", flush=True)
                if monotonic() >= end:
                    break
        except KeyboardInterrupt:
            pass
    stats = client.queue_stats()
    print(
        f"\r{stats.delivered:,} sent, {stats.rejected:,} rejected, {sum(stats.dropped.values()):,} dropped, "
        f"{stats.pending:,} left"
    )
    if stats.pending:
        return _fail(
            f"not all events were sent: {stats.last_error or 'the time was too short, see --timeout'}", 1
        )
    left = [file for file in spool.files(arguments.folder) if file.state == "waiting"]
    if left:
        names = ", ".join(sorted({file.exporter or "?" for file in left}))
        return _fail(
            f"{_counted(sum(file.events or 0 for file in left), 'event')} not sent, because this command has "
            f"no exporter named {names}. Use a client with that exporter, or with that server's user name "
            "and password in url_base.",
            1,
        )
    return 0


def _clear_spool(arguments: argparse.Namespace) -> int:
    from umami import spool

    if not arguments.yes:
        print(f"Delete all events in {arguments.folder}? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            return _fail("nothing was deleted", 1)
    cleared = spool.clear(arguments.folder)
    events = sum(file.events or 0 for file in cleared)
    print(f"Deleted: {_counted(events, 'event')} in {_counted(len(cleared), 'file')}.")
    return 0


@contextmanager
def _interrupted_by(*signals: signal.Signals) -> Iterator[None]:
    """Makes each of the signals raise KeyboardInterrupt."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _fail(message: str, code: int = 2) -> int:
    print(f"umami: {_printable(message)}", file=sys.stderr)
    return code
