"""The routes that events come in by: ``/api/send`` and ``/api/batch``. No token is asked for."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from typing import Any, Final, Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from umami.collector import replies, rules
from umami.collector.faults import Fault
from umami.collector.ingest import Context, Ingest
from umami.collector.journal import Journal
from umami.collector.replies import Json
from umami.collector.responses import bad_request_response, json_response, read_json
from umami.collector.store import Rows, Store

_logger = logging.getLogger("umami.collector")

Batch = bool | Literal[405, "broken"]

FAULT: Final = "umami.fault"
"""Where the ASGI scope holds the fault that a request has been hit by."""

_CHUNK: Final = 100
"""Events stored in one transaction, between which other requests get their turn."""

_STORED_MODELS: Final = frozenset({"EventData", "Revenue"})


class IngestRoutes:
    """Answers the ingestion routes.

    Args:
        store: Where the events go.
        journal: What is told how many there are.
        ingest: Takes in one event.
        batch: As for `Collector`.
        item_delay: As for `Collector`.
    """

    def __init__(
        self, store: Store, journal: Journal, ingest: Ingest, *, batch: Batch, item_delay: float
    ) -> None:
        self._store = store
        self._journal = journal
        self._ingest = ingest
        self._item_delay = item_delay
        self.routes = [Route("/api/send", self._send, methods=["POST"])]
        if batch is not False:
            answer = {True: self._batch, 405: _no_batch, "broken": _broken_batch}[batch]
            self.routes.append(Route("/api/batch", answer, methods=["POST"]))

    async def _send(self, request: Request) -> Response:
        [reply] = await self._take_in([await read_json(request)], request)
        return json_response(reply)

    async def _batch(self, request: Request) -> Response:
        items = await read_json(request)
        wrong = rules.check_batch(items)
        if wrong is not None:
            return bad_request_response(wrong)
        return json_response(_summary(await self._take_in(items, request)))

    async def _take_in(self, items: list[Any], request: Request) -> list[Json]:
        """Takes in events one after another, and gives each its reply.

        It does not end when the client goes away, only when the server stops.
        """
        peer = request.client.host if request.client else ""
        context = Context({name.lower(): value for name, value in request.headers.items()}, peer)
        fault: Fault | None = request.scope.get(FAULT)
        size = 1 if self._item_delay else _CHUNK
        answers: list[Json] = []
        for start in range(0, len(items), size):
            await asyncio.sleep(self._item_delay)
            chunk = items[start : start + size]
            try:
                with self._store.writing() as rows:
                    for index, item in enumerate(chunk, start):
                        answers.append(self._take_in_one(index, item, context, rows, fault))
            except sqlite3.Error as error:
                _logger.error("Cannot store events: %s", error)  # noqa: TRY400 - the traceback says no more
                answers[start:] = [replies.server_error(replies.database_away())] * len(chunk)
            else:
                self._journal.stored(len(rows.events))
        return answers

    def _take_in_one(self, index: int, item: Any, context: Context, rows: Rows, fault: Fault | None) -> Json:
        error = None if fault is None else fault.item_error(index, item)
        if error is None:
            return self._ingest.send(item, context, rows)
        if error.get("meta", {}).get("modelName") in _STORED_MODELS:
            self._ingest.send(item, context, rows)
        return error if "error" in error else replies.server_error(replies.completed(error))


def _summary(answers: list[Json]) -> Json:
    details = [
        {"index": index, "response": answer} for index, answer in enumerate(answers) if "error" in answer
    ]
    summary: Json = {
        "size": len(answers),
        "processed": len(answers) - len(details),
        "errors": len(details),
        "details": details,
    }
    accepted = [answer for answer in answers if "error" not in answer]
    if not accepted:
        return summary | {"cache": None}
    # A bot's answer has no cache. When all were bots, Umami has none to pass on, and JSON leaves it out.
    tokens = [answer["cache"] for answer in accepted if "cache" in answer]
    return summary | {"cache": tokens[0]} if tokens else summary


async def _no_batch(_: Request) -> Response:
    return Response(status_code=405)


async def _broken_batch(_: Request) -> Response:
    message = "Cannot read private member #state from an object whose class did not declare it"
    return json_response(replies.error(500, "server-error", message))
