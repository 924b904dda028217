"""`before_send` and `on_error`: whatever they do, nothing hangs, and no other event is lost."""

import contextvars
import math
import sys
import threading
from collections import UserDict
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from types import FrameType, MappingProxyType
from typing import Any

import pytest
from conftest import DEADLINE, SITE
from queue_helpers import NEVER, Listener, Reports, hold, in_threads, send_many, sent, stored

import umami
from umami.collector import Collector
from umami.exporters import Exported, MemoryExporter, Outcome, Status
from umami.models import ErrorReport
from umami.queue.reporter import Reporter, logger

MakeClient = Callable[..., umami.Client]
Balanced = Callable[[umami.Client], None]
QUEUED = {"queued": True}
KEPT_BACK = {"queued": False, "reason": "before_send"}


# before_send.


def test_before_send_may_change_an_event(collector: Collector, make_client: MakeClient) -> None:
    def rename(payload: dict[str, Any]) -> dict[str, Any]:
        payload["name"] = "renamed"
        return {**payload, "tag": "new"}

    client = make_client(before_send=rename)
    mine = {"plan": "pro"}
    client.new_event("named", custom_data=mine)
    assert client.flush(DEADLINE)
    (event,) = collector.events
    assert (event.name, event.tag, event.data) == ("renamed", "new", {"plan": "pro"})
    assert mine == {"plan": "pro"}


def test_before_send_gets_a_copy_that_it_may_change_all_through(
    collector: Collector, make_client: MakeClient
) -> None:
    def scrub(payload: dict[str, Any]) -> dict[str, Any]:
        payload["data"].pop("email", None)
        payload["data"]["lines"][0].clear()
        payload["data"]["lines"].append("end")
        return payload

    client = make_client(before_send=scrub)
    order = {"id": 7, "email": "ann@example.com", "lines": [{"name": "x"}]}
    client.new_event("order", custom_data=order)
    client.new_event("order", custom_data=MappingProxyType(order))
    client.new_revenue_event(5, custom_data=order)
    client.identify("ann", order)
    assert client.flush(DEADLINE)
    assert order == {"id": 7, "email": "ann@example.com", "lines": [{"name": "x"}]}
    kept = {"id": 7, "lines": [{}, "end"]}
    assert [event.data for event in collector.events] == [
        kept,
        kept,
        {**kept, "revenue": 5, "currency": "USD"},
    ]
    assert [identity.data for identity in collector.identities] == [kept]


def test_before_send_sees_what_goes_out(collector: Collector, make_client: MakeClient) -> None:
    seen: list[Any] = []
    client = make_client(before_send=lambda payload: seen.append(payload) or payload)
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    client.new_event(
        "signup",
        url="http://[",
        language="de-DE,de;q=0.9",
        ip_address="10.0.0.1, 203.0.113.9",
        timestamp=at,
        custom_data={"price": Decimal("9.9"), "at": at, "text": "y" * 600, "nan": math.nan, "tuple": (1, 2)},
    )
    assert client.flush(DEADLINE)
    (payload,) = seen
    assert payload["data"] == {
        "price": 9.9,
        "at": "2026-01-02T03:04:05.000Z",
        "text": "y" * 500,
        "nan": None,
        "tuple": [1, 2],
    }
    assert (payload["language"], payload["ip"], payload["url"]) == ("de-DE", "203.0.113.9", "/http%3A//%5B")
    assert sent(collector.requests) == [seen]
    assert client.queue_stats().repaired == {"url": 1, "custom_data_text": 1, "not_finite": 1}


@pytest.mark.parametrize("kind", [dict, UserDict, MappingProxyType])
def test_before_send_may_return_any_mapping_of_any_values(
    collector: Collector, make_client: MakeClient, kind: Callable[[Any], Any]
) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)

    def change(payload: dict[str, Any]) -> Any:
        more = {"timestamp": at, "ip": "203.0.113.9:80", "language": "de,en", "tag": None, "title": "a\x00"}
        return kind({**payload, **more, "data": kind({"at": at, "in": kind({})}), "own": Decimal("1.5")})

    client = make_client(before_send=change)
    client.new_event("signup", tag="old", custom_data={"a": 1})
    assert client.flush(DEADLINE)
    ((payload,),) = sent(collector.requests)
    assert payload["data"] == {"at": "2026-01-02T03:04:05.000Z", "in": {}}
    assert (payload["timestamp"], payload["ip"], payload["language"]) == (
        1_767_323_045,
        "203.0.113.9",
        "de",
    )
    assert (payload["title"], payload["own"], "tag" in payload) == ("a\ufffd", 1.5, False)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "x" * 51},
        {"hostname": "my host"},
        {"url": 5},
        {"data": [1]},
        {"data": {"a": object()}},
        {"own": print},
    ],
)
def test_what_before_send_makes_of_an_event_is_checked(
    collector: Collector, make_client: MakeClient, balanced: Balanced, change: dict[str, Any]
) -> None:
    reports = Reports()
    client = make_client(before_send=lambda payload: {**payload, **change}, on_error=reports)
    assert client.new_event("spoiled") == KEPT_BACK
    reports.wait_for(1)
    assert "before_send failed: ValidationError: " in reports.all[0].message
    assert b'"name":"spoiled"' in reports.all[0].events[0]
    balanced(client)


def test_an_event_that_before_send_makes_too_large_is_dropped_for_that(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    reports = Reports()
    client = make_client(
        before_send=lambda payload: {**payload, "data": {str(n): "x" * 400 for n in range(10)}},
        batch_bytes=2048,
        on_error=reports,
    )
    assert client.new_event("grown") == {"queued": False, "reason": "too_large"}
    assert client.queue_stats().dropped == {"too_large": 1}
    balanced(client)
    reports.wait_for(1)
    assert reports.counts() == {("dropped", "too_large"): 1}
    assert "batch_bytes allows 2046" in reports.all[0].message


def test_an_event_that_was_too_large_before_is_refused_unless_before_send_mends_it(
    collector: Collector, make_client: MakeClient
) -> None:
    mended: list[bool] = []

    def mend(payload: dict[str, Any]) -> dict[str, Any]:
        return {**payload, "data": {}} if mended else payload

    client = make_client(before_send=mend, batch_bytes=2048)
    large = {str(n): "x" * 400 for n in range(10)}
    with pytest.raises(umami.errors.ValidationError, match="batch_bytes allows 2046"):
        client.new_event("large", custom_data=large)
    assert client.queue_stats().submitted == 0
    mended.append(True)
    assert client.new_event("large", custom_data=large) == QUEUED
    assert client.flush(DEADLINE)
    assert stored(collector) == {"large": 1}


def test_a_before_send_whose_error_cannot_be_shown_costs_its_event_only(
    make_client: MakeClient, balanced: Balanced
) -> None:
    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    def fail(payload: dict[str, Any]) -> dict[str, Any]:
        raise OddError

    client = make_client(before_send=fail)
    assert client.new_event("odd") == KEPT_BACK
    balanced(client)


def test_each_client_has_its_own_before_send_within_the_others(
    collector: Collector, make_client: MakeClient
) -> None:
    def to_other(payload: dict[str, Any]) -> dict[str, Any]:
        other.new_event("for the other")
        return {**payload, "tag": "first"}

    def to_first(payload: dict[str, Any]) -> dict[str, Any]:
        first.new_event("back again")
        return {**payload, "tag": "second"}

    first, other = make_client(before_send=to_other), make_client(before_send=to_first)
    first.new_event("start")
    assert first.flush(DEADLINE)
    assert other.flush(DEADLINE)
    assert {event.name: event.tag for event in collector.events} == {
        "start": "first",
        "for the other": "second",
        "back again": None,
    }


def test_what_before_send_started_is_passed_to_it_once_it_has_returned(
    collector: Collector, make_client: MakeClient
) -> None:
    contexts: list[contextvars.Context] = []

    def start(payload: dict[str, Any]) -> dict[str, Any]:
        contexts.append(contextvars.copy_context())
        return {**payload, "tag": "seen"}

    client = make_client(before_send=start)
    client.new_event("first")
    contexts[0].run(client.new_event, "later")
    assert client.flush(DEADLINE)
    assert {event.name: event.tag for event in collector.events} == {"first": "seen", "later": "seen"}


@pytest.mark.slow
def test_greenlets_that_gevent_made_of_threads_late_each_have_their_own_before_send(
    collector: Collector, python: Callable[..., Any]
) -> None:
    pytest.importorskip("gevent")
    program = """
        import sys
        import umami
        from gevent import monkey
        monkey.patch_all()
        import gevent

        def scrub(payload):
            gevent.sleep(0.01)
            return {**payload, "data": {}}

        umami.configure(before_send=scrub)
        gevent.joinall([gevent.spawn(umami.new_event, f"e{n}", custom_data={"secret": n}) for n in range(20)])
        print(umami.flush(30))
    """
    done = python(program, UMAMI_URL=collector.url, UMAMI_WEBSITE_ID=SITE, UMAMI_HOSTNAME="example.com")
    assert done.stdout == "True\n", done.stderr
    assert [event.data for event in collector.events] == [{}] * 20


def test_before_send_sees_every_kind_of_send(collector: Collector, make_client: MakeClient) -> None:
    seen: list[dict[str, Any]] = []

    def see(payload: dict[str, Any]) -> dict[str, Any]:
        seen.append(dict(payload))
        return payload

    client = make_client(before_send=see)
    client.new_event("event")
    client.new_revenue_event(5, "EUR")
    client.new_page_view("Page", "/page")
    client.identify("someone", {"plan": "pro"})
    assert client.flush(DEADLINE)
    assert [payload.get("name") or payload.get("title") or payload["id"] for payload in seen] == [
        "event",
        "revenue",
        "Page",
        "someone",
    ]
    assert sent(collector.requests) == [seen]


def test_an_event_that_before_send_keeps_back_is_dropped_and_counted(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    reports = Reports()
    client = make_client(
        before_send=lambda payload: None if payload["name"] == "secret" else payload, on_error=reports
    )
    assert client.new_event("secret") == KEPT_BACK
    assert client.new_event("public") == QUEUED
    assert client.flush(DEADLINE)
    assert stored(collector) == {"public": 1}
    assert client.queue_stats().dropped == {"before_send": 1}
    balanced(client)
    reports.wait_for(1)
    assert reports.counts() == {("dropped", "before_send"): 1}


@pytest.mark.anyio
async def test_the_async_twin_keeps_back_too(make_client: MakeClient, balanced: Balanced) -> None:
    client = make_client(before_send=lambda payload: None)
    assert await client.new_event_async("secret") == KEPT_BACK
    balanced(client)


def test_a_before_send_that_raises_costs_its_event_and_not_the_caller(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    reports = Reports()

    def fragile(payload: dict[str, Any]) -> dict[str, Any]:
        if payload["name"] == "odd":
            raise LookupError("no such key")
        return payload

    client = make_client(before_send=fragile, on_error=reports)
    assert client.new_event("odd") == KEPT_BACK
    assert client.new_event("even") == QUEUED
    assert client.flush(DEADLINE)
    assert stored(collector) == {"even": 1}
    balanced(client)
    reports.wait_for(1)
    assert "LookupError: no such key" in reports.all[0].message
    assert b'"odd"' in reports.all[0].events[0]


@pytest.mark.parametrize(
    "returned",
    ["text", b"bytes", 7, True, [], ("a", "b"), {"a", "b"}, object()],
    ids=lambda v: type(v).__name__,
)
def test_a_before_send_that_returns_something_else_costs_its_event_and_not_the_caller(
    returned: Any, collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    reports = Reports()
    client = make_client(before_send=lambda payload: returned, on_error=reports)
    assert client.new_event("lost") == KEPT_BACK
    client.configure(before_send=None)
    client.new_event("fine")
    assert client.flush(DEADLINE)
    assert stored(collector) == {"fine": 1}
    balanced(client)
    reports.wait_for(1)
    assert type(returned).__name__ in reports.all[0].message


@pytest.mark.parametrize(
    "odd",
    [object(), {1, object()}, float("nan"), b"\xff", threading.Lock(), "\ud800", "\0", 10**400],
    ids=lambda value: type(value).__name__,
)
def test_whatever_before_send_puts_into_an_event_costs_no_other_event_anything(
    odd: Any, collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(
        before_send=lambda payload: {**payload, "title": odd} if payload["name"] == "odd" else payload,
        flush_interval=NEVER,
    )
    names = send_many(client, 5, "before")
    assert client.new_event("odd") in (QUEUED, KEPT_BACK)
    names += send_many(client, 5, "after")
    assert client.flush(DEADLINE)
    assert {name: count for name, count in stored(collector).items() if name != "odd"} == dict.fromkeys(
        names, 1
    )
    balanced(client)


def test_before_send_may_send_events_itself_which_it_is_not_asked_about(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    asked: list[str] = []

    def echo(payload: dict[str, Any]) -> dict[str, Any]:
        asked.append(payload["name"])
        assert client.new_event(f"echo of {payload['name']}") == QUEUED
        return payload

    client = make_client(before_send=echo)
    send_many(client, 3)
    assert client.flush(DEADLINE)
    assert asked == ["e0", "e1", "e2"]
    assert stored(collector) == {f"{prefix}e{n}": 1 for n in range(3) for prefix in ("", "echo of ")}
    balanced(client)


def test_before_send_may_flush(collector: Collector, make_client: MakeClient, balanced: Balanced) -> None:
    flushed: list[bool] = []

    def flush(payload: dict[str, Any]) -> dict[str, Any]:
        flushed.append(client.flush(DEADLINE))
        return payload

    client = make_client(before_send=flush, flush_interval=NEVER)
    names = send_many(client, 3)
    assert client.flush(DEADLINE)
    assert flushed == [True] * 3
    assert stored(collector) == dict.fromkeys(names, 1)
    balanced(client)


def test_a_before_send_that_blocks_holds_up_its_own_caller_only(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def block(payload: dict[str, Any]) -> dict[str, Any]:
        if payload["name"] == "blocked":
            entered.set()
            assert go_on.wait(DEADLINE)
        return payload

    client = make_client(before_send=block)
    blocked = threading.Thread(target=client.new_event, args=("blocked",))
    blocked.start()
    assert entered.wait(DEADLINE)
    names = send_many(client, 3)
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)
    go_on.set()
    blocked.join(DEADLINE)
    assert client.flush(DEADLINE)
    assert stored(collector)["blocked"] == 1
    balanced(client)


def test_before_send_in_many_threads_at_once(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(before_send=lambda payload: {**payload, "tag": "seen"})
    in_threads(8, lambda number: send_many(client, 25, f"{number}-"))
    assert client.flush(DEADLINE)
    assert {event.tag for event in collector.events} == {"seen"}
    assert len(stored(collector)) == 200
    balanced(client)


def test_a_disabled_client_returns_nothing_and_counts_nothing_whatever_before_send_says(
    make_client: MakeClient,
) -> None:
    client = make_client(before_send=lambda payload: None, enabled=False)
    assert client.new_event("unsent") == {}
    assert client.queue_stats().submitted == 0


# on_error.


def drop(client: umami.Client, times: int = 1) -> None:
    """Have some events dropped, which is reported."""
    client.configure(before_send=lambda payload: None)
    for _ in range(times):
        client.new_event("dropped")
    client.configure(before_send=None)


class Fault(BaseException):
    """Not even an Exception."""


@pytest.mark.parametrize("fault", [RuntimeError("mine"), SystemExit(3), Fault("mine")], ids=repr)
def test_an_on_error_that_raises_is_logged_and_called_again(
    fault: BaseException,
    collector: Collector,
    make_client: MakeClient,
    heard: Listener,
    balanced: Balanced,
) -> None:
    calls = threading.Semaphore(0)

    def raising(report: ErrorReport) -> None:
        calls.release()
        raise fault

    client = make_client(on_error=raising)
    for _ in range(3):
        drop(client)
        assert calls.acquire(timeout=DEADLINE)
    names = send_many(client, 3)
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)
    heard.wait_for("on_error raised")
    assert len(heard.matching("on_error raised")) == 1
    balanced(client)


@pytest.mark.slow
def test_an_on_error_that_blocks_holds_up_nobody(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    reports, entered, go_on = Reports(), threading.Event(), threading.Event()

    def block(report: ErrorReport) -> None:
        entered.set()
        assert go_on.wait(DEADLINE)
        reports(report)

    client = make_client(on_error=block)
    drop(client)
    assert entered.wait(DEADLINE)
    drop(client, times=1000)
    names = send_many(client, 100)
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)
    balanced(client)
    go_on.set()
    reports.wait_for(1001)


@pytest.mark.slow
def test_a_shutdown_does_not_wait_for_an_on_error_that_blocks(make_client: MakeClient) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def block(report: ErrorReport) -> None:
        entered.set()
        assert go_on.wait(DEADLINE)

    client = make_client(on_error=block)
    drop(client)
    assert entered.wait(DEADLINE)
    client.new_event("delivered")
    assert client.shutdown(DEADLINE / 2)
    go_on.set()


def test_on_error_may_send_events(collector: Collector, make_client: MakeClient, balanced: Balanced) -> None:
    answers: list[dict[str, Any]] = []
    may_send, told = threading.Event(), threading.Event()

    def tell(report: ErrorReport) -> None:
        assert may_send.wait(DEADLINE)  # else its event may be dropped too
        answers.append(client.new_event("something was lost"))
        told.set()

    client = make_client(on_error=tell)
    drop(client)
    may_send.set()
    assert told.wait(DEADLINE)
    assert client.flush(DEADLINE)
    assert answers == [QUEUED]
    assert stored(collector) == {"something was lost": 1}
    balanced(client)


def test_what_on_error_sends_in_vain_is_not_reported_to_it_again(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    calls: list[int] = []
    told = threading.Event()

    def tell(report: ErrorReport) -> None:
        calls.append(report.count)
        client.new_event("no room for this either")
        told.set()

    client = make_client(queue_size=1, flush_interval=NEVER, on_error=tell)
    hold(collector, client)
    client.new_event("no room")
    assert told.wait(DEADLINE)
    assert client.flush(DEADLINE)
    assert calls == [1]
    assert client.queue_stats().dropped == {"queue_full": 2}
    balanced(client)


@pytest.mark.parametrize("call", ["flush", "shutdown"])
def test_on_error_may_flush_and_shut_down(
    call: str, collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    answers: list[bool] = []
    told = threading.Event()

    def tell(report: ErrorReport) -> None:
        answers.append(getattr(client, call)(DEADLINE))
        told.set()

    client = make_client(on_error=tell, flush_interval=NEVER)
    names = send_many(client, 3)
    drop(client)
    assert told.wait(DEADLINE)
    assert answers == [True]
    assert stored(collector) == dict.fromkeys(names, 1)
    assert client.flush(DEADLINE)
    balanced(client)


def test_on_error_may_change_settings_and_read_the_ledger(make_client: MakeClient) -> None:
    seen: list[umami.models.QueueStats] = []
    told = threading.Event()

    def tell(report: ErrorReport) -> None:
        client.configure(queue_size=5)
        client.disable()
        seen.append(client.queue_stats())
        told.set()

    client = make_client(on_error=tell)
    drop(client)
    assert told.wait(DEADLINE)
    assert seen[0].dropped == {"before_send": 1}


def test_a_flush_returns_after_on_error_was_told(make_client: MakeClient, collector: Collector) -> None:
    reports = Reports()
    client = make_client(on_error=reports)
    collector.fail(400)
    client.new_event("lost")
    assert client.flush(DEADLINE)
    assert reports.counts() == {("rejected", "400"): 1}


class Refusing(MemoryExporter):
    """Refuses all events. What its sender reports then waits for the flush, which must not return before."""

    def __init__(self) -> None:
        super().__init__()
        self.has_flushed, self.has_reported = threading.Event(), threading.Event()

    def export(self, events: Sequence[bytes], deadline: float | None) -> Exported:
        before = sys.gettrace()

        def trace(frame: FrameType, event: str, arg: Any) -> None:
            if frame.f_code is Reporter.add.__code__:
                sys.settrace(before)
                self.has_flushed.wait(0.5)
                self.has_reported.set()

        sys.settrace(trace)
        return Exported({0: Outcome(Status.REJECTED, "refused")})


def test_a_flush_sees_what_is_settled_only_with_its_report(make_client: MakeClient) -> None:
    reports, exporter = Reports(), Refusing()
    client = make_client(exporter=exporter, url_base=None, on_error=reports)
    client.new_event("lost")
    assert client.flush(DEADLINE)
    exporter.has_flushed.set()
    assert exporter.has_reported.is_set()
    assert reports.counts() == {("rejected", "refused"): 1}


def test_what_on_error_is_told_adds_up_to_the_ledger(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    reports = Reports()
    client = make_client(
        on_error=reports, queue_size=60, retry_limit=0, batch_size=10, before_send=lambda p: p, senders=1
    )
    collector.fail(503, times=1)
    collector.fail(400, times=1)
    collector.fail(None, times=2, items={0: {"code": "P2000"}})
    for number in range(100):
        client.new_event(f"e{number}")
    assert client.flush(DEADLINE)
    stats = client.queue_stats()
    reports.wait_for(stats.rejected + sum(stats.dropped.values()))
    by_kind = {"rejected": 0, "dropped": 0}
    for (kind, _), count in reports.counts().items():
        by_kind[kind] += count
    assert by_kind == {"rejected": stats.rejected, "dropped": sum(stats.dropped.values())}
    balanced(client)


# Log handlers, which are callbacks too.


class Meddling(Listener):
    """A log handler that uses the client it hears about."""

    def __init__(self, meddle: Callable[[], object]) -> None:
        super().__init__()
        self._meddle = meddle

    def emit(self, record: Any) -> None:
        self._meddle()
        super().emit(record)


def fail_loudly() -> None:
    raise RuntimeError("this handler is broken")


@pytest.mark.parametrize("what", ["sends", "flushes", "raises"])
def test_a_log_handler_may_do_what_it_likes(
    what: str, collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    reports = Reports()
    client = make_client(on_error=reports)
    meddle = {
        "sends": lambda: client.new_event("from the handler"),
        "flushes": lambda: client.flush(DEADLINE),
        "raises": fail_loudly,
    }[what]
    handler = Meddling(meddle)
    logger.addHandler(handler)
    try:
        drop(client)
        collector.fail(503)
        names = send_many(client, 3)
        reports.wait_for(1)
        assert client.flush(DEADLINE)
    finally:
        logger.removeHandler(handler)
    assert client.flush(DEADLINE)
    assert set(names) <= set(stored(collector))
    balanced(client)


def test_a_log_handler_that_ends_its_thread_does_not_end_the_reports(
    collector: Collector, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    class Ending(Listener):
        def emit(self, record: Any) -> None:
            if not ended.is_set():
                raise SystemExit

    monkeypatch.setattr(threading, "excepthook", lambda _: ended.set())
    handler = Ending()
    logger.addHandler(handler)
    try:
        reports = Reports()
        client = make_client(on_error=reports, batch_size=1)
        collector.fail(413, times=1)
        client.new_event("first")
        assert ended.wait(DEADLINE)
        collector.fail(413, times=1)
        client.new_event("second")
        reports.wait_for(1)
    finally:
        logger.removeHandler(handler)
