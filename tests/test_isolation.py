"""An event that always fails: it does not block others, and is settled; an outage settles none."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from test_model import StubExporter, queue_clock, queue_settings

from umami.queue.batches import Batch
from umami.queue.exporter import Exported, Failure, Outcome, Status, Trouble
from umami.queue.queue import EventQueue

POISON = b"poison"
AWAY, REFUSED, THROTTLED = Trouble.AWAY, Trouble.REFUSED, Trouble.THROTTLED


class Queue:
    """One destination, its senders, and an exporter that answers as told, on a clock that jumps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.reports: list[tuple[str, str, list[bytes]]] = []
        self.queue = EventQueue(
            queue_settings(
                queue_bytes=100_000_000,
                batch_size=100,
                flush_interval=0.1,
                retry_wait=1.0,
                retry_after_max=300.0,
            ),
            lambda destination: None,
            lambda report: self.reports.append((report.kind, report.reason, list(report.events))),
        )
        self.destination = self.queue.destination(StubExporter("one"))
        self.numbers = count()

    def put(self, *events: bytes) -> None:
        for event in events:
            assert self.destination.put(event)

    def put_some(self, many: int) -> None:
        self.put(*(b"%d" % next(self.numbers) for _ in range(many)))

    def take(self) -> Batch:
        """Take the next batch, as soon as it is due."""
        self.queue.stats()
        wait = self.destination.wait(self.now)
        assert wait < math.inf
        self.now += wait
        sender = object()
        assert self.queue.add_sender(self.destination, sender, 9)
        batch = self.queue.take(self.destination, sender, 0.0)
        assert batch is not None
        return batch

    def accept(self, batch: Batch) -> None:
        self.settle(batch, Exported())

    def settle(self, batch: Batch, exported: Exported) -> None:
        sender = self.destination.in_flight[batch]
        self.queue.settle(self.destination, batch, exported)
        self.queue.remove_sender(self.destination, sender)

    def fail(self, batch: Batch, trouble: Trouble = AWAY, **about: Any) -> None:
        self.settle(batch, Exported({}, Failure("no", range(len(batch.events)), trouble, **about)))

    def export(self, fails: Callable[[Sequence[bytes]], bool], trouble: Trouble = AWAY, **about: Any) -> bool:
        """Have the next batch fail or accepted; tell which."""
        batch = self.take()
        self.now += 0.02
        if fails(batch.events):
            self.fail(batch, trouble, **about)
            return False
        self.accept(batch)
        return True

    def settled(self, event: bytes) -> str | None:
        return next((f"{kind} {reason}" for kind, reason, events in self.reports if event in events), None)


@pytest.fixture
def queue() -> Iterator[Queue]:
    clock = SimpleNamespace(queue=None)
    with queue_clock(lambda: clock.queue.now if clock.queue else 1000.0):
        clock.queue = Queue()
        yield clock.queue


def is_poisoned(events: Sequence[bytes]) -> bool:
    return any(event.startswith(POISON) for event in events)


@pytest.mark.parametrize("trouble", [AWAY, REFUSED])
@pytest.mark.parametrize("position", [0, 1, 50, 99, 299])
def test_an_event_that_always_fails_is_soon_alone(queue: Queue, position: int, trouble: Trouble) -> None:
    queue.put_some(position)
    queue.put(POISON)
    queue.put_some(299 - position)
    exports = 0
    while queue.queue.stats().pending > 1 and queue.settled(POISON) is None:
        queue.export(is_poisoned, trouble)
        exports += 1
    while queue.queue.stats().pending > 1:
        assert queue.export(is_poisoned, trouble)
        exports += 1
    assert exports < 50
    assert queue.now < 1020


@pytest.mark.slow
@pytest.mark.parametrize("trouble", [AWAY, REFUSED])
@pytest.mark.parametrize("poisons", [1, 5])
def test_steady_traffic_flows_past_events_that_always_fail(
    queue: Queue, trouble: Trouble, poisons: int
) -> None:
    put = 0
    queue.put(*(POISON + b"%d" % number for number in range(poisons)))
    while queue.now < 1060:
        due = int((queue.now - 1000) * 50) - put
        put += due
        queue.put_some(due)
        if queue.destination.wait(queue.now) > 0.2:
            queue.now += 0.1
        else:
            queue.export(is_poisoned, trouble, reason="502")
    stats = queue.queue.stats()
    assert stats.delivered > put - 100
    assert stats.rejected == poisons


def test_an_event_that_always_fails_delays_nobody_where_events_are_few(queue: Queue) -> None:
    queue.put(POISON)
    for _ in range(6):
        queue.export(is_poisoned)
    for _ in range(20):
        queue.now += 5
        queue.put_some(1)
        put_at = queue.now
        while not queue.export(is_poisoned):
            pass
        assert queue.now - put_at < 1
        if queue.settled(POISON):
            break
        queue.export(is_poisoned)
    assert queue.settled(POISON) == "dropped unanswered"


def test_events_that_failed_alone_in_an_outage_are_not_blamed_for_the_next(queue: Queue) -> None:
    queue.put_some(10)
    for _ in range(20):
        queue.export(lambda _: True, REFUSED, decisive=True)
        queue.queue.hurry()  # somebody flushes
    assert queue.export(lambda _: False)
    for _ in range(20):
        queue.export(lambda _: True, REFUSED, decisive=True)
    assert queue.queue.stats().rejected <= 1  # no more than others were accepted since


def test_an_answer_that_the_database_is_away_is_no_sign_that_the_server_is_well(queue: Queue) -> None:
    queue.put(POISON)
    away = Outcome(Status.RETRY, "P1001", "the database is away")
    for _ in range(20):
        batch = queue.take()
        if is_poisoned(batch.events):
            queue.put_some(1)
            queue.fail(batch, REFUSED, reason="403", decisive=True)
        else:
            queue.settle(batch, Exported(dict.fromkeys(range(len(batch.events)), away)))
    assert queue.settled(POISON) is None


def test_an_event_is_not_blamed_for_a_database_that_is_away(queue: Queue) -> None:
    queue.put(POISON)
    exports = 0
    for _ in range(20):
        queue.put_some(3)
        while queue.queue.stats().pending > 1:
            queue.export(is_poisoned, blameless=True)
            exports += 1
        queue.export(is_poisoned, blameless=True)
    assert queue.settled(POISON) is None
    assert exports < 100
    assert queue.export(lambda _: False)
    assert queue.queue.stats().delivered == 61


def test_being_throttled_is_not_held_against_an_event(queue: Queue) -> None:
    queue.put(b"first")
    queue.fail(queue.take(), THROTTLED)
    queue.put_some(1)
    queue.accept(queue.take())
    queue.put(POISON)
    queue.fail(queue.take(), THROTTLED)
    queue.now += 100
    queue.put_some(1)
    batch = queue.take()
    while not is_poisoned(batch.events):
        queue.accept(batch)
        batch = queue.take()
    queue.fail(batch, REFUSED, reason="403", decisive=True)
    assert queue.settled(POISON) is None


def test_a_rate_limit_keeps_batches_full(queue: Queue) -> None:
    queue.put_some(1000)
    for _ in range(5):
        queue.fail(queue.take(), THROTTLED)
    assert len(queue.take().events) == 100


def test_a_pause_that_was_asked_for_outlasts_a_request_that_was_under_way(queue: Queue) -> None:
    queue.put_some(1)
    queue.accept(queue.take())
    queue.put_some(300)
    first, second = queue.take(), queue.take()
    queue.fail(first, THROTTLED, retry_after=60.0)
    queue.accept(second)
    asked = queue.now
    queue.take()
    assert queue.now == pytest.approx(asked + 60)


def test_a_flush_cuts_a_pause_that_was_asked_for_short(queue: Queue) -> None:
    queue.put_some(300)
    queue.fail(queue.take(), THROTTLED, retry_after=60.0)
    queue.queue.hurry()
    asked = queue.now
    queue.take()
    assert queue.now < asked + 1


def test_a_long_maintenance_leaves_no_slow_pace_behind(queue: Queue) -> None:
    queue.put_some(1000)
    for _ in range(30):
        queue.fail(queue.take(), THROTTLED, retry_after=60.0)
    back = queue.now
    while queue.queue.stats().pending:
        queue.accept(queue.take())
    assert queue.now - back < 70


@pytest.mark.parametrize("trouble", [AWAY, REFUSED, THROTTLED])
def test_a_server_that_always_says_at_once_is_asked_at_the_backoffs_pace(
    queue: Queue, trouble: Trouble
) -> None:
    queue.put_some(1)
    for _ in range(10):
        queue.fail(queue.take(), trouble, retry_after=0.0)
    assert queue.now > 1030


def test_after_silence_one_event_is_sent_whatever_became_of_the_other_batch_on_the_wire(
    queue: Queue,
) -> None:
    queue.put_some(1)
    queue.accept(queue.take())
    queue.put_some(300)
    first, second = queue.take(), queue.take()
    queue.fail(first, AWAY, stored_perhaps=True)
    queue.fail(second, REFUSED)
    assert len(queue.take().events) == 1


@pytest.mark.parametrize(("asked", "waited"), [(7.0, 7.0), (0.0, 0.0), (1e9, 300.0)])
def test_what_a_server_asks_for_is_obeyed_up_to_a_cap(queue: Queue, asked: float, waited: float) -> None:
    queue.put_some(1)
    queue.fail(queue.take(), retry_after=asked)
    assert queue.destination.wait(queue.now) == pytest.approx(waited)
