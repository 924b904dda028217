"""Where events go, as a spool notes it beside them."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Destination:
    """Where events go: the routes of one server.

    Attributes:
        send_url: The route for one event.
        batch_url: The route for many; None where there is none.
        headers: What goes with each request; credentials may be among them.
    """

    send_url: str
    batch_url: str | None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_private(self) -> bool:
        """Whether what guards the server lets nobody in without the credential of the headers.

        Umami itself takes events from anybody; a login's token, which may go along, is not needed.
        """
        return self.headers.get("Authorization", "").startswith("Basic ")
