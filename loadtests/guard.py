"""A regression test that counts instructions, with callgrind: of sends, and of settling an event.

Unlike times, the counts hardly vary from run to run. `baseline.json` has them for several versions of Python.
The test fails if a count is more than ten percent above. `python -m loadtests guard --update` records new
ones.
"""

import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from . import environments

BASELINE: Final = Path(__file__).with_name("baseline.json")
ALLOWED: Final = 0.10
BATCH: Final = 50
_SENDS: Final = 1_000
_BATCHES: Final = 40
_PATHS: Final = {
    "new_event": ("event", "empty", _SENDS, 1),
    "new_page_view": ("page_view", "empty", _SENDS, 1),
    "new_revenue_event": ("revenue", "empty", _SENDS, 1),
    "into a full queue": ("evict", "full", _SENDS, 1),
    "with a spool": ("spool", "spooled", _SENDS, 1),
    "settling an event": ("settle", "fill", _BATCHES, BATCH),
}
"""What is counted, by name: a path and a path to subtract, the number of runs, and the events of a run."""


def environment() -> str:
    """Return what the counts depend on, other than the code."""
    implementation, (major, minor, _) = platform.python_implementation(), platform.python_version_tuple()
    return f"{implementation} {major}.{minor}, {platform.machine()}"


Walk = tuple[str, int]
"""A path of `guarded`, and how often it is run."""


def instructions(walks: Iterable[Walk]) -> dict[Walk, int]:
    """Count the instructions of processes that each run a path so many times, their start included."""
    program = [sys.executable, "-m", "loadtests.guarded", *(f"{path}={times}" for path, times in walks)]
    # At first without callgrind: else one path compiles modules that the paths after it find compiled.
    for command in (program, ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *program]):
        done = subprocess.run(
            command,
            env=environments.variables("ours"),
            cwd=environments.import_path("ours")[0],
            check=False,
            capture_output=True,
            text=True,
        )
    counted = dict(re.findall(r"^==(\d+)== Collected : (\d+)", done.stderr, re.MULTILINE))
    children = re.findall(r"^(\d+) (\w+)=(\d+)$", done.stdout, re.MULTILINE)
    if done.returncode or not children or not all(child in counted for child, *_ in children):
        raise SystemExit(f"callgrind: {done.stderr.strip()[-500:]}")
    return {(path, int(times)): int(counted[child]) for child, path, times in children}


def counts(names: Iterable[str]) -> dict[str, int]:
    """Return the number of instructions per event, for each of some paths."""
    wanted = {name: _PATHS[name] for name in names}
    walks = {(path, times) for walk, less, times, _ in wanted.values() for path in (walk, less)}
    total = instructions(sorted(walks))
    return {
        name: (total[walk, times] - total[less, times]) // (times * events)
        for name, (walk, less, times, events) in wanted.items()
    }


def main(*, update: bool = False) -> int:
    """Compare with the baseline, or record it; return the exit code."""
    if shutil.which("valgrind") is None:
        print("valgrind is not installed: apt-get install valgrind", file=sys.stderr)
        return 2
    baseline: dict[str, dict[str, int]] = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    here = environment()
    known = baseline.get(here)
    if known is None and not update:
        print(f"no baseline for {here}: record one with python -m loadtests guard --update", file=sys.stderr)
        return 0
    print(f"counting instructions on {here}; about a minute …", file=sys.stderr, flush=True)
    # What has no baseline cannot get worse.
    counted = counts(_PATHS if update else known or ())
    worse = False
    for name, count in counted.items():
        before = (known or {}).get(name)
        change = "" if before is None else f"  baseline {before:>8,}  {count / before - 1:+.1%}"
        over = before is not None and count > before * (1 + ALLOWED)
        worse |= over
        print(f"{name:<20} {count:>8,} instructions{change}{'  TOO MUCH' if over else ''}")
    if update:
        BASELINE.write_text(json.dumps({**baseline, here: counted}, indent=1) + "\n")
        print(f"recorded in {BASELINE.name}")
        return 0
    return 1 if worse else 0
