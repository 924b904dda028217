"""A full queue: each policy, from threads and from tasks, and its reports."""

import logging
import threading
from collections.abc import Callable

import anyio
import anyio.to_thread
import pytest
from conftest import DEADLINE
from queue_helpers import (
    NEVER,
    Listener,
    Reports,
    hold,
    in_threads,
    send_many,
    sent,
    sizes,
    stored,
    until_waiting,
)

import umami
from umami.collector import Collector
from umami.queue import reporter

MakeClient = Callable[..., umami.Client]
Balanced = Callable[[umami.Client], None]
QUEUED = {"queued": True}
FULL = {"queued": False, "reason": "queue_full"}


@pytest.fixture
def event_bytes(collector: Collector, make_client: MakeClient) -> int:
    """How many bytes an encoded event has whose name has two letters."""
    client = make_client(mode="direct")
    client.new_event("ab")
    size = len(collector.requests[0].body)
    collector.clear()
    return size


def freeze(collector: Collector, client: umami.Client) -> None:
    """Have one event on the wire, and the server silent about it."""
    collector.fail(None, freeze=True, times=None)
    assert client.new_event("on the wire") == QUEUED
    assert not client.flush(0)  # does not wait for its batch to fill
    collector.wait_for(requests=1, timeout=DEADLINE)


# drop_newest, the default.


def test_a_full_queue_refuses_the_next_event(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(queue_size=3, flush_interval=NEVER)
    hold(collector, client, "e")
    names = ["e", *send_many(client, 2)]
    assert client.new_event("one too many") == FULL
    assert client.queue_stats().dropped == {"queue_full": 1}
    assert client.queue_stats().pending == 3
    balanced(client)
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)
    assert client.new_event("room again") == QUEUED


def test_the_bound_in_bytes_is_exact(
    collector: Collector, make_client: MakeClient, event_bytes: int, balanced: Balanced
) -> None:
    client = make_client(queue_bytes=4 * event_bytes, flush_interval=NEVER)
    hold(collector, client)
    assert [client.new_event(name) for name in ("e0", "e1", "e2", "e3")] == [QUEUED, QUEUED, QUEUED, FULL]
    assert client.queue_stats().pending_bytes == 4 * event_bytes
    balanced(client)
    assert client.flush(DEADLINE)
    assert client.queue_stats().pending_bytes == 0
    assert stored(collector) == dict.fromkeys(["xx", "e0", "e1", "e2"], 1)


def test_one_byte_less_holds_one_event_less(
    collector: Collector, make_client: MakeClient, event_bytes: int
) -> None:
    client = make_client(queue_bytes=4 * event_bytes - 1, flush_interval=NEVER)
    hold(collector, client)
    assert [client.new_event(name) for name in ("e0", "e1", "e2")] == [QUEUED, QUEUED, FULL]


def test_events_on_the_wire_count_as_queued(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(queue_size=2, flush_interval=NEVER)
    freeze(collector, client)
    assert client.new_event("second") == QUEUED
    assert client.new_event("third") == FULL
    balanced(client)
    collector.thaw()
    assert client.flush(DEADLINE)
    assert client.queue_stats().delivered == 2


def test_every_kind_of_send_says_so(collector: Collector, make_client: MakeClient) -> None:
    client = make_client(queue_size=1, flush_interval=NEVER)
    hold(collector, client)
    assert client.new_event("event") == FULL
    assert client.new_page_view("Page", "/") == FULL
    assert client.new_revenue_event(1) == FULL
    assert client.identify("someone", {}) == FULL
    assert client.queue_stats().dropped == {"queue_full": 4}


# drop_oldest.


def test_the_oldest_events_give_way(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(queue_size=3, overflow="drop_oldest", flush_interval=NEVER)
    hold(collector, client)
    send_many(client, 10)
    balanced(client)
    assert client.queue_stats().dropped == {"queue_full": 8}
    assert client.flush(DEADLINE)
    assert [event.name for event in collector.events] == ["e7", "e8", "e9"]


@pytest.mark.slow
def test_a_large_queue_drops_a_few_at_a_time(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(queue_size=500, overflow="drop_oldest", flush_interval=NEVER)
    hold(collector, client)
    send_many(client, 499)
    balanced(client)
    assert client.queue_stats().dropped == {}
    for name, dropped in (("a", 1), ("b", 6), ("c", 6), ("d", 6), ("e", 6), ("f", 6), ("g", 11)):
        # The first is the one that was sent before, and came back.
        client.new_event(name)
        balanced(client)
        assert client.queue_stats().dropped == {"queue_full": dropped}
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys([*(f"e{n}" for n in range(10, 499)), *"abcdefg"], 1)


def test_a_large_event_takes_the_room_of_several(
    collector: Collector, make_client: MakeClient, event_bytes: int, balanced: Balanced
) -> None:
    client = make_client(queue_bytes=4 * event_bytes, overflow="drop_oldest", flush_interval=NEVER)
    hold(collector, client)
    send_many(client, 4)
    title_of_one_event = "t" * (2 + event_bytes // 2)
    assert client.new_event("e4", title=title_of_one_event) == QUEUED
    balanced(client)
    assert client.flush(DEADLINE)
    assert [event.name for event in collector.events] == ["e2", "e3", "e4"]


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest", "block"])
def test_an_event_larger_than_the_whole_queue_is_refused_at_once(
    overflow: str, collector: Collector, make_client: MakeClient, event_bytes: int, balanced: Balanced
) -> None:
    client = make_client(
        queue_bytes=3 * event_bytes, overflow=overflow, block_timeout=NEVER, flush_interval=NEVER
    )
    hold(collector, client, "e")
    names = ["e", *send_many(client, 2)]
    huge = {f"k{n}": "x" * 400 for n in range(3)}
    assert client.new_event("huge", custom_data=huge) == {"queued": False, "reason": "too_large"}
    balanced(client)
    assert client.queue_stats().dropped == {"too_large": 1}
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)


def test_what_is_on_the_wire_does_not_give_way(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(queue_size=1, overflow="drop_oldest", flush_interval=NEVER)
    freeze(collector, client)
    assert client.new_event("refused") == FULL
    balanced(client)
    collector.thaw()
    assert client.flush(DEADLINE)
    assert stored(collector) == {"on the wire": 1}


def test_what_waits_to_be_sent_again_is_older_than_what_was_never_sent(
    collector: Collector, make_client: MakeClient, heard: Listener, balanced: Balanced
) -> None:
    client = make_client(
        queue_size=4,
        overflow="drop_oldest",
        batch_size=2,
        flush_interval=NEVER,
        retry_wait=NEVER,
        retry_wait_max=NEVER,
    )
    collector.fail(503)
    send_many(client, 2, "failed")
    heard.wait_for("not getting through")
    send_many(client, 3, "fresh")
    balanced(client)
    assert client.flush(DEADLINE)
    assert sorted(stored(collector)) == ["failed1", "fresh0", "fresh1", "fresh2"]


def test_the_oldest_of_another_server_give_way_too(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(queue_size=2, overflow="drop_oldest", flush_interval=NEVER)
    hold(collector, client)
    send_many(client, 2)
    with Collector() as other:
        client.set_url_base(other.url)
        assert client.new_event("new") == QUEUED
        balanced(client)
        assert client.flush(DEADLINE)
        assert stored(other) == {"new": 1}
    assert stored(collector) == {"e1": 1}


# block.


def test_block_waits_for_room(collector: Collector, make_client: MakeClient, balanced: Balanced) -> None:
    client = make_client(queue_size=1, overflow="block", block_timeout=DEADLINE, flush_interval=0)
    names = [f"e{n}" for n in range(20)]
    assert [client.new_event(name) for name in names] == [QUEUED] * 20
    balanced(client)
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)
    assert client.queue_stats().dropped == {}


def test_block_gives_up_at_its_timeout(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(queue_size=1, overflow="block", block_timeout=0.05, flush_interval=NEVER)
    freeze(collector, client)
    assert client.new_event("waits in vain") == FULL
    assert client.queue_stats().dropped == {"queue_full": 1}
    balanced(client)


def test_block_without_patience_refuses_at_once(collector: Collector, make_client: MakeClient) -> None:
    client = make_client(queue_size=1, overflow="block", block_timeout=0, flush_interval=NEVER)
    freeze(collector, client)
    assert client.new_event("impatient") == FULL


@pytest.mark.slow
def test_blocked_threads_all_get_in_once_there_is_room(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(queue_size=2, overflow="block", block_timeout=DEADLINE, flush_interval=0)
    collector.fail(None, freeze=True)

    def send(number: int) -> None:
        if number == 0:
            collector.wait_for(requests=1, timeout=DEADLINE)
            balanced(client)
            collector.thaw()
        for turn in range(10):
            assert client.new_event(f"{number}-{turn}") == QUEUED

    in_threads(20, send)
    assert client.flush(DEADLINE)
    assert stored(collector) == {f"{number}-{turn}": 1 for number in range(20) for turn in range(10)}
    balanced(client)


def test_a_larger_queue_lets_the_blocked_in(collector: Collector, make_client: MakeClient) -> None:
    client = make_client(queue_size=1, overflow="block", block_timeout=DEADLINE, flush_interval=NEVER)
    freeze(collector, client)
    answers = []
    blocked = threading.Thread(target=lambda: answers.append(client.new_event("blocked")))
    blocked.start()
    until_waiting(blocked)
    client.configure(queue_size=2)
    blocked.join(DEADLINE)
    assert answers == [QUEUED]


@pytest.mark.slow
@pytest.mark.anyio
async def test_block_never_blocks_the_event_loop(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(queue_size=1, overflow="block", block_timeout=DEADLINE, flush_interval=0)
    collector.fail(None, freeze=True)
    answers = []

    async def send(name: str) -> None:
        answers.append(await client.new_event_async(name))

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(send, f"e{number}")
        # If a send blocked the loop, nobody would be left to make room for it.
        while not collector.requests or not answers:  # noqa: ASYNC110 - the collector has no event of this loop's
            await anyio.sleep(0.001)
        assert len(answers) == 1
        collector.thaw()
    assert answers == [QUEUED] * 100
    assert await client.flush_async(DEADLINE)
    assert stored(collector) == {f"e{number}": 1 for number in range(100)}
    balanced(client)


@pytest.mark.anyio
async def test_a_blocked_task_gives_up_at_the_timeout(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(queue_size=1, overflow="block", block_timeout=0.05, flush_interval=NEVER)
    freeze(collector, client)
    assert await client.new_event_async("waits in vain") == FULL
    balanced(client)


@pytest.mark.anyio
async def test_a_blocked_task_can_be_cancelled(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(queue_size=1, overflow="block", block_timeout=DEADLINE, flush_interval=NEVER)
    freeze(collector, client)
    with anyio.move_on_after(0.05) as scope:
        await client.new_event_async("cancelled")
    assert scope.cancelled_caught
    assert client.queue_stats().dropped == {"queue_full": 1}
    balanced(client)
    collector.thaw()
    assert await client.flush_async(DEADLINE)
    assert stored(collector) == {"on the wire": 1}
    balanced(client)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("overflow", "kept"),
    [("drop_newest", ["xx", "e0", "e1"]), ("drop_oldest", ["e3", "e4", "e5"])],
)
async def test_tasks_get_the_same_answers(
    overflow: str, kept: list[str], collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(queue_size=3, overflow=overflow, flush_interval=NEVER)
    await anyio.to_thread.run_sync(hold, collector, client)
    answers = [await client.new_event_async(f"e{number}") for number in range(6)]
    assert answers == [QUEUED] * 2 + [FULL if overflow == "drop_newest" else QUEUED] * 4
    balanced(client)
    assert await client.flush_async(DEADLINE)
    assert stored(collector) == dict.fromkeys(kept, 1)


# What is full is sent at once, long before `flush_interval`.


def test_a_full_queue_is_sent_at_once(collector: Collector, make_client: MakeClient) -> None:
    client = make_client(queue_size=10, flush_interval=NEVER)
    send_many(client, 10)
    collector.wait_for(events=10, timeout=DEADLINE)
    assert sizes(collector) == [10]


@pytest.mark.parametrize("settings", [{"queue_size": 10}, {"queue_bytes": 4096}], ids=str)
def test_a_full_queue_blocks_no_send_for_longer_than_a_request(
    settings: dict[str, int], collector: Collector, make_client: MakeClient
) -> None:
    client = make_client(overflow="block", block_timeout=DEADLINE, flush_interval=NEVER, **settings)
    names = send_many(client, 30)
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)


def test_a_queue_that_is_full_of_several_servers_events_is_sent_at_once(
    collector: Collector, make_client: MakeClient
) -> None:
    with Collector() as other:
        client = make_client(queue_size=10, flush_interval=NEVER)
        send_many(client, 5)
        client.set_url_base(other.url)
        send_many(client, 5)
        collector.wait_for(events=5, timeout=DEADLINE)
        other.wait_for(events=5, timeout=DEADLINE)


@pytest.mark.parametrize("size", [60, 400])
def test_events_that_fill_a_batch_in_bytes_are_sent_at_once(
    size: int, collector: Collector, make_client: MakeClient
) -> None:
    client = make_client(batch_bytes=4096, batch_size=500, flush_interval=NEVER)
    for number in range(40):
        client.new_event(f"e{number}", custom_data={"text": "x" * size, "more": ["y" * size] * (size // 100)})
    collector.wait_for(requests=40 * (300 + size) // 4096 - 1, timeout=DEADLINE)
    assert client.flush(DEADLINE)
    assert len(collector.events) == 40
    assert all(len(request.body) <= 4096 for request in collector.requests)


# Under load.


@pytest.mark.slow
@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest", "block"])
def test_every_event_ends_in_one_place_under_load(
    overflow: str, collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    reports = Reports()
    # Not all of the queue can be on the wire at once, or else even the oldest could not give way.
    client = make_client(
        queue_size=20, batch_size=5, overflow=overflow, block_timeout=0.001, on_error=reports
    )
    refused = []

    def send(number: int) -> None:
        for turn in range(200):
            if not client.new_event(f"{number}-{turn}")["queued"]:
                refused.append(1)
            balanced(client)

    in_threads(5, send)
    assert client.flush(DEADLINE)
    stats = client.queue_stats()
    assert stats.submitted == 1000
    assert stats.delivered == len(collector.events) == len(stored(collector))
    lost = stats.dropped.get("queue_full", 0)
    assert stats.delivered + lost == 1000
    assert len(refused) == (0 if overflow == "drop_oldest" else lost)
    reports.wait_for(lost)
    assert sum(reports.counts().values()) == lost


# How it is told.


@pytest.mark.parametrize(("overflow", "first"), [("drop_newest", b'"e1"'), ("drop_oldest", b'"xx"')])
def test_on_error_is_told_of_every_drop(
    overflow: str, first: bytes, collector: Collector, make_client: MakeClient
) -> None:
    reports = Reports()
    client = make_client(queue_size=2, overflow=overflow, flush_interval=NEVER, on_error=reports)
    hold(collector, client)
    for number in range(50):
        client.new_event(f"e{number}")
    reports.wait_for(49)
    assert reports.counts() == {("dropped", "queue_full"): 49}
    assert first in reports.all[0].events[0]


def test_a_report_shows_a_few_of_the_events_only(collector: Collector, make_client: MakeClient) -> None:
    reports = Reports()
    client = make_client(queue_size=1, flush_interval=NEVER, on_error=reports)
    hold(collector, client)
    for _ in range(500):
        client.new_event("one of many")
    reports.wait_for(500)
    assert all(len(problem.events) <= 10 for problem in reports.all)


def test_the_log_tells_it_once_an_interval_with_the_count(
    collector: Collector, make_client: MakeClient, heard: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = Reports()
    client = make_client(queue_size=1, flush_interval=NEVER, on_error=reports)

    def drop(count: int, before: int) -> None:
        for _ in range(count):
            assert client.new_event("dropped") == FULL
        reports.wait_for(before + count)

    hold(collector, client)
    drop(1, before=0)
    drop(30, before=1)
    (line,) = heard.matching("queue_full")
    assert line.getMessage().startswith("1 event dropped (queue_full)")
    monkeypatch.setattr(reporter, "LOG_INTERVAL", 0)
    drop(1, before=31)
    assert heard.matching("queue_full")[1].getMessage().startswith("31 events dropped (queue_full)")


def test_different_reasons_are_logged_side_by_side(
    collector: Collector, make_client: MakeClient, heard: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "umami")
    client = make_client(queue_size=1, flush_interval=NEVER, before_send=lambda payload: None)
    client.new_event("secret")
    heard.wait_for("1 event dropped (before_send)")
    client.configure(before_send=None)
    hold(collector, client)
    client.new_event("one too many")
    heard.wait_for("1 event dropped (queue_full)")
    assert not heard.matching("secret")


def test_a_healthy_queue_logs_nothing(
    collector: Collector, client: umami.Client, caplog: pytest.LogCaptureFixture
) -> None:
    send_many(client, 100)
    assert client.flush(DEADLINE)
    assert sum(map(len, sent(collector.requests))) == 100
    assert caplog.records == []
