"""Which proxy a request goes through: the one that is set, else the one that the environment names.

The same for queued events, direct sends and queries. Nothing here shows a proxy's password.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Final
from urllib.parse import unquote, urlsplit

from .messages import printable

logger: Final = logging.getLogger("umami")

PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_SCHEMES: Final = {**{scheme: scheme for scheme in PORTS}, "socks": "socks5h"}
_ADVICE: Final = "http://host:port, https://host:port or socks5://host:port"


@dataclass(frozen=True)
class Proxy:
    """A proxy, as its URL describes it.

    Attributes:
        scheme: `http`, `https`, `socks5` or `socks5h`.
        host: Its name or address.
        port: Its port.
        account: The user name and password for it; None if it needs none.
    """

    scheme: str
    host: str
    port: int
    account: tuple[str, str] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return printable(f"{self.scheme}://{host}:{self.port}")


def parsed(url: str) -> Proxy:
    """Return the proxy of a URL. Its password may hold any character, percent-encoded or not.

    Raises:
        ValueError: It is not a proxy's URL, or of a kind that cannot be used. The message does not repeat it.
    """
    scheme, separator, rest = url.strip().partition("://")
    if not separator:
        scheme, rest = "http", url.strip()
    account, at, place = rest.rpartition("@")
    kind = _SCHEMES.get(scheme.lower())
    if kind is None:
        raise ValueError(f"must be a URL like {_ADVICE}")
    try:
        parts = urlsplit(f"//{place}")
        host, port = parts.hostname or "", parts.port
        host.encode("idna" if not host.isascii() else "ascii")
    except ValueError:
        host, port = "", None
    if not host or re.search(r"[^!-~]", host) or len(host) > 255:
        raise ValueError(f"must name a host, like {_ADVICE}")
    if kind.startswith("socks") and find_spec("socksio") is None:
        raise ValueError("is a SOCKS proxy, which needs another package: pip install umami-analytics[socks]")
    user, _, password = account.partition(":")
    login = (unquote(user), unquote(password)) if at else None
    if login and not "".join(login).isprintable():
        raise ValueError("must not have control characters in its user name or password")
    return Proxy(kind, host, port or PORTS[kind], login)


def choice(url: str, proxy: str | None = None) -> Proxy | None:
    """Return the proxy for a request; None if it goes straight to its server.

    Args:
        url: Where the request goes.
        proxy: The URL of the proxy that is set. The environment counts only without one.
    """
    if proxy is not None:
        return parsed(proxy)
    from urllib.request import getproxies  # late, as its imports are many

    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    named = getproxies()
    found = next((key for key in (parts.scheme, "all") if named.get(key)), None)
    if found is None or _is_excepted(host, port, named):
        return None
    try:
        return parsed(named[found])
    except ValueError as error:
        _warn_once(found, str(error))
        return None


def _is_excepted(host: str, port: int, named: Mapping[str, str]) -> bool:
    """Tell whether the environment excepts a server from its proxies."""
    from urllib.request import proxy_bypass

    if "no" not in named:
        return bool(proxy_bypass(host))  # what the settings of macOS or Windows say
    return any(_covers(entry, host, port) for entry in re.split(r"[\s,]+", named["no"]) if entry)


def _covers(entry: str, host: str, port: int) -> bool:
    """Tell whether an entry of NO_PROXY (a domain, an address, a network) covers a server."""
    from ipaddress import ip_address, ip_network

    if entry == "*":
        return True
    bare, host = entry.rpartition("://")[2].lower(), host.lower().rstrip(".")
    with_port = re.fullmatch(r"(\[[^\]]*\]|[^:]*):(\d+)", bare)
    if with_port:
        if int(with_port[2]) != port:
            return False
        bare = with_port[1]
    bare = re.sub(r"^\[([^\]]*)\](?=/|$)", r"\1", bare).rstrip(".")
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        domain = bare.removeprefix("*").lstrip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
    try:
        return address in ip_network(bare, strict=False)
    except ValueError:
        return False


_warned: Final[set[str]] = set()


def _warn_once(kind: str, why: str) -> None:
    if kind not in _warned:
        _warned.add(kind)
        logger.warning(
            "The environment's %s_PROXY is ignored, and requests go straight to the server: it %s.",
            kind.upper(),
            why,
        )
