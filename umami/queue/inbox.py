"""The inbox, to which sends add events without waiting for a lock; and the lock, under which it is closed."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from umami import _threads

LARGEST: Final = 1_024
"""The most bytes of an event that an inbox takes: it keeps account of events, not of their sizes."""


class Inbox:
    """Takes the events of one destination, without a lock where that is safe.

    A lock would cost each send more than all else that `put` does, and a thread that loses the interpreter's
    lock while it holds one stops every other for milliseconds. Appending to a deque is atomic.

    Invariant: **whatever is in the inbox is counted before anything else is done under the queue's lock, and
    some thread is about to take that lock.** Three rules keep it:

    1. A thread that takes the queue's lock closes the inbox first (`room = 0`), and then moves what is in it
       into the queue. Before it gives the lock back it opens the inbox again.
    2. It opens the inbox only for as many events as surely fit the queue's bounds, and only while no sender
       has to be woken for them: one looks again by itself in time.
    3. `put` appends first and looks at `room` afterwards; the thread with the lock closes first and looks at
       the deque afterwards. So if `put` still finds room, its event will be seen. If not, the event may have
       come too late: `put` takes the lock, and looks where it is (`recall`).

    Args:
        put_locked: Puts an event into the queue under its lock, if there is room; returns whether there was.
        recall: Called with an event that came as the inbox was closed, and with the deque that holds it. Puts
            the event in, under the lock, unless that has happened; returns whether it is in.

    Attributes:
        room: How many events it takes.
        events: What is in it.
    """

    __slots__ = ("_put_locked", "_recall", "events", "room")

    def __init__(
        self, put_locked: Callable[[bytes], bool], recall: Callable[[bytes, deque[bytes]], bool]
    ) -> None:
        self.events: deque[bytes] = deque()
        self._put_locked = put_locked
        self._recall = recall
        self.room = 0

    def put(self, event: bytes) -> bool:
        """Put an event into the queue, if there is room.

        Args:
            event: Its encoded body.

        Returns:
            Whether it was taken. If not, nothing was counted.
        """
        events = self.events
        if len(events) < self.room and len(event) <= LARGEST:
            events.append(event)
            return self.room > 0 or self._recall(event, events)
        return self._put_locked(event)

    def clear(self) -> None:
        """Close it, and forget what is in it, as a fork's child does."""
        self.room = 0
        self.events = deque()


class Guarded(ABC):
    """A queue behind one lock. While a thread holds it, the inboxes are closed, and their events are counted.

    A signal handler or a finalizer may interrupt the thread that holds the lock, and send an event. It cannot
    wait for its own thread, so its event is deferred: the call that it interrupted puts it in at its end.

    Attributes:
        is_held: Tells whether this thread holds the lock.
    """

    def new_lock(self) -> None:
        """Make the lock."""
        self._lock = _threads.RLock()  # reentrant, for what interrupts this very code
        self.is_held: Callable[[], bool] = self._lock._is_owned  # noqa: SLF001 - as threading.Condition does
        self._inside = False
        # Events that were sent meanwhile, each with its queue; or with None, and the reason to drop it.
        self._deferred: deque[tuple[Any, bytes, Any]] = deque()

    def _interrupts(self) -> bool:
        """Tell whether this call interrupts code of its own thread that holds the lock."""
        # Code that was broken off may have left the mark, but not the lock.
        return self.is_held() and self._inside

    def _close_inboxes(self) -> None:
        if self._inside:
            self._repair()  # the last call was broken off, and its repair too
        self._inside = True
        self._count_inboxes()

    def _open_inboxes(self) -> None:
        while True:
            while self._deferred:
                self._put_deferred()
            self._set_rooms()
            self._inside = False
            if not self._deferred:
                return
            self._close_inboxes()  # an event has come in between

    def _repair(self) -> None:
        self._inside = True
        self._recount()

    @abstractmethod
    def _count_inboxes(self) -> None:
        """Close the inboxes, and count what is in them."""

    @abstractmethod
    def _set_rooms(self) -> None:
        """Open the inboxes."""

    @abstractmethod
    def _put_deferred(self) -> None:
        """Put in the first event that is deferred, or drop it, and take it off the list."""

    @abstractmethod
    def _recount(self) -> None:
        """Set the counts by what is there, after a call was broken off."""


Q = TypeVar("Q", bound=Guarded)
P = ParamSpec("P")
T = TypeVar("T")


def locked(method: Callable[Concatenate[Q, P], T]) -> Callable[Concatenate[Q, P], T]:
    """Have a method hold the lock, with all inboxes closed and what was in them counted.

    If it is broken off (by a Ctrl-C or a MemoryError, say), the counts still match the contents. If their
    repair is broken off too, the next call makes it. It is a decorator and no context manager: a handler may
    raise where the latter begins or ends, and the lock would stay held.
    """

    @wraps(method)
    def run(self: Q, /, *args: P.args, **kwargs: P.kwargs) -> T:
        interrupts = self._interrupts()
        with self._lock:
            if interrupts:
                return method(self, *args, **kwargs)
            try:
                self._close_inboxes()
                result = method(self, *args, **kwargs)
            except BaseException:
                self._repair()
                self._open_inboxes()
                raise
            self._open_inboxes()
            return result

    return run
