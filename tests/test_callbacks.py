"""`before_send` and `on_error`: whatever they do, nothing hangs, and no other event is lost."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from conftest import DEADLINE
from queue_helpers import NEVER, Listener, Reports, hold, in_threads, send_many, sent, stored

import umami
from umami.collector import Collector
from umami.models import ErrorReport
from umami.queue.reporter import logger

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
    told = threading.Event()

    def tell(report: ErrorReport) -> None:
        answers.append(client.new_event("something was lost"))
        told.set()

    client = make_client(on_error=tell)
    drop(client)
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
