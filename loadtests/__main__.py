"""The command line: `python -m loadtests enqueue`, `all`, `report`, `guard`, `setup`, `compatibility`."""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from . import environments, guard, report
from .compatibility import cli as compatibility
from .results import as_json
from .runner import run_scenario
from .scenarios import SCENARIOS
from .table import text

QUICK_ROUNDS: Final = 2
FULL_ROUNDS: Final = 7
RESULTS: Final = Path(__file__).with_name("results")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["compatibility"]:
        return compatibility.main(arguments[1:])
    parser = argparse.ArgumentParser(prog="python -m loadtests", description=__doc__)
    what = [*SCENARIOS, "all", "report", "guard", "setup"]
    parser.add_argument("what", choices=what, help="a scenario, `all`, or one of the last three commands")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the results to this file, beside those of other scenarios; report: read them from it",
    )
    parser.add_argument("--quick", action="store_true", help="fewer events and rounds")
    parser.add_argument(
        "--repeat", type=int, metavar="N", help=f"rounds ({QUICK_ROUNDS} quick, {FULL_ROUNDS} full)"
    )
    parser.add_argument("--no-peers", action="store_true", help="measure only this client and the floor")
    parser.add_argument("--update", action="store_true", help="guard: record the counts as the new baseline")
    options = parser.parse_args(arguments)
    if options.what == "setup":
        return _setup()
    if options.what == "guard":
        return guard.main(update=options.update)
    if options.what == "report":
        return report.main(options.json or report.PERFORMANCE)
    if not environments.is_clean():
        print(
            "this client runs in the current environment; for one without other packages, run: setup",
            file=sys.stderr,
        )
    environments.compile_ours()
    names = list(SCENARIOS) if options.what == "all" else [options.what]
    rounds = options.repeat or (QUICK_ROUNDS if options.quick else FULL_ROUNDS)
    now = meta(quick=options.quick)
    results: dict[str, Any] = {"meta": now, "scenarios": {}}
    file = options.json or RESULTS / f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{options.what}.json"
    if options.what != "all" and file.exists():
        results = json.loads(file.read_text())
    for name in names:
        scenario = SCENARIOS[name](options.quick)
        result = {**run_scenario(scenario, rounds, peers=not options.no_peers), "meta": now}
        results["scenarios"][name] = result
        print(text(name, result), end="\n\n", flush=True)
        _write(file, results)
    print(f"written to {file}", file=sys.stderr)
    return 0


def _setup() -> int:
    wrong = environments.install()
    for line in wrong:
        print(f"left out: {line}", file=sys.stderr)
    return 1 if wrong else 0


def _write(file: Path, results: dict[str, Any]) -> None:
    """Write the results so far, so that an interrupted run keeps them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(as_json(results))


def meta(*, quick: bool) -> dict[str, Any]:
    """Return time, machine and versions of the run."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=environments.ROOT, check=False, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    return {
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "commit": commit,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "quick": quick,
        "clean": environments.is_clean(),
        "client": os.environ.get("LOADTEST_CLIENT"),
        "versions": environments.versions(),
    }


def _processor() -> str:
    cores = f"{os.cpu_count()} cores"
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return cores
    model = next(
        (line for line in info.read_text().splitlines() if line.startswith("model name")), ": unknown"
    )
    return f"{cores}, {model.partition(':')[2].strip()}"


if __name__ == "__main__":
    sys.exit(main())
