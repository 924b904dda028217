"""Flush, shutdown, counts, and a change of the server while events are queued."""

import asyncio
import sys
import threading
from collections.abc import Callable
from time import monotonic
from types import ModuleType
from typing import Any

import anyio
import pytest
from conftest import ALL_PACKAGES, DEADLINE, SITE
from process_helpers import finished
from process_helpers import settings as settings_of
from queue_helpers import NEVER, Reports, hold, in_threads, send_many, sizes, stored, until_waiting
from typing_extensions import Self

import umami
from umami.collector import Collector
from umami.errors import ValidationError

MakeClient = Callable[..., umami.Client]
Balanced = Callable[[umami.Client], None]
QUEUED = {"queued": True}
SHUT = {"queued": False, "reason": "shutdown"}


@pytest.fixture
def stuck(collector: Collector, make_client: MakeClient) -> umami.Client:
    """A client with one event on the wire that the server says nothing about."""
    client = make_client(flush_interval=0)
    collector.fail(None, freeze=True, times=None)
    client.new_event("stuck")
    collector.wait_for(requests=1, timeout=DEADLINE)
    return client


class Until:
    """A thread that does something again and again until it is told to stop."""

    def __init__(self, work: Callable[[int], object]) -> None:
        self._stop = threading.Event()
        self.started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)

    def _run(self, work: Callable[[int], object]) -> None:
        turn = 0
        while not self._stop.is_set():
            work(turn)
            turn += 1
            self.started.set()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self.started.wait(DEADLINE)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()


# flush.


def test_a_flush_with_nothing_queued_is_done_at_once(collector: Collector, make_client: MakeClient) -> None:
    assert make_client().flush(0)
    assert collector.requests == ()


def test_a_flush_returns_when_everything_is_delivered(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(flush_interval=NEVER)
    names = send_many(client, 120)
    assert client.flush()
    assert stored(collector) == dict.fromkeys(names, 1)
    assert client.queue_stats().pending == 0
    balanced(client)


def test_a_flush_that_runs_out_of_time_says_so_and_keeps_the_events(
    collector: Collector, stuck: umami.Client, balanced: Balanced
) -> None:
    assert not stuck.flush(0.05)
    assert not stuck.flush(0)
    assert stuck.queue_stats().pending == 1
    balanced(stuck)
    collector.thaw()
    assert stuck.flush(DEADLINE)
    assert stored(collector) == {"stuck": 1}


def test_a_flush_is_done_too_when_the_events_are_rejected(collector: Collector, client: umami.Client) -> None:
    collector.fail(400, times=None)
    send_many(client, 5)
    assert client.flush(DEADLINE)
    assert client.queue_stats().rejected == 5


def test_a_flush_is_done_too_when_the_events_are_dropped(
    collector: Collector, make_client: MakeClient
) -> None:
    client = make_client(retry_limit=0)
    collector.fail(503, times=None)
    send_many(client, 5)
    assert client.flush(DEADLINE)
    assert client.queue_stats().dropped == {"retry_limit": 5}


@pytest.mark.slow
def test_a_flush_waits_for_its_own_events_not_for_those_that_keep_coming(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(queue_size=200, overflow="block", block_timeout=DEADLINE)
    with Until(lambda turn: client.new_event("later")):
        names = send_many(client, 20, "before")
        assert client.flush(DEADLINE)
        assert set(names) <= set(stored(collector))
        balanced(client)


@pytest.mark.slow
def test_a_flush_does_not_return_before_its_events_are_settled(
    collector: Collector, make_client: MakeClient
) -> None:
    client = make_client(batch_size=5)
    for turn in range(20):
        names = send_many(client, 12, f"{turn}-")
        assert client.flush(DEADLINE)
        assert set(names) <= set(stored(collector))


@pytest.mark.slow
def test_many_threads_may_flush_at_once(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(flush_interval=NEVER)

    def send_and_flush(number: int) -> None:
        for turn in range(5):
            name = f"{number}-{turn}"
            client.new_event(name)
            assert client.flush(DEADLINE)
            assert stored(collector)[name] == 1

    in_threads(20, send_and_flush)
    balanced(client)
    assert client.queue_stats().delivered == 100


def test_an_impatient_flush_does_not_disturb_a_patient_one(collector: Collector, stuck: umami.Client) -> None:
    answers = []
    patient = threading.Thread(target=lambda: answers.append(stuck.flush(DEADLINE)))
    patient.start()
    until_waiting(patient)
    assert not stuck.flush(0.01)
    collector.thaw()
    patient.join(DEADLINE)
    assert answers == [True]


@pytest.mark.parametrize("call", ["flush", "shutdown"])
@pytest.mark.parametrize("timeout", [-1, float("nan"), "5", True], ids=str)
def test_a_timeout_that_is_none_is_refused(call: str, timeout: Any, client: umami.Client) -> None:
    with pytest.raises(ValidationError, match="timeout must be a number of seconds or None"):
        getattr(client, call)(timeout)


@pytest.mark.anyio
async def test_flush_async_waits_without_blocking_the_event_loop(
    collector: Collector, stuck: umami.Client
) -> None:
    answers = []

    async def flush() -> None:
        answers.append(await stuck.flush_async(DEADLINE))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flush)
        await anyio.wait_all_tasks_blocked()
        assert answers == []
        collector.thaw()  # nobody could, if the loop were blocked
    assert answers == [True]
    assert stored(collector) == {"stuck": 1}


@pytest.mark.anyio
async def test_flush_async_runs_out_of_time_as_flush_does(stuck: umami.Client) -> None:
    assert not await stuck.flush_async(0.05)
    assert not await stuck.flush_async(0)


@pytest.mark.anyio
async def test_flush_async_can_be_cancelled(collector: Collector, stuck: umami.Client) -> None:
    with anyio.move_on_after(0.05) as scope:
        await stuck.flush_async()
    assert scope.cancelled_caught
    collector.thaw()
    assert await stuck.flush_async(DEADLINE)


def test_flush_async_while_another_thread_imports_trio(
    stuck: umami.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trio", ModuleType("trio"))  # as the import system does at first
    assert not asyncio.run(stuck.flush_async(0.05))


@pytest.mark.anyio
async def test_tasks_that_wait_hold_no_thread(collector: Collector, stuck: umami.Client) -> None:
    stuck.configure(queue_size=1, overflow="block", block_timeout=DEADLINE)
    threads = set(threading.enumerate())
    answers: list[Any] = []

    async def wait(call: Callable[..., Any], *args: Any) -> None:
        answers.append(await call(*args))

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(wait, stuck.flush_async)
            tasks.start_soon(wait, stuck.flush_async, DEADLINE)
            tasks.start_soon(wait, stuck.new_event_async, "blocked")
        await anyio.wait_all_tasks_blocked()
        assert set(threading.enumerate()) <= threads
        assert answers == []
        collector.thaw()
    assert answers.count(True) == 100
    assert answers.count(QUEUED) == 50


@pytest.mark.anyio
async def test_a_shutdown_that_is_cancelled_leaves_the_queue_open(
    collector: Collector, stuck: umami.Client, balanced: Balanced
) -> None:
    with anyio.move_on_after(0.05) as scope:
        await stuck.shutdown_async(DEADLINE)
    assert scope.cancelled_caught
    assert stuck.new_event("later") == QUEUED
    collector.thaw()
    assert await stuck.shutdown_async(DEADLINE)
    assert stored(collector) == {"stuck": 1, "later": 1}
    balanced(stuck)


def test_an_event_loop_that_is_closed_while_a_task_waits_harms_no_one(
    collector: Collector, stuck: umami.Client, balanced: Balanced
) -> None:
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(stuck.flush_async())
    loop.run_until_complete(asyncio.sleep(0.05))
    loop.close()
    stuck.new_event("later")
    collector.thaw()
    assert stuck.flush(DEADLINE)
    assert stored(collector) == {"stuck": 1, "later": 1}
    balanced(stuck)
    waiting._log_destroy_pending = False  # that it never ends is what this test is about


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("call", ["flush", "shutdown", "send"])
def test_a_program_ends_although_a_call_that_waited_was_cancelled(
    call: str, backend: str, collector: Collector
) -> None:
    collector.fail(None, freeze=True, times=None)
    program = f"""
    import threading, anyio, umami

    async def main():
        await umami.new_event_async("pending")
        with anyio.move_on_after(0.2) as scope:
            if "{call}" == "send":
                await umami.new_event_async("blocked")
            else:
                await umami.{call}_async(60)
        assert scope.cancelled_caught

    anyio.run(main, backend="{backend}")
    assert all(each.name in ("umami-sender", "umami-reporter") for each in threading.enumerate()[1:])
    """
    blocking = {"queue_size": 1, "overflow": "block", "block_timeout": 60, "shutdown_timeout": 0.2}
    run = finished("-c", program, **ALL_PACKAGES, **settings_of(collector, **blocking))
    assert run.returncode == 0, run.stderr
    assert "The process ends with 1 event not delivered" in run.stderr


# shutdown.


@pytest.mark.slow
@pytest.mark.parametrize("call", ["umami.shutdown()", "asyncio.run(umami.shutdown_async())"])
def test_the_end_after_a_shutdown_in_vain_does_not_wait_again(call: str, collector: Collector) -> None:
    collector.fail(None, freeze=True, times=None)
    program = f"""
    import asyncio, atexit, time
    atexit.register(lambda: print(time.monotonic() - ended))
    import umami
    umami.new_event("left")
    assert {call} is False
    ended = time.monotonic()
    """
    run = finished("-c", program, **settings_of(collector, shutdown_timeout=3))
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 3
    assert "shutdown() returned False" in run.stderr
    assert "ends with 1 event not delivered" in run.stderr


def test_a_shutdown_delivers_what_is_queued(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(flush_interval=NEVER)
    names = send_many(client, 120)
    assert client.shutdown(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)
    balanced(client)


def test_a_shutdown_ends_its_threads(make_client: MakeClient) -> None:
    before = set(threading.enumerate())
    client = make_client()
    client.new_event("one")
    assert client.flush(DEADLINE)
    assert {thread.name for thread in set(threading.enumerate()) - before} == {"umami-sender"}
    assert client.shutdown(DEADLINE)
    assert set(threading.enumerate()) <= before


def test_a_shutdown_may_be_repeated(client: umami.Client, balanced: Balanced) -> None:
    assert client.shutdown(DEADLINE)
    client.new_event("one")
    assert [client.shutdown(DEADLINE) for _ in range(3)] == [True] * 3
    assert client.queue_stats().delivered == 1
    balanced(client)


def test_a_send_after_a_shutdown_starts_again(collector: Collector, client: umami.Client) -> None:
    names = []
    for turn in range(3):
        names += send_many(client, 10, f"{turn}-")
        assert client.shutdown(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)


def test_a_shutdown_that_runs_out_of_time_says_so_and_keeps_the_events(
    collector: Collector, stuck: umami.Client, balanced: Balanced
) -> None:
    send_many(stuck, 3)
    assert not stuck.shutdown(0.05)
    assert stuck.queue_stats().pending == 4
    balanced(stuck)
    collector.thaw()
    assert stuck.flush(DEADLINE)
    assert stored(collector) == {"stuck": 1, "e0": 1, "e1": 1, "e2": 1}


def test_what_a_shutdown_left_goes_out_with_the_next_send_wherever_that_goes(
    collector: Collector, other: Collector, make_client: MakeClient
) -> None:
    client = make_client()
    collector.fail(503, times=None)
    send_many(client, 3, "left")
    collector.wait_for(requests=1, timeout=DEADLINE)
    assert not client.shutdown(0.2)
    collector.clear_faults()
    client.set_url_base(other.url)
    send_many(client, 1, "next")
    other.wait_for(events=1, timeout=DEADLINE)
    collector.wait_for(events=3, timeout=DEADLINE)


def test_a_queue_that_a_shutdown_left_full_empties_with_the_next_send(
    collector: Collector, make_client: MakeClient
) -> None:
    client = make_client(queue_size=2, overflow="block", block_timeout=DEADLINE)
    collector.fail(503, times=None)
    send_many(client, 2, "left")
    assert not client.shutdown(0.2)
    collector.clear_faults()
    assert client.new_event("next") == QUEUED
    assert client.flush(DEADLINE)
    assert stored(collector) == {"left0": 1, "left1": 1, "next": 1}


def test_a_flush_does_not_wait_for_threads_that_a_shutdown_has_ended(
    collector: Collector, make_client: MakeClient
) -> None:
    client = make_client()
    collector.fail(503, times=None)
    client.new_event("left")
    collector.wait_for(requests=1, timeout=DEADLINE)
    answers = []
    flushing = threading.Thread(target=lambda: answers.append(client.flush()), daemon=True)
    flushing.start()
    until_waiting(flushing)
    assert not client.shutdown(0.2)
    flushing.join(DEADLINE)
    assert answers == [False]
    collector.clear_faults()
    assert client.flush(DEADLINE)


def test_shutdown_without_a_timeout_takes_the_settings(stuck: umami.Client) -> None:
    stuck.configure(shutdown_timeout=0.05)
    assert not stuck.shutdown()


@pytest.mark.slow
def test_lifespans_around_one_another_wait_for_shutdown_timeout_together(stuck: umami.Client) -> None:
    stuck.configure(shutdown_timeout=1)

    async def application_in_middleware() -> float:
        async with stuck.lifespan():
            async with stuck.lifespan():
                pass
            return monotonic()

    ended = asyncio.run(application_in_middleware())
    assert monotonic() - ended < 0.7


def test_sends_during_a_shutdown_are_refused(
    collector: Collector, stuck: umami.Client, balanced: Balanced
) -> None:
    reports = Reports()
    stuck.configure(on_error=reports)
    refused = threading.Event()

    def send(turn: int) -> None:
        answer = stuck.new_event(f"late{turn}")
        if answer == SHUT:
            refused.set()
        assert answer in (QUEUED, SHUT)

    answers: list[bool] = []
    shutdown = threading.Thread(target=lambda: answers.append(stuck.shutdown(DEADLINE)))
    with Until(send):
        shutdown.start()
        assert refused.wait(DEADLINE)
        collector.thaw()
        shutdown.join(DEADLINE)
    assert answers == [True]
    assert stuck.flush(DEADLINE)
    stats = stuck.queue_stats()
    assert stats.delivered == len(collector.events)
    assert stats.dropped["shutdown"] >= 1
    reports.wait_for(stats.dropped["shutdown"])
    assert reports.counts() == {("dropped", "shutdown"): stats.dropped["shutdown"]}
    balanced(stuck)


@pytest.mark.slow
def test_a_shutdown_ends_its_threads_although_sends_keep_coming(
    collector: Collector, make_client: MakeClient
) -> None:
    client = make_client()
    with Until(lambda turn: client.new_event("pouring")):
        for _ in range(20):
            assert client.shutdown(DEADLINE)
    assert client.flush(DEADLINE)
    assert client.queue_stats().delivered == len(collector.events)


def test_a_send_that_waits_for_room_is_refused_by_a_shutdown(stuck: umami.Client, balanced: Balanced) -> None:
    stuck.configure(queue_size=1, overflow="block", block_timeout=NEVER)
    answers = []
    blocked = threading.Thread(target=lambda: answers.append(stuck.new_event("blocked")))
    blocked.start()
    until_waiting(blocked)
    assert not stuck.shutdown(0.2)
    blocked.join(DEADLINE)
    assert answers == [SHUT]
    balanced(stuck)


def test_many_threads_may_shut_down_at_once(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(flush_interval=NEVER)
    names = send_many(client, 100)
    in_threads(10, lambda number: client.shutdown(DEADLINE))
    assert stored(collector) == dict.fromkeys(names, 1)
    balanced(client)


def test_an_impatient_shutdown_does_not_reopen_the_queue_while_another_goes_on(
    collector: Collector, stuck: umami.Client
) -> None:
    patient = threading.Thread(target=stuck.shutdown, args=(DEADLINE,))
    patient.start()
    while stuck.new_event("knocking") != SHUT:
        pass
    assert not stuck.shutdown(0.01)
    assert stuck.new_event("still closed") == SHUT
    collector.thaw()
    patient.join(DEADLINE)
    assert not patient.is_alive()
    assert stuck.new_event("open again") == QUEUED


@pytest.mark.slow
def test_a_shutdown_ends_its_threads_although_flushes_keep_coming(
    collector: Collector, make_client: MakeClient
) -> None:
    client = make_client()
    with Until(lambda turn: client.flush(DEADLINE)):
        for turn in range(20):
            send_many(client, 3, f"{turn}-")
            assert client.shutdown(DEADLINE)
    assert client.queue_stats().delivered == len(collector.events) == 60


@pytest.mark.anyio
async def test_shutdown_async_does_as_shutdown(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(flush_interval=NEVER)
    names = send_many(client, 10)
    assert await client.shutdown_async(DEADLINE)
    assert await client.shutdown_async()
    assert stored(collector) == dict.fromkeys(names, 1)
    assert await client.new_event_async("again") == QUEUED
    assert await client.flush_async(DEADLINE)
    balanced(client)


@pytest.mark.anyio
async def test_shutdown_async_runs_out_of_time_as_shutdown_does(stuck: umami.Client) -> None:
    assert not await stuck.shutdown_async(0.05)


# Context managers.


def settings(collector: Collector) -> dict[str, Any]:
    return {
        "url_base": collector.url,
        "website_id": SITE,
        "hostname": "example.com",
        "flush_interval": NEVER,
    }


def test_a_with_block_ends_with_everything_delivered(collector: Collector) -> None:
    with umami.Client(**settings(collector)) as client:
        names = send_many(client, 60)
        assert collector.events == () or len(collector.events) == 50
    assert stored(collector) == dict.fromkeys(names, 1)


def test_a_with_block_that_raises_delivers_too(collector: Collector) -> None:
    def work() -> None:
        with umami.Client(**settings(collector)) as client:
            client.new_event("before")
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        work()
    assert stored(collector) == {"before": 1}


@pytest.mark.anyio
async def test_an_async_with_block_ends_with_everything_delivered(collector: Collector) -> None:
    async with umami.Client(**settings(collector)) as client:
        await client.new_event_async("a")
        assert await client.heartbeat_async()
        client.new_event("b")
    assert stored(collector) == {"a": 1, "b": 1}


# Several clients, and clients that change.


def test_several_clients_do_not_know_of_each_other(
    collector: Collector, other: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    one, two = make_client(), make_client(url_base=other.url)
    other.fail(None, freeze=True, times=None)
    for client, prefix in ((one, "one"), (two, "two")):
        send_many(client, 20, prefix)
    assert one.flush(DEADLINE)
    assert one.shutdown(DEADLINE)
    assert two.queue_stats().pending == 20
    other.thaw()
    assert two.flush(DEADLINE)
    assert set(stored(collector)) == {f"one{number}" for number in range(20)}
    assert set(stored(other)) == {f"two{number}" for number in range(20)}
    balanced(one)
    balanced(two)


def test_an_event_goes_to_where_the_client_pointed_when_it_was_sent(
    collector: Collector, other: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(flush_interval=NEVER)
    names: dict[str, list[str]] = {collector.url: [], other.url: []}
    for turn in range(6):
        url = (collector.url, other.url)[turn % 2]
        if turn < 3:
            client.set_url_base(url)
        else:
            client.configure(url_base=url)
        names[url] += send_many(client, 3, f"{turn}-")
    assert client.queue_stats().pending == 18
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names[collector.url], 1)
    assert stored(other) == dict.fromkeys(names[other.url], 1)
    assert client.queue_stats().delivered == 18
    balanced(client)


def test_one_server_that_is_away_does_not_hold_up_another(
    collector: Collector, other: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client()
    collector.fail(503, times=None)
    send_many(client, 5, "away")
    client.set_url_base(other.url)
    send_many(client, 5, "there")
    other.wait_for(events=5, timeout=DEADLINE)
    assert client.queue_stats().pending >= 5
    collector.clear_faults()
    assert client.flush(DEADLINE)
    assert set(stored(collector)) == {f"away{number}" for number in range(5)}
    balanced(client)


@pytest.mark.slow
def test_changes_while_others_send_lose_nothing(
    collector: Collector, other: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client()

    def work(number: int) -> None:
        for turn in range(50):
            if number == 0:
                client.set_url_base((collector.url, other.url)[turn % 2])
                client.configure(batch_size=1 + turn, flush_interval=0.001 * turn, queue_size=10_000 + turn)
            assert client.new_event(f"{number}-{turn}") == QUEUED
            balanced(client)

    in_threads(4, work)
    assert client.flush(DEADLINE)
    assert stored(collector) + stored(other) == {f"{n}-{turn}": 1 for n in range(4) for turn in range(50)}
    balanced(client)


def test_an_event_goes_to_the_cloud_only_if_the_client_pointed_there(
    collector: Collector, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, balanced: Balanced
) -> None:
    with Collector(umami="cloud") as cloud:
        monkeypatch.setattr("umami._http.target.CLOUD_EVENTS", cloud.url)  # else it would be the real one
        client = make_client(flush_interval=NEVER)
        send_many(client, 2, "hosted")
        client.set_cloud_api_key("s3cret-key")
        send_many(client, 2, "cloud")
        client.clear_cloud_api_key()
        send_many(client, 2, "back")
        assert client.flush(DEADLINE)
        assert stored(cloud) == {"cloud0": 1, "cloud1": 1}
        assert {request.path for request in cloud.requests} == {"/api/send"}
        assert not any("s3cret-key" in str(request.headers) for request in cloud.requests)
    assert stored(collector) == {"hosted0": 1, "hosted1": 1, "back0": 1, "back1": 1}
    balanced(client)


def test_disable_stops_sends_and_not_what_is_queued(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(flush_interval=NEVER)
    send_many(client, 2, "before")
    client.disable()
    assert client.new_event("meanwhile") == {}
    assert client.queue_stats().submitted == 2
    assert client.flush(DEADLINE)
    client.enable()
    send_many(client, 1, "after")
    assert client.flush(DEADLINE)
    assert set(stored(collector)) == {"before0", "before1", "after0"}
    balanced(client)


@pytest.mark.parametrize("change", [{"queue_size": 1}, {"queue_bytes": 1}], ids=["events", "bytes"])
@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest"])
def test_a_smaller_queue_loses_nothing_that_is_in_it(
    overflow: str,
    change: dict[str, int],
    collector: Collector,
    make_client: MakeClient,
    balanced: Balanced,
) -> None:
    client = make_client(flush_interval=NEVER, overflow=overflow)
    names = send_many(client, 60)
    client.configure(**change)
    assert client.queue_stats().dropped == {}
    balanced(client)
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)
    assert sum(sizes(collector)) == 60


# The ledger.


def test_the_ledger_starts_empty(make_client: MakeClient) -> None:
    stats = make_client().queue_stats()
    assert stats == umami.models.QueueStats()


def test_the_ledger_tells_what_became_of_every_event(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(queue_size=10, flush_interval=NEVER)
    hold(collector, client)
    for _ in range(11):
        client.new_event("event")
    collector.fail(None, items={0: {"code": "P2000"}})
    stats = client.queue_stats()
    assert (stats.submitted, stats.pending, stats.requests) == (12, 10, 1)
    assert stats.pending_bytes > 10 * 100
    assert client.flush(DEADLINE)
    stats = client.queue_stats()
    assert (stats.submitted, stats.delivered, stats.rejected, stats.pending) == (12, 9, 1, 0)
    assert stats.dropped == {"queue_full": 2}
    assert stats.pending_bytes == 0
    assert stats.requests == len(collector.requests)
    assert stats.retries >= 1
    balanced(client)


def test_the_ledger_is_a_snapshot(client: umami.Client) -> None:
    before = client.queue_stats()
    client.new_event("after")
    assert before.submitted == 0
    with pytest.raises(Exception, match="frozen"):
        before.submitted = 5
