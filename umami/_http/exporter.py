"""Delivers batches to one Umami server, of any generation, and learns from its answers which that is.

A batch goes to `/api/batch` in one request where the server has that route, else one event at a time to
`/api/send`. Umami drops what a bot's User-Agent sends, and its answer to a batch does not say which events
those were. So events of a User-Agent that is not surely a browser's go in requests of their own, such that
the answer tells.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from umami._user_agents import is_surely_browser
from umami.queue.exporter import Exported, Exporter, Limits

from .batches import post_batch
from .connections import Connections
from .delivery import Delivery
from .generations import Generation, may_name_agents, user_agent
from .learned import MOST_BYTES, Learned
from .messages import secrets_of
from .single import post_one
from .target import Target

_SINGLE_SENDERS: Final = 8


class UmamiExporter(Exporter):
    """Delivers to one Umami server.

    Args:
        target: Where it is.
        connections: How it is reached.
        generation: What kind of server it is, if that is known.

    Attributes:
        target: May be replaced by one of the same name with other headers.
    """

    def __init__(
        self,
        target: Target,
        connections: Connections,
        generation: Generation = Generation.UNKNOWN,
    ) -> None:
        self.target = target
        self.name = target.name
        self._connections = connections
        self._learned = Learned(target.send_url, generation, self._secrets)

    @property
    def limits(self) -> Limits:
        """What goes into one request; one event where there is no batch route."""
        if not self._uses_batches:
            return Limits(1, MOST_BYTES, threads=_SINGLE_SENDERS)
        return Limits(self._learned.most_events, self._learned.most_bytes)

    def describe(self) -> str | None:
        """Return what kind of server it is, in words; None if it is not known yet."""
        return self._learned.describe(batches=self._uses_batches)

    @property
    def _uses_batches(self) -> bool:
        return self.target.batch_url is not None and self._learned.uses_batches

    def prepare(self) -> None:
        """Build this thread's connections."""
        self._connections.poster.prepare(self.target.send_url)

    def leave(self) -> None:
        """Close this thread's connections."""
        self._connections.leave()

    def after_fork(self) -> None:
        """Use connections of this process."""
        self._connections.after_fork()

    def export(self, events: Sequence[bytes], deadline: float | None) -> Exported:
        """Deliver events, in as few requests as tell what became of each event."""
        delivery = Delivery(events, deadline, self.target, self._connections, self._learned)
        batches = self._uses_batches
        requests = self._requests(events) if batches else _single(events)
        for indexes, agent in requests:
            if batches:
                delivery.failure = post_batch(delivery, indexes, agent)
            else:
                delivery.failure = post_one(delivery, indexes[0])
            if delivery.failure is not None or self._uses_batches is not batches or delivery.must_stop:
                break
        for indexes, _ in requests:  # those that were not made
            delivery.unsent.update(indexes)
        exported = delivery.exported()
        if self._connections.settings().mirror is not None:
            self._connections.copy(exported.settled(events))
        return exported

    def _requests(self, events: Sequence[bytes]) -> Iterator[tuple[Sequence[int], str | None]]:
        """Yield the events of each request by their indexes, and the User-Agent that `post_batch` takes."""
        learned = self._learned
        if not (learned.checks_bots and may_name_agents(events)):
            yield range(len(events)), None  # as mostly
            return
        browsers: list[int] = []
        bots: list[int] = []
        unknown: dict[str, list[int]] = {}
        for index, event in enumerate(events):
            agent = user_agent(event)
            is_bot = False if agent is None or is_surely_browser(agent) else learned.is_bot(agent)
            if is_bot is None:
                unknown.setdefault(agent or "", []).append(index)
            else:
                (bots if is_bot else browsers).append(index)
        if browsers:
            yield browsers, None
        if bots:
            yield bots, ""
        yield from ((indexes, agent) for agent, indexes in unknown.items())

    def _secrets(self) -> list[str]:
        return secrets_of(self.target.headers, self._connections.settings().headers or {})


def _single(events: Sequence[bytes]) -> Iterator[tuple[Sequence[int], None]]:
    """Yield one event a request, as `UmamiExporter._requests` does."""
    return (([index], None) for index in range(len(events)))
