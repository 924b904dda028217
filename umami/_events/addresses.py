"""IP addresses, as servers, proxies and frameworks write them."""

import ipaddress
import re
import socket
from typing import Final

ADDRESS_LIMIT: Final = 64  # 45 characters, and brackets, a port or the name of a zone
_LIST_LIMIT: Final = 4096
_MOST_HOPS: Final = 32
_PORT: Final = re.compile(r"(?::\d{1,5})?", re.ASCII)
# Where proxies and load balancers have their own addresses. Python's `is_private` differs between versions.
_INTERNAL: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.168.0.0/16", "::/128", "::1/128", "fc00::/7", "fe80::/10"),
        ),
    )
)


def is_ipv4(value: str) -> bool:
    """Tell whether this is an address of IP version 4, and nothing around it."""
    try:
        socket.inet_pton(socket.AF_INET, value)
    except (OSError, ValueError):
        return False
    return True


def is_address(kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address], value: str) -> bool:
    """Tell whether this is an address of a kind, and nothing around it."""
    try:
        kind(value)
    except ValueError:
        return False
    return True


def bare(text: str) -> str | None:
    """Return an address without the blanks, brackets, port and zone around it; None if it is none.

    Example:
        ```python
        bare("[2001:db8::1]:443")  # "2001:db8::1"
        ```
    """
    text = text.strip()
    if len(text) > ADDRESS_LIMIT:
        return None
    if is_ipv4(text):
        return text
    port = ""
    if text.startswith("["):
        text, bracket, port = text[1:].partition("]")
        if not bracket:
            return None
    elif text.count(":") == 1:
        text, _, rest = text.partition(":")
        port = f":{rest}"
        if not is_ipv4(text):
            return None
    text = text.partition("%")[0]
    if _PORT.fullmatch(port) and (is_ipv4(text) or is_address(ipaddress.IPv6Address, text)):
        return text
    return None


def of_list(text: str) -> str | None:
    """Return the visitor's address of a list, as `X-Forwarded-For` has it; None if it has no address.

    Each proxy appends the address that it was called from, and a visitor can send a list of his own. So the
    last public address is the one to trust; only behind proxies that are public themselves it is a proxy's.
    Without a public one, the first is taken: within a network of one's own, the last would be the proxy's.
    """
    # As many as can matter: visitors choose how long it is.
    parts = text[-_LIST_LIMIT:].rsplit(",", _MOST_HOPS)
    addresses = [address for part in parts if (address := bare(part)) is not None]
    public = [address for address in addresses if not _is_internal(address)]
    return public[-1] if public else addresses[0] if addresses else None


def _is_internal(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return any((mapped or parsed) in network for network in _INTERNAL)
