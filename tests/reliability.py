"""Writes docs/reliability.md from runs of the fault tests: `make reliability`.

As a pytest plugin (`-p reliability --reliability FILE`) it records in a JSON file how each test ended on this
Python, and what it measured (`record_property`). As a program (`python tests/reliability.py SOAK FILE...`) it
prints the page.
"""

import json
import os
import platform
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

MODULES = (
    "test_exit",
    "test_fork",
    "test_frameworks",
    "test_delivery",
    "test_retry",
    "test_slow_answers",
    "test_umami_trouble",
    "test_connections",
    "test_outage",
    "test_proxies",
    "test_overflow",
    "test_callbacks",
    "test_flush",
    "test_threads",
    "test_doors",
    "test_clock",
    "test_fitting",
    "test_model",
    "test_spool",
    "test_spool_faults",
)

INTRODUCTION = """\
# Reliability

An event for which a send returned `{{'queued': True}}` ends in exactly one place, the ledger says which, and
the program that sent it never pays for the server's trouble. This page puts that promise to the test, fault
by fault: with real processes and threads, and a real server on loopback that is told to fail. What the
promise says in full, and where it ends, is in [The queue and its guarantees](queue.md).

**How to read it.** Each row is a test in `tests/`, named after what it shows. Each cell says in how many
cases that was seen, *passed of total*: a test of one situation has one case, a test of many faults or of many
rounds has that many. What failed is in **bold**. Where the tests measured something, a second table says
what; of several cases it gives the median and the worst, or the range and the sum.

**Credentials.** In each of these tests, as in all others of the suite, every log record, exception, repr,
ledger and line of a child process is searched for the token, the API key and the passwords in use. One that
shows fails its test.

Written by `make reliability` on {when}, two Pythons at a time, on {machine}. Not edited by hand.
"""


def pytest_addoption(parser: Any) -> None:
    parser.addoption(
        "--reliability",
        metavar="FILE",
        help="record how each test ended in this JSON file, or bring it up to date",
    )


def pytest_configure(config: Any) -> None:
    path = config.getoption("--reliability")
    if path:
        config.pluginmanager.register(Recorder(Path(path)))


class Recorder:
    """Keeps each test's outcome and figures, and writes them when the run ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._titles: dict[str, str] = {}
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._figures: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        for item in items:
            module = item.module.__name__
            self._titles[module] = (item.module.__doc__ or module).splitlines()[0].rstrip(".")

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            path, _, name = report.nodeid.partition("::")
            test = f"{Path(path).stem}::{name.partition('[')[0]}"
            self._counts[test][report.outcome] += 1
            for figure, value in report.user_properties:
                self._figures[test][figure].append(value)

    def pytest_sessionfinish(self) -> None:
        record: dict[str, Any] = {
            "python": platform.python_version(),
            "date": datetime.now(timezone.utc).date().isoformat(),
            "machine": machine(),
            "titles": self._titles,
            "tests": self._counts,
            "figures": self._figures,
        }
        if self._path.exists():
            earlier = json.loads(self._path.read_text())
            for part in ("titles", "tests", "figures"):
                record[part] = {**earlier[part], **record[part]}
        self._path.parent.mkdir(exist_ok=True)
        self._path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def machine() -> str:
    """Say what this runs on."""
    model = ""
    cpus = Path("/proc/cpuinfo")
    if cpus.exists():
        models = [
            line.partition(":")[2].strip() for line in cpus.read_text().splitlines() if "model name" in line
        ]
        model = f", {models[0]}" if models else ""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{model}"


def page(runs: list[dict[str, Any]], soaks: list[dict[str, Any]]) -> str:
    """Return the page, in Markdown."""
    runs = sorted(runs, key=lambda run: [int(part) for part in run["python"].split(".")])
    dates = sorted({run["date"] for run in runs})
    lines = [
        INTRODUCTION.format(
            when=" and ".join(dates), machine=" and ".join(sorted({run["machine"] for run in runs}))
        )
    ]
    head = ["| Python | " + " | ".join(run["python"] for run in runs) + " |", "|---|" + "---|" * len(runs)]
    totals = [sum((Counter(counts) for counts in run["tests"].values()), Counter()) for run in runs]
    lines += [*head, "| cases | " + " | ".join(map(cell, totals)) + " |", ""]
    for module in MODULES:
        of_module = [test for run in runs for test in run["tests"] if test.startswith(f"{module}::")]
        tests = sorted(set(of_module))
        if tests:
            title = next(run["titles"][module] for run in runs if module in run["titles"])
            lines += [
                f"## {title}",
                "",
                "| case | " + " | ".join(run["python"] for run in runs) + " |",
                head[1],
            ]
            for test in tests:
                cells = [cell(run["tests"].get(test)) for run in runs]
                lines.append(f"| {case(test)} | {' | '.join(cells)} |")
            lines += ["", *figure_lines(tests, runs)]
    return "\n".join(lines + soak_lines(soaks))


def figure_lines(tests: list[str], runs: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the table of what some tests measured, if they did."""
    rows = sorted(
        {(test, figure) for test in tests for run in runs for figure in run["figures"].get(test, ())}
    )
    if rows:
        yield "| case | measured | " + " | ".join(run["python"] for run in runs) + " |"
        yield "|---|---|" + "---|" * len(runs)
        above = ""
        for test, figure in rows:
            cells = [figures(run["figures"].get(test, {}).get(figure)) for run in runs]
            yield f"| {'' if test == above else case(test)} | {figure} | {' | '.join(cells)} |"
            above = test
        yield ""


def figures(values: list[float] | None) -> str:
    """Sum up what the cases of a test measured."""
    if not values:
        return "-"
    least, most = min(values), max(values)
    if any(isinstance(value, float) for value in values):
        worst = f", {most:.2f} at most" if len(values) > 1 else ""
        return f"{statistics.median(values):.2f}{worst}"
    return f"{most:,}" if least == most else f"{least:,} to {most:,}, {sum(values):,} in all"


def case(test: str) -> str:
    """Return a test's name as the sentence that it is."""
    name = test.rpartition("::")[2].removeprefix("test_").replace("_", " ")
    return name[:1].upper() + name[1:]


def cell(counts: dict[str, int] | None) -> str:
    """Say how many cases passed, of those that could run here."""
    if counts is None:
        return "-"
    passed, skipped = counts.get("passed", 0), counts.get("skipped", 0)
    total = sum(counts.values()) - skipped
    if not total:
        return "skipped"
    text = f"{passed:,} of {total:,}"
    text = text if passed == total else f"**{text}**"
    return f"{text}, {skipped} skipped" if skipped else text


def soak_lines(soaks: list[dict[str, Any]]) -> list[str]:
    """Return the figures of the soak runs, as `loadtests/soak.py` wrote them."""
    lines = [
        "## Soak",
        "",
        "Events at a steady rate to servers that misbehave at random, by `python -m loadtests.soak`.",
        "",
    ]
    for soak in soaks:
        where = "with a spool" if soak["spool"] else "in memory"
        lines += [
            f"### {soak['seconds']:.0f} s at {soak['rate']:.0f} events/s, {where}",
            "",
            f"{soak['date']}, Python {soak['python']}, {soak['machine']}, commit {soak['commit']}. "
            + ", ".join(f"{count:,} {name}" for name, count in soak["ledger"].items())
            + ".",
            "",
            "| check | holds | figures |",
            "|---|---|---|",
            *(
                f"| {check['name']} | {'yes' if check['holds'] else '**no**'} | {check['figures']} |"
                for check in soak["checks"]
            ),
            "",
        ]
    return lines if soaks else []


if __name__ == "__main__":
    soak_file, *run_files = map(Path, sys.argv[1:])
    recorded = [json.loads(file.read_text()) for file in run_files]
    sys.stdout.write(page(recorded, json.loads(soak_file.read_text()) if soak_file.exists() else []))
