"""The buffer against a model of it: whatever happens in whatever order, every event ends exactly once.

No threads and no HTTP: the machine is the senders and the server, and turns the clock.
"""

import time
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from umami._http.messages import UnansweredError
from umami.queue import buffer as buffer_module
from umami.queue.bounds import Bounds
from umami.queue.buffer import QUEUE_FULL, SHUTDOWN, Buffer
from umami.queue.delivery import Destination, Failed, Fate, NoBatchRoute, Outcome, Refused, Settled, Verdict
from umami.queue.lane import BATCH_FRAME, Batch, Lane, Limits
from umami.queue.retry import Policy

DESTINATIONS = [
    Destination("http://one/api/send", "http://one/api/batch"),
    Destination("http://two/api/send", "http://two/api/batch"),
    Destination("http://cloud/api/send", None),
]
WAIT_MAX = 8.0
LARGEST = 250

lanes = st.sampled_from(range(len(DESTINATIONS)))
fates = st.sampled_from(list(Fate))
retry_limits = st.sampled_from([None, 0, 1, 3])


@st.composite
def bounds(draw: st.DrawFn) -> Bounds:
    return Bounds(
        events=draw(st.integers(1, 12) | st.just(1000)),
        bytes=draw(st.integers(40, 1500) | st.just(100_000)),
        overflow=draw(st.sampled_from(["drop_oldest", "drop_newest", "block"])),
        limits=Limits(
            batch_size=draw(st.integers(1, 8)),
            batch_bytes=draw(st.integers(40, 200)),
            interval=draw(st.sampled_from([0.0, 1.0, 60.0])),
        ),
        policy=Policy(wait=1.0, wait_max=WAIT_MAX, retry_after_max=WAIT_MAX, limit=draw(retry_limits)),
        item_retry_limit=draw(st.integers(0, 1)),
        at_most_once=draw(st.booleans()),
    )


class Event:
    """What the model knows of one pending event."""

    def __init__(self, encoded: bytes) -> None:
        self.encoded = encoded
        self.failures = 0
        self.doubts = 0
        self.sent = False
        self.on_the_wire = False


class Model:
    """One lane as it should be: its pending events, oldest first."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.pending: dict[bytes, Event] = {}
        self.wire: list[Batch] = []
        self.sender_of: dict[Batch, object] = {}
        self.batched = lane.destination.batch_url is not None
        self.proven = False
        self.in_trouble = False
        self.flushes: list[tuple[int, set[bytes]]] = []

    def waiting(self) -> list[Event]:
        """What may be evicted next, the oldest first: what was sent before is older than what was not."""
        idle = [event for event in self.pending.values() if not event.on_the_wire]
        return [event for event in idle if event.sent] + [event for event in idle if not event.sent]


class BufferMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.real_time = buffer_module.time
        buffer_module.time = SimpleNamespace(monotonic=lambda: self.now)  # type: ignore[assignment]
        # One thread only, and small bounds: the doors may stay open to the last event.
        self.door = buffer_module._DOOR_MARGIN, buffer_module._DOOR_BYTES
        buffer_module._DOOR_MARGIN, buffer_module._DOOR_BYTES = 0, LARGEST
        self.reported: list[tuple[str, str, list[bytes]]] = []
        self.staffed: list[Lane] = []
        self.count = 0

    def teardown(self) -> None:
        buffer_module.time = self.real_time
        buffer_module._DOOR_MARGIN, buffer_module._DOOR_BYTES = self.door

    @initialize(bounds=bounds())
    def start(self, bounds: Bounds) -> None:
        self.buffer = Buffer(bounds, self.staffed.append, self.report)
        self.models = [Model(self.buffer.lane(destination)) for destination in DESTINATIONS]
        self.forget()

    def forget(self) -> None:
        self.submitted = self.delivered = self.rejected = 0
        self.dropped: Counter[str] = Counter()
        self.closed = 0

    def report(self, kind: str, reason: str, message: str, events: list[bytes]) -> None:
        if kind != "trouble":
            self.reported.append((kind, reason, events))

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

    @rule(which=lanes, sizes=st.lists(st.integers(8, 60) | st.integers(60, LARGEST), min_size=1, max_size=12))
    def put_some(self, which: int, sizes: list[int]) -> None:
        for size in sizes:
            self.put(which, size)

    @rule(
        which=lanes,
        sizes=st.lists(st.integers(8, 60), min_size=1, max_size=12),
        send=st.booleans(),
        data=st.data(),
    )
    def put_some_that_nobody_looks_at_before(
        self, which: int, sizes: list[int], send: bool, data: st.DataObject
    ) -> None:
        """Leave events at the door for the senders, or whatever else may happen, to find them there."""
        self.put_some(which, sizes)
        if send:
            self.send_what_is_due()
        else:
            self.live(data)

    def put(self, which: int, size: int) -> None:
        self.count += 1
        encoded = b"%08d" % self.count + b"x" * (size - 8)
        model, limits = self.models[which], self.buffer.bounds
        expected: Counter[tuple[str, str, bytes]] = Counter()

        def full() -> bool:
            return len(self.held()) >= limits.events or self.size() + size > limits.bytes

        self.staffed.clear()
        reason = None
        if self.closed:
            reason = SHUTDOWN
        elif full() and (limits.overflow != "drop_oldest" or size > limits.bytes):
            reason = QUEUE_FULL
        elif full():
            for lane in (model, *self.models):
                for event in lane.waiting():
                    if full():
                        del lane.pending[event.encoded]
                        expected["dropped", QUEUE_FULL, event.encoded] += 1
            reason = QUEUE_FULL if full() else None
        self.dropped[QUEUE_FULL] += expected.total()
        self.submitted += 1

        if self.buffer.put(model.lane, encoded):
            assert reason is None
            model.pending[encoded] = Event(encoded)
            # Where nobody is at work, somebody is called.
            assert self.staffed == ([] if model.wire else [model.lane])
        else:
            assert reason is not None
            assert self.buffer.put_late(model.lane, encoded, 0.0) == reason
            self.dropped[reason] += 1
            expected["dropped", reason, encoded] += 1
        assert self.told() == expected

    # Time and flushes.

    @rule(seconds=st.sampled_from([0.01, 1.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def send_what_is_due(self) -> None:
        """Every lane gets a sender, and its pauses pass."""
        self.now += 2 * WAIT_MAX
        for which in range(len(self.models)):
            self.take(which)

    @rule()
    def flush(self) -> None:
        for model in self.models:
            model.flushes.append((model.lane.end(), set(model.pending)))
        self.buffer.hurry()

    @rule(which=lanes)
    def after_a_flush_nothing_waits_for_its_time(self, which: int) -> None:
        self.flush()
        model = self.models[which]
        if model.waiting() and not model.wire:
            batch = self.take(which)
            assert batch is not None

    # The senders' side.

    @rule(which=lanes)
    def send(self, which: int) -> None:
        self.take(which)

    def take(self, which: int) -> Batch | None:
        model = self.models[which]
        lane, limits = model.lane, self.buffer.bounds.limits
        sender, others = object(), set(lane.senders)
        assert self.buffer.enlist(lane, sender, len(others) + 1)
        batch = self.buffer.take(lane, sender, 0.0)
        if batch is None:
            assert lane.senders == others
            return None
        assert not self.buffer.stopped
        assert not (model.wire and (model.in_trouble or not model.proven))
        assert 1 <= len(batch.events) <= (limits.batch_size if model.batched else 1)
        if model.in_trouble:
            assert len(batch.events) == 1
        body = BATCH_FRAME + sum(map(len, batch.events)) + len(batch.events) - 1
        assert body <= limits.batch_bytes or len(batch.events) == 1
        assert list(batch.numbers) == sorted(set(batch.numbers))
        assert len(batch.numbers) == len(batch.events)
        cut = [model.pending[event] for event in batch.events]
        assert not any(event.on_the_wire for event in cut)
        assert len({event.sent for event in cut}) == 1
        if not cut[0].sent:
            fresh = [event for event in model.waiting() if not event.sent]
            assert cut == fresh[: len(cut)]
        assert batch.repeated == cut[0].sent
        for event in cut:
            event.sent = event.on_the_wire = True
        model.wire.append(batch)
        model.sender_of[batch] = sender
        return batch

    def finish(self, data: st.DataObject) -> tuple[Model, Batch, list[Event]]:
        model = data.draw(st.sampled_from([model for model in self.models if model.wire]))
        batch = model.wire.pop(data.draw(st.integers(0, len(model.wire) - 1)))
        events = [model.pending[event] for event in batch.events]
        for event in events:
            event.on_the_wire = False
        return model, batch, events

    def settle(self, model: Model, batch: Batch, outcome: Outcome) -> None:
        self.buffer.settle(model.lane, batch, outcome)
        self.buffer.dismiss(model.lane, model.sender_of.pop(batch))

    def end(self, model: Model, event: Event) -> bytes:
        """An event is settled, which happens once."""
        del model.pending[event.encoded]
        return event.encoded

    @precondition(lambda self: any(model.wire for model in self.models))
    @rule(
        data=st.data(),
        answer=st.sampled_from(
            ["deliver", "each", "each", "each", "fail", "fail", "fail", "refuse", "no_batch_route", "die"]
        ),
    )
    def answer(self, data: st.DataObject, answer: str) -> None:
        getattr(self, answer)(data)

    def deliver(self, data: st.DataObject) -> None:
        model, batch, events = self.finish(data)
        self.settle(model, batch, Settled())
        for event in events:
            self.end(model, event)
        self.delivered += len(events)
        model.proven, model.in_trouble = True, False
        assert not self.told()

    def each(self, data: st.DataObject) -> None:
        model, batch, events = self.finish(data)
        same = data.draw(st.none() | fates)
        drawn = [same or data.draw(fates) for _ in events]
        verdicts = {
            index: Verdict(fate, fate.value, "because")
            for index, fate in enumerate(drawn)
            if fate is not Fate.DELIVERED
        }
        self.settle(model, batch, Settled(verdicts))
        model.proven, model.in_trouble = True, False
        expected: Counter[tuple[str, str, bytes]] = Counter()
        for event, fate in zip(events, drawn, strict=True):
            if fate is Fate.AGAIN:
                continue
            if fate is Fate.DOUBTFUL and event.doubts < self.buffer.bounds.item_retry_limit:
                event.doubts += 1
                continue
            self.end(model, event)
            if fate in (Fate.DELIVERED, Fate.INCOMPLETE):
                self.delivered += 1
            else:
                self.rejected += 1
            if fate is not Fate.DELIVERED:
                kind = "incomplete" if fate is Fate.INCOMPLETE else "rejected"
                expected[kind, fate.value, event.encoded] += 1
        assert self.told() == expected

    def fail(self, data: st.DataObject) -> None:
        stored_perhaps = data.draw(st.booleans())
        model, batch, events = self.finish(data)
        answer = UnansweredError("silence", stored_perhaps=stored_perhaps)
        self.settle(model, batch, Failed(answer, "silence", stored_perhaps))
        model.in_trouble = True
        expected: Counter[tuple[str, str, bytes]] = Counter()

        def drop(event: Event, reason: str) -> None:
            expected["dropped", reason, self.end(model, event)] += 1
            self.dropped[reason] += 1

        if stored_perhaps and self.buffer.bounds.at_most_once:
            for event in events:
                drop(event, "uncertain")
        for event in [event for event in model.waiting() if event.sent]:
            event.failures += 1
            if self.buffer.bounds.policy.over(event.failures):
                drop(event, "retry_limit")
        assert self.told() == expected

    def refuse(self, data: st.DataObject) -> None:
        reason = data.draw(st.sampled_from(["400", "401", "403", "404", "405", "413"]))
        model, batch, events = self.finish(data)
        self.settle(model, batch, Refused(reason, "no"))
        model.proven, model.in_trouble = True, False
        expected: Counter[tuple[str, str, bytes]] = Counter()
        if len(events) == 1 or reason in ("401", "403", "404", "405"):
            for event in events:
                expected["rejected", reason, self.end(model, event)] += 1
            self.rejected += len(events)
        assert self.told() == expected

    def no_batch_route(self, data: st.DataObject) -> None:
        model, batch, _ = self.finish(data)
        if model.batched:
            self.settle(model, batch, NoBatchRoute("404"))
            model.batched = False
        else:
            self.settle(model, batch, Settled())
            for event in batch.events:
                del model.pending[event]
            self.delivered += len(batch.events)
            model.proven, model.in_trouble = True, False
        assert not self.told()

    def die(self, data: st.DataObject) -> None:
        model, batch, events = self.finish(data)
        self.buffer.give_up(model.lane, batch, "internal_error", "a bug")
        self.buffer.dismiss(model.lane, model.sender_of.pop(batch))
        self.dropped["internal_error"] += len(events)
        expected = Counter(("dropped", "internal_error", self.end(model, event)) for event in events)
        assert self.told() == expected

    # The lives of programs.

    @rule(data=st.data())
    def live(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from([self.rebound, self.close, self.reopen, self.stop_and_resume, self.fork]))(
            data
        )

    def rebound(self, data: st.DataObject) -> None:
        self.buffer.rebound(data.draw(bounds()))

    def close(self, data: st.DataObject) -> None:
        if not self.closed:
            self.buffer.close()
            self.closed += 1

    def reopen(self, data: st.DataObject) -> None:
        for _ in range(self.closed):
            self.buffer.reopen()
        self.closed = 0

    def stop_and_resume(self, data: st.DataObject) -> None:
        self.buffer.stop()
        for which in range(len(self.models)):
            assert self.take(which) is None
        self.buffer.stopped = False

    def fork(self, data: st.DataObject) -> None:
        """Go on as the child, which has nothing of its parent's."""
        self.buffer.reset()
        self.models = [Model(self.buffer.lane(destination)) for destination in DESTINATIONS]
        self.forget()

    # What always holds.

    @invariant()
    def every_event_is_in_one_place(self) -> None:
        if not hasattr(self, "models"):
            return
        stats = self.buffer.stats()
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
    def each_lane_holds_what_the_model_holds(self) -> None:
        for model in getattr(self, "models", ()):
            assert sorted([*model.lane.held(), *model.lane.door]) == sorted(model.pending)
            assert model.lane.unsettled() + len(model.lane.door) == len(model.pending)
            assert model.lane.batched == model.batched
            assert model.lane.senders == {model.sender_of[batch] for batch in model.wire}

    @invariant()
    def a_flush_knows_when_its_events_are_settled(self) -> None:
        for model in getattr(self, "models", ()):
            for end, events in model.flushes:
                assert model.lane.settled(end) == (not events & set(model.pending))


TestBuffer = pytest.mark.filterwarnings("error")(BufferMachine.TestCase)
TestBuffer.settings = settings(
    max_examples=600,
    stateful_step_count=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_the_machine_turns_the_buffers_clock_and_gives_it_back() -> None:
    machine = BufferMachine()
    machine.teardown()
    assert buffer_module.time is time


def test_events_stand_at_the_door_while_a_sender_is_at_work_and_are_counted_by_whoever_looks() -> None:
    buffer = Buffer(
        Bounds(
            events=1000,
            bytes=10_000_000,
            overflow="drop_newest",
            limits=Limits(batch_size=3, batch_bytes=1000, interval=60.0),
            policy=Policy(wait=1.0, wait_max=1.0, retry_after_max=1.0, limit=None),
            item_retry_limit=0,
            at_most_once=False,
        ),
        lambda lane: None,
        lambda *report: None,
    )
    lane = buffer.lane(DESTINATIONS[0])
    assert buffer.enlist(lane, "sender", 1)
    for number in range(3):
        buffer.put(lane, b"%d" % number)
    assert (list(lane.door), list(lane.fresh)) == ([b"0", b"1", b"2"], [])
    stats = buffer.stats()
    assert (stats.submitted, stats.pending, stats.pending_bytes) == (3, 3, 3)
    assert (list(lane.door), list(lane.fresh)) == ([], [b"0", b"1", b"2"])
    buffer.put(lane, b"3")
    batch = buffer.take(lane, "sender")
    assert batch is not None
    assert (batch.events, list(lane.fresh)) == ([b"0", b"1", b"2"], [b"3"])
    buffer.close()
    assert not buffer.put(lane, b"late")
    assert not lane.door
