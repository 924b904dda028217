"""How recent results decide what is sent next: when, how much, and which event is suspected.

After a failure a queue pauses, and then asks with one event: a server that stores events but does not answer
so costs one duplicate a try. The batch doubles with each success. Behind a rate limit, requests keep their
size and are spaced out.

An event that fails alone is a suspect: it may be the cause. It is only blamed if others are accepted between
two of its failures; if nothing else is accepted either, the server is away, and the event waits like all.
"""

import math
from collections.abc import Iterable
from typing import Final

from .batches import Item, fitting
from .exporter import Failure, Trouble
from .retry import Attempts, RetryPolicy

# How many requests must be accepted between two failures of an event before the second counts against it. One
# is enough where something refuses the request. Where the server seems to be away, more are needed: of two
# servers behind a proxy one may be.
_PROOF_REFUSED: Final = 1
_PROOF_AWAY: Final = 3
# The distance of requests behind a rate limit, in seconds: the first, the longest, and how it shrinks.
_FIRST_PACE: Final = 0.05
_MOST_PACE: Final = 60.0
_PACE_DECAY: Final = 0.98


class Backoff:
    """What is known of one destination. Guarded by the queue's lock.

    Args:
        batch_size: The most events of a batch.

    Attributes:
        proven: Whether a request was ever accepted.
        outage: The requests in a row that have failed, those of suspects included; None if the last did not.
        window: The most events that the next batch may have.
        trouble: Why the last request failed, in words; None if it did not.
        asked_until: The monotonic time until which the destination asked to be left alone (`Retry-After`).
    """

    def __init__(self, batch_size: int) -> None:
        self.proven = False
        self.outage: Attempts | None = None
        self.window = batch_size
        self.trouble: str | None = None
        self._accepted = 0
        self._accepted_when_failed = dict.fromkeys(Trouble, 0)
        self._resume_at = 0.0
        self._suspects_at = 0.0
        self._pace = 0.0
        self._paced_until = 0.0
        self.asked_until = 0.0
        self._tried_early = False

    # When.

    def delay(self, wait: float, now: float) -> float:
        """Return the seconds until a batch may be sent that could be sent in `wait` seconds otherwise."""
        if self.outage is not None:
            wait = max(wait, self._resume_at - now)
        if wait < math.inf:
            wait = max(wait, self._paced_until - now)
        return max(0.0, wait)

    def due(self, item: Item) -> float:
        """Return the monotonic time at which an event may be sent again."""
        if not item.suspect:
            return item.due
        if self.is_proof(item):
            return 0.0 if item.refused else item.due
        return max(item.due, self._suspects_at)

    def sent(self, now: float) -> None:
        """Note that a request is sent now."""
        if self._pace:
            self._paced_until = now + self._pace

    def hurry(self, now: float, give_up: float) -> None:
        """End the pause, for a flush. The next one is as short as the first.

        A pause that the destination asked for is cut short once, however many flushes ask, and only for one
        that gives up before its end: the program may be about to end.

        Args:
            now: The monotonic time.
            give_up: The monotonic time at which the flush gives up.
        """
        if now < self.asked_until:
            if self._tried_early or self.asked_until <= give_up:
                return
            self._tried_early = True
        self._resume_at = min(self._resume_at, now)
        self._suspects_at = min(self._suspects_at, now)
        self._paced_until = min(self._paced_until, now + self._pace)
        if self.outage is not None:
            self.outage.ease()

    # Which.

    def next(self, returned: Iterable[Item], now: float, most: int, room: int, *, others: bool) -> list[Item]:
        """Return those of the events to send again that make the next batch, if it is to be of these.

        A suspect goes alone, each time that others have been accepted since, and else only if there is
        nothing else to send. While the server is away, the next request carries the event that has failed
        least often, so that one that always fails holds up no other. The events of a batch that failed go
        in batches of half its size, so that such a one is soon alone.

        Args:
            returned: The events to send again, oldest first.
            now: The monotonic time.
            most: The most events of a batch.
            room: The most bytes of a batch, with one byte between two events.
            others: Whether there are events that were never sent.
        """
        suspects = [item for item in returned if item.suspect]
        for item in suspects:
            if self.due(item) <= now and self.is_proof(item):
                return [item]
        due = [item for item in returned if item.due <= now and not item.suspect]
        if due:
            if self.outage is not None:
                due.sort(key=lambda item: (item.failures_in_a_row, item.number))
                if due[0].failures_in_a_row and others:
                    return []
            count = fitting((item.event for item in due), most, room)
            while count > min(item.most for item in due[:count]):
                count -= 1
            return sorted(due[:count], key=lambda item: item.number)
        if others or not suspects:
            return []
        return [min(suspects, key=lambda item: (item.due, item.number))]

    # What came of requests.

    def accept(self) -> None:
        """Note that a request was accepted."""
        self._accepted += 1

    def succeed(self, batch_size: int, returned: Iterable[Item]) -> None:
        """Note that the last of a batch's requests was accepted.

        Args:
            batch_size: The most events of a batch.
            returned: The events that are to be sent again.
        """
        if self.outage is not None:
            for item in returned:
                item.failed_while_waiting, item.failures_in_a_row = None, 0
        self.proven = True
        self.outage = None
        self.trouble = None
        if self._tried_early:
            self.asked_until = 0.0  # it takes requests again
        self.window = min(batch_size, self.window * 2)
        self._pace = self._pace * _PACE_DECAY if self._pace > _FIRST_PACE / 2 else 0.0

    def fail(
        self, failure: Failure, items: list[Item], returned: Iterable[Item], policy: RetryPolicy, now: float
    ) -> list[Item]:
        """Note that a request failed as a whole: pause, unless half of it may do better at once.

        Args:
            failure: Why.
            items: Its events, less those that are not kept.
            returned: All events that are to be sent again, `items` included.
            policy: When to try again.
            now: The monotonic time.

        Returns:
            The events that have had all the attempts that the policy allows. A batch that was refused, and is
            halved at once, counts as no attempt.
        """
        self.trouble = failure.message
        throttled = failure.trouble is Trouble.THROTTLED
        count = len(failure.indexes)
        expected = not throttled and count == 1 and any(item.suspect for item in items)
        if not throttled:
            self._suspect(failure, items, returned, expected=expected)
        if failure.trouble is Trouble.REFUSED and count > 1:
            self.window = max(1, min(self.window, count // 2))
            return []
        asked = failure.retry_after
        if asked == 0 and self.outage is not None:
            asked = None  # at once was no better
        self.outage = self.outage or Attempts(policy)
        wait = None if asked is None else min(asked, policy.retry_after_max)
        wait = self.outage.fail(policy, failure.message, wait)
        if asked is None:
            wait = max(wait, self.asked_until - now)
        else:
            self._tried_early = self._tried_early and now < self.asked_until
            self.asked_until = now + wait
        self._suspects_at = now + wait
        if not expected:
            self._resume_at = self._suspects_at
        if throttled:
            self._paced_until = self._resume_at  # though another request, made before, may yet be accepted
            if self.outage.count == 1:  # else its pause was too short, not the pace too fast
                self._pace = min(_MOST_PACE, max(_FIRST_PACE, 2 * self._pace))
        else:
            self.window = 1
        if policy.is_endless:
            return []
        for item in returned:
            if item.suspect or not expected:
                item.failed_while_waiting = item.failed_while_waiting or Attempts(policy)
                item.failed_while_waiting.fail(policy, failure.message, wait)
        return [
            item
            for item in returned
            if item.failed_while_waiting and item.failed_while_waiting.is_over(policy)
        ]

    # Suspects.

    def _suspect(
        self, failure: Failure, items: list[Item], returned: Iterable[Item], *, expected: bool
    ) -> None:
        """Record a failed request on its events."""
        count = len(failure.indexes)
        if not expected:
            self._accepted_when_failed[failure.trouble] = self._accepted
        elif failure.trouble is Trouble.AWAY:
            # Suspects that fail in turn prove nothing: of two servers behind a proxy one may be away.
            for other in returned:
                if other.suspect and not other.refused and other not in items:
                    other.accepted_when_failed = self._accepted
        for item in items:
            item.failures_in_a_row += 1
            item.most = max(1, count // 2)
            if not item.suspect:
                item.accepted_when_failed = self._accepted
                item.suspect = count == 1

    def blames(self, item: Item, failure: Failure) -> bool:
        """Tell whether a request of one event failed because of the event: others were accepted meanwhile.

        If so, that is noted: before the next event is blamed, others must be accepted again.
        """
        if failure.trouble is Trouble.THROTTLED:
            return False
        item.refused = failure.trouble is Trouble.REFUSED
        if item.accepted_when_failed is None:
            return False
        needed = self._needed(item) if item.suspect else 1
        if self._accepted_since(item) < needed:
            return False
        item.suspect = True
        item.most = 1
        item.accepted_when_failed = self._accepted_when_failed[failure.trouble] = self._accepted
        return True

    def is_proof(self, item: Item) -> bool:
        """Tell whether so many requests were accepted since an event failed that the server must be well."""
        return self._accepted_since(item) >= self._needed(item)

    def _needed(self, item: Item) -> int:
        return _PROOF_REFUSED if item.refused else _PROOF_AWAY

    def _accepted_since(self, item: Item) -> int:
        """Return how many requests were accepted since this event, or another, failed in such a way."""
        trouble = Trouble.REFUSED if item.refused else Trouble.AWAY
        return self._accepted - max(item.accepted_when_failed or 0, self._accepted_when_failed[trouble])
