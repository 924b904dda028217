"""Duplicates: queue and exporter against a server that stores events without answering.

Without threads and HTTP: the test plays the senders, the connections and the server, and sets the clock.
"""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from test_model import queue_clock, queue_settings

from umami._http.connections import Connections
from umami._http.exporter import UmamiExporter
from umami._http.generations import Generation
from umami._http.messages import Reply, UnansweredError
from umami._http.target import Target
from umami.queue.batches import Batch
from umami.queue.exporter import UNSENT, Trouble
from umami.queue.queue import EventQueue
from umami.queue.reporter import Report

SIZE = 16
TIMEOUT = 10.0
SETTINGS = queue_settings(timeout=TIMEOUT, item_timeout=0.2)
CRAWLER = "examplebot/1.0"
PAGE = b"<!DOCTYPE html><title>Not found</title>"
TOO_MANY, GATEWAY_TIMEOUT = 429, 504
AWAY: dict[str, Any] = {
    "message": "Server error",
    "code": "server-error",
    "status": 500,
    "errorObject": {"name": "Error", "code": "P1001", "message": "Can't reach database server"},
}
DIED: dict[str, Any] = {
    **AWAY,
    "errorObject": {"name": "Error", "message": "Connection terminated unexpectedly"},
}
REFUSAL: dict[str, Any] = {"message": "Bad request", "code": "bad-request", "status": 400}
UNEXPLAINED: dict[str, Any] = {"message": "Server error", "code": "server-error", "status": 500}

generations = st.sampled_from([kind for kind in Generation if kind is not Generation.UNKNOWN])
# What the server, or something in front of it, does with a request.
ways = st.sampled_from(
    [
        *["own"] * 6,
        *["silent", "slow", "gateway", "unclear"] * 2,
        "unreachable",
        "page",
        "refused",
        "throttled",
        "away",
        "died",
        "unexplained",
    ]
)


class Server:
    """Umami, and what stands in front of it; also the connections to it.

    Attributes:
        generation: Which Umami it is.
        copies: How often it has stored each event.
        unclear: The events that were answered with a 2xx that is not Umami's.
        requests: Of each request since the last look: what became of it, its events, and how many of
            these were stored.
    """

    def __init__(self, generation: Generation, wait: Callable[[float], None]) -> None:
        self.generation = generation
        self.copies: Counter[str] = Counter()
        self.unclear: set[str] = set()
        self.requests: list[tuple[str, list[str], int]] = []
        self.way: Callable[[list[str]], str] = lambda names: "own"
        self.choose: Callable[[int], int] = lambda most: most
        self._wait = wait

    def prepare(self, url: str) -> None:
        pass

    def leave(self) -> None:
        pass

    def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        timeout: float,
        patience: float,
        limit: int,
        method: str = "POST",
    ) -> Reply:
        self._wait(0.01)
        if method == "GET":
            return Reply(404, {}, PAGE)
        decoded = json.loads(body)
        is_batch = isinstance(decoded, list)
        # A batch of what is no event asks whether batches work at all.
        names = [event["payload"]["name"] for event in (decoded if is_batch else [decoded]) if event]
        way = self.way(names)
        before = sum(self.copies.values())
        position = len(self.requests)
        self.requests.append((way, names, 0))
        try:
            status, answer = getattr(self, f"_{way}")(names, is_batch, patience)
        finally:
            self.requests[position] = way, names, sum(self.copies.values()) - before
        headers = {"retry-after": "1"} if status == TOO_MANY else {}
        return Reply(status, headers, answer if isinstance(answer, (bytes, type(None))) else to_bytes(answer))

    def _store(self, names: Sequence[str]) -> int:
        """Take events one after another; return how many are stored."""
        kept = [name for name in names if name[0] == "e"]
        if self.generation < Generation.V2_17 and len(names) > 1:
            kept = []  # it has no such route
        self.copies.update(kept)
        return len(kept)

    def _own(self, names: list[str], is_batch: bool, patience: float) -> tuple[int, Any]:
        if not is_batch:
            return self._own_one(names[0])
        if self.generation < Generation.V2_17:
            return 404, PAGE
        stored = self._store(names)
        details = [
            {"index": index, "response": {"error": REFUSAL}}
            for index, name in enumerate(names)
            if name[0] == "r"
        ]
        return 200, self._batch_answer(names, details, stored)

    def _batch_answer(self, names: list[str], details: list[Any], stored: int) -> dict[str, Any]:
        size, errors = len(names), len(details)
        answer = {"size": size, "processed": size - errors, "errors": errors, "details": details}
        if self.generation >= Generation.V3_0_2 and (stored or size == errors):
            answer["cache"] = "token" if stored else None
        return answer

    def _own_one(self, name: str) -> tuple[int, Any]:
        if name[0] == "b":
            return 200, {"beep": "boop"}
        if name[0] == "r":
            if self.generation is Generation.TEXT:
                return 400, b"Website not found"
            return 400, {"error": "Website not found" if self.generation is Generation.V2_16 else REFUSAL}
        self.copies[name] += 1
        if self.generation is Generation.TEXT:
            return 200, b"eyJhbGciOiJIUzI1NiJ9.e30.c2ln"
        sure = {"sessionId": "1", "visitId": "2"} if self.generation >= Generation.V2_17 else {}
        return 200, {"cache": "token", **sure}

    def _silent(self, names: list[str], is_batch: bool, patience: float) -> tuple[int, Any]:
        self._store(names[: self.choose(len(names))])
        raise UnansweredError("the connection was closed", stored_perhaps=True)

    def _slow(self, names: list[str], is_batch: bool, patience: float) -> tuple[int, Any]:
        self._wait(patience)
        return self._silent(names, is_batch, patience)

    def _gateway(self, names: list[str], is_batch: bool, patience: float) -> tuple[int, Any]:
        self._store(names[: self.choose(len(names))])
        self._wait(min(patience, 2.0))  # a 502 at once means that there is no server
        return GATEWAY_TIMEOUT - 2 * self.choose(1), PAGE

    def _unclear(self, names: list[str], is_batch: bool, patience: float) -> tuple[int, Any]:
        self._store(names if self.choose(1) else [])
        self.unclear.update(names)
        return 200, [b"", b"ok", None, b'{"ok":true}'][self.choose(3)]

    def _unreachable(self, names: list[str], is_batch: bool, patience: float) -> tuple[int, Any]:
        raise UnansweredError("refused", stored_perhaps=False)

    def _page(self, names: list[str], is_batch: bool, patience: float) -> tuple[int, Any]:
        return 200, PAGE

    def _refused(self, names: list[str], is_batch: bool, patience: float) -> tuple[int, Any]:
        return [401, 403, 404, 405, 413, 500, 503][self.choose(6)], PAGE

    def _throttled(self, names: list[str], is_batch: bool, patience: float) -> tuple[int, Any]:
        return TOO_MANY, PAGE

    def _away(self, names: list[str], is_batch: bool, patience: float) -> tuple[int, Any]:
        return self._database(names, is_batch, DIED, 0)

    def _died(self, names: list[str], is_batch: bool, patience: float) -> tuple[int, Any]:
        return self._database(names, is_batch, DIED, self.choose(len(names) - 1) + 1 if names else 0)

    def _database(
        self, names: list[str], is_batch: bool, error: dict[str, Any], taken: int
    ) -> tuple[int, Any]:
        """The database goes away with the last of the events that it took; it may have stored that."""
        if self.generation < Generation.V2_17:
            if is_batch:
                return 404, PAGE
            if taken:
                self._store(names)
            text = error["errorObject"]["message"] if taken else AWAY["errorObject"]["message"]
            return 500, text.encode()
        stored = self._store(names[:taken])
        if not is_batch:
            return 500, {"error": error if taken else AWAY}
        details = [
            {"index": index, "response": {"error": REFUSAL if name[0] == "r" else AWAY}}
            for index, name in enumerate(names)
            if index >= taken or name[0] == "r"
        ]
        if taken and names[taken - 1][0] == "e":
            details.append({"index": taken - 1, "response": {"error": error}})
            stored -= 1
        return 200, self._batch_answer(names, details, stored)

    def _unexplained(self, names: list[str], is_batch: bool, patience: float) -> tuple[int, Any]:
        if not is_batch:
            return 500, {"error": UNEXPLAINED}
        if self.generation < Generation.V2_17:
            return 404, PAGE
        if self.generation >= Generation.V3_0_2:  # older ones fail before they take the first
            if not names:
                return self._own(names, is_batch, patience)
            self._store(names[: self.choose(max(0, len(names) - 1))])
        return 500, {"error": UNEXPLAINED}


def to_bytes(answer: Any) -> bytes:
    return json.dumps(answer).encode()


class DuplicatesMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.clock = queue_clock(lambda: self.now)
        self.clock.__enter__()
        logging.disable()
        self.put = 0
        self.wire: list[Batch] = []

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def teardown(self) -> None:
        try:
            if hasattr(self, "server"):
                self.recover()
        finally:
            logging.disable(logging.NOTSET)
            self.clock.__exit__(None, None, None)

    @initialize(generation=generations, senders=st.integers(1, 2), at_most_once=st.booleans())
    def start(self, generation: Generation, senders: int, at_most_once: bool) -> None:
        self.server = Server(generation, self.pass_time)
        self.at_most_once = at_most_once
        self.settled_elsewise: set[bytes] = set()
        values = SETTINGS.model_copy(update={"at_most_once": at_most_once})
        connections = Connections(lambda: self.server, lambda: values)
        self.queue = EventQueue(
            queue_settings(
                queue_size=10_000,
                queue_bytes=10_000_000,
                batch_size=SIZE,
                flush_interval=1.0,
                retry_wait=1.0,
                retry_wait_max=8.0,
                retry_after_max=8.0,
                item_retry_limit=2,
                at_most_once=at_most_once,
            ),
            lambda destination: None,
            self.report,
        )
        target = Target("http://u/api/send", "http://u/api/batch")
        self.destination = self.queue.destination(UmamiExporter(target, connections))
        for _ in range(senders):
            self.queue.add_sender(self.destination, object(), 9)
        # What the requests so far cost in duplicates, what they may, and what Umami said of single events.
        self.cost = self.allowed = self.said = 0
        # Whether none was accepted since one got no answer, was refused for no reason, or got a 2xx that
        # is not Umami's.
        self.is_silent = self.is_refusing = self.is_trusted = False
        # The same for batches that are answered too late.
        self.slow = 0
        self.slow_allowed = 2.0 * SIZE

    def report(self, report: Report) -> None:
        if report.kind in ("rejected", "dropped"):
            self.settled_elsewise.update(report.events)

    @rule(kinds=st.lists(st.sampled_from("eeeeeebr"), min_size=1, max_size=SIZE))
    def send(self, kinds: list[str]) -> None:
        for kind in kinds:
            self.put += 1
            payload = {"website": "w", "url": "/", "name": f"{kind}{self.put}"}
            if kind == "b":
                payload["userAgent"] = CRAWLER
            event = json.dumps({"type": "event", "payload": payload}, separators=(",", ":")).encode()
            assert self.destination.put(event)

    @rule()
    def send_a_batch(self) -> None:
        self.send(["e"] * SIZE)

    @rule(seconds=st.sampled_from([1.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.pass_time(seconds)

    @rule()
    def wait_until_larger_batches_are_tried(self) -> None:
        """Batches double: each doubling may cost as many events as the doubled batch."""
        before = min(SIZE, self.destination.exporter.limits.events)
        self.pass_time(601)
        after = min(SIZE, self.destination.exporter.limits.events)
        while before < after:
            before *= 2
            self.slow_allowed += min(before, SIZE)

    @rule(generation=generations)
    def another_server_takes_its_place(self, generation: Generation) -> None:
        """A server is exchanged while it is not there."""
        self.take()
        if self.wire:
            self.server.way = lambda names: "unreachable"
            while self.wire:
                self.export()
            self.server.generation = generation

    @rule()
    def take(self) -> None:
        """Cut another batch, if one may be on the wire beside those that are."""
        self.queue.stats()
        wait = self.destination.wait(self.now)
        if wait < float("inf") and len(self.wire) < len(self.destination.senders):
            self.pass_time(wait + 1e-6)
            sender = next(iter(self.destination.senders))
            batch = self.queue.take(self.destination, sender, 0.0)
            assert batch is not None
            self.wire.append(batch)

    @rule(data=st.data())
    def take_and_answer(self, data: st.DataObject) -> None:
        self.take()
        if self.wire:
            self.answer(data)

    @rule(
        way=st.sampled_from(["silent", "slow", "gateway", "unclear", "unexplained", "throttled", "own"]),
        times=st.integers(1, 6),
    )
    def answer_in_a_row(self, way: str, times: int) -> None:
        """Store all, and answer several requests in the same way."""
        self.server.way, self.server.choose = (lambda names: way), (lambda most: most)
        self.export_some(times)

    def export_some(self, times: int) -> None:
        for _ in range(times):
            self.take()
            if self.wire:
                self.export()

    @rule(
        way=st.sampled_from(["silent", "slow", "gateway", "unexplained"]),
        most=st.integers(1, SIZE - 1),
        times=st.integers(10, 30),
    )
    def answer_small_batches_only(self, way: str, most: int, times: int) -> None:
        """Store all, and answer larger batches in this way."""
        self.send(["e"] * 5 * SIZE)
        self.server.way = lambda names: way if len(names) > most else "own"
        self.server.choose = lambda most: most
        self.export_some(times)

    @rule(
        way=st.sampled_from(["silent", "slow", "gateway", "unexplained", "unclear"]),
        data=st.data(),
    )
    def answer_all_but_one_event(self, way: str, data: st.DataObject) -> None:
        """Store all, and answer whatever has one of the events in this way."""
        self.send(["e"] * 2 * SIZE)
        name = f"e{data.draw(st.integers(self.put - 2 * SIZE + 1, self.put))}"
        self.server.way = lambda names: way if name in names else "own"
        self.server.choose = lambda most: most
        self.export_some(30)

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        self.server.way = lambda names: data.draw(ways)
        self.server.choose = lambda most: data.draw(st.just(most) | st.integers(0, most))
        hurried = data.draw(st.none() | st.sampled_from([0.005, 0.015, 0.025]))
        self.export(None if hurried is None else self.now + hurried)

    def export(self, deadline: float | None = None) -> None:
        """Have the oldest batch on the wire exported, and settle it."""
        batch = self.wire.pop(0)
        exported = self.destination.exporter.export(batch.events, deadline)
        self.queue.settle(self.destination, batch, exported)
        self.account()
        pending = set(self.destination.held())
        for event in batch.events:
            if event not in pending and event not in self.settled_elsewise:
                name = json.loads(event)["payload"]["name"]
                assert self.server.copies[name] or name in self.server.unclear, "a delivered event is stored"

    def account(self) -> None:
        """Add up what requests cost in duplicates, and what they may cost at the most."""
        for way, names, stored in self.server.requests:
            if way in ("own", "away", "died", "unexplained") and names:
                self.is_trusted = False
            if way == "own" and names:
                self.is_silent = self.is_refusing = False
            elif way == "died":
                self.said += 1
            elif way == "unexplained":
                self.cost += stored
                if not self.is_refusing:
                    self.is_refusing = True
                    self.allowed += 2 * SIZE
            elif way == "unclear" and self.is_trusted:
                self.is_silent = False
            elif way in ("silent", "slow", "gateway", "unclear"):
                self.cost += stored
                self.allowed += 1 if self.is_silent else SIZE
                self.is_silent = True
                self.is_trusted = self.is_trusted or (way == "unclear" and bool(names))
                if way in ("slow", "gateway") and len(names) > 1:
                    self.slow += len(names)
        self.server.requests.clear()

    def recover(self) -> None:
        """The server is well again: everything is settled, and soon."""
        self.server.way = lambda names: "own"
        for _ in range(2 * self.put + 40):
            self.take()
            if not self.wire:
                break
            self.export()
        stats = self.queue.stats()
        assert stats.pending == 0
        assert stats.submitted == self.put == stats.delivered + stats.rejected + sum(stats.dropped.values())

    @invariant()
    def duplicates_are_bounded(self) -> None:
        if not hasattr(self, "server"):
            return
        surplus = sum(copies - 1 for copies in self.server.copies.values())
        assert surplus <= self.cost + self.said
        assert self.cost <= self.allowed
        assert not (surplus and self.at_most_once)
        assert self.slow <= self.slow_allowed

    @invariant()
    def the_ledger_balances(self) -> None:
        if hasattr(self, "server"):
            stats = self.queue.stats()
            ended = stats.delivered + stats.rejected + sum(stats.dropped.values())
            assert stats.submitted == self.put == ended + stats.pending


TestDuplicates = pytest.mark.slow(pytest.mark.filterwarnings("error")(DuplicatesMachine.TestCase))
TestDuplicates.settings = settings(
    max_examples=25,
    stateful_step_count=50,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    phases=[Phase.generate],  # to make the example smaller would take longer than a test may
    print_blob=True,
)


def test_an_event_that_there_was_no_time_for_does_not_count_as_delivered() -> None:
    server = Server(Generation.V2_17, time.sleep)
    exporter = UmamiExporter(
        Target("http://u/api/send", "http://u/api/batch"), Connections(lambda: server, lambda: SETTINGS)
    )
    payload = {"website": "w", "url": "/", "name": "b1", "userAgent": CRAWLER}
    exported = exporter.export([to_bytes({"type": "event", "payload": payload})], time.monotonic() + 0.005)
    assert [names for _, names, _ in server.requests] == [[]]  # whether the answer to a batch tells of bots
    assert exported.outcomes == {0: UNSENT}


def exporter_to(server: Server) -> UmamiExporter:
    connections = Connections(lambda: server, lambda: SETTINGS)
    return UmamiExporter(Target("http://u/api/send", "http://u/api/batch"), connections)


def events_named(*names: str) -> list[bytes]:
    return [
        to_bytes({"type": "event", "payload": {"website": "w", "url": "/", "name": name}}) for name in names
    ]


def test_an_old_umami_whose_database_connection_died_may_have_stored_the_event() -> None:
    server = Server(Generation.TEXT, lambda seconds: None)
    server.way = lambda names: "died"
    exported = exporter_to(server).export(events_named("e1"), None)
    assert server.copies["e1"] == 1
    assert exported.failure is not None
    assert exported.failure.stored_perhaps


def test_a_batch_of_which_a_part_may_be_stored_is_not_sent_one_by_one_before_the_server_is_known() -> None:
    server = Server(Generation.V3_0_2, lambda seconds: None)
    server.way = lambda names: "unexplained" if len(names) > 1 else "own"
    exported = exporter_to(server).export(events_named("e1", "e2", "e3"), None)
    assert set(server.copies.values()) == {1}
    assert exported.failure is not None
    assert exported.failure.trouble is Trouble.REFUSED
    assert exported.failure.stored_perhaps
