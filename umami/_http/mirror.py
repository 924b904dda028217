"""Sends copies of what was delivered to a second server: a collector, whose page shows what is sent.

Copies are best effort. They are sent in a thread of their own, are never retried, and do not count as events.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from umami import _threads
from umami._clock import monotonic
from umami._user_agents import BROWSER_USER_AGENT
from umami.settings import Settings

from . import late
from .access import Access
from .messages import Reply, UnansweredError, log

_TIMEOUT: Final = 2.0
_QUIET_SECONDS: Final = 5.0
"""After a failure, for so long no copies are made."""

_LAST_SECONDS: Final = 0.5
"""How long `finish` waits."""

_MOST_BYTES: Final = 4 * 1024 * 1024
_MOST_ANSWER: Final = 1024 * 1024


class Mirror:
    """Sends copies to the server that the setting `mirror` names.

    A thread is started for copies that are waiting, and ends when all are sent.

    Args:
        settings: Returns the settings of now.
    """

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._lock = _threads.RLock()
        self._idle = _threads.Condition(self._lock)
        self._waiting: deque[list[bytes]] = deque()
        self._bytes = 0
        self._is_busy = False
        self._quiet_until = 0.0
        self._was_away = False
        self._poster: Any = None

    def copy(self, events: Sequence[bytes]) -> None:
        """Send a copy of events soon, if the mirror works. Return at once."""
        if not events or monotonic() < self._quiet_until:
            return
        with self._lock:
            self._waiting.append(list(events))
            self._bytes += sum(map(len, events))
            self._drop_oldest()
            if self._is_busy:
                return
            self._is_busy = True
        try:
            _threads.Thread("umami-mirror").start(self._work)
        except RuntimeError:  # the process is ending: `finish` sends them
            self._rest()

    def finish(self) -> None:
        """Wait for copies that are being sent, for half a second at most; send them where no thread does."""
        give_up = monotonic() + _LAST_SECONDS
        with self._lock:
            self._wait(give_up)
            if self._is_busy or not self._waiting:
                return
            self._is_busy = True
        self._work(give_up)

    def _work(self, give_up: float | None = None) -> None:
        """Send what is waiting."""
        try:
            while True:
                with self._lock:
                    if not self._waiting:
                        self._rest()
                        return
                    events = self._next()
                self._send(events, _TIMEOUT if give_up is None else max(0.1, give_up - monotonic()))
        except BaseException:
            self._rest()
            raise
        finally:
            if self._poster is not None:
                self._poster.leave()

    # Calls, because since Python 3.12 a Ctrl-C at a loop's end passes by a `with` around it.

    def _drop_oldest(self) -> None:
        while self._bytes > _MOST_BYTES and len(self._waiting) > 1:  # the mirror is too slow
            self._next()

    def _wait(self, give_up: float) -> None:
        while self._is_busy and (left := give_up - monotonic()) > 0:
            self._idle.wait(left)

    def _next(self) -> list[bytes]:
        events = self._waiting.popleft()
        self._bytes -= sum(map(len, events))
        return events

    def _rest(self) -> None:
        with self._lock:
            self._is_busy = False
            self._idle.notify_all()

    def _send(self, events: Sequence[bytes], seconds: float) -> None:
        mirror = self._settings().mirror
        if mirror is None:  # it was unset meanwhile
            return
        url = f"{mirror}/api/batch"
        try:
            if self._poster is None:
                # The extra headers, certificates and proxy that are set are the real server's.
                access = Access(Settings.model_validate({}))
                self._poster = late.new_poster(lambda: access)
            reply: Reply = self._poster.post(
                url,
                b"[" + b",".join(events) + b"]",
                {"User-Agent": BROWSER_USER_AGENT},
                timeout=seconds,
                patience=seconds,
                limit=_MOST_ANSWER,
            )
            problem = "" if reply.status == 200 else f"answered {reply.status}"
        except UnansweredError as error:
            problem = f"does not answer ({error})"
        except Exception as error:  # noqa: BLE001 - whatever it is, it harms no more than copies
            problem = f"cannot be used ({type(error).__name__})"
        if problem:
            self._fail(url, problem)
        elif self._was_away:
            self._was_away = False
            log(logging.INFO, "The mirror %s works again.", url)

    def _fail(self, url: str, problem: str) -> None:
        self._quiet_until = monotonic() + _QUIET_SECONDS
        with self._lock:
            self._waiting.clear()
            self._bytes = 0
        if not self._was_away:
            self._was_away = True
            log(
                logging.WARNING,
                "The mirror %s %s. Copies are dropped until it works, and delivery to the server goes on. "
                "Start a collector there, or unset mirror.",
                url,
                problem,
            )
