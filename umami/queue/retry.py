"""When events are sent again and when they are given up: tenacity's strategies."""

from collections.abc import Callable
from typing import Any, cast

from tenacity import (
    RetryCallState,
    Retrying,
    stop_after_attempt,
    stop_never,
    wait_exponential,
    wait_random_exponential,
)

from umami.settings import Settings

from .reporter import Report


class ExportError(Exception):
    """What a strategy finds as the outcome of a failed attempt."""


class RetryPolicy:
    """When to try again, and when to stop.

    `retry_wait` is a tenacity wait, or the seconds before the second attempt: on average three quarters of
    it, and twice as long with each attempt, up to `retry_wait_max`. `retry_limit` is a tenacity stop, or how
    many attempts may follow the first.

    Args:
        settings: The settings.
        report: Called with what goes wrong in a strategy of the user's.
    """

    def __init__(self, settings: Settings, report: Callable[[Report], object]) -> None:
        wait, limit = settings.retry_wait, settings.retry_limit
        if isinstance(wait, (int, float)):
            # Half of each wait is random, so that a thousand processes do not come back at once.
            half = {"multiplier": wait / 2, "max": settings.retry_wait_max / 2}
            wait = wait_exponential(**half) + wait_random_exponential(**half)
        if limit is None:
            limit = stop_never
        elif isinstance(limit, int):
            limit = stop_after_attempt(limit + 1)
        self.wait_max = settings.retry_wait_max
        self.retry_after_max = settings.retry_after_max
        self.is_endless = limit is stop_never
        self.retrying = Retrying(wait=wait, stop=limit)
        self._report = report

    def wait(self, state: RetryCallState) -> float:
        """Return the seconds to wait after a failed attempt."""
        try:
            return max(0.0, float(self.retrying.wait(state)))
        except Exception as error:  # noqa: BLE001
            self._warn(f"retry_wait raised {error!r}: waiting {self.wait_max:g} s instead.")
            return self.wait_max

    def is_over(self, state: RetryCallState) -> bool:
        """Tell whether a failed attempt was the last."""
        try:
            return bool(self.retrying.stop(state))
        except Exception as error:  # noqa: BLE001
            self._warn(f"retry_limit raised {error!r}: trying again.")
            return False

    def _warn(self, message: str) -> None:
        self._report(Report("warning", "retry_strategy", f"The strategy of {message}"))


class Attempts:
    """Failed attempts at one thing in a row, with their number and times, as tenacity's strategies see them.

    Args:
        policy: When to try again.

    Attributes:
        count: How many there were.
    """

    __slots__ = ("_state", "count")

    def __init__(self, policy: RetryPolicy) -> None:
        self.count = 0
        self._state = RetryCallState(policy.retrying, None, (), {})

    def fail(self, policy: RetryPolicy, message: str, wait: float | None = None) -> float:
        """Note that an attempt failed.

        Args:
            policy: When to try again, as it is set now.
            message: What happened.
            wait: The seconds to wait before the next one; None for what the policy says.

        Returns:
            The seconds to wait before the next one.
        """
        state = self._state
        if self.count:
            state.prepare_for_next_attempt()
        self.count += 1
        state.set_exception(cast("Any", (ExportError, ExportError(message), None)))
        state.upcoming_sleep = policy.wait(state) if wait is None else wait
        state.idle_for += state.upcoming_sleep
        return state.upcoming_sleep

    def ease(self) -> None:
        """Start the waits anew, for a flush: the next is as short as after the first attempt."""
        if self.count:
            self._state.attempt_number = 0

    def is_over(self, policy: RetryPolicy) -> bool:
        """Tell whether the last attempt was the last that the policy allows."""
        return policy.is_over(self._state)
