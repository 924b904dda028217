"""Model of the queue: after any sequence of operations, each event has ended exactly once.

Without threads and HTTP: the test plays the senders and the exporters, and sets the clock.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from umami._clock import monotonic
from umami._waiting import run
from umami.queue import bounded_queue, inbox, queue
from umami.queue import exporter as seam
from umami.queue.batches import Batch
from umami.queue.destination_queue import BATCH_FRAME, DestinationQueue
from umami.queue.exporter import Exported, Exporter, Failure, Outcome, Status, Trouble
from umami.queue.queue import EventQueue
from umami.queue.reasons import QUEUE_FULL, SHUTDOWN, TOO_LARGE
from umami.queue.reporter import Report
from umami.settings import Settings

WAIT_MAX = 8.0
MOST_PAUSE = 60.0  # between two requests, where a server limits their rate
LARGEST = 250
ACCEPTED = {Status.DELIVERED, Status.INCOMPLETE, Status.REJECTED, Status.DOUBTFUL}

NAMES = {"one": 500, "two": 500, "cloud": 1}

numbers = st.sampled_from(range(len(NAMES)))
statuses = st.sampled_from(list(Status))
retry_limits = st.sampled_from([None, 0, 1, 3])


def queue_settings(**values: Any) -> Settings:
    """Return settings, those included that a user would not be allowed: the queue takes any."""
    return Settings.model_construct(**values)


@st.composite
def all_settings(draw: st.DrawFn) -> Settings:
    return queue_settings(
        queue_size=draw(st.integers(1, 12) | st.just(1000)),
        queue_bytes=draw(st.integers(40, 1500) | st.just(100_000)),
        overflow=draw(st.sampled_from(["drop_oldest", "drop_newest", "block"])),
        batch_size=draw(st.integers(1, 8)),
        batch_bytes=draw(st.integers(40, 200)),
        flush_interval=draw(st.sampled_from([0.0, 1.0, 60.0])),
        retry_wait=1.0,
        retry_wait_max=WAIT_MAX,
        retry_after_max=WAIT_MAX,
        retry_limit=draw(retry_limits),
        item_retry_limit=draw(st.integers(0, 2)),
        at_most_once=draw(st.booleans()),
    )


exporter_limits = st.builds(
    seam.Limits, st.just(1) | st.integers(1, 500), st.integers(40, 300) | st.just(1_000_000)
)


class StubExporter(Exporter):
    """An exporter that nobody asks to export: the machine says what became of each batch."""

    def __init__(self, name: str, most_events: int = 500) -> None:
        self.exporter_name = name
        self.now_limits = seam.Limits(most_events, 1_000_000)

    @property
    def name(self) -> str:
        return self.exporter_name

    @property
    def limits(self) -> seam.Limits:
        return self.now_limits

    def export(self, events: Sequence[bytes], deadline: float | None) -> Exported:
        raise NotImplementedError


@st.composite
def failures(draw: st.DrawFn, events: Sequence[int]) -> Failure:
    return Failure(
        "no",
        events,
        draw(st.sampled_from(list(Trouble))),
        draw(st.sampled_from(["unanswered", "403", "502"])),
        draw(st.booleans()),
        draw(st.sampled_from([None, 0.0, 5.0, 1e9])),
        draw(st.booleans()),
        draw(st.booleans()),
    )


@contextmanager
def queue_clock(now: Callable[[], float]) -> Iterator[None]:
    """Turn the clock, and have the inboxes stay open to the last event: there is one thread only."""
    bounded, inboxes = vars(bounded_queue), vars(inbox)
    readers = [
        vars(module)
        for name, module in list(sys.modules.items())
        if name.startswith("umami.") and vars(module).get("monotonic") is monotonic
    ]
    real = bounded["_MARGIN"], inboxes["LARGEST"]
    bounded.update(_MARGIN=0, LARGEST=LARGEST)
    inboxes.update(LARGEST=LARGEST)
    for reader in readers:
        reader["monotonic"] = now
    try:
        yield
    finally:
        for reader in readers:
            reader["monotonic"] = monotonic
        bounded.update(_MARGIN=real[0], LARGEST=real[1])
        inboxes.update(LARGEST=real[1])


class Event:
    """What the model knows of one pending event."""

    def __init__(self, encoded: bytes) -> None:
        self.encoded = encoded
        self.doubts = 0
        self.blames = 0
        self.failed_at: int | None = None
        self.sent = False
        self.on_the_wire = False


class Model:
    """One destination as it should be: its pending events, oldest first."""

    def __init__(self, destination: DestinationQueue) -> None:
        self.destination = destination
        self.pending: dict[bytes, Event] = {}
        self.wire: list[Batch] = []
        self.sender_of: dict[Batch, object] = {}
        self.proven = False
        self.in_trouble = False
        self.accepted = 0
        self.failures = 0
        self.last_number = -1
        self.flushes: list[tuple[int, set[bytes]]] = []

    def waiting(self) -> list[Event]:
        """What may be evicted next, the oldest first: what was sent before is older than what was not."""
        idle = [event for event in self.pending.values() if not event.on_the_wire]
        return [event for event in idle if event.sent] + [event for event in idle if not event.sent]


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.clock = queue_clock(lambda: self.now)
        self.clock.__enter__()
        self.reported: list[tuple[str, str, list[bytes]]] = []
        self.called: list[DestinationQueue] = []
        self.count = 0

    def teardown(self) -> None:
        try:
            if hasattr(self, "models"):
                self.drain()
        finally:
            self.clock.__exit__(None, None, None)

    @initialize(values=all_settings())
    def start(self, values: Settings) -> None:
        self.queue = EventQueue(values, self.called.append, self.report)
        self.exporters = [StubExporter(*about) for about in NAMES.items()]
        self.models = [Model(self.queue.destination(exporter)) for exporter in self.exporters]
        self.forget()

    def forget(self) -> None:
        self.submitted = self.delivered = self.rejected = 0
        self.dropped: Counter[str] = Counter()

    def report(self, report: Report) -> None:
        if report.kind != "trouble":
            self.reported.append((report.kind, report.reason, list(report.events)))

    def told(self) -> Counter[tuple[str, str, bytes]]:
        """Return what was reported since the last time, event by event."""
        told = Counter((kind, reason, event) for kind, reason, events in self.reported for event in events)
        self.reported.clear()
        return told

    def held(self) -> list[Event]:
        return [event for model in self.models for event in model.pending.values()]

    def size(self) -> int:
        return sum(len(event.encoded) for event in self.held())

    # The callers' side.

    @rule(
        which=numbers,
        sizes=st.lists(st.integers(8, 60) | st.integers(60, LARGEST), min_size=1, max_size=12),
    )
    def put_some(self, which: int, sizes: list[int]) -> None:
        for size in sizes:
            self.put(which, size)

    @rule(
        which=numbers,
        sizes=st.lists(st.integers(8, 60), min_size=1, max_size=12),
        send=st.booleans(),
        data=st.data(),
    )
    def put_some_that_nobody_looks_at_before(
        self, which: int, sizes: list[int], send: bool, data: st.DataObject
    ) -> None:
        """Leave events in the inbox for the senders, or whatever else may happen, to find them there."""
        self.put_some(which, sizes)
        if send:
            self.send_what_is_due()
        else:
            self.live(data)

    def put(self, which: int, size: int) -> None:
        self.count += 1
        encoded = b"%08d" % self.count + b"x" * (size - 8)
        model, values = self.models[which], self.queue._settings
        expected: Counter[tuple[str, str, bytes]] = Counter()

        def full() -> bool:
            return len(self.held()) >= values.queue_size or self.size() + size > values.queue_bytes

        self.called.clear()
        reason = None
        if self.queue.closing:
            reason = SHUTDOWN
        elif size > values.queue_bytes:
            reason = TOO_LARGE
        elif full() and values.overflow != "drop_oldest":
            reason = QUEUE_FULL
        elif full():
            in_order = [
                each for one in self.queue._destinations for each in self.models if each.destination is one
            ]
            for destination in (model, *in_order):
                for event in destination.waiting():
                    if full():
                        del destination.pending[event.encoded]
                        expected["dropped", QUEUE_FULL, event.encoded] += 1
            reason = QUEUE_FULL if full() else None
        self.dropped[QUEUE_FULL] += expected.total()
        self.submitted += 1

        if model.destination.put(encoded):
            assert reason is None
            model.pending[encoded] = Event(encoded)
            # Where nobody is at work, somebody is called.
            assert self.called == ([] if model.wire else [model.destination])
        else:
            assert reason is not None
            assert run(self.queue.put_late(model.destination, encoded, 0.0)) == reason
            self.dropped[reason] += 1
            expected["dropped", reason, encoded] += 1
        told = self.told()
        assert told == expected, (told, expected, reason)

    # Time and flushes.

    @rule(seconds=st.sampled_from([0.01, 1.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def send_what_is_due(self) -> None:
        """Every destination gets a sender, and its pauses pass."""
        self.now += 2 * WAIT_MAX
        for which in range(len(self.models)):
            self.take(which)

    @rule()
    def flush(self) -> None:
        for model in self.models:
            model.flushes.append((model.destination.end(), set(model.pending)))
        self.queue.hurry()

    @rule(which=numbers)
    def after_a_flush_nothing_waits_but_for_a_rate_limit(self, which: int) -> None:
        self.flush()
        model = self.models[which]
        if model.waiting() and not model.wire:
            wait = model.destination.wait(self.now)
            backoff = model.destination.backoff
            assert wait <= max(backoff._pace, backoff.asked_until - self.now)
            self.now += wait + 1e-6
            batch = self.take(which)
            assert batch is not None

    # The senders' side.

    @rule(which=numbers)
    def send(self, which: int) -> None:
        self.take(which)

    @rule(which=numbers, limits=exporter_limits)
    def the_exporter_learns(self, which: int, limits: seam.Limits) -> None:
        self.exporters[which].now_limits = limits

    def take(self, which: int) -> Batch | None:
        model = self.models[which]
        destination, values, most = model.destination, self.queue._settings, model.destination.exporter.limits
        sender, others = object(), set(destination.senders)
        assert self.queue.add_sender(destination, sender, len(others) + 1)
        is_due = destination.wait(self.now) <= 0 and not self.queue.stopped
        batch = self.queue.take(destination, sender, 0.0)
        if batch is None:
            assert not is_due
            assert destination.senders == others
            return None
        assert not self.queue.stopped
        assert not (model.wire and (model.in_trouble or not model.proven))
        assert 1 <= len(batch.events) <= min(values.batch_size, most.events)
        body = BATCH_FRAME + sum(map(len, batch.events)) + len(batch.events) - 1
        assert body <= min(values.batch_bytes, most.bytes) or len(batch.events) == 1
        assert list(batch.numbers) == sorted(set(batch.numbers))
        assert len(batch.numbers) == len(batch.events)
        cut = [model.pending[event] for event in batch.events]
        assert not any(event.on_the_wire for event in cut)
        assert len({event.sent for event in cut}) == 1
        if not cut[0].sent:
            fresh = [event for event in model.waiting() if not event.sent]
            assert cut == fresh[: len(cut)]
            assert batch.numbers[0] > model.last_number
            model.last_number = batch.numbers[-1]
        assert (batch.items is not None) == cut[0].sent
        for event in cut:
            event.sent = event.on_the_wire = True
        model.wire.append(batch)
        model.sender_of[batch] = sender
        return batch

    def finish(self, model: Model, batch: Batch, exported: Exported) -> None:
        """Say what became of a batch, and see that the queue makes of it what it is to."""
        model.wire.remove(batch)
        events = [model.pending[event] for event in batch.events]
        for event in events:
            event.on_the_wire = False
        size = model.destination._size()
        accepted_before = model.destination.backoff._accepted
        self.queue.settle(model.destination, batch, exported)
        failure, values = exported.failure, self.queue._settings
        failed = set() if failure is None else set(failure.indexes)
        expected: Counter[tuple[str, str, bytes]] = Counter()
        accepted = False
        for index, event in enumerate(events):
            if index in failed:
                continue
            outcome = exported.outcomes.get(index, Outcome(Status.DELIVERED))
            accepted = accepted or outcome.status in ACCEPTED
            kind = self.fate(event, outcome.status)
            if kind is not None:
                self.end(model, event)
                expected[kind, outcome.reason if kind != "dropped" else "uncertain", event.encoded] += 1
        model.accepted += accepted
        assert model.destination.backoff._accepted - accepted_before == accepted
        told = self.told()
        if failure is None:
            if accepted:
                model.proven, model.in_trouble, model.failures = True, False, 0
        else:
            model.failures += 1
            if failure.trouble is not Trouble.REFUSED or len(failed) == 1:
                model.in_trouble = model.in_trouble or model.destination.backoff.outage is not None
            expected += self.failed(model, failure, [events[index] for index in failure.indexes], told)
        self.dropped["retry_limit"] += self.given_up(model, expected, told)
        expected.pop(("delivered", "", b""), None)
        assert told == Counter({key: n for key, n in expected.items() if key[0] != "delivered"})
        if failure is not None and failure.trouble is Trouble.THROTTLED:
            assert model.destination._size() == size, "a rate limit is no reason to make batches smaller"
        self.queue.remove_sender(model.destination, model.sender_of.pop(batch))
        assert values is self.queue._settings

    def fate(self, event: Event, status: Status) -> str | None:
        """Return under what an event is settled that the exporter judged by itself; None if it is kept."""
        values = self.queue._settings
        if status in (Status.DELIVERED, Status.INCOMPLETE):
            self.delivered += 1
            return str(status.value)
        if status is Status.UNCERTAIN and values.at_most_once:
            self.dropped["uncertain"] += 1
            return "dropped"
        if status is Status.DOUBTFUL and event.doubts + event.blames < values.item_retry_limit:
            event.doubts += 1
            return None
        if status in (Status.DOUBTFUL, Status.REJECTED):
            self.rejected += 1
            return "rejected"
        return None

    def failed(
        self, model: Model, failure: Failure, events: list[Event], told: Counter[tuple[str, str, bytes]]
    ) -> Counter[tuple[str, str, bytes]]:
        """Return what is to be told of the events of a request that failed as a whole."""
        expected: Counter[tuple[str, str, bytes]] = Counter()
        values = self.queue._settings
        if failure.stored_perhaps and values.at_most_once:
            for event in events:
                self.end(model, event)
                expected["dropped", "uncertain", event.encoded] += 1
                self.dropped["uncertain"] += 1
            return expected
        if failure.trouble is Trouble.THROTTLED:
            return expected
        others_passed = len(events) == 1 and events[0].failed_at not in (None, model.accepted)
        kind = "dropped" if failure.reason == "unanswered" else "rejected"
        for event in events:
            if (kind, failure.reason, event.encoded) in told:
                assert not failure.blameless
                assert others_passed, "it failed alone, and others passed since it failed before"
                assert failure.decisive or event.doubts + event.blames >= values.item_retry_limit
                self.end(model, event)
                expected[kind, failure.reason, event.encoded] += 1
                self.rejected += kind == "rejected"
                self.dropped["unanswered"] += kind == "dropped"
            else:
                event.blames = self.item_of(model, event).doubts - event.doubts
                event.failed_at = model.accepted
        return expected

    def item_of(self, model: Model, event: Event) -> Any:
        items = [item for item in model.destination.returned if item.event == event.encoded]
        return items[0] if items else SimpleNamespace(doubts=event.doubts + event.blames)

    def given_up(
        self,
        model: Model,
        expected: Counter[tuple[str, str, bytes]],
        told: Counter[tuple[str, str, bytes]],
    ) -> int:
        """Count the events that have had all their attempts: a request fails for each."""
        limit = self.queue._settings.retry_limit
        over = [event for kind, reason, event in told if (kind, reason) == ("dropped", "retry_limit")]
        for event in over:
            assert limit is not None
            assert model.failures > limit
            expected["dropped", "retry_limit", event] += 1
            self.end(model, model.pending[event])
        return len(over)

    def end(self, model: Model, event: Event) -> None:
        """An event is settled, which happens once."""
        del model.pending[event.encoded]

    @precondition(lambda self: any(model.wire for model in self.models))
    @rule(
        data=st.data(),
        answer=st.sampled_from(["deliver", "each", "each", "fail", "fail", "fail", "fail", "die"]),
    )
    def answer(self, data: st.DataObject, answer: str) -> None:
        model = data.draw(st.sampled_from([model for model in self.models if model.wire]))
        batch = data.draw(st.sampled_from(model.wire))
        if answer == "die":
            self.die(model, batch)
            return
        count = len(batch.events)
        outcomes: dict[int, Outcome] = {}
        if answer != "deliver":
            same = data.draw(st.none() | statuses)
            outcomes = {
                index: Outcome(status, status.value, "because")
                for index in range(count)
                if (status := same or data.draw(statuses)) is not Status.DELIVERED
            }
        failure = None
        if answer == "fail":
            failed = data.draw(
                st.just(range(count)) | st.lists(st.integers(0, count - 1), unique=True, min_size=1)
            )
            failure = data.draw(failures(failed))
            outcomes = {index: outcome for index, outcome in outcomes.items() if index not in failed}
        self.finish(model, batch, Exported(outcomes, failure))

    def die(self, model: Model, batch: Batch) -> None:
        model.wire.remove(batch)
        self.queue.settle(model.destination, batch, "a bug")
        self.queue.remove_sender(model.destination, model.sender_of.pop(batch))
        self.dropped["internal_error"] += len(batch.events)
        for event in batch.events:
            self.end(model, model.pending[event])
        assert self.told() == Counter(("dropped", "internal_error", event) for event in batch.events)

    # What follows from any state.

    def deliver_what_is_on_the_wire(self) -> None:
        for model in self.models:
            for batch in tuple(model.wire):
                self.finish(model, batch, Exported())

    def next_batch(self, which: int) -> Batch:
        """Wait as long as a destination waits, which is bounded, and take its next batch."""
        destination = self.models[which].destination
        self.queue.stats()  # looks into the inboxes
        wait = destination.wait(self.now)
        assert wait <= max(MOST_PAUSE, WAIT_MAX, destination.settings.flush_interval) + 1e-6
        self.now += wait + 1e-6
        batch = self.take(which)
        assert batch is not None
        return batch

    @rule()
    def drain(self) -> None:
        """Once the exporter delivers everything, everything is delivered."""
        self.deliver_what_is_on_the_wire()
        for which, model in enumerate(self.models):
            if model.pending:
                while model.pending:
                    self.finish(model, self.next_batch(which), Exported())
                assert model.destination.backoff.outage is None

    @rule(
        which=numbers,
        data=st.data(),
        trouble=st.sampled_from([Trouble.AWAY, Trouble.REFUSED]),
        decisive=st.booleans(),
    )
    def deliver_all_but_poison(
        self, which: int, data: st.DataObject, trouble: Trouble, decisive: bool
    ) -> None:
        """Events that always fail hold up no other.

        The worst case of requests that fail while others wait, for each such event: one of each size from
        a batch down to two by halves; one that makes it a suspect; `item_retry_limit` + 1 to be sure.
        """
        self.deliver_what_is_on_the_wire()
        model = self.models[which]
        if not model.pending:
            return
        poison = set(
            data.draw(st.lists(st.sampled_from(list(model.pending)), unique=True, min_size=1, max_size=3))
        )
        good = len(model.pending) - len(poison & set(model.pending))
        limit = self.queue._settings.item_retry_limit
        halves = self.queue._settings.batch_size.bit_length() - 1
        fails = len(poison) * (halves + 1 + limit + 1)
        # Those that the exporter put off until later come last, and the suspects are tried meanwhile.
        fails += 8 * len(poison)
        exports = failures = 0
        while set(model.pending) - poison:
            batch = self.next_batch(which)
            failure = None
            if poison & set(batch.events):
                failures += 1
                failure = Failure("no", range(len(batch.events)), trouble, "502", decisive=decisive)
            self.finish(model, batch, Exported({}, failure))
            exports += 1
            assert failures <= fails
        assert exports <= good + fails

    # The lives of programs.

    @rule(data=st.data())
    def live(self, data: st.DataObject) -> None:
        data.draw(
            st.sampled_from([self.reconfigure, self.close, self.reopen, self.stop_and_resume, self.fork])
        )(data)

    def reconfigure(self, data: st.DataObject) -> None:
        self.queue.configure(data.draw(all_settings()))

    def close(self, data: st.DataObject) -> None:
        self.queue.close("test")

    def reopen(self, data: st.DataObject) -> None:
        self.queue.closing.clear()

    def stop_and_resume(self, data: st.DataObject) -> None:
        self.queue.stop()
        for which in range(len(self.models)):
            assert self.take(which) is None
        self.queue.stopped = False

    def fork(self, data: st.DataObject) -> None:
        """Go on as the child, which has nothing of its parent's."""
        self.queue.reset()
        self.models = [Model(self.queue.destination(exporter)) for exporter in self.exporters]
        self.forget()

    # What always holds.

    @invariant()
    def every_event_is_in_one_place(self) -> None:
        if not hasattr(self, "models"):
            return
        stats = self.queue.stats()
        ended = stats.delivered + stats.rejected + sum(stats.dropped.values())
        assert stats.submitted == ended + stats.pending
        assert (stats.submitted, stats.delivered, stats.rejected) == (
            self.submitted,
            self.delivered,
            self.rejected,
        )
        assert Counter(stats.dropped) == self.dropped
        assert stats.pending == len(self.held())
        assert stats.pending_bytes == self.size()

    @invariant()
    def each_destination_holds_what_the_model_holds(self) -> None:
        for model in getattr(self, "models", ()):
            assert sorted([*model.destination.held(), *model.destination.inbox.events]) == sorted(
                model.pending
            )
            assert model.destination.unsettled() + len(model.destination.inbox.events) == len(model.pending)
            assert model.destination.senders == {model.sender_of[batch] for batch in model.wire}

    @invariant()
    def a_flush_knows_when_its_events_are_settled(self) -> None:
        for model in getattr(self, "models", ()):
            for end, events in model.flushes:
                assert model.destination.settled(end) == (not events & set(model.pending))


TestQueue = pytest.mark.filterwarnings("error")(QueueMachine.TestCase)
TestQueue.settings = settings(
    max_examples=40,
    stateful_step_count=50,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    phases=[Phase.generate],  # to make the example smaller would take longer than a test may
    print_blob=True,
)


def test_the_machine_turns_the_queue_clock_and_gives_it_back() -> None:
    machine = QueueMachine()
    machine.teardown()
    assert vars(queue)["monotonic"] is vars(bounded_queue)["monotonic"] is monotonic


def test_events_wait_in_the_inbox_while_a_sender_is_at_work_and_are_counted_by_the_next_call() -> None:
    queue_ = EventQueue(
        queue_settings(batch_size=3, flush_interval=60.0), lambda destination: None, lambda report: None
    )
    destination = queue_.destination(StubExporter("one"))
    assert queue_.add_sender(destination, "sender", 1)
    for number in range(3):
        destination.put(b"%d" % number)
    assert (list(destination.inbox.events), list(destination.fresh)) == ([b"0", b"1", b"2"], [])
    stats = queue_.stats()
    assert (stats.submitted, stats.pending, stats.pending_bytes) == (3, 3, 3)
    assert (list(destination.inbox.events), list(destination.fresh)) == ([], [b"0", b"1", b"2"])
    destination.put(b"3")
    batch = queue_.take(destination, "sender")
    assert batch is not None
    assert (batch.events, list(destination.fresh)) == ([b"0", b"1", b"2"], [b"3"])
    queue_.close("test")
    assert not destination.put(b"late")
    assert not destination.inbox.events
