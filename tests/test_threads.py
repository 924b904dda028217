"""Threads, event loops, interruptions and threads that die: the counts always add up."""

import asyncio
import contextlib
import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count, pairwise
from types import FrameType
from typing import Any

import anyio
import pytest
from conftest import DEADLINE
from process_helpers import finished, settings
from queue_helpers import NEVER, Listener, at_moment, in_threads, moments, send_many, stored, until
from reverse_proxy import ReverseProxy

import umami
from umami import exporters
from umami._http.exporter import UmamiExporter
from umami.collector import Collector
from umami.models import QueueStats
from umami.queue.reporter import logger

MakeClient = Callable[..., umami.Client]
Balanced = Callable[[umami.Client], None]
QUEUED = {"queued": True}


# Many at once.


@pytest.mark.slow
def test_many_threads_send_at_once(collector: Collector, make_client: MakeClient, balanced: Balanced) -> None:
    client = make_client()
    in_threads(20, lambda number: send_many(client, 50, f"{number}-"))
    assert client.flush(DEADLINE)
    assert stored(collector) == {f"{number}-{turn}": 1 for number in range(20) for turn in range(50)}
    balanced(client)


@pytest.mark.slow
def test_the_events_of_each_thread_keep_their_order(collector: Collector, make_client: MakeClient) -> None:
    client = make_client(senders=1)
    in_threads(5, lambda number: send_many(client, 100, f"{number}-"))
    assert client.flush(DEADLINE)
    for number in range(5):
        mine = [event.name for event in collector.events if event.name.startswith(f"{number}-")]
        assert mine == [f"{number}-{turn}" for turn in range(100)]


@pytest.mark.slow
@pytest.mark.parametrize("nested", [False, True])
def test_custom_data_may_be_changed_by_another_thread(nested: bool, make_client: MakeClient) -> None:
    client = make_client(enabled=False)  # the data is encoded all the same
    data = dict.fromkeys(map(str, range(1000)), 1)
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            if data.pop("more", None) is None:
                data["more"] = 1

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    changer = threading.Thread(target=change)
    changer.start()
    try:
        answers = [client.new_event("event", custom_data={"a": data} if nested else data) for _ in range(100)]
    finally:
        done.set()
        changer.join()
        sys.setswitchinterval(interval)
    assert answers == [{}] * 100


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_many_event_loops_send_at_once(
    backend: str, collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client()

    async def send(number: int) -> None:
        async def one(turn: int) -> None:
            assert await client.new_event_async(f"{number}-{turn}") == QUEUED

        async with anyio.create_task_group() as tasks:
            for turn in range(50):
                tasks.start_soon(one, turn)
        assert await client.flush_async(DEADLINE)

    in_threads(6, lambda number: anyio.run(send, number, backend=backend))
    assert stored(collector) == {f"{number}-{turn}": 1 for number in range(6) for turn in range(50)}
    balanced(client)


def test_one_event_loop_after_another_uses_the_same_client(
    collector: Collector, make_client: MakeClient
) -> None:
    client = make_client(flush_interval=NEVER)
    for turn in range(3):
        asyncio.run(client.new_event_async(f"loop{turn}"))
    assert client.flush(DEADLINE)
    assert stored(collector) == {"loop0": 1, "loop1": 1, "loop2": 1}


def test_threads_and_loops_and_flushes_and_shutdowns_all_at_once(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client()
    sent: list[str] = []

    def send(name: str, answer: dict[str, Any]) -> None:
        if answer["queued"]:
            sent.append(name)
        else:
            assert answer == {"queued": False, "reason": "shutdown"}

    async def in_a_loop(number: int) -> None:
        for turn in range(50):
            name = f"{number}-{turn}"
            send(name, await client.new_event_async(name))
        await client.flush_async(DEADLINE)

    def work(number: int) -> None:
        if number == 0:
            for _ in range(10):
                client.shutdown(DEADLINE)
        elif number % 2:
            anyio.run(in_a_loop, number)
        else:
            for turn in range(50):
                name = f"{number}-{turn}"
                send(name, client.new_event(name))

    in_threads(7, work)
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(sent, 1)
    balanced(client)


@pytest.mark.slow
def test_the_ledger_balances_at_every_moment_and_never_goes_back(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(
        queue_size=100, overflow="drop_oldest", batch_size=10, retry_limit=4, item_retry_limit=1
    )
    collector.fail(503, times=2)
    collector.fail(None, times=3, cut="after")
    collector.fail(400, times=2)
    collector.fail(None, times=20, items={0: {"code": "P2000"}, 1: {"code": "P1001"}, 2: {"message": "odd"}})
    done = threading.Event()
    seen: list[QueueStats] = []

    def work(number: int) -> None:
        if number == 0:
            while not done.is_set():
                balanced(client)
                seen.append(client.queue_stats())
        else:
            try:
                send_many(client, 300, f"{number}-")
            finally:
                if number == 1:
                    client.flush(DEADLINE)
                    done.set()

    in_threads(4, work)
    assert client.flush(DEADLINE)
    balanced(client)
    for before, after in pairwise(seen):
        assert after.submitted >= before.submitted
        assert after.delivered >= before.delivered
        assert after.rejected >= before.rejected
        assert 0 <= after.pending <= 100
        assert after.pending_bytes >= 0
    final = client.queue_stats()
    assert (final.submitted, final.pending, final.pending_bytes) == (900, 0, 0)


# Interrupted code.


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_a_signal_handler_may_send_whatever_it_interrupts(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client()
    names: list[str] = []
    numbers = count()  # a handler may be interrupted by the next signal

    def send(signum: int, frame: FrameType | None) -> None:
        name = f"signal{next(numbers)}"
        names.append(name)
        assert client.new_event(name) == QUEUED

    before = signal.signal(signal.SIGALRM, send)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        turn = 0
        while len(names) < 200 or turn < 1000:
            client.new_event(f"main{turn}")
            turn += 1
            if turn % 100 == 0:
                client.flush(0.001)
                client.queue_stats()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys([*names, *(f"main{n}" for n in range(turn))], 1)
    balanced(client)


def open_the_inbox(client: umami.Client) -> None:
    """Have events left in the inbox: send one, and wait until the sender waits for its batch to fill."""
    assert client.new_event("first") == QUEUED
    until(lambda: client._state.route.destination.inbox.room > 0)


LEAST_MOMENTS = 15
"""A send has at least so many moments in the queue's code: else a test below interrupts nothing."""


@pytest.mark.slow
@pytest.mark.parametrize("is_open", [True, False], ids=["inbox open", "inbox closed"])
def test_a_send_that_interrupts_a_send_at_any_moment_loses_neither(
    is_open: bool, collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    bounds = {} if is_open else {"queue_size": 2, "overflow": "drop_oldest"}
    for moment in moments():
        collector.clear()
        client = make_client(flush_interval=NEVER, **bounds)
        if is_open:
            open_the_inbox(client)
        answers: list[dict[str, Any]] = []

        def send(client: umami.Client = client, answers: list[dict[str, Any]] = answers) -> None:
            answers.append(client.new_event("handler"))

        with at_moment(moment, send) as reached:
            client.new_event("interrupted")
            client.queue_stats()  # takes in what is in the inbox
        balanced(client)
        assert client.flush(DEADLINE)
        assert answers == [QUEUED] * bool(reached)
        expected = ["first"] * is_open + ["interrupted"] + ["handler"] * bool(reached)
        assert stored(collector) == dict.fromkeys(expected, 1), moment
        balanced(client)
        assert client.shutdown(DEADLINE)
        if not reached:
            break
    assert moment > LEAST_MOMENTS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("is_open", "fault"),
    [
        pytest.param(True, KeyboardInterrupt, id="inbox open"),
        pytest.param(False, KeyboardInterrupt, id="inbox closed"),
        pytest.param(False, MemoryError, id="inbox closed, no memory"),
    ],
)
def test_a_send_that_is_broken_off_at_any_moment_blocks_nothing(
    is_open: bool,
    fault: type[BaseException],
    collector: Collector,
    make_client: MakeClient,
    balanced: Balanced,
) -> None:
    size = 1000 if is_open else 3
    for moment in moments():
        collector.clear()
        client = make_client(queue_size=size, flush_interval=NEVER)
        if is_open:
            open_the_inbox(client)

        def break_off() -> None:
            raise fault

        with contextlib.suppress(fault), at_moment(moment, break_off) as reached:
            client.new_event("broken off")
        balanced(client)
        in_threads(1, lambda number, client=client: send_many(client, 2))
        balanced(client)
        assert client.flush(DEADLINE)
        found = stored(collector)
        assert found.pop("broken off", 0) <= 1
        assert found == dict.fromkeys(["first"] * is_open + ["e0", "e1"], 1), moment
        stats = client.queue_stats()
        assert (stats.pending, stats.pending_bytes) == (0, 0)
        if not is_open:  # all of the room is there again
            collector.fail(None, freeze=True)
            send_many(client, 3)
            assert client.new_event("one too many")["queued"] is False
            collector.thaw()
        assert client.shutdown(DEADLINE)
        if not reached:
            break
    assert moment > (2 if is_open else LEAST_MOMENTS)


@pytest.mark.slow
def test_finalizers_may_send_during_a_send(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client()
    names: list[str] = []
    numbers = count()

    class Farewell:
        def __init__(self) -> None:
            self.me = self  # a cycle, so that the collector of garbage finds it, in the middle of anything

        def __del__(self) -> None:
            name = f"farewell{next(numbers)}"
            names.append(name)
            client.new_event(name)

    thresholds = gc.get_threshold()
    gc.set_threshold(5, 0)  # the 0 has a free-threaded Python look at once too
    try:
        turn = 0
        while len(names) < 200:
            Farewell()
            client.new_event(f"main{turn}", custom_data={"list": [[turn]]})
            turn += 1
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys([*names, *(f"main{n}" for n in range(turn))], 1)
    balanced(client)


# Threads that die. No public seam makes a sender fail unexpectedly, so the exporter is replaced.


@pytest.fixture
def break_exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[BaseException, int], None]]:
    """Have the next deliveries raise."""
    died = threading.Semaphore(0)
    deadly: list[BaseException] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: died.release())

    def install(error: BaseException, times: int) -> None:
        export = UmamiExporter.export
        left = [error] * times
        deadly.extend(left if not isinstance(error, Exception) else [])

        def broken(self: UmamiExporter, *args: Any, **kwargs: Any) -> Any:
            if left:
                raise left.pop()
            return export(self, *args, **kwargs)

        monkeypatch.setattr(UmamiExporter, "export", broken)

    yield install
    for _ in deadly:
        assert died.acquire(timeout=DEADLINE)


UNEXPECTED = [ValueError("a bug"), MemoryError("too much"), SystemExit(1)]


@pytest.mark.parametrize("error", UNEXPECTED, ids=repr)
def test_an_unexpected_error_costs_one_batch_and_the_rest_is_delivered(
    error: BaseException,
    collector: Collector,
    make_client: MakeClient,
    break_exporter: Callable[[BaseException, int], None],
    heard: Listener,
    balanced: Balanced,
) -> None:
    break_exporter(error, 1)
    client = make_client(batch_size=10, flush_interval=NEVER, senders=1)
    send_many(client, 30)
    collector.wait_for(events=20, timeout=DEADLINE)  # without a further send or flush
    assert client.flush(DEADLINE)
    assert client.queue_stats().dropped == {"internal_error": 10}
    assert client.queue_stats().delivered == 20
    balanced(client)
    (line,) = heard.matching("please report it")
    assert line.exc_info is not None
    assert line.exc_info[1] is error


@pytest.mark.parametrize("error", UNEXPECTED, ids=repr)
def test_it_is_counted_and_told_like_any_drop(
    error: BaseException,
    make_client: MakeClient,
    break_exporter: Callable[[BaseException, int], None],
    heard: Listener,
    balanced: Balanced,
) -> None:
    break_exporter(error, 3)
    client = make_client(batch_size=1, flush_interval=0, senders=1)
    send_many(client, 3)
    assert client.flush(DEADLINE)
    heard.wait_for("dropped (internal_error)")
    assert type(error).__name__ in heard.matching("dropped (internal_error)")[0].getMessage()
    assert client.queue_stats().dropped == {"internal_error": 3}
    balanced(client)


def test_a_log_handler_that_raises_does_not_make_it_worse(
    collector: Collector,
    make_client: MakeClient,
    break_exporter: Callable[[BaseException, int], None],
    balanced: Balanced,
) -> None:
    class Broken(Listener):
        def emit(self, record: Any) -> None:
            raise RuntimeError("this handler is broken")

    handler = Broken()
    logger.addHandler(handler)
    try:
        break_exporter(ValueError("a bug"), 1)
        client = make_client(batch_size=10, flush_interval=NEVER, senders=1)
        send_many(client, 30)
        collector.wait_for(events=20, timeout=DEADLINE)
        assert client.flush(DEADLINE)
    finally:
        logger.removeHandler(handler)
    assert client.queue_stats().dropped == {"internal_error": 10}
    balanced(client)


# Threads that have nothing to do.


@pytest.mark.slow
def test_idle_senders_leave_and_the_last_one_stays(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, balanced: Balanced
) -> None:
    # They leave after some idle seconds; here at once, all of them together.
    monkeypatch.setattr("umami.queue.workers._EXTRA_SENDER_SECONDS", 0.0)
    with Collector(umami="cloud", item_delay=0.03) as slow:
        client = make_client(url_base=slow.url, flush_interval=0)
        for turn in range(1, 6):
            send_many(client, 20, f"{turn}-")
            slow.wait_for(events=20 * turn, timeout=DEADLINE)  # without a flush, which would replace them
        assert client.flush(DEADLINE)
        assert client.queue_stats().delivered == 100
    balanced(client)


def test_of_two_senders_whose_time_is_up_one_stays(make_client: MakeClient) -> None:
    client = make_client(flush_interval=NEVER)
    queue = client._state.agent.queue
    destination = queue.destination(exporters.MemoryExporter())
    assert queue.add_sender(destination, "stays", 2)
    assert queue.add_sender(destination, "leaves", 2)
    assert not queue.add_sender(destination, "is one too many", 2)
    assert destination.put(b"{}")
    batches: list[Any] = []

    def take(spare: float) -> None:
        batches.append(queue.take(destination, "stays", spare=spare))

    stays = threading.Thread(target=take, args=(NEVER,), daemon=True)
    stays.start()
    assert queue.take(destination, "leaves", spare=0.0) is None
    assert destination.senders == {"stays"}
    second = threading.Thread(target=take, args=(0.0,), daemon=True)
    queue.hurry()
    stays.join(DEADLINE)
    (batch,) = batches
    queue.settle(destination, batch, "Enough.")
    second.start()
    assert destination.put(b"{}")
    queue.hurry()
    second.join(DEADLINE)
    assert [len(batch.events) for batch in batches] == [1, 1]
    queue.settle(destination, batches[1], "Enough.")
    queue.remove_sender(destination, "stays")


@pytest.mark.slow
def test_senders_leave_a_server_that_the_client_has_turned_away_from(
    collector: Collector, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, balanced: Balanced
) -> None:
    monkeypatch.setattr("umami.queue.workers._EXTRA_SENDER_SECONDS", 0.05)

    def senders() -> int:
        return sum(thread.name == "umami-sender" for thread in threading.enumerate())

    before = senders()
    with ReverseProxy(collector.url) as proxy:
        client = make_client(url_base=proxy.url)
        for number in range(10):
            client.set_url_base(f"{proxy.url}/{number}")
            send_many(client, 3, f"{number}-")
        assert client.flush(DEADLINE)
        until(lambda: senders() - before <= 1)
        client.set_url_base(f"{proxy.url}/3")
        send_many(client, 3, "again")
        assert client.flush(DEADLINE)
        assert sum(stored(collector).values()) == len(stored(collector)) == 33
    balanced(client)


INTERRUPTIONS = 500


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_a_signal_handler_that_raises_leaves_no_lock_held(collector: Collector) -> None:
    run = finished(
        "-c",
        """
        import itertools, signal, sys
        import umami

        class Interrupted(BaseException):
            pass

        def interrupt(*_):
            raise Interrupted

        signal.signal(signal.SIGALRM, interrupt)
        umami.new_event("first")
        assert umami.flush(60)
        delays = itertools.cycle([0.00005 * step for step in range(1, 12)])
        calls = itertools.cycle([
            lambda: umami.new_event("small"),
            lambda: umami.new_event("large", custom_data={str(number): "x" * 500 for number in range(3)}),
            umami.queue_stats,
            lambda: umami.new_event("small"),
            lambda: umami.flush(0.0001),
        ])
        sent, caught = 1, []
        while len(caught) < int(sys.argv[1]):
            try:
                signal.setitimer(signal.ITIMER_REAL, next(delays))
                for call in calls:
                    sent += call() == {"queued": True}
            except Interrupted as error:
                caught.append(error)  # and with it all frames that it went through
        assert umami.flush(60)
        stats = umami.queue_stats()
        assert stats.pending == 0, stats
        assert stats.submitted == stats.delivered, stats
        assert sent <= stats.submitted <= sent + len(caught), (sent, stats)
        print(stats.delivered)
        """,
        str(INTERRUPTIONS),
        **settings(collector, flush_interval=0.02, queue_size=1_000_000),
    )
    assert run.returncode == 0, run.stderr
    assert collector.event_count == int(run.stdout)
