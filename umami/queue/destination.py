"""Where events go, as a spool notes it beside them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

# So many first characters give a credential away, with what follows them.
_TELLING: Final = 12


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

    def hide(self, text: str) -> str:
        """Take the credential of the headers out of a text, whole or cut off at its end."""
        secret = self.headers.get("Authorization", "").rpartition(" ")[2]
        return re.sub(rf"{re.escape(secret[:_TELLING])}[\w+/=.~-]*", "***", text) if secret else text
