"""One event, from the arguments of a send to the bytes that go over the wire.

Most events need a few checks of type and length, and one encoding. An event that looks unusual (a long text,
an escape in the encoded bytes, a value that is not plain text or a number) is checked field by field, which
costs more and is rarely needed.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import time
from types import NoneType
from typing import Any, Final

from pydantic_core import PydanticSerializationError, to_json

from umami._user_agents import BROWSER_USER_AGENT
from umami.errors import ValidationError

from . import data as custom
from . import fields
from .data import is_plain
from .fields import Note

_REMEMBERED: Final = 4096
_BACKSLASH: Final = ord("\\")  # as a number it is looked for four times as fast
_DOUBTFUL: Final = frozenset("/\\\t\n\r")
# Umami 3.3 and later refuse a name or a tag that a spreadsheet would take for a formula.
_FORMULA: Final = frozenset("=+-@\t\r")
# A name that begins with white space may be blank.
_UNUSUAL: Final = _FORMULA.union(
    " \n\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000", map(chr, range(0x2000, 0x200B))
)
_ARGUMENTS: Final = {"ip": "ip_address"}

BeforeSend = Callable[[dict[str, Any]], dict[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Head:
    """The part that many events have in common, checked and encoded once.

    Attributes:
        kind: The event's type.
        fields: Fields of its payload.
        encoded: The event's JSON from its beginning to the end of those fields.
    """

    kind: str
    fields: dict[str, str]
    encoded: bytes


class Encoder:
    """Checks and encodes events, with one set of defaults.

    Args:
        website_id: The default website.
        hostname: The default host name.
        size_limit: The most bytes that an encoded event may have.
        note: Called with the kind of each repair.
        before_send: The user's callback, which may change or drop a payload.
        kept_back: Called with an event that `before_send` dropped, and what went wrong; None if that was on
            purpose.
    """

    def __init__(
        self,
        website_id: str | None,
        hostname: str | None,
        size_limit: int,
        note: Note,
        before_send: BeforeSend | None,
        kept_back: Callable[[bytes, str | None], object],
    ) -> None:
        self._website_id = website_id
        self._hostname = hostname
        self._size_limit = size_limit
        self._note = note
        self._before_send = before_send
        self._kept_back = kept_back
        self._heads: dict[tuple[str | None, str | None, str, str], Head] = {}

    def event(
        self,
        payload: dict[str, Any],
        /,
        *,
        hostname: str | None,
        website_id: str | None,
        language: str,
        screen: str,
        ip_address: str | None,
        distinct_id: str | int | None,
        tag: str | None,
        ua: str | None,
    ) -> bytes:
        """Return an encoded event or page view, or empty bytes if `before_send` dropped it.

        Args:
            payload: Its `title`, `url`, `referrer` and `timestamp`; for an event `name` and `data` too. It
                is changed.
            hostname: As given to the send; the rest likewise.
            website_id: See hostname.
            language: See hostname.
            screen: See hostname.
            ip_address: See hostname.
            distinct_id: See hostname.
            tag: See hostname.
            ua: See hostname.

        Raises:
            ValidationError: A value that the program chose is not valid.
        """
        if distinct_id is not None:
            if type(distinct_id) is str and len(distinct_id) <= fields.DISTINCT_ID_LIMIT:
                identity: str | None = distinct_id.strip()
            else:
                identity = fields.distinct_id(distinct_id, self._note)
            if identity:
                payload["id"] = identity
        try:
            head = self._heads[hostname, website_id, language, screen]
        except Exception:  # noqa: BLE001 - a hash of the caller's own may raise anything
            head = None
        if head is None:  # not in the `except`, which a refusal would be shown with
            head = self._head(hostname, website_id, language, screen)
        if "name" in payload:
            name = payload["name"]
            # 25 characters are 50 UTF-16 units at the most.
            if type(name) is not str or len(name) > 25 or not name or name[0] in _UNUSUAL:
                payload["name"] = self._unlike_formula("event_name", _event_name(name))
        url = payload["url"]
        if (
            type(url) is not str
            or len(url) > 255
            or not url
            or url[0] != "/"
            or (len(url) > 1 and url[1] in _DOUBTFUL)
            or ("%" in url and ("%00" in url or not url.isprintable()))
        ):
            payload["url"] = "/" if url is None else fields.url(fields.text("url", url), self._note)
        title = payload["title"]
        if type(title) is not str or not title or len(title) > fields.VISITOR_LIMIT or "%00" in title:
            title = fields.title(fields.text("title", title), self._note)
            payload["title"] = title or payload.get("name", "")
        referrer = payload["referrer"]
        if type(referrer) is not str or referrer:
            _put(payload, "referrer", referrer, fields.referrer, self._note)
        if tag is not None and (label := fields.limited("tag", tag, fields.NAME_LIMIT)):
            payload["tag"] = self._unlike_formula("tag", label)
        if ip_address is not None or (ua is not None and ua is not BROWSER_USER_AGENT):
            self._add_visitor(payload, ip_address, ua)
        timestamp = payload["timestamp"]
        payload["timestamp"] = int(time()) if timestamp is None else fields.timestamp(timestamp)
        return self._encode(head, payload)

    def identity(
        self,
        distinct_id: str | int,
        data: Any,
        *,
        hostname: str | None,
        website_id: str | None,
        ip_address: str | None,
        timestamp: Any,
        ua: str | None,
    ) -> bytes:
        """Return an encoded `identify` record. Arguments and errors are as with `event`."""
        identity = fields.distinct_id(distinct_id, self._note)
        site = self._site(hostname, website_id)
        if identity is None:
            raise ValidationError("The distinct_id is required.")
        payload: dict[str, Any] = {"id": identity, "data": data}
        self._add_visitor(payload, ip_address, ua)
        payload["timestamp"] = int(time()) if timestamp is None else fields.timestamp(timestamp)
        return self._encode(_make_head("identify", _scrubbed(site, self._note)), payload)

    def _unlike_formula(self, field: str, value: str) -> str:
        if value[0] in _FORMULA:
            self._note(f"formula_{field}")
        return value

    def _head(self, hostname: Any, website_id: Any, language: Any, screen: Any) -> Head:
        """Check and encode the fields that many events have in common, and remember the result."""
        repairs: list[str] = []
        common = self._site(hostname, website_id)
        _put(common, "language", language, fields.language, repairs.append)
        _put(common, "screen", screen, fields.screen, repairs.append)
        head = _make_head("event", _scrubbed(common, repairs.append))
        for repair in repairs:
            self._note(repair)
        key = (hostname, website_id, language, screen)
        # Repaired fields are not remembered, so that each counts. Nor are keys with their own `__eq__`.
        if not repairs and all(type(part) in (str, NoneType) for part in key):
            if len(self._heads) >= _REMEMBERED:
                self._heads.clear()
            self._heads[key] = head
        return head

    def _site(self, hostname: Any, website_id: Any) -> dict[str, str]:
        host = _text_or(self._hostname, "hostname", hostname)
        if not host:
            raise ValidationError(
                "The hostname must be set, either as a parameter here or via set_hostname()."
            )
        host = fields.hostname(host)
        website = _text_or(self._website_id, "website_id", website_id)
        if not website:
            raise ValidationError(
                "The website_id must be set, either as a parameter here or via set_website_id()."
            )
        return {"hostname": host, "website": website}

    def _add_visitor(self, payload: dict[str, Any], ip_address: str | None, ua: str | None) -> None:
        if type(ip_address) is str and fields.is_ipv4(ip_address):
            payload["ip"] = ip_address
        elif ip_address is not None:
            _put(payload, "ip", ip_address, fields.ip_address, self._note)
        agent = (ua if type(ua) is str else _text_or(None, "ua", ua) or "").strip()
        if agent and agent != BROWSER_USER_AGENT:
            payload["userAgent"] = fields.user_agent(agent, self._note)

    def _encode(self, head: Head, payload: dict[str, Any]) -> bytes:
        if self._before_send is not None and not getattr(_inside, "before_send", False):
            return self._encode_screened(self._before_send, {**payload, **head.fields}, head.kind)
        if "data" in payload:
            data = payload["data"]
            # A copy is made in one step: another thread may be changing the caller's own.
            if type(data) is dict and is_plain(copy := data.copy()):
                payload["data"] = data = copy
            elif data is not None:
                payload["data"] = data = custom.fit(data, self._note)
            if data and "commerce" in data:
                self._note("data_commerce")
        try:
            encoded = b"".join((head.encoded, to_json(payload)[1:], b"}"))
        except (PydanticSerializationError, ValueError):
            # A lone surrogate, which UTF-8 cannot encode.
            encoded = self._encode_scrubbed(head, payload)
        else:
            if _BACKSLASH in encoded and b"\\u0000" in encoded:
                encoded = self._encode_scrubbed(head, payload)
        if len(encoded) > self._size_limit:
            raise ValidationError(
                f"The event has {len(encoded)} bytes encoded, and batch_bytes allows {self._size_limit}: "
                "send less custom_data, or raise batch_bytes."
            )
        return encoded

    def _encode_scrubbed(self, head: Head, payload: dict[str, Any]) -> bytes:
        clean = _scrubbed(payload, self._note)
        if "data" in clean:
            clean["data"] = custom.fit(clean["data"], self._note)
        return b"".join((head.encoded, to_json(clean)[1:], b"}"))

    def _encode_screened(self, before_send: BeforeSend, payload: dict[str, Any], kind: str) -> bytes:
        """Encode the payload that the user's `before_send` returns. If it raises, the event is dropped."""
        _inside.before_send = True  # events that it sends are not passed to it
        try:
            screened = before_send(payload)
            if isinstance(screened, dict):
                return self._encode(_make_head(kind, {}), screened)
            fault = None
            if screened is not None:
                fault = f"before_send returned {type(screened).__name__}, neither a dict nor None."
        except Exception as error:  # noqa: BLE001
            fault = f"before_send failed: {type(error).__name__}: {error}"
        finally:
            _inside.before_send = False
        self._kept_back(_shown(payload), fault)
        return b""


def _shown(payload: dict[str, Any]) -> bytes:
    """Encode a payload for a report, whatever `before_send` did to it."""
    try:
        return to_json(payload, fallback=str)
    except Exception:  # noqa: BLE001
        return b""


def _make_head(kind: str, common: dict[str, str]) -> Head:
    members = to_json(common)[1:-1]
    return Head(
        kind, common, b'{"type":"%b","payload":{%b%b' % (kind.encode(), members, b"," if members else b"")
    )


def _scrubbed(payload: dict[str, Any], note: Note) -> dict[str, Any]:
    clean = {
        key: fields.scrubbed(value) if isinstance(value, str) else value for key, value in payload.items()
    }
    if clean != payload:
        note("unprintable")
    return clean


_inside = threading.local()


def _text_or(default: str | None, field: str, value: Any) -> str | None:
    """Return an argument, which must be a string; the default if it is empty or left out."""
    return default if value is None else fields.text(field, value) or default


def _event_name(name: Any) -> str:
    if name is None or not fields.text("event_name", name).strip():
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
