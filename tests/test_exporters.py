"""Exporters: a client that delivers its batches somewhere other than to Umami."""

import json
import threading
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE, SITE
from queue_helpers import Listener, Reports, send_many, until
from secrecy import watch

import umami
from umami.collector import Collector
from umami.errors import OperationNotAllowedError, ValidationError
from umami.exporters import (
    Exported,
    Exporter,
    Failure,
    Limits,
    MemoryExporter,
    Outcome,
    Status,
    Trouble,
    UmamiExporter,
    umami_exporter,
)

Answer = Callable[[Sequence[bytes]], Exported]


class Answering(Exporter):
    """Keeps what it delivers, and answers as told.

    Args:
        answer: Says what becomes of a batch.
        limits: What it takes at a time.
    """

    def __init__(self, answer: Answer | None = None, limits: Limits | None = None) -> None:
        self._answer = answer or (lambda events: Exported())
        self._limits = limits or Limits()
        self.batches: list[list[str]] = []
        self.threads: set[int] = set()

    name = "answering"

    @property
    def limits(self) -> Limits:
        return self._limits

    def describe(self) -> str:
        return "a test's"

    def export(self, events: Sequence[bytes], deadline: float | None) -> Exported:
        self.threads.add(threading.get_ident())
        self.batches.append([json.loads(event)["payload"]["name"] for event in events])
        return self._answer(events)


def client_of(exporter: Exporter, **settings: Any) -> umami.Client:
    return umami.Client(
        exporter=exporter, website_id=SITE, hostname="example.com", retry_wait=0.01, **settings
    )


def named(events: Sequence[bytes]) -> list[str]:
    return [json.loads(event)["payload"]["name"] for event in events]


def test_batches_go_to_the_exporter_without_any_url() -> None:
    exporter = MemoryExporter()
    with client_of(exporter, batch_size=10) as client:
        names = send_many(client, 25)
        assert client.flush(DEADLINE)
        stats = client.queue_stats()
    assert (stats.submitted, stats.delivered, stats.requests) == (25, 25, 3)
    assert [event["payload"]["name"] for event in exporter.events] == names
    assert {event["type"] for event in exporter.events} == {"event"}


def test_an_exporter_of_json_lines_takes_twenty_lines(tmp_path: Path) -> None:
    class FileExporter(Exporter):
        name = "file"

        def __init__(self, path: Path) -> None:
            self.path = path

        def export(self, events: Sequence[bytes], deadline: float | None) -> Exported:
            try:
                with self.path.open("ab") as file:
                    file.writelines(event + b"\n" for event in events)
            except OSError as error:
                return Exported(failure=Failure(str(error), range(len(events))))
            return Exported()

    path = tmp_path / "missing" / "events.jsonl"
    with client_of(FileExporter(path)) as client:
        names = send_many(client, 100)
        until(lambda: client.queue_stats().last_error is not None)
        path.parent.mkdir()
        assert client.flush(DEADLINE)
    written = [json.loads(line)["payload"]["name"] for line in path.read_text().splitlines()]
    assert sorted(written) == sorted(names)
    assert client.queue_stats().delivered == 100


def test_queries_need_a_server_all_the_same() -> None:
    with client_of(MemoryExporter()) as client, pytest.raises(OperationNotAllowedError, match="URL base"):
        client.websites()


def test_each_event_ends_as_the_exporter_says() -> None:
    reports = Reports()

    def answer(events: Sequence[bytes]) -> Exported:
        outcomes = {
            "bad": Outcome(Status.REJECTED, "ugly", "It is ugly."),
            "half": Outcome(Status.INCOMPLETE, "data", "Its data is lost."),
        }
        found = {index: outcomes[name] for index, name in enumerate(named(events)) if name in outcomes}
        return Exported(found)

    with client_of(Answering(answer), on_error=reports) as client:
        for name in ("good", "bad", "half", "fine"):
            client.new_event(name)
        assert client.flush(DEADLINE)
        stats = client.queue_stats()
    assert (stats.delivered, stats.rejected, stats.server) == (3, 1, "a test's")
    assert reports.counts() == {("rejected", "ugly"): 1, ("incomplete", "data"): 1}


def test_what_fails_is_sent_again_and_what_always_fails_alone_is_rejected() -> None:
    def answer(events: Sequence[bytes]) -> Exported:
        if "poison" in named(events):
            return Exported(failure=Failure("no", range(len(events)), Trouble.REFUSED, reason="odd"))
        return Exported()

    exporter = Answering(answer)
    with client_of(exporter, senders=1) as client:
        names = send_many(client, 20)
        client.new_event("poison")
        # Nothing proves that an event is the cause until others are accepted.
        more = count()
        until(lambda: bool(client.new_event(f"more{next(more)}")) and client.queue_stats().rejected > 0)
        assert client.flush(DEADLINE)
        stats = client.queue_stats()
    assert stats.rejected == 1
    delivered = [name for batch in exporter.batches if "poison" not in batch for name in batch]
    assert set(names) <= set(delivered)
    assert len(delivered) == len(set(delivered))


def test_an_exporters_limits_are_obeyed() -> None:
    exporter = Answering(limits=Limits(events=3, bytes=1_000_000, threads=1))
    with client_of(exporter, batch_size=50) as client:
        names = send_many(client, 20)
        assert client.flush(DEADLINE)
    assert max(map(len, exporter.batches)) == 3
    assert [name for batch in exporter.batches for name in batch] == names
    assert len(exporter.threads) == 1


def test_limits_that_are_no_integers_are_ignored() -> None:
    exporter = Answering(limits=Limits(events=2.5))  # type: ignore[arg-type]
    with client_of(exporter, batch_size=4) as client:
        names = send_many(client, 8)
        assert client.flush(DEADLINE)
    assert [name for batch in exporter.batches for name in batch] == names


def test_an_exporter_that_raises_costs_its_batch_and_is_named(heard: Listener) -> None:
    def answer(events: Sequence[bytes]) -> Exported:
        if "first" in named(events):
            raise LookupError("a bug")
        return Exported()

    with client_of(Answering(answer), batch_size=1) as client:
        client.new_event("first")
        client.new_event("second")
        assert client.flush(DEADLINE)
        stats = client.queue_stats()
    assert (stats.delivered, stats.dropped) == (1, {"internal_error": 1})
    assert heard.matching(
        "The exporter answering failed with LookupError, and its batch of 1 event was dropped"
    )


def test_stored_events_go_only_to_the_exporter_of_their_name(tmp_path: Path, heard: Listener) -> None:
    folder = str(tmp_path / "spool")

    def away(events: Sequence[bytes]) -> Exported:
        return Exported(failure=Failure("away", range(len(events))))

    client = client_of(Answering(away), spool=folder)
    client.new_event("kept")
    assert not client.shutdown(0.1)
    watch.let_go(client)
    del client
    other = MemoryExporter()
    with client_of(other, spool=folder) as client:
        until(lambda: client.flush(DEADLINE) and heard.matching("events for answering"))
    assert other.events == []
    exporter = Answering()
    with client_of(exporter, spool=folder) as client:
        assert client.flush(DEADLINE)
    assert exporter.batches == [["kept"]]


class Nameless(Exporter):
    def export(self, events: Sequence[bytes], deadline: float | None) -> Exported:
        return Exported()


class TooFewArguments(Exporter):
    name = "signature"

    def export(self, events: Sequence[bytes]) -> Exported:  # type: ignore[override]
        return Exported()


class LimitsAsMethod(Nameless):
    name = "limits"

    def limits(self) -> Limits:  # type: ignore[override]
        return Limits()


@pytest.mark.parametrize(
    ("exporter", "why"),
    [
        pytest.param(object(), "subclass of umami.exporters.Exporter", id="object"),
        pytest.param(MemoryExporter, r"the class MemoryExporter: pass MemoryExporter\(…\)", id="class"),
        pytest.param(MemoryExporter(""), "name must be a printable string", id="no name"),
        pytest.param(MemoryExporter("a\nb"), "name must be a printable string", id="line break"),
        pytest.param(Nameless(), "name must be a printable string", id="nothing set"),
        pytest.param(TooFewArguments(), r"export\(\) must take events and a deadline", id="signature"),
        pytest.param(LimitsAsMethod(), "limits must be an umami.exporters.Limits", id="limits"),
    ],
)
def test_what_is_no_exporter_is_refused(exporter: Any, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        umami.Client(exporter=exporter)


def test_direct_mode_needs_a_server() -> None:
    with pytest.raises(ValidationError, match="direct"):
        umami.Client(exporter=MemoryExporter(), mode="direct")


def test_the_umami_exporter_is_public_and_named_by_its_route() -> None:
    with umami.Client(url_base="https://umami.example.com", website_id=SITE, hostname="h") as client:
        exporter = client._state.new_route().destination.exporter
    assert isinstance(exporter, UmamiExporter)
    assert exporter.name == "umami:https://umami.example.com/api/send"


def test_an_exporter_may_wrap_the_one_to_umami(collector: Collector) -> None:
    class Counting(Exporter):
        name = "counting"

        def __init__(self) -> None:
            self.umami = umami_exporter(url_base=collector.url, timeout=5)
            self.batches = 0

        def export(self, events: Sequence[bytes], deadline: float | None) -> Exported:
            self.batches += 1
            return self.umami.export(events, deadline)

        def leave(self) -> None:
            self.umami.leave()

    exporter = Counting()
    with client_of(exporter) as client:
        client.new_event("good")
        client.new_event("bad", ua="curl/8.0")
        assert client.flush(DEADLINE)
        stats = client.queue_stats()
    assert (stats.delivered, stats.rejected) == (1, 1)
    assert [event.name for event in collector.events] == ["good"]
    assert exporter.batches >= 1


def test_a_wrapped_exporter_to_umami_needs_a_server() -> None:
    with pytest.raises(OperationNotAllowedError, match="URL base"):
        umami_exporter()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda events: None, id="nothing"),
        pytest.param(lambda events: Exported, id="class"),
        pytest.param(lambda events: Exported(requests=None), id="requests"),  # type: ignore[arg-type]
        pytest.param(lambda events: Exported(failure="x"), id="failure"),  # type: ignore[arg-type]
        pytest.param(
            lambda events: Exported(failure=Failure("x", [0], retry_after="5")),  # type: ignore[arg-type]
            id="retry_after",
        ),
        pytest.param(lambda events: Exported({0: "delivered"}), id="outcome"),  # type: ignore[dict-item]
        pytest.param(
            lambda events: Exported({0: Outcome("delivered")}),  # type: ignore[arg-type]
            id="status",
        ),
        pytest.param(
            lambda events: Exported({0: Outcome(Status.REJECTED, None)}),  # type: ignore[arg-type]
            id="reason",
        ),
        pytest.param(lambda events: Exported({99: Outcome(Status.REJECTED)}), id="no such event"),
        pytest.param(lambda events: Exported(failure=Failure("x", [0, 0])), id="twice"),
        pytest.param(lambda events: Exported(failure=Failure("x", [-1])), id="negative"),
    ],
)
def test_an_odd_answer_costs_its_batch_and_the_counts_add_up(
    answer: Answer, heard: Listener, balanced: Callable[[umami.Client], None]
) -> None:
    with client_of(Answering(answer)) as client:
        client.new_event("one")
        assert client.flush(DEADLINE)
        balanced(client)
        stats = client.queue_stats()
    assert (stats.submitted, stats.dropped) == (1, {"internal_error": 1})
    assert stats.pending_bytes == 0
    assert heard.matching("The exporter answering failed with")


def test_an_exporter_whose_other_methods_raise_delivers_all_the_same(heard: Listener) -> None:
    class Faulty(MemoryExporter):
        @property
        def limits(self) -> Limits:
            if self.events:
                raise LookupError("limits")
            return Limits()

        def describe(self) -> str:
            raise LookupError("describe")

        def leave(self) -> None:
            raise LookupError("leave")

    exporter = Faulty()
    with client_of(exporter) as client:
        for name in ("one", "two"):
            client.new_event(name)
            assert client.flush(DEADLINE)
        assert client.queue_stats().server is None
        assert client.shutdown(DEADLINE)
    assert [event["payload"]["name"] for event in exporter.events] == ["one", "two"]
    assert heard.matching("leave of an exporter raised")
