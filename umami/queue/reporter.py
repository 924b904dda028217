"""Reports what went wrong, to `on_error` and to the log, from a thread of its own and at a bounded rate.

Neither callers nor senders ever wait for a callback or a log handler. Either of these may send events, flush,
block or raise.
"""

import logging
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from umami import _threads
from umami._clock import monotonic
from umami.models import ErrorReport

OnError = Callable[[ErrorReport], object]

LOG_INTERVAL: Final = 60.0
"""Seconds in which one kind of report is logged at most once, with its count; every one is at DEBUG."""

_IDLE_SECONDS: Final = 1.0
_SAMPLE: Final = 10
_MOST_MESSAGES: Final = 200

logger: Final = logging.getLogger("umami")


class Report(NamedTuple):
    """Something that went wrong.

    Attributes:
        kind: `rejected`, `dropped`, `incomplete`, `trouble`, `repaired` or `warning`.
        reason: The short name that it is counted under.
        message: What happened, in words.
        events: The events that it is about.
    """

    kind: str
    reason: str
    message: str
    events: Sequence[bytes] = ()


class _Pending:
    """Equal reports, to be passed on as one."""

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
        """Start with no reports, as a fork's child does."""
        # Reentrant: code that interrupts `add` in its own thread may add a report.
        self._lock = _threads.RLock()
        self.is_held: Callable[[], bool] = self._lock._is_owned  # noqa: SLF001 - as threading.Condition does
        self._changed = _threads.Condition(self._lock)
        self._pending: dict[tuple[str, str, str], _Pending] = {}
        self._thread: _threads.Thread | None = None
        self._is_passing_on = False
        self._logged: dict[tuple[str, str], float] = {}
        self._unlogged: Counter[tuple[str, str]] = Counter()
        self.repaired: Counter[str] = Counter()

    def add(self, report: Report) -> None:
        """Take a report, to be passed on soon. Never waits."""
        kind, reason, message, events = report
        with self._lock:
            if events and self._is_here():
                # Sent by `on_error` itself. If it were called for that, it might send again, for ever.
                self._unlogged[kind, reason] += len(events)
                return
            key = (kind, reason, message)
            if key not in self._pending and len(self._pending) >= _MOST_MESSAGES:
                key = (kind, reason, "Many different messages; see last_error in queue_stats().")
            self._pending.setdefault(key, _Pending()).add(events)
            if self._thread is None:
                self._start()
            self._changed.notify_all()

    def _start(self) -> None:
        thread = _threads.Thread("umami-reporter")
        try:
            self._thread = thread
            thread.start(self._run)
        except BaseException as error:
            if thread.call_off():
                self._thread = None
                if isinstance(error, RuntimeError):  # at interpreter shutdown: `flush` is called instead
                    return
            raise

    def note_repair(self, kind: str) -> None:
        """Count a field that was made to fit, and say so in the log."""
        if kind not in _WARNINGS:
            with self._lock:
                self.repaired[kind] += 1
        if kind in _WARNINGS:
            self.add(Report("warning", kind, _WARNINGS[kind]))
        else:
            self.add(
                Report("repaired", kind, _REPAIRS.get(kind, "a field was changed to fit Umami's limits"))
            )

    def flush(self, seconds: float) -> None:
        """Wait until earlier reports are passed on, or pass them on right here if no thread can.

        Args:
            seconds: The most seconds to wait.
        """
        give_up = monotonic() + seconds
        if self._is_here():
            return
        with self._lock:
            if sys.is_finalizing():
                self._thread = None  # it is frozen
            while self._thread is not None and (self._pending or self._is_passing_on):
                remaining = give_up - monotonic()
                if remaining <= 0:
                    return
                self._changed.wait(remaining)
        self._pass_on()

    def _run(self) -> None:
        try:
            self._keep_passing_on()
        finally:
            with self._lock:
                if self._is_here():
                    self._thread = None  # the next report starts another
                self._changed.notify_all()

    def _keep_passing_on(self) -> None:
        while True:
            with self._lock:
                if not self._pending:
                    self._changed.wait(_IDLE_SECONDS)
                if not self._pending:
                    self._thread = None  # under the lock: a report that comes now is to start another
                    return
                self._is_passing_on = True
            try:
                self._pass_on()
            finally:
                with self._lock:
                    self._is_passing_on = False
                    self._changed.notify_all()

    def _pass_on(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, {}
        for (kind, reason, message), reports in pending.items():
            with suppress(Exception):  # of a log handler, which must not end the thread
                self._log(kind, reason, message, reports.count)
            if self.on_error is not None and reports.count and not sys.is_finalizing():
                self._call(
                    ErrorReport(
                        kind=kind,
                        reason=reason,
                        message=message,
                        count=reports.count,
                        events=tuple(reports.events),
                    )
                )

    def _call(self, report: ErrorReport) -> None:
        try:
            self.on_error(report)  # type: ignore[misc]
        except BaseException as error:
            if not isinstance(error, Exception) and not self._is_here():
                raise
            if self._count_to_log(("on_error", ""), 1) is not None:
                with suppress(Exception):
                    logger.exception("on_error raised; the report was %r", report.message)

    def _is_here(self) -> bool:
        """Tell whether this is the reporter's own thread."""
        return self._thread is not None and self._thread.is_current()

    def _log(self, kind: str, reason: str, message: str, count: int) -> None:
        key = (kind, reason)
        level = logging.ERROR if kind in ("rejected", "dropped", "incomplete") else logging.WARNING
        to_log = self._count_to_log(key, count)
        if to_log is None:
            level = logging.DEBUG  # the next one that is logged counts it too
        else:
            count = to_log
        if not logger.isEnabledFor(level):
            return
        if kind == "warning" or (kind == "trouble" and reason.startswith("spool")):
            logger.log(level, "%s", message)
        elif kind == "trouble" and reason == "throttled":
            logger.log(level, "The server limits the rate: events are sent more slowly. %s", message)
        elif kind == "trouble":
            logger.log(level, "Events are not getting through. They are kept and sent again. %s", message)
        elif kind == "repaired":
            logger.log(level, "%s (%d so far).", message[:1].upper() + message[1:], self.repaired[reason])
        else:
            logger.log(level, "%d event%s %s (%s). %s", count, "s" * (count != 1), kind, reason, message)

    def _count_to_log(self, key: tuple[str, str], count: int) -> int | None:
        """Return the count to log now, with those held back before; None if this report is held back too."""
        now = monotonic()
        with self._lock:
            self._unlogged[key] += count
            if now - self._logged.get(key, -LOG_INTERVAL) < LOG_INTERVAL:
                return None
            self._logged[key] = now
            return self._unlogged.pop(key)


_WARNINGS: Final = {
    "data_commerce": "custom_data has the key `commerce`, which newer Umami servers reserve.",
    "formula_event_name": "An event_name begins with =, +, -, @, tab or return: Umami 3.3 refuses it.",
    "formula_tag": "A tag begins with =, +, -, @, tab or return: Umami 3.3 refuses it.",
}
_REPAIRS: Final = {
    "custom_data_array": "an array in custom_data was cut to 500 characters",
    "custom_data_date": "an invalid date in a text of custom_data was changed: a blank in place of its T",
    "custom_data_key": "a key in custom_data was cut to 500 characters",
    "custom_data_text": "a text in custom_data was cut to 500 characters",
    "distinct_id": "a distinct_id over 50 characters was replaced by its digest",
    "ip_address": "ip_address is not a valid IP address and was omitted",
    "language": "a language was cut to its first tag",
    "large_number": "a number of 1e15 or more in custom_data was sent as text",
    "not_finite": "NaN or infinity in custom_data was sent as null",
    "referrer": "a referrer is not a valid URL and was omitted, or was too long and was cut",
    "screen": "a screen over 11 characters was omitted",
    "title": "U+0000 in a title was replaced, or a title was too long and was cut",
    "ua": "a ua was too long and was cut",
    "unprintable": "U+0000 or a lone surrogate was replaced",
    "url": "a url was percent-encoded, or it or a campaign value in it was too long and was cut",
}
