"""Who may read the collector's page and use its routes: no page of another origin."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

_REFUSED_HOST: Final = (
    "The collector does not show its events under this host name. Open it under localhost or its address, "
    "or allow the name: umami collector --allow-host NAME, or Collector(allow_hosts=['NAME']).\n"
)
_REFUSED_ORIGIN: Final = "The collector's routes are not for pages of other origins.\n"
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""They keep pages of other origins from embedding or loading this one. There is no CORS header."""


class Guard:
    """Decides who may use the page and its routes.

    Args:
        hosts: The allowed host names, in addition to IP addresses and ``localhost``.
    """

    def __init__(self, hosts: Iterable[str]) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)

    def refusal(self, request: Request) -> str | None:
        """Returns why a request is refused; None if it is allowed.

        The owner of a name that is not allowed can let it resolve to this machine (DNS rebinding). The
        owner's pages would then have the same origin as this one, and could read it. IP addresses are safe
        from that. A request that changes something must also not come from a page of another origin.
        """
        if not self._is_known(request.headers.get("host", "")):
            return _REFUSED_HOST
        if request.method not in ("GET", "HEAD") and not _is_same_origin(request):
            return _REFUSED_ORIGIN
        return None

    def is_loopback(self, request: Request) -> bool:
        """Whether the request comes from this machine."""
        try:
            address = ipaddress.ip_address(request.client.host if request.client else "")
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback

    def _is_known(self, header: str) -> bool:
        match = re.fullmatch(r"\[?(.+?)\]?(:\d*)?", header)
        host = match[1].lower().removesuffix(".") if match else ""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return host == "localhost" or host.endswith(".localhost") or host in self._hosts
        return True


def _is_same_origin(request: Request) -> bool:
    """Whether no browser says that the request is another origin's. Other programs do not say."""
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()
