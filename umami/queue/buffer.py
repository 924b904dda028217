"""The bounded buffer between the sends and the senders, and the one lock around both.

`put` is the caller's side: it counts, applies the overflow policy, and wakes a sender only where that
can matter. `take` and `settle` are the senders' side. Between them every event is counted exactly once.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from umami import threads
from umami.models import QueueStats

from .bounds import Bounds
from .destination import Destination
from .exporter import Exported, Exporter
from .lane import Batch, Lane
from .ledger import Ledger
from .segment import DAMAGE, SPOOL_DAMAGED, Segment
from .settling import Settlement
from .shelf import Shelf
from .spool import Spool
from .waiting import Waiting

QUEUE_FULL: Final = "queue_full"
SHUTDOWN: Final = "shutdown"
_LOAD_EVENTS: Final = 1_000
# An event of up to so many bytes may wait at a lane's door, and the doors are shut so many events before
# the buffer is full: as many threads may have passed the check at one time.
_DOOR_BYTES: Final = 1_024
_DOOR_MARGIN: Final = 256

P = ParamSpec("P")
T = TypeVar("T")


def _exclusively(method: Callable[Concatenate["Buffer", P], T]) -> Callable[Concatenate["Buffer", P], T]:
    """Have a method hold the lock, with all doors shut; what interrupts this thread leaves its events aside.

    A `with` of a lock, and no context manager of ours: a signal handler may raise where the latter begins or
    ends, and the lock would stay held.
    """

    @wraps(method)
    def locked(self: "Buffer", /, *args: P.args, **kwargs: P.kwargs) -> T:
        interrupts = self._interrupts()
        with self._lock:
            if interrupts:
                return method(self, *args, **kwargs)
            try:
                self._shut()
                return method(self, *args, **kwargs)
            finally:
                self._open()

    return locked


class Buffer:
    """Holds the events of one client, lane by lane.

    Args:
        bounds: How much, and how.
        new_exporter: Makes what delivers to a destination.
        staff: Called, outside the lock, with a lane that has events and no sender.
        report: Called with each thing that went wrong; must not wait for anything.
    """

    def __init__(
        self,
        bounds: Bounds,
        new_exporter: Callable[[Destination], Exporter],
        staff: Callable[[Lane], None],
        report: Callable[[str, str, str, list[bytes]], None],
    ) -> None:
        self.bounds = bounds
        self._spool: Spool | None = None
        self._new_exporter = new_exporter
        self._staff = staff
        self._report = report
        self._lanes: dict[tuple[str, str | None], Lane] = {}
        self._home: Lane | None = None
        self.reset()

    @_exclusively
    def rebound(self, bounds: Bounds) -> None:
        """Apply other bounds from now on. What is held stays, even if it is more than they allow."""
        self.bounds = bounds
        self._set_room()
        for lane in self._lanes.values():
            lane.limits = bounds.limits
            lane.wake.notify_all()
        self._waiting.tell()

    def reset(self) -> None:
        """Start empty, with a lock of its own: a fork's child must not touch its parent's."""
        # Reentrant, because a signal handler or a finalizer that sends an event may interrupt this very code.
        self._lock = threads.RLock()
        self.is_held: Callable[[], bool] = self._lock._is_owned  # noqa: SLF001 - as threading.Condition does
        self._waiting = Waiting(self._lock)
        self._inside = False
        self._interrupting: deque[tuple[Lane, bytes]] = deque()
        self._count = 0
        self._bytes = 0
        self._ledger = Ledger()
        self.stopped = False
        self.closing = 0
        self._set_room()
        for lane in self._lanes.values():
            lane.clear(self._lock)
        if self._spool is not None:
            self._spool.forget()
            self.use_spool(self._spool)

    @_exclusively
    def use_spool(self, spool: Spool) -> None:
        """Write events to disk from now on."""
        self._spool = spool
        for lane in self._lanes.values():
            lane.shelf = lane.shelf or Shelf(spool)

    @_exclusively
    def close_spool(self) -> int:
        """Leave what is on disk to another process, and return how many events that are."""
        if self._spool is None:
            return 0
        left = self._spool.close()
        for lane in self._lanes.values():
            lane.shelf = Shelf(self._spool)
        return left

    def _interrupts(self) -> bool:
        """Tell whether this call interrupts one of this thread's that has shut the doors."""
        # Code that was broken off may have left the mark, but not the lock.
        return self.is_held() and self._inside

    def _shut(self) -> None:
        """Shut the doors, and count what stands there.

        The doors of a buffer that is closed or stopped have been shut for long. What stands there came too
        late, and its thread has yet to see that, and to take it back.
        """
        self._inside = True
        now = time.monotonic()
        for lane in self._lanes.values():
            lane.room = 0
            count = len(lane.door)
            if count and not self.closing and not self.stopped:
                try:
                    lane.admit(count)
                    self._count += count
                    self._bytes += sum(map(len, islice(reversed(lane.fresh), count)))
                    self._ledger.submitted += count
                except BaseException:
                    self._recount()
                    raise
            lane.looked_at = now

    def _open(self) -> None:
        """Open the doors as wide as no sender has to be called and the bounds allow."""
        try:
            if self.stopped or self._spool is not None:
                return  # they stay shut
            free = min(self._most - self._count, (self._most_bytes - self._bytes) // _DOOR_BYTES)
            room = free // max(1, len(self._lanes)) - _DOOR_MARGIN
            for lane in self._lanes.values():
                lane.room = int(max(0, min(room, lane.unwatched())))
        finally:
            self._inside = False
            while self._interrupting:
                lane, event = self._interrupting.popleft()
                if not self.put(lane, event):
                    self.drop(QUEUE_FULL, "The queue is full.", [event])

    # The callers' side.

    @_exclusively
    def lane(self, destination: Destination) -> Lane:
        """Return the lane to a destination; its headers are those given last, and its last sender stays."""
        self._home = lane = self._lane(destination)
        lane.destination = lane.exporter.destination = destination
        return lane

    def _lane(self, destination: Destination) -> Lane:
        key = (destination.send_url, destination.batch_url)
        lane = self._lanes.get(key)
        if lane is None:
            lane = Lane(destination, self._new_exporter(destination), self.bounds.limits, self._lock)
            # Another dictionary, because the code that this may interrupt goes through the present one.
            self._lanes = {**self._lanes, key: lane}
        if lane.shelf is None and self._spool is not None:
            lane.shelf = Shelf(self._spool)
        return lane

    def put(self, lane: Lane, event: bytes) -> bool:
        """Put an event into a lane, if there is room.

        Mostly this takes no lock: the event is left at the lane's door, and counted by whoever holds the
        lock next, before anything else. The door is open as long as a sender looks there by itself.

        Args:
            lane: Where it belongs.
            event: Its encoded body.

        Returns:
            Whether it was taken. If not, nothing was counted: `put_late` decides what becomes of it.
        """
        door = lane.door
        if len(door) < lane.room and len(event) <= _DOOR_BYTES:
            door.append(event)
            # Who shuts a door looks behind it then; so between the two, no event is overlooked.
            return lane.room > 0 or self._recall(lane, door, event)
        return self.put_counted(lane, event)

    def _recall(self, lane: Lane, door: deque[bytes], event: bytes) -> bool:
        """Take back an event whose door was shut at that very moment, and put it in the other way."""
        with self._lock:
            try:
                door.remove(event)
            except ValueError:
                counted = True  # it was let in
            else:
                counted = False
        if not counted:
            return self.put_counted(lane, event)
        self._attend(lane)
        return True

    def put_counted(self, lane: Lane, event: bytes, *, anyway: bool = False) -> bool:
        """Put an event into a lane, if there is room, and count it at once.

        Args:
            lane: Where it belongs.
            event: Its encoded body.
            anyway: Take it even if there is no room, or `close` was called.

        Returns:
            As `put` does.
        """
        interrupts = self._interrupts()
        with self._lock:
            if interrupts:
                self._interrupting.append((lane, event))
                return True
            try:
                self._shut()
                size = len(event)
                # The first event starts a sender's clock, and the one that fills a batch is worth a wake-up.
                called = lane.unwatched() < 1
                if self._spool is not None and self._store(self._spool, lane, event, anyway=anyway):
                    pass  # to stay there until memory has room
                elif self._is_full(size) and not anyway and not self._gives_way(lane, size):
                    return False
                else:
                    self._count += 1
                    self._bytes += size
                    if not lane.fresh:
                        lane.since = time.monotonic()
                    lane.fresh.append(event)
                self._ledger.submitted += 1
                if called:
                    lane.wake.notify()
            except BaseException:
                self._recount()  # Ctrl-C, say, between two of the counts
                raise
            finally:
                self._open()
        self._attend(lane)
        return True

    def _attend(self, lane: Lane) -> None:
        """See to it that a lane that was given an event has a sender."""
        if not lane.senders or self.stopped:
            self._staff(lane)

    def _recount(self) -> None:
        """Set the counts by what is there."""
        held = [event for lane in self._lanes.values() for event in lane.held()]
        self._count = len(held)
        self._bytes = sum(map(len, held))
        self._ledger.balance(self._pending())

    def _is_full(self, size: int) -> bool:
        return self._count >= self._most or self._bytes + size > self._most_bytes

    def _store(self, spool: Spool, lane: Lane, event: bytes, *, anyway: bool) -> bool:
        """Write an event to disk; whether it stays there alone, since memory has no room for it."""
        if (self.closing and not anyway) or lane.shelf is None:
            return False
        place = spool.write(lane.destination, event)
        if place is None:
            self._catch_up(lane)
            return False
        if lane.stored or self._is_full(len(event)):
            lane.shelf.store(place[0])
            return True
        lane.shelf.note(lane.end(), place)
        return False

    def _catch_up(self, lane: Lane) -> None:
        """Load what is on disk alone, as far as there is room: what cannot join it there comes after it."""
        while lane.stored and not self._is_full(0):
            self._load(lane)
        if lane.stored and self.bounds.overflow == "drop_oldest":
            lane.overtaken += 1

    @_exclusively
    def keep(self, lane: Lane, event: bytes) -> bool:
        """Leave an event on disk alone, for another process; tell whether that could be done."""
        place = None if self._spool is None else self._spool.write(lane.destination, event)
        if place is None or lane.shelf is None:
            return False
        lane.shelf.store(place[0])
        self._ledger.submitted += 1
        return True

    def put_late(self, lane: Lane, event: bytes, patience: float) -> str | None:
        """Wait for room for an event that `put` did not take; without any, count it as dropped.

        Args:
            lane: Where it belongs.
            event: Its encoded body.
            patience: The most seconds to wait.

        Returns:
            None if it was taken, else the reason that it is counted under.
        """
        give_up = time.monotonic() + patience
        while not self.put(lane, event):
            remaining = give_up - time.monotonic()
            if self.closing:
                self.drop(SHUTDOWN, "The client was shutting down.", [event])
                return SHUTDOWN
            if remaining <= 0:
                self.drop(QUEUE_FULL, "The queue is full: the server does not keep up, or is away.", [event])
                return QUEUE_FULL
            self._waiting.until(lambda: self.closing > 0 or not self._is_full(len(event)), give_up)
        return None

    def drop(self, reason: str, message: str, events: list[bytes]) -> None:
        """Count events that never came in as submitted and dropped, and report them."""
        self._count_dropped(reason, len(events))
        self._report("dropped", reason, message, events)

    @_exclusively
    def _count_dropped(self, reason: str, count: int) -> None:
        self._ledger.lose(reason, count)

    def _gives_way(self, lane: Lane, size: int) -> bool:
        """Make room for `size` bytes by dropping the oldest events, if that is the policy."""
        if self.closing or self.bounds.overflow != "drop_oldest" or size > self.bounds.bytes:
            return False
        evicted: list[bytes] = []
        while self._count >= self.bounds.events or self._bytes + size > self.bounds.bytes:
            for other in (lane, *self._lanes.values()):
                oldest = other.evict()
                if oldest is not None:
                    self._forget(other, oldest)
                    evicted += oldest.events
                    break
            else:
                break
        if evicted:
            self._ledger.dropped[QUEUE_FULL] += len(evicted)
            self._report("dropped", QUEUE_FULL, "The queue was full: the oldest events gave way.", evicted)
        return self._count < self.bounds.events and self._bytes + size <= self.bounds.bytes

    # The senders' side.

    @_exclusively
    def take(
        self, lane: Lane, sender: object, patience: float = math.inf, spare: float = math.inf
    ) -> Batch | None:
        """Wait for the next batch of a lane.

        Args:
            lane: The lane.
            sender: Who asks, and is enlisted.
            patience: The most seconds to wait.
            spare: The same, if it can be spared. The last sender of a lane with events cannot, nor that of
                the lane asked for last: it would soon be missed.

        Returns:
            The batch; or None when there was none in time, or the senders are to end. With None the
            sender is dismissed: it counts for the lane no more.
        """
        called = time.monotonic()
        while not self.stopped:
            now = time.monotonic()
            if lane.stored and len(lane.fresh) < lane.limits.batch_size:
                self._load(lane)
            wait = lane.wait(now)
            if wait <= 0:
                batch = lane.cut(now)
                if self.bounds.at_most_once and lane.shelf is not None:
                    lane.shelf.mark(batch.numbers, settled=True)
                self._ledger.retries += batch.items is not None
                self._call(lane, now)  # what is left is not to wait for this batch's answer
                return batch
            missed = len(lane.senders) == 1 and (lane is self._home or lane.unsettled() > 0)
            allowed = patience if missed else min(patience, spare)
            wait = min(wait, called + allowed - now)
            if wait <= 0:
                lane.wake.notify()  # it may have been this one that was woken for an event
                break
            self._sleep(lane, None if wait == math.inf else wait)
        lane.senders.discard(sender)
        return None

    def _sleep(self, lane: Lane, seconds: float | None) -> None:
        """Wait for a lane's next event. The doors are open meanwhile, as suits a lane whose sender sleeps."""
        waiter = threads.waiter()
        try:
            lane.wake.register(waiter)
            self._open()
            lane.wake.wait(seconds, waiter)
        finally:
            lane.wake.withdraw(waiter)
            self._shut()

    def _call(self, lane: Lane, now: float) -> None:
        """Have an idle sender, if there is one, see for itself when the lane's next batch is due."""
        if lane.idle and lane.wait(now) < math.inf:
            lane.wake.notify()

    def _load(self, lane: Lane) -> None:
        """Bring events that are on disk alone into memory, as many as there is room for, or one batch."""
        room = min(self.bounds.events - self._count, _LOAD_EVENTS)
        if self._bytes >= self.bounds.bytes:
            room = 0
        loaded, lost = lane.load(max(room, lane.limits.batch_size))
        self._count += len(loaded)
        self._bytes += sum(map(len, loaded))
        if lost:
            self._ledger.dropped[SPOOL_DAMAGED] += lost
            self._report("dropped", SPOOL_DAMAGED, DAMAGE, [b""] * lost)

    def adopt(self) -> list[Lane]:
        """Take over files that other processes left in the spool.

        Returns:
            The lanes that their events are in now.
        """
        spool = self._spool
        if spool is None:
            return []
        orphans = spool.orphans(*self._known(spool))
        return [lane for segment in orphans for lane in self._take_in(spool, segment)]

    @_exclusively
    def _known(self, spool: Spool) -> tuple[set[Path], set[str]]:
        """Return this client's own files, and the URLs that may be given what only headers protect."""
        trusted = {lane.destination.send_url for lane in self._lanes.values() if lane.destination.is_private}
        return spool.own(), trusted

    @_exclusively
    def _take_in(self, spool: Spool, segment: Segment) -> list[Lane]:
        """Count a file's events as this client's, and return the lane that they are in, if any are left."""
        spool.add(segment)
        self._ledger.submitted += segment.unsettled
        for count, reason, message in segment.losses:
            self._ledger.lose(reason, count)
            self._report("dropped", reason, message, [b""] * count)
        if not segment.unsettled:
            spool.discard(segment)
            return []
        lane = self._lane(segment.destination)
        if lane.shelf is not None:
            lane.shelf.store(segment, segment.unsettled)
        lane.wake.notify()
        return [lane]

    @_exclusively
    def enlist(self, lane: Lane, sender: object, most: int) -> bool:
        """Have one more sender look after a lane, if fewer than `most` do; tell whether it is to."""
        if len(lane.senders) >= most:
            return False
        lane.senders.add(sender)
        return True

    @_exclusively
    def dismiss(self, lane: Lane, sender: object) -> None:
        """Count a sender no more, if it still was, other than by `take`."""
        lane.senders.discard(sender)
        lane.wake.notify()  # another looks in its place

    def settle(self, lane: Lane, batch: Batch, exported: Exported) -> None:
        """Count what became of a batch, and keep what is to be sent again."""
        now = time.monotonic()
        self._settle(lane, batch, now, lambda settlement: settlement.settle(exported, now))

    def give_up(self, lane: Lane, batch: Batch, reason: str, message: str) -> None:
        """Settle a batch as dropped."""
        now = time.monotonic()
        self._settle(lane, batch, now, lambda settlement: settlement.give_up(reason, message))

    def _settle(self, lane: Lane, batch: Batch, now: float, decide: Callable[[Settlement], None]) -> None:
        for report in self._settled(lane, batch, now, decide):
            self._report(*report)

    @_exclusively
    def _settled(
        self, lane: Lane, batch: Batch, now: float, decide: Callable[[Settlement], None]
    ) -> list[tuple[str, str, str, list[bytes]]]:
        """Settle a batch, and return what is to be reported."""
        lane.finish(batch)
        settlement = Settlement(lane, batch, self.bounds, self._ledger)
        decide(settlement)
        for ended in settlement.ended:
            self._forget(lane, ended)
        self._call(lane, now)
        self._waiting.tell()
        return settlement.reports

    def _forget(self, lane: Lane, batch: Batch) -> None:
        """Keep the events of a batch no longer, in memory and on disk: they are settled."""
        self._count -= len(batch.events)
        self._bytes -= sum(map(len, batch.events))
        if lane.shelf is not None and batch.events:
            lane.shelf.settle(batch.numbers)

    # Flushing and stopping.

    @_exclusively
    def close(self) -> None:
        """Take no more events, those that wait for room included, until `reopen` is called as often."""
        self.closing += 1
        self._set_room()
        self._waiting.tell()

    @_exclusively
    def reopen(self) -> None:
        """Undo one `close`."""
        self.closing -= 1
        self._set_room()

    def _set_room(self) -> None:
        """Set how much `put` takes: as the bounds say, and nothing while the door is closed."""
        self._most, self._most_bytes = (0, 0) if self.closing else (self.bounds.events, self.bounds.bytes)

    def wait_settled(self, give_up: float | None) -> bool:
        """Hurry every event accepted so far, and wait until each is settled.

        Args:
            give_up: The monotonic time to stop waiting at; None for never.

        Returns:
            Whether they all are. Not so, too, if the senders are sent home meanwhile.
        """
        ends = self._ends()

        def settled() -> bool:
            return all(lane.settled(end + lane.overtaken) for lane, end in ends)

        return self._waiting.until(lambda: self.stopped or settled(), give_up) and settled()

    @_exclusively
    def _ends(self) -> list[tuple[Lane, int]]:
        """Hurry every event accepted so far, and return where each lane ends."""
        self.hurry()
        return [(lane, lane.end() - lane.overtaken) for lane in self._lanes.values()]

    @_exclusively
    def hurry(self) -> None:
        """Have the senders send every event accepted so far as soon as possible."""
        now = time.monotonic()
        for lane in self._lanes.values():
            lane.hurry(lane.end(), now)
            lane.wake.notify_all()

    @_exclusively
    def stop(self) -> None:
        """Send every sender home; events stay."""
        self.stopped = True
        for lane in self._lanes.values():
            lane.wake.notify_all()
        self._waiting.tell()

    def wait_stopped(self, seconds: float) -> bool:
        """Wait until `stop` is called, or the spool has more; so many seconds at the most.

        Returns:
            Whether `stop` was called.
        """
        spool = self._spool
        self._waiting.until(
            lambda: self.stopped or (spool is not None and spool.is_hungry), time.monotonic() + seconds
        )
        return self.stopped

    @_exclusively
    def unsettled_lanes(self) -> list[Lane]:
        """Return the lanes that have events."""
        return [lane for lane in self._lanes.values() if lane.unsettled()]

    def exporters(self) -> list[Exporter]:
        """Return what delivers the events, destination by destination."""
        return [lane.exporter for lane in self._lanes.values()]

    @_exclusively
    def stats(self) -> QueueStats:
        """Return the ledger at this instant."""
        stats = self._ledger.stats(self._pending(), self._bytes)
        known = None if self._home is None else self._home.exporter.knows
        return stats.model_copy(update={"server": known})

    def _pending(self) -> int:
        return sum(lane.unsettled() for lane in self._lanes.values())
