"""The clock for all waiting. Neither changes of the system time nor frozen time in tests affect it.

freezegun replaces `time.monotonic` wherever it finds it, and a wait on a frozen clock never ends. It does not
replace `time.clock_gettime`, and does not look into a `partial`.
"""

import functools
import time
from collections.abc import Callable
from typing import Final

# What `time.monotonic` shows: on macOS that is not CLOCK_MONOTONIC.
_CLOCK: Final[int | None] = getattr(time, "CLOCK_UPTIME_RAW", getattr(time, "CLOCK_MONOTONIC", None))

monotonic: Final[Callable[[], float]] = (
    functools.partial(time.monotonic)  # Windows
    if _CLOCK is None
    else functools.partial(time.clock_gettime, _CLOCK)
)
"""Returns the seconds that `time.monotonic` does when nothing has replaced it."""
