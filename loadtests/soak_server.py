"""The servers of the soak test: collectors that fail at random, and record which deviations that explains.

A request is *unanswered* if it got no answer (it was cut, frozen for longer than the client waits, or in
progress when the server stopped) or a gateway's 504. It may have been stored, so each of its events may be
stored once more. An event is *refused* if an answer said that it can never be stored, or refused its whole
request, because the client may then find that the event is the cause. It may be missing.
"""

import contextlib
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any, Final

from umami.collector import Collector, Request, replies

from .soak_lines import serve

BATCHES_GONE_AFTER: Final = 0.2
"""The second server loses its batch route after this part of the run."""

_KEPT_REQUESTS: Final = 4_000
_LOOK_SECONDS: Final = 0.02
_JUST_NOW: Final = 0.25
_FULL_PACE_SECONDS: Final = 60.0
_DOUBTS: Final = 4  # one more than the default of item_retry_limit
_STATUSES: Final = (408, 425, 429, 500, 502, 503, 504)
_REFUSALS: Final = frozenset((401, 403, 500, 502))
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_PAGE: Final = "<!DOCTYPE html><title>Sign in to the Wi-Fi</title>"
_BROKEN: Final = replies.error(500, "server-error", "Cannot read private member #state from an object")
_ENDLESS: Final = b" " * (4 * 1024 * 1024)

_DATABASE_AWAY: Final[dict[str, Any]] = {
    "code": "P1001",
    "message": "Can't reach database server",
    "meta": {"modelName": "Website"},
}

Json = dict[str, Any]
Script = Json
"""The arguments of `Collector.fail`, and perhaps `seconds`, the duration."""


class FaultyServer:
    """A collector, and a thread that lets it fail at random until `calm`.

    Args:
        name: Its name.
        folder: The folder for its database.
        seed: The seed for its random numbers.
        seconds: How long it will fail.
        timeout: How many seconds its client waits for an answer.
        batches_end: Whether it loses its batch route.
    """

    def __init__(
        self, name: str, folder: Path, seed: int, seconds: float, timeout: float, *, batches_end: bool
    ) -> None:
        self.database = folder / f"{name}.sqlite"
        self.collector = Collector(database=self.database, keep_requests=_KEPT_REQUESTS)
        self.scripted: Counter[str] = Counter()
        self.hits: Counter[str] = Counter()
        self.unanswered: Counter[int] = Counter()
        self.refused: set[int] = set()
        self.doubted: Counter[int] = Counter()
        self.unanswered_requests = 0
        self.overlooked = False
        self._random = random.Random(f"{seed} {name}")
        self._pace = min(1.0, max(0.25, seconds / _FULL_PACE_SECONDS))
        self._patience = timeout / 2
        self._batches_end = time.monotonic() + seconds * BATCHES_GONE_AFTER if batches_end else None
        self._batched = True
        self._open: list[Request] = []
        self._last: Request | None = None
        self._looked = time.monotonic()
        self._lock = threading.Lock()
        self._calm = threading.Event()
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._make_faults, daemon=True),
            threading.Thread(target=self._watch, daemon=True),
        ]

    def start(self) -> str:
        """Start the collector and its faults; return the URL."""
        self.collector.start()
        for thread in self._threads:
            thread.start()
        return self.collector.url

    def calm(self) -> None:
        """End the faults. A lost batch route does not come back."""
        self._calm.set()
        self._threads[0].join()

    def report(self) -> dict[str, Any]:
        """Stop the collector, and return the report."""
        time.sleep(self._patience)  # until the last requests are recorded
        self._ended.set()
        self._threads[1].join()
        self.collector.stop()
        refused = self.refused | {number for number, doubts in self.doubted.items() if doubts >= _DOUBTS}
        return {
            "database": str(self.database),
            "requests": self.collector.request_count,
            "stored": self.collector.event_count,
            "scripted": dict(sorted(self.scripted.items())),
            "hit": dict(sorted(self.hits.items())),
            "unanswered_requests": self.unanswered_requests,
            "unanswered": list(self.unanswered.items()),
            "refused": sorted(refused),
            "overlooked": self.overlooked,
        }

    # The faults.

    def _make_faults(self) -> None:
        bag: list[str] = []
        while not self._calm.wait(min(2.0, self._random.expovariate(1 / 0.6)) * self._pace):
            if self._batches_end is not None and time.monotonic() > self._batches_end:
                self._end_batches()
            if not bag:
                bag = [*_TROUBLES, "stopped"]
                self._random.shuffle(bag)
            trouble = bag.pop()
            if trouble == "stopped":
                self._stop_for_a_while()
            else:
                self._let_happen(trouble, _TROUBLES[trouble](self))

    def _let_happen(self, trouble: str, script: Script) -> None:
        script.setdefault("times", self._random.choice((1, 1, 3, None)))
        seconds = script.pop("seconds", self._random.uniform(0.1, 1.2) * self._pace)
        fault = self.collector.fail(**script)
        give_up = time.monotonic() + seconds
        if fault.freeze:
            give_up += self._random.choice((0.0, 4 * self._patience))  # the client may give up first
        while not fault.is_spent and time.monotonic() < give_up and not self._calm.wait(_LOOK_SECONDS):
            pass
        if fault.freeze:
            self._calm.wait(max(0.0, give_up - time.monotonic()))
            self.collector.thaw()
        fault.cancel()
        self.scripted[trouble] += 1
        self.hits[trouble] += fault.hits

    def _stop_for_a_while(self) -> None:
        self.scripted["stopped"] += 1
        self.collector.stop()
        self._look(stopped=True)
        self._calm.wait(self._random.uniform(0.05, 1.5) * self._pace)
        while True:
            with contextlib.suppress(OSError):  # another program may use the port for a moment
                self.collector.start()
                return
            time.sleep(_LOOK_SECONDS)

    def _end_batches(self) -> None:
        status = self._random.choice((404, 405, 500))
        self.collector.fail(status, path="/api/batch", times=None, body=_BROKEN if status == 500 else None)
        self._batches_end = None
        self._batched = False
        self.scripted[f"batch route away ({status})"] = 1

    # The scripts of the faults.

    def status(self, status: int) -> Script:
        """Answer with a status, and perhaps with `Retry-After`."""
        after = self._random.choice((None, None, "0", "1", "date", "date", "999999999", "absurd date"))
        script: Script = {"status": status, "store": status == 504 and self._random.random() < 0.5}
        if after is not None:
            if "date" in after:
                ahead = 1.0 if after == "date" else 1e9
                after = formatdate(time.time() + ahead, usegmt=True)
            script["headers"] = {"Retry-After": after}
        return script

    def redirect(self, status: int) -> Script:
        """Redirect to the same path, on this host or on another name of it."""
        path = "/api/batch" if self._batched else "/api/send"
        place = self._random.choice(("", f"http://localhost:{self.collector.port}{path}"))
        return {"status": status, "path": path, "headers": {"Location": f"{place}?again"}, "times": 1}

    def redirect_for_ever(self) -> Script:
        """Redirect to the same path endlessly."""
        return {"status": 307, "headers": {"Location": "?again"}, "times": 12}

    def latency(self) -> Script:
        """Answer late, but in time."""
        return {"status": None, "delay": self._random.uniform(0.01, 0.4 * self._patience)}

    def too_late(self) -> Script:
        """Store, but answer after the client has given up."""
        return {"status": None, "store": True, "delay": 3 * self._patience, "times": 1}

    def freeze(self) -> Script:
        """Do not answer until the thaw. The events are stored before, or after it."""
        return {"status": None, "freeze": True, "store": self._random.random() < 0.5}

    def cut(self, where: str) -> Script:
        """Close the connection before or after storing, or in the middle of the answer."""
        return {"status": None, "cut": where}

    def page(self) -> Script:
        """Answer 200 with an HTML page, like a login page in front of the server."""
        return {"status": 200, "body": _PAGE}

    def accept(self, body: str | bytes) -> Script:
        """Store, and answer 202 with a body that is not Umami's. The client accepts it the second time."""
        return {"status": 202, "body": body, "store": True}

    def forbid(self) -> Script:
        """Refuse as a proxy does."""
        return {"status": self._random.choice((401, 403)), "body": _PAGE, "times": 1}

    def items_away(self, share: float) -> Script:
        """Lose the database in the middle of a batch, so that some items fail, or all."""
        return self._items(share, lambda _: _DATABASE_AWAY)

    def items_refused(self) -> Script:
        """Refuse some items for good."""

        def error(number: int) -> Json:
            self.refused.add(number)
            return {"code": "P2000", "message": f"The value of {number} is too long", "meta": {}}

        return self._items(0.1, error)

    def items_doubtful(self) -> Script:
        """Answer some items with an unclear error."""

        return {**self._items(0.1, self._doubt), "times": 6}

    def items_away_then_doubtful(self) -> Script:
        """Lose the database, then answer with an unclear error, then store."""
        answered: Counter[int] = Counter()

        def error(number: int) -> Json | None:
            answered[number] += 1
            if answered[number] <= _DOUBTS:
                return _DATABASE_AWAY
            return self._doubt(number) if answered[number] < 2 * _DOUBTS else None

        return {**self._items(0.1, error), "times": None, "seconds": 2.0}

    def _doubt(self, number: int) -> Json:
        self.doubted[number] += 1
        return {"message": "Something went wrong"}

    def items_stored(self) -> Script:
        """Store some items without their custom data."""
        return self._items(0.1, lambda _: {"code": "P2000", "meta": {"modelName": "EventData"}})

    def _items(self, share: float, error: Callable[[int], Json | None]) -> Script:
        return {"status": None, "items": self._chosen(share, error)}

    def _chosen(self, share: float, error: Callable[[int], Json | None]) -> Callable[[int, Any], Json | None]:
        """Return a function that always fails the same events."""
        salt = self._random.random()

        def fail(_: int, item: Any) -> Json | None:
            number = number_of(item)
            return error(number) if random.Random(salt + number).random() < share else None

        return fail

    # The record.

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            self._look()
        self._look()

    def _look(self, *, stopped: bool = False) -> None:
        """Record the new requests, those with an answer, and those whose answer will be too late.

        Args:
            stopped: Whether the server has just stopped, so that open requests get no answer.
        """
        with self._lock:
            now = time.monotonic()
            late = now - self._looked > self._patience  # this process was paused, and its server too
            self._looked = now
            still = []
            for request in (*self._open, *self._new_requests()):
                waited = now - request.at
                if (
                    late
                    or waited > self._patience
                    or (stopped and (not request.status or waited < _JUST_NOW))
                ):
                    self._note_unanswered(request)
                elif request.status is None:
                    still.append(request)
                elif request.status in (202, 504):
                    self._note_unanswered(request)
                elif request.status in _REFUSALS:
                    self.refused.update(numbers_of(request))
            self._open = still

    def _new_requests(self) -> list[Request]:
        new = []
        for request in reversed(self.collector.requests):
            if request is self._last:
                break
            new.append(request)
        else:
            self.overlooked |= self._last is not None
        if new:
            self._last = new[0]
        return new[::-1]

    def _note_unanswered(self, request: Request) -> None:
        self.unanswered_requests += 1
        self.unanswered.update(numbers_of(request))


def number_of(item: Any) -> int:
    """Return the number of an event: the last part of its URL."""
    return int(item["payload"]["url"].rpartition("/")[2])


def numbers_of(request: Request) -> list[int]:
    """Return the numbers of the events that a request carried."""
    items = request.json
    return [number_of(item) for item in (items if isinstance(items, list) else [items])]


_TROUBLES: Final[Mapping[str, Callable[[FaultyServer], Script]]] = {
    **{str(status): lambda server, status=status: server.status(status) for status in _STATUSES},  # type: ignore[misc]
    **{str(status): lambda server, status=status: server.redirect(status) for status in _REDIRECTS},  # type: ignore[misc]
    "redirect loop": FaultyServer.redirect_for_ever,
    "latency": FaultyServer.latency,
    "answer too late": FaultyServer.too_late,
    "frozen": FaultyServer.freeze,
    "cut before storing": lambda server: server.cut("before"),
    "cut after storing": lambda server: server.cut("after"),
    "cut in the body": lambda server: server.cut("body"),
    "200 of HTML": FaultyServer.page,
    "202 of nothing": lambda server: server.accept(b""),
    "202 of half a JSON": lambda server: server.accept(b'{"size":1,"processed":1,"err'),
    "202 of another JSON": lambda server: server.accept('{"ok":true}'),
    "202 of 4 MiB": lambda server: server.accept(_ENDLESS),
    "401 or 403 of a proxy": FaultyServer.forbid,
    "items: database away for some": lambda server: server.items_away(0.3),
    "items: database away for all": lambda server: server.items_away(1.0),
    "items: refused": FaultyServer.items_refused,
    "items: unclear error": FaultyServer.items_doubtful,
    "items: database away, then unclear error": FaultyServer.items_away_then_doubtful,
    "items: stored without data": FaultyServer.items_stored,
}


def calm(servers: list[FaultyServer]) -> None:
    """End the faults of all servers."""
    for server in servers:
        server.calm()


def main() -> None:
    """Run the task in the argument, until standard input ends."""
    task = json.loads(sys.argv[1])
    common = (Path(task["folder"]), task["seed"], task["seconds"], task["timeout"])
    servers = [
        FaultyServer("batched", *common, batches_end=False),
        FaultyServer("unbatched", *common, batches_end=True),
    ]
    serve(
        {
            "start": lambda: [server.start() for server in servers],
            "calm": lambda: calm(servers),
            "report": lambda: [server.report() for server in servers],
        }
    )


if __name__ == "__main__":
    main()
