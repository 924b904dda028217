"""Processes an event: from its payload to the rows to store, with every error that Umami may answer.

The steps are in Umami's order: session, event, custom data, revenue. The order decides what is stored if a
step fails: the event stays stored if its custom data or its revenue fails.
"""

from __future__ import annotations

import json
import time
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from hmac import new as hmac
from typing import Any, Final

from umami._user_agents import is_bot
from umami.collector import columns, replies, rules, visitors
from umami.collector.generations import Generation
from umami.collector.javascript import to_number
from umami.collector.replies import Json, ServerError
from umami.collector.store import Row, Rows, Store

_AWAY_CODES: Final = ("P1001", "P1017")
_COUNTRY_CHARACTERS: Final = 2
_VISIT_SECONDS: Final = 1800


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
            columns.add_identity(row, payload, rows)
        elif kind == "performance":
            columns.add_performance(row, payload, rows)
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
        columns.check_session(row, at_ms)
        user_agent = payload.get("userAgent", "")
        if (
            self._generation.puts_user_agent_into_country
            and len(user_agent) > _COUNTRY_CHARACTERS
            and not self._store.has_session(row["session_id"])
        ):
            raise ServerError(replies.too_long("Session", "session.create", _COUNTRY_CHARACTERS))

    def _add_event(self, row: Row, payload: Json, rows: Rows) -> None:
        generation = self._generation
        row |= columns.page(payload, generation)
        data = payload.get("data")
        if data is not None and not generation.stores_before_data:
            columns.check_data(data, generation)
        row |= {"id": str(uuid.uuid4()), "data": None}
        rows.events.append(row)
        if data is None:
            return
        columns.check_data(data, generation)
        row["data"] = json.dumps(data)
        if generation.stores_before_data:
            columns.check_revenue(data, row["name"], generation.max_currency)

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
