"""What Umami accepts in each field, and how a visitor's value is repaired to fit.

The limits are the server's, as measured. It answers a value beyond a limit with 400 or 500, and the event is
lost. A value that the program chose raises `ValidationError`. A value from a visitor's request is repaired,
and the caller's `note` is called with the name of the repair.
"""

import hashlib
import ipaddress
import math
import re
import socket
import unicodedata
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote, unquote_plus

from umami.errors import ValidationError

from . import hosts

NAME_LIMIT: Final = 50
HOSTNAME_LIMIT: Final = 100
LANGUAGE_LIMIT: Final = 35
SCREEN_LIMIT: Final = 11
DISTINCT_ID_LIMIT: Final = 50
CURRENCY_LIMIT: Final = 10
CAMPAIGN_LIMIT: Final = 255
VISITOR_LIMIT: Final = 8192  # what web servers take of one header; Umami stores less
ADDRESS_LIMIT: Final = 64  # 45 characters, and the name of a zone
STORED_LIMIT: Final = 500  # what Umami stores of a path
NUMBER_LIMIT: Final = 1e15

Note = Callable[[str], object]
"""Called with the name of a repair, once for each that is made."""

_CAMPAIGN_KEYS: Final = frozenset(
    (
        *("utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term"),
        *("gclid", "fbclid", "msclkid", "ttclid", "li_fat_id", "twclid"),
    )
)
_EARLIEST: Final = -62_135_596_800  # the first second of the year 1
_LATEST: Final = 253_402_300_799  # the last second of the year 9999
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
# As much of a campaign's value as can matter: a character has at most 12 in its escapes.
_ENCODED_LIMIT: Final = 12 * (CAMPAIGN_LIMIT + 1)
_LONG_VALUE: Final = re.compile(rf"(?:\A|(?<=&))([^&=]{{1,48}})=([^&]{{{CAMPAIGN_LIMIT + 1},}})")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def given(value: Any) -> str:
    """Describe a refused value for an error's text: short, and never the whole of it."""
    value = plain(value)
    if type(value) is int:
        text = decimal_text(value)
    elif type(value) in (str, bytes):
        text = repr(value[:61])
    elif type(value) in (float, bool, type(None)):
        text = repr(value)
    else:
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}..."


def plain(value: Any) -> Any:
    """Return a subclass's value as a plain str, int, float or Decimal: an Enum member's, for example."""
    if type(value) in _EXACT:
        return value
    for kind, convert in _PLAIN:
        if is_a(value, kind):
            return convert(value)
    return value


def is_a(value: Any, kinds: type | tuple[type, ...]) -> bool:
    """Tell whether a value is of a type, whatever it says of its own `__class__`."""
    return issubclass(type(value), kinds)


_EXACT: Final = frozenset((bool, str, int, float))
_PLAIN: Final[tuple[tuple[type, Callable[[Any], Any]], ...]] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (Decimal, Decimal),
)


def text(field: str, value: Any) -> str:
    """Return `value`, which must be a string."""
    if is_a(value, str):
        return str.__str__(value)
    raise ValidationError(f"{field} must be a string, got {type(value).__name__}.")


def utf16_length(value: str) -> int:
    """Count as the server does, in UTF-16 units: an emoji is two."""
    return len(value) if value.isascii() else len(value.encode("utf-16-le", "surrogatepass")) // 2


def fits(value: str, limit: int) -> bool:
    """Tell whether this has at most `limit` UTF-16 units; of a longer one no more than its length is read."""
    return len(value) <= limit and utf16_length(value) <= limit


def limited(field: str, value: Any, limit: int) -> str:
    """Return `value`, which must be a string of at most `limit` UTF-16 units."""
    checked = text(field, value)
    length = len(checked) if len(checked) > limit else utf16_length(checked)
    if length > limit:
        raise ValidationError(
            f"{field} must have at most {limit} characters, got {length}: {given(checked)}."
        )
    return checked


def scrubbed(value: str) -> str:
    """Replace what the server's database cannot store: U+0000 and lone surrogates."""
    value = value.replace("\x00", "\ufffd")
    return value if value.isascii() else _SURROGATE.sub("\ufffd", value)


def hostname(value: Any) -> str:
    """Return a website's hostname.

    Raises:
        ValidationError: It is too long, or the server could not make a URL of it.
    """
    name = limited("hostname", value, HOSTNAME_LIMIT)
    if " " in name or not parses_as_url(f"https://{scrubbed(name)}/"):
        raise ValidationError(
            f"hostname must be a host name like example.com, without spaces, got {given(name)}."
        )
    return name


def distinct_id(value: Any, note: Note) -> str | None:
    """Return a visitor's own id as a string, or None for a blank one; a long one as a stable digest."""
    value = plain(value)
    if type(value) not in (str, int):
        raise ValidationError("distinct_id must be a string or integer.")
    identity = decimal_text(value) if type(value) is int else value[:VISITOR_LIMIT].strip()
    if len(identity) > DISTINCT_ID_LIMIT:
        note("distinct_id")
        digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:DISTINCT_ID_LIMIT]
    return identity or None


def decimal_text(value: int) -> str:
    """Write an integer of any size."""
    try:
        return int.__repr__(value)
    except ValueError:  # CPython refuses to print integers of thousands of digits in decimal
        return hex(value)


def revenue(value: Any) -> int | float:
    """Return an amount of money as a JSON number."""
    if (type(value) is float or type(value) is int) and 0 <= value < NUMBER_LIMIT:
        return value
    value = plain(value)
    if is_a(value, bool) or not is_a(value, (int, float, Decimal)):
        raise ValidationError("Revenue must be a number (int or float).")
    try:
        amount = float(value)
    except (ValueError, OverflowError):
        amount = float("inf")
    if not math.isfinite(amount):
        raise ValidationError(f"Revenue must be a finite number, got {given(value)}.")
    if amount < 0:
        raise ValidationError("Revenue must be >= 0.")
    if amount >= NUMBER_LIMIT:
        raise ValidationError(f"Revenue must be below 1e15, got {given(value)}.")
    return amount if is_a(value, Decimal) else value


def currency(value: Any) -> str:
    """Return a currency's code."""
    if type(value) is str and len(value) <= CURRENCY_LIMIT // 2 and value.isalpha():
        return value
    if value is None or not text("currency", value).strip():
        raise ValidationError("Currency must be a non-empty string.")
    return limited("currency", value, CURRENCY_LIMIT)


def timestamp(value: Any) -> int:
    """Return a moment as whole seconds of the epoch, which is all that the server takes."""
    value = plain(value)
    if is_a(value, datetime):
        try:
            value = datetime.timestamp(value)
        except Exception as error:  # noqa: BLE001 - a time zone of the caller's own may raise anything
            raise ValidationError(f"timestamp is out of range ({type(error).__name__}).") from None
    if is_a(value, bool) or not is_a(value, (int, float)):
        raise ValidationError(f"timestamp must be a datetime or epoch seconds, got {given(value)}.")
    if not _EARLIEST <= value < _LATEST + 1:
        raise ValidationError(
            f"timestamp must be epoch seconds of the years 1 to 9999, got {given(value)}: milliseconds?"
        )
    return int(value // 1)


def date_text(moment: datetime) -> str:
    """Write a datetime in the one form that Umami stores as a date: UTC, with milliseconds."""
    return f"{moment.astimezone(timezone.utc).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def language(value: str, note: Note) -> str | None:
    """Return a language such that it fits: of a whole Accept-Language header the first tag, or None."""
    if not fits(value, LANGUAGE_LIMIT):
        note("language")
    elif "," not in value:
        return value
    first = value[:VISITOR_LIMIT].replace(";", ",").split(",", 1)[0].strip()
    return first if fits(first, LANGUAGE_LIMIT) else None


def screen(value: str, note: Note) -> str | None:
    """Return a screen's size, or None if it is too long to be one."""
    if fits(value, SCREEN_LIMIT):
        return value
    note("screen")
    return None


def ip_address(value: str, note: Note) -> str | None:
    """Return the IP address, or None for anything else (a list of addresses, a host name, `unknown`)."""
    address = value[:VISITOR_LIMIT].strip()
    if is_ipv4(address) or (len(address) <= ADDRESS_LIMIT and _is_address(ipaddress.IPv6Address, address)):
        return address
    if address:
        note("ip_address")
    return None


def is_ipv4(value: str) -> bool:
    """Tell whether this is an address of IP version 4, and nothing around it."""
    try:
        socket.inet_pton(socket.AF_INET, value)
    except (OSError, ValueError):
        return False
    return True


def url(value: str, note: Note) -> str:
    """Return a page's URL or path such that the server can parse and store it."""
    fitted = _printable_url(value)
    if len(fitted) > CAMPAIGN_LIMIT and "?" in fitted:
        fitted = _with_short_campaign(fitted)
    if not parses_as_url(fitted):
        fitted = f"/{quote(fitted[:STORED_LIMIT], safe='/').lstrip('/')}"
    if fitted != value:
        note("url")
    return fitted


def referrer(value: str, note: Note) -> str:
    """Return where a visitor came from, or nothing if the server could not parse it."""
    fitted = _printable_url(value)
    if not parses_as_url(fitted):
        fitted = ""
    if fitted != value:
        note("referrer")
    return fitted


def _printable_url(value: str) -> str:
    fitted = scrubbed(value[:VISITOR_LIMIT])
    if "%" in fitted:
        fitted = _without_breaks(fitted).replace("%00", "%EF%BF%BD")
    return fitted


def _without_breaks(value: str) -> str:
    """Leave out tabs and line breaks, as the server's URL parser does: `%0` and `0` meet then."""
    return value.replace("\t", "").replace("\n", "").replace("\r", "")


def title(value: str, note: Note) -> str:
    """Return a page's title without an escaped U+0000: the server decodes titles before it stores them."""
    fitted = value[:VISITOR_LIMIT].replace("%00", "\ufffd")
    if fitted != value:
        note("title")
    return fitted


def user_agent(value: str, note: Note) -> str:
    """Return a visitor's User-Agent, cut if it is endless."""
    if len(value) <= VISITOR_LIMIT:
        return value
    note("ua")
    return value[:VISITOR_LIMIT]


def _with_short_campaign(value: str) -> str:
    head, _, rest = value.partition("?")
    query, mark, fragment = rest.partition("#")
    return f"{head}?{_LONG_VALUE.sub(_with_short_value, query)}{mark}{fragment}"


def _with_short_value(pair: re.Match[str]) -> str:
    key, encoded = pair.groups()
    if unquote_plus(key) in _CAMPAIGN_KEYS:
        decoded = unquote_plus(encoded[:_ENCODED_LIMIT])
        if len(decoded) > CAMPAIGN_LIMIT:
            return f"{key}={quote(decoded[:CAMPAIGN_LIMIT], safe='')}"
    return pair.group()


def parses_as_url(value: str) -> bool:
    """Tell whether the server's `new URL(value, base)` surely accepts this; when in doubt, no."""
    if _PLAIN_ORIGIN.match(value):
        return True
    value = _without_breaks(value.strip(_BLANKS))
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
        return _is_address(ipaddress.IPv6Address, host[1:-1])
    name = host.removesuffix(".").lower()
    if len(name) > hosts.HOST_LIMIT:
        return False
    try:
        labels = hosts.labels(name)
    except ValueError:
        return False
    if _NUMBER.fullmatch(labels[-1]):
        # The URL standard reads a host that ends in a number as an IPv4 address, or fails.
        return _is_address(ipaddress.IPv4Address, name)
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


def _is_address(kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address], host: str) -> bool:
    try:
        kind(host)
    except ValueError:
        return False
    return True
