"""The command line of the compatibility tests."""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from loadtests.environments import ROOT

from . import page
from .campaign import BATCH_SINCE, SCENARIOS, Plan, file_name, run, version
from .proxy import nginx_is_there
from .servers import NODE, CollectorServer, RealServer, Server

GENERATIONS: Final = (
    *("2.6", "2.11", "2.15", "2.16", "2.17", "2.19", "3.0.1", "3.0.3", "3.1", "3.3", "3.4", "cloud"),
    *("2.19/24", "3.0.1/24"),
)
"""The versions that the collector answers as, some of them on Node.js 24."""

RESULTS: Final = ROOT / "loadtests" / "results" / "compatibility"
_UNBATCHED: Final = 300


def main(arguments: Sequence[str]) -> int:
    """Run the campaigns; return 1 if a check fails."""
    parser = argparse.ArgumentParser(prog="python -m loadtests compatibility", description=__doc__)
    parser.add_argument(
        "--server",
        type=Path,
        action="append",
        metavar="FILE",
        help="JSON that describes a real server; may be repeated",
    )
    parser.add_argument(
        "--umami",
        action="append",
        metavar="VERSION[/NODE]",
        help="run the collector as this version; may be repeated (default: all, if there is no --server)",
    )
    parser.add_argument(
        "--scenario", action="append", choices=SCENARIOS, help="may be repeated (default: all)"
    )
    parser.add_argument(
        "--events", type=int, default=5000, help="events of the mixed scenario (default: %(default)s)"
    )
    parser.add_argument(
        "--limited", type=int, default=1000,
        help=f"events behind a rate limit (default: %(default)s; at most {_UNBATCHED} without a batch route)",
    )  # fmt: skip
    parser.add_argument(
        "--stall", type=float, default=120.0, help="give up after so many seconds without progress"
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=1500.0,
        help="give up a scenario after so many seconds (default: %(default)s)",
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FOLDER", help="folder for results (%(default)s)"
    )
    parser.add_argument(
        "--report", action="store_true", help="write docs/compatibility.json and .md; run nothing"
    )
    options = parser.parse_args(arguments)
    if options.report:
        return page.main(options.results)
    options.results.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server is left running
    with tempfile.TemporaryDirectory() as folder:
        servers: list[Server] = [RealServer(file) for file in options.server or ()]
        if not servers or options.umami:
            servers += [_collector(name, Path(folder)) for name in options.umami or GENERATIONS]
        failed = [server.umami for server in servers if not _campaigns(server, options)]
    return 1 if failed else 0


def _campaigns(server: Server, options: argparse.Namespace) -> bool:
    """Run each scenario on one server, and write the results; return whether all checks pass."""
    results: list[dict[str, Any]] = []
    for scenario in options.scenario or SCENARIOS:
        if SCENARIOS[scenario] is not None and not nginx_is_there():
            print(f"{server.name} {scenario}: left out, nginx is not installed", file=sys.stderr)
            continue
        count = options.events if SCENARIOS[scenario] is None else options.limited
        if SCENARIOS[scenario] is not None and version(server.umami) < BATCH_SINCE:
            count = min(count, _UNBATCHED)
        result = run(server, Plan(scenario, count, stall=options.stall, limit=options.limit), options.results)
        results.append({"date": _now(), "commit": _commit(), **result})
        print(page.line(result), flush=True)
        for text in page.complaints(result):
            print(f"    {text}", flush=True)
        file = options.results / f"{file_name(server, scenario)}.json"
        file.write_text(json.dumps(results[-1], indent=1) + "\n")
    return not any(page.complaints(result) for result in results)


def _collector(name: str, folder: Path) -> CollectorServer:
    umami, _, node = name.partition("/")
    return CollectorServer(umami, folder, int(node or NODE))


def _now() -> str:
    return f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"


def _commit() -> str:
    return subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, check=False, capture_output=True, text=True
    ).stdout.strip()
