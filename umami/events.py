"""One event, from the arguments of a send to the bytes that go over the wire.

The common event takes the short way: a few checks of type and length, one encoding. Whatever looks
unusual (a long text, an escape in the encoded bytes, a value that is no plain text or number) is
walked through field by field, which costs more and is rarely needed.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Final

from pydantic_core import PydanticSerializationError, to_json

from . import data as custom
from . import fields
from .errors import ValidationError
from .fields import Note

BROWSER_USER_AGENT: Final = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36"
)
"""What sends call themselves: Umami drops anything less than a full browser's string as a bot's."""

_REMEMBERED: Final = 1024
_DOUBTFUL: Final = frozenset("/\\\t\n\r")
_ARGUMENTS: Final = {"ip": "ip_address"}

BeforeSend = Callable[[dict[str, Any]], dict[str, Any] | None]


class Writer:
    """Checks and encodes events for one set of defaults.

    Args:
        website_id: The website of events that name none.
        hostname: The host name of events that name none.
        size_limit: The most bytes that an encoded event may have.
        note: Called with the kind of each repair.
        before_send: The user's last word on a payload, or None.
    """

    def __init__(
        self,
        website_id: str | None,
        hostname: str | None,
        size_limit: int,
        note: Note,
        before_send: BeforeSend | None = None,
    ) -> None:
        self._website_id = website_id
        self._hostname = hostname
        self._size_limit = size_limit
        self._note = note
        self._before_send = before_send
        self._sites: dict[tuple[str | None, str | None], tuple[str, str]] = {}

    def event(
        self,
        payload: dict[str, Any],
        website_id: str | None,
        hostname: str | None,
        distinct_id: str | int | None,
        ip_address: str | None,
        tag: str | None,
        timestamp: Any,
        ua: str | None,
    ) -> bytes:
        """Return an encoded event or page view.

        Args:
            payload: Its `url`, `title`, `referrer`, `language`, `screen`; for an event `name` and `data`.
            website_id: As given to the send; the rest likewise.
            hostname: See website_id.
            distinct_id: See website_id.
            ip_address: See website_id.
            tag: See website_id.
            timestamp: See website_id; None is now.
            ua: See website_id.

        Raises:
            ValidationError: Something that the program chose is not what Umami takes.
            DiscardedError: `before_send` kept the event back.
        """
        if distinct_id is not None:
            identity = fields.distinct_id(distinct_id, self._note)
            if identity is not None:
                payload["id"] = identity
        try:
            payload["hostname"], payload["website"] = self._sites[hostname, website_id]
        except (KeyError, TypeError):
            payload["hostname"], payload["website"] = self._site(hostname, website_id)
        if "name" in payload:
            name = payload["name"]
            # 25 characters are 50 UTF-16 units at the most.
            if type(name) is not str or len(name) > 25 or not name or name.isspace():
                payload["name"] = _event_name(name)
        self._fit_page(payload)
        if tag is not None and fields.limited("tag", tag, fields.NAME_LIMIT):
            payload["tag"] = tag
        if ip_address is not None or ua is not None:
            self._add_visitor(payload, ip_address, ua)
        payload["timestamp"] = int(time.time()) if timestamp is None else fields.timestamp(timestamp)
        return self._encode(payload, "event")

    def identity(
        self,
        distinct_id: str | int,
        data: Any,
        website_id: str | None,
        hostname: str | None,
        ip_address: str | None,
        timestamp: Any,
        ua: str | None,
    ) -> bytes:
        """Return an encoded `identify` record. Arguments and errors are those of `event`."""
        identity = fields.distinct_id(distinct_id, self._note)
        host, website = self._site(hostname, website_id)
        if identity is None:
            raise ValidationError("The distinct_id is required.")
        payload: dict[str, Any] = {"website": website, "hostname": host, "id": identity, "data": data}
        self._add_visitor(payload, ip_address, ua)
        payload["timestamp"] = int(time.time()) if timestamp is None else fields.timestamp(timestamp)
        return self._encode(payload, "identify")

    def _site(self, hostname: Any, website_id: Any) -> tuple[str, str]:
        """Check a pair of host name and website once, and remember it: a program has few of them."""
        host = hostname or self._hostname
        if not host:
            raise ValidationError(
                "The hostname must be set, either as a parameter here or via set_hostname()."
            )
        host = fields.hostname(host)
        website = website_id or self._website_id
        if not website:
            raise ValidationError(
                "The website_id must be set, either as a parameter here or via set_website_id()."
            )
        site = host, fields.text("website_id", website)
        if len(self._sites) >= _REMEMBERED:
            self._sites.clear()
        self._sites[hostname, website_id] = site
        return site

    def _fit_page(self, payload: dict[str, Any]) -> None:
        """Check the fields that a visitor's request brings, and make the odd one fit."""
        url = payload["url"]
        if (
            type(url) is not str
            or len(url) > fields.CAMPAIGN_LIMIT
            or url[:1] != "/"
            or url[1:2] in _DOUBTFUL
            or "%00" in url
        ):
            payload["url"] = "/" if url is None else fields.url(fields.text("url", url), self._note)
        title = payload["title"]
        if type(title) is not str or "%00" in title:
            payload["title"] = fields.title(fields.text("title", title), self._note)
        referrer = payload["referrer"]
        if referrer is None:
            del payload["referrer"]
        elif referrer != "":
            payload["referrer"] = fields.referrer(fields.text("referrer", referrer), self._note)
        language = payload["language"]
        # 17 characters are 34 UTF-16 units at the most, and 5 are 10.
        if type(language) is not str or len(language) > 17 or "," in language:
            _put(payload, "language", language, fields.language, self._note)
        screen = payload["screen"]
        if type(screen) is not str or (
            len(screen) > 5 and not (screen.isascii() and len(screen) <= fields.SCREEN_LIMIT)
        ):
            _put(payload, "screen", screen, fields.screen, self._note)

    def _add_visitor(self, payload: dict[str, Any], ip_address: str | None, ua: str | None) -> None:
        if ip_address is not None:
            _put(payload, "ip", ip_address, fields.ip_address, self._note)
        if ua is not None and ua != BROWSER_USER_AGENT and fields.text("ua", ua):
            payload["userAgent"] = ua

    def _encode(self, payload: dict[str, Any], kind: str) -> bytes:
        if self._before_send is not None:
            payload = self._screened(payload)
        data = payload.get("data")
        if data is not None and (type(data) is not dict or not custom.is_plain(data)):
            payload["data"] = data = custom.fit(data, self._note)
        try:
            encoded = to_json({"type": kind, "payload": payload})
        except (PydanticSerializationError, ValueError):
            # A lone surrogate, which UTF-8 has no form for.
            return self._sized(self._encode_scrubbed(payload, kind))
        if b"\\" in encoded and b"\\u0000" in encoded:
            return self._sized(self._encode_scrubbed(payload, kind))
        if len(encoded) > custom.TEXT_LIMIT:
            if data and not custom.is_short(data):
                payload["data"] = custom.fit(data, self._note)
                encoded = to_json({"type": kind, "payload": payload})
            return self._sized(encoded)
        return encoded

    def _encode_scrubbed(self, payload: dict[str, Any], kind: str) -> bytes:
        clean = {
            key: fields.scrubbed(value) if isinstance(value, str) else value for key, value in payload.items()
        }
        if clean != payload:
            self._note("unprintable")
        if "data" in clean:
            clean["data"] = custom.fit(clean["data"], self._note)
        return to_json({"type": kind, "payload": clean})

    def _sized(self, encoded: bytes) -> bytes:
        if len(encoded) > self._size_limit:
            raise ValidationError(
                f"The event has {len(encoded)} bytes encoded, and batch_bytes allows {self._size_limit}: "
                "send less custom_data, or raise batch_bytes."
            )
        return encoded

    def _screened(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Let the user's `before_send` change a payload or keep it back."""
        if getattr(_inside, "before_send", False):
            return payload  # sent by before_send itself
        _inside.before_send = True
        try:
            screened = self._before_send(payload)  # type: ignore[misc]
        except Exception as error:
            raise DiscardedError(payload, f"before_send raised {type(error).__name__}: {error}") from error
        finally:
            _inside.before_send = False
        if screened is None:
            raise DiscardedError(payload, None)
        if not isinstance(screened, dict):
            raise DiscardedError(
                payload, f"before_send returned {type(screened).__name__}, neither a dict nor None"
            )
        return screened


class DiscardedError(Exception):
    """`before_send` kept an event back, or failed."""

    def __init__(self, payload: dict[str, Any], fault: str | None) -> None:
        super().__init__(fault)
        self.fault = fault
        try:
            self.encoded = to_json(payload, fallback=str)
        except (PydanticSerializationError, ValueError):
            self.encoded = b""


_inside = threading.local()


def _event_name(name: Any) -> str:
    if name is None or name == "" or (isinstance(name, str) and not name.strip()):
        raise ValidationError("The event_name is required.")
    return fields.limited("event_name", name, fields.NAME_LIMIT)


def _put(
    payload: dict[str, Any], key: str, value: Any, fit: Callable[[str, Note], str | None], note: Note
) -> None:
    """Put the fitted value, or leave the key out: Umami takes no nulls."""
    fitted = None if value is None else fit(fields.text(_ARGUMENTS.get(key, key), value), note)
    if fitted is None:
        payload.pop(key, None)
    else:
        payload[key] = fitted
