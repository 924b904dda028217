"""The servers of the soak test: collectors that fail at random, and record which deviations that explains.

A request is *unanswered* if it got no answer (it was cut, frozen for longer than the client waits, or in
progress when the server stopped) or a gateway's 504. It may have been stored, so each of its events may be
stored once more. An event is *refused* if an answer said that it can never be stored, or refused its whole
request, because the client may then find that the event is the cause. An event is *doubted* each time that it
fails for an unclear reason, or alone in a request. The client gives it up after some of these. A refused or
often doubted event may be missing.

One server is upgraded during the run: it answers as each generation of Umami since 2.0, the oldest first.
"""

import contextlib
import json
import math
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from pathlib import Path
from typing import Any, Final

from umami.collector import Collector, Request, replies
from umami.collector.faults import INGESTION
from umami.collector.generations import GENERATIONS, Generation, find

from .soak_lines import serve
from .soak_sender import is_crawlers

BATCHES_GONE_AFTER: Final = 0.2
"""The second server loses its batch route after this part of the run."""
UPGRADES: Final = tuple(
    generation.name for generation in GENERATIONS if generation.since >= (2,) and not generation.is_cloud
)
"""The versions of Umami that the third server has in turn, each for the same time."""

_KEPT_REQUESTS: Final = 4_000
_LOOK_SECONDS: Final = 0.02
_JUST_NOW: Final = 0.25
"""For so many seconds an answer may be lost with the connection, when the server stops."""
_FULL_PACE_SECONDS: Final = 60.0
_DOUBTS: Final = 2  # the rest of item_retry_limit + 1 may be refused connections
_STATUSES: Final = (408, 425, 429, 500, 502, 503, 504)
_REFUSALS: Final = frozenset((401, 403, 500, 502))
_UNCLEAR: Final = frozenset((202, 504))
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_NOT_FOUND: Final = "404 page not found\n"
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
        versions: The versions of Umami that it has in turn; none for the newest all the time.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        seed: int,
        seconds: float,
        timeout: float,
        *,
        batches_end: bool = False,
        versions: Sequence[str] = (),
    ) -> None:
        self.database = folder / f"{name}.sqlite"
        self.stored: dict[str, int] = {}
        self._versions = list(versions)
        self._version_seconds = seconds / max(1, len(versions))
        self._requests = 0
        self.collector = self._new_collector(port=0)
        self.scripted: Counter[str] = Counter()
        self.hits: Counter[str] = Counter()
        self.unanswered: Counter[int] = Counter()
        self.unclear: set[int] = set()
        self.refused: set[int] = set()
        self.doubted: Counter[int] = Counter()
        self.unanswered_requests = 0
        self.overlooked = False
        self._random = random.Random(f"{seed} {name}")
        self._pace = min(1.0, max(0.25, seconds / _FULL_PACE_SECONDS))
        self._patience = timeout / 2
        self._batches_end = time.monotonic() + seconds * BATCHES_GONE_AFTER if batches_end else math.inf
        self._upgrade_at = time.monotonic() + self._version_seconds if self._versions else math.inf
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
        # A thread that has failed leaves the server as it was, and requests without a record.
        self.overlooked |= not all(thread.is_alive() for thread in self._threads)
        self._calm.set()
        self._threads[0].join()

    def report(self) -> dict[str, Any]:
        """Stop the collector, and return the report."""
        time.sleep(self._patience)  # until the last requests are recorded
        self.overlooked |= not self._threads[1].is_alive()
        self._ended.set()
        self._threads[1].join()
        self.collector.stop()
        self._count()
        refused = self.refused | {number for number, doubts in self.doubted.items() if doubts >= _DOUBTS}
        return {
            "database": str(self.database),
            "requests": self._requests,
            "stored": self.stored,
            "scripted": dict(sorted(self.scripted.items())),
            "hit": dict(sorted(self.hits.items())),
            "unanswered_requests": self.unanswered_requests,
            "unanswered": list(self.unanswered.items()),
            "refused": sorted(refused),
            "unclear": sorted(self.unclear),
            "overlooked": self.overlooked,
        }

    # The faults.

    def _make_faults(self) -> None:
        bag: list[str] = []
        while not self._calm.wait(min(2.0, self._random.expovariate(1 / 0.6)) * self._pace):
            if time.monotonic() > self._batches_end:
                self._end_batches()
            if time.monotonic() > self._upgrade_at:
                self._upgrade()
            if not bag:
                bag = list(_TROUBLES)
                self._random.shuffle(bag)
            trouble = bag.pop()
            script = _TROUBLES[trouble](self)
            if script is None:
                self.scripted[trouble] += 1
            else:
                self._let_happen(trouble, script)

    def _let_happen(self, trouble: str, script: Script) -> None:
        seconds = script.pop("seconds", self._random.uniform(0.1, 1.2) * self._pace)
        script.setdefault("times", self._random.choice((1, 1, 3, None)))
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

    def _restart(self, prepare: Callable[[], object]) -> None:
        """Stop the server, do something, and start it again."""
        self.collector.stop()
        self._look(stopped=True)
        prepare()
        while True:
            with contextlib.suppress(OSError):  # another program may use the port for a moment
                self.collector.start()
                return
            time.sleep(_LOOK_SECONDS)

    def _upgrade(self) -> None:
        """Replace the server by one of the next version, with the same port and database."""

        def replace() -> None:
            self._count()
            with self._lock:
                self.collector = self._new_collector(self.collector.port)
                self._last = None

        self._restart(replace)
        self._upgrade_at += self._version_seconds if self._versions else math.inf

    def _new_collector(self, port: int) -> Collector:
        version = self._versions.pop(0) if self._versions else UPGRADES[-1]
        return Collector(port=port, database=self.database, keep_requests=_KEPT_REQUESTS, umami=version)

    def _count(self) -> None:
        """Add up what the collector got and stored."""
        self._requests += self.collector.request_count
        self.stored[self.collector.umami] = self.collector.event_count - sum(self.stored.values())

    def _end_batches(self) -> None:
        status = self._random.choice((404, 405, 500))
        self.collector.fail(status, path="/api/batch", times=None, body=_BROKEN if status == 500 else None)
        self._batches_end = math.inf
        self._batched = False
        self.scripted[f"batch route away ({status})"] = 1

    # The troubles: scripts of faults, and what happens to the whole server.

    def stopped(self) -> None:
        """Stop for a while."""
        self._restart(lambda: self._calm.wait(self._random.uniform(0.05, 1.5) * self._pace))

    def database_away(self) -> None:
        """Lose the database for a while."""
        self.collector.database_away()
        self._calm.wait(self._random.uniform(0.1, 1.2) * self._pace)
        self.collector.database_back()

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
        """Answer 2xx with an HTML page, like a login page in front of the server."""
        return {"status": 203, "body": _PAGE}  # not 200, so that `_note` can tell

    def accept(self, body: str | bytes) -> Script:
        """Store, and answer 202 with a body that is not Umami's. The client accepts it the second time."""
        path = None if self._generation.has_batch else "/api/send"  # so that there is a route that stores
        return {"status": 202, "body": body, "store": True, "path": path}

    def forbid(self) -> Script:
        """Refuse as a proxy does."""
        return {"status": self._random.choice((401, 403)), "body": _PAGE, "times": 1}

    def not_found(self) -> Script:
        """Answer 404 to everything, as a proxy does while the server behind it restarts."""
        return {"status": 404, "body": _NOT_FOUND, "path": "*"}

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
        if self._gives_reasons:
            self.doubted[number] += 1
        return {"message": "Something went wrong"}

    def items_stored(self) -> Script:
        """Store some items without their custom data."""

        def error(number: int) -> Json | None:
            if is_crawlers(number):
                return None  # it is not stored
            if not self._gives_reasons:
                self.unanswered[number] += 1  # a client cannot know that it is stored
            return {"code": "P2000", "meta": {"modelName": "EventData"}}

        return self._items(0.1, error)

    def _items(self, share: float, error: Callable[[int], Json | None]) -> Script:
        """Return a function that always fails the same events."""
        salt = self._random.random()

        def fail(_: int, item: Any) -> Json | None:
            number = number_of(item)
            if random.Random(salt + number).random() >= share:
                return None
            answer = error(number)
            if answer is not None and not self._gives_reasons:
                self.doubted[number] += 1
            return answer

        return {"status": None, "items": fail}

    @property
    def _gives_reasons(self) -> bool:
        """Whether an error says why: Umami before 2.16 only answers "Internal Server Error"."""
        return self._generation.errors != "text"

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
                unanswered = late or stopped or waited > self._patience
                if unanswered or (request.status is not None and waited > _JUST_NOW):
                    self._note(request, unanswered=unanswered)
                else:
                    still.append(request)
            self._open = still

    def _new_requests(self) -> list[Request]:
        new: list[Request] = []
        for request in reversed(self.collector.requests):
            if request is self._last:
                break
            new.append(request)
        else:
            self.overlooked |= self._last is not None
        if new:
            self._last = new[0]
        return new[::-1]

    def _note(self, request: Request, *, unanswered: bool) -> None:
        """Note what a request means for its events, now that it is answered or will not be."""
        numbers = numbers_of(request)
        if unanswered or request.status in _UNCLEAR:
            self.unanswered_requests += 1
            self.unanswered.update(numbers)
        if request.status in _REFUSALS:
            self.refused.update(numbers)
        if len(numbers) == 1 and (unanswered or request.status not in (200, *_REFUSALS)):
            self.doubted.update(numbers)
        if request.status == 200 and not self._generation.beeps:
            self.unclear.update(filter(is_crawlers, numbers))

    @property
    def _generation(self) -> Generation:
        return find(self.collector.umami)


def number_of(item: Any) -> int:
    """Return the number of an event: the last part of its URL."""
    return int(item["payload"]["url"].rpartition("/")[2])


def numbers_of(request: Request) -> list[int]:
    """Return the numbers of the events that a request carried."""
    items = request.json if request.path in INGESTION and request.method == "POST" else []
    return [number_of(item) for item in (items if isinstance(items, list) else [items])]


_TROUBLES: Final[Mapping[str, Callable[[FaultyServer], Script | None]]] = {
    "stopped": FaultyServer.stopped,
    "database away": FaultyServer.database_away,
    **{str(status): lambda server, status=status: server.status(status) for status in _STATUSES},  # type: ignore[misc]
    **{str(status): lambda server, status=status: server.redirect(status) for status in _REDIRECTS},  # type: ignore[misc]
    "redirect loop": FaultyServer.redirect_for_ever,
    "latency": FaultyServer.latency,
    "answer too late": FaultyServer.too_late,
    "frozen": FaultyServer.freeze,
    "cut before storing": lambda server: server.cut("before"),
    "cut after storing": lambda server: server.cut("after"),
    "cut in the body": lambda server: server.cut("body"),
    "203 of HTML": FaultyServer.page,
    "202 of nothing": lambda server: server.accept(b""),
    "202 of half a JSON": lambda server: server.accept(b'{"size":1,"processed":1,"err'),
    "202 of another JSON": lambda server: server.accept('{"ok":true}'),
    "202 of 4 MiB": lambda server: server.accept(_ENDLESS),
    "401 or 403 of a proxy": FaultyServer.forbid,
    "404 of a proxy": FaultyServer.not_found,
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
        FaultyServer("batched", *common),
        FaultyServer("unbatched", *common, batches_end=True),
        FaultyServer("upgraded", *common, versions=UPGRADES),
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
