"""Tells the user what went wrong: `on_error` and the log, from a thread of its own, at a bounded rate.

Neither the callers nor the senders ever wait for a callback or a log handler, and either of these may
send events, flush, block or raise.
"""

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from umami import threads
from umami.models import ErrorReport

OnError = Callable[[ErrorReport], object]

LOG_INTERVAL: Final = 60.0
"""Seconds in which one kind of trouble is logged at most once, with its count."""

_IDLE_SECONDS: Final = 1.0
_SAMPLE: Final = 10
_MOST_STORIES: Final = 200

logger: Final = logging.getLogger("umami")


class _Story:
    """Reports that say the same, told as one."""

    def __init__(self) -> None:
        self.count = 0
        self.events: list[bytes] = []

    def add(self, events: Sequence[bytes]) -> None:
        self.count += len(events)
        self.events += events[: _SAMPLE - len(self.events)]


class Reporter:
    """Collects reports and passes them on.

    Args:
        on_error: The user's callback, or None.
    """

    def __init__(self, on_error: OnError | None = None) -> None:
        self.on_error = on_error
        self.reset()

    def reset(self) -> None:
        """Start with nothing to say, as a fork's child does."""
        # Reentrant: code that interrupts `add` in its own thread may have something to add.
        self._lock = threads.RLock()
        self._changed = threads.Condition(self._lock)
        self._stories: dict[tuple[str, str, str], _Story] = {}
        self._thread: threads.Thread | None = None
        self._telling = False
        self._logged: dict[tuple[str, str], float] = {}
        self._unlogged: Counter[tuple[str, str]] = Counter()
        self.repaired: Counter[str] = Counter()

    def add(self, kind: str, reason: str, message: str, events: Sequence[bytes]) -> None:
        """Take a report, to be passed on soon. Never waits."""
        with self._lock:
            if events and self._is_here():
                # What `on_error` sent in vain. Were it told of that, it might send again, for ever.
                self._unlogged[kind, reason] += len(events)
                return
            key = (kind, reason, message)
            if key not in self._stories and len(self._stories) >= _MOST_STORIES:
                key = (kind, reason, "Many different messages; see last_error in queue_stats().")
            self._stories.setdefault(key, _Story()).add(events)
            if self._thread is None:
                self._start()
            self._changed.notify_all()

    def _start(self) -> None:
        thread = threads.Thread("umami-reporter")
        try:
            self._thread = thread
            thread.start(self._run)
        except BaseException as error:
            if thread.call_off():
                self._thread = None
                if isinstance(error, RuntimeError):  # at interpreter shutdown: `tell` is called instead
                    return
            raise

    def note_repair(self, kind: str) -> None:
        """Count a field that was made to fit, and say so in the log."""
        if kind not in _WARNINGS:
            with self._lock:
                self.repaired[kind] += 1
        if kind in _WARNINGS:
            self.add("warning", kind, _WARNINGS[kind], ())
        else:
            self.add("repaired", kind, _REPAIRS.get(kind, "a field was made to fit Umami's limits"), ())

    def tell(self, seconds: float) -> None:
        """Wait until what was added before is passed on, or pass it on right here if no thread can.

        Args:
            seconds: The most seconds to wait.
        """
        give_up = time.monotonic() + seconds
        if self._is_here():
            return
        with self._lock:
            if sys.is_finalizing():
                self._thread = None  # it is frozen
            while self._thread is not None and (self._stories or self._telling):
                remaining = give_up - time.monotonic()
                if remaining <= 0:
                    return
                self._changed.wait(remaining)
        self._tell_all()

    def _run(self) -> None:
        try:
            self._keep_telling()
        finally:
            with self._lock:
                if self._is_here():
                    self._thread = None  # the next report starts another
                self._changed.notify_all()

    def _keep_telling(self) -> None:
        while True:
            with self._lock:
                if not self._stories:
                    self._changed.wait(_IDLE_SECONDS)
                if not self._stories:
                    self._thread = None  # under the lock: a report that comes now is to start another
                    return
                self._telling = True
            try:
                self._tell_all()
            finally:
                with self._lock:
                    self._telling = False
                    self._changed.notify_all()

    def _tell_all(self) -> None:
        with self._lock:
            stories, self._stories = self._stories, {}
        for (kind, reason, message), story in stories.items():
            with suppress(Exception):  # a log handler's fault must not end the reports
                self._log(kind, reason, message, story.count)
            if self.on_error is not None and story.count and not sys.is_finalizing():
                self._call(
                    ErrorReport(
                        kind=kind,
                        reason=reason,
                        message=message,
                        count=story.count,
                        events=tuple(story.events),
                    )
                )

    def _call(self, report: ErrorReport) -> None:
        try:
            self.on_error(report)  # type: ignore[misc]
        except BaseException as error:
            if not isinstance(error, Exception) and not self._is_here():
                raise
            if self._may_log(("on_error", ""), 1):
                with suppress(Exception):
                    logger.exception("on_error raised; the report was %r", report.message)

    def _is_here(self) -> bool:
        """Tell whether this is the reporter's own thread."""
        return self._thread is not None and self._thread.is_current()

    def _log(self, kind: str, reason: str, message: str, count: int) -> None:
        key = (kind, reason)
        if not self._may_log(key, count):
            return
        count = self._unlogged.pop(key, 0)
        if kind == "warning" or (kind == "trouble" and reason.startswith("spool")):
            logger.warning("%s", message)
        elif kind == "trouble" and reason == "throttled":
            logger.warning("Events wait: requests are made less often, as the server asks. %s", message)
        elif kind == "trouble":
            logger.warning("Events are not getting through, and are kept and sent again. %s", message)
        elif kind == "repaired":
            logger.warning("Made to fit: %s. %d so far.", message, self.repaired[reason])
        else:
            logger.error("%d event%s %s (%s). %s", count, "" if count == 1 else "s", kind, reason, message)

    def _may_log(self, key: tuple[str, str], count: int) -> bool:
        """Tell whether this kind of report may be logged now; if not, the next one tells its count too."""
        self._unlogged[key] += count
        now = time.monotonic()
        if now - self._logged.get(key, -LOG_INTERVAL) < LOG_INTERVAL:
            return False
        self._logged[key] = now
        return True


_WARNINGS: Final = {
    "data_commerce": "custom_data has the key `commerce`, which newer Umami servers reserve.",
    "formula_event_name": "An event_name begins with =, +, -, @, tab or return: Umami refuses it since 3.3.",
    "formula_tag": "A tag begins with =, +, -, @, tab or return: Umami refuses it since 3.3.",
}
_REPAIRS: Final = {
    "custom_data_array": "an array in custom_data over 500 characters was cut",
    "custom_data_date": "a text in custom_data in a date's form that is none was sent with a blank for its T",
    "custom_data_key": "a key in custom_data over 500 characters was cut",
    "custom_data_text": "a text in custom_data over 500 characters was cut",
    "distinct_id": "a distinct_id over 50 characters was replaced by its digest",
    "ip_address": "an ip_address that is none was left out",
    "language": "a language was cut to its first tag",
    "large_number": "a number of 1e15 or more in custom_data was sent as text",
    "not_finite": "NaN or infinity in custom_data was sent as null",
    "referrer": "a referrer that is no URL was left out, or an endless one cut",
    "screen": "a screen over 11 characters was left out",
    "title": "U+0000 in a title was replaced, or an endless one cut",
    "ua": "an endless ua was cut",
    "unprintable": "U+0000 or a lone surrogate was replaced",
    "url": "a url was percent-encoded, or it or an over-long campaign value in it cut",
}
