"""Numbers in the log: they add up to the counts, and the message says why events are left and what to do."""

import contextlib
import itertools
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from textwrap import dedent
from typing import Any

import pytest
from conftest import DEADLINE, SITE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from process_helpers import finished
from process_helpers import settings as environment
from queue_helpers import NEVER, Listener, Reports, send_many, until

import umami
from umami.collector import Collector
from umami.models import ErrorReport
from umami.queue import reporter

MakeClient = Callable[..., umami.Client]
AWAY: dict[str, Any] = {"url_base": "http://127.0.0.1:9", "shutdown_timeout": 0.05}
"""Settings of a client whose server is away: nothing listens there."""

COUNTED = re.compile(r"(?:^|umami: ?|umami:)(\d+) events? (rejected|dropped) \(([\w ]+)\)", re.MULTILINE)


def counted(lines: Iterable[str]) -> Counter[str]:
    """Return how many events the log says were rejected, or dropped for a reason."""
    counts: Counter[str] = Counter()
    for line in lines:
        for number, kind, reason in COUNTED.findall(line):
            counts[kind if kind == "rejected" else reason] += int(number)
    return counts


def of_ledger(stats: umami.models.QueueStats) -> Counter[str]:
    """Return the same from the ledger."""
    return Counter(stats.dropped) + Counter(rejected=stats.rejected)


def logged(heard: Listener) -> Counter[str]:
    return counted(record.getMessage() for record in heard.matching("") if record.levelno >= logging.INFO)


def test_what_was_held_back_is_logged_at_a_shutdown(make_client: MakeClient, heard: Listener) -> None:
    client = make_client(**AWAY, queue_size=20, flush_interval=NEVER)
    for _ in range(10):
        for _ in range(98):
            client.new_event("too many")
        client.flush(0.01)  # the reporter passes on what came so far
    client.shutdown(0.1)
    assert client.queue_stats().dropped == {"queue_full": 960}
    assert logged(heard) == of_ledger(client.queue_stats())


def test_reasons_without_end_share_their_lines(
    collector: Collector, make_client: MakeClient, heard: Listener
) -> None:
    numbers = itertools.count()
    collector.fail(None, times=None, items=lambda index, item: {"code": f"E{next(numbers)}"})
    client = make_client(item_retry_limit=0, on_error=lambda report: None)
    for _ in range(5):  # the reporter passes on what came so far
        send_many(client, 100)
        assert client.flush(DEADLINE)
    assert client.shutdown(DEADLINE)
    assert client.queue_stats().rejected == 500
    assert sum(logged(heard).values()) == 500
    assert len(heard.matching("rejected")) < 250


def test_what_was_held_back_is_logged_once_the_interval_has_passed(
    make_client: MakeClient, heard: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter, "LOG_INTERVAL", 0.2)
    reports = Reports()
    client = make_client(**AWAY, queue_size=1, flush_interval=NEVER, on_error=reports)
    for number in range(21):
        client.new_event("too many")
        reports.wait_for(number)
    give_up = time.monotonic() + DEADLINE
    while logged(heard) != {"queue_full": 20}:
        assert time.monotonic() < give_up
        threading.Event().wait(0.01)


def test_an_on_error_that_blocks_keeps_no_count_out_of_the_log(
    make_client: MakeClient, heard: Listener
) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def block(report: ErrorReport) -> None:
        entered.set()
        assert go_on.wait(DEADLINE)

    client = make_client(**AWAY, queue_size=1, flush_interval=NEVER, on_error=block)
    send_many(client, 1)
    client.new_event("too many")
    assert entered.wait(DEADLINE)
    for _ in range(99):
        client.new_event("too many")
    client.shutdown(0.01)
    assert logged(heard) == {"queue_full": 100}
    go_on.set()


@pytest.mark.slow
def test_a_job_logs_all_it_dropped_and_what_is_left() -> None:
    program = """
        import logging, umami
        logging.basicConfig()
        for number in range(1000):
            umami.new_event("row")
            if number % 100 == 0:
                umami.flush(0.05)
        print(umami.queue_stats().dropped)
    """
    done = finished(
        "-c", dedent(program), **environment(9, queue_size=20, shutdown_timeout=1.5, retry_wait=0.1)
    )
    assert counted(done.stderr.splitlines()) == {"queue_full": 980}, done.stderr
    assert "The process ends with 20 events not delivered. 0 of 1000 were delivered." in done.stderr
    assert "The last request failed: " in done.stderr
    assert "Connection refused" in done.stderr
    assert "call flush() before the end" in done.stderr
    assert "shutdown_timeout (now 1.5 s)" in done.stderr


@pytest.mark.slow
def test_a_job_that_ends_too_soon_is_told_that_the_time_was_too_short() -> None:
    program = """
        import umami
        for number in range(20_000):
            umami.new_event("row")
    """
    with Collector(item_delay=0.05) as server:
        done = finished("-c", dedent(program), **environment(server, shutdown_timeout=0.1))
    (line,) = [line for line in done.stderr.splitlines() if "The process ends" in line]
    assert "of 20000 were delivered. There was not enough time to send them. To wait until all" in line
    assert "none" not in line


# `flush` and `shutdown` that return False.


@pytest.mark.parametrize("call", ["flush", "shutdown"])
def test_a_false_says_why(call: str, make_client: MakeClient, heard: Listener) -> None:
    client = make_client(**AWAY, retry_wait=NEVER)
    send_many(client, 3)
    assert getattr(client, call)(0.3) is False
    heard.wait_for(f"{call}() returned False after 0.")
    (line,) = heard.matching("returned False")
    assert line.levelno == logging.WARNING
    assert "3 of 3 events are still queued. The last request failed: " in line.getMessage()
    assert "Connection refused. To wait longer, pass a longer timeout" in line.getMessage()


@pytest.mark.anyio
@pytest.mark.parametrize("call", ["flush_async", "shutdown_async"])
async def test_an_async_false_says_why(call: str, make_client: MakeClient, heard: Listener) -> None:
    client = make_client(**AWAY, retry_wait=NEVER)
    send_many(client, 3)
    assert await getattr(client, call)(0.3) is False
    heard.wait_for(f"{call.removesuffix('_async')}() returned False after 0.")


def test_a_service_that_polls_is_told_once(make_client: MakeClient, heard: Listener) -> None:
    client = make_client(**AWAY, retry_wait=NEVER)
    send_many(client, 3)
    for _ in range(300):
        assert client.flush(0) is False
    heard.wait_for("returned False")
    assert client.flush(0.2) is False
    warnings = [line for line in heard.matching("returned False") if line.levelno >= logging.INFO]
    assert len(warnings) == 1


# The levels.


def test_an_event_that_before_send_drops_on_purpose_is_no_error(
    make_client: MakeClient, heard: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "umami")
    client = make_client(before_send=lambda payload: None)
    client.new_event("kept back")
    client.shutdown(DEADLINE)
    (line,) = heard.matching("1 event dropped (before_send). before_send returned None.")
    assert line.levelno == logging.INFO
    assert logged(heard) == {"before_send": 1} == client.queue_stats().dropped


@pytest.mark.parametrize("answer", ["text", RuntimeError("mine")], ids=["no dict", "raises"])
def test_a_before_send_that_fails_is_an_error(answer: Any, make_client: MakeClient, heard: Listener) -> None:
    def before_send(payload: dict[str, Any]) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    client = make_client(before_send=before_send)
    client.new_event("lost")
    client.shutdown(DEADLINE)
    assert client.queue_stats().dropped == {"before_send": 1}
    (line,) = heard.matching("Events are dropped: before_send ")
    assert line.levelno == logging.ERROR


def test_a_crawler_is_a_warning_once_and_no_error(
    collector: Collector, make_client: MakeClient, heard: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "umami")
    client = make_client()
    for _ in range(2):
        client.new_page_view("Home", "/", ua="Mozilla/5.0 (compatible; Googlebot/2.1)")
        assert client.flush(DEADLINE)
    client.shutdown(DEADLINE)
    lines = heard.matching("rejected (bot)")
    assert [line.levelno for line in lines] == [logging.WARNING, logging.INFO]
    assert logged(heard) == {"rejected": 2} == of_ledger(client.queue_stats())


# Whatever happens: the log, the ledger and `on_error` say the same.

BOT = "Mozilla/5.0 (compatible; Googlebot/2.1)"
ACTS: dict[str, Callable[[umami.Client, Collector], object]] = {
    "send": lambda client, server: [client.new_event("fine") for _ in range(7)],
    "bot": lambda client, server: client.new_page_view("Home", "/", ua=BOT),
    "old": lambda client, server: client.new_event("old", timestamp=time.time() - 7200),
    "large": lambda client, server: client.new_event(
        "large", custom_data={f"k{n}": "x" * 400 for n in range(9)}
    ),
    "kept back": lambda client, server: client.new_event("secret"),
    "fails": lambda client, server: client.new_event("odd"),
    "refused": lambda client, server: server.fail(None, items={0: {"code": "P2000"}}),
    "away": lambda client, server: server.fail(503, times=2),
    "well": lambda client, server: server.clear_faults(),
    "flush": lambda client, server: client.flush(0.02),
    "shutdown": lambda client, server: client.shutdown(0.02),
    "small": lambda client, server: client.configure(queue_size=5),
    "big": lambda client, server: client.configure(queue_size=500),
    "limited": lambda client, server: client.configure(retry_limit=1),
    "once": lambda client, server: client.configure(at_most_once=True),
    "oldest": lambda client, server: client.configure(overflow="drop_oldest"),
    "interval": lambda client, server: setattr(reporter, "LOG_INTERVAL", 0.01),
    "long interval": lambda client, server: setattr(reporter, "LOG_INTERVAL", 60.0),
}


def screen(payload: dict[str, Any]) -> dict[str, Any] | None:
    if payload.get("name") == "odd":
        raise LookupError("no such key")
    return None if payload.get("name") == "secret" else payload


def check_sums(client: umami.Client, heard: Listener, reports: Reports) -> None:
    stats = client.queue_stats()
    assert stats.pending == 0
    assert stats.submitted == stats.delivered + stats.rejected + sum(stats.dropped.values())
    ledger = +of_ledger(stats)

    def told() -> Counter[str]:
        counts: Counter[str] = Counter()
        for (kind, reason), count in reports.counts().items():
            counts["rejected" if kind == "rejected" else reason] += count
        return counts

    # A shutdown waits for the reporter, but not for long; so on a busy machine it may not be done yet.
    with contextlib.suppress(AssertionError):
        until(lambda: told() == logged(heard) == ledger)
    assert logged(heard) == ledger
    assert told() == ledger


@pytest.mark.slow
@given(acts=st.lists(st.sampled_from(list(ACTS)), min_size=5, max_size=40))
@settings(
    max_examples=25,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_log_the_ledger_and_on_error_say_the_same(
    acts: list[str], collector: Collector, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "umami")
    monkeypatch.setattr(reporter, "LOG_INTERVAL", 60.0)
    collector.clear()
    collector.clear_faults()
    heard, reports = Listener(), Reports()
    reporter.logger.addHandler(heard)
    try:
        client = umami.Client(
            url_base=collector.url,
            website_id=SITE,
            hostname="example.com",
            retry_wait=0.01,
            retry_wait_max=0.02,
            flush_interval=0.01,
            queue_bytes=3000,
            max_event_age=3600,
            before_send=screen,
            on_error=reports,
        )
        for act in acts:
            ACTS[act](client, collector)
        collector.clear_faults()
        client.shutdown(DEADLINE)
        check_sums(client, heard, reports)
    finally:
        reporter.logger.removeHandler(heard)
