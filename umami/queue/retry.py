"""When something is tried again: tenacity's strategies over the failures of one request after another."""

from typing import Any, cast

from tenacity import (
    RetryCallState,
    stop_after_attempt,
    stop_never,
    wait_exponential,
    wait_random_exponential,
)
from tenacity.stop import stop_base


class Policy:
    """When to try again after a request that settled nothing.

    Args:
        wait: Seconds before the second attempt, on average three quarters of it; doubled with each.
        wait_max: The most seconds between two attempts.
        retry_after_max: The most seconds to wait because a server asked for it.
        limit: How many attempts may follow the first; None for as many as it takes.
    """

    def __init__(self, *, wait: float, wait_max: float, retry_after_max: float, limit: int | None) -> None:
        # Half of each wait is random, so that a thousand processes do not come back as one.
        half = {"multiplier": wait / 2, "max": wait_max / 2}
        self._wait = wait_exponential(**half) + wait_random_exponential(**half)
        self._wait_max = wait_max
        self._retry_after_max = retry_after_max
        self._stop: stop_base = stop_never if limit is None else stop_after_attempt(limit + 1)

    def over(self, attempt: int) -> bool:
        """Tell whether `attempt` (1 is the first) was the last that the limit allows."""
        return bool(self._stop(_state(attempt)))

    def wait(self, attempt: int, asked: float | None = None) -> float:
        """Return the seconds to wait after a failed attempt (1 is the first).

        Args:
            attempt: Which it was.
            asked: The seconds that the server asked for, if it did.
        """
        return self._wait(_state(attempt)) if asked is None else min(asked, self._retry_after_max)

    def wait_alone(self, doubts: int, *, stored_perhaps: bool) -> float:
        """Return the seconds until an event that failed alone is tried again, while others are delivered.

        What makes a server give no answer for some events, such as a lock in its database, may take minutes
        to go away; and each such try may store the event once more.

        Args:
            doubts: How often it has been tried again already.
            stored_perhaps: Whether no answer came from the server itself.
        """
        return self._wait_max if stored_perhaps and doubts else self.wait(doubts + 1)


def _state(attempt: int) -> RetryCallState:
    state = RetryCallState(cast("Any", None), None, (), {})
    state.attempt_number = attempt
    return state
