"""Processes an event: from its payload to the rows to store, with every error that Umami may answer.

The steps are in Umami's order: session, event, custom data, revenue. The order decides what is stored if a
step fails: the event stays stored if its custom data or its revenue fails.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from hmac import new as hmac
from typing import Any, Final
from urllib.parse import parse_qsl

from umami._user_agents import is_bot
from umami.collector import replies, rules, urls, visitors
from umami.collector.generations import Generation
from umami.collector.javascript import MAX_DATE_MS, calendar, cut, decode_uri, decode_uri_component, to_number
from umami.collector.records import MAX_NUMBER, EventType, Property, flatten, head
from umami.collector.replies import Json, ServerError
from umami.collector.store import UTM_COLUMNS, Row, Rows, Store

_PAGE_COLUMNS = (
    "name",
    "title",
    "hostname",
    "tag",
    "url_path",
    "url_query",
    "referrer_domain",
    "referrer_path",
    "referrer_query",
)
_TEXT_COLUMNS = ("name", "title", "hostname", "tag", "url_path", "referrer_domain", "referrer_path")
"""The columns in which U+0000 may appear, as sent or after percent-decoding."""

_CLICK_IDS = ("gclid", "fbclid", "msclkid", "ttclid", "li_fat_id", "twclid")
_WIDTHS: Final = {"browser": 20, "os": 20, "device": 20, "distinct_id": 50}
_URL_UNITS: Final = 500
_NAME_UNITS: Final = 50
_AWAY_CODES: Final = ("P1001", "P1017")
_COUNTRY_CHARACTERS: Final = 2
_CAMPAIGN_CHARACTERS: Final = 255
_DATA_CHARACTERS: Final = 500
_FIRST_MS: Final = -62_135_596_800_000
_FIRST_ZONE_YEAR: Final = -100
"""In years up to this one, PostgreSQL reads the minus as the beginning of a time zone."""

_VISIT_SECONDS: Final = 1800
_DECIMAL = re.compile(r"\d+(\.\d*)?(e\d+)?", re.ASCII)


@dataclass(frozen=True)
class Context:
    """A request without its body: its headers, by lower-case name, and the client's address."""

    headers: Mapping[str, str]
    peer: str


class ServerDiedError(Exception):
    """An early Umami crashes here. The connection is cut; the server is back at once, as in a container."""


class Ingest:
    """Umami's ``/api/send``, for one event at a time.

    Args:
        store: Holds the websites.
        secret: The key for session ids and cache tokens.
        generation: The version of Umami to answer as.
        auto_register: Register a website when its first event arrives.
        geo_database: Whether there is a GeoIP database. Without one, a public address is answered with 500.
    """

    def __init__(
        self,
        store: Store,
        *,
        secret: str,
        generation: Generation,
        auto_register: bool = True,
        geo_database: bool = True,
    ) -> None:
        self._store = store
        self._secret = secret
        self._generation = generation
        self._auto_register = auto_register
        self._geo_database = geo_database

    def send(self, body: Any, context: Context, rows: Rows) -> Json:
        """Processes one event.

        Args:
            body: The parsed body of ``/api/send``, or an item of a batch.
            context: Its request.
            rows: Gets the rows to store.

        Returns:
            The reply in the form of Umami 3. `replies.status_of` returns its status.

        Raises:
            ServerDiedError: The server crashes.
        """
        if self._generation.judges_header_first and self._is_bot(context.headers.get("user-agent", "")):
            return {"beep": "boop"}
        body = self._known_fields(body)
        wrong = self._check(body)
        if wrong is not None:
            return replies.bad_request(**wrong)
        try:
            return self._handle(body["type"], _without_prototype(body["payload"]), context, rows)
        except ServerError as error:
            return replies.server_error(error.error_object)

    def failure(self, error_object: Json) -> Json:
        """Returns the reply to an event if the database fails with this exception."""
        if error_object.get("code") in _AWAY_CODES:
            return self._session_failed(error_object)
        return replies.server_error(error_object)

    def _is_bot(self, user_agent: str) -> bool:
        return is_bot(user_agent) or (self._generation.clients_are_bots and "client" in user_agent.lower())

    def _known_fields(self, body: Any) -> Any:
        """Returns the body without the fields that this version ignores, and with their names in 3.1."""
        if not isinstance(body, dict) or not isinstance(body.get("payload"), dict):
            return body
        payload = body["payload"]
        if self._generation.send_path == "/api/collect":
            payload = {**payload, "name": payload.get("event_name"), "data": payload.get("event_data")}
            body = {**body, "type": "event"}
        return {
            **body,
            "payload": {
                name: value
                for name, value in payload.items()
                if name not in self._generation.ignored_fields
                and not (
                    value is None
                    and (not self._generation.validates or name in self._generation.null_is_absent)
                )
            },
        }

    def _check(self, body: Any) -> Json | None:
        """Returns what is wrong with a body, as the details of a 400, or None."""
        if self._generation.validates:
            wrong = rules.check_send(body, self._generation)
            if wrong is None and body["type"] == "identify" and self._generation.needs_identify_data:
                return None if body["payload"].get("data") is not None else {"message": "Data required."}
            return wrong
        if not isinstance(body, dict) or body.get("type") not in self._generation.types:
            return {"message": "Wrong payload type."}
        payload = body.get("payload")
        if not isinstance(payload, dict) or rules.uuid(payload.get("website")) is not None:
            return {"message": "Session not found."}
        if not isinstance(payload.get("data", {}), dict):
            return {"message": "Invalid event data."}
        return None

    def _handle(self, kind: str, payload: Json, context: Context, rows: Rows) -> Json:
        generation = self._generation
        if self._store.is_away:
            return self._session_failed(replies.database_away())
        website = payload.get("website")
        cache = self._read_cache(context.headers.get("x-umami-cache")) if website else {}
        if website and not cache and not self._known(website, payload):
            return self._unknown_website(website)
        visitor = visitors.identify(
            payload, context.headers, context.peer, device_by_screen=generation.device_by_screen
        )
        is_located = visitors.is_local(visitor.ip) or (
            not payload.get("ip") and visitors.has_country(context.headers)
        )
        if not self._geo_database and not is_located:
            return self._session_failed(replies.no_geo_database())
        if not generation.judges_header_first and self._is_bot(visitor.user_agent):
            return {"beep": "boop"}

        source: str = website or payload.get("pixel") or payload["link"]
        now = time.time()
        at_ms = int(to_number(payload.get("timestamp"))) * 1000 or int(now * 1000)
        by_host = f"{source}\n{payload.get('hostname')}" if generation.sessions_by_host else source
        since = at_ms if generation.sessions_end else None
        session = visitors.session_id(self._secret, by_host, visitor, payload.get("id"), since)
        row: Row = {
            "website_id": source.lower(),
            "session_id": session,
            "timestamp": at_ms / 1000,
            "ip": visitor.ip,
            "user_agent": visitor.user_agent,
            "browser": visitor.browser,
            "os": visitor.os,
            "device": visitor.device,
            "screen": payload.get("screen"),
            "language": payload.get("language"),
            "distinct_id": payload.get("id"),
        }
        if not cache:
            try:
                self._check_session(row, payload, at_ms)
            except ServerError as error:
                return self._session_failed(error.error_object)
            rows.sessions.append(row)
        visit: str = cache.get("visitId") or visitors.visit_id(self._secret, session, at_ms)
        started: int = cache.get("iat") or int(now)
        if "timestamp" not in payload and now - started > _VISIT_SECONDS:
            visit, started = visitors.visit_id(self._secret, session, at_ms), int(now)

        row |= {"visit_id": visit}
        if kind == "identify":
            _add_identity(row, payload, rows)
        elif kind == "performance":
            _add_performance(row, payload, rows)
        else:
            self._add_event(row, payload, rows)
        token = {"websiteId": website} if website else {}
        token |= {"sessionId": session, "visitId": visit, "iat": started}
        return {"cache": self._sign(token), "sessionId": session, "visitId": visit}

    def _known(self, website: str, payload: Json) -> bool:
        if not self._store.has_website(website):
            if not self._auto_register:
                return False
            domain = payload.get("hostname") or "localhost"
            self._store.add_website(domain, domain, website)
        return True

    def _unknown_website(self, website: str) -> Json:
        status = self._generation.unknown_website
        if not status:
            raise ServerDiedError
        if self._generation.errors == "text":
            return replies.error(status, "not-found", f"Website not found: {website}.")
        return replies.error(status, "bad-request", "Website not found.")

    def _session_failed(self, error_object: Json) -> Json:
        """Returns the reply if the database fails before the event is stored; early versions crash."""
        status = self._generation.session_failure
        if not status:
            raise ServerDiedError
        if self._generation.errors == "text":
            return replies.error(status, "database", error_object["message"])
        return replies.server_error(error_object)

    def _check_session(self, row: Row, payload: Json, at_ms: int) -> None:
        """Raises the error of storing the session, if it would fail."""
        _check_session(row, at_ms)
        user_agent = payload.get("userAgent", "")
        if (
            self._generation.puts_user_agent_into_country
            and len(user_agent) > _COUNTRY_CHARACTERS
            and not self._store.has_session(row["session_id"])
        ):
            raise ServerError(replies.too_long("Session", "session.create", _COUNTRY_CHARACTERS))

    def _add_event(self, row: Row, payload: Json, rows: Rows) -> None:
        generation = self._generation
        row |= _split_page(payload) if generation.splits_url else _page(payload, generation)
        _refuse_nul(row[column] for column in _TEXT_COLUMNS)
        if row["title"] is not None and len(row["title"]) > _URL_UNITS:
            if not generation.cuts_title:
                raise ServerError(replies.too_long("WebsiteEvent", "websiteEvent.create", _URL_UNITS))
            row["title"] = cut(row["title"], _URL_UNITS)
        if generation.drops_tag:
            row["tag"] = None
        data = payload.get("data")
        if data is not None and not generation.stores_before_data:
            _check_data(data, generation)
        row |= {"id": str(uuid.uuid4()), "data": None}
        rows.events.append(row)
        if data is None:
            return
        _check_data(data, generation)
        row["data"] = json.dumps(data)
        if generation.stores_before_data:
            _check_revenue(data, row["name"], generation.max_currency)

    def _sign(self, content: Json) -> str:
        head = urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")
        body = urlsafe_b64encode(json.dumps(content, separators=(",", ":")).encode()).rstrip(b"=")
        signature = hmac(self._secret.encode(), head + b"." + body, sha256).digest()
        return b".".join((head, body, urlsafe_b64encode(signature).rstrip(b"="))).decode()

    def _read_cache(self, token: str | None) -> Json:
        if not token:
            return {}
        try:
            content: Json = json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))
        except (IndexError, ValueError):
            return {}
        return content if compare_digest(self._sign(content), token) else {}


def _without_prototype(payload: Json) -> Json:
    """Removes ``__proto__`` from the custom data, as Umami's validation does."""
    if "__proto__" not in payload.get("data", ()):
        return payload
    data = {key: value for key, value in payload["data"].items() if key != "__proto__"}
    return payload | {"data": data}


def _check_session(row: Row, at_ms: int) -> None:
    """Raises the error of storing the session, if it would fail."""
    if not _FIRST_MS <= at_ms <= MAX_DATE_MS:
        raise ServerError(replies.session_refused(*_bad_timestamp(at_ms)))
    for column in ("browser", "os", "device", "screen", "language", "distinct_id"):
        text = row[column] or ""
        if "\0" in text:
            message = 'invalid byte sequence for encoding "UTF8": 0x00'
            raise ServerError(replies.session_refused("22021", "postgres", message))
        width = _WIDTHS.get(column)
        if width is not None and len(text) > width:
            message = f"value too long for type character varying({width})"
            raise ServerError(replies.session_refused("22001", "LengthMismatch", message))


def _bad_timestamp(at_ms: int) -> tuple[str, str, str]:
    """Returns PostgreSQL's SQL state, kind and message for a timestamp that it cannot read."""
    code, message, text = (
        "22007",
        "invalid input syntax for type timestamp with time zone",
        "0NaN-NaN-NaN NaN:NaN:NaN",
    )
    if abs(at_ms) <= MAX_DATE_MS:
        year, moment = calendar(at_ms)
        text = f"{year!s:0>4}-{moment:%m-%d %H:%M:%S}"
        if year == 0:
            code, message = "22008", "date/time field value out of range"
        elif year <= _FIRST_ZONE_YEAR:
            code, message = "22009", "time zone displacement out of range"
    return code, "postgres", f'{message}: "{text}"'


def _add_identity(row: Row, payload: Json, rows: Rows) -> None:
    data = payload.get("data")
    if data is None:
        return
    if not payload.get("website") and data:
        raise ServerError(replies.invalid_argument("sessionData.create", "Argument `website` is missing."))
    properties = list(flatten(data))
    _check_dates(properties)
    for stored, prop in enumerate(properties):
        operation = "create" if len(prop.key) > _DATA_CHARACTERS else "updateMany"
        error = _property_error(prop, "SessionData", f"sessionData.{operation}")
        if error is not None:
            # Umami stores the properties one by one. Those before this one stay stored.
            if stored:
                rows.identities.append(row | {"data": json.dumps(head(data, stored))})
            raise ServerError(error)
    rows.identities.append(row | {"data": json.dumps(data)})


def _add_performance(row: Row, payload: Json, rows: Rows) -> None:
    url = _resolve(payload.get("url", "undefined"), _base(payload))
    row |= dict.fromkeys((*_PAGE_COLUMNS, *UTM_COLUMNS, "data"))
    row |= {
        "id": str(uuid.uuid4()),
        "type": EventType.PERFORMANCE,
        "title": _title(payload),
        "url_path": cut("" if url.path == "/undefined" else url.path, _URL_UNITS),
    }
    _refuse_nul((row["title"],))
    rows.events.append(row)


def _base(payload: Json) -> str:
    return f"https://{payload.get('hostname') or 'localhost'}"


def _title(payload: Json) -> str | None:
    title = payload.get("title")
    return None if title is None else cut(decode_uri_component(title), _URL_UNITS)


def _split_page(payload: Json) -> Row:
    """Does the same as `_page`, for versions without hosts, tags, campaigns and parsed URLs."""
    path, _, query = decode_uri(payload.get("url") or "").partition("?")
    referrer = payload.get("referrer") or ""
    referrer_path, _, referrer_query = decode_uri(referrer).partition("?")
    referrer_domain = ""
    if referrer_path.startswith("http"):
        parsed = _resolve(referrer, None)
        referrer_domain, referrer_path = parsed.hostname.replace("www.", "", 1), parsed.path
        referrer_query = parsed.query
    name, title = payload.get("name"), payload.get("title")
    return {
        "type": EventType.CUSTOM_EVENT if name else EventType.PAGE_VIEW,
        "name": cut(name, _NAME_UNITS) if name else None,
        "title": None if title is None else decode_uri(title),
        "hostname": payload.get("hostname") or "",
        "tag": payload.get("tag"),
        "url_path": cut(path or "/", _URL_UNITS),
        "url_query": cut(query, _URL_UNITS),
        "referrer_domain": cut(referrer_domain, _URL_UNITS),
        "referrer_path": cut(referrer_path, _URL_UNITS),
        "referrer_query": cut(referrer_query, _URL_UNITS),
        **dict.fromkeys(UTM_COLUMNS),
    }


def _page(payload: Json, generation: Generation) -> Row:
    """Returns the columns of an event that come from its URL, referrer, title, name and tag."""
    base = _base(payload)
    url = _resolve(payload.get("url", "undefined"), base)
    path = url.path
    if generation.reads_campaigns:
        path = "" if url.path == "/undefined" else url.path + (f"#{url.fragment}" if url.fragment else "")
    row: Row = dict.fromkeys(_PAGE_COLUMNS)
    row |= {
        "type": _event_type(payload),
        "name": payload.get("name") or None,
        "title": _title(payload),
        "hostname": payload.get("hostname") or url.hostname.removeprefix("www."),
        "tag": payload.get("tag"),
        "url_path": cut(decode_uri(path), _URL_UNITS),
        "url_query": cut(url.query, _URL_UNITS),
    }
    if payload.get("referrer"):
        referrer = _resolve(payload["referrer"], base)
        row["referrer_domain"] = cut(referrer.hostname.removeprefix("www."), _URL_UNITS)
        row["referrer_path"] = cut(decode_uri(referrer.path), _URL_UNITS)
        row["referrer_query"] = cut(referrer.query, _URL_UNITS)
    has_campaign = generation.reads_campaigns and "=" in url.query
    query = dict(reversed(parse_qsl(url.query, keep_blank_values=True))) if has_campaign else {}
    row |= {name: query.get(name) for name in UTM_COLUMNS}
    for name in (*UTM_COLUMNS, *_CLICK_IDS):
        value = query.get(name, "")
        _refuse_nul((value,))
        if len(value) > _CAMPAIGN_CHARACTERS:
            raise ServerError(replies.too_long("WebsiteEvent", "websiteEvent.create", _CAMPAIGN_CHARACTERS))
    return row


def _resolve(address: str, base: str | None) -> urls.URL:
    try:
        return urls.parse(address, base)
    except urls.InvalidURLError as error:
        raise ServerError(replies.invalid_url(address, base or "")) from error


def _event_type(payload: Json) -> EventType:
    if payload.get("link"):
        return EventType.LINK
    if payload.get("pixel"):
        return EventType.PIXEL
    return EventType.CUSTOM_EVENT if payload.get("name") else EventType.PAGE_VIEW


def _refuse_nul(texts: Any) -> None:
    if any(text and "\0" in text for text in texts):
        raise ServerError(replies.nul_byte())


def _check_data(data: Json, generation: Generation) -> None:
    """Raises the error of storing an event's custom data, if it would fail."""
    model, operation = "EventData", "eventData.createMany"
    properties = list(flatten(data))
    if not generation.stores_booleans and any(prop.type == "boolean" for prop in properties):
        raise ServerError(
            replies.invalid_argument(operation, "Argument stringValue: Got invalid value true.")
        )
    _check_dates(properties)
    for prop in properties:
        error = _property_error(prop, model, operation)
        if error is not None:
            raise ServerError(error)


def _check_dates(properties: Iterable[Property]) -> None:
    """Raises Umami's error for a text that only looks like a date. No property is stored then."""
    if any(prop.type == "date" and prop.date is None for prop in properties):
        raise ServerError(replies.invalid_date())


def _property_error(prop: Property, model: str, operation: str) -> Json | None:
    """Returns the error of storing a property of custom data, or None."""
    if "\0" in prop.key or "\0" in prop.text:
        return replies.nul_byte()
    if len(prop.key) > _DATA_CHARACTERS or len(prop.text) > _DATA_CHARACTERS:
        return replies.too_long(model, operation, _DATA_CHARACTERS)
    if prop.number is not None and abs(prop.number) >= MAX_NUMBER:
        return replies.out_of_range(model, operation)
    return None


def _check_revenue(data: Json, name: str | None, max_currency: int) -> None:
    """Raises the error of storing the revenue, if it would fail. The event is stored already."""
    revenue, currency = data.get("revenue"), data.get("currency")
    if not currency or not to_number(revenue) > 0:
        return
    operation, problem = "revenue.create", ""
    if isinstance(revenue, (bool, list)):
        problem = "Argument `revenue`: Invalid value provided. Expected Decimal or Null."
    elif isinstance(revenue, str) and not _DECIMAL.fullmatch(revenue):
        problem = (
            "Invalid value for argument `revenue`: invalid digit found in string. Expected decimal String."
        )
    elif not isinstance(currency, str):
        problem = "Argument `currency`: Invalid value provided. Expected String."
    elif name is None:
        problem = "Argument `eventName` is missing."
    if problem:
        raise ServerError(replies.invalid_argument(operation, problem))
    _refuse_nul((currency,))
    if len(currency) > max_currency:
        raise ServerError(replies.too_long("Revenue", operation, max_currency))
