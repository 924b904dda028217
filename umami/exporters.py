"""Where a client's batches go: the seam for destinations other than Umami.

Give an exporter to `umami.Client(exporter=…)`. The client queues, batches and retries as always, and
hands each batch to the exporter.
"""

from collections.abc import Sequence
from typing import Any

from pydantic_core import from_json

from ._http.exporter import UmamiExporter
from .queue.exporter import Exported, Exporter, Failure, Limits, Outcome, Status, Trouble

__all__ = [
    "Exported",
    "Exporter",
    "Failure",
    "Limits",
    "MemoryExporter",
    "Outcome",
    "Status",
    "Trouble",
    "UmamiExporter",
]


class MemoryExporter(Exporter):
    """Keeps events in memory, for tests.

    Args:
        name: Its name.

    Attributes:
        events: The events so far, oldest first, as they would go to Umami: `{"type": …, "payload": {…}}`.

    Example:
        ```python
        exporter = umami.exporters.MemoryExporter()
        with umami.Client(exporter=exporter, website_id=site, hostname="example.com") as client:
            client.new_event("signup")
            client.flush(timeout=10)
        assert exporter.events[0]["payload"]["name"] == "signup"
        ```
    """

    def __init__(self, name: str = "memory") -> None:
        self._name = name
        self.events: list[dict[str, Any]] = []

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    def export(self, events: Sequence[bytes], deadline: float | None) -> Exported:  # noqa: ARG002
        """Keep some events."""
        self.events.extend(map(from_json, events))
        return Exported()
