"""The servers of the soak: collectors that misbehave at random, and keep account of what that explains.

What a client may do about a fault is judged by two notes. A request is *unanswered* if it got no answer
(it was cut, frozen for longer than a client waits, or under way when the server stopped) or a gateway's
504: it may have been stored, so each of its events may be stored once more. An event is *refused* if an
answer said that it can never be stored, or refused the request that carried it: it may then be found to be
the cause.
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
"""The part of the run after which the second server has no batch route any more."""

_KEPT_REQUESTS: Final = 4_000
_LOOK_SECONDS: Final = 0.02
_JUST_NOW: Final = 0.25
_FULL_PACE_SECONDS: Final = 60.0
_DOUBTS: Final = 4  # one request more than the default of item_retry_limit
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
"""The arguments of `Collector.fail`; and for how many seconds, if it matters."""


class UnrulyServer:
    """A collector, and a thread that lets it misbehave until it is told to be calm.

    Args:
        name: What it is called.
        folder: Where its database goes.
        seed: What its dice are thrown by.
        seconds: How long it is going to misbehave.
        timeout: The seconds that its client waits for an answer.
        batches_end: Whether its batch route goes away meanwhile.
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
        self._dice = random.Random(f"{seed} {name}")
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
            threading.Thread(target=self._misbehave, daemon=True),
            threading.Thread(target=self._watch, daemon=True),
        ]

    def start(self) -> str:
        """Start to listen and to misbehave; return the URL."""
        self.collector.start()
        for thread in self._threads:
            thread.start()
        return self.collector.url

    def calm(self) -> None:
        """Misbehave no more. A batch route that has gone stays away."""
        self._calm.set()
        self._threads[0].join()

    def report(self) -> dict[str, Any]:
        """Stop, and return the account."""
        time.sleep(self._patience)  # for what waits to be noted
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

    # Misbehaving.

    def _misbehave(self) -> None:
        bag: list[str] = []
        while not self._calm.wait(min(2.0, self._dice.expovariate(1 / 0.6)) * self._pace):
            if self._batches_end is not None and time.monotonic() > self._batches_end:
                self._end_batches()
            if not bag:
                bag = [*_TROUBLES, "stopped"]
                self._dice.shuffle(bag)
            trouble = bag.pop()
            if trouble == "stopped":
                self._stop_for_a_while()
            else:
                self._let_happen(trouble, _TROUBLES[trouble](self))

    def _let_happen(self, trouble: str, script: Script) -> None:
        script.setdefault("times", self._dice.choice((1, 1, 3, None)))
        seconds = script.pop("seconds", self._dice.uniform(0.1, 1.2) * self._pace)
        fault = self.collector.fail(**script)
        give_up = time.monotonic() + seconds
        if fault.freeze:
            give_up += self._dice.choice((0.0, 4 * self._patience))  # the client has gone by then, or not
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
        self._calm.wait(self._dice.uniform(0.05, 1.5) * self._pace)
        while True:
            with contextlib.suppress(OSError):  # the port is somebody else's for a moment
                self.collector.start()
                return
            time.sleep(_LOOK_SECONDS)

    def _end_batches(self) -> None:
        status = self._dice.choice((404, 405, 500))
        self.collector.fail(status, path="/api/batch", times=None, body=_BROKEN if status == 500 else None)
        self._batches_end = None
        self._batched = False
        self.scripted[f"batch route away ({status})"] = 1

    # The scripts.

    def status(self, status: int) -> Script:
        """Answer with a status, and perhaps say when to come back."""
        after = self._dice.choice((None, None, "0", "1", "date", "date", "999999999", "absurd date"))
        script: Script = {"status": status, "store": status == 504 and self._dice.random() < 0.5}
        if after is not None:
            if "date" in after:
                ahead = 1.0 if after == "date" else 1e9
                after = formatdate(time.time() + ahead, usegmt=True)
            script["headers"] = {"Retry-After": after}
        return script

    def redirect(self, status: int) -> Script:
        """Redirect to the same path: here, or on what looks like another host."""
        path = "/api/batch" if self._batched else "/api/send"
        place = self._dice.choice(("", f"http://localhost:{self.collector.port}{path}"))
        return {"status": status, "path": path, "headers": {"Location": f"{place}?again"}, "times": 1}

    def redirect_for_ever(self) -> Script:
        """Redirect to the same path again and again."""
        return {"status": 307, "headers": {"Location": "?again"}, "times": 12}

    def latency(self) -> Script:
        """Answer late, but in time."""
        return {"status": None, "delay": self._dice.uniform(0.01, 0.4 * self._patience)}

    def too_late(self) -> Script:
        """Store, and answer after the client has given up."""
        return {"status": None, "store": True, "delay": 3 * self._patience, "times": 1}

    def freeze(self) -> Script:
        """Do not answer until thawed; a database that stood still stores then, another has stored before."""
        return {"status": None, "freeze": True, "store": self._dice.random() < 0.5}

    def cut(self, where: str) -> Script:
        """Close the connection before or after storing, or half-way through the answer."""
        return {"status": None, "cut": where}

    def page(self) -> Script:
        """Answer 200 with a page of HTML, as a login in front of the server does."""
        return {"status": 200, "body": _PAGE}

    def accept(self, body: str | bytes) -> Script:
        """Store, and answer 202 with something that is not Umami's: its word is taken, the second time."""
        return {"status": 202, "body": body, "store": True}

    def forbid(self) -> Script:
        """Refuse as a proxy does."""
        return {"status": self._dice.choice((401, 403)), "body": _PAGE, "times": 1}

    def items_away(self, share: float) -> Script:
        """Lose the database in the middle of a batch: some items fail, or all."""
        return self._items(share, lambda _: _DATABASE_AWAY)

    def items_refused(self) -> Script:
        """Refuse some items for good."""

        def error(number: int) -> Json:
            self.refused.add(number)
            return {"code": "P2000", "message": f"The value of {number} is too long", "meta": {}}

        return self._items(0.1, error)

    def items_doubtful(self) -> Script:
        """Answer some items with an error that says nothing."""

        return {**self._items(0.1, self._doubt), "times": 6}

    def items_away_then_doubtful(self) -> Script:
        """Lose the database, and come back with an error that says nothing, before all is well."""
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
        """Store some items, and fail with their data."""
        return self._items(0.1, lambda _: {"code": "P2000", "meta": {"modelName": "EventData"}})

    def _items(self, share: float, error: Callable[[int], Json | None]) -> Script:
        return {"status": None, "items": self._chosen(share, error)}

    def _chosen(self, share: float, error: Callable[[int], Json | None]) -> Callable[[int, Any], Json | None]:
        """Let the same events fail each time that they come."""
        salt = self._dice.random()

        def fail(_: int, item: Any) -> Json | None:
            number = number_of(item)
            return error(number) if random.Random(salt + number).random() < share else None

        return fail

    # Keeping account.

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            self._look()
        self._look()

    def _look(self, *, stopped: bool = False) -> None:
        """Note which requests have come, which are answered, and which will not be in time.

        Args:
            stopped: Whether the server has just stopped, which answers nothing any more.
        """
        with self._lock:
            now = time.monotonic()
            late = now - self._looked > self._patience  # then this process stood still, and its server too
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


_TROUBLES: Final[Mapping[str, Callable[[UnrulyServer], Script]]] = {
    **{str(status): lambda server, status=status: server.status(status) for status in _STATUSES},  # type: ignore[misc]
    **{str(status): lambda server, status=status: server.redirect(status) for status in _REDIRECTS},  # type: ignore[misc]
    "redirect loop": UnrulyServer.redirect_for_ever,
    "latency": UnrulyServer.latency,
    "answer too late": UnrulyServer.too_late,
    "frozen": UnrulyServer.freeze,
    "cut before storing": lambda server: server.cut("before"),
    "cut after storing": lambda server: server.cut("after"),
    "cut in the body": lambda server: server.cut("body"),
    "200 of HTML": UnrulyServer.page,
    "202 of nothing": lambda server: server.accept(b""),
    "202 of half a JSON": lambda server: server.accept(b'{"size":1,"processed":1,"err'),
    "202 of another JSON": lambda server: server.accept('{"ok":true}'),
    "202 of 4 MiB": lambda server: server.accept(_ENDLESS),
    "401 or 403 of a proxy": UnrulyServer.forbid,
    "items: database away for some": lambda server: server.items_away(0.3),
    "items: database away for all": lambda server: server.items_away(1.0),
    "items: refused": UnrulyServer.items_refused,
    "items: unclear error": UnrulyServer.items_doubtful,
    "items: database away, then unclear error": UnrulyServer.items_away_then_doubtful,
    "items: stored without data": UnrulyServer.items_stored,
}


def calm(servers: list[UnrulyServer]) -> None:
    """Let all servers misbehave no more."""
    for server in servers:
        server.calm()


def main() -> None:
    """Serve as the argument says, until standard input ends."""
    task = json.loads(sys.argv[1])
    common = (Path(task["folder"]), task["seed"], task["seconds"], task["timeout"])
    servers = [
        UnrulyServer("batched", *common, batches_end=False),
        UnrulyServer("unbatched", *common, batches_end=True),
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
