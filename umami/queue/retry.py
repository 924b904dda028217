"""What is tried again, and when: tenacity's strategies over the answers of one request after another."""

import time
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeAlias, cast

from tenacity import (
    RetryCallState,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    stop_never,
    wait_exponential,
    wait_random_exponential,
)
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from umami._http.messages import Reply, UnansweredError

Answer: TypeAlias = Reply | UnansweredError

_TRY_AGAIN: Final = frozenset((408, 425, 429))


def is_transient(reply: Reply) -> bool:
    """Tell whether a status says that the same request may do better later."""
    return reply.status in _TRY_AGAIN or reply.status >= 500


def retry_after(reply: Reply) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, in either of its forms, or None."""
    value = reply.headers.get("retry-after", "").strip()
    if value.isdecimal() and value.isascii():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


class wait_retry_after(wait_base):  # noqa: N801 - named as tenacity names its strategies
    """Wait as long as the server asked for, up to a limit; if it did not ask, as another strategy says.

    Args:
        otherwise: The strategy for answers without a `Retry-After`.
        most: The most seconds to wait on the server's word.
    """

    def __init__(self, otherwise: wait_base, most: float) -> None:
        self._otherwise = otherwise
        self._most = most

    def __call__(self, retry_state: RetryCallState) -> float:
        """Return the seconds to wait after the attempt that `retry_state` describes."""
        outcome = retry_state.outcome
        asked = None if outcome is None or outcome.failed else retry_after(outcome.result())
        return self._otherwise(retry_state) if asked is None else min(asked, self._most)


class Policy:
    """When to try again after a request that settled nothing.

    Args:
        wait: Seconds before the second attempt, on average three quarters of it; doubled with each.
        wait_max: The most seconds between two attempts.
        retry_after_max: The most seconds to wait because a server asked for it.
        limit: How many attempts may follow the first; None for as many as it takes.
    """

    def __init__(self, *, wait: float, wait_max: float, retry_after_max: float, limit: int | None) -> None:
        self._retry = retry_if_exception_type(UnansweredError) | retry_if_result(is_transient)
        # Half of each wait is random, so that a thousand processes do not come back as one.
        half = {"multiplier": wait / 2, "max": wait_max / 2}
        self._wait = wait_retry_after(
            wait_exponential(**half) + wait_random_exponential(**half), retry_after_max
        )
        self._stop: stop_base = stop_never if limit is None else stop_after_attempt(limit + 1)

    def again(self, answer: Answer) -> bool:
        """Tell whether the request may do better later."""
        return bool(self._retry(_state(answer, 1)))

    def over(self, attempt: int) -> bool:
        """Tell whether `attempt` (1 is the first) was the last that the limit allows."""
        return bool(self._stop(_state(None, attempt)))

    def wait(self, attempt: int, answer: Answer | None = None) -> float:
        """Return the seconds to wait after `attempt` (1 is the first) was answered so."""
        return self._wait(_state(answer, attempt))


def _state(answer: Answer | None, attempt: int) -> RetryCallState:
    state = RetryCallState(cast("Any", None), None, (), {})
    state.attempt_number = attempt
    if isinstance(answer, Reply):
        state.set_result(answer)
    elif answer is not None:
        state.set_exception((type(answer), answer, cast("Any", answer.__traceback__)))
    return state
