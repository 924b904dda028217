"""Exceptions anywhere in a settlement or another call of the queue: each event is counted once.

The queue's own methods are called, in this thread: no program can have a MemoryError come where it wants.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from queue_helpers import NEVER, at_moment, moments
from test_model import StubExporter, queue_settings

from umami.exporters import MemoryExporter
from umami.queue.batches import Batch
from umami.queue.destination_queue import DestinationQueue
from umami.queue.exporter import Exported, Failure, Outcome, Status, Trouble
from umami.queue.queue import EventQueue
from umami.queue.reporter import Report
from umami.queue.workers import Senders
from umami.settings import Settings

ALL = range(3)
REFUSED = Failure("no", ALL, Trouble.REFUSED, "403")
AWAY = Failure("no", ALL)
SILENT = Failure("no", ALL, stored_perhaps=True)
EACH = {0: Outcome(Status.REJECTED, "400", "no"), 1: Outcome(Status.RETRY, "503", "later")}


class Queue:
    """A queue of four events, of which three have been taken; and what it reported."""

    def __init__(self, **settings: Any) -> None:
        self.reports: Counter[str] = Counter()
        self.settings: Settings = queue_settings(
            batch_size=3, flush_interval=NEVER, retry_wait=1e-9, retry_wait_max=1e-9, **settings
        )
        self.queue = EventQueue(self.settings, lambda destination: None, self.report)
        self.destination: DestinationQueue = self.queue.destination(StubExporter("one"))
        self.sender = object()
        self.count = 0
        assert self.queue.add_sender(self.destination, self.sender, 1)
        self.put(4)

    def report(self, report: Report) -> None:
        if report.events:
            self.reports[f"{report.kind} {report.reason}"] += len(report.events)

    def put(self, number: int) -> None:
        for _ in range(number):
            assert self.destination.put(b"event %d" % self.count)
            self.count += 1

    def take(self) -> Batch:
        batch = self.queue.take(self.destination, self.sender, 1.0)
        assert batch is not None
        return batch

    def check(self) -> None:
        """Check that the counts are right, and those of the bounds."""
        stats = self.queue.stats()
        ended = stats.delivered + stats.rejected + sum(stats.dropped.values())
        assert stats.submitted == self.count == ended + stats.pending, stats
        held = list(self.destination.held())
        assert len(held) == len(set(held)) == self.queue._count == stats.pending
        assert sum(map(len, held)) == self.queue._bytes == stats.pending_bytes
        assert self.destination.fresh.bytes == sum(map(len, self.destination.fresh))

    def drain(self) -> None:
        """Deliver the rest: nothing is stuck."""
        self.queue.remove_sender(self.destination, self.sender)
        self.sender = object()
        assert self.queue.add_sender(self.destination, self.sender, 1)
        self.put(1)
        while self.destination in self.queue.unsettled():
            self.queue.hurry()
            self.queue.settle(self.destination, self.take(), Exported())
        self.check()


def broken_off_everywhere(
    make: Callable[[], Queue], call: Callable[[Queue], object], least: int, may_add: int = 0
) -> None:
    """Break a call off at each of its moments in turn, and check the counts after that."""
    for moment in moments():
        queue = make()

        def break_off() -> None:
            raise MemoryError

        with contextlib.suppress(MemoryError), at_moment(moment, break_off) as reached:
            call(queue)
        queue.queue.stats()  # takes in what may have been put aside
        before, queue.count = queue.count, queue.queue.stats().submitted
        assert queue.count - before in range(may_add + 1)
        queue.check()
        queue.drain()
        if not reached:
            break
    assert moment > least


@pytest.mark.slow
@pytest.mark.parametrize(
    ("exported", "settings"),
    [
        (Exported(), {}),
        (Exported(EACH), {}),
        (Exported(failure=AWAY), {}),
        (Exported(failure=AWAY), {"retry_limit": 0}),
        (Exported(failure=SILENT), {"at_most_once": True}),
        (Exported(failure=REFUSED), {}),
        (Exported({0: EACH[0]}, Failure("no", [2])), {"retry_limit": 0}),
    ],
    ids=["delivered", "each", "away", "given up", "at most once", "refused", "partly"],
)
def test_a_settlement_that_is_broken_off_counts_each_event_once(
    exported: Exported, settings: dict[str, Any]
) -> None:
    batches: list[Batch] = []

    def make() -> Queue:
        queue = Queue(**settings)
        batches[:] = [queue.take()]
        return queue

    def settle(queue: Queue) -> None:
        [batch] = batches
        try:
            queue.queue.settle(queue.destination, batch, exported)
        except MemoryError:
            queue.queue.settle(queue.destination, batch, "MemoryError")
            raise

    broken_off_everywhere(make, settle, least=20)


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True], ids=["fresh", "again"])
def test_a_batch_whose_taking_is_broken_off_is_taken_by_another(again: bool) -> None:
    def make() -> Queue:
        queue = Queue()
        if again:
            queue.queue.settle(queue.destination, queue.take(), Exported(failure=REFUSED))
        return queue

    broken_off_everywhere(make, Queue.take, least=20)


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True], ids=["fresh", "again"])
def test_an_event_whose_dropping_is_broken_off_counts_once(again: bool) -> None:
    def make() -> Queue:
        queue = Queue(queue_size=4, overflow="drop_oldest")
        if again:
            queue.queue.settle(queue.destination, queue.take(), Exported(failure=REFUSED))
        return queue

    def put(queue: Queue) -> None:
        queue.destination.put(b"another")

    broken_off_everywhere(make, put, least=20, may_add=1)


def test_what_the_log_is_told_adds_up_after_a_settlement_that_failed_in_the_store() -> None:
    queue = Queue()
    batch = queue.take()

    class Failing:
        waiting = 0

        def settle(self, numbers: Sequence[int]) -> None:
            raise OSError(5, "Input/output error")

        def repair(self, end: int) -> None:
            pass

    queue.destination.partition = Failing()  # type: ignore[assignment]
    with contextlib.suppress(OSError):
        queue.queue.settle(queue.destination, batch, Exported(EACH))
    assert not queue.queue.settle(queue.destination, batch, "OSError")
    queue.destination.partition = None
    queue.check()
    assert queue.reports == {"rejected 400": 1}
    assert queue.queue.stats().rejected == 1
    queue.drain()


@pytest.mark.slow
@pytest.mark.parametrize("fault", [MemoryError, KeyboardInterrupt])
def test_a_sender_that_is_broken_off_anywhere_leaves_its_events_to_the_next(
    fault: type[BaseException],
) -> None:
    def break_off() -> None:
        raise fault

    for moment in moments():
        exporter = MemoryExporter()
        settings = queue_settings(batch_size=3, flush_interval=0.0, retry_wait=1e-9, retry_wait_max=1e-9)
        queue = EventQueue(settings, lambda destination: None, lambda report: None)
        destination = queue.destination(exporter)
        senders = Senders(queue, lambda: None)
        for number in range(7):
            assert destination.put(b'{"n": %d}' % number)
        with contextlib.suppress(fault), at_moment(moment, break_off) as reached:
            senders.work(destination, float("inf"))
        while destination in queue.unsettled():
            queue.hurry()
            senders.work(destination, float("inf"))
        stats = queue.stats()
        assert stats.submitted == 7 == stats.delivered + sum(stats.dropped.values())
        assert (stats.pending, queue._count, queue._bytes, destination.in_flight) == (0, 0, 0, {})
        if not reached:
            break
    assert moment > 50
