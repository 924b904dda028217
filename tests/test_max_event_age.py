"""`max_event_age`: events that are too old are dropped under their own reason, wherever they wait."""

import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import freezegun
import pytest
from conftest import DEADLINE, SITE
from process_helpers import finished, settings
from queue_helpers import NEVER, Reports, drain, hold, refusal, stored

import umami
from umami.collector import Collector

MakeClient = Callable[..., umami.Client]
Balanced = Callable[[umami.Client], None]
HOUR = 3600.0


def send(client: umami.Client, name: str, age: float) -> None:
    """Send an event that happened so many seconds ago."""
    assert client.new_event(name, timestamp=time.time() - age) == {"queued": True}


def test_by_default_no_event_is_too_old(collector: Collector, client: umami.Client) -> None:
    send(client, "last year", 365 * 24 * HOUR)
    assert client.flush(DEADLINE)
    assert stored(collector) == {"last year": 1}


@pytest.mark.slow
@pytest.mark.parametrize("ages", ["o", "on", "no", "nonoon", "oooonnn", "nnooo"])
def test_old_events_are_dropped_and_the_others_delivered(
    ages: str, collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    reports = Reports()
    client = make_client(max_event_age=HOUR, flush_interval=NEVER, on_error=reports)
    for number, age in enumerate(ages):
        send(client, f"{age}{number}", 2 * HOUR if age == "o" else 0)
    assert client.flush(DEADLINE)
    assert stored(collector) == {f"n{number}": 1 for number, age in enumerate(ages) if age == "n"}
    assert client.queue_stats().dropped == {"expired": ages.count("o")}
    balanced(client)
    reports.wait_for(ages.count("o"))
    assert reports.counts() == {("dropped", "expired"): ages.count("o")}


@pytest.mark.slow
def test_events_grow_too_old_while_the_server_is_away(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(max_event_age=1)
    collector.fail(503, times=None)
    for number in range(10):
        client.new_event(f"e{number}")
    assert client.flush(DEADLINE), "an outage that lasts longer than the events' age keeps nothing"
    assert client.queue_stats().dropped == {"expired": 10}
    assert stored(collector) == {}
    balanced(client)


def test_a_long_backlog_is_dropped_at_once(collector: Collector, make_client: MakeClient) -> None:
    client = make_client(max_event_age=HOUR)
    hold(collector, client)
    for number in range(5000):
        send(client, f"e{number}", 2 * HOUR)
    assert client.flush(DEADLINE)
    assert client.queue_stats().dropped == {"expired": 5000}
    assert stored(collector) == {"xx": 1}
    assert client.queue_stats().requests == 2


@pytest.mark.slow
def test_events_in_the_spool_grow_old_too(collector: Collector, tmp_path: Path) -> None:
    program = f"""
        import time, umami
        for age in ({2 * HOUR}, 0, {2 * HOUR}):
            umami.new_event(f"{{age:g}}", timestamp=time.time() - age)
    """
    collector.fail(503, times=None)
    finished("-c", dedent(program), **settings(collector, spool=tmp_path, shutdown_timeout=0.1))
    collector.clear_faults()
    url = settings(collector)["UMAMI_URL"]
    stats = drain(tmp_path, url_base=url, website_id=SITE, hostname="example.com", max_event_age=HOUR)
    assert stats.dropped == {"expired": 2}
    assert stored(collector) == {"0": 1}


def test_an_event_whose_time_before_send_took_away_is_never_too_old(
    collector: Collector, make_client: MakeClient
) -> None:
    def without_time(payload: dict[str, object]) -> dict[str, object]:
        return {key: value for key, value in payload.items() if key != "timestamp"}

    client = make_client(max_event_age=HOUR, before_send=without_time)
    send(client, "timeless", 2 * HOUR)
    assert client.flush(DEADLINE)
    assert stored(collector) == {"timeless": 1}


@pytest.mark.parametrize("value", [0, -1, "old", True])
def test_the_setting_is_checked(value: object) -> None:
    assert "max_event_age" in refusal(umami.Client, max_event_age=value)


def test_an_event_is_not_too_old_before_its_second_is(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    """An event has the second in which it happened, without the part of it that had gone by."""
    client = make_client(max_event_age=0.5)
    with freezegun.freeze_time("2026-01-01 12:00:00.9"):
        client.new_event("fresh")
        assert client.flush(DEADLINE)
    with freezegun.freeze_time("2026-01-01 12:00:01.6"):
        send(client, "stale", 1.6)
        assert client.flush(DEADLINE)
    assert stored(collector) == {"fresh": 1}
    assert client.queue_stats().dropped == {"expired": 1}
    balanced(client)
