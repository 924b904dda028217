"""A proxy, as its URL describes it. Nothing here shows its password."""

import re
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Final
from urllib.parse import unquote, urlsplit

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
        return f"{self.scheme}://{host}:{self.port}"


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
        raise ValueError("is a SOCKS proxy, which needs socksio: pip install 'umami-analytics[socks]'")
    user, _, password = account.partition(":")
    login = (unquote(user), unquote(password)) if at else None
    if login and not "".join(login).isprintable():
        raise ValueError("must not have control characters in its user name or password")
    return Proxy(kind, host, port or PORTS[kind], login)
