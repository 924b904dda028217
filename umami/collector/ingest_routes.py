"""The routes for events: ``/api/send`` and ``/api/batch``. They need no token."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from umami.collector import replies, rules
from umami.collector.entries import entry_for
from umami.collector.faults import Fault
from umami.collector.feed import Entry, Feed, Reception
from umami.collector.forms import told
from umami.collector.generations import Generation
from umami.collector.ingest import Context, Ingest
from umami.collector.journal import Journal
from umami.collector.replies import Json
from umami.collector.responses import bad_request_response, body_response, json_response, read_json
from umami.collector.store import Rows, Store

_logger = logging.getLogger("umami.collector")

Outcome = tuple[int, Json | str]
"""The answer to an event: the status, and the body in the version's form."""

FAULT: Final = "umami.fault"
"""The key in the ASGI scope for the fault that applies to a request."""

RECEPTION: Final = "umami.reception"
"""The key in the ASGI scope for the request's `Reception`."""

_CHUNK: Final = 100
"""How many events are stored in one transaction. Other requests are served between transactions."""

_NODE_THAT_BREAKS_BATCHES: Final = 24

_STORED_MODELS: Final = frozenset({"EventData", "Revenue"})


class Scripted(dict[str, Any]):
    """A reply that a fault gives: it is sent as it is."""


class IngestRoutes:
    """Answers the ingestion routes.

    Args:
        store: Where events are stored.
        journal: Where stored events are counted.
        feed: Gets an entry for each event.
        ingest: Processes one event.
        generation: The version of Umami to answer as.
        node: As for `Collector`.
        item_delay: As for `Collector`.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        feed: Feed,
        ingest: Ingest,
        *,
        generation: Generation,
        node: int,
        item_delay: float,
    ) -> None:
        self._store = store
        self._journal = journal
        self._feed = feed
        self._ingest = ingest
        self._generation = generation
        self._batch_works = generation.batch_runs_on_node_24 or node < _NODE_THAT_BREAKS_BATCHES
        self._item_delay = item_delay
        self.routes = [Route(generation.send_path, self._send, methods=["POST"])]
        if generation.has_batch:
            self.routes.append(Route("/api/batch", self._batch, methods=["POST"]))
        elif generation.is_cloud:
            self.routes.append(Route("/api/batch", _no_batch))

    async def _send(self, request: Request) -> Response:
        body = await read_json(request, self._generation)
        [outcome] = await self._take_in([body], request, is_batch=False)
        return body_response(*outcome)

    async def _batch(self, request: Request) -> Response:
        items = await read_json(request, self._generation)
        wrong = rules.check_batch(items, self._generation)
        if wrong is not None:
            return bad_request_response(wrong, self._generation)
        if items and not self._batch_works:
            return json_response(replies.server_error(**self._private_member()), self._generation)
        summary = _summary(await self._take_in(items, request))
        if not self._generation.batch_has_cache:
            summary.pop("cache", None)
        return body_response(200, summary)

    def _private_member(self) -> Json:
        """Returns the details of the 500 for a batch on Node.js 24. Umami 3.0 gives none."""
        if self._generation.errors == "object":
            return {}
        message = "Cannot read private member #state from an object whose class did not declare it"
        return {"error_object": replies.exception("TypeError", message)}

    async def _take_in(self, items: list[Any], request: Request, *, is_batch: bool = True) -> list[Outcome]:
        """Processes events one by one, and returns the outcome of each.

        It continues if the client disconnects, and ends if the server stops.
        """
        peer = request.client.host if request.client else ""
        context = Context({name.lower(): value for name, value in request.headers.items()}, peer)
        fault: Fault | None = request.scope.get(FAULT)
        reception: Reception = request.scope[RECEPTION]
        reception.items = len(items)
        size = 1 if self._item_delay else _CHUNK
        outcomes: list[Outcome] = []
        for start in range(0, len(items), size):
            await asyncio.sleep(self._item_delay)
            chunk = items[start : start + size]
            entries: list[Entry] = []
            try:
                with self._store.writing() as rows:
                    for index, item in enumerate(chunk, start):
                        before = len(rows.events)
                        reply = self._take_in_one(index, item, context, rows, fault)
                        row = rows.events[-1] if len(rows.events) > before else {}
                        entries.append(entry_for(reception, index if is_batch else None, reply, row))
                        outcomes.append(self._outcome(reply))
            except sqlite3.Error as error:
                _logger.error("Cannot store events: %s", error)  # noqa: TRY400 - the traceback adds nothing
                reply = replies.server_error(replies.database_away())
                outcomes[start:] = [self._outcome(reply)] * len(chunk)
                self._feed.add(
                    [Entry(reception, entry.index, "rejected", str(error), 500) for entry in entries]
                )
            else:
                self._journal.stored(len(rows.events))
                self._feed.add(entries)
        return outcomes

    def _take_in_one(self, index: int, item: Any, context: Context, rows: Rows, fault: Fault | None) -> Json:
        error = None if fault is None else fault.item_error(index, item)
        if error is None:
            return self._ingest.send(item, context, rows)
        if "error" in error:
            return Scripted(error)
        if error.get("meta", {}).get("modelName") in _STORED_MODELS:
            self._ingest.send(item, context, rows)
            return replies.server_error(replies.completed(error))
        return self._ingest.failure(replies.completed(error))

    def _outcome(self, reply: Json) -> Outcome:
        body = reply if isinstance(reply, Scripted) else told(reply, self._generation)
        return replies.status_of(reply), body


def _summary(outcomes: list[Outcome]) -> Json:
    details = [
        {"index": index, "response": body}
        for index, (status, body) in enumerate(outcomes)
        if status != HTTPStatus.OK
    ]
    summary: Json = {
        "size": len(outcomes),
        "processed": len(outcomes) - len(details),
        "errors": len(details),
        "details": details,
    }
    accepted = [body for status, body in outcomes if status == HTTPStatus.OK]
    if not accepted:
        return summary | {"cache": None}
    # The answer to a bot has no cache. If all events were bots', Umami's answer has no cache either.
    tokens = [body["cache"] for body in accepted if isinstance(body, dict) and "cache" in body]
    return summary | {"cache": tokens[0]} if tokens else summary


async def _no_batch(_: Request) -> Response:
    return Response(status_code=HTTPStatus.METHOD_NOT_ALLOWED)
