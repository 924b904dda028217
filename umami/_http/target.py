"""Where events go: the routes of one Umami server, and the name under which a spool keeps its events."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

CLOUD_EVENTS: Final = "https://cloud.umami.is"
"""The server of Umami Cloud that takes events."""

_PREFIX: Final = "umami:"
_PRIVATE_PREFIX: Final = "umami+basic:"


@dataclass(frozen=True)
class Target:
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
        """Whether a proxy in front of the server refuses requests without a Basic credential.

        Umami itself takes events from anybody; it does not need the login's token that may go along.
        """
        return self.headers.get("Authorization", "").startswith("Basic ")

    @property
    def name(self) -> str:
        """The name of the exporter to it: a spool gives its events to the exporter of this name only.

        It holds no credential, but says whether there is one.
        """
        return (_PRIVATE_PREFIX if self.is_private else _PREFIX) + self.send_url


def named(name: str) -> Target | None:
    """Return the target of an exporter's name, without credentials.

    Args:
        name: Its `Target.name`.

    Returns:
        Where that exporter sends events. None for a name that is not of an exporter to Umami, and for one
        that needs a credential: only a client that has the credential can make this exporter.
    """
    url = name.removeprefix(_PREFIX)
    if url == name or not url.startswith(("http://", "https://")):
        return None
    return Target(url, batch_url(url))


def send_url(url_base: str | None) -> str:
    """Return the route for one event of a self-hosted server; of Umami Cloud for None."""
    return f"{url_base or CLOUD_EVENTS}/api/send"


def batch_url(url: str) -> str | None:
    """Return the route for many events beside a route for one; None for Umami Cloud, which has none."""
    return None if url == send_url(None) else f"{url.rpartition('/')[0]}/batch"
