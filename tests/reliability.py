"""Writes the pages on reliability from runs of the fault tests: `make reliability`.

As a pytest plugin (`-p reliability --reliability FILE`) it records in a JSON file how each test ended on this
Python, and what it measured (`record_property`). As a program (`python tests/reliability.py [FILE...]`) it
combines such records in docs/reliability.json. Then it writes docs/reliability.md and its appendix from that
and from docs/soak.json. Without a FILE it writes the pages from docs/reliability.json as it is. `--tests`
prints the files of the fault tests.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"
SUMMARY = DOCS / "reliability.json"
SOAK = DOCS / "soak.json"
FINDINGS = DOCS / "reliability.md"
APPENDIX = DOCS / "appendix" / "reliability.md"

AREAS = (
    (
        "Exit and signals",
        "Queued events are delivered or reported as lost. The exit code stays the same.",
        ("test_exit", "test_logged_counts"),
    ),
    ("Forks", "A child sends only its own events, each exactly once.", ("test_fork",)),
    (
        "gunicorn, uvicorn, Celery, gevent",
        "The events of all workers arrive exactly once.",
        ("test_frameworks",),
    ),
    (
        "Answers",
        "Each answer has the documented effect on each event of a batch.",
        ("test_delivery", "test_slow_answers", "test_foreign_answers", "test_redirects"),
    ),
    (
        "Retries and outages",
        "Events wait and are delivered. Duplicates stay within their bounds.",
        ("test_retry", "test_outage", "test_isolation", "test_duplicates", "test_max_event_age"),
    ),
    (
        "Trouble in Umami, the network or a proxy",
        "Events are delivered or counted. A bad event does not affect others.",
        ("test_umami_trouble", "test_connections", "test_proxies"),
    ),
    ("Full queue", "Each policy drops the right events, and reports them.", ("test_overflow",)),
    (
        "`before_send` and `on_error`",
        "A callback that raises or blocks does not affect other events.",
        ("test_callbacks",),
    ),
    ("Flush and shutdown", "Both settle all events, or return at the timeout.", ("test_flush",)),
    (
        "Threads and interruptions",
        "Nothing hangs, and the counts add up.",
        ("test_threads", "test_inbox", "test_broken_off", "test_no_threads", "test_dropped_clients"),
    ),
    ("Clock changes", "No wait gets longer or shorter.", ("test_clock",)),
    ("Visitors' values", "Each is repaired, stored and counted.", ("test_fitting", "test_values")),
    (
        "Versions of Umami",
        "Each is sent what it can store. Crawlers' events are counted as rejected.",
        ("test_generations", "test_bots"),
    ),
    (
        "Model of the queue",
        "In random sequences of operations, each event ends exactly once.",
        ("test_model",),
    ),
    (
        "Spool",
        "Acknowledged events survive `kill -9`, and are sent by the next process.",
        (
            "test_spool",
            "test_spool_faults",
            "test_spool_files",
            "test_spool_model",
            "test_spool_settings",
            "test_broken_off_spool",
        ),
    ),
)
"""What the tests are about: a heading, what they show if they pass, and their modules."""

KEY_FIGURES = (
    (
        "Exit while the server does not answer, with `shutdown_timeout=1`: seconds",
        "test_exit::test_a_dead_server_delays_the_end_by_the_timeout_and_no_more",
        "seconds to the end, with a shutdown_timeout of 1 (frozen)",
    ),
    (
        "200 forks under load: events delivered, each exactly once",
        "test_fork::test_forks_under_load",
        "events delivered, each once",
    ),
    (
        "Outage of 30 s at 200 events/s: slowest send, in ms",
        "test_outage::test_an_outage_under_load_costs_nothing_but_time",
        "slowest send, ms",
    ),
    (
        "The same: seconds after the outage until all events were delivered",
        "test_outage::test_an_outage_under_load_costs_nothing_but_time",
        "seconds until all were delivered",
    ),
    (
        "Three unanswered requests of up to 16 events: duplicates",
        "test_retry::test_after_silence_one_event_asks_first_and_then_requests_grow_again",
        "duplicates of 64 events, after three silent requests of up to 16",
    ),
    (
        "Unanswered requests with `at_most_once`: duplicates",
        "test_retry::test_at_most_once_drops_what_may_be_stored_and_sends_nothing_twice",
        "duplicates of 40 events",
    ),
    (
        "`kill -9` with a spool: acknowledged events lost",
        "test_spool::test_an_acknowledged_event_survives_kill_9",
        "acknowledged events lost in a round",
    ),
    (
        "Random values passed to sends: stored by the server",
        "test_fitting::test_whatever_is_passed_is_refused_or_stored_and_costs_its_neighbours_nothing",
        "random values stored",
    ),
)
"""What the findings name of what was measured: in words, the test, and its figure."""

_FINDINGS = """\
# Reliability

<!-- Written by tests/reliability.py. Do not edit. -->

The fault tests check [the guarantees of the queue](queue.md) with real processes, threads and signals, and a
server that fails on purpose. [The appendix](appendix/reliability.md) lists every test.

Measured {when}. Later changes are not included.{notes}

## Findings

Cases are counted as *passed of run*, over all Pythons. Failures are in **bold**.

| area | what the tests show | cases |
|---|---|---:|"""

_HOLDS = {True: "yes", False: "**no**", None: "the run was too short to tell"}

_SOAK = """
## Soak test

`python -m loadtests.soak` sends events at a steady rate to servers that fail at random. Its checks compare
the client's counts with what the servers stored, and watch memory, threads, sockets and descriptors.

{title} ({date}, commit {commit}): {submitted:,} events, {delivered:,} delivered, {rejected:,} rejected,
{dropped:,} dropped. {held} of {checks} checks hold.

## Secrets

Every test fails if a password or token in use appears in a log, an exception, a repr or an output.
"""

_APPENDIX = """\
# The fault tests

<!-- Written by tests/reliability.py. Do not edit. -->

Every test behind [the findings](../reliability.md), measured {when}. Later changes are not included.{notes}

A row is a test in `tests/`, by its name. A cell says how many of its cases passed, *passed of run*. Failures
are in **bold**. A second table has what the tests measured: the median and the worst of several cases, or
their range and sum.
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
            "commit": commit(),
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


def commit() -> str:
    """Return the commit that is tested."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=7"],
        cwd=DOCS,
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip()


def summed_up(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the pages say of some records."""
    for run in runs:
        run["figures"] = {
            test: {name: figures(values) for name, values in measured.items()}
            for test, measured in run["figures"].items()
        }
    runs = sorted(runs, key=lambda run: [int(part) for part in run["python"].split(".")])
    return {"notes": [], "runs": runs}


def figures(values: list[float]) -> str:
    """Sum up what the cases of a test measured."""
    least, most = min(values), max(values)
    if any(isinstance(value, float) for value in values):
        worst = f", {most:.2f} at most" if len(values) > 1 else ""
        return f"{statistics.median(values):.2f}{worst}"
    return f"{most:,}" if least == most else f"{least:,} to {most:,}, {sum(values):,} in all"


def findings(summary: dict[str, Any], soaks: list[dict[str, Any]]) -> str:
    """Return the short page, in Markdown."""
    runs = summary["runs"]
    newest = runs[-1]
    lines = [_FINDINGS.format(when=when(runs), notes="".join(f" {note}" for note in summary["notes"]))]
    for area, shown, modules in AREAS:
        counts = sum((total(run, modules) for run in runs), Counter())
        if counts:
            lines.append(f"| {area} | {shown} | {cell(counts)} |")
    counts = sum((total(run) for run in runs), Counter())
    lines += [f"| **All** | | {cell(counts)} |", "", "## Figures", ""]
    lines += [f"| measurement | Python {newest['python']} |", "|---|---:|"]
    for words, test, name in KEY_FIGURES:
        figure = newest["figures"].get(test, {}).get(name)
        if figure is None:
            sys.stderr.write(f"left out, because {test} did not measure {name!r}: {words}\n")
        else:
            lines.append(f"| {words} | {figure} |")
    longest = max(soaks, key=lambda soak: soak["seconds"])
    held = sum(check["holds"] is True for check in longest["checks"])
    ledger = longest["ledger"]
    lines.append(
        _SOAK.format(
            title=soak_title(longest),
            held=held,
            checks=len(longest["checks"]),
            **{key: longest[key] for key in ("date", "commit")},
            **ledger,
        )
    )
    return "\n".join(lines)


def when(runs: list[dict[str, Any]]) -> str:
    """Say when and on what some runs were made."""
    dates, commits, machines = (
        " and ".join(sorted({run[key] for run in runs})) for key in ("date", "commit", "machine")
    )
    pythons = ", ".join(run["python"] for run in runs)
    return f"on {dates} at commit {commits}, with Python {pythons}, on {machines}"


def total(run: dict[str, Any], modules: Sequence[str] | None = None) -> Counter[str]:
    """Count how the cases of a run ended, of some modules or all."""
    ended: Counter[str] = Counter()
    for test, counts in run["tests"].items():
        if modules is None or test.partition("::")[0] in modules:
            ended.update(counts)
    return ended


def appendix(summary: dict[str, Any], soaks: list[dict[str, Any]]) -> str:
    """Return the page with every test, in Markdown."""
    runs = summary["runs"]
    columns = " | ".join(run["python"] for run in runs)
    rule = "---|" * len(runs)
    lines = [
        _APPENDIX.format(when=when(runs), notes="".join(f" {note}" for note in summary["notes"])),
        f"| Python | {columns} |",
        f"|---|{rule}",
        "| cases | " + " | ".join(cell(total(run)) for run in runs) + " |",
        "",
    ]
    for module in in_order(runs):
        tests = sorted({test for run in runs for test in run["tests"] if test.startswith(f"{module}::")})
        title = next(run["titles"][module] for run in runs if module in run["titles"])
        lines += [f"## {title}", "", f"| case | {columns} |", f"|---|{rule}"]
        for test in tests:
            cells = [cell(run["tests"].get(test)) for run in runs]
            lines.append(f"| {case(test)} | {' | '.join(cells)} |")
        lines += ["", *figure_lines(tests, runs)]
    return "\n".join(lines + soak_lines(soaks)).rstrip() + "\n"


def in_order(runs: list[dict[str, Any]]) -> list[str]:
    """Return the modules that were run, those of the findings first and in their order."""
    ran = {test.partition("::")[0] for run in runs for test in run["tests"]}
    known = [module for _, _, modules in AREAS for module in modules]
    return [module for module in known if module in ran] + sorted(ran.difference(known))


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
            cells = [run["figures"].get(test, {}).get(figure, "-") for run in runs]
            yield f"| {'' if test == above else case(test)} | {figure} | {' | '.join(cells)} |"
            above = test
        yield ""


def case(test: str) -> str:
    """Return a test's name as the sentence that it is."""
    name = test.rpartition("::")[2].removeprefix("test_").replace("_", " ")
    return name[:1].upper() + name[1:]


def cell(counts: dict[str, int] | None) -> str:
    """Say how many cases passed, of those that could run here."""
    if counts is None:
        return "-"
    passed, skipped = counts.get("passed", 0), counts.get("skipped", 0)
    run = sum(counts.values()) - skipped
    if not run:
        return "skipped"
    text = f"{passed:,} of {run:,}"
    text = text if passed == run else f"**{text}**"
    return f"{text}, {skipped} skipped" if skipped else text


def soak_title(soak: dict[str, Any]) -> str:
    """Say in short what a soak test did."""
    where = "with a spool" if soak["spool"] else "in memory"
    return f"{soak['seconds']:.0f} s at {soak['rate']:.0f} events/s, {where}"


def soak_lines(soaks: list[dict[str, Any]]) -> list[str]:
    """Return the figures of the soak tests, as `loadtests/soak.py` wrote them."""
    lines = ["## Soak tests", ""]
    for soak in soaks:
        lines += [
            f"### {soak_title(soak)}",
            "",
            f"{soak['date']}, Python {soak['python']}, {soak['machine']}, commit {soak['commit']}. "
            + ", ".join(f"{count:,} {name}" for name, count in soak["ledger"].items())
            + ".",
            "",
            "| check | holds | figures |",
            "|---|---|---|",
            *(
                f"| {check['name']} | {_HOLDS[check['holds']]} | {check['figures']} |"
                for check in soak["checks"]
            ),
            "",
        ]
    return lines if soaks else []


def main(records: Sequence[Path]) -> None:
    """Sum records up, if there are any, and write the pages."""
    if records:
        summary = summed_up([json.loads(record.read_text()) for record in records])
        SUMMARY.write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
    summary = json.loads(SUMMARY.read_text())
    soaks = json.loads(SOAK.read_text())
    FINDINGS.write_text(findings(summary, soaks))
    APPENDIX.parent.mkdir(exist_ok=True)
    APPENDIX.write_text(appendix(summary, soaks))


if __name__ == "__main__":
    if sys.argv[1:] == ["--tests"]:
        sys.stdout.write("\n".join(f"tests/{module}.py" for _, _, modules in AREAS for module in modules))
    else:
        main([Path(name) for name in sys.argv[1:]])
