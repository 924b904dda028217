"""Exceptions anywhere in the spool: events are counted once, the queue goes on, and the files load again.

The queue's own methods are called, in this thread: no program can have a MemoryError come where it wants.
"""

import contextlib
import gc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from model_disk import ModelDisk
from queue_helpers import NEVER, at_moment, moments
from test_model import StubExporter, queue_settings

from umami._spool.spool import Spool
from umami.queue.batches import Batch
from umami.queue.destination_queue import DestinationQueue
from umami.queue.exporter import Exported, Outcome, Status
from umami.queue.queue import EventQueue

FOLDER = Path("/spool")
FAULTS: list[type[BaseException]] = [MemoryError, KeyboardInterrupt, OSError]
BATCH_SIZE, QUEUE_SIZE = 3, 4
EACH = {0: Outcome(Status.REJECTED, "400", "no"), 1: Outcome(Status.RETRY, "503", "later")}


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    """Have no finalizer of an earlier program run, and be broken off, in the middle of a call."""
    gc.disable()
    yield
    gc.enable()


class Program:
    """A process with a queue and a spool, on a disk that others may use after its end.

    Attributes:
        kept: The events that `put` took.
        delivered: Those whose delivery was settled.
        doubtful: Those of a settlement that was broken off.
        troubles: What the spool said.
    """

    def __init__(self, disk: ModelDisk, first: int = 0, **settings: Any) -> None:
        values = {"batch_size": BATCH_SIZE, "queue_size": QUEUE_SIZE, "flush_interval": NEVER, **settings}
        self.queue = EventQueue(
            queue_settings(retry_wait=1e-9, retry_wait_max=1e-9, **values),
            lambda destination: None,
            lambda report: None,
        )
        self.troubles: list[str] = []
        self.spool = Spool(FOLDER, lambda reason, message: self.troubles.append(reason), disk)
        self.queue.use_store(self.spool)
        self.exporter = StubExporter("one")
        self.destination: DestinationQueue = self.queue.destination(self.exporter)
        self.sender = object()
        assert self.queue.add_sender(self.destination, self.sender, 1)
        self.number = first
        self.kept: set[bytes] = set()
        self.delivered: Counter[bytes] = Counter()
        self.doubtful: set[bytes] = set()
        self.batch: Batch | None = None

    def put(self, number: int = 1) -> None:
        for _ in range(number):
            event = b"event %d" % self.number
            self.number += 1
            if self.destination.put(event):  # it may be full, if the disk has failed
                self.kept.add(event)

    def take(self) -> Batch:
        self.queue.hurry()
        batch = self.queue.take(self.destination, self.sender, 0.0)
        assert batch is not None
        return batch

    def settle(self, batch: Batch, exported: Exported) -> None:
        """As a sender does."""
        self.doubtful.update(batch.events)
        try:
            self.queue.settle(self.destination, batch, exported)
        except BaseException:
            self.queue.settle(self.destination, batch, "broken off")
            raise
        self.doubtful.clear()
        self.delivered.update(
            event for index, event in enumerate(batch.events) if index not in exported.outcomes
        )
        if 0 in exported.outcomes:
            self.kept.discard(batch.events[0])  # rejected

    def change_sender(self) -> None:
        """Have another sender, as after one that was broken off."""
        self.queue.remove_sender(self.destination, self.sender)
        self.sender = object()
        assert self.queue.add_sender(self.destination, self.sender, 1)

    def adopt(self) -> None:
        self.queue.adopt(lambda name: self.exporter if name == self.exporter.name else None)

    def check(self) -> None:
        """Check that the counts are right, and the bounds."""
        stats = self.queue.stats()
        ended = stats.delivered + stats.rejected + sum(stats.dropped.values())
        assert stats.submitted == ended + stats.pending, stats
        held = list(self.destination.held())
        assert len(held) == len(set(held)) == self.queue._count == stats.pending - self.destination.stored
        assert sum(map(len, held)) == self.queue._bytes == stats.pending_bytes
        assert self.queue._count <= QUEUE_SIZE + BATCH_SIZE  # at most a batch more is loaded from the disk
        assert not self.queue.is_held()

    def drain(self) -> None:
        """Deliver the rest: nothing is stuck, and nothing comes twice."""
        for _ in range(100):
            if self.destination not in self.queue.unsettled():
                break
            self.settle(self.take(), Exported())
            self.check()
        assert self.destination not in self.queue.unsettled()
        assert max(self.delivered.values()) == 1


def broken_off_everywhere(
    fault: type[BaseException],
    make: Callable[[ModelDisk], Program],
    call: Callable[[Program], object],
    *,
    least: int,
    dies: bool,
) -> None:
    """Break a call off at each of the spool's moments in turn.

    Args:
        fault: What is raised.
        make: Makes a program.
        call: What is broken off.
        least: The moments that there are at least.
        dies: Whether the process is killed after its next batch; else it goes on to its end.
    """
    for moment in moments():
        disk = ModelDisk(FOLDER)
        program = make(disk)

        def break_off() -> None:
            raise fault

        with contextlib.suppress(fault), at_moment(moment, break_off, "umami/_spool/") as reached:
            call(program)
        program.change_sender()
        program.check()
        perhaps, program.doubtful = program.doubtful, set()
        program.put(2)
        program.settle(program.take(), Exported())
        program.check()
        if not dies:
            program.drain()
            program.spool.close()
            assert program.kept - perhaps <= set(program.delivered), moment
        disk.kill()
        later = Program(disk, first=1000)
        later.put()
        later.adopt()
        later.check()
        later.drain()
        twice = set(later.delivered) & set(program.delivered)
        lost = program.kept - perhaps - set(program.delivered) - set(later.delivered)
        # Where the disk fails, it is said: events are in memory alone, and deliveries in no file.
        assert not twice or (fault is OSError and program.troubles), (moment, twice)
        assert not lost or (fault is OSError and program.troubles), (moment, lost)
        later.spool.close()
        assert disk.names(FOLDER) == []
        if not reached:
            break
    assert moment > least, moment


def with_three(disk: ModelDisk, **settings: Any) -> Program:
    """Return a program with three events, which are in memory too."""
    program = Program(disk, **settings)
    program.put(3)
    return program


def with_a_batch(disk: ModelDisk) -> Program:
    """Return a program that has taken a batch of what is to be sent once at most."""
    program = with_three(disk, at_most_once=True)
    program.batch = program.take()
    return program


def with_more_on_disk(disk: ModelDisk) -> Program:
    """Return a program with events on disk that it has no room for."""
    program = Program(disk)
    program.put(8)
    return program


def with_what_another_left(disk: ModelDisk) -> Program:
    """Return a program that finds five events of another."""
    other = Program(disk, first=500)
    other.put(5)
    disk.kill()
    program = Program(disk)
    program.kept |= other.kept
    return program


def settled(program: Program) -> None:
    program.settle(program.take(), Exported())


def settled_each(program: Program) -> None:
    program.settle(program.batch or program.take(), Exported(EACH))


CASES: dict[str, tuple[Callable[[ModelDisk], Program], Callable[[Program], object], int]] = {
    "first": (Program, Program.put, 50),
    "put": (with_three, Program.put, 20),
    "put on disk": (with_more_on_disk, Program.put, 20),
    "take": (with_more_on_disk, settled, 50),
    "each": (with_three, settled_each, 40),
    "once": (with_a_batch, settled_each, 40),
}


@pytest.mark.slow
@pytest.mark.parametrize("dies", [False, True], ids=["goes on", "dies"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("case", CASES)
def test_a_call_that_is_broken_off_in_the_spool_loses_and_doubles_no_event(
    case: str, fault: type[BaseException], dies: bool
) -> None:
    if fault is OSError and case == "put on disk":
        pytest.skip("after the event is written, no system call is left that could fail")
    make, call, least = CASES[case]
    broken_off_everywhere(fault, make, call, least=least, dies=dies)


@pytest.mark.slow
def test_what_another_left_is_sent_though_taking_it_over_is_broken_off() -> None:
    broken_off_everywhere(MemoryError, with_what_another_left, Program.adopt, least=60, dies=True)
