"""Server-sent events: the entries of the feed, all that are kept first, and then each as it arrives."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Final

from starlette.types import Receive, Send

from umami.collector.entries import summary
from umami.collector.feed import Entry, Feed
from umami.collector.replies import Json

now: Final = time.monotonic

_AT_ONCE: Final = 250
_LEAST_PAUSE: Final = 0.1
"""Between two messages while many events arrive, so that they are few."""

_LONGEST_PAUSE: Final = 10.0
"""After this time without a change the state is sent again: it shows that the connection is alive."""


async def serve(
    feed: Feed,
    state: Callable[[], Json],
    last_id: str,
    headers: Mapping[str, str],
    receive: Receive,
    send: Send,
) -> None:
    """Answers with server-sent events until the client disconnects or the server stops.

    Each has the JSON object `{"run", "entries", "state"}`. The client forgets earlier entries if `run` is
    another one. Its id is `run/number` of the last entry, with which a browser that reconnects continues.

    Args:
        feed: The entries.
        state: Returns what else the page shows.
        last_id: The header Last-Event-ID.
        headers: The headers of the answer.
        receive: The request's channel, for the disconnect.
        send: Sends the answer.
    """
    kinds = {**headers, "content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no"}
    raw = [(name.encode(), value.encode()) for name, value in kinds.items()]
    await send({"type": "http.response.start", "status": 200, "headers": raw})
    gone = asyncio.ensure_future(_disconnect(receive))
    run, _, number = last_id.partition("/")
    last = int(number) if run == feed.run and number.isdecimal() else 0
    try:
        while not gone.done():
            version = feed.version
            entries = feed.after(last, _AT_ONCE)
            if entries:
                last = entries[-1].id
            message = _message(feed.run, last, entries, state())
            await send({"type": "http.response.body", "body": message, "more_body": True})
            if len(entries) == _AT_ONCE:
                await asyncio.sleep(0)  # others are served meanwhile
                continue
            await asyncio.wait({gone}, timeout=_LEAST_PAUSE)
            changed = asyncio.ensure_future(feed.wait(version, _LONGEST_PAUSE))
            await asyncio.wait({gone, changed}, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
    finally:
        gone.cancel()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _message(run: str, last: int, entries: list[Entry], state: Json) -> bytes:
    data = {"run": run, "entries": [summary(entry) for entry in entries], "state": state}
    return f"id: {run}/{last}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
