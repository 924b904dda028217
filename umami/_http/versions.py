"""Which Umami a server is, as far as a query has to know it.

No route of every version tells it, but what `GET /api/config` answers differs, without a credential.
"""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from umami._clock import monotonic
from umami.errors import UnsupportedError

from .asking import asked_if_there, checked, lacks_route, unexpected
from .messages import Flow, json_of
from .server import Server

_MOST_SERVERS: Final = 64
_KNOWN_SECONDS: Final = 600.0
_NEWEST: Final = (99,)


@dataclass(frozen=True)
class Version:
    """What is known of a server's version.

    Attributes:
        least: The lowest version that it can be.
        until: The first version that it cannot be.
        clickhouse: Whether its database is known to be ClickHouse.
        is_set: Whether the setting `server_version` says so.
    """

    least: tuple[int, ...]
    until: tuple[int, ...] = _NEWEST
    clickhouse: bool = False
    is_set: bool = False

    def __str__(self) -> str:
        least = ".".join(map(str, self.least))
        return (
            f"Umami {least}" if self.is_set or self.until == _after(self.least) else f"Umami {least} or later"
        )

    @property
    def is_2(self) -> bool:
        """Whether it is Umami 2."""
        return self.least < (3,)

    def require(self, since: tuple[int, ...], what: str) -> None:
        """Raise an error unless the server is at least of a version.

        Args:
            since: The version.
            what: What needs it, as the error's text begins.

        Raises:
            UnsupportedError: It is, or may be, of an earlier version.
        """
        if self.least >= since:
            return
        needed = ".".join(map(str, since))
        advice = ""
        if self.until > since and not self.is_set:
            advice = f" If it is newer, tell the client with server_version={needed!r}."
        raise UnsupportedError(f"{what} needs Umami {needed} or later, and the server is {self}.{advice}")


Known = tuple[Version, float]
"""A version, and when the server was asked for it, on the monotonic clock."""


def version_set(text: str) -> Version:
    """Return the version that the setting `server_version` names."""
    least = tuple(map(int, text.split(".")))
    return Version(least, _after(least), is_set=True)


def version_of(
    server: Server, website: str, known: MutableMapping[str, Known], *, exact: bool
) -> Flow[Version]:
    """Return a server's version; ask the server unless it is known.

    Args:
        server: Which server.
        website: The path of a website's routes.
        known: The versions that are known, by the servers' URLs; kept up to date.
        exact: Whether it matters which of the versions before 2.16 it is.
    """
    url = server.url_base or ""
    version, since = known.get(url, (None, 0.0))
    if version is None or monotonic() - since > _KNOWN_SECONDS:
        version, since = (yield from _asked_for(server, website)), monotonic()
    if exact and version == _BEFORE_2_16:
        version = yield from _told(server)
    note(server, version, known, since)
    return version


def note(
    server: Server, version: Version, known: MutableMapping[str, Known], since: float | None = None
) -> None:
    """Remember a server's version for a while: it may be upgraded."""
    if len(known) >= _MOST_SERVERS:
        known.clear()
    known[server.url_base or ""] = version, monotonic() if since is None else since


_BEFORE_2_16: Final = Version((2, 0), (2, 16))
V2_16: Final = Version((2, 16), (3,))
_V3_0: Final = Version((3, 0), (3, 1))
_V3_1: Final = Version((3, 1), _NEWEST)


def _after(version: tuple[int, ...]) -> tuple[int, ...]:
    return (*version[:-1], version[-1] + 1)


def _asked_for(server: Server, website: str) -> Flow[Version]:
    if server.cloud:
        return Version((3, 4), clickhouse=True)
    request = server.request("GET", "/config", credential=False)
    response = yield from asked_if_there(request)
    if response is None:  # 2.16 to 2.20
        return V2_16
    config: Mapping[str, Any] = json_of(response)
    if not isinstance(config, dict):
        raise unexpected(request, config)
    if "privateMode" not in config:
        return _BEFORE_2_16
    if "sessionDeletionEnabled" in config:  # 3.3 and later: False where the database is ClickHouse
        return Version((3, 3), clickhouse=config["sessionDeletionEnabled"] is False)
    if "currentVersion" in config:
        return _V3_1
    return (yield from version_of_3(server, website))


def version_of_3(server: Server, website: str) -> Flow[Version]:
    """Tell 3.0 from later versions by a route that it lacks; later ones answer 400 without dates."""
    request = server.request("GET", f"{website}/events/stats")
    response = yield request
    if lacks_route(response):
        return _V3_0
    if response.status_code != 400:
        checked(request, response)
    return _V3_1


def _told(server: Server) -> Flow[Version]:
    """Ask an Umami before 2.16 for its version; from about 2.10 on they have a route that tells it."""
    response = yield server.request("GET", "/version", credential=False)
    if response.is_success:
        body = json_of(response)
        told = body.get("version") if isinstance(body, dict) else None
        if isinstance(told, str) and told.replace(".", "").isdecimal():
            least = tuple(map(int, told.split(".")[:2]))
            return Version(least, _after(least))
    return _BEFORE_2_16
