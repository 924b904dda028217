"""What an event is in the database: the columns of its row, and what the database refuses to store.

A function whose step would fail in Umami raises its `ServerError`.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import parse_qsl

from umami.collector import replies, urls
from umami.collector.generations import Generation
from umami.collector.javascript import MAX_DATE_MS, calendar, cut, decode_uri, decode_uri_component, to_number
from umami.collector.records import MAX_NUMBER, EventType, Property, flatten, head
from umami.collector.replies import Json, ServerError
from umami.collector.store import UTM_COLUMNS, Row, Rows

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
_CAMPAIGN_CHARACTERS: Final = 255
_DATA_CHARACTERS: Final = 500
_FIRST_MS: Final = -62_135_596_800_000
_FIRST_ZONE_YEAR: Final = -100
"""In years up to this one, PostgreSQL reads the minus as the beginning of a time zone."""

_DECIMAL = re.compile(r"\d+(\.\d*)?(e\d+)?", re.ASCII)


def check_session(row: Row, at_ms: int) -> None:
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


def add_identity(row: Row, payload: Json, rows: Rows) -> None:
    """Adds the row of an ``identify`` call, if it has data."""
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


def add_performance(row: Row, payload: Json, rows: Rows) -> None:
    """Adds the row of a performance event."""
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


def page(payload: Json, generation: Generation) -> Row:
    """Returns the columns of an event that come from its URL, referrer, title, name and tag."""
    row = _split_page(payload) if generation.splits_url else _parsed_page(payload, generation)
    _refuse_nul(row[column] for column in _TEXT_COLUMNS)
    if row["title"] is not None and len(row["title"]) > _URL_UNITS:
        if not generation.cuts_title:
            raise ServerError(replies.too_long("WebsiteEvent", "websiteEvent.create", _URL_UNITS))
        row["title"] = cut(row["title"], _URL_UNITS)
    if generation.drops_tag:
        row["tag"] = None
    return row


def _split_page(payload: Json) -> Row:
    """Does the same as `_parsed_page`, for versions without hosts, tags, campaigns and parsed URLs."""
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


def _parsed_page(payload: Json, generation: Generation) -> Row:
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


def check_data(data: Json, generation: Generation) -> None:
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


def check_revenue(data: Json, name: str | None, max_currency: int) -> None:
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
