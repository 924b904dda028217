"""What an export means for a batch: which of its events are settled, and which are sent again."""

from .bounds import Bounds
from .exporter import Exported, Failure, Status
from .lane import Batch, Item, Lane
from .ledger import Ledger

Report = tuple[str, str, str, list[bytes]]
"""Something that went wrong: its kind, its reason, the whole story, and the events it is about."""


class Settlement:
    """Settles a batch, or keeps events of it in their lane to be sent again. Guarded by the buffer's lock.

    Args:
        lane: The lane.
        batch: The batch, which is no longer on the wire.
        bounds: How often events are sent again.
        ledger: Where they are counted.

    Attributes:
        ended: The events that are settled, and to be held no longer; some may be of other batches.
        reports: What is to be told, once the lock is free.
    """

    def __init__(self, lane: Lane, batch: Batch, bounds: Bounds, ledger: Ledger) -> None:
        self.ended: list[Batch] = []
        self.reports: list[Report] = []
        self._lane = lane
        self._batch = batch
        self._bounds = bounds
        self._ledger = ledger

    def settle(self, exported: Exported, now: float) -> None:
        """Settle it by what became of its events."""
        batch, lane = self._batch, self._lane
        self._ledger.requests += exported.requests
        if not exported.outcomes and exported.failure is None:
            self._ledger.delivered += len(batch.events)
            self.ended.append(batch)
            lane.accepted += 1
            lane.succeed()
            return
        failed = set() if exported.failure is None else set(exported.failure.events)
        again: list[Item] = []
        waits: dict[int, float] = {}  # one for all that wait equally often, so that they stay together
        ended: list[int] = []
        answered = False
        for index, item in enumerate(batch.as_items()):
            if index in failed:
                continue
            outcome = exported.outcomes.get(index)
            status = Status.DELIVERED if outcome is None else outcome.status
            if outcome is None or status is Status.UNSENT:
                if outcome is None:
                    self._ledger.delivered += 1
                    answered = True
                    ended.append(index)
                else:
                    again.append(item)
                continue
            # That the server could not take it now is no sign that it takes others.
            answered = answered or status not in (Status.RETRY, Status.UNCERTAIN)
            self._ledger.last_error = outcome.message
            if status is Status.UNCERTAIN and self._bounds.at_most_once:
                self._drop(item, "uncertain", outcome.message)
            elif status in (Status.RETRY, Status.UNCERTAIN) or (
                status is Status.DOUBTFUL and item.doubts < self._bounds.item_retry_limit
            ):
                item.doubts += status is Status.DOUBTFUL
                item.answers += 1
                item.due = now + waits.setdefault(item.answers, self._bounds.policy.wait(item.answers))
                again.append(item)
            elif status is Status.INCOMPLETE:
                self._ledger.delivered += 1
                ended.append(index)
                self.reports.append(("incomplete", outcome.reason, outcome.message, [item.event]))
            else:
                ended.append(index)
                self._reject(item, outcome.reason, outcome.message)
        self.ended.append(batch.part(ended))
        if answered:
            lane.accepted += 1
        if exported.failure is not None:
            self._fail(exported.failure, batch.as_items(), now)
        elif answered:
            lane.succeed()
        self._keep(again)

    def give_up(self, reason: str, message: str) -> None:
        """Settle it as dropped."""
        self.ended.append(self._batch)
        self._ledger.dropped[reason] += len(self._batch.events)
        self.reports.append(("dropped", reason, message, self._batch.events))

    def _fail(self, failure: Failure, items: list[Item], now: float) -> None:
        """Keep the events of a request that failed as a whole, unless they may not be tried again."""
        lane, bounds = self._lane, self._bounds
        self._ledger.last_error = failure.message
        self.reports.append(("trouble", failure.trouble.value, failure.message, []))
        failed = [items[index] for index in failure.events]
        if failure.stored_perhaps and bounds.at_most_once:
            for item in failed:
                self._drop(item, "uncertain", "No answer came, so the server may have stored it.")
            failed = []
        if len(failed) == 1 and lane.blames(failed[0], failure):
            [item] = failed
            if item.doubts < bounds.item_retry_limit and not failure.decisive:
                item.due = now + bounds.policy.wait_alone(item.doubts, stored_perhaps=failure.stored_perhaps)
                item.doubts += 1
                self._keep(failed)
            elif failure.reason == "unanswered":
                self._drop(item, "unanswered", f"Others were delivered meanwhile. {failure.message}")
            else:
                self._reject(item, failure.reason, failure.message)
                self.ended.append(Batch([item.event], [item.number]))
            return
        self._keep(failed)
        for item in lane.fail(failure, failed, bounds.policy, now):
            self._drop(item, "retry_limit", failure.message)

    def _reject(self, item: Item, reason: str, message: str) -> None:
        self._ledger.rejected += 1
        self.reports.append(("rejected", reason, message, [item.event]))

    def _drop(self, item: Item, reason: str, message: str) -> None:
        self.ended.append(Batch([item.event], [item.number]))
        self._ledger.dropped[reason] += 1
        self.reports.append(("dropped", reason, message, [item.event]))

    def _keep(self, items: list[Item]) -> None:
        """Keep events to send again, which are surely not stored, or may be stored twice."""
        self._lane.give_back(items)
        if items and self._bounds.at_most_once and self._lane.shelf is not None:
            self._lane.shelf.mark([item.number for item in items], settled=False)
