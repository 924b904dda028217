"""Retries: what is sent again and when, the duplicates this causes, and what is given up."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from itertools import pairwise
from typing import Any

import pytest
from conftest import DEADLINE, reserved, slow, version
from queue_helpers import NEVER, Listener, Reports, in_threads, send_many, sent, sizes, stored, until
from tenacity import RetryCallState, stop_after_delay
from tenacity.stop import stop_base
from tenacity.wait import wait_base

import umami
from umami.collector import Collector
from umami.queue.reporter import Report
from umami.queue.retry import Attempts, RetryPolicy
from umami.settings import Settings

MakeClient = Callable[..., umami.Client]
Balanced = Callable[[umami.Client], None]
Record = Callable[[str, object], None]
TRANSIENT = [408, 425, 429, 500, 502, 503, 504, 520, 522, 524, 530]


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that nobody listens on."""
    with reserved() as holder:
        yield holder.getsockname()[1]


# The policy's values.


class Outage:
    """Failures in a row, under a policy."""

    def __init__(self, **settings: Any) -> None:
        self.reports: list[Report] = []
        of_retry = {f"retry_{name}": value for name, value in settings.items()}
        self.policy = RetryPolicy(Settings(**of_retry), self.reports.append)
        self.attempts = Attempts(self.policy)

    def fail(self, message: str) -> float:
        return self.attempts.fail(self.policy, message)

    @property
    def is_over(self) -> bool:
        return self.attempts.is_over(self.policy)


def waits(count: int, **settings: Any) -> list[float]:
    """Return the waits after so many failures in a row."""
    outage = Outage(**settings)
    return [outage.fail("no") for _ in range(count)]


@pytest.mark.parametrize(
    ("attempt", "least", "most"),
    [(1, 0.25, 0.5), (2, 0.5, 1.0), (3, 1.0, 2.0), (6, 8.0, 16.0), (7, 15.0, 30.0), (1_000, 15.0, 30.0)],
)
def test_the_wait_doubles_up_to_a_cap_and_half_of_it_is_random(
    attempt: int, least: float, most: float
) -> None:
    found = {waits(attempt)[-1] for _ in range(200 if attempt < 100 else 20)}
    assert least <= min(found)
    assert max(found) <= most
    assert len(found) > 10
    assert max(found) - min(found) > (most - least) / 4


def test_without_a_limit_there_is_always_another_attempt() -> None:
    outage = Outage()
    for _ in range(1_000):
        outage.fail("no")
        assert not outage.is_over


@pytest.mark.parametrize("limit", [0, 1, 5])
def test_the_limit_counts_the_attempts_after_the_first(limit: int) -> None:
    outage = Outage(limit=limit)
    over = []
    for _ in range(limit + 1):
        outage.fail("no")
        over.append(outage.is_over)
    assert over == [False] * limit + [True]


class OfThisOutage(wait_base, stop_base):
    """A strategy of the user's, which sees real numbers and times."""

    def __init__(self) -> None:
        self.seen: list[RetryCallState] = []
        self.numbers: list[int] = []
        self.seconds: list[float | None] = []

    def __call__(self, state: RetryCallState) -> float:
        self.seen.append(state)
        self.numbers.append(state.attempt_number)
        self.seconds.append(state.seconds_since_start)
        return 0.25


def test_a_strategy_sees_one_state_of_an_outage_with_its_number_times_and_outcome() -> None:
    strategy = OfThisOutage()
    outage = Outage(wait=strategy, limit=stop_after_delay(3600.0))
    for _ in range(3):
        assert outage.fail("no answer") == 0.25
        assert not outage.is_over
    assert strategy.numbers == [1, 2, 3]
    assert len(set(map(id, strategy.seen))) == 1
    state = strategy.seen[0]
    assert str(state.outcome.exception()) == "no answer"
    assert all(seconds is not None and seconds >= 0 for seconds in strategy.seconds)
    assert strategy.seconds == sorted(strategy.seconds)
    assert state.idle_for == 0.75


def test_a_change_of_the_policy_counts_at_once() -> None:
    outage = Outage()
    outage.fail("no")
    outage.policy = Outage(wait=20, limit=0).policy
    assert outage.fail("no") >= 15  # half of the longest wait
    assert outage.is_over


def test_a_stop_by_time_ends_attempts() -> None:
    outage = Outage(limit=stop_after_delay(0.0))
    outage.fail("no")
    assert outage.is_over


def test_a_strategy_that_raises_is_reported_and_the_longest_wait_taken() -> None:
    def broken(state: RetryCallState) -> float:
        raise LookupError(state.attempt_number)

    outage = Outage(wait=broken, limit=broken)
    assert [outage.fail("no") for _ in range(3)] == [30.0] * 3
    assert not outage.is_over
    assert {report.message for report in outage.reports} == {
        *(f"The strategy of retry_wait raised LookupError({n}): waiting 30 s instead." for n in (1, 2, 3)),
        "The strategy of retry_limit raised LookupError(3): trying again.",
    }


# A server that is away, and comes back.


def test_events_wait_for_a_server_that_is_not_up_yet(
    free_port: int, make_client: MakeClient, heard: Listener, balanced: Balanced
) -> None:
    client = make_client(url_base=f"http://127.0.0.1:{free_port}")
    names = send_many(client, 100)
    heard.wait_for("not getting through")
    assert "ConnectError" in client.queue_stats().last_error
    assert client.queue_stats().pending == 100
    with Collector(port=free_port) as collector:
        assert client.flush(DEADLINE)
        assert stored(collector) == dict.fromkeys(names, 1)
    balanced(client)


def test_an_environment_that_allows_no_connection_is_told_and_its_events_wait(
    collector: Collector,
    make_client: MakeClient,
    heard: Listener,
    balanced: Balanced,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/none.pem")
    collector.fail(307, times=1, headers={"Location": "https://127.0.0.1:1/"})
    client = make_client()
    names = send_many(client, 10)
    heard.wait_for("not getting through")
    assert client.queue_stats().dropped == {}
    monkeypatch.delenv("SSL_CERT_FILE")
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)
    balanced(client)


def test_a_restarted_server_gets_what_was_sent_meanwhile(
    collector: Collector, client: umami.Client, heard: Listener, balanced: Balanced
) -> None:
    names = send_many(client, 10)
    assert client.flush(DEADLINE)
    collector.stop()
    names += send_many(client, 10, "meanwhile")
    heard.wait_for("not getting through")
    collector.start()
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)
    balanced(client)


@pytest.mark.parametrize("body", [None, *slow("<h1>Come back later", b"")], ids=["as Umami", "page", "empty"])
@pytest.mark.parametrize("status", TRANSIENT)
def test_a_request_that_met_a_passing_trouble_is_repeated(
    status: int, body: Any, batch: bool, make_client: MakeClient, balanced: Balanced
) -> None:
    with Collector(umami=version(batch)) as collector:
        client = make_client(url_base=collector.url)
        collector.fail(status, times=2, path="/api/batch" if batch else "/api/send", body=body)
        names = send_many(client, 5)
        assert client.flush(DEADLINE)
        assert stored(collector) == dict.fromkeys(names, 1)
    stats = client.queue_stats()
    assert (stats.delivered, stats.rejected, stats.dropped) == (5, 0, {})
    assert stats.retries >= 2
    balanced(client)


@pytest.mark.slow
def test_the_log_says_it_once(collector: Collector, client: umami.Client, heard: Listener) -> None:
    collector.fail(503, times=10)
    send_many(client, 5)
    collector.wait_for(events=5, timeout=DEADLINE)
    assert client.flush(DEADLINE)
    assert len(heard.matching("not getting through")) == 1
    assert "answered 503" in heard.records[0].getMessage()


@pytest.mark.slow
def test_retry_after_holds_every_request_back_for_as_long(
    collector: Collector, make_client: MakeClient
) -> None:
    client = make_client(retry_wait=0.001)
    collector.fail(429, headers={"Retry-After": "1"})
    send_many(client, 100)
    collector.wait_for(events=100, timeout=DEADLINE)
    first, second = collector.requests[:2]
    assert second.at - first.at >= 1.0


@pytest.mark.slow
def test_a_retry_after_date_is_waited_for(collector: Collector, make_client: MakeClient) -> None:
    client = make_client(retry_wait=0.001)
    date = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(seconds=2)
    started, wait = time.monotonic(), date.timestamp() - time.time()
    collector.fail(503, headers={"Retry-After": format_datetime(date, usegmt=True)})
    client.new_event("patient")
    collector.wait_for(events=1, timeout=DEADLINE)
    assert collector.requests[1].at - started >= wait - 0.01


@pytest.mark.parametrize("value", ["0", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_a_retry_after_that_is_over_means_now(
    value: str, collector: Collector, make_client: MakeClient
) -> None:
    collector.fail(429, headers={"Retry-After": value})
    make_client(retry_wait=NEVER, retry_wait_max=NEVER).new_event("prompt")
    collector.wait_for(events=1, timeout=DEADLINE)


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="Windows has no tzset")
@pytest.mark.parametrize(
    "form", ["%a %b %d %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S -0000"], ids=["asctime", "-0000"]
)
def test_a_retry_after_date_without_a_zone_is_in_utc(
    form: str, collector: Collector, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "WEST+10")  # where it would be ten hours from now
    time.tzset()
    try:
        over = datetime.now(timezone.utc) - timedelta(minutes=5)
        collector.fail(429, headers={"Retry-After": over.strftime(form)})
        make_client(retry_wait=NEVER, retry_wait_max=NEVER, retry_after_max=NEVER).new_event("prompt")
        collector.wait_for(events=1, timeout=DEADLINE)
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()


@pytest.mark.parametrize(
    "value", ["", "soon", "-5", "1.5", "\u0663", "Fri, 99 Foo 2024 25:61:61 GMT", "\x01"]
)
def test_a_retry_after_that_says_nothing_leaves_it_to_the_backoff(
    value: str, collector: Collector, make_client: MakeClient
) -> None:
    wait = 0.05
    collector.fail(503, headers={"Retry-After": value.encode().decode("latin-1")})
    make_client(retry_wait=wait, retry_wait_max=wait, retry_after_max=NEVER).new_event("patient")
    collector.wait_for(events=1, timeout=DEADLINE)
    first, second = collector.requests
    assert second.at - first.at >= wait / 2


@pytest.mark.parametrize(
    "value",
    ["86400", "9" * 4000, "Fri, 31 Dec 9999 23:59:59 GMT", "Fri, 31 Dec 9999 23:59:59 -0000"],
    ids=["a day", "long", "GMT", "-0000"],
)
def test_an_absurd_retry_after_is_not_waited_for(
    value: str, collector: Collector, make_client: MakeClient
) -> None:
    collector.fail(503, headers={"Retry-After": value})
    make_client(retry_after_max=0.01).new_event("impatient")
    collector.wait_for(events=1, timeout=DEADLINE)


@pytest.mark.parametrize(
    "fault",
    [{"status": 503}, {"status": 429, "headers": {"Retry-After": "3600"}}],
    ids=["backoff", "Retry-After"],
)
def test_a_flush_cuts_the_wait_short(
    fault: dict[str, Any], collector: Collector, make_client: MakeClient, heard: Listener
) -> None:
    client = make_client(retry_wait=NEVER, retry_wait_max=NEVER, retry_after_max=NEVER)
    collector.fail(**fault)
    names = send_many(client, 3)
    heard.wait_for("sent more slowly" if "headers" in fault else "not getting through")
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)


def test_flushes_try_once_early_in_each_retry_after(
    collector: Collector, make_client: MakeClient, heard: Listener
) -> None:
    client = make_client(retry_after_max=NEVER, shutdown_timeout=0.05)
    collector.fail(429, headers={"Retry-After": "3600"}, times=None)
    client.new_event("patient")
    heard.wait_for("sent more slowly")
    for _ in range(30):
        assert not client.flush(0.01)
    in_threads(8, lambda number: client.flush(0.05))
    assert client.queue_stats().requests == 2


@pytest.mark.slow
@pytest.mark.parametrize("timeout", [None, DEADLINE])
def test_a_flush_that_can_wait_as_long_as_the_server_asks_does(
    timeout: float | None, collector: Collector, make_client: MakeClient, heard: Listener
) -> None:
    client = make_client()
    collector.fail(429, headers={"Retry-After": "1"})
    client.new_event("patient")
    heard.wait_for("sent more slowly")
    assert client.flush(timeout)
    first, second = (request.at for request in collector.requests)
    assert second - first > 0.99


@pytest.mark.slow
def test_the_next_retry_after_may_be_tried_early_again(
    collector: Collector, make_client: MakeClient, heard: Listener
) -> None:
    client = make_client(shutdown_timeout=0.05)
    collector.fail(429, headers={"Retry-After": "1"}, times=None)
    client.new_event("patient")
    heard.wait_for("sent more slowly")
    assert not client.flush(0.05)  # the second request
    collector.wait_for(requests=3, timeout=DEADLINE)  # a second later, without a flush
    until(lambda: client.queue_stats().requests == 3)
    for _ in range(5):
        assert not client.flush(0.05)
    assert client.queue_stats().requests == 4


def test_a_flush_cuts_the_wait_of_single_events_short(collector: Collector, make_client: MakeClient) -> None:
    reports = Reports()
    client = make_client(retry_wait=NEVER, retry_wait_max=NEVER, on_error=reports)
    collector.fail(None, items={0: {"code": "P1001"}, 1: {"code": "P2000"}})
    send_many(client, 3)
    reports.wait_for(1)  # so the request is settled, and what is to be repeated waits
    assert client.flush(DEADLINE)
    assert stored(collector) == {"e0": 1, "e2": 1}


# An outage.


@pytest.mark.slow
def test_an_outage_is_waited_out_with_few_requests_and_everything_is_delivered(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    wait, wait_max, failures = 0.02, 0.1, 25
    client = make_client(
        retry_wait=wait, retry_wait_max=wait_max, batch_size=50, senders=1, flush_interval=NEVER
    )
    collector.fail(503, times=failures)
    names = send_many(client, 1000)
    collector.wait_for(events=950, timeout=DEADLINE)  # the rest may be no full batch
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)
    assert client.queue_stats().delivered == 1000
    balanced(client)
    # Each wait was at least as long as the backoff's fixed half.
    at = [request.at for request in collector.requests]
    waits = [after - before for before, after in pairwise(at[: failures + 1])]
    assert len(waits) == failures
    assert all(waited >= min(wait * 2**attempt, wait_max) / 2 for attempt, waited in enumerate(waits)), waits
    # The probes are small, so is the first request that succeeds, and then they grow again. What failed alone
    # goes alone once more.
    assert sizes(collector)[1 : failures + 3] == [1] * failures + [2, 4]
    assert [size for size in sizes(collector)[failures + 1 :] if size > 1][2] >= 8


@pytest.mark.slow
def test_one_sender_only_knocks_at_a_server_that_is_away(make_client: MakeClient) -> None:
    delay = 0.03
    with Collector(umami="cloud", item_delay=delay) as server:
        client = make_client(url_base=server.url, senders=4)
        names = send_many(client, 200)
        until(lambda: len({request.client_port for request in server.requests}) == 4)
        # It goes away while all of them wait for it.
        away = server.fail(503, times=4, freeze=True)
        until(lambda: away.hits == 4)
        server.fail(503, times=16, delay=delay)
        server.thaw()
        assert client.flush(DEADLINE)
        assert stored(server) == dict.fromkeys(names, 1)
        failed = [request.at for request in server.requests if request.status == 503]
    assert len(failed) == 20
    assert all(after - before >= delay - 0.001 for before, after in pairwise(failed[4:]))


# An unanswered request may have been stored.

SILENT = [
    pytest.param({"cut": "after"}, id="cut connection"),
    pytest.param({"freeze": True, "store": True}, id="timeout"),
    pytest.param({"status": 504, "store": True}, id="gateway timeout"),
    pytest.param({"status": 502, "store": True, "body": "<h1>Bad gateway"}, id="bad gateway"),
]


@pytest.fixture(params=SILENT)
def silent(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A fault with which the server stores what it gets and does not say so."""
    return {"status": None, **request.param}


@pytest.mark.slow
def test_after_silence_one_event_asks_first_and_then_requests_grow_again(
    silent: dict[str, Any],
    collector: Collector,
    make_client: MakeClient,
    balanced: Balanced,
    record_property: Record,
) -> None:
    client = make_client(batch_size=16, timeout=1.0, item_timeout=0, senders=1, flush_interval=NEVER)
    collector.fail(times=3, **silent)
    names = send_many(client, 64)
    assert client.flush(DEADLINE)
    assert sizes(collector)[:6] == [16, 1, 1, 1, 2, 4]
    assert [size for size in sizes(collector) if size > 1][:4] == [16, 2, 4, 8]
    slow = silent["status"] == 504 or "freeze" in silent  # so that larger ones are not tried again soon
    assert max(sizes(collector)[7:]) == (8 if slow else 16)
    assert set(stored(collector)) == set(names)
    duplicates = sum(stored(collector).values()) - 64
    assert duplicates <= 16 + 2  # a batch, and one event for each of the two probes that met silence too
    record_property("duplicates of 64 events, after three silent requests of up to 16", duplicates)
    assert client.queue_stats().delivered == 64
    balanced(client)


UNCLEAR = [
    pytest.param({"cut": "body"}, id="cut answer"),
    pytest.param({"status": 200, "body": b'{"size":8,"proce'}, id="half an answer"),
    pytest.param({"status": 200, "body": b""}, id="empty answer"),
    pytest.param({"status": 200, "body": {}}, id="empty object"),
    pytest.param({"status": 202, "body": "Accepted"}, id="text"),
]


@pytest.fixture(params=UNCLEAR)
def unclear(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A fault with which the server stores what it gets and says something that is not Umami's."""
    return {"status": None, "store": True, **request.param}


@pytest.mark.slow
def test_a_server_that_always_answers_unclearly_is_taken_at_its_word_after_one_event(
    unclear: dict[str, Any], collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(batch_size=16, senders=1, flush_interval=NEVER)
    collector.fail(times=None, **unclear)
    names = send_many(client, 64)
    assert client.flush(DEADLINE)
    assert sizes(collector)[:5] == [16, 1, 2, 4, 8]
    assert stored(collector) == {**dict.fromkeys(names, 1), **dict.fromkeys(names[:16], 2)}
    stats = client.queue_stats()
    assert (stats.delivered, stats.rejected, stats.dropped) == (64, 0, {})
    balanced(client)


@pytest.mark.slow
def test_silence_with_two_connections_costs_one_batch_too(
    make_client: MakeClient, balanced: Balanced, record_property: Record
) -> None:
    with Collector(item_delay=0.03) as collector:
        client = make_client(url_base=collector.url, batch_size=10, senders=2)
        names = send_many(client, 200)
        collector.wait_for(events=60, timeout=DEADLINE)  # both at work
        collector.fail(None, times=3, cut="after")
        assert client.flush(DEADLINE)
        assert set(stored(collector)) == set(names)
        duplicates = sum(stored(collector).values()) - 200
        assert duplicates <= 10 + 3
        record_property("duplicates of 200 events, after three silent requests of up to 10", duplicates)
    balanced(client)


@pytest.mark.slow
def test_at_most_once_drops_what_may_be_stored_and_sends_nothing_twice(
    silent: dict[str, Any],
    collector: Collector,
    make_client: MakeClient,
    balanced: Balanced,
    record_property: Record,
) -> None:
    reports = Reports()
    client = make_client(
        at_most_once=True, batch_size=8, timeout=1.0, item_timeout=0, senders=1, on_error=reports
    )
    collector.fail(times=2, **silent)
    names = send_many(client, 40)
    assert client.flush(DEADLINE)
    assert max(stored(collector).values()) == 1
    assert set(stored(collector)) == set(names)  # it had stored them indeed
    lost = sum(sizes(collector)[:2])
    assert client.queue_stats().dropped == {"uncertain": lost}
    assert client.queue_stats().delivered == 40 - lost
    balanced(client)
    reports.wait_for(lost)
    assert reports.counts() == {("dropped", "uncertain"): lost}
    record_property("duplicates of 40 events", sum(stored(collector).values()) - len(stored(collector)))


def test_at_most_once_an_unclear_answer_drops_one_batch_and_is_then_taken_at_its_word(
    unclear: dict[str, Any], collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(at_most_once=True, batch_size=8, senders=1, flush_interval=NEVER)
    collector.fail(times=None, **unclear)
    names = send_many(client, 40)
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)
    stats = client.queue_stats()
    assert (stats.delivered, stats.rejected, stats.dropped) == (32, 0, {"uncertain": 8})
    balanced(client)


@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"status": 429}, {"status": None, "items": {0: {"code": "P1001"}}}]
)
def test_at_most_once_still_repeats_what_was_surely_not_stored(
    fault: dict[str, Any], collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(at_most_once=True)
    collector.fail(**fault)
    names = send_many(client, 5)
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)
    assert client.queue_stats().dropped == {}
    balanced(client)


def test_at_most_once_waits_for_a_server_that_is_not_up_yet(
    free_port: int, make_client: MakeClient, heard: Listener
) -> None:
    client = make_client(url_base=f"http://127.0.0.1:{free_port}", at_most_once=True)
    names = send_many(client, 5)
    heard.wait_for("not getting through")
    with Collector(port=free_port) as collector:
        assert client.flush(DEADLINE)
        assert stored(collector) == dict.fromkeys(names, 1)


def test_a_request_cut_before_it_was_stored_is_repeated(
    collector: Collector, client: umami.Client, balanced: Balanced
) -> None:
    collector.fail(None, times=3, cut="before")
    names = send_many(client, 20)
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)
    balanced(client)


# Limits, for those who set them.


@pytest.mark.parametrize("limit", [0, 2])
def test_past_the_retry_limit_the_events_are_dropped(
    limit: int, collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    reports = Reports()
    client = make_client(retry_limit=limit, on_error=reports, flush_interval=NEVER)
    collector.fail(503, times=limit + 1)
    send_many(client, 5, "lost")
    assert client.flush(DEADLINE)
    assert sizes(collector) == [5] + [1] * limit
    assert client.queue_stats().dropped == {"retry_limit": 5}
    balanced(client)
    reports.wait_for(5)
    assert "503" in reports.all[0].message
    names = send_many(client, 5)
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)


@pytest.mark.parametrize(
    "settings", [{"at_most_once": True}, {"retry_limit": 0}], ids=["at_most_once", "limit"]
)
def test_after_a_failure_that_left_nothing_to_repeat_the_next_event_goes_out_by_itself(
    settings: dict[str, Any], collector: Collector, make_client: MakeClient
) -> None:
    reports = Reports()
    client = make_client(on_error=reports, **settings)
    collector.fail(None, cut="after")
    client.new_event("lost")
    reports.wait_for(1)
    until(lambda: client._state.route.destination.wake.waiting == 1)
    client.new_event("next")
    collector.wait_for(events=2, timeout=DEADLINE)


def test_a_retry_within_the_limit_delivers(collector: Collector, make_client: MakeClient) -> None:
    client = make_client(retry_limit=2)
    collector.fail(503, times=2)
    names = send_many(client, 5)
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0, 3])
def test_poison_among_hundreds_of_events_costs_nobody_else_anything(
    limit: int, batch: bool, make_client: MakeClient, balanced: Balanced
) -> None:
    reports = Reports()

    def boom(index: int, item: dict[str, Any]) -> dict[str, Any] | None:
        return {"message": "poisoned"} if item["payload"]["name"].startswith("poison") else None

    names = [f"poison{number}" if number % 100 == 50 else f"e{number}" for number in range(305)]
    poison = {name for name in names if name.startswith("poison")}
    with Collector(umami=version(batch)) as collector:
        client = make_client(url_base=collector.url, item_retry_limit=limit, on_error=reports)
        collector.fail(None, times=None, items=boom, path="/api/batch" if batch else "/api/send")
        for name in names:
            client.new_event(name)
        assert client.flush(DEADLINE)
        assert stored(collector) == dict.fromkeys(set(names) - poison, 1)
        route = "/api/batch" if batch else "/api/send"
        tries = [
            payload["name"]
            for payloads in sent(request for request in collector.requests if request.path == route)
            for payload in payloads
        ]
        assert {tries.count(name) for name in poison} == {limit + 1}
    stats = client.queue_stats()
    assert (stats.delivered, stats.rejected) == (len(names) - len(poison), len(poison))
    balanced(client)
    reports.wait_for(len(poison))
    assert all("poisoned" in problem.message for problem in reports.all)
