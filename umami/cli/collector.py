"""`umami collector`: a server that answers as Umami does."""

from __future__ import annotations

import argparse
import ipaddress
import math
import os
import signal
import sqlite3
import sys
import time
from typing import TYPE_CHECKING, Final

from umami._clock import monotonic

from ._errors import OK, WRONG, CommandError
from ._output import is_terminal, show_progress
from ._signals import interrupted_by

if TYPE_CHECKING:
    from umami.collector import Collector

NAME: Final = "collector"
SUMMARY: Final = "run a server that answers as Umami does, for development and tests"
USAGE: Final = "umami collector [--port PORT] [options]"
DESCRIPTION: Final = """\
Runs a server that answers as Umami does, for development and tests. The first line of its output is its
address. Open that in a browser to see the events it received.
"""
EXAMPLES: Final = """\
umami collector                          # on a free port, until Ctrl-C
umami collector --port 3000 --umami 2.15 # as an older Umami
umami collector --database events.db     # keeps its events
"""

_PROGRESS_SECONDS: Final = 0.5
_REMEMBERED_REQUESTS: Final = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add_port(parser)
    parser.add_argument("--database", metavar="FILE", help="SQLite file to keep events in (default: memory)")
    parser.add_argument(
        "--no-auto-register",
        dest="auto_register",
        action="store_false",
        help="refuse events for websites that have not been created",
    )
    parser.add_argument(
        "--username",
        metavar="NAME",
        default=os.environ.get("UMAMI_USERNAME") or "admin",
        help="user name for the login (default: UMAMI_USERNAME, or admin)",
    )
    parser.add_argument(
        "--password",
        metavar="TEXT",
        default=os.environ.get("UMAMI_PASSWORD") or "umami",
        help="password for the login (default: UMAMI_PASSWORD, or umami)",
    )
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


def add_port(parser: argparse.ArgumentParser) -> None:
    """Adds the option `--port`."""
    parser.add_argument(
        "--port", metavar="PORT", type=_port, default=0, help="port to listen on (default: a free one)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the server until it is stopped."""
    if not arguments.allow_remote and not _is_loopback(arguments.host):
        raise CommandError(
            f"{arguments.host} is not a loopback address: add --allow-remote to allow it", WRONG
        )
    try:
        from umami.collector import Collector
    except ModuleNotFoundError as error:
        raise CommandError(str(error), WRONG) from error
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
        raise CommandError(str(error), WRONG) from error
    except sqlite3.Error as error:
        raise CommandError(f"{arguments.database}: {error}", WRONG) from error
    with interrupted_by(signal.SIGINT, signal.SIGTERM):
        try:
            start(collector, arguments.host, arguments.port)
            print(f"Umami collector listening on {collector.url}", flush=True)
            _wait(collector, arguments.stop_after, show=not arguments.quiet)
        except KeyboardInterrupt:
            pass
        finally:
            collector.stop()
    return OK


def start(collector: Collector, host: str, port: int) -> None:
    """Starts a collector; raises a CommandError if it cannot listen."""
    try:
        collector.start()
    except OSError as error:
        raise CommandError(f"cannot listen on {host}:{port}: {error.strerror or error}", WRONG) from error


def _wait(collector: Collector, seconds: float | None, *, show: bool) -> None:
    """Waits for so many seconds, or until it is interrupted, and shows the counts meanwhile."""
    end = math.inf if seconds is None else monotonic() + seconds
    try:
        while (left := end - monotonic()) > 0:
            if show:
                counts = f"{collector.event_count:,} events, {collector.request_count:,} requests"
                show_progress(f"{counts}  (press Ctrl+C to stop)")
            time.sleep(min(left, _PROGRESS_SECONDS))
    finally:
        if show and is_terminal(sys.stderr):
            print(file=sys.stderr)  # the counts stay


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 65_536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: use 1 to 65535, or 0 for a free one")
    return int(text)
