"""The load tests run and print their table. Speed is not tested here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import DEADLINE, ROOT

from loadtests.model import Goal
from loadtests.report import tables
from loadtests.results import judged

pytestmark = pytest.mark.slow


def test_a_quick_scenario_prints_a_table_and_writes_json(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    before = json.loads((ROOT / "docs" / "performance.json").read_text())
    before["scenarios"] = {name: before["scenarios"][name] for name in ("import", "drain")}
    file.write_text(json.dumps(before))
    command = [sys.executable, "-m", "loadtests", "import", "--quick", "--repeat", "1", "--no-peers"]
    done = subprocess.run(
        [*command, "--json", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    for row in ("httpx, pydantic, in use", "ours, sends", "import umami ÷ httpx + pydantic"):
        assert row in done.stdout
    assert "left out" not in done.stdout
    results = json.loads(file.read_text())
    rows = results["scenarios"]["import"]["rows"]
    assert len(rows) == 4
    measured = [name for row in rows for name, metric in row["metrics"].items() if metric["median"] > 0]
    assert {"import_ms", "import_cpu_ms", "ready_cpu_ms"} <= set(measured)
    assert results["scenarios"]["drain"] == before["scenarios"]["drain"]
    whole, *scenarios = tables(results).split("\n## ")
    assert "quick run" not in whole
    assert {part.partition("\n")[0]: part.count("quick run") for part in scenarios} == {
        "drain": 0,
        "import": 1,
    }


def test_a_campaign_compares_the_ledger_with_what_the_server_stored(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtests", "compatibility", "--umami", "3.1", "--scenario", "mixed"]
    done = subprocess.run(
        [*command, "--events", "100", "--results", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    result = json.loads((tmp_path / "collector-3.1-mixed.json").read_text())
    assert [trouble.partition(",")[0] for trouble in result["troubles"]] == [
        "database outage",
        "restart",
        "kill -9",
    ]
    assert result["complete"]
    assert all(result["holds"].values()), result
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("tracked", "is_met"), [([3.0, 9.0, 4.0], True), ([5.5, 5.2, 1.0], False)])
def test_a_figure_with_a_wide_spread_is_compared_with_that_of_all_rounds(
    tracked: list[float], is_met: bool
) -> None:
    before, after = [2.0, 3.0, 4.0], [1.0, 5.0, 2.0]
    rounds = [
        {"before": {"p99": a}, "tracked": {"p99": b}, "after": {"p99": c}}
        for a, b, c in zip(before, tracked, after, strict=True)
    ]
    goal = Goal("p99", "p99", ("tracked",), ("before", "after"), at_most=1, spread=True)
    assert judged(goal, rounds)["met"] is is_met
    assert judged(goal, [])["met"] is None
    busy = {"before": {"p99": 50.0}, "tracked": {"p99": 9.0}, "after": {"p99": 40.0}}
    assert judged(goal, [*rounds, busy])["met"] is None
