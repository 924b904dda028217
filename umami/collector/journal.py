"""Counts requests and stored events, and lets threads wait for them."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Final

from umami.collector.records import Request

_MAX_BODIES: Final = 64 * 1024 * 1024


class Journal:
    """The received requests, and the number of stored events. Thread-safe.

    Args:
        keep: How many requests to keep, with at most 64 MiB of bodies; None for all.
        events: How many events are stored already.
    """

    def __init__(self, keep: int | None = None, events: int = 0) -> None:
        self._changed = threading.Condition()
        self._requests: deque[Request] = deque(maxlen=keep)
        self._bodies = 0
        self.request_count = 0
        self.event_count = events

    @property
    def requests(self) -> tuple[Request, ...]:
        """The requests, in the order in which they were complete."""
        with self._changed:
            return tuple(self._requests)

    def received(self, request: Request) -> None:
        """Records a request."""
        with self._changed:
            self._remember(request)
            self.request_count += 1
            self._changed.notify_all()

    def _remember(self, request: Request) -> None:
        kept = self._requests
        if kept.maxlen is not None:
            self._bodies += len(request.body)
            while kept and (len(kept) >= kept.maxlen or self._bodies > _MAX_BODIES):
                self._bodies -= len(kept.popleft().body)
        kept.append(request)

    def stored(self, events: int) -> None:
        """Records that so many events were stored."""
        with self._changed:
            self.event_count += events
            self._changed.notify_all()

    def clear(self) -> None:
        """Deletes the requests and resets the counts."""
        with self._changed:
            self._requests.clear()
            self._bodies = 0
            self.request_count = self.event_count = 0

    def wait_for(self, events: int | None, requests: int | None, timeout: float) -> None:
        """Blocks until enough events are stored and enough requests have arrived.

        Args:
            events: The least number of events; None for any number.
            requests: The least number of requests; None for any number.
            timeout: Seconds to wait.

        Raises:
            TimeoutError: The time is up.
        """

        def arrived() -> bool:
            return self.event_count >= (events or 0) and self.request_count >= (requests or 0)

        started = time.monotonic()
        with self._changed:
            if not self._changed.wait_for(arrived, timeout):
                waited = time.monotonic() - started
                wanted = [
                    f"{n} {what}" for n, what in ((events, "events"), (requests, "requests")) if n is not None
                ]
                raise TimeoutError(
                    f"Waited {waited:.1f} s for {' and '.join(wanted)}. "
                    f"There are {self.event_count} events and {self.request_count} requests."
                )
