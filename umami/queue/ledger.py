"""The counts of events, and what an export means for each event of a batch."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from umami._models import QueueStats

from .batches import Batch, Item
from .destination_queue import DestinationQueue
from .exporter import DELIVERED, UNANSWERED, Exported, Failure, Outcome, Status
from .reasons import INTERNAL_ERROR, RETRY_LIMIT, UNCERTAIN
from .reporter import Report
from .retry import Attempts, RetryPolicy
from .store import RejectedEvents


@dataclass(slots=True)
class Ledger:
    """Counts of events by where they ended, kept under the queue's lock.

    `submitted == delivered + rejected + sum(dropped.values()) + pending`, where pending is counted by the
    queue itself, not derived, so that a mistake in either shows.
    """

    submitted: int = 0
    delivered: int = 0
    rejected: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    retries: int = 0
    requests: int = 0
    last_error: str | None = None

    def copy(self) -> "Ledger":
        """Return another with the same counts."""
        return Ledger(  # not `dataclasses.replace`, which takes 2 µs more
            self.submitted,
            self.delivered,
            self.rejected,
            self.dropped.copy(),
            self.retries,
            self.requests,
            self.last_error,
        )

    def drop(self, reason: str, count: int) -> None:
        """Count events as dropped."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count

    def balance(self, pending: int) -> None:
        """Derive `submitted` from the other counts."""
        self.submitted = self.delivered + self.rejected + sum(self.dropped.values()) + pending

    def stats(self, pending: int, pending_bytes: int, server: str | None) -> QueueStats:
        """Return the counts as they are now, with those of the events that are pending."""
        return QueueStats(
            submitted=self.submitted,
            delivered=self.delivered,
            rejected=self.rejected,
            dropped=self.dropped.copy(),
            pending=pending,
            pending_bytes=pending_bytes,
            retries=self.retries,
            requests=self.requests,
            last_error=self.last_error,
            server=server,
        )


class Settlement:
    """What an export means for a batch: which events are settled, and which are sent again.

    It changes no count that is in force: the queue puts its ledger in place of the former, and lets go of the
    events that are settled. Whatever interrupts either part, no event is counted twice or lost.

    Args:
        destination: The queue that the batch is of.
        batch: The batch.
        policy: When events are sent again.
        ledger: The counts before.

    Attributes:
        destination: The queue.
        batch: The batch.
        ended: The events that are settled. Some may be of other batches.
        ledger: The counts after.
        reports: What to report, once the lock is free.
    """

    def __init__(
        self, destination: DestinationQueue, batch: Batch, policy: RetryPolicy, ledger: Ledger
    ) -> None:
        self.destination = destination
        self.batch = batch
        self.ended: list[Batch] = []
        self.ledger = ledger.copy()
        self.reports: list[Report] = []
        self._settings = destination.settings
        self._policy = policy

    def keep_rejected(self, rejected: RejectedEvents) -> None:
        """Have the events kept that a server refused."""
        kept: dict[tuple[str, str], list[bytes]] = {}
        for kind, reason, message, events, _ in self.reports:
            if kind == "rejected":
                kept.setdefault((reason, message), []).extend(events)
        for (reason, message), refused in kept.items():
            rejected.write(self.destination.exporter.name, reason, message, refused)

    def drop(self, reason: str, message: str) -> None:
        """Drop the whole batch."""
        self.ended.append(self.batch)
        self.ledger.drop(reason, len(self.batch.events))
        self.reports.append(Report("dropped", reason, message, self.batch.events))

    def fail(self, error: str) -> None:
        """Drop the batch for an error of the exporter's."""
        self.ledger.last_error = error
        self.drop(INTERNAL_ERROR, error)

    def settle(self, exported: Exported, now: float) -> None:
        """Settle the batch by what became of its events."""
        batch, destination = self.batch, self.destination
        self.ledger.requests += exported.requests
        if not exported.outcomes and exported.failure is None:
            self.ledger.delivered += len(batch.events)
            self.ended.append(batch)
            destination.backoff.accept()
            destination.backoff.succeed(self._settings.batch_size, destination.returned)
            return
        failed = set() if exported.failure is None else set(exported.failure.indexes)
        again: list[Item] = []
        ended: list[int] = []
        delays: dict[int, float] = {}  # events that failed equally often get the same delay
        answered = False
        for index, item in enumerate(batch.as_items()):
            outcome = exported.outcomes.get(index, DELIVERED)
            if index in failed:
                continue
            if outcome.status is Status.UNSENT:
                again.append(item)
                continue
            # That the server could not take one now is no sign that it takes others.
            answered = answered or outcome.status not in (Status.RETRY, Status.UNCERTAIN)
            if self._is_to_be_retried(item, outcome.status):
                self.ledger.last_error = outcome.message
                item.doubts += outcome.status is Status.DOUBTFUL
                item.own_failures = item.own_failures or Attempts(self._policy)
                delay = item.own_failures.fail(self._policy, outcome.message)
                item.due = now + delays.setdefault(item.own_failures.count, delay)
                again.append(item)
            else:
                self._end(item, outcome)
                ended.append(index)
        self.ended.append(batch.part(ended))
        if answered:
            destination.backoff.accept()
        if exported.failure is not None:
            self._fail(exported.failure, batch.as_items(), now)
        elif answered:
            destination.backoff.succeed(self._settings.batch_size, destination.returned)
        self._keep(again)

    def _is_to_be_retried(self, item: Item, status: Status) -> bool:
        if status is Status.UNCERTAIN:
            return not self._settings.at_most_once
        return status is Status.RETRY or (
            status is Status.DOUBTFUL and item.doubts < self._settings.item_retry_limit
        )

    def _end(self, item: Item, outcome: Outcome) -> None:
        """Settle an event that is not sent again."""
        status, reason, message = outcome
        if status is Status.DELIVERED:
            self.ledger.delivered += 1
            return
        self.ledger.last_error = message
        if status is Status.INCOMPLETE:
            self.ledger.delivered += 1
            self.reports.append(Report("incomplete", reason, message, [item.event]))
        elif status is Status.UNCERTAIN:
            self._drop_item(item, UNCERTAIN, message)
        else:
            self._reject(item, reason, message)

    def _fail(self, failure: Failure, items: Sequence[Item], now: float) -> None:
        """Keep the events of a request that failed as a whole, unless they may not be tried again."""
        destination, settings = self.destination, self._settings
        self.ledger.last_error = failure.message
        self.reports.append(Report("trouble", failure.trouble.value, failure.message))
        failed = [items[index] for index in failure.indexes]
        if failure.stored_perhaps and settings.at_most_once:
            for item in failed:
                self._drop_item(item, UNCERTAIN, f"The server may have stored it. {failure.message}")
            self.ended.append(Batch.of(failed))
            failed = []
        if len(failed) == 1 and destination.backoff.blames(failed[0], failure):
            [item] = failed
            if failure.blameless or (item.doubts < settings.item_retry_limit and not failure.decisive):
                item.own_failures = item.own_failures or Attempts(self._policy)
                delay = item.own_failures.fail(self._policy, failure.message)
                # What makes a server give no answer for one event, such as a lock in its database, may take
                # minutes to go away; and each try may store the event once more.
                patient = failure.stored_perhaps and item.doubts
                item.due = now + (max(delay, self._policy.wait_max) if patient else delay)
                item.doubts += not failure.blameless
                self._keep(failed)
                return
            if failure.reason == UNANSWERED:
                self._drop_item(item, UNANSWERED, f"Others were delivered meanwhile. {failure.message}")
            else:
                self._reject(item, failure.reason, failure.message)
            self.ended.append(Batch.of(failed))
            return
        self._keep(failed)
        over = destination.backoff.fail(failure, failed, destination.returned, self._policy, now)
        for item in over:
            self._drop_item(item, RETRY_LIMIT, failure.message)
        self.ended.append(Batch.of(over))

    def _reject(self, item: Item, reason: str, message: str) -> None:
        self.ledger.rejected += 1
        self.reports.append(Report("rejected", reason, message, [item.event]))

    def _drop_item(self, item: Item, reason: str, message: str) -> None:
        self.ledger.drop(reason, 1)
        self.reports.append(Report("dropped", reason, message, [item.event]))

    def _keep(self, items: list[Item]) -> None:
        """Keep events to send again: they are surely not stored, or may be stored twice."""
        destination = self.destination
        destination.returned.add(items)
        if items and self._settings.at_most_once and destination.partition is not None:
            destination.partition.mark([item.number for item in items], settled=False)
