"""Answers that are not Umami's: from proxies, gateways, firewalls, rate limits and restarting servers."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from conftest import DEADLINE, slow
from queue_helpers import NEVER, Listener, Reports, send_many, stored, until
from reverse_proxy import NO_ANSWER, Answer, ProxyRequest, ReverseProxy

import umami
from umami.collector import Collector

MakeClient = Callable[..., umami.Client]
Balanced = Callable[[umami.Client], None]
Record = Callable[[str, object], None]

DECISIVE = [400, 401, 403, 406, 410, 418, 422, 451]
"""Refusals that are the request's own, so that one more of an event that is alone with it settles it."""
DOUBTFUL = [404, 405, 408, 425, 500, 501]
"""Refusals that may be the server's own trouble, or ask to try again later."""


@pytest.fixture(params=["3.1", "2.15"])
def server(request: pytest.FixtureRequest) -> Any:
    """A server with batches, and one without."""
    with Collector(umami=request.param) as server:
        yield server


def poison_is(answer: Answer) -> Callable[[ProxyRequest], Answer | None]:
    """Answer every request so that carries the event named poison."""
    return lambda request: answer if "poison" in request.names else None


def send_until(client: umami.Client, condition: Callable[[], bool], prefix: str = "more") -> list[str]:
    """Send one event after another until a condition holds, and return their names."""
    names: list[str] = []
    give_up = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < give_up, f"it never came true: {client.queue_stats()}"
        names += send_many(client, 1, f"{prefix}{len(names)}.")
        settled = client.queue_stats().delivered + 1
        until(lambda settled=settled: client.queue_stats().delivered >= settled or condition())  # type: ignore[misc]
    return names


# One event that something refuses.


@pytest.mark.slow
@pytest.mark.parametrize("status", [*DECISIVE, *DOUBTFUL, 413])
def test_one_event_that_is_always_refused_is_rejected_once_others_are_accepted(
    status: int, server: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    reports = Reports()
    with ReverseProxy(server.url, poison_is(Answer(status, b"<h1>Blocked</h1>"))) as proxy:
        client = make_client(url_base=proxy.url, on_error=reports, item_retry_limit=2)
        names = send_many(client, 25)
        client.new_event("poison")
        names += send_many(client, 24, "later")
        names += send_until(client, lambda: client.queue_stats().rejected == 1)
        assert client.flush(DEADLINE)
        assert stored(server) == dict.fromkeys(names, 1)
        tries = [request for request in proxy.requests if request.names == ["poison"]]
    assert len(tries) <= 2 * (1 + 1 + 2)  # by either route, where the first is asked whether it is there
    assert reports.counts() == {("rejected", str(status)): 1}
    assert f"answered {status}, not as Umami does" in reports.all[0].message
    assert b"poison" in reports.all[0].events[0]
    balanced(client)


@pytest.mark.slow
@pytest.mark.parametrize("status", [404, 408, 425])
def test_an_event_that_is_to_be_tried_later_is_kept_though_others_are_accepted_meanwhile(
    status: int, collector: Collector, make_client: MakeClient
) -> None:
    taken = 0

    def refuse(request: ProxyRequest) -> Answer | None:
        nonlocal taken
        taken += "poison" not in request.names
        return Answer(status) if "poison" in request.names and taken < 10 else None

    with ReverseProxy(collector.url, refuse) as proxy:
        client = make_client(url_base=proxy.url, item_retry_limit=20)
        client.new_event("poison")
        until(lambda: bool(proxy.requests))
        names = send_until(client, lambda: taken >= 12)
        assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys([*names, "poison"], 1)


def test_a_firewall_that_answers_404_to_one_event_is_not_taken_for_a_server_without_the_route(
    collector: Collector, make_client: MakeClient
) -> None:
    reports = Reports()
    with ReverseProxy(collector.url, poison_is(Answer(404, b"<h1>Not found</h1>"))) as proxy:
        client = make_client(url_base=proxy.url, on_error=reports, item_retry_limit=2, flush_interval=0.2)
        client.new_event("poison")
        names = send_many(client, 20)
        names += send_until(client, lambda: client.queue_stats().rejected == 1)
        assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)
    assert reports.counts() == {("rejected", "404"): 1}


@pytest.mark.parametrize("status", [403, 406])
def test_a_firewall_that_refuses_one_event_of_fifty_costs_that_event(
    status: int, collector: Collector, make_client: MakeClient
) -> None:
    with ReverseProxy(collector.url, poison_is(Answer(status, b"<h1>Forbidden</h1>"))) as proxy:
        client = make_client(url_base=proxy.url, flush_interval=NEVER, batch_size=50)
        names = send_many(client, 30)
        client.new_event("poison")
        names += send_many(client, 19, "later")
        assert client.flush(DEADLINE)  # the others of its batch show that it is the event
        assert stored(collector) == dict.fromkeys(names, 1)
        assert len(proxy.requests) <= 25
        assert {request.path for request in proxy.requests} == {"/api/batch"}
    assert client.queue_stats().rejected == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer", [Answer(500, b"<h1>Oops</h1>"), Answer(502, b"<h1>Bad gateway</h1>"), NO_ANSWER]
)
def test_one_event_that_a_proxy_fails_on_does_not_hold_up_the_other_299(
    answer: Answer, server: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    reports = Reports()
    with ReverseProxy(server.url, poison_is(answer)) as proxy:
        client = make_client(url_base=proxy.url, on_error=reports, item_retry_limit=2)
        names = send_many(client, 150)
        client.new_event("poison")
        names += send_many(client, 149, "later")
        until(lambda: set(stored(server)) == set(names))
        names += send_until(client, lambda: client.queue_stats().pending == 0)
        assert client.flush(DEADLINE)
        assert stored(server) == dict.fromkeys(names, 1)
    stats = client.queue_stats()
    assert stats.delivered == len(names)
    reports.wait_for(1)
    [(kind, reason)] = reports.counts()
    if answer is NO_ANSWER:
        assert (kind, reason, stats.dropped) == ("dropped", "unanswered", {"unanswered": 1})
    else:
        assert (kind, reason, stats.rejected) == ("rejected", str(answer.status), 1)
    balanced(client)


@pytest.mark.slow
def test_no_innocent_event_is_dropped_because_of_a_retry_limit(
    collector: Collector, make_client: MakeClient
) -> None:
    with ReverseProxy(collector.url, poison_is(NO_ANSWER)) as proxy:
        client = make_client(url_base=proxy.url, item_retry_limit=2, retry_limit=50)
        names = send_many(client, 150)
        client.new_event("poison")
        names += send_many(client, 149, "later")
        names += send_until(client, lambda: client.queue_stats().pending == 0)
    assert client.queue_stats().delivered == len(names)
    assert sum(client.queue_stats().dropped.values()) == 1


@pytest.mark.slow
def test_one_event_that_umami_always_fails_on_holds_up_no_other_in_single_sends(
    make_client: MakeClient, balanced: Balanced
) -> None:
    error = {"name": "Error", "message": "something odd"}
    for version, node in (("2.16", 22), ("2.19", 24), ("cloud", 22), ("2.15", 22)):
        with Collector(umami=version, node=node) as server:
            server.fail(
                None,
                times=None,
                path="/api/send",
                items=lambda index, item: error if item["payload"].get("name") == "poison" else None,
            )
            client = make_client(url_base=server.url, item_retry_limit=2)
            client.new_event("poison")
            names = send_many(client, 20)
            assert client.flush(DEADLINE)
            assert stored(server) == dict.fromkeys(names, 1)
        assert (client.queue_stats().delivered, client.queue_stats().rejected) == (20, 1)
        balanced(client)


# A proxy before a server that restarts.

NOT_FOUND = [
    pytest.param(Answer(404, b"404 page not found\n"), id="404 text"),
    pytest.param(Answer(404, b"<h1>Not found</h1>"), id="404 page"),
    pytest.param(Answer(405, b"<h1>Method Not Allowed</h1>"), id="405"),
    pytest.param(Answer(502, b"<h1>Bad Gateway</h1>"), id="502"),
    pytest.param(Answer(503, b"no available server\n"), id="503"),
    pytest.param(Answer(200, b"<!doctype html><h1>We will be back soon</h1>"), id="200 page"),
    pytest.param(Answer(401, b"Unauthorized"), id="401"),
]


@pytest.mark.slow
@pytest.mark.parametrize("down", NOT_FOUND)
def test_nothing_is_rejected_while_the_server_behind_a_proxy_restarts(
    down: Answer, server: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    with ReverseProxy(server.url, down=down) as proxy:
        client = make_client(url_base=proxy.url, item_retry_limit=0)
        names = send_many(client, 20)
        assert client.flush(DEADLINE)
        server.stop()
        names += send_many(client, 60, "meanwhile")
        seen = len(proxy.requests)
        until(lambda: len(proxy.requests) >= seen + 12)
        assert client.queue_stats().pending == 60
        server.start()
        assert client.flush(DEADLINE)
        seen = len(proxy.requests)
        names += send_many(client, 20, "after")
        assert client.flush(DEADLINE)
        assert stored(server) == dict.fromkeys(names, 1)
        last = {request.path for request in proxy.requests[seen:]}
        assert last == ({"/api/batch"} if server.umami not in ("cloud", "2.15") else {"/api/send"})
    stats = client.queue_stats()
    assert (stats.delivered, stats.rejected, stats.dropped) == (100, 0, {})
    balanced(client)


def test_a_404_of_the_batch_route_alone_is_a_server_without_one_and_the_log_says_both_ways(
    make_client: MakeClient, heard: Listener
) -> None:
    with Collector() as server, ReverseProxy(server.url) as proxy:
        proxy.before = lambda request: Answer(404, b"<h1>404</h1>") if request.path == "/api/batch" else None
        client = make_client(url_base=proxy.url)
        names = send_many(client, 30)
        assert client.flush(DEADLINE)
        assert len(proxy.batches()) == 1
        heard.wait_for("no working batch route")
        proxy.before = lambda request: None
        server.stop()
        names += send_many(client, 1, "away")
        heard.wait_for("not getting through")
        server.start()
        names += send_many(client, 30, "back")
        assert client.flush(DEADLINE)
        heard.wait_for("works again")
        assert stored(server) == dict.fromkeys(names, 1)


def test_a_404_among_batches_that_worked_does_not_end_them(
    collector: Collector, make_client: MakeClient
) -> None:
    with ReverseProxy(collector.url) as proxy:
        client = make_client(url_base=proxy.url)
        names = send_many(client, 50)
        assert client.flush(DEADLINE)
        left = iter([Answer(404, b"404 page not found\n")])
        proxy.before = lambda request: next(left, None)
        names += send_many(client, 50, "later")
        assert client.flush(DEADLINE)
        assert {request.path for request in proxy.requests} == {"/api/batch"}
        assert stored(collector) == dict.fromkeys(names, 1)


# Rate limits.


class Limiter:
    """Lets requests pass at a rate, as nginx's limit_req does, and refuses the others.

    It has a clock of its own, of the requests: one is allowed for each `gap` seconds since the last allowed.
    """

    def __init__(self, gap: float, answer: Answer) -> None:
        self.gap = gap
        self.answer = answer
        self.refused = 0
        self._lock = threading.Lock()
        self._next = 0.0

    def __call__(self, request: ProxyRequest) -> Answer | None:
        with self._lock:
            now = time.monotonic()
            if now < self._next:
                self.refused += 1
                return self.answer
            self._next = now + self.gap
            return None


LIMITS = [
    pytest.param(Answer(429, b"<h1>Too Many Requests</h1>"), id="429"),
    pytest.param(Answer(429, b"slow down", {"Retry-After": "0"}), id="429 Retry-After 0"),
    pytest.param(Answer(503, b"<h1>Service Temporarily Unavailable</h1>"), id="503"),
    pytest.param(Answer(503, b"", {"Retry-After": "0"}), id="503 Retry-After 0"),
]


@pytest.mark.slow
@pytest.mark.parametrize("answer", LIMITS)
def test_a_rate_limit_leaves_requests_full_and_the_queue_drains(
    answer: Answer, collector: Collector, make_client: MakeClient, record_property: Record
) -> None:
    limiter = Limiter(0.1, answer)
    with ReverseProxy(collector.url, limiter) as proxy:
        client = make_client(
            url_base=proxy.url, batch_size=50, queue_size=10_000, senders=1, flush_interval=NEVER
        )
        names = send_many(client, 2000)
        assert client.flush(DEADLINE)
        assert stored(collector) == dict.fromkeys(names, 1)
        accepted = [len(request.names) for request in proxy.requests if request.status == 200]
    assert accepted == [50] * 40
    record_property("refused requests", limiter.refused)
    assert limiter.refused <= 25  # the pace is learnt, rather than each second request refused
    stats = client.queue_stats()
    assert (stats.delivered, stats.rejected, stats.dropped) == (2000, 0, {})


@pytest.mark.slow
def test_a_429_with_a_time_is_obeyed_and_the_batch_stays_full(
    collector: Collector, make_client: MakeClient
) -> None:
    collector.fail(429, headers={"Retry-After": "1"}, body="slow down")
    client = make_client(batch_size=50, flush_interval=NEVER, retry_wait=0.01)
    send_many(client, 50)
    collector.wait_for(events=50, timeout=DEADLINE)
    first, second = collector.requests
    assert (len(first.json), len(second.json)) == (50, 50)
    assert second.at - first.at >= 1.0


@pytest.mark.slow
def test_single_sends_under_a_rate_limit_drain_too(make_client: MakeClient) -> None:
    with Collector(umami="cloud") as server:
        limiter = Limiter(0.02, Answer(429, b'{"error":{"message":"Too many","code":"x","status":429}}'))
        with ReverseProxy(server.url, limiter) as proxy:
            client = make_client(url_base=proxy.url)
            names = send_many(client, 40)
            assert client.flush(DEADLINE)
            assert stored(server) == dict.fromkeys(names, 1)
    assert (client.queue_stats().delivered, client.queue_stats().rejected) == (40, 0)


# A gateway that gives up although Umami stores.


@pytest.mark.slow
@pytest.mark.parametrize("status", [504, 524])
def test_a_gateway_that_times_out_after_storing_costs_no_more_than_the_bound(
    status: int, collector: Collector, make_client: MakeClient, balanced: Balanced, record_property: Record
) -> None:
    batch, most = 32, 8

    def slow(request: ProxyRequest) -> Answer | None:
        """Give up on what carries more events than the server manages in time."""
        return Answer(status, b"<h1>Gateway Time-out</h1>") if len(request.names) > most else None

    with ReverseProxy(collector.url, after=slow) as proxy:
        client = make_client(url_base=proxy.url, batch_size=batch, senders=1, queue_size=10_000)
        names = send_many(client, 1000)
        assert client.flush(DEADLINE)
        sent = [len(request.names) for request in proxy.requests]
    duplicates = sum(stored(collector).values()) - len(names)
    record_property("duplicates", duplicates)
    assert set(stored(collector)) == set(names)
    assert 0 < duplicates < 2 * batch
    # It does not grow back into what timed out.
    assert sum(size > most for size in sent) == 2
    assert client.queue_stats().delivered == 1000
    balanced(client)


def test_a_gateway_that_times_out_always_costs_one_event_a_try(
    collector: Collector, make_client: MakeClient
) -> None:
    with ReverseProxy(
        collector.url, after=lambda request: Answer(504, b"<h1>Gateway Time-out</h1>")
    ) as proxy:
        client = make_client(url_base=proxy.url, batch_size=32, senders=1, flush_interval=NEVER)
        names = send_many(client, 32)
        until(lambda: len(proxy.batches()) >= 6)
        proxy.after = lambda request: None
        assert client.flush(DEADLINE)
        silent = [len(request.names) for request in proxy.batches() if request.status == 504]
    assert silent == [32] + [1] * (len(silent) - 1)
    assert sum(stored(collector).values()) == 32 + sum(silent)
    assert set(stored(collector)) == set(names)


# Requests that something refuses for what they are.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("said", "hint"),
    [
        (b"<h1>400 The plain HTTP request was sent to HTTPS port</h1>", "url_base must begin with https://"),
        (b"<h1>400 No required SSL certificate was sent</h1>", "see the setting cert"),
        (b"<h1>Bad Request</h1>", "not as Umami does"),
    ],
)
def test_a_400_that_is_not_umamis_is_an_outage_that_names_its_likely_cause(
    said: bytes, hint: str, collector: Collector, make_client: MakeClient, heard: Listener
) -> None:
    with ReverseProxy(collector.url, lambda request: Answer(400, said)) as proxy:
        client = make_client(url_base=proxy.url, item_retry_limit=0)
        names = send_many(client, 200)
        heard.wait_for("not getting through")
        until(lambda: len(proxy.requests) >= 15)
        stats = client.queue_stats()
        assert (stats.pending, stats.rejected) == (200, 0)
        assert hint in (stats.last_error or "")
        proxy.before = lambda request: None
        assert client.flush(DEADLINE)
        assert stored(collector) == dict.fromkeys(names, 1)


@pytest.mark.slow
def test_the_size_that_a_proxy_takes_is_learnt(
    collector: Collector, make_client: MakeClient, heard: Listener
) -> None:
    limit = 4096

    def too_large(request: ProxyRequest) -> Answer | None:
        return Answer(413, b"<h1>Request Entity Too Large</h1>") if len(request.body) > limit else None

    with ReverseProxy(collector.url, too_large) as proxy:
        client = make_client(url_base=proxy.url, batch_size=100, senders=1, queue_size=10_000)
        names = send_many(client, 2000)
        assert client.flush(DEADLINE)
        assert stored(collector) == dict.fromkeys(names, 1)
        refused = sum(request.status == 413 for request in proxy.requests)
        accepted = [len(request.body) for request in proxy.requests if request.status == 200]
    assert refused <= 16
    assert max(accepted) > limit / 2
    assert len(accepted) <= 4 * 2000 * 230 / limit  # most are about as full as they may be
    heard.wait_for("the client sends smaller batches")
    assert (client.queue_stats().delivered, client.queue_stats().rejected) == (2000, 0)


# Answers of another shape than Umami's, behind which the events are stored.

UNCLEAR = [
    pytest.param(b"", id="empty"),
    pytest.param(b"{}", id="empty object"),
    pytest.param(b"OK", id="text"),
    pytest.param(b'{"size":', id="cut short"),
    pytest.param(b'{"status":"queued"}', id="other json"),
    pytest.param(b"[]", id="list"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "body"), [*(pytest.param(200, *each.values, id=each.id) for each in UNCLEAR), (202, b"")]
)
def test_a_2xx_that_is_not_umamis_doubles_one_batch_and_one_event_at_most(
    status: int, body: bytes, server: Collector, make_client: MakeClient, heard: Listener, balanced: Balanced
) -> None:
    route = "/api/batch" if server.umami in ("3.1", "2.19") else "/api/send"

    def other(request: ProxyRequest) -> Answer | None:
        return Answer(status, body) if request.path == route else None

    with ReverseProxy(server.url, after=other) as proxy:
        client = make_client(url_base=proxy.url, batch_size=20, senders=1)
        names = send_many(client, 40)
        assert client.flush(DEADLINE)
        names += send_many(client, 40, "later")
        assert client.flush(DEADLINE)
        duplicates = sum(stored(server).values()) - len(names)
        assert set(stored(server)) == set(names)
        assert max(stored(server).values()) <= 3
    assert duplicates <= 20 + 1
    stats = client.queue_stats()
    assert (stats.delivered, stats.rejected, stats.dropped) == (80, 0, {})
    heard.wait_for("count as delivered")
    balanced(client)


def test_an_empty_object_doubles_no_event(make_client: MakeClient, heard: Listener) -> None:
    with Collector(umami="2.15") as server:

        def empty(request: ProxyRequest) -> Answer | None:
            return Answer(200, b"{}") if request.path == "/api/send" else None

        with ReverseProxy(server.url, after=empty) as proxy:
            client = make_client(url_base=proxy.url)
            names = send_many(client, 3)
            assert client.flush(DEADLINE)
        assert stored(server) == dict.fromkeys(names, 1)
    assert (client.queue_stats().delivered, client.queue_stats().rejected) == (3, 0)
    heard.wait_for("count as delivered")


def test_a_batch_answer_that_is_shorter_than_its_batch_is_not_believed_at_first(
    collector: Collector, make_client: MakeClient
) -> None:
    summary = b'{"size":1,"processed":1,"errors":0,"details":[],"cache":null}'
    collector.fail(200, body=summary, path="/api/batch")
    client = make_client(flush_interval=NEVER)
    names = send_many(client, 20)
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)


@pytest.mark.slow
def test_a_page_of_html_is_never_taken_for_a_delivery(
    server: Collector, make_client: MakeClient, heard: Listener
) -> None:
    page = Answer(200, b"\xef\xbb\xbf \r\n<!doctype html><h1>Welcome</h1>")
    with ReverseProxy(server.url, lambda request: page) as proxy:
        client = make_client(url_base=proxy.url, item_retry_limit=0)
        names = send_many(client, 20)
        until(lambda: len(proxy.requests) >= 8)
        assert client.queue_stats().pending == 20
        assert "an HTML page" in (client.queue_stats().last_error or "")
        proxy.before = lambda request: None
        assert client.flush(DEADLINE)
        assert stored(server) == dict.fromkeys(names, 1)
    heard.wait_for("is the URL right?")


# A server that refuses everything.


@pytest.mark.parametrize("status", [400, 404, *slow(401, 403, 405, 500)])
def test_a_server_that_refuses_everything_is_asked_at_the_backoffs_pace(
    status: int, server: Collector, make_client: MakeClient
) -> None:
    with ReverseProxy(server.url, lambda request: Answer(status, b"no")) as proxy:
        client = make_client(
            url_base=proxy.url,
            retry_wait=NEVER,
            retry_wait_max=NEVER,
            batch_size=50,
            queue_size=5000,
            shutdown_timeout=0,  # what is left at the end is left
        )
        send_many(client, 2000)
        # A batch is halved at once. Of single sends, the first that fails may hold back all others.
        least = {404: 3, 405: 2}.get(status, 6) if server.umami in ("3.1", "2.19") else 1
        until(lambda: client.queue_stats().requests >= least)
        until(lambda: not client._state.route.destination.in_flight)
        send_many(client, 500, "later")
        assert client.queue_stats().pending == 2500
        # Of single sends, each sender may have had one under way when the first of them failed.
        assert len(proxy.requests) <= 10


@pytest.mark.slow
def test_one_of_two_servers_that_is_away_costs_no_event(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    turns = iter(range(1_000_000))
    down = Answer(502, b"<h1>Bad Gateway</h1>")
    with ReverseProxy(collector.url, lambda request: down if next(turns) % 2 else None) as proxy:
        client = make_client(url_base=proxy.url, retry_wait=0.005, retry_wait_max=0.01)
        names = send_many(client, 200)
        assert client.flush(DEADLINE)
        assert stored(collector) == dict.fromkeys(names, 1)
        assert Counter(request.status for request in proxy.requests)[502] > 10
    stats = client.queue_stats()
    assert (stats.delivered, stats.rejected, stats.dropped) == (200, 0, {})
    balanced(client)
