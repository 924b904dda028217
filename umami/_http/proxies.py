"""Which proxy a request goes through: the one that is set, else the one that the environment names.

The same for queued events, direct sends and queries. Nothing here shows a proxy's password.
"""

import logging
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from umami._proxy import PORTS, Proxy, parsed

from .messages import log


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
        log(
            logging.WARNING,
            "The environment's %s_PROXY is ignored, and requests go straight to the server: it %s.",
            kind.upper(),
            why,
        )
