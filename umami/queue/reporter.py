"""Reports what went wrong, to `on_error` and to the log, from a thread of its own and at a bounded rate.

Neither callers nor senders wait for a callback, nor for a log handler that gets its lines. Either may send
events, flush, block or raise.
"""

import logging
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from umami import _threads
from umami._clock import monotonic
from umami._models import ErrorReport
from umami._waiting import Steps, Wait, Waiting, Work

from .reasons import BEFORE_SEND

OnError = Callable[[ErrorReport], object]

LOG_INTERVAL: Final = 60.0
"""Seconds in which one kind of report is logged at most once, with its count; every one is at DEBUG.

What is held back is logged when the interval has passed, and at a shutdown and exit: the counts in the log
add up to those of the ledger.
"""

_IDLE_SECONDS: Final = 1.0
_SAMPLE: Final = 10
_MOST_MESSAGES: Final = 200
_MOST_WARNINGS: Final = 100
_OTHER: Final = "other reasons"
_MANY_MESSAGES: Final = "Many different messages; see last_error in queue_stats()."
_ERRORS: Final = frozenset(("rejected", "dropped", "incomplete", "failure"))

logger: Final = logging.getLogger("umami")


class Report(NamedTuple):
    """Something that went wrong.

    Attributes:
        kind: `rejected`, `dropped`, `incomplete`, `trouble`, `repaired`, `warning` or `failure`.
        reason: The short name that it is counted under.
        message: What happened, in words.
        events: The events that it is about.
        unread: How many more it is about, whose content is not known.
    """

    kind: str
    reason: str
    message: str
    events: Sequence[bytes] = ()
    unread: int = 0


class _Called:
    """Equal reports, to be passed to `on_error` as one."""

    def __init__(self) -> None:
        self.count = 0
        self.events: list[bytes] = []


@dataclass
class _Log:
    """What is known of the log lines of one kind and reason.

    Attributes:
        logged_at: The monotonic time of the last one.
        held_back: The events that none has counted yet.
        message: The last message about them.
    """

    logged_at: float = -math.inf
    held_back: int = 0
    message: str = ""


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
        self._waiting = Waiting(self._lock)
        # What the log and `on_error` are still to be told, by kind, reason and message.
        self._to_log: Counter[tuple[str, str, str]] = Counter()
        self._to_call: defaultdict[tuple[str, str, str], _Called] = defaultdict(_Called)
        self._thread: _threads.Thread | None = None
        self._is_passing_on = False
        self._logs: defaultdict[tuple[str, str], _Log] = defaultdict(_Log)
        self.repaired: Counter[str] = Counter()
        self._warned: set[str] = set()

    def add(self, report: Report) -> None:
        """Take a report, to be passed on soon. Never waits."""
        kind, reason, message, events, unread = report
        with self._lock:
            if self._is_here() and (events or kind == "warning"):
                # It comes from `on_error` or a log handler, which could go on so for ever.
                log = self._log_of(kind, reason)
                log.held_back += len(events) + unread
                log.message = message
                return
            key, count = (kind, reason, message), len(events) + unread
            if len(self._to_log) >= _MOST_MESSAGES and key not in self._to_log:
                key = (kind, reason, _MANY_MESSAGES)
            self._to_log[key] += count
            if count:
                if len(self._to_call) >= _MOST_MESSAGES and key not in self._to_call:
                    key = (kind, reason, _MANY_MESSAGES)
                called = self._to_call[key]
                called.count += count
                if len(called.events) < _SAMPLE:
                    called.events += events[: _SAMPLE - len(called.events)]
            if self._thread is None:
                self._start()
            self._waiting.notify()

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

    def count_repair(self, kind: str, message: str) -> None:
        """Count a field that was made to fit, and say so."""
        with self._lock:
            self.repaired[kind] += 1
            self.add(Report("repaired", kind, message))

    def warn_once(self, key: str, message: str) -> None:
        """Warn, once for each key."""
        with self._lock:
            if key not in self._warned and len(self._warned) < _MOST_WARNINGS:
                self._warned.add(key)
                self.add(Report("warning", key, message))

    def flush(self, give_up: float) -> Steps[None]:
        """Wait until earlier reports are passed on, or pass them on right here if no thread can.

        Args:
            give_up: The monotonic time to stop waiting at.
        """
        if self._is_here():
            return
        with self._lock:
            if sys.is_finalizing():
                self._thread = None  # it is frozen
        idle = yield Wait(
            self._waiting,
            lambda: self._thread is None or not (self._has_work() or self._is_passing_on),
            give_up,
        )
        if idle and self._has_work():
            yield Work(self._pass_on, give_up)

    def _run(self) -> None:
        try:
            self._keep_passing_on()
        finally:
            with self._lock:
                if self._is_here():
                    self._thread = None  # the next report starts another
                self._waiting.notify()

    def finish(self, give_up: float) -> Steps[None]:
        """Flush, and log what was held back: the program may be about to end.

        Args:
            give_up: The monotonic time to stop waiting at.
        """
        yield from self.flush(give_up)
        if self._to_log or any(log.held_back for log in self._logs.copy().values()):
            yield Work(self._log_what_is_left, give_up)

    def _log_what_is_left(self) -> None:
        # An `on_error` that blocks its thread must not keep the counts out of the log.
        self._log_all()
        self._log_held_back(LOG_INTERVAL)

    def _has_work(self) -> bool:
        return bool(self._to_log or self._to_call)

    def _keep_passing_on(self) -> None:
        while True:
            with self._lock:
                due = min((log.logged_at for log in self._logs.values() if log.held_back), default=math.inf)
                due += LOG_INTERVAL
                give_up = monotonic() + _IDLE_SECONDS if due == math.inf else due
                if not self._waiting.until(self._has_work, give_up) and due == math.inf:
                    self._thread = None  # under the lock: a report that comes now is to start another
                    return
                self._is_passing_on = True
            try:
                self._pass_on()
                self._log_held_back(0.0)
            finally:
                with self._lock:
                    self._is_passing_on = False
                    self._waiting.notify()

    def _pass_on(self) -> None:
        self._log_all()
        with self._lock:
            to_call, self._to_call = self._to_call, defaultdict(_Called)
        if self.on_error is None or sys.is_finalizing():
            return
        for (kind, reason, message), called in to_call.items():
            self._call(
                ErrorReport(
                    kind=kind,
                    reason=reason,
                    message=message,
                    count=called.count,
                    events=tuple(called.events),
                )
            )

    def _call(self, report: ErrorReport) -> None:
        try:
            self.on_error(report)  # type: ignore[misc]
        except BaseException as error:
            if not isinstance(error, Exception) and not self._is_here():
                raise
            if self._is_time_to_log("on_error", ""):
                with suppress(Exception):
                    logger.exception("on_error raised; the report was %r", report.message)

    def _is_here(self) -> bool:
        """Tell whether this is the reporter's own thread."""
        return self._thread is not None and self._thread.is_current()

    # The log.

    def _log_all(self) -> None:
        """Log what came since the last time: what is held back at DEBUG, the rest with its count."""
        with self._lock:
            to_log, self._to_log = self._to_log, Counter()
        for (kind, reason, message), count in to_log.items():
            with self._lock:
                log = self._log_of(kind, reason)
                log.held_back += count
                log.message = message
                level = _level(kind, reason, again=log.logged_at > -math.inf)
                shown = count
                if self._is_time_to_log(kind, reason):
                    shown, log.held_back = log.held_back, 0
                else:
                    level = logging.DEBUG
            self._log(level, kind, reason, message, shown)

    def _log_of(self, kind: str, reason: str) -> _Log:
        # Servers invent reasons: those beyond the first ones share their lines.
        many = len(self._logs) >= _MOST_MESSAGES and (kind, reason) not in self._logs
        return self._logs[kind, _OTHER if many else reason]

    def _log_held_back(self, early: float) -> None:
        """Log the events that no line has counted, where the interval has passed or soon will."""
        due = monotonic() - LOG_INTERVAL + early
        for (kind, reason), log in self._logs.copy().items():
            if not log.held_back or log.logged_at > due:
                continue
            with self._lock:
                count, log.held_back = log.held_back, 0
                level = _level(kind, reason, again=log.logged_at > -math.inf)
                log.logged_at = monotonic()
            if count:
                self._log(level, kind, reason, log.message, count)

    def _is_time_to_log(self, kind: str, reason: str) -> bool:
        """Tell whether a line of this kind may be logged now. If so, the next one may in a while."""
        now = monotonic()
        log = self._log_of(kind, reason)
        if now - log.logged_at < LOG_INTERVAL:
            return False
        log.logged_at = now
        return True

    def _log(self, level: int, kind: str, reason: str, message: str, count: int) -> None:
        if not logger.isEnabledFor(level):
            return
        with suppress(Exception):  # of a log handler, which must not end the thread
            if kind in ("warning", "failure") or (kind == "trouble" and reason.startswith("spool")):
                logger.log(level, "%s", message)
            elif kind == "trouble" and reason == "throttled":
                logger.log(level, "The server limits the rate: events are sent more slowly. %s", message)
            elif kind == "trouble":
                logger.log(level, "Events are not getting through. They are kept and sent again. %s", message)
            elif kind == "repaired":
                logger.log(level, "%s (%d so far).", message[:1].upper() + message[1:], self.repaired[reason])
            else:
                logger.log(level, "%d event%s %s (%s). %s", count, "s" * (count != 1), kind, reason, message)


def _level(kind: str, reason: str, *, again: bool) -> int:
    """Return the level of a line.

    Args:
        kind: What it reports.
        reason: Why.
        again: Whether such a line was logged before.
    """
    if reason == "bot":
        return logging.INFO if again else logging.WARNING  # crawlers visit every site; or the `ua=` is wrong
    if (kind, reason) == ("dropped", BEFORE_SEND):
        return logging.INFO  # which drops what it wants to
    return logging.ERROR if kind in _ERRORS else logging.WARNING
