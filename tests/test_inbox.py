"""The inbox: every event that a send adds without a lock is counted exactly once."""

import contextlib
import os
import random
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count, pairwise
from types import FrameType
from typing import Any

import pytest
from conftest import DEADLINE
from process_helpers import finished, once, settings
from queue_helpers import NEVER, at_call, at_moment, at_return, in_threads, moments, send_many, stored, until

import umami
from umami import _threads
from umami._http.exporter import UmamiExporter
from umami._http.poster import Poster
from umami.collector import Collector
from umami.exporters import MemoryExporter
from umami.models import QueueStats
from umami.queue import workers
from umami.queue.batches import Batch
from umami.queue.destination_queue import DestinationQueue
from umami.queue.ledger import Ledger

MakeClient = Callable[..., umami.Client]
Balanced = Callable[[umami.Client], None]
QUEUED = {"queued": True}
LATE = {"queued": False, "reason": "shutdown"}


class HeldUp(deque[bytes]):
    """The events of an inbox where the first thread that comes is held up, before its event or after it.

    Args:
        before: What happens before.
        after: What happens after.
    """

    def __init__(self, before: Callable[[], object] | None, after: Callable[[], object] | None) -> None:
        super().__init__()
        self._acts = [before, after]

    def append(self, event: bytes) -> None:
        (before, after), self._acts = self._acts, [None, None]
        if before is not None:
            in_threads(1, lambda number: before())
        super().append(event)
        if after is not None:
            in_threads(1, lambda number: after())


def queue_of(client: umami.Client) -> DestinationQueue:
    return (client._state.route or client._state.new_route()).destination


def hold_the_sender(client: umami.Client, collector: Collector) -> DestinationQueue:
    """Have a destination's only sender wait for an answer, so that the inbox is open; return the queue."""
    collector.fail(None, freeze=True)
    before = len(collector.requests)
    assert client.new_event("first") == QUEUED
    collector.wait_for(requests=before + 1, timeout=DEADLINE)
    destination = queue_of(client)
    until(lambda: destination.inbox.room > 0)
    return destination


# A sender that sleeps.


@pytest.mark.parametrize("at_most_once", [False, True])
def test_an_event_after_a_trouble_that_left_nothing_to_send_calls_the_sender(
    at_most_once: bool, collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(senders=1, retry_limit=0, at_most_once=at_most_once)
    collector.fail(None, cut="after")
    assert client.new_event("lost") == QUEUED
    until(lambda: client.queue_stats().pending == 0 and queue_of(client).wake.waiting > 0)
    collector.clear()
    assert client.new_event("seen") == QUEUED
    collector.wait_for(events=1, timeout=DEADLINE)
    assert stored(collector) == {"seen": 1}
    balanced(client)


def test_an_event_that_comes_while_others_are_held_back_waits_no_longer_than_its_interval(
    collector: Collector, make_client: MakeClient
) -> None:
    client = make_client(senders=1, retry_limit=0, retry_wait=NEVER, retry_wait_max=NEVER)
    collector.fail(None, items={0: {"code": "P9999"}})
    assert client.new_event("held back") == QUEUED
    until(lambda: bool(queue_of(client).returned) and queue_of(client).wake.waiting > 0)
    collector.clear()
    assert client.new_event("seen") == QUEUED
    collector.wait_for(events=1, timeout=DEADLINE)


def test_what_a_full_batch_leaves_does_not_wait_for_its_answer(make_client: MakeClient) -> None:
    client = make_client(senders=2, flush_interval=0.2, batch_size=100)
    destination = queue_of(client)
    queue = client._state.agent.queue
    destination.backoff.succeed(100, [])  # or else one request at a time would ask whether this is Umami
    assert queue.add_sender(destination, "a", 1)
    assert queue.add_sender(destination, "b", 2)
    batches: list[Batch | None] = []

    def take(sender: str) -> None:
        batches.append(queue.take(destination, sender))

    taking = [threading.Thread(target=take, args=(sender,), daemon=True) for sender in "ab"]
    for thread in taking:
        thread.start()
    until(lambda: destination.wake.waiting == 2)
    for _ in range(60):
        assert destination.put(b"{}")
    for thread in taking:  # one of them with the fifty that it may have, the other with the rest
        thread.join(DEADLINE)
        assert not thread.is_alive(), "nobody looks after the rest"
    assert sorted(len(batch.events) for batch in batches if batch) == [10, 50]
    for batch in batches:
        assert batch is not None
        queue.settle(destination, batch, "Enough.")
    for sender in "ab":
        queue.remove_sender(destination, sender)


def test_a_sender_that_dies_leaves_what_came_meanwhile_to_the_one_that_sleeps(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, balanced: Balanced, collector: Collector
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    export, exporting, die = UmamiExporter.export, threading.Event(), threading.Event()
    monkeypatch.setattr("umami.queue.workers._EXTRA_SENDER_SECONDS", NEVER)

    def broken(self: UmamiExporter, *args: Any, **kwargs: Any) -> Any:
        if not exporting.is_set():
            exporting.set()
            assert die.wait(DEADLINE)
            raise SystemExit(1)
        return export(self, *args, **kwargs)

    monkeypatch.setattr(UmamiExporter, "export", broken)
    client = make_client(senders=2)
    assert client.new_event("first") == QUEUED
    assert exporting.wait(DEADLINE)
    agent, destination = client._state.agent, queue_of(client)
    assert agent._senders.ensure(destination, 2)
    until(lambda: destination.wake.waiting == 1)
    assert client.new_event("seen") == QUEUED
    die.set()
    collector.wait_for(events=1, timeout=DEADLINE)
    assert client.flush(DEADLINE)
    assert client.queue_stats().dropped == {"internal_error": 1}
    balanced(client)


@pytest.mark.parametrize(
    ("times", "lost"),
    [
        pytest.param(1, {}, id="before its batch"),
        pytest.param(2, {"internal_error": 1}, id="with its batch too"),
    ],
)
def test_a_sender_that_cannot_make_ready_does_not_keep_its_batch(
    times: int,
    lost: dict[str, int],
    make_client: MakeClient,
    monkeypatch: pytest.MonkeyPatch,
    balanced: Balanced,
    collector: Collector,
) -> None:
    prepare, left = Poster.prepare, [MemoryError("too much")] * times

    def broken(self: Poster, url: str) -> None:
        if left:
            raise left.pop()
        prepare(self, url)

    monkeypatch.setattr(Poster, "prepare", broken)
    client = make_client(flush_interval=0, senders=1)
    assert client.new_event("first") == QUEUED
    until(lambda: not left)
    assert client.new_event("seen") == QUEUED
    collector.wait_for(events=1, timeout=DEADLINE)
    assert client.flush(DEADLINE)
    assert client.queue_stats().dropped == lost
    balanced(client)


# A send that is held up between two of its steps.


def stop(client: umami.Client, collector: Collector) -> None:
    """Shut a client down, and let its sender end."""
    collector.thaw()
    assert client.shutdown(DEADLINE)
    until(lambda: not queue_of(client).senders)


def look(client: umami.Client, collector: Collector) -> None:
    client.queue_stats()


def flush(client: umami.Client, collector: Collector) -> None:
    collector.thaw()
    client.flush(DEADLINE)


def settle(client: umami.Client, collector: Collector) -> None:
    """Let the sender have its answer, and wait until it sleeps, with no event in sight."""
    collector.thaw()
    until(lambda: client.queue_stats().pending == 0 and queue_of(client).wake.waiting > 0)


def change(client: umami.Client, collector: Collector) -> None:
    client.configure(batch_size=1)


def fill(client: umami.Client, collector: Collector) -> None:
    """Use all of the queue's room."""
    client.configure(queue_size=1)


def turn_away(client: umami.Client, collector: Collector) -> None:
    """Go on with another server, with the first one's sender gone."""
    home = queue_of(client)
    stop(client, collector)
    client.set_url_base(collector.url.replace("127.0.0.1", "localhost"))
    assert not home.senders
    assert client.new_event("elsewhere") == QUEUED
    assert not client._state.agent.queue.stopped


ACTS = [look, flush, settle, change, stop, fill, turn_away]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(before, after, marks=pytest.mark.slow if before and after else ())
        for before in (None, *ACTS)
        for after in (None, *ACTS)
    ],
)
def test_an_event_of_a_send_that_was_held_up_is_seen_by_itself(
    before: Any,
    after: Any,
    collector: Collector,
    make_client: MakeClient,
    balanced: Balanced,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "_EXTRA_SENDER_SECONDS", NEVER)  # none ends but by the shutdown
    client = make_client(senders=1, shutdown_timeout=DEADLINE)
    destination = hold_the_sender(client, collector)

    def bound(act: Any) -> Callable[[], object] | None:
        return None if act is None else lambda: act(client, collector)

    if before in (stop, turn_away) and after is settle:
        pytest.skip("there is no sender by then")
    destination.inbox.events = HeldUp(bound(before), bound(after))
    answer = client.new_event("held up")
    collector.thaw()
    expected = ["first"]
    if answer == QUEUED:
        expected.append("held up")
    else:
        assert fill in (before, after)
        assert answer == {"queued": False, "reason": "queue_full"}
    until(lambda: all(stored(collector)[name] for name in expected))  # without any other call
    assert client.flush(DEADLINE)
    assert {name: times for name, times in stored(collector).items() if name != "elsewhere"} == once(
        *expected
    )
    assert client.shutdown(DEADLINE)
    assert not destination.senders  # they have ended
    balanced(client)


def test_an_event_that_comes_when_the_client_has_shut_down_is_not_let_in_by_who_looks(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(senders=1)
    destination = hold_the_sender(client, collector)
    agent = client._state.agent

    def close() -> None:
        agent.queue.close("test")
        collector.thaw()
        assert client.flush(DEADLINE)

    def look() -> None:
        assert client.queue_stats().pending == 0

    destination.inbox.events = HeldUp(close, look)
    assert client.new_event("too late") == LATE
    del agent.queue.closing["test"]
    assert client.flush(DEADLINE)
    assert stored(collector) == {"first": 1}
    assert client.queue_stats().dropped == {"shutdown": 1}
    balanced(client)


def test_two_equal_events_that_come_too_late_are_two(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(senders=1)
    destination = hold_the_sender(client, collector)
    at = 1_700_000_000

    def second() -> None:
        stop(client, collector)
        assert client.new_event("same", timestamp=at) == QUEUED

    destination.inbox.events = HeldUp(None, second)
    assert client.new_event("same", timestamp=at) == QUEUED
    assert client.flush(DEADLINE)
    assert stored(collector) == {"first": 1, "same": 2}
    balanced(client)


def test_a_flush_waits_for_events_in_the_inbox(collector: Collector, make_client: MakeClient) -> None:
    client = make_client(senders=1, flush_interval=NEVER, batch_size=1000)
    flushed: list[tuple[bool, int]] = []
    assert client.new_event("first") == QUEUED
    destination = queue_of(client)
    until(lambda: destination.inbox.room > 0)
    names = send_many(client, 50)
    assert len(destination.inbox.events) == 50

    def flush() -> None:
        flushed.append((client.flush(DEADLINE), len(collector.events)))

    waiting = list(destination.inbox.events)
    destination.inbox.events = HeldUp(None, flush)
    destination.inbox.events.extend(waiting)
    assert client.new_event("not yet returned") == QUEUED
    assert flushed == [(True, 52)]
    assert stored(collector) == once("first", *names, "not yet returned")


# Code that is interrupted.


def recalling(client: umami.Client) -> None:
    """Have the next send find its inbox closed after it has left its event there."""
    destination = queue_of(client)
    until(lambda: destination.inbox.room > 0)

    class Closed(deque[bytes]):
        def append(self, event: bytes) -> None:
            super().append(event)
            destination.inbox.room = 0

    destination.inbox.events = Closed()


@pytest.mark.slow
def test_a_send_that_is_broken_off_as_it_recalls_its_event_blocks_nothing(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    def break_off() -> None:
        raise KeyboardInterrupt

    for moment in count():
        collector.clear()
        client = make_client(flush_interval=NEVER)
        assert client.new_event("first") == QUEUED
        recalling(client)
        with contextlib.suppress(KeyboardInterrupt), at_moment(moment, break_off) as reached:
            client.new_event("broken off")
        queue_of(client).inbox.events = deque(queue_of(client).inbox.events)
        in_threads(1, lambda number, client=client: send_many(client, 3))
        assert client.flush(DEADLINE)
        balanced(client)
        found = stored(collector)
        assert found.pop("broken off", 0) <= 1
        assert found == once("first", "e0", "e1", "e2"), moment
        stats = client.queue_stats()
        assert (stats.pending, stats.pending_bytes) == (0, 0)
        assert client.shutdown(DEADLINE)
        if not reached:
            break
    assert moment > 5


@pytest.mark.slow
@pytest.mark.parametrize("call", ["queue_stats", "flush", "shutdown"])
def test_a_call_that_is_broken_off_at_any_moment_blocks_nothing(
    call: str, collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    def break_off() -> None:
        raise KeyboardInterrupt

    for moment in moments():
        collector.clear()
        client = make_client()
        assert client.new_event("first") == QUEUED
        with contextlib.suppress(KeyboardInterrupt), at_moment(moment, break_off) as reached:
            getattr(client, call)()
        in_threads(1, lambda number, client=client: send_many(client, 3))
        collector.wait_for(events=4, timeout=DEADLINE)
        assert client.flush(DEADLINE)
        assert stored(collector) == once("first", "e0", "e1", "e2"), moment
        balanced(client)
        assert client.shutdown(DEADLINE)
        if not reached:
            break
    assert moment > 10


@pytest.mark.slow
def test_a_send_that_is_broken_off_at_any_moment_keeps_no_later_event_from_being_sent(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    def break_off() -> None:
        raise KeyboardInterrupt

    client = make_client(senders=1, flush_interval=0)
    assert client.new_event("first") == QUEUED
    for moment in count():
        # Its sender sleeps until an event wakes it.
        until(lambda: client.queue_stats().pending == 0 and queue_of(client).wake.waiting == 1)
        with contextlib.suppress(KeyboardInterrupt), at_moment(moment, break_off) as reached:
            client.new_event("broken off")
        assert client.new_event(f"seen{moment}") == QUEUED
        until(lambda: client.queue_stats().pending == 0)  # by itself
        balanced(client)
        if not reached:
            break
    assert moment > 50
    assert stored(collector).keys() - {"broken off"} == {"first", *(f"seen{n}" for n in range(moment + 1))}


@pytest.mark.parametrize("edge", [at_call, at_return], ids=["begins", "ends"])
@pytest.mark.parametrize("step", [_threads.Thread.start, _threads.Thread.__init__], ids=["start", "init"])
def test_a_report_that_is_broken_off_as_its_thread_starts_is_made(
    step: Any, edge: Any, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client()

    def break_off() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), edge(step, break_off):
        client.new_event("made to fit", custom_data={"long": ["x" * 400] * 3})
    assert client.new_event("made to fit", custom_data={"long": ["x" * 400] * 3}) == QUEUED
    assert client.flush(DEADLINE)
    assert "was cut to 500 characters" in caplog.text


def test_a_send_without_a_thread_raises_nothing_of_what_its_caller_handles(
    collector: Collector, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    client = make_client()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        try:
            raise KeyboardInterrupt  # noqa: TRY301
        except KeyboardInterrupt:
            assert client.new_event("handled") == QUEUED
    assert client.flush(DEADLINE)
    assert stored(collector) == once("handled")


def test_a_send_that_is_interrupted_as_a_thread_starts_says_so(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client()

    def break_off() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), at_call(threading.Event.wait, break_off):  # of `Thread.start`
        client.new_event("interrupted")
    assert client.flush(DEADLINE)
    assert stored(collector) == once("interrupted")
    balanced(client)


@pytest.mark.slow
@pytest.mark.parametrize("call", ["flush", "shutdown", "elsewhere"])
def test_a_handler_may_do_more_than_send_whatever_it_interrupts(
    call: str, collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    for moment in moments():
        collector.clear()
        client = make_client()
        send_many(client, 3)
        until(lambda client=client: queue_of(client).inbox.room > 0 or queue_of(client).wake.waiting > 0)

        def handler(client: umami.Client = client) -> None:
            if call == "elsewhere":
                client.set_url_base(collector.url.replace("127.0.0.1", "localhost"))
                client.new_event("handler")
                client.set_url_base(collector.url)
            else:
                getattr(client, call)(DEADLINE)

        with at_moment(moment, handler) as reached:
            answer = client.new_event("interrupted")
            client.queue_stats()
        assert answer in (QUEUED, LATE)
        balanced(client)
        assert client.flush(DEADLINE)
        assert stored(collector)["interrupted"] == (answer == QUEUED), moment
        balanced(client)
        stats = client.queue_stats()
        assert (stats.pending, stats.pending_bytes) == (0, 0)
        assert client.shutdown(DEADLINE)
        if not reached:
            break
    assert moment > 10


def test_what_many_finalizers_send_while_their_thread_holds_the_lock_is_put_in_by_it(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    """A garbage collection may run thousands of finalizers at once."""
    many = 2 * sys.getrecursionlimit()
    client = make_client(batch_size=500)
    with at_call(Ledger.stats, lambda: send_many(client, many)):
        assert client.queue_stats().submitted == 0
    assert client.queue_stats().submitted == many
    assert client.flush(DEADLINE)
    assert stored(collector) == once(*(f"e{number}" for number in range(many)))
    balanced(client)


@pytest.mark.slow
def test_two_shutdowns_at_once_leave_no_thread(make_client: MakeClient) -> None:
    client = make_client(exporter=MemoryExporter(), url_base=None)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(500):
            client.new_event("a")
            barrier = threading.Barrier(2)

            def shut_down(_: int, barrier: threading.Barrier = barrier) -> None:
                barrier.wait()
                assert client.shutdown(DEADLINE)

            in_threads(2, shut_down)
            assert not queue_of(client).senders
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_finalizer_that_forks_in_the_middle_of_a_send_leaves_the_event_to_both() -> None:
    with Collector() as collector:
        run = finished(
            "-c",
            """
            import os, sys
            from collections import deque
            import umami

            client = umami.Client(flush_interval=600)
            client.new_event("first")
            inbox = client._state.route.destination.inbox
            while not inbox.room:
                pass
            children = []

            class Forking(deque):
                def append(self, event):
                    super().append(event)
                    if not children:
                        children.append(os.fork())

            inbox.events = Forking()
            assert client.new_event("second") == {"queued": True}
            if children[0]:
                assert os.waitpid(children[0], 0)[1] == 0
            assert client.flush(60)
            os._exit(0 if client.queue_stats().delivered == (2 if children[0] else 1) else 1)
            """,
            **settings(collector),
        )
        assert run.returncode == 0, run.stderr
        assert stored(collector) == {"first": 1, "second": 2}


# All at once.


@pytest.fixture
def hurried() -> Iterator[None]:
    """Have threads take turns as often as can be."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def race(client: umami.Client, prefix: str) -> tuple[list[str], list[QueueStats]]:
    """Send from four threads beside a reader of the ledger, shutdowns and flushes.

    Returns:
        The names of the events that were taken, and the ledgers that were read.
    """
    taken: list[str] = []
    seen: list[QueueStats] = []
    ended = count(1)
    done = threading.Event()

    def work(number: int) -> None:
        if number == 0:
            while not done.is_set():
                seen.append(client.queue_stats())
        elif number == 1:
            while not done.is_set():
                client.shutdown(DEADLINE)
        elif number == 2:
            while not done.is_set():
                client.flush(DEADLINE)
        else:
            try:
                for event in range(150):
                    name = f"{prefix}-{number}-{event}"
                    if client.new_event(name) == QUEUED:
                        taken.append(name)
            finally:
                if next(ended) == 4:
                    done.set()

    in_threads(7, work)
    seen.append(client.queue_stats())
    return taken, seen


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest", "block"])
def test_senders_and_others_race_at_the_inboxes(
    overflow: str, collector: Collector, make_client: MakeClient
) -> None:
    for turn in range(4):
        client = make_client(
            overflow=overflow,
            queue_size=600,
            batch_size=20,
            senders=2,
            block_timeout=DEADLINE,
            flush_interval=0.001,
        )
        taken, seen = race(client, str(turn))
        until(lambda read=client.queue_stats: read().pending == 0)  # by itself
        seen.append(client.queue_stats())
        for before, after in pairwise(seen):
            assert after.submitted >= before.submitted
        for stats in seen:
            ended = stats.delivered + stats.rejected + sum(stats.dropped.values())
            assert stats.submitted == ended + stats.pending
            assert 0 <= stats.pending <= 600
        assert seen[-1].submitted == 600
        arrived = {event.name for event in collector.events if (event.name or "").startswith(f"{turn}-")}
        assert arrived == set(taken)
    assert set(stored(collector).values()) == {1}


class Interruption(BaseException):
    """What a Ctrl-C would be, from a timer."""


@pytest.fixture
def swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an interruption hits a finalizer or a callback of garbage collection, Python goes on."""
    otherwise = sys.unraisablehook

    def unless_interrupted(unraisable: "sys.UnraisableHookArgs") -> None:
        if not issubclass(unraisable.exc_type, Interruption):
            otherwise(unraisable)

    monkeypatch.setattr(sys, "unraisablehook", unless_interrupted)


def use(client: umami.Client, how: str, armed: list[bool]) -> None:
    """Make calls until one is interrupted, or Python swallows that: in a finalizer of its own, say."""
    while armed[0]:
        if how == "stats":
            client.queue_stats()
        elif how == "flush":
            client.flush(DEADLINE)
        client.new_event("interrupted", custom_data={"long": ["x" * 400] * 3} if how == "long" else None)


@pytest.mark.slow
@pytest.mark.usefixtures("swallowed")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_interruptions_at_random_moments_wedge_nothing(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    chance = random.Random(0)
    armed = [False]

    def interrupt(signum: int, frame: FrameType | None) -> None:
        if armed.pop():
            armed.append(False)
            raise Interruption
        armed.append(False)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(8):
            client = make_client(flush_interval=0.01, shutdown_timeout=DEADLINE)
            for _ in range(20):
                with contextlib.suppress(Interruption):
                    armed[0] = True
                    signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 4e-4))
                    use(client, chance.choice(["send", "send", "long", "stats", "flush"]), armed)
            in_threads(1, lambda number, client=client: send_many(client, 1))
            until(lambda read=client.queue_stats: read().pending == 0)  # by itself
            balanced(client)
            assert client.queue_stats().pending_bytes == 0
            assert client.flush(DEADLINE)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert stored(collector)["e0"] == 8


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_sends_race_forks_and_exits() -> None:
    with Collector() as collector:
        run = finished(
            "-W",
            "ignore::DeprecationWarning",  # of forks beside threads
            "-c",
            """
            import os, sys, threading
            import umami

            sys.setswitchinterval(1e-6)
            umami.new_event("start")
            more = threading.Event()

            def send(number):
                for turn in range(300):
                    assert umami.new_event(f"{number}-{turn}") == {"queued": True}

            senders = [threading.Thread(target=send, args=(number,)) for number in range(3)]
            for sender in senders:
                sender.start()
            for number in range(10):
                child = os.fork()
                if child == 0:
                    for turn in range(20):
                        assert umami.new_event(f"child{number}-{turn}") == {"queued": True}
                    os._exit(0 if umami.flush(60) else 1)
                assert os.waitpid(child, 0)[1] == 0
            """,
            **settings(collector),
        )
        assert (run.returncode, run.stderr) == (0, "")
        expected = [f"{number}-{turn}" for number in range(3) for turn in range(300)]
        expected += [f"child{number}-{turn}" for number in range(10) for turn in range(20)]
        assert stored(collector) == once("start", *expected)
