"""One event, from the arguments of a send to the bytes that go over the wire.

Most events need a few checks of type and length, and one encoding. An event that looks unusual (a long text,
an escape in the encoded bytes, a value that is not plain text or a number) is checked field by field, which
costs more and is rarely needed.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import time
from types import NoneType
from typing import Any, Final, Literal

from pydantic_core import PydanticSerializationError, from_json, to_json

from umami._user_agents import BROWSER_USER_AGENT
from umami.errors import ValidationError

from . import data as custom
from . import fields
from .data import is_plain
from .fields import FIELDS, Note
from .values import described, is_a

_REMEMBERED: Final = 4096
_BACKSLASH: Final = ord("\\")  # as a number it is looked for four times as fast
_DOUBTFUL: Final = frozenset("/\\\t\n\r")
# A name that begins with white space may be blank.
_UNUSUAL: Final = frozenset(fields.FORMULA).union(
    " \n\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000", map(chr, range(0x2000, 0x200B))
)

BeforeSend = Callable[[dict[str, Any]], Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Head:
    """The part that many events have in common, checked and encoded once.

    Attributes:
        kind: The event's type.
        encoded: The event's JSON from its beginning to the end of the common fields of its payload.
        encoded_direct: The same with an empty referrer, which most events have.
    """

    kind: str
    encoded: bytes
    encoded_direct: bytes


@dataclass(frozen=True, slots=True)
class Dropped:
    """What the encoder returns for an event that is not to be sent, because of `before_send`.

    Attributes:
        event: The encoded event, as it was before.
        fault: What went wrong; None if `before_send` dropped it on purpose.
        is_too_large: Whether `before_send` made it larger than a batch may be.
    """

    event: bytes
    fault: str | None = None
    is_too_large: bool = False

    def __bool__(self) -> Literal[False]:
        return False


class Encoder:
    """Checks and encodes events, with one set of defaults.

    Args:
        website_id: The default website.
        hostname: The default host name.
        size_limit: The most bytes that an encoded event may have.
        note: Called with the kind of each repair.
        before_send: The user's callback, which may change or drop a payload.
        common_data: Custom data of every event, as plain values.
    """

    def __init__(
        self,
        website_id: str | None,
        hostname: str | None,
        size_limit: int,
        note: Note,
        before_send: BeforeSend | None,
        common_data: Mapping[str, Any] | None = None,
    ) -> None:
        self._website_id = website_id
        self._hostname = hostname
        self._size_limit = size_limit
        self._note = note
        self._before_send = before_send
        self._common_data = common_data
        self._heads: dict[tuple[str | None, str | None, str, str], Head] = {}

    def event(
        self,
        *,
        name: str,
        title: str,
        url: str,
        data: Any,
        referrer: str,
        timestamp: Any,
        hostname: str | None,
        website_id: str | None,
        language: str,
        screen: str,
        distinct_id: str | int | None,
        ip_address: str | None,
        tag: str | None,
        ua: str | None,
        browser: str | None,
        os: str | None,
        device: str | None,
    ) -> bytes | Dropped:
        """Return an encoded event or page view.

        By name, although a call by position costs 3 % less: no type checker would notice swapped neighbours.

        Args:
            name: As given to the send; the rest likewise. Of a page view it is empty.
            title: See name.
            url: See name.
            data: The custom data; None for a page view.
            referrer: See name.
            timestamp: See name.
            hostname: See name.
            website_id: See name.
            language: See name.
            screen: See name.
            distinct_id: See name.
            ip_address: See name.
            tag: See name.
            ua: See name.
            browser: See name.
            os: See name.
            device: See name.

        Raises:
            ValidationError: A value that the program chose is not valid.
        """
        identity: str | None = None
        if distinct_id is not None:
            if type(distinct_id) is str and len(distinct_id) <= fields.DISTINCT_ID_LIMIT:
                identity = distinct_id.strip()
            else:
                identity = fields.distinct_id(distinct_id, self._note)
        try:
            head = self._heads[hostname, website_id, language, screen]
        except Exception:  # noqa: BLE001 - a hash of the caller's own may raise anything
            head = None
        if head is None:  # not in the `except`, which a refusal would be shown with
            head = self._head(hostname, website_id, language, screen)
        if data is not None:
            # 25 characters are 50 UTF-16 units at the most.
            if type(name) is not str or len(name) > 25 or not name or name[0] in _UNUSUAL:
                name = fields.event_name(name, self._note)
            if self._common_data:
                data = {**self._common_data, **custom.copied(data)}
        if (
            type(url) is not str
            or len(url) > 255
            or not url
            or url[0] != "/"
            or (len(url) > 1 and url[1] in _DOUBTFUL)
            or ("%" in url and ("%00" in url or not url.isprintable()))
        ):
            url = "/" if url is None else fields.url(url, self._note)
        if type(title) is not str or not title or len(title) > fields.VISITOR_LIMIT or "%00" in title:
            title = fields.title(title, self._note) or name
        payload: dict[str, Any] = {"title": title, "url": url}
        if data is not None:
            payload["name"] = name
        if identity:
            payload["id"] = identity
        is_direct = type(referrer) is str and not referrer
        if not is_direct:
            _put(payload, "referrer", referrer, self._note)
        if ip_address is not None:
            _put(payload, "ip", ip_address, self._note)
        if tag is not None:
            _put(payload, "tag", tag, self._note)
        if ua is not None and ua is not BROWSER_USER_AGENT:
            _put(payload, "userAgent", ua, self._note)
        if browser is not None:
            _put(payload, "browser", browser, self._note)
        if os is not None:
            _put(payload, "os", os, self._note)
        if device is not None:
            _put(payload, "device", device, self._note)
        payload["timestamp"] = int(time()) if timestamp is None else fields.timestamp(timestamp, self._note)
        encoded = self._encoded(head.encoded_direct if is_direct else head.encoded, payload, data)
        if self._before_send is not None or len(encoded) > self._size_limit:
            return self._screened(head, encoded)
        return encoded

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
    ) -> bytes | Dropped:
        """Return an encoded `identify` record. Arguments and errors are as with `event`."""
        identity = fields.distinct_id(distinct_id, self._note)
        site = self._site(hostname, website_id)
        if identity is None:
            raise ValidationError("The distinct_id is required.")
        payload: dict[str, Any] = {"id": identity, "data": data}
        _put(payload, "ip", ip_address, self._note)
        _put(payload, "userAgent", ua, self._note)
        payload["timestamp"] = int(time()) if timestamp is None else fields.timestamp(timestamp, self._note)
        head = _make_head("identify", _scrubbed(site, self._note))
        return self._screened(head, self._encoded(head.encoded, payload, data))

    def _head(self, hostname: Any, website_id: Any, language: Any, screen: Any) -> Head:
        """Check and encode the fields that many events have in common, and remember the result."""
        repairs: list[str] = []

        def note(repair: str, _detail: str = "") -> None:
            repairs.append(repair)

        common = self._site(hostname, website_id)
        _put(common, "language", language, note)
        _put(common, "screen", screen, note)
        head = _make_head("event", _scrubbed(common, note))
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
        host = fields.hostname(host, self._note)
        website = _text_or(self._website_id, "website_id", website_id)
        if not website:
            raise ValidationError(
                "The website_id must be set, either as a parameter here or via set_website_id()."
            )
        return {"hostname": host, "website": fields.website_id(website, self._note)}

    def _encoded(self, head: bytes, payload: dict[str, Any], data: Any) -> bytes:
        """Encode an event. Its custom data, if any, is checked and put into the payload here."""
        if data is not None:
            # A copy is made in one step: another thread may be changing the caller's own.
            if type(data) is dict and is_plain(copy := data.copy()):
                payload["data"] = data = copy
            else:
                payload["data"] = data = custom.fit(data, self._note)
            if "commerce" in data:
                self._note("data_commerce")
        try:
            encoded: bytes | None = b"".join((head, to_json(payload)[1:], b"}"))
        except (PydanticSerializationError, ValueError):
            encoded = None  # a lone surrogate, which UTF-8 cannot encode
        if encoded is None or (_BACKSLASH in encoded and b"\\u0000" in encoded):
            clean = _scrubbed(payload, self._note)
            if "data" in clean:
                clean["data"] = custom.fit(clean["data"], self._note)
            encoded = b"".join((head, to_json(clean)[1:], b"}"))
        return encoded

    def _too_large(self, encoded: bytes) -> str:
        return (
            f"The event has {len(encoded)} bytes encoded, and batch_bytes allows {self._size_limit}: "
            "send less custom_data, or raise batch_bytes."
        )

    def _screened(self, head: Head, encoded: bytes) -> bytes | Dropped:
        """Encode what the user's `before_send` makes of an event, if there is one.

        It gets the payload as it would go out, decoded again: plain values that it may change, and nothing
        of the caller's own.

        Raises:
            ValidationError: The event is too large.
        """
        size, before_send = len(encoded), self._before_send
        if before_send is not None and not _is_running(before_send):
            payload = from_json(encoded)["payload"]
            before = payload.copy()
            try:
                with _running(before_send):
                    returned = before_send(payload)
                if returned is None:
                    return Dropped(encoded)
                fitted = self._fitted(returned, before)
                screened = self._encoded(_make_head(head.kind, {}).encoded, fitted, fitted.get("data"))
            except Exception as error:  # noqa: BLE001
                return Dropped(encoded, f"before_send failed: {described(error)}")
            if size <= self._size_limit < len(screened):
                return Dropped(encoded, f"before_send returned too much. {self._too_large(screened)}", True)
            encoded = screened
        if len(encoded) > self._size_limit:
            raise ValidationError(self._too_large(encoded))
        return encoded

    def _fitted(self, returned: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
        """Make the payload that `before_send` returned fit, as the arguments of a send are.

        Texts that are as they were `before` fit already.
        """
        if not is_a(returned, Mapping):
            raise ValidationError(f"it returned {type(returned).__name__}, neither a mapping nor None.")
        payload: dict[str, Any] = {}
        for key, value in custom.items_of(returned):
            if value is None:
                continue  # Umami takes no nulls
            if key == "data" or (type(value) is str and value == before.get(key)):
                payload[key] = value
            elif key in FIELDS:
                _put(payload, key, value, self._note)
            else:
                payload.update(custom.fit({key: value}, self._note, field="payload"))
        return payload


_Calls = tuple[list[BeforeSend], ...]
_calls: Final[ContextVar[_Calls]] = ContextVar("umami.before_send", default=())


def _is_running(before_send: BeforeSend) -> bool:
    """Tell whether this is within a call of a `before_send`: an event that it sends is not passed to it.

    A context belongs to one thread, task or greenlet, whenever gevent patched what.
    """
    return any(running is before_send for call in _calls.get() for running in call)


@contextmanager
def _running(before_send: BeforeSend) -> Iterator[None]:
    call = [before_send]
    token = _calls.set((*_calls.get(), call))
    try:
        yield
    finally:
        # A task that it started has a copy of the context, and may outlive the call.
        call.clear()
        _calls.reset(token)


def _make_head(kind: str, common: dict[str, str]) -> Head:
    members = to_json(common)[1:-1]
    encoded = b'{"type":"%b","payload":{%b%b' % (kind.encode(), members, b"," if members else b"")
    return Head(kind, encoded, encoded + b'"referrer":"",')


def _scrubbed(payload: dict[str, Any], note: Note) -> dict[str, Any]:
    clean = {
        key: fields.scrubbed(value) if isinstance(value, str) else value for key, value in payload.items()
    }
    if clean != payload:
        note("unprintable")
    return clean


def _text_or(default: str | None, field: str, value: Any) -> str | None:
    """Return an argument, which must be a string; the default if it is empty or left out."""
    return default if value is None else fields.text(field, value) or default


def _put(payload: dict[str, Any], key: str, value: Any, note: Note) -> None:
    """Put a field such that it fits, or leave it out."""
    fitted = None if value is None else FIELDS[key](value, note)
    if fitted is None:
        payload.pop(key, None)
    else:
        payload[key] = fitted
