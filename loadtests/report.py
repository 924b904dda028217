"""Writes docs/performance.md, its appendix and its chart from the JSON of a run."""

import json
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

from . import environments, plot
from .results import Result, as_json
from .table import cells, goal_line, sink_share

PERFORMANCE: Final = environments.ROOT / "docs" / "performance.json"
_HEAD: Final = """# Performance

<!-- Written by `python -m loadtests report` from performance.json. Do not edit. -->

The load tests compare this client with others of its kind, and with the *floor*: the least that this design
can cost. The floor encodes an event with pydantic's `to_json`, appends it to a deque, and posts batches over
one `httpx.Client`, without checks, retries or counts. [The appendix](appendix/performance.md) has the method
and all figures.
"""
_APPENDIX_HEAD: Final = """# The load tests

<!-- Written by `python -m loadtests report` from performance.json. Do not edit. -->

Every figure behind [the findings](../performance.md), and how it was measured.

Each measurement runs in a process of its own, against a server of its own on the loopback interface. The
subjects take turns, for several rounds. The tables show medians with their median absolute deviation. A goal
is judged by the ratio within each round. The other clients are pinned in `loadtests/peers.txt` and set up as
their documentation recommends. `make loadtest` takes minutes, `make loadtest-full` rewrites these pages.
"""


class _Finding(NamedTuple):
    """One line of the findings.

    Attributes:
        words: What was measured.
        scenario: Its scenario.
        metric: Its metric.
        ours: The case of this client.
        floor: The case of the floor; empty for none.
        others: The suffix of the other clients' cases; None if there are none.
        digits: The number of decimals.
    """

    words: str
    scenario: str
    metric: str
    ours: str
    floor: str = ""
    others: str | None = ""
    digits: int = 1


_FINDINGS: Final = (
    _Finding("One send, CPU µs", "enqueue", "cpu_us", "ours, new_event", "floor, new_event"),
    _Finding("One send with a spool, CPU µs", "enqueue", "cpu_us", "ours, new_event, spool", others=None),
    _Finding(
        "Sends from 16 threads, p99.9 µs",
        "enqueue-threads",
        "p999_us",
        "ours, 16 threads",
        "floor, 16 threads",
        others=None,
        digits=0,
    ),
    _Finding(
        "One event until it is delivered, in batches of 50, CPU µs of the process",
        "drain",
        "cpu_us",
        "ours, batch 50",
        "floor, batch 50",
        ", as it comes",
    ),
    _Finding(
        "1,000 sends in a row block the event loop, ms",
        "burst",
        "block_ms",
        "ours, 1,000",
        "floor, 1,000",
        ", 1,000",
    ),
    _Finding("Memory of a queued event, bytes", "memory", "bytes_event", "ours", "floor", digits=0),
    _Finding("Memory with a full queue, MiB", "memory", "agent_mb", "ours, queue full", others=None),
    _Finding(
        "Exit with 1,000 queued events, ms",
        "exit",
        "exit_ms",
        "ours, 1,000",
        "bare posting, 1,000",
        ", 1,000",
        digits=0,
    ),
    _Finding("`import`, CPU ms", "import", "import_cpu_ms", "ours", "httpx, pydantic", digits=0),
    _Finding(
        "Events/s to a server as slow as Umami",
        "umami-paced",
        "rate",
        "ours",
        "bare loop, 2 connections",
        others=None,
        digits=0,
    ),
    _Finding(
        "Requests/s of a web service that tracks each, server healthy",
        "service",
        "rps",
        "ours, healthy",
        "floor, healthy",
        others=None,
        digits=0,
    ),
)
_LATER: Final = "Later changes are not included."
_OTHERS_NOTE: Final = (
    "The others are PostHog, Segment, Sentry's logs, OpenTelemetry's logs, Statsig and Snowplow. "
    "Cases in which a client lost events are left out."
)
_OTHERS: Final = ("posthog", "segment", "sentry-logs", "otel-logs", "statsig", "snowplow")


def main(file: Path) -> int:
    """Write the pages from `file`, and keep it as docs/performance.json; return the exit code."""
    if not file.exists():
        print(f"{file} does not exist: create it with python -m loadtests all --json {file}", file=sys.stderr)
        return 1
    results: dict[str, Any] = json.loads(file.read_text())
    page, picture = PERFORMANCE.with_suffix(".md"), PERFORMANCE.with_suffix(".svg")
    appendix = PERFORMANCE.parent / "appendix" / page.name
    drawn = plot.draw(results["scenarios"], picture)
    PERFORMANCE.write_text(as_json(results))
    page.write_text(findings(results, picture.name if drawn else None))
    appendix.parent.mkdir(exist_ok=True)
    appendix.write_text(tables(results))
    print(
        f"wrote {page}, {appendix}"
        f"{f' and {picture}' if drawn else ', no plot (no matplotlib, or nothing to draw)'}",
        file=sys.stderr,
    )
    return 0


def findings(results: dict[str, Any], picture: str | None) -> str:
    """Return the short page for a run."""
    scenarios = results["scenarios"]
    lines = [_HEAD, _about(results["meta"])]
    others = [name for name, result in scenarios.items() if _meta_of_its_own(result, results["meta"])]
    if others:
        lines += [f"Measured at another time, which the appendix says: {', '.join(others)}.", ""]
    lines += ["## Findings", ""]
    lines += ["| | this client | floor | cheapest of the others |", "|---|---:|---:|---:|"]
    lines += [line for finding in _FINDINGS if (line := _finding(finding, scenarios))]
    lines += ["", _OTHERS_NOTE, ""]
    if picture:
        lines += [f"![What a send and a delivered event cost]({picture})", ""]
    goals = [
        (name, goal)
        for name, result in scenarios.items()
        for goal in result["goals"]
        if goal["met"] is not None
    ]
    missed = [f"- {name}: {goal_line(goal)[1]}" for name, goal in goals if not goal["met"]]
    lines += ["## Goals", "", f"{len(goals) - len(missed)} of {len(goals)} goals are met."]
    if missed:
        lines += ["[How it works](internals.md) says why these are missed:", "", *missed]
    return "\n".join([*lines, ""])


def _finding(finding: _Finding, scenarios: dict[str, Result]) -> str | None:
    """Return a line of the findings, or None if it was not measured."""
    rows = {row["case"]: row for row in scenarios.get(finding.scenario, {"rows": []})["rows"]}
    if finding.ours not in rows:
        return None

    def figure(case: str) -> float | None:
        metrics = rows[case]["metrics"] if case in rows else {}
        lost = "delivered" in metrics and metrics["delivered"]["median"] < 100
        return None if lost or finding.metric not in metrics else metrics[finding.metric]["median"]

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:,.{finding.digits}f}"

    best = "-"
    if finding.others is not None:
        found = {name: figure(f"{name}{finding.others}") for name in _OTHERS}
        values = {name: value for name, value in found.items() if value is not None}
        if values:
            name = min(values, key=values.__getitem__)
            best = f"{shown(values[name])} ({name})"
    return _line([finding.words, shown(figure(finding.ours)), shown(figure(finding.floor)), best])


def tables(results: dict[str, Any]) -> str:
    """Return the page with all figures of a run."""
    parts = [_APPENDIX_HEAD, _about(results["meta"])]
    parts += [_section(name, result, results["meta"]) for name, result in results["scenarios"].items()]
    return "\n".join(parts)


def _about(meta: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in meta["versions"].items())
    where = f"Python {meta['python']}, {meta['system']}, {meta['processor']}"
    lines = [f"Measured on {meta['date']} at commit {meta['commit']}, with {where}. {_LATER}", f"{versions}."]
    if meta["client"]:
        lines += ["", f"This client was taken from {meta['client']}."]
    if not meta["clean"]:
        lines += ["", "This client ran in its developers' environment, with more installed than it needs."]
    if meta["quick"]:
        lines += ["", "This was a quick run: few events and few rounds."]
    return "\n".join([*lines, ""])


def _meta_of_its_own(result: Result, meta: dict[str, Any]) -> dict[str, Any] | None:
    """Return when and where a scenario was measured, if that is not what `meta` says of the others."""
    own: dict[str, Any] | None = result.get("meta")
    return None if own == meta else own


def _section(name: str, result: Result, meta: dict[str, Any]) -> str:
    """Return a scenario's section, with where it was measured if that differs from `meta`."""
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
    if of_its_own := _meta_of_its_own(result, meta):
        lines += [_about(of_its_own)]
    return "\n".join(lines)


def _line(row: list[str]) -> str:
    return f"| {' | '.join(row)} |"
