"""Answers: the outcome of every event, the choice of the route, and redirects."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from conftest import DEADLINE, PASSWORD, slow, version
from queue_helpers import NEVER, Reports, send_many, sent, sizes, stored, until
from reverse_proxy import Answer, ProxyRequest, ReverseProxy

import umami
from umami.collector import Collector

MakeClient = Callable[..., umami.Client]
Balanced = Callable[[umami.Client], None]


@pytest.fixture
def reports() -> Reports:
    return Reports()


def routes(collector: Collector) -> list[str]:
    return [request.path for request in collector.requests]


def named(name: str, error: dict[str, Any]) -> Callable[[int, Any], dict[str, Any] | None]:
    """Fail the events of this name, wherever in a batch they are."""
    return lambda index, item: error if item["payload"].get("name") == name else None


# Servers without batches.


@pytest.mark.parametrize(
    ("umami", "node"), [("2.16", 22), ("cloud", 22), ("2.19", 24)], ids=["404", "405", "known 500"]
)
def test_without_a_batch_route_each_event_goes_by_itself_and_that_is_remembered(
    umami: str, node: int, make_client: MakeClient, balanced: Balanced
) -> None:
    with Collector(umami=umami, node=node) as collector:
        client = make_client(url_base=collector.url)
        names = send_many(client, 5)
        assert client.flush(DEADLINE)
        names += send_many(client, 5, "later")
        assert client.flush(DEADLINE)
        assert stored(collector) == dict.fromkeys(names, 1)
        assert routes(collector) == ["/api/batch"] + ["/api/send"] * 10
    stats = client.queue_stats()
    assert (stats.delivered, stats.rejected, stats.dropped) == (10, 0, {})
    balanced(client)


def test_the_fallback_is_remembered_for_that_base_url_only(
    collector: Collector, make_client: MakeClient
) -> None:
    with Collector(umami="2.16") as old:
        client = make_client(url_base=old.url)
        for url in (old.url, collector.url, old.url):
            client.set_url_base(url)
            send_many(client, 2)
            assert client.flush(DEADLINE)
        assert routes(old) == ["/api/batch"] + ["/api/send"] * 4
    assert routes(collector) == ["/api/batch"]


def test_the_fallback_is_remembered_after_a_shutdown(collector: Collector, make_client: MakeClient) -> None:
    with Collector(umami="2.16") as old:
        client = make_client(url_base=old.url)
        for url in (old.url, collector.url, old.url):
            client.set_url_base(url)
            send_many(client, 2)
            assert client.shutdown(DEADLINE)
        assert routes(old) == ["/api/batch"] + ["/api/send"] * 4


def test_an_ordinary_500_is_no_missing_route(collector: Collector, client: umami.Client) -> None:
    collector.fail(500, body={"error": {"message": "Server error", "status": 500}})
    send_many(client, 3)
    assert client.flush(DEADLINE)
    assert set(routes(collector)) == {"/api/batch"}


# One by one: what a batch's answer says of each event.

AWAY = {"code": "P1001", "message": "Can't reach database server"}
UNCLEAR = {"code": "P9999", "message": "Something odd"}
TRANSIENT = [
    pytest.param(AWAY, id="P1001"),
    pytest.param({"code": "P1017", "message": "Server has closed the connection"}, id="P1017"),
    *(
        pytest.param({"message": f"FATAL: {words} today"}, id=words)
        for words in (
            "terminating connection",
            "shutting down",
            "starting up",
            "not yet accepting connections",
            "Connection terminated unexpectedly",
        )
    ),
]
BAD_DATA = [{"code": code, "message": "no good"} for code in ("P2000", "P2020", "P2010")]


@pytest.mark.parametrize("error", TRANSIENT)
def test_an_item_that_met_an_absent_database_is_sent_again_alone(
    error: dict[str, Any], collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(flush_interval=NEVER)
    collector.fail(None, items={1: error})
    names = send_many(client, 3)
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)
    assert [[payload["name"] for payload in batch] for batch in sent(collector.requests)] == [names, ["e1"]]
    assert client.queue_stats().delivered == 3
    balanced(client)


def test_an_absent_database_is_waited_for_however_long(collector: Collector, make_client: MakeClient) -> None:
    client = make_client(item_retry_limit=0, batch_size=10, flush_interval=NEVER)
    collector.fail(None, times=6, items=lambda index, item: AWAY)
    names = send_many(client, 10)
    collector.wait_for(requests=7, timeout=DEADLINE)
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)
    assert sizes(collector)[:7] == [10] + [1] * 6  # an outage, so it is probed with one


@pytest.mark.parametrize("error", BAD_DATA, ids=lambda error: error["code"])
def test_an_item_with_bad_data_is_rejected_and_not_sent_again(
    error: dict[str, Any],
    collector: Collector,
    make_client: MakeClient,
    reports: Reports,
    balanced: Balanced,
) -> None:
    client = make_client(on_error=reports)
    collector.fail(None, items={0: error})
    send_many(client, 3)
    assert client.flush(DEADLINE)
    assert stored(collector) == {"e1": 1, "e2": 1}
    assert sizes(collector) == [3]
    stats = client.queue_stats()
    assert (stats.delivered, stats.rejected) == (2, 1)
    balanced(client)
    reports.wait_for(1)
    (problem,) = reports.all
    assert (problem.kind, problem.reason, problem.count) == ("rejected", error["code"], 1)
    assert "no good" in problem.message
    assert json.loads(problem.events[0])["payload"]["name"] == "e0"


@pytest.mark.parametrize("model", ["EventData", "Revenue"])
@pytest.mark.parametrize("code", ["P2000", "P1001", None], ids=str)
def test_an_event_that_is_stored_without_its_data_counts_as_delivered_and_is_not_sent_again(
    batch: bool,
    code: str | None,
    model: str,
    make_client: MakeClient,
    reports: Reports,
    balanced: Balanced,
) -> None:
    error = {"message": "boom", "meta": {"modelName": model}} | ({"code": code} if code else {})
    with Collector(umami=version(batch)) as collector:
        client = make_client(url_base=collector.url, on_error=reports)
        collector.fail(None, times=None, path="/api/*", items=named("e1", error))
        send_many(client, 3)
        assert client.flush(DEADLINE)
        assert stored(collector) == {"e0": 1, "e1": 1, "e2": 1}
        carried = sizes(collector)
        assert sum(carried) == 3 + (0 if batch else carried[0])  # the first request finds out about batches
    stats = client.queue_stats()
    assert (stats.delivered, stats.rejected) == (3, 0)
    balanced(client)
    reports.wait_for(1)
    assert reports.counts() == {("incomplete", code or "500"): 1}
    assert model in reports.all[0].message


def test_an_error_that_names_no_table_does_not_tell_what_was_stored(
    collector: Collector, make_client: MakeClient, reports: Reports, balanced: Balanced
) -> None:
    lost = {"name": "Error", "message": "Connection terminated unexpectedly", "meta": {}}
    odd = {"name": "PrismaClientValidationError", "message": "Invalid value", "meta": {"modelName": None}}
    collector.fail(None, items={0: lost, 1: odd})
    client = make_client(at_most_once=True, on_error=reports, flush_interval=NEVER)
    send_many(client, 3)
    assert client.flush(DEADLINE)
    stats = client.queue_stats()
    assert (stats.delivered, stats.dropped) == (2, {"uncertain": 1})
    balanced(client)
    reports.wait_for(2)
    assert "the event is stored, its data is not" in " ".join(report.message for report in reports.all)


def test_an_item_with_an_unclear_error_is_tried_a_few_times(
    collector: Collector, make_client: MakeClient, reports: Reports, balanced: Balanced
) -> None:
    client = make_client(item_retry_limit=2, on_error=reports)
    collector.fail(None, times=None, items=named("e1", UNCLEAR))
    send_many(client, 3)
    assert client.flush(DEADLINE)
    assert sizes(collector) == [3, 1, 1]
    assert stored(collector) == {"e0": 1, "e2": 1}
    assert (client.queue_stats().delivered, client.queue_stats().rejected) == (2, 1)
    balanced(client)
    reports.wait_for(1)
    assert "Something odd" in reports.all[0].message


def test_an_item_that_recovers_from_an_unclear_error_is_delivered(
    collector: Collector, client: umami.Client
) -> None:
    collector.fail(None, times=2, items=named("e1", UNCLEAR))
    names = send_many(client, 3)
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)
    assert client.queue_stats().delivered == 3


def test_every_fate_in_one_batch(
    collector: Collector, make_client: MakeClient, reports: Reports, balanced: Balanced
) -> None:
    client = make_client(on_error=reports, flush_interval=NEVER)
    stored_first = {"code": "P2000", "message": "too long", "meta": {"modelName": "EventData"}}
    collector.fail(None, items={0: AWAY, 2: BAD_DATA[0], 4: stored_first, 6: UNCLEAR})
    send_many(client, 8)
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(("e0", "e1", "e3", "e4", "e5", "e6", "e7"), 1)
    assert (client.queue_stats().delivered, client.queue_stats().rejected) == (7, 1)
    balanced(client)
    reports.wait_for(2)
    assert reports.counts() == {("rejected", "P2000"): 1, ("incomplete", "P2000"): 1}


def test_a_refused_item_names_the_field_that_is_wrong(
    make_client: MakeClient, reports: Reports, balanced: Balanced
) -> None:
    with Collector(auto_register=False) as collector:
        client = make_client(url_base=collector.url, on_error=reports, website_id="no-uuid")
        client.new_event("lost")
        assert client.flush(DEADLINE)
    assert client.queue_stats().rejected == 1
    balanced(client)
    reports.wait_for(1)
    assert reports.all[0].reason == "400"
    assert "website: Invalid UUID" in reports.all[0].message


def test_an_unknown_website_is_said_in_the_servers_words(
    batch: bool, make_client: MakeClient, reports: Reports
) -> None:
    with Collector(auto_register=False, umami=version(batch)) as collector:
        client = make_client(url_base=collector.url, on_error=reports)
        client.new_event("lost")
        assert client.flush(DEADLINE)
    assert client.queue_stats().rejected == 1
    reports.wait_for(1)
    assert "Website not found." in reports.all[0].message


# Bots.


def test_what_is_dropped_as_a_bots_is_rejected_with_advice(
    batch: bool, make_client: MakeClient, reports: Reports, balanced: Balanced
) -> None:
    with Collector(umami=version(batch)) as collector:
        client = make_client(url_base=collector.url, on_error=reports)
        for _ in range(3):
            client.new_page_view("Crawled", "/", ua="curl/8.5")
        assert client.flush(DEADLINE)
        assert collector.events == ()
    stats = client.queue_stats()
    assert (stats.delivered, stats.rejected) == (0, 3)
    balanced(client)
    reports.wait_for(3)
    assert reports.counts() == {("rejected", "bot"): 3}
    assert "ua=" in reports.all[0].message


def test_bots_and_failures_in_one_batch_are_told_apart(
    collector: Collector, make_client: MakeClient, reports: Reports
) -> None:
    client = make_client(on_error=reports)
    collector.fail(None, times=None, items={1: BAD_DATA[0]})
    for _ in range(3):
        client.new_page_view("Crawled", "/", ua="curl/8.5")
    assert client.flush(DEADLINE)
    reports.wait_for(3)
    assert reports.counts() == {("rejected", "bot"): 2, ("rejected", "P2000"): 1}


# Whole requests refused.


def refuse_poison(status: int) -> Callable[[ProxyRequest], Answer | None]:
    """Refuse each request that carries an event whose name begins with poison."""
    return lambda request: Answer(status, b"no") if b"poison" in request.body else None


@pytest.mark.slow
@pytest.mark.parametrize("position", [0, 13, 49])
@pytest.mark.parametrize("status", [400, 413, 422])
def test_one_event_that_has_the_whole_batch_refused_does_not_take_its_neighbours_along(
    status: int,
    position: int,
    collector: Collector,
    make_client: MakeClient,
    reports: Reports,
    balanced: Balanced,
) -> None:
    names = [f"e{number}" for number in range(50)]
    names[position] = "poison"
    with ReverseProxy(collector.url, refuse_poison(status)) as proxy:
        client = make_client(url_base=proxy.url, on_error=reports, flush_interval=NEVER)
        for name in names:
            client.new_event(name)
        assert client.flush(DEADLINE)
        assert stored(collector) == dict.fromkeys(set(names) - {"poison"}, 1)
        assert len(proxy.requests) <= 4 * 6 + 1  # halved six times, and larger again after what is accepted
    reports.wait_for(1)
    (problem,) = reports.all
    assert (problem.kind, problem.reason, problem.count) == ("rejected", str(status), 1)
    assert b"poison" in problem.events[0]
    assert client.queue_stats().delivered == 49
    balanced(client)


def test_several_such_events_each_stand_alone_in_the_end(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    names = [f"poison{number}" if number % 7 == 0 else f"e{number}" for number in range(50)]
    with ReverseProxy(collector.url, refuse_poison(400)) as proxy:
        client = make_client(url_base=proxy.url)
        for name in names:
            client.new_event(name)
        assert client.flush(DEADLINE)
        assert stored(collector) == {name: 1 for name in names if "poison" not in name}
    assert client.queue_stats().rejected == 8
    balanced(client)


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500, *slow(403, 405, 406, 410, 418, 451, 501)])
def test_what_something_else_refuses_is_kept_as_long_as_nothing_is_accepted(
    status: int, batch: bool, make_client: MakeClient, reports: Reports, balanced: Balanced
) -> None:
    with Collector(umami=version(batch)) as collector:
        client = make_client(
            url_base=collector.url, on_error=reports, item_retry_limit=0, retry_wait_max=0.02
        )
        refusing = collector.fail(status, times=None, path="/api/*", body="blocked by ACME")
        names = send_many(client, 5)
        collector.wait_for(requests=10, timeout=DEADLINE)
        stats = client.queue_stats()
        assert (stats.pending, stats.rejected, stats.dropped) == (5, 0, {})
        assert f"answered {status}, not as Umami does" in (stats.last_error or "")
        assert "blocked by ACME" in (stats.last_error or "")
        refusing.cancel()
        assert client.flush(DEADLINE)
        assert stored(collector) == dict.fromkeys(names, 1)
        assert routes(collector)[-1] == ("/api/batch" if batch else "/api/send")
    assert reports.all == []
    balanced(client)


@pytest.mark.parametrize("status", [400, 401, 403, 500])
def test_a_proxy_that_lets_nobody_in_is_asked_at_the_backoffs_pace(
    status: int, collector: Collector, make_client: MakeClient
) -> None:
    client = make_client(retry_wait=NEVER, retry_wait_max=NEVER, flush_interval=NEVER, batch_size=50)
    refusing = collector.fail(status, times=None, body="no")
    names = send_many(client, 50)
    until(lambda: client.queue_stats().requests == 6)
    refusing.cancel()
    assert sizes(collector) == [50, 25, 12, 6, 3, 1]
    assert client.flush(DEADLINE)
    assert stored(collector) == dict.fromkeys(names, 1)
    # Where the first of the flush is accepted, all the rest goes out in batches that double again.
    assert len(sizes(collector)) <= 6 + 12


@pytest.mark.parametrize("status", [401, 404, 405])
def test_umamis_own_refusal_of_a_whole_request_is_its_last_word(
    status: int, batch: bool, make_client: MakeClient, reports: Reports, balanced: Balanced
) -> None:
    with Collector(umami=version(batch)) as collector:
        client = make_client(url_base=collector.url, on_error=reports)
        collector.fail(status, times=None)
        client.new_event("lost")
        assert client.flush(DEADLINE)
        assert routes(collector).count("/api/send") <= 1
    assert client.queue_stats().rejected == 1
    balanced(client)
    reports.wait_for(1)
    assert reports.all[0].reason == str(status)


def test_where_there_is_no_route_at_all_the_events_are_kept(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(retry_wait=NEVER, retry_wait_max=NEVER)
    gone = collector.fail(404, times=None, path="/api/*", body="404 page not found")
    names = send_many(client, 2)
    until(lambda: client.queue_stats().requests == 4)
    gone.cancel()
    asked = [(request.method, request.path) for request in collector.requests]
    assert asked == [
        ("POST", "/api/batch"),
        ("POST", "/api/send"),
        ("GET", "/api/send"),
        ("GET", "/api/heartbeat"),
    ]
    assert client.flush(DEADLINE)
    assert routes(collector)[4:] == ["/api/batch"] * 2
    assert stored(collector) == dict.fromkeys(names, 1)
    balanced(client)


# Answers that are not Umami's: nothing is known to be stored, so nothing is lost.

HTML = "<!doctype html><title>Please log in</title>"
STRANGE = [
    pytest.param({"body": HTML}, id="html"),
    pytest.param({"body": b""}, id="empty"),
    pytest.param({"body": b"[]"}, id="list"),
    pytest.param({"body": b"null"}, id="null"),
    pytest.param({"body": {"ok": True}}, id="other json"),
    pytest.param({"body": b"{"}, id="broken json"),
    pytest.param({"body": {"size": 1, "errors": 0, "details": []}}, id="another batch"),
    pytest.param({"body": {"size": 3, "errors": 2, "details": []}}, id="errors without details"),
    pytest.param({"body": {"size": 3, "errors": 0, "details": None}}, id="no details"),
    pytest.param({"body": b"x" * 200_000}, id="too long"),
    pytest.param({"cut": "body"}, id="truncated"),
]


@pytest.mark.parametrize("fault", STRANGE)
def test_a_200_that_is_not_umamis_delivers_nothing_and_loses_nothing(
    fault: dict[str, Any], batch: bool, make_client: MakeClient, balanced: Balanced
) -> None:
    with Collector(umami=version(batch)) as collector:
        client = make_client(url_base=collector.url, item_retry_limit=0, flush_interval=NEVER)  # one batch
        status = None if "cut" in fault else 200
        collector.fail(status, path="/api/batch" if batch else "/api/send", **fault)
        names = send_many(client, 3)
        assert client.flush(DEADLINE)
        assert set(stored(collector)) == set(names)
    stats = client.queue_stats()
    assert (stats.delivered, stats.rejected, stats.dropped) == (3, 0, {})
    assert stats.retries >= 1
    assert stats.last_error
    balanced(client)


LIES = [
    {"errors": 5},
    {"errors": {"a": 1}},
    {"errors": True, "properties": {"payload": {"errors": 1.5}}},
    {"errorObject": {"name": ["a"], "code": {"b": 1}, "meta": {"modelName": ["EventData"]}}},
    {"errorObject": {"cause": {"originalCode": [22]}, "message": ["x"]}},
    {"status": ["4"], "message": {"long": "x" * 30_000}, "errors": ["y" * 30_000]},
    {"errorObject": {"code": "z" * 30_000, "name": {}}},
]


@pytest.mark.parametrize("error", LIES, ids=range(len(LIES)))
def test_an_error_in_no_form_that_umami_uses_is_about_its_own_event_alone(
    error: dict[str, Any], batch: bool, balanced: Balanced, make_client: MakeClient
) -> None:
    def answer(request: ProxyRequest) -> Answer | None:
        if "odd" not in request.names or (request.path == "/api/batch" and not batch):
            return None
        if request.path == "/api/send":
            return Answer(400, json.dumps({"error": error}).encode())
        details = [{"index": request.names.index("odd"), "response": {"error": error}}]
        reply = {"size": len(request.names), "errors": 1, "details": details, "cache": "x"}
        return Answer(200, json.dumps(reply).encode())

    with Collector(umami=version(batch)) as server, ReverseProxy(server.url, after=answer) as proxy:
        server.fail(None, times=None, items=named("odd", {"code": "P2000"}))
        client = make_client(url_base=proxy.url, item_retry_limit=1)
        names = send_many(client, 5)
        client.new_event("odd")
        # Where it is not Umami's form, what the answer means shows by what becomes of others meanwhile.
        while not client.flush(0.05) or client.queue_stats().rejected == 0:
            names += send_many(client, 1, f"more{len(names)}.")
            until(lambda: client.queue_stats().pending <= 1)
        stats = client.queue_stats()
        assert (stats.delivered, stats.rejected, stats.dropped) == (len(names), 1, {})
        assert stored(server) == dict.fromkeys(names, 1)
        assert len(stats.last_error or "") < 1000
    balanced(client)


def test_the_error_says_what_came_back_instead(collector: Collector, client: umami.Client) -> None:
    collector.fail(200, body=HTML)
    client.new_event("asked")
    assert client.flush(DEADLINE)
    error = client.queue_stats().last_error
    assert f"{collector.url}/api/batch: answered 200 with an HTML page, not as Umami does" in error
    assert "is the URL right?" in error


def test_no_more_of_an_endless_answer_is_read_than_could_be_umamis(
    collector: Collector, client: umami.Client
) -> None:
    collector.fail(200, body=b"x" * 50_000_000)
    client.new_event("patient")
    assert client.flush(DEADLINE)
    assert "a body that is too long or incomplete" in client.queue_stats().last_error
    assert client.queue_stats().delivered == 1


def test_a_long_answer_about_many_failures_is_read_whole(
    collector: Collector, make_client: MakeClient
) -> None:
    client = make_client(batch_size=500, flush_interval=60)  # one batch, however long the sends take
    story = {"code": "P2000", "message": "m", "stack": "s" * 5_000}
    collector.fail(None, items=lambda index, item: story)
    send_many(client, 500)
    assert client.flush(DEADLINE)
    assert client.queue_stats().rejected == 500
    assert sizes(collector) == [500]


@pytest.mark.parametrize("form", ["text", "error", "long"])
@pytest.mark.parametrize("status", [200, 400, *slow(403, 500)])
def test_a_server_that_repeats_the_credential_does_not_put_it_into_the_log(
    status: int,
    form: str,
    batch: bool,
    make_client: MakeClient,
    balanced: Balanced,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Collector(umami="3.1" if batch else "2.16", password=PASSWORD) as collector:
        client = make_client(url_base=collector.url)
        token = client.login("admin", PASSWORD).token
        said: Any = f"no access for Bearer {token}, says the gateway"
        if form == "error":
            said = {"error": {"status": status, "message": said}}
        elif form == "long":  # so that it is cut off in the middle of the credential
            said = f"{'-' * 30} {said}"
        collector.fail(status, times=None, path="/api/batch" if batch else "/api/send", body=said)
        send_many(client, 3)
        until(lambda: client.queue_stats().last_error is not None)
        stats = client.queue_stats()
        collector.clear()
        assert client.flush(DEADLINE)
    for shown in (str(stats), caplog.text):
        assert token[:20] not in shown
    assert status == 200 or "no access for Bearer ***" in str(stats.last_error)
    balanced(client)


# Redirects.


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirected_post_stays_a_post_and_tells_the_other_host_no_credential(
    status: int, batch: bool, other: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    with Collector(umami="3.1" if batch else "2.16", password=PASSWORD) as collector:
        client = make_client(url_base=collector.url)
        client.login("admin", PASSWORD)
        path = "/api/batch" if batch else "/api/send"
        collector.fail(status, times=None, path=path, headers={"Location": other.url + path})
        names = send_many(client, 3)
        assert client.flush(DEADLINE)
        asked = [request for request in collector.requests if request.path == path]
    assert stored(other) == dict.fromkeys(names, 1)
    assert {request.method for request in other.requests} == {"POST"}
    # In any order: a second sender joins where the machine is slow. A permanent redirect is remembered.
    bodies, repeated = [request.body for request in other.requests], [request.body for request in asked]
    assert set(repeated) <= set(bodies) if status in (301, 308) else sorted(bodies) == sorted(repeated)
    assert all("authorization" in request.headers for request in asked)
    assert not any("authorization" in request.headers for request in other.requests)
    assert {request.headers["user-agent"] for request in other.requests} == {
        request.headers["user-agent"] for request in asked
    }
    assert client.queue_stats().delivered == 3
    balanced(client)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_on_the_same_host_keeps_the_credential(
    status: int, collector: Collector, make_client: MakeClient
) -> None:
    client = make_client(flush_interval=NEVER)
    client.login("admin", PASSWORD)
    collector.fail(status, path="/api/batch", headers={"Location": "/api/batch?again"})
    names = send_many(client, 3)
    assert client.flush(DEADLINE)
    first, second = (request for request in collector.requests if request.path == "/api/batch")
    assert second.query == "again"
    assert first.headers["authorization"] == second.headers["authorization"]
    assert stored(collector) == dict.fromkeys(names, 1)


def test_a_base_url_that_redirects_its_trailing_slash_works(
    collector: Collector, client: umami.Client
) -> None:
    collector.fail(308, path="/api/batch", headers={"Location": "/api//batch"})
    client.new_event("slashed")
    assert client.flush(DEADLINE)
    assert stored(collector) == {"slashed": 1}


def test_redirects_in_a_circle_end_and_lose_nothing(
    collector: Collector, client: umami.Client, balanced: Balanced
) -> None:
    circle = collector.fail(302, times=None, headers={"Location": "/api/batch"})
    client.new_event("dizzy")
    collector.wait_for(requests=12, timeout=DEADLINE)
    circle.cancel()
    assert client.flush(DEADLINE)
    assert stored(collector) == {"dizzy": 1}
    assert "redirects" in client.queue_stats().last_error
    balanced(client)


@pytest.mark.slow
def test_redirects_that_take_long_share_the_time_of_one_answer(
    collector: Collector, make_client: MakeClient
) -> None:
    client = make_client(timeout=0.6, item_timeout=0)
    collector.fail(307, headers={"Location": f"{collector.url}/api/batch"}, delay=0.5, times=None)
    client.new_event("patient")
    until(lambda: client.queue_stats().last_error is not None)
    error = client.queue_stats().last_error or ""
    assert "redirects took too long" in error or "ReadTimeout" in error
    collector.clear_faults()
    assert client.flush(DEADLINE)
    assert stored(collector) == {"patient": 1}


def test_a_redirect_to_something_that_is_no_http_is_not_followed(
    collector: Collector, client: umami.Client, balanced: Balanced
) -> None:
    collector.fail(302, headers={"Location": "file:///etc/passwd"})
    client.new_event("curious")
    assert client.flush(DEADLINE)
    assert "answered 302, not as Umami does: a redirect that cannot be followed" in (
        client.queue_stats().last_error or ""
    )
    assert stored(collector) == {"curious": 1}
    balanced(client)
