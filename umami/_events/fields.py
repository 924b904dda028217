"""What Umami accepts in each field, and how a visitor's value is repaired to fit.

The limits are the server's, as measured. It answers a value beyond a limit with 400 or 500, and the event is
lost. A value that the program chose raises `ValidationError`. A value from a visitor's request is repaired,
and the caller's `note` is called with the name of the repair.
"""

import contextlib
import hashlib
import math
import re
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Final, Protocol
from urllib.parse import quote, unquote_plus
from uuid import UUID

from umami._user_agents import BROWSER_USER_AGENT
from umami.errors import ValidationError

from . import addresses
from .addresses import is_ipv4
from .urls import parses_as_url, without_breaks
from .values import decimal_text, given, is_a, native, written

NAME_LIMIT: Final = 50
HOSTNAME_LIMIT: Final = 100
LANGUAGE_LIMIT: Final = 35
SCREEN_LIMIT: Final = 11
CLIENT_LIMIT: Final = 20
DISTINCT_ID_LIMIT: Final = 50
CURRENCY_LIMIT: Final = 10
CAMPAIGN_LIMIT: Final = 255
VISITOR_LIMIT: Final = 8192  # what web servers take of one header; Umami stores less
STORED_LIMIT: Final = 500  # what Umami stores of a path
NUMBER_LIMIT: Final = 1e15


_CAMPAIGN_KEYS: Final = frozenset(
    (
        *("utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term"),
        *("gclid", "fbclid", "msclkid", "ttclid", "li_fat_id", "twclid"),
    )
)
_EARLIEST: Final = -62_135_596_800  # the first second of the year 1
_LATEST: Final = 253_402_300_799  # the last second of the year 9999
# As much of a campaign's value as can matter: a character has at most 12 in its escapes.
_ENCODED_LIMIT: Final = 12 * (CAMPAIGN_LIMIT + 1)
_LONG_VALUE: Final = re.compile(rf"(?:\A|(?<=&))([^&=]{{1,48}})=([^&]{{{CAMPAIGN_LIMIT + 1},}})")
# Umami 3.3 and later refuse a name or a tag that a spreadsheet would take for a formula.
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class Note(Protocol):
    """Called with the name of a repair or a warning, once for each."""

    def __call__(self, kind: str, detail: str = "", /) -> object:
        """Count a repair, or warn; of a warning each `detail` once."""


def text(field: str, value: Any) -> str:
    """Return `value`, which must be a string, or a value of a framework's that is written as one."""
    if is_a(value, str):
        return str.__str__(value)
    as_text = written(value)
    if as_text is None:
        raise ValidationError(f"{field} must be a string, got {type(value).__name__}.")
    return as_text


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


def event_name(value: Any, note: Note) -> str:
    """Return an event's name."""
    if value is None or not text("event_name", value).strip():
        raise ValidationError("The event_name is required.")
    return _unlike_formula("event_name", limited("event_name", value, NAME_LIMIT), note)


def tag(value: Any, note: Note) -> str | None:
    """Return an event's tag, or None for an empty one."""
    return _unlike_formula("tag", limited("tag", value, NAME_LIMIT), note) or None


def _unlike_formula(field: str, value: str, note: Note) -> str:
    if value.startswith(FORMULA):
        note(f"formula_{field}")
    return value


def website_id(value: Any, note: Note) -> str:
    """Return a website's id. One that is not a UUID is sent as it is, so that tests may use any."""
    website = text("website_id", value)
    if not _UUID.fullmatch(website):
        note("website_id", given(website))
    return website


def hostname(value: Any, note: Note) -> str:  # noqa: ARG001
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
    value = native(value)
    if is_a(value, UUID):
        with contextlib.suppress(Exception):  # of a class of its own, which may raise anything
            value = UUID.__str__(value)
    if type(value) not in (str, int):
        raise ValidationError("distinct_id must be a string or integer.")
    identity = decimal_text(value) if type(value) is int else value[:VISITOR_LIMIT].strip()
    if len(identity) > DISTINCT_ID_LIMIT:
        note("distinct_id")
        digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:DISTINCT_ID_LIMIT]
    return identity or None


def revenue(value: Any) -> int | float:
    """Return an amount of money as a JSON number."""
    if (type(value) is float or type(value) is int) and 0 <= value < NUMBER_LIMIT:
        return value
    value = native(value)
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


def timestamp(value: Any, note: Note) -> int:  # noqa: ARG001
    """Return a moment as whole seconds of the epoch, which is all that the server takes."""
    moment = native(value)
    if is_a(moment, datetime):
        try:
            moment = datetime.timestamp(_datetime(moment))
        except Exception as error:  # noqa: BLE001 - a time zone of the caller's own may raise anything
            raise ValidationError(f"timestamp is out of range ({type(error).__name__}).") from None
    if is_a(moment, bool) or not is_a(moment, (int, float)):
        raise ValidationError(f"timestamp must be a datetime or epoch seconds, got {given(value)}.")
    if not _EARLIEST <= moment < _LATEST + 1:
        raise ValidationError(
            f"timestamp must be epoch seconds of the years 1 to 9999, got {given(moment)}: milliseconds?"
        )
    return int(moment // 1)


def date_text(moment: datetime) -> str:
    """Write a datetime in the one form that Umami stores as a date: UTC, with milliseconds."""
    moment = _datetime(moment)
    return f"{moment.astimezone(timezone.utc).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _datetime(moment: datetime) -> datetime:
    """Return a subclass's value as a plain datetime. A naive one of pandas cannot be converted otherwise."""
    return datetime.combine(datetime.date(moment), datetime.timetz(moment))


def language(value: str, note: Note) -> str | None:
    """Return a language such that it fits: of a whole Accept-Language header the first tag, or None."""
    value = text("language", value)
    if not fits(value, LANGUAGE_LIMIT):
        note("language")
    elif "," not in value:
        return value
    first = value[:VISITOR_LIMIT].replace(";", ",").split(",", 1)[0].strip()
    return first if fits(first, LANGUAGE_LIMIT) else None


def screen(value: str, note: Note) -> str | None:
    """Return a screen's size, or None if it is too long to be one."""
    value = text("screen", value)
    if fits(value, SCREEN_LIMIT):
        return value
    note("screen")
    return None


def _short(field: str) -> Callable[[Any, Note], str | None]:
    """Return what makes a browser, system or device fit: one that is too long is left out."""

    def fitted(value: Any, note: Note) -> str | None:
        name = text(field, value).strip()
        if fits(name, CLIENT_LIMIT):
            return name or None
        note(field)
        return None  # then Umami reads it from the User-Agent

    return fitted


def ip_address(value: Any, note: Note) -> str | None:
    """Return a visitor's IP address, of a list the one to trust; or None if there is none."""
    if type(value) is str and is_ipv4(value):
        return value
    given_as = text("ip_address", value)
    if "," in given_as:
        note("ip_address_list")
        address = addresses.of_list(given_as)
    else:
        address = addresses.bare(given_as)
    if address is None and given_as[:VISITOR_LIMIT].strip():
        note("ip_address")
    return address


def url(value: str, note: Note) -> str:
    """Return a page's URL or path such that the server can parse and store it."""
    value = text("url", value)
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
    value = text("referrer", value)
    fitted = _printable_url(value)
    if not parses_as_url(fitted):
        fitted = ""
    if fitted != value:
        note("referrer")
    return fitted


def _printable_url(value: str) -> str:
    fitted = scrubbed(value[:VISITOR_LIMIT])
    if "%" in fitted:
        fitted = without_breaks(fitted).replace("%00", "%EF%BF%BD")
    return fitted


def title(value: str, note: Note) -> str:
    """Return a page's title without an escaped U+0000: the server decodes titles before it stores them."""
    value = text("title", value)
    fitted = value[:VISITOR_LIMIT].replace("%00", "\ufffd")
    if fitted != value:
        note("title")
    return fitted


def user_agent(value: Any, note: Note) -> str | None:
    """Return a visitor's User-Agent, cut if it is endless; None for the one that is sent if none is given."""
    agent = (value if type(value) is str else text("ua", value)).strip()
    if agent == BROWSER_USER_AGENT:
        return None
    if len(agent) > VISITOR_LIMIT:
        note("ua")
        agent = agent[:VISITOR_LIMIT]
    return agent or None


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


FIELDS: Final[dict[str, Callable[[Any, Note], Any]]] = {
    "website": website_id,
    "hostname": hostname,
    "name": event_name,
    "title": title,
    "url": url,
    "referrer": referrer,
    "language": language,
    "screen": screen,
    "timestamp": timestamp,
    "id": distinct_id,
    "ip": ip_address,
    "tag": tag,
    "userAgent": user_agent,
    "browser": _short("browser"),
    "os": _short("os"),
    "device": _short("device"),
}
"""Each field of a payload but the custom data, by Umami's name: what returns it such that it fits, or None to
leave it out. It raises for what the program chose, and notes a repair of what a visitor sent."""
