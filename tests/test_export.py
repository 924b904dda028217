"""`umami export`: rows to files, in each format, and an export that was interrupted."""

import csv
import io
import json
import os
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE, PASSWORD, SITE

import umami
from umami.cli import main
from umami.collector import Collector

NOW = datetime.now(timezone.utc)
EVENTS = 1_700
SESSIONS = 1_200


@pytest.fixture(scope="module")
def visited() -> Iterator[Collector]:
    """A collector with several pages of events and sessions, many of the same moment; 500 sessions return."""
    with (
        Collector(password=PASSWORD) as collector,
        umami.Client(url_base=collector.url, website_id=SITE, hostname="example.com") as client,
    ):
        for number in range(EVENTS):
            at = NOW - timedelta(seconds=number // 3)
            client.new_page_view(
                f"Page, {number}", f"/{number % 7}", distinct_id=f"v{number % SESSIONS}", timestamp=at
            )
        assert client.flush(DEADLINE)
        yield collector


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, visited: Collector) -> Iterator[None]:
    for name in [each for each in os.environ if each.startswith("UMAMI_") and "TEST" not in each]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UMAMI_URL", visited.url)
    monkeypatch.setenv("UMAMI_WEBSITE_ID", SITE)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
    assert main(["login", "--username", "admin", "--password-stdin"]) == 0
    yield
    visited.clear_faults()


def ids(path: Path) -> list[str]:
    lines = path.read_text("utf-8").splitlines()
    if path.suffix == ".csv":
        return [row["id"] for row in csv.DictReader(lines)]
    return [json.loads(line)["id"] for line in lines]


@pytest.mark.slow
def test_events_are_written_as_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "events.csv"
    assert main(["export", "events", "--since", "1d", "--output", str(path)]) == 0
    rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    assert len({row["id"] for row in rows}) == len(rows) == EVENTS
    assert rows[0]["pageTitle"].startswith("Page, ")
    assert list(rows[0]) == list(umami.models.Event.model_fields)
    assert f"wrote {EVENTS:,} rows to {path}" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.part*"))


def test_rows_go_to_stdout_unless_a_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["export", "metrics", "--since", "1d", "--type", "path"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert {row["x"] for row in rows} == {f"/{number}" for number in range(7)}
    assert main(["export", "sessions", "--since", "1d", "--format", "jsonl"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(json.loads(line)["views"] for line in lines) == EVENTS
    assert main(["export", "events", "--since", "1d", "--filter", "path=/3", "--format", "jsonl"]) == 0
    assert {json.loads(line)["urlPath"] for line in capsys.readouterr().out.splitlines()} == {"/3"}


@pytest.mark.parametrize(
    ("what", "form", "rows"), [("events", "jsonl", EVENTS), ("sessions", "csv", SESSIONS)]
)
def test_an_export_that_was_interrupted_goes_on(
    what: str, form: str, rows: int, tmp_path: Path, visited: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    path, part = tmp_path / f"rows.{form}", tmp_path / f"rows.{form}.part"
    words = ["export", what, "--since", "1d", "--output", str(path)]
    visited.fail(None, path=f"/api/websites/*/{what}", times=2)  # the count, and the first page
    visited.fail(500, path=f"/api/websites/*/{what}", times=None)
    assert main(words) == 1
    assert f"umami: {part} has 1,000 rows: run the same command again to resume\n" in capsys.readouterr().err
    assert not path.exists()
    with part.open("a", encoding="utf-8") as file:
        file.write('{"id": "cut o')  # as a crash leaves it
    visited.clear_faults()
    assert main(words) == 0
    assert "resuming after 1,000 rows" in capsys.readouterr().err
    found = ids(path)
    assert len(found) == len(set(found)) == rows
    assert not list(tmp_path.glob("*.part*"))


def test_an_export_of_something_else_begins_anew(
    tmp_path: Path, visited: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "events.jsonl"
    visited.fail(None, path="/api/websites/*/events", times=2)
    visited.fail(500, path="/api/websites/*/events", times=None)
    assert main(["export", "events", "--since", "1d", "--output", str(path)]) == 1
    visited.clear_faults()
    capsys.readouterr()
    visited.fail(None, path="/api/websites/*/events", times=1)
    visited.fail(500, path="/api/websites/*/events", times=None)
    assert main(["export", "events", "--since", "2d", "--output", str(path)]) == 1  # before its first row
    assert "starting over" in capsys.readouterr().err
    visited.clear_faults()
    assert main(["export", "events", "--since", "1d", "--output", str(path)]) == 0
    assert "starting over" in capsys.readouterr().err
    assert len(ids(path)) == len(set(ids(path))) == EVENTS


@pytest.mark.slow
def test_a_server_that_counts_no_more_than_1000_rows_is_read_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        Collector(umami="2.17", password=PASSWORD) as collector,
        umami.Client(url_base=collector.url, website_id=SITE, hostname="example.com") as client,
    ):
        for number in range(1_100):
            client.new_page_view("Home", "/", timestamp=NOW - timedelta(seconds=number))
        assert client.flush(DEADLINE)
        monkeypatch.setenv("UMAMI_URL", collector.url)
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
        assert main(["login", "--username", "admin", "--password-stdin"]) == 0
        path = tmp_path / "events.jsonl"
        assert main(["export", "events", "--since", "1d", "--output", str(path)]) == 0
    assert "never reports more than 1,000 rows" in capsys.readouterr().err
    assert len(set(ids(path))) == 1_100


def test_rows_become_parquet(tmp_path: Path) -> None:
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "events.parquet"
    assert main(["export", "events", "--since", "1d", "--output", str(path)]) == 0
    table = parquet.read_table(path)
    assert (table.num_rows, table.num_columns) == (EVENTS, len(umami.models.Event.model_fields))
    assert set(table.column("eventType").to_pylist()) == {1}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["events", "--format", "parquet"], "--format parquet needs --output FILE"),
        (["events", "--since", "soon"], "--since: 'soon' is no time, and no span such as 30d"),
        (["events", "--filter", "pth=/a"], "pth is not a filter"),
        (["metrics", "--type", "pth"], "type must be one of path, "),
    ],
)
def test_a_wrong_argument_is_said(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", *words]) == 2
    assert message in capsys.readouterr().err
