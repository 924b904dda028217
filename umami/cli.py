"""The ``umami`` command. Each subcommand adds its own arguments and says which function runs it."""

from __future__ import annotations

import argparse
import ipaddress
import math
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from umami.collector import Collector

_PROGRESS_SECONDS: Final = 0.5
_REMEMBERED_REQUESTS: Final = 1000


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: The arguments; those of the process when left out.

    Returns:
        The exit code.

    Example:
        ```python
        main(["collector", "--stop-after", "60"])
        ```
    """
    parser = argparse.ArgumentParser(prog="umami", description="Tools around the Umami analytics client.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_collector(commands)
    arguments = parser.parse_args(argv)
    code: int = arguments.run(arguments)
    return code


def _add_collector(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "collector",
        help="run an Umami stand-in for development and tests",
        description="Runs a server that answers as Umami does, for development and tests. Its first line of "
        "output says where it listens; a page there shows what has arrived.",
    )
    parser.set_defaults(run=_run_collector)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    parser.add_argument("--database", metavar="FILE", help="SQLite file to keep events in (default: memory)")
    parser.add_argument(
        "--no-auto-register",
        dest="auto_register",
        action="store_false",
        help="refuse events of a website that has not been created",
    )
    parser.add_argument("--username", default="admin", help="name of its one user (default: %(default)s)")
    parser.add_argument("--password", default="umami", help="that user's password (default: %(default)s)")
    parser.add_argument("--stop-after", metavar="SECONDS", type=float, help="stop by itself after this long")
    parser.add_argument("--quiet", action="store_true", help="print the address and nothing else")
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        help="allow a --host that other machines can reach; whoever reaches it can send and read events",
    )


def _run_collector(arguments: argparse.Namespace) -> int:
    if not arguments.allow_remote and not _is_loopback(arguments.host):
        return _fail(f"{arguments.host} is not a loopback address; --allow-remote permits it")
    try:
        from umami.collector import Collector
    except ModuleNotFoundError as error:
        return _fail(str(error))
    collector = Collector(
        arguments.host,
        arguments.port,
        arguments.database,
        arguments.auto_register,
        arguments.username,
        arguments.password,
        keep_requests=_REMEMBERED_REQUESTS,
    )
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
    """Waits for the end of the time, for ever if there is none, and shows the counts meanwhile."""
    end = math.inf if seconds is None else time.monotonic() + seconds
    try:
        while (left := end - time.monotonic()) > 0:
            if show:
                counts = f"{collector.event_count:,} events, {collector.request_count:,} requests"
                print(f"\r{counts}  (Ctrl+C stops)", end="", flush=True)
            time.sleep(min(left, _PROGRESS_SECONDS))
    finally:
        if show:
            print()


@contextmanager
def _interrupted_by(*signals: signal.Signals) -> Iterator[None]:
    """Has each of the signals raise KeyboardInterrupt."""
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


def _fail(message: str) -> int:
    print(f"umami: {message}", file=sys.stderr)
    return 2
