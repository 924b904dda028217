"""Figures: sums, series and rankings of a website, in each form that Umami gives them."""

import csv
import io
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from conftest import DEADLINE, PASSWORD, SITE, slow

import umami
from umami.collector import Collector
from umami.errors import ResponseError, UnsupportedError, ValidationError
from umami.models import Table

Call = Callable[..., Any]
NOW = datetime.now(timezone.utc)
RANGE = {"start_at": NOW - timedelta(days=1), "end_at": NOW + timedelta(days=1), "timezone": "UTC"}


@pytest.fixture(scope="module", params=["3.1", *slow("2.19", "3.0", "3.4")])
def visited(request: pytest.FixtureRequest) -> Iterator[umami.Client]:
    """A client of a website with six page views and three sign-ups of two visitors."""
    with (
        Collector(umami=request.param, password=PASSWORD) as collector,
        umami.Client(url_base=collector.url, website_id=SITE, hostname="example.com") as client,
    ):
        for number in range(6):
            page = f"/p{number % 3}?utm_source=mail"
            client.new_page_view(f"Page {number % 3}", page, distinct_id=f"v{number % 2}")
        for plan in ("free", "pro", "pro"):
            client.new_event("signup", url="/join", custom_data={"plan": plan, "seats": 3}, distinct_id="v0")
        assert client.flush(DEADLINE)
        client.login("admin", PASSWORD)
        yield client


@pytest.fixture
def is_3_1(visited: umami.Client) -> bool:
    try:
        visited.event_stats(**RANGE)
    except UnsupportedError as error:
        assert str(error).startswith("event_stats() needs Umami 3.1 or later")  # noqa: PT017
        return False
    return True


def test_metrics_rank_the_values_of_a_field(visited: umami.Client, call: Call) -> None:
    paths = call(visited.metrics, "path", **RANGE)
    assert isinstance(paths, Table)
    assert {row.x for row in paths} == {"/p0", "/p1", "/p2"}
    assert [row.y for row in paths] == [2, 2, 2]
    assert call(visited.metrics, "event", **RANGE)[0].model_dump() == {"x": "signup", "y": 3, "country": None}
    assert len(call(visited.metrics, "path", **RANGE, limit=1)) == 1
    assert [row.x for row in call(visited.metrics, "path", **RANGE, search="p2")] == ["/p2"]
    assert call(visited.metrics, "path", **RANGE, title="Page 1")[0].x == "/p1"


def test_expanded_metrics_have_every_sum(visited: umami.Client, is_3_1: bool) -> None:
    try:
        row = visited.metrics("path", **RANGE, path="/p1", expanded=True)[0]
    except UnsupportedError as error:
        assert str(error).startswith("metrics(expanded=True) needs Umami 3.0")  # noqa: PT017
        assert not is_3_1
        return
    assert (row.name, row.pageviews, row.visitors) == ("/p1", 2, 2)


@pytest.mark.parametrize("type_", ["utm_source", "distinct_id"])
def test_a_field_that_the_server_does_not_have_names_the_version(
    visited: umami.Client, is_3_1: bool, type_: Any
) -> None:
    if is_3_1:
        assert visited.metrics(type_, **RANGE)
        return
    with pytest.raises(UnsupportedError, match=rf"^metrics\('{type_}'\) needs Umami 3\.1 or later"):
        visited.metrics(type_, **RANGE)


def test_page_views_come_as_series(visited: umami.Client, call: Call) -> None:
    series = call(visited.pageviews, **RANGE, unit="hour")
    assert sum(point.y for point in series.pageviews) == 6
    assert max(point.y for point in series.sessions) == 2
    assert all(len(point.x) == len("2026-01-01 00:00:00") for point in series.pageviews)
    assert isinstance(series.pageviews, Table)
    assert series.compare is None


def test_events_come_as_series(visited: umami.Client, call: Call) -> None:
    points = call(visited.event_series, **RANGE, unit="day")
    assert {point.x for point in points} == {"signup"}
    assert sum(point.y for point in points) == 3


def test_event_stats_compare(visited: umami.Client, is_3_1: bool, call: Call) -> None:
    if is_3_1:
        stats = call(visited.event_stats, **RANGE)
        assert (stats.events, stats.visitors, stats.uniqueEvents) == (3, 1, 1)
        assert stats.comparison == umami.models.EventStatsCmp()


def test_realtime_is_the_last_half_hour(visited: umami.Client, call: Call) -> None:
    now = call(visited.realtime)
    assert now.totals.views >= 6
    assert {event.type for event in now.events} >= {"event", "pageview"}
    assert now.urls["/p0"] == 2


def test_the_date_range_is_that_of_the_events(visited: umami.Client, call: Call) -> None:
    found = call(visited.date_range)
    assert found.startDate is not None
    assert NOW - timedelta(minutes=5) < datetime.fromisoformat(found.startDate.replace("Z", "+00:00"))
    assert found.endDate >= found.startDate


def test_filter_values_are_what_a_filter_can_have(visited: umami.Client, call: Call) -> None:
    values = call(visited.filter_values, "path", **RANGE)
    assert {(row.value, row.count) for row in values} == {("/p0", 2), ("/p1", 2), ("/p2", 2), ("/join", 3)}
    assert [row.value for row in call(visited.filter_values, "path", **RANGE, search="join")] == ["/join"]


def test_custom_data_is_counted(visited: umami.Client, call: Call) -> None:
    keys = call(visited.event_properties, **RANGE)
    assert {(row.eventName, row.propertyName, row.total) for row in keys} == {
        ("signup", "plan", 3),
        ("signup", "seats", 3),
    }
    values = call(visited.event_values, "plan", **RANGE, event="signup")
    assert [(row.value, row.total) for row in values] == [("pro", 2), ("free", 1)]


def test_sessions_are_summed(visited: umami.Client, call: Call) -> None:
    stats = call(visited.session_stats, **RANGE)
    assert (stats.visitors, stats.events) == (2, 3)
    week = call(visited.weekly_sessions, **RANGE)
    assert (len(week), {len(day) for day in week}) == (7, {24})
    assert max(map(max, week)) == 2


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("metrics", {"type": "pth"}, r"^type must be one of path, entry, .* got 'pth'"),
        ("metrics", {"type": "path", "limit": 0}, r"^limit must be a whole number from 1 on, got 0"),
        ("metrics", {"type": "path", "offset": -1}, r"^offset must be a whole number from 0 on"),
        ("pageviews", {"unit": "week"}, r"^unit must be one of year, month, day, hour, minute, got 'week'"),
        ("pageviews", {"compare": "last"}, r"^compare must be one of prev, yoy"),
        ("filter_values", {"type": "screen"}, r"^type must be one of path, referrer, "),
        ("event_values", {"property_name": 5, "event": "a"}, r"^property_name must be a string"),
    ],
)
def test_an_argument_is_checked_at_the_call(function: str, arguments: dict[str, Any], message: str) -> None:
    with umami.Client(url_base="http://127.0.0.1:9", website_id=SITE) as client:
        client.set_token("t")
        with pytest.raises(ValidationError, match=message):
            getattr(client, function)(**arguments, period="7d")


@pytest.mark.parametrize("body", ["{}", '{"data": 5}', "[5]", "<html>", '[{"x": "a", "y": "many"}]'])
def test_an_answer_of_another_form_raises(client: umami.Client, collector: Collector, body: str) -> None:
    client.login("admin", PASSWORD)
    collector.fail(200, path="/api/websites/*", body=body, headers={"Content-Type": "application/json"})
    with pytest.raises(ResponseError, match="/api/websites/"):
        client.metrics("path", **RANGE)


# Tables.


def test_a_table_is_a_list_that_is_written_and_shown(visited: umami.Client, tmp_path: Any) -> None:
    table = visited.metrics("path", **RANGE)
    assert table.to_dicts()[0] == {"x": table[0].x, "y": 2, "country": None}
    path = tmp_path / "pages.csv"
    assert table.to_csv(path) == 3
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert [row["x"] for row in rows] == [row.x for row in table]
    file = io.StringIO()
    assert table.to_csv(file) == 3
    assert file.getvalue() == path.read_text(encoding="utf-8")
    assert "<td>/p0</td>" in table._repr_html_()
    assert repr(table).startswith("Table([Metric(")


def test_a_carriage_return_in_a_table_does_not_end_a_line_of_csv(tmp_path: Any) -> None:
    values = ["a\rb", "a\nb", "a\r\nb", "a"]
    file = tmp_path / "table.csv"
    Table([umami.models.Metric(x=value, y=1) for value in values]).to_csv(file)
    with file.open(newline="", encoding="utf-8") as lines:
        assert [row["x"] for row in csv.DictReader(lines)] == values
    assert file.read_bytes().count(b"\r\n") == 1


def test_a_table_escapes_what_a_notebook_shows() -> None:
    table = Table([umami.models.Metric(x="<script>", y=1)])
    assert "<script>" not in table._repr_html_()


def test_a_table_becomes_a_frame(visited: umami.Client) -> None:
    table = visited.metrics("path", **RANGE)
    pandas = pytest.importorskip("pandas")
    frame = table.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["y"]) == [2, 2, 2]
    assert list(Table[umami.models.Metric]().to_pandas().columns) == []


def test_a_table_becomes_a_frame_of_polars(visited: umami.Client) -> None:
    polars = pytest.importorskip("polars")
    frame = visited.metrics("path", **RANGE).to_polars()
    assert isinstance(frame, polars.DataFrame)
    assert frame["y"].sum() == 6
