"""What an outcome means for a batch: which of its events are settled, and which are sent again."""

from dataclasses import replace
from typing import Final

from .bounds import Bounds
from .delivery import DELIVERED, Failed, Fate, Outcome, Refused, Settled
from .lane import Batch, Lane
from .ledger import Ledger

Report = tuple[str, str, str, list[bytes]]
"""Something that went wrong: its kind, its reason, the whole story, and the events it is about."""

_NOT_THE_EVENTS: Final = frozenset(("401", "403", "404", "405"))


class Settlement:
    """Settles a batch, or keeps it in its lane to be sent again. Guarded by the buffer's lock.

    Args:
        lane: The lane.
        batch: The batch, which is no longer on the wire.
        bounds: How often events are sent again.
        ledger: Where they are counted.

    Attributes:
        ended: What is settled, and to be held no longer; parts of other batches may be.
        reports: What is to be told, once the lock is free.
    """

    def __init__(self, lane: Lane, batch: Batch, bounds: Bounds, ledger: Ledger) -> None:
        self.ended: list[Batch] = []
        self.reports: list[Report] = []
        self._lane = lane
        self._batch = batch
        self._bounds = bounds
        self._ledger = ledger

    def settle(self, outcome: Outcome, now: float) -> None:
        """Settle it by what became of its request."""
        if isinstance(outcome, Settled):
            self._lane.succeed()
            self._each(outcome, now)
        elif isinstance(outcome, Failed):
            self._ledger.last_error = outcome.message
            self._failed(outcome, now)
        elif isinstance(outcome, Refused):
            self._lane.succeed()
            self._ledger.last_error = outcome.message
            self._refused(outcome)
        else:
            self._lane.batched = False
            self._again(self._batch)

    def give_up(self, reason: str, message: str) -> None:
        """Settle it as dropped."""
        self._drop(self._batch, reason, message)

    def _each(self, outcome: Settled, now: float) -> None:
        batch, ledger = self._batch, self._ledger
        if not outcome.verdicts:
            ledger.delivered += len(batch.events)
            self.ended.append(batch)
            return
        waiting: list[int] = []
        doubtful: list[int] = []
        ended: list[int] = []
        tries = batch.tries + 1
        for index, event in enumerate(batch.events):
            verdict = outcome.verdicts.get(index, DELIVERED)
            fate = verdict.fate
            if fate is Fate.AGAIN or (fate is Fate.DOUBTFUL and batch.doubts < self._bounds.item_retry_limit):
                (waiting if fate is Fate.AGAIN else doubtful).append(index)
                ledger.last_error = verdict.message
                continue
            ended.append(index)
            if fate is Fate.DELIVERED:
                ledger.delivered += 1
                continue
            ledger.last_error = verdict.message
            if fate is Fate.INCOMPLETE:
                ledger.delivered += 1
                self.reports.append(("incomplete", verdict.reason, verdict.message, [event]))
            else:
                ledger.rejected += 1
                self.reports.append(("rejected", verdict.reason, verdict.message, [event]))
        self.ended.append(batch.part(ended))
        for indexes, doubts in ((waiting, batch.doubts), (doubtful, batch.doubts + 1)):
            if indexes:
                again = replace(batch.part(indexes), tries=tries, doubts=doubts)
                self._again(again, now + self._bounds.policy.wait(tries))

    def _failed(self, outcome: Failed, now: float) -> None:
        self.reports.append(("trouble", "unanswered", outcome.message, []))
        if outcome.stored_perhaps and self._bounds.at_most_once:
            self.give_up("uncertain", "No answer came, so the server may have stored them.")
        else:
            self._again(self._batch)
        for over in self._lane.fail(outcome, self._bounds.policy, now):
            self._drop(over, "retry_limit", outcome.message)

    def _refused(self, outcome: Refused) -> None:
        batch = self._batch
        count = len(batch.events)
        if count > 1 and outcome.reason not in _NOT_THE_EVENTS:
            # One of them may be the cause: halve until it stands alone.
            for half in batch.split(count // 2):
                self._again(half)
            return
        self.ended.append(batch)
        self._ledger.rejected += count
        self.reports.append(("rejected", outcome.reason, outcome.message, batch.events))

    def _drop(self, batch: Batch, reason: str, message: str) -> None:
        self.ended.append(batch)
        self._ledger.dropped[reason] += len(batch.events)
        self.reports.append(("dropped", reason, message, batch.events))

    def _again(self, batch: Batch, due: float = 0.0) -> None:
        """Keep a batch to send again, which is surely not stored, or may be stored twice."""
        self._lane.send_again(batch, due)
        if self._bounds.at_most_once and self._lane.shelf is not None:
            self._lane.shelf.mark(batch.numbers, settled=False)
