"""Writes docs/reliability.md from runs of the fault tests: `make reliability`.

As a pytest plugin (`-p reliability --reliability FILE`) it records in a JSON file how each test ended on this
Python. As a program (`python tests/reliability.py FILE SOAK`) it prints the page.
"""

import json
import platform
import sys
from collections import Counter, defaultdict
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
    "test_overflow",
    "test_callbacks",
    "test_flush",
    "test_threads",
    "test_fitting",
    "test_model",
    "test_spool",
)


def pytest_addoption(parser: Any) -> None:
    parser.addoption("--reliability", metavar="FILE", help="record how each test ended in this JSON file")


def pytest_configure(config: Any) -> None:
    path = config.getoption("--reliability")
    if path:
        config.pluginmanager.register(Recorder(Path(path)))


class Recorder:
    """Keeps each test's outcome, and adds them to the file when the run ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._titles: dict[str, str] = {}
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        for item in items:
            module = item.module.__name__
            self._titles[module] = (item.module.__doc__ or module).splitlines()[0].rstrip(".")

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            path, _, name = report.nodeid.partition("::")
            test = f"{Path(path).stem}::{name.partition('[')[0]}"
            self._counts[test][report.outcome] += 1

    def pytest_sessionfinish(self) -> None:
        record = json.loads(self._path.read_text()) if self._path.exists() else {"titles": {}, "runs": {}}
        record["titles"].update(self._titles)
        record["runs"][platform.python_version()] = {
            "date": datetime.now(timezone.utc).date().isoformat(),
            "machine": f"{platform.system()} {platform.machine()}",
            "tests": {test: dict(counts) for test, counts in self._counts.items()},
        }
        self._path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def page(record: dict[str, Any], soaks: list[dict[str, Any]]) -> str:
    """Return the page, in Markdown."""
    runs = dict(sorted(record["runs"].items(), key=lambda run: [int(part) for part in run[0].split(".")]))
    dates = ", ".join(sorted({run["date"] for run in runs.values()}))
    lines = [
        "# Reliability",
        "",
        "What happens to events and to the program that sends them, fault by fault: real processes, a real",
        "server on loopback, its faults scripted. Each row is a test in `tests/`; each cell says how many of",
        "its cases passed.",
        f"Written by `make reliability` ({dates}); not edited by hand.",
        "",
    ]
    for module in MODULES:
        tests = sorted(
            {test for run in runs.values() for test in run["tests"] if test.startswith(f"{module}::")}
        )
        if tests:
            lines += [f"## {record['titles'][module]}", "", "| case | " + " | ".join(runs) + " |"]
            lines += ["|---|" + "---|" * len(runs)]
            for test in tests:
                cells = [cell(run["tests"].get(test)) for run in runs.values()]
                lines.append(f"| {case(test)} | {' | '.join(cells)} |")
            lines.append("")
    return "\n".join(lines + soak_lines(soaks))


def case(test: str) -> str:
    """Return a test's name as the sentence that it is."""
    name = test.rpartition("::")[2].removeprefix("test_").replace("_", " ")
    return name[:1].upper() + name[1:]


def cell(counts: dict[str, int] | None) -> str:
    if counts is None:
        return "-"
    passed, total = counts.get("passed", 0), sum(counts.values())
    return f"{passed} of {total}" if passed == total else f"**{passed} of {total}**"


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
    recorded = json.loads(Path(sys.argv[1]).read_text())
    soak_file = Path(sys.argv[2])
    sys.stdout.write(page(recorded, json.loads(soak_file.read_text()) if soak_file.exists() else []))
