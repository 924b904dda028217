"""The destinations of one client: those that have something to do, and idle ones that cost a send nothing."""

from collections.abc import Callable, Iterator
from weakref import WeakValueDictionary

from .destination_queue import DestinationQueue
from .exporter import Exporter


class Destinations:
    """Finds the queue of an exporter.

    A queue that has nothing to do is left out when it is gone through them, until its next event. It is known
    for as long as something holds it, a send under way for example: an exporter never has two queues. Guarded
    by the lock of the queue that it is part of.

    Args:
        new: Makes the queue of an exporter.

    Attributes:
        active: Those that are not left out, in the order that they came: a set that keeps it.
        current: Where the client sends now. It is never left out.
    """

    def __init__(self, new: Callable[[Exporter], DestinationQueue]) -> None:
        self._new = new
        self.active: dict[DestinationQueue, None] = {}
        self.current: DestinationQueue | None = None
        self.forget_idle()

    def forget_idle(self) -> None:
        """Forget those that are left out, as a fork's child does: they have the parent's lock."""
        self._known = WeakValueDictionary({each.exporter.name: each for each in self.active})

    def of(self, exporter: Exporter) -> DestinationQueue:
        """Return the queue of an exporter, made at the first use."""
        name = exporter.name
        # A send that interrupts this may make it too.
        destination = self._known.get(name) or self._known.setdefault(name, self._new(exporter))
        destination.exporter = exporter
        return destination

    def __iter__(self) -> Iterator[DestinationQueue]:
        return iter(tuple(self.active))  # a copy, because a send that interrupts this may add one

    def __len__(self) -> int:
        return len(self.active)

    def add(self, destination: DestinationQueue) -> None:
        """Go through a destination from now on."""
        self.active[destination] = None

    def leave_out(self, destination: DestinationQueue | None) -> None:
        """Leave a destination out, if it has nothing to do."""
        if destination is None or destination is self.current or destination.senders:
            return
        if not destination.unsettled() and not destination.inbox.room and not destination.inbox.events:
            self.active.pop(destination, None)
