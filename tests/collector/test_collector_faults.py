"""The collector's scripted faults, as a client sees them."""

import json
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest
from collector_helpers import item, send
from conftest import with_each

from umami.collector import Collector


def batch(http: httpx.Client, *names: str) -> httpx.Response:
    return http.post("/api/batch", json=[item(name=name) for name in names])


def names(collector: Collector) -> list[str | None]:
    return [event.name for event in collector.events]


@pytest.fixture
def background():
    """Run a function on another thread."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit


def test_a_status_hits_the_next_request_and_stores_nothing(collector, http):
    fault = collector.fail(503, headers={"Retry-After": "2"})
    response = send(http)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
    assert response.json()["error"]["status"] == 503
    assert (fault.hits, collector.events) == (1, ())
    assert send(http).status_code == 200
    assert [request.status for request in collector.requests] == [503, 200]


def test_a_500_is_that_of_a_database_that_is_away(collector, http):
    collector.fail(500)
    assert send(http).json()["error"]["errorObject"]["code"] == "P1001"


def test_a_fault_may_store_all_the_same(collector, http):
    collector.fail(500, store=True)
    assert send(http, name="kept").status_code == 500
    assert names(collector) == ["kept"]


def test_faults_are_used_in_order_and_so_many_times(collector, http):
    collector.fail(429, times=2)
    collector.fail(408)
    assert [send(http).status_code for _ in range(4)] == [429, 429, 408, 200]


def test_a_fault_without_a_count_lasts_until_it_is_cleared(collector, http):
    collector.fail(503, times=None)
    assert {send(http).status_code for _ in range(20)} == {503}
    collector.clear_faults()
    assert send(http).status_code == 200


def test_a_fault_can_be_cancelled(collector, http):
    fault = collector.fail(503, times=None)
    fault.cancel()
    assert send(http).status_code == 200


def test_a_fault_is_for_the_ingestion_routes_unless_it_names_a_path(collector, http):
    collector.fail(503, times=None)
    collector.fail(418, path="/api/heartbeat")
    collector.fail(451, path="/api/auth/*", times=None)
    assert http.get("/api/heartbeat").status_code == 418
    assert http.post("/api/auth/login", json={}).status_code == 451
    assert http.get("/api/me").status_code == 401
    assert (send(http).status_code, batch(http, "a").status_code) == (503, 503)


def test_only_one_of_the_ingestion_routes_fails(collector, http):
    collector.fail(503, path="/api/batch", times=None)
    assert (send(http).status_code, batch(http, "a").status_code) == (200, 503)


@with_each(
    ("body", "content", "kind"),
    [
        ("<h1>Hello</h1>", b"<h1>Hello</h1>", "text/html"),
        (b"\x00\xff", b"\x00\xff", "text/html"),
        ({"ok": 1}, b'{"ok": 1}', "application/json"),
        ("", b"", "text/html"),
    ],
)
def test_a_body_of_ones_own(collector, http, body, content, kind):
    collector.fail(200, body=body)
    response = send(http)
    assert (response.status_code, response.content, response.headers["Content-Type"]) == (200, content, kind)
    assert collector.events == ()


def test_the_normal_answer_with_a_header_or_another_body(collector, http):
    collector.fail(None, headers={"X-Served-By": "proxy"})
    response = send(http, name="a")
    assert (response.headers["X-Served-By"], "cache" in response.json()) == ("proxy", True)
    collector.fail(None, body="gone")
    assert send(http, name="b").text == "gone"
    assert names(collector) == ["a", "b"]


def test_a_redirect_leads_elsewhere(collector, http):
    collector.fail(307, headers={"Location": "/elsewhere"})
    assert http.post("/api/send", json=item(), follow_redirects=True).status_code == 404
    assert [(r.method, r.path) for r in collector.requests] == [("POST", "/api/send"), ("POST", "/elsewhere")]


def test_a_delay_comes_before_the_answer(collector, http):
    collector.fail(None, delay=0.2)
    assert send(http).elapsed.total_seconds() >= 0.2
    assert len(collector.events) == 1


def test_a_delay_delays_nobody_else(collector, http, browse, background):
    collector.fail(None, delay=30)
    slow = background(send, http)
    collector.wait_for(requests=1)
    assert send(browse(collector)).status_code == 200
    assert not slow.done()
    collector.stop()
    assert isinstance(slow.exception(), httpx.RemoteProtocolError)


def test_a_frozen_server_stores_when_it_thaws(collector, http, background):
    collector.fail(None, freeze=True)
    pending = background(send, http, name="late")
    collector.wait_for(requests=1)
    assert (collector.requests[0].status, names(collector)) == (None, [])
    collector.thaw()
    assert pending.result().status_code == 200
    assert names(collector) == ["late"]


def test_a_frozen_server_may_have_stored_before(collector, http, background):
    collector.fail(None, freeze=True, store=True)
    pending = background(send, http, name="early")
    collector.wait_for(events=1)
    assert not pending.done()
    collector.thaw()
    assert pending.result().status_code == 200
    assert names(collector) == ["early"]


def test_a_freeze_can_end_in_an_error(collector, http, background):
    collector.fail(503, freeze=True)
    pending = background(send, http)
    collector.wait_for(requests=1)
    collector.thaw()
    assert pending.result().status_code == 503
    assert collector.events == ()


def test_a_thaw_is_for_all_and_for_good(collector, browse, background):
    collector.fail(None, times=None, freeze=True)
    pending = [background(send, browse(collector)) for _ in range(5)]
    collector.wait_for(requests=5)
    collector.thaw()
    assert [response.result().status_code for response in pending] == [200] * 5
    assert send(browse(collector)).status_code == 200


def test_a_client_that_gives_up_on_a_frozen_server_is_stored_at_the_thaw(collector, browse):
    collector.fail(None, times=2, freeze=True)
    for _ in range(2):
        with pytest.raises(httpx.ReadTimeout):
            browse(collector, timeout=0.05).post("/api/batch", json=[item(), item(), item()])
    assert browse(collector).get("/api/heartbeat").status_code == 200
    collector.thaw()
    collector.wait_for(events=6)
    assert len(collector.events) == 6


@pytest.mark.parametrize(("cut", "stored"), [("before", []), ("after", ["x"])])
def test_a_connection_is_cut_without_an_answer(collector, http, cut, stored):
    collector.fail(cut=cut)
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        send(http, name="x")
    assert names(collector) == stored
    assert collector.requests[0].status is None
    assert send(http, name="y").status_code == 200


@pytest.mark.parametrize(("status", "stored"), [(None, ["x"]), (200, []), (503, [])])
def test_a_connection_is_cut_in_the_middle_of_the_body(collector, http, status, stored):
    collector.fail(status, cut="body", body={"a": "b" * 1000})
    with pytest.raises(httpx.RemoteProtocolError, match="peer closed connection"):
        send(http, name="x")
    assert names(collector) == stored


def test_a_large_body_is_cut_in_the_middle_too(collector, http):
    collector.fail(200, cut="body", body=b"x" * 20_000_000)
    received = 0
    with http.stream("POST", "/api/send", json=item()) as response:
        parts = response.iter_raw()
        while received < 10_000_000:
            received += len(next(parts))
        with pytest.raises(httpx.RemoteProtocolError, match="peer closed connection"):
            next(parts)
    assert received == 10_000_000


def test_items_fail_each_for_itself(collector, http):
    away = {"code": "P1001", "name": "PrismaClientKnownRequestError", "message": "away"}
    collector.fail(None, items={1: away, 2: {"code": "P2000", "meta": {"modelName": "EventData"}}})
    reply = batch(http, "a", "b", "c", "d").json()
    assert (reply["size"], reply["processed"], reply["errors"]) == (4, 2, 2)
    first, second = (detail["response"]["error"] for detail in reply["details"])
    assert (first["status"], first["message"], first["code"]) == (500, "Server error", "server-error")
    assert {name: first["errorObject"][name] for name in away} == away
    assert len(first["errorObject"]["stack"]) > 1000
    assert second["errorObject"]["meta"] == {"modelName": "EventData"}
    assert names(collector) == ["a", "c", "d"]


def test_a_function_says_which_items_fail(collector, http):
    def away(index: int, event: dict) -> dict | None:
        return {"code": "P1001"} if event["payload"]["name"] == "b" or index == 3 else None

    collector.fail(None, items=away, times=None)
    assert [detail["index"] for detail in batch(http, "a", "b", "c", "d").json()["details"]] == [1, 3]
    assert send(http, name="b").status_code == 500
    assert send(http, name="c").status_code == 200
    assert names(collector) == ["a", "c", "c"]


def test_an_item_may_fail_with_a_whole_reply(collector, http):
    forbidden = {"error": {"message": "Forbidden", "code": "forbidden", "status": 403}}
    collector.fail(None, items={0: forbidden}, times=2)
    assert batch(http, "a", "b").json()["details"] == [{"index": 0, "response": forbidden}]
    response = send(http, name="c")
    assert (response.status_code, response.json()) == (403, forbidden)
    assert names(collector) == ["b"]


def test_items_that_fail_need_the_normal_answer(collector):
    with pytest.raises(ValueError, match="status=None"):
        collector.fail(503, items={0: {"code": "P1001"}})


def test_faults_may_be_scripted_from_any_thread(collector, browse):
    def script_and_send(client: httpx.Client) -> list[int]:
        statuses = []
        for _ in range(20):
            collector.fail(503)
            statuses.append(send(client).status_code)
        return statuses

    clients = [browse(collector) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        statuses = [status for result in pool.map(script_and_send, clients) for status in result]
    assert statuses == [503] * 160
    assert send(clients[0]).status_code == 200


# Stopping with something under way


def test_stopping_ends_a_frozen_request_at_once(collector, http, background, capfd):
    collector.fail(freeze=True)
    pending: Future[httpx.Response] = background(send, http)
    collector.wait_for(requests=1)
    started = time.monotonic()
    collector.stop()
    assert time.monotonic() - started < 1
    assert isinstance(pending.exception(), httpx.RemoteProtocolError)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "sent", [b"", b"POST /api/send HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"]
)
def test_stopping_ends_idle_and_half_sent_requests_at_once(collector, http, sent, capfd):
    with socket.create_connection(("127.0.0.1", collector.port)) as connection:
        connection.sendall(sent)
        assert http.get("/api/heartbeat").status_code == 200
        started = time.monotonic()
        collector.stop()
        assert time.monotonic() - started < 1
        assert connection.recv(1) == b""
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def idle(collector):
    """A connection that has been used, so that it is closed as soon as the collector is asked to end."""
    with socket.create_connection(("127.0.0.1", collector.port), timeout=30) as connection:
        beat(connection)
        yield connection


def beat(connection: socket.socket) -> bytes:
    """Ask over a connection how the server is, and return the head of its answer."""
    connection.sendall(b"GET /api/heartbeat HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = b""
    while not answer.endswith(b'{"ok":true}'):
        received = connection.recv(65536)
        assert received, answer
        answer += received
    return answer.partition(b"\r\n\r\n")[0]


def test_a_server_that_is_asked_to_end_refuses_the_new_and_answers_what_is_under_way(
    collector, http, idle, background
):
    collector.fail(None, freeze=True)
    pending = background(batch, http, "a", "b", "c")
    collector.wait_for(requests=2)
    stopping = background(collector.stop, finish=True)
    assert idle.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", collector.port))
    assert not stopping.done()
    collector.thaw()
    response = pending.result()
    assert (response.json()["processed"], response.headers["Connection"]) == (3, "keep-alive")
    assert http.get("/api/heartbeat").status_code == 200
    assert not stopping.done()
    http.close()
    stopping.result()
    assert names(collector) == ["a", "b", "c"]


def test_a_connection_that_stays_busy_keeps_a_server_from_ending(collector, idle, browse, background):
    with socket.create_connection(("127.0.0.1", collector.port), timeout=30) as busy:
        # One that nothing has gone over yet is in use, too; but the server must have it by then.
        assert browse(collector).get("/api/heartbeat").status_code == 200
        stopping = background(collector.stop, finish=True)
        assert idle.recv(1) == b""
        for _ in range(5):
            assert b"connection: keep-alive" in beat(busy).lower()
        assert not stopping.done()
        collector.stop()
        stopping.result()


@pytest.mark.slow
def test_a_server_ends_when_its_last_connection_has_been_idle_for_a_while(browse, background):
    with (
        Collector(keep_alive=1) as collector,
        socket.create_connection(("127.0.0.1", collector.port), timeout=30) as last,
    ):
        assert browse(collector).get("/api/heartbeat").status_code == 200
        stopping = background(collector.stop, finish=True)
        assert b"keep-alive: timeout=1" in beat(last).lower()
        assert last.recv(1) == b""
        stopping.result()


def test_a_server_that_is_asked_to_end_finishes_what_its_client_no_longer_waits_for(browse, background):
    with Collector(item_delay=0.01) as collector:
        with pytest.raises(httpx.ReadTimeout):
            batch(browse(collector, timeout=0.05), *map(str, range(30)))
        collector.stop(finish=True)
        assert names(collector) == list(map(str, range(30)))


def test_a_second_stop_does_not_wait_for_what_the_first_would_finish(collector, http, idle, background):
    collector.fail(None, freeze=True)
    pending = background(send, http)
    collector.wait_for(requests=2)
    stopping = background(collector.stop, finish=True)
    assert idle.recv(1) == b""
    collector.stop()
    stopping.result()
    assert isinstance(pending.exception(), httpx.RemoteProtocolError)


def test_no_thread_stays_behind(browse):
    before = set(threading.enumerate())
    with Collector() as collector:
        collector.fail(None, delay=30)
        with pytest.raises(httpx.ReadTimeout):
            send(browse(collector, timeout=0.05))
    assert set(threading.enumerate()) == before


def test_the_requests_are_remembered_as_they_came(collector, http, browse):
    body = json.dumps([item()]).encode()
    http.post("/api/batch?x=1", content=body, headers={"X-Trace": "7"})
    http.get("/api/heartbeat")
    browse(collector).get("/api/heartbeat")
    first, second, third = collector.requests
    assert (first.method, first.path, first.query, first.status) == ("POST", "/api/batch", "x=1", 200)
    assert (first.body, first.json) == (body, [item()])
    assert first.headers["x-trace"] == first.headers["X-TRACE"] == "7"
    assert first.client_port == second.client_port != third.client_port
    assert first.at <= second.at <= third.at
