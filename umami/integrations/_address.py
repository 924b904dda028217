"""The visitor's address: that of the connection, or the one in a trusted proxy's header.

Anyone can send a header such as `X-Forwarded-For`. So it is only used if the connection comes from a proxy
that the options name. It is read from the right, because each proxy appends the address that it saw.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import islice
from typing import Any, Final, Protocol

from umami.errors import ValidationError

UNIX: Final = "unix"
"""Stands among the trusted proxies for a peer at a Unix socket, which has no address."""

_AT_UNIX_SOCKET: Final = (None, "", "localhost")
"""What servers say of a peer at a Unix socket; the last is waitress's."""
_MOST_HOPS: Final = 32
_REMEMBERED: Final = 4096
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_MIRRORED_MARK: Final = re.compile(r"""["](\\*)|[,;]""")
"""A quote or a separator in a text that is read backwards; a quote with the backslashes before it."""

Address = IPv4Address | IPv6Address


class Headers(Protocol):
    """The headers of a request."""

    def all(self, name: str) -> Sequence[str]:
        """Return the values of a header, by its name in small letters, in their order."""


def parsed(text: str) -> Address | None:
    """Return the address that a proxy wrote, perhaps with a port, brackets or a zone; None for other text.

    An IPv4 address that is written as an IPv6 one (`::ffff:1.2.3.4`) is returned as IPv4.
    """
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


_parsed_peer: Final = lru_cache(_REMEMBERED)(parsed)
"""The same peers come again and again. They are short, unlike what a header may hold."""


class ClientAddress:
    """Finds the address of a request's visitor.

    Args:
        trusted_proxies: The networks (`10.0.0.0/8`) and addresses of the proxies in front, and `unix` for a
            peer at a Unix socket. If the peer is one of them, the header is read from the right, up to the
            first address that is not.
        trusted_hops: In place of that, the number of proxies in front.
        header: The header that they append to: `X-Forwarded-For` or `Forwarded`.
        client_ip_header: A header of a trusted peer that holds the address alone, `CF-Connecting-IP` say.

    Raises:
        ValidationError: An argument is not valid.
    """

    def __init__(
        self,
        trusted_proxies: Iterable[str] = (),
        trusted_hops: int = 0,
        header: str = "X-Forwarded-For",
        client_ip_header: str | None = None,
    ) -> None:
        if isinstance(trusted_proxies, str) or not isinstance(trusted_proxies, Iterable):
            raise ValidationError(
                f"trusted_proxies must be a list, such as ['10.0.0.0/8'], got {trusted_proxies!r}."
            )
        if isinstance(trusted_hops, bool) or not isinstance(trusted_hops, int) or trusted_hops < 0:
            raise ValidationError(f"trusted_hops must be a number of proxies, got {trusted_hops!r}.")
        if str(header).lower() not in ("x-forwarded-for", "forwarded"):
            raise ValidationError(
                f"forwarded_header must be 'X-Forwarded-For' or 'Forwarded', got {header!r}."
            )
        proxies = [str(each).strip() for each in trusted_proxies]
        if proxies and trusted_hops:
            raise ValidationError("Set trusted_proxies or trusted_hops, not both.")
        if client_ip_header is not None:
            if not _TOKEN.fullmatch(str(client_ip_header)):
                raise ValidationError(f"client_ip_header must be a header's name, got {client_ip_header!r}.")
            if not (proxies or trusted_hops):
                raise ValidationError(
                    "client_ip_header needs trusted_proxies or trusted_hops: anybody can send that header."
                )
        self._unix = UNIX in proxies
        self._networks = [_network(each) for each in proxies if each != UNIX]
        self._hops = trusted_hops
        self._header = header.lower()
        self._own_header = None if client_ip_header is None else client_ip_header.lower()

    def of(self, peer: str | None, headers: Headers) -> str | None:
        """Return the visitor's address; None if it is not known.

        Args:
            peer: The address of the connection's other end, as the server gives it; None at a Unix socket.
            headers: The request's headers.
        """
        nearest = None if peer is None else _parsed_peer(peer)
        if not (self._hops or self._trusts(nearest, is_unix=peer in _AT_UNIX_SOCKET)):
            return None if nearest is None else str(nearest)
        if self._own_header is not None:
            values = headers.all(self._own_header)
            found = parsed(values[-1]) if values else None
            return None if found is None else str(found)
        written = self._written(headers)
        if self._hops:
            # A request that passed fewer proxies than that came from inside.
            found = parsed(written[-self._hops]) if len(written) >= self._hops else nearest
        else:
            found = nearest
            for text in reversed(written):
                found = parsed(text)
                if not self._trusts(found):
                    break
        return None if found is None else str(found)

    def _trusts(self, address: Address | None, *, is_unix: bool = False) -> bool:
        if address is None:
            return is_unix and self._unix
        return any(address in network for network in self._networks)

    def _written(self, headers: Headers) -> list[str]:
        """Return what the proxies wrote, the nearest one's last."""
        text = ",".join(headers.all(self._header))
        if self._header == "forwarded":
            return [_forwarded_for(entry) for entry in islice(_parts(text, ","), _MOST_HOPS)][::-1]
        return [entry for entry in text.rsplit(",", _MOST_HOPS)[-_MOST_HOPS:] if entry.strip()]


def _forwarded_for(entry: str) -> str:
    """Return what an entry of the header `Forwarded` says of the sender; blank if nothing."""
    for part in _parts(entry, ";"):
        name, _, value = part.partition("=")
        if name.strip().lower() == "for":
            return value
    return ""


def _parts(text: str, separator: str) -> Iterator[str]:
    """Yield the parts of a header's text, the last one first. Separators in quoted strings do not count.

    A proxy may quote what a visitor wrote: `for=203.0.113.7;host="a,for=6.6.6.6"`. It is read from the right,
    because an open quote that the visitor sent, further left, must not change what the proxies' entries mean.
    """
    end, is_quoted = len(text), False
    for mark in _MIRRORED_MARK.finditer(text[::-1]):
        if mark[0].startswith('"'):
            is_quoted ^= len(mark[1]) % 2 == 0  # or else the quote is escaped
        elif mark[0] == separator and not is_quoted:
            begin = len(text) - mark.start()
            yield text[begin:end]
            end = begin - 1
    yield text[:end]


def _network(text: str) -> Any:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValidationError(
            f"trusted_proxies must be networks such as 10.0.0.0/8, addresses, or 'unix', got {text!r}."
        ) from None
    if (
        isinstance(network, IPv6Network)
        and network.network_address.ipv4_mapped is not None
        and network.prefixlen >= 96
    ):
        return ip_network(f"{network.network_address.ipv4_mapped}/{network.prefixlen - 96}")
    return network


def anonymized(address: str) -> str | None:
    """Return an address without its last octet, or without the last 80 bits of an IPv6 one.

    It is None for other text.
    """
    found = parsed(address)
    if found is None:
        return None
    return str(ip_network((found, 24 if found.version == 4 else 48), strict=False).network_address)
