"""Exporters: deliver events somewhere other than to Umami.

Pass an exporter to `umami.Client(exporter=…)`. The client queues, batches and retries as usual, and passes
each batch to the exporter.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from ._http.exporter import UmamiExporter
from ._state import State
from .queue.exporter import Exported, Exporter, Failure, Limits, Outcome, Status, Trouble

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .settings import SettingsDict

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
    "umami_exporter",
]


def umami_exporter(**settings: "Unpack[SettingsDict]") -> UmamiExporter:
    """Return the exporter that a client with these settings uses, to wrap it in your own.

    Args:
        **settings: Settings as `umami.Client` takes them, such as `url_base`, `headers` and `timeout`. The
            environment is read too.

    Returns:
        The exporter.

    Raises:
        ValidationError: A setting is unknown or not valid, or no server is set.

    Example:
        ```python
        class CountingExporter(umami.exporters.Exporter):
            name = "counting"

            def __init__(self):
                self.umami = umami.exporters.umami_exporter(url_base="https://umami.example.com")
                self.batches = 0

            def export(self, events, deadline):
                self.batches += 1
                return self.umami.export(events, deadline)
        ```
    """
    state = State()
    state.set(settings)
    return state.exporter(state.server().target)


class MemoryExporter(Exporter):
    """Keeps events in memory, for tests.

    Args:
        name: Its name. A spool records it with the events.

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
        self.name = name
        self.events: list[dict[str, Any]] = []

    def export(self, events: Sequence[bytes], deadline: float | None) -> Exported:  # noqa: ARG002
        """Keep the events of a batch."""
        self.events.extend(map(from_json, events))
        return Exported()
