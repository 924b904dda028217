"""Which lines of a log have been sent, and not been answered yet."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from pydantic_core import from_json, to_json

from umami.exporters import Exported, Exporter, Limits


class Outstanding:
    """Lines that are sent, by the payloads of their events.

    Several lines may have the same payload. It does not matter which of them an answer is for.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[bytes, list[int]] = {}
        self._line = 0
        self._count = 0

    def sending(self, line: int) -> None:
        """Note which line the next event is of."""
        self._line = line

    def before_send(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Note an event's payload. It is the client's `before_send`."""
        with self._lock:
            self._lines.setdefault(to_json(payload), []).append(self._line)
            self._count += 1
        return payload

    def settle(self, event: bytes) -> None:
        """Note that an event was answered."""
        key = to_json(from_json(event)["payload"])
        with self._lock:
            lines = self._lines.get(key)
            if lines:
                self._count -= 1
                lines.pop(0)
                if not lines:
                    del self._lines[key]

    def clear(self) -> None:
        """Note that everything is settled, dropped events included."""
        with self._lock:
            self._lines.clear()
            self._count = 0

    def __len__(self) -> int:
        return self._count

    def lines(self) -> list[int]:
        """Return the lines that are not answered, in their order."""
        with self._lock:
            return sorted(line for lines in self._lines.values() for line in lines)


class Watched(Exporter):
    """Delivers by another exporter, and notes what was answered.

    Args:
        exporter: The other one.
        settle: Called with each event that is answered for good.
    """

    def __init__(self, exporter: Exporter, settle: Callable[[bytes], None]) -> None:
        self._exporter = exporter
        self._settle = settle
        self.name = exporter.name

    def export(self, events: Sequence[bytes], deadline: float | None) -> Exported:
        """Deliver some events."""
        exported = self._exporter.export(events, deadline)
        for event in exported.settled(events):
            self._settle(event)
        return exported

    @property
    def limits(self) -> Limits:
        """The other one's limits."""
        return self._exporter.limits

    def describe(self) -> str | None:
        """Return what the other one knows of its server."""
        return self._exporter.describe()

    def prepare(self) -> None:
        """Prepare the other one."""
        self._exporter.prepare()

    def leave(self) -> None:
        """Release the other one's connections."""
        self._exporter.leave()
