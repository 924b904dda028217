"""Writes docs/performance.md and docs/performance.svg from a run's JSON; neither is ever written by hand."""

import json
import sys
from pathlib import Path
from typing import Any, Final

from . import environments, plot
from .results import Result, as_json
from .table import cells, goal_line, sink_share

PERFORMANCE: Final = environments.ROOT / "docs" / "performance.json"
_HEAD: Final = """# Performance

<!-- Written by `python -m loadtests report` from performance.json. Do not edit. -->

What a call costs, what an event costs, what a service feels, and how it grows: this client beside others of
its kind, and beside the *floor*, the least that a design like this one can cost (`to_json` into a deque, then
pre-encoded batches over one `httpx.Client`; no checks, no retries, no account).

Each measurement is a process of its own against a server of its own on the loopback interface, taken in turn
with the others and repeated. Shown are medians with their median absolute deviation; a goal is judged by the
ratio within each round. The other clients are pinned in `loadtests/peers.txt` and set up as their
documentation recommends. `make loadtest` measures here in minutes, `make loadtest-full` makes this page.
"""


def main(file: Path) -> int:
    """Write both from `file`, and keep `file` as docs/performance.json; return the exit code."""
    if not file.exists():
        print(f"{file} is not there: python -m loadtests all --json {file}", file=sys.stderr)
        return 1
    results: dict[str, Any] = json.loads(file.read_text())
    page = PERFORMANCE.with_suffix(".md")
    picture = PERFORMANCE.with_suffix(".svg")
    drawn = plot.draw(results["scenarios"], picture)
    PERFORMANCE.write_text(as_json(results))
    page.write_text(markdown(results, picture.name if drawn else None))
    print(
        f"wrote {page}{f' and {picture}' if drawn else ', no plot (no matplotlib, or nothing to draw)'}",
        file=sys.stderr,
    )
    return 0


def markdown(results: dict[str, Any], picture: str | None) -> str:
    """Return the page for a run's results."""
    parts = [_HEAD, _about(results["meta"], results["scenarios"])]
    if picture:
        parts.append(f"![What a send and a delivered event cost]({picture})\n")
    parts += [_section(name, result) for name, result in results["scenarios"].items()]
    return "\n".join(parts)


def _about(meta: dict[str, Any], scenarios: dict[str, Result]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in meta["versions"].items())
    goals = [goal for result in scenarios.values() for goal in result["goals"] if goal["met"] is not None]
    where = f"Python {meta['python']}, {meta['system']}, {meta['processor']}"
    lines = [
        f"{meta['date']}, commit {meta['commit']}, {where}. {versions}.",
        "",
        f"{sum(goal['met'] for goal in goals)} of {len(goals)} goals are met.",
    ]
    if meta["client"]:
        lines += ["", f"Ours was taken from {meta['client']}."]
    if not meta["clean"]:
        lines += ["", "Ours ran in the environment of its developers, with more installed than it needs."]
    if meta["quick"]:
        lines += ["", "This was a quick run: few events and few rounds."]
    return "\n".join([*lines, ""])


def _section(name: str, result: Result) -> str:
    header, *rows = cells(result)
    lines = [f"## {name}", "", result["question"], "", result["method"], "", _line(header)]
    lines.append("|---|" + "---:|" * (len(header) - 1))
    lines += [_line(row) for row in rows]
    lines.append("")
    goals = [goal_line(goal) for goal in result["goals"]]
    lines += [f"- **{verdict}**: {sentence}" for verdict, sentence in goals]
    if goals:
        lines.append("")
    lines += [f"- {case} was left out: {reason}" for case, reason in result["left_out"].items()]
    if result["left_out"]:
        lines.append("")
    said = [f"Rounds: {result['rounds']}"]
    share = sink_share(result)
    if share is not None:
        said.append(f"the server took at most {share:.0f} % of a core")
    said.append(f"load average {result['load'][0]} before and {result['load'][1]} after")
    lines += [f"{'; '.join(said)}.", ""]
    return "\n".join(lines)


def _line(row: list[str]) -> str:
    return f"| {' | '.join(row)} |"
