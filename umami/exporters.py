"""Where a client's batches go: the seam for destinations other than Umami.

Give an exporter to `umami.Client(exporter=…)`. The client queues, batches and retries as always, and
hands each batch to the exporter.
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
    """Return the exporter that a client with these settings uses, for an exporter of yours that wraps it.

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
        name: Its name, as a spool notes it.

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
        """Keep some events."""
        self.events.extend(map(from_json, events))
        return Exported()
