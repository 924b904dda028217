"""Which URLs and host names every version of Umami can parse."""

import ipaddress
import re
import unicodedata
from typing import Final

from . import hosts
from .addresses import is_address

# At most 205 characters, so that no length is to be checked.
_PLAIN_ORIGIN: Final = re.compile(
    r"https?://(?:(?!xn--)[a-z0-9_-]{1,40}\.){0,4}(?!xn--)[a-z][a-z0-9_-]{0,39}\.?(?::\d{1,4})?(?=[/?#]|\Z)",
    re.ASCII | re.IGNORECASE,
)
_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_AUTHORITY: Final = re.compile(
    r"""(?:[^/?#]*@)?
    (?P<host>\[[0-9a-fA-F:.]{2,45}\]|[^\x00-\x20\#%/:<>?@\[\\\]^|\x7f]{1,254})
    (?::(?P<port>\d{0,5}))?(?=[/?\#]|\Z)""",
    re.ASCII | re.VERBOSE,
)
_NUMBER: Final = re.compile(r"\d+|0x[0-9a-f]*", re.ASCII)
_OPAQUE_HOST: Final = re.compile(r"//[\w.-]+(?:/|\Z)", re.ASCII)
_SPECIAL_SCHEMES: Final = frozenset(("http:", "https:", "ws:", "wss:", "ftp:"))
_TWO_SLASHES: Final = frozenset(("//", "\\\\", "/\\", "\\/"))
_BLANKS: Final = "".join(map(chr, range(0x21)))


def without_breaks(value: str) -> str:
    """Leave out tabs and line breaks, as the server's URL parser does: `%0` and `0` meet then."""
    return value.replace("\t", "").replace("\n", "").replace("\r", "")


def parses_as_url(value: str) -> bool:
    """Tell whether the server's `new URL(value, base)` surely accepts this; when in doubt, no."""
    if _PLAIN_ORIGIN.match(value):
        return True
    value = without_breaks(value.strip(_BLANKS))
    scheme = _SCHEME.match(value)
    rest = value[scheme.end() :] if scheme else value
    kind = scheme.group().lower() if scheme else ""
    if kind and kind not in _SPECIAL_SCHEMES:
        # `mailto:…` and `app:path` always parse; `android-app://host/…` only with a plain host.
        if kind == "file:":
            return rest[:2] not in _TWO_SLASHES
        return not rest.startswith("//") or _OPAQUE_HOST.match(rest) is not None
    rest = rest.replace("\\", "/")
    if not kind and not rest.startswith("//"):
        return True
    authority = _AUTHORITY.match(rest.lstrip("/"))
    if authority is None or int(authority["port"] or 0) > 0xFFFF:
        return False
    return _is_host(authority["host"])


def _is_host(host: str) -> bool:
    """Tell whether every version of Node accepts this host. It rejects one too long to be looked up."""
    if host.startswith("["):
        return is_address(ipaddress.IPv6Address, host[1:-1])
    name = host.removesuffix(".").lower()
    if len(name) > hosts.HOST_LIMIT:
        return False
    try:
        labels = hosts.labels(name)
    except ValueError:
        return False
    if _NUMBER.fullmatch(labels[-1]):
        # The URL standard reads a host that ends in a number as an IPv4 address, or fails.
        return is_address(ipaddress.IPv4Address, name)
    # Versions of Node differ over newer letters, and over what is mapped to others or left out.
    letters = _beyond_ascii("".join(labels))
    return (
        name != ""
        and _beyond_ascii(name) <= letters
        and all(map(_is_letter_everywhere, letters | _beyond_ascii(host)))
    )


def _beyond_ascii(text: str) -> set[str]:
    return set() if text.isascii() else {letter for letter in text if not letter.isascii()}


def _is_letter_everywhere(letter: str) -> bool:
    """Tell whether this is a letter, mark or digit of Unicode 3.2, with which international names began."""
    return unicodedata.ucd_3_2_0.category(letter)[0] in "LMN"
