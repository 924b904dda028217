"""The routes of the collector's page, as tests in other languages use them."""

import json
import re
import threading
import time
from importlib.resources import files

import httpx
import pytest
from collector_helpers import SITE, item, send
from conftest import DEADLINE, PASSWORD, with_each
from test_collector_safety import raw

from umami.collector import Collector


def events(http: httpx.Client, route: str = "events", **asked: object) -> list[dict]:
    return http.get(f"/collector/{route}", params=asked).json()["events"]


def names(http: httpx.Client, **asked: object) -> list[str | None]:
    return [event["name"] for event in events(http, **asked)]


def stream(collector: Collector, last_id: str = ""):
    """Yield the messages of the server-sent events, with their ids."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    with httpx.stream(
        "GET", f"{collector.url}/collector/stream", headers=headers, timeout=DEADLINE
    ) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        number = ""
        for line in answer.iter_lines():
            if line.startswith("id: "):
                number = line.removeprefix("id: ")
            elif line.startswith("data: "):
                yield number, json.loads(line.removeprefix("data: "))


# The page


def test_the_page_stands_alone(http):
    response = http.get("/")
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<title>Umami collector</title>" in response.text
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; ")
    assert "unsafe" not in policy
    own = re.findall(r"""(?:src|href)=["'](?!data:)([^"']*)""", response.text)
    assert set(own) > {"/collector/page.css", "/collector/page.js"}
    for path in own:
        answer = http.get(path)
        assert (answer.status_code, answer.headers["Content-Security-Policy"]) == (200, policy)


@with_each("path", [each.name for each in (files("umami.collector") / "static").iterdir()])
def test_no_file_loads_anything_from_elsewhere_or_makes_html_of_text(path):
    text = (files("umami.collector") / "static" / path).read_text("utf-8")
    assert not re.search(
        r"//(?!www\.w3\.org/2000/svg)[\w-]+\.\w|innerHTML|outerHTML|document\.write|eval\(", text
    )
    assert not re.search(r"<[^>]* on\w+=|<[^>]* style=", text)


def test_the_page_is_no_request_of_a_client(collector, http):
    for path in ("/", "/collector/page.js", "/collector/events", "/collector/nothing"):
        http.get(path)
    assert collector.requests == ()


# Events for tests


def test_events_are_read_by_name_and_number(http):
    send(http, name="signup", data={"plan": "<b>"})
    send(http, title="Home")
    http.post("/api/send", json=item(type="identify", id="me", data={"plan": "pro"}))
    found = http.get("/collector/events").json()
    assert [(event["kind"], event["name"]) for event in found["events"]] == [
        ("event", "signup"),
        ("page view", None),
        ("identify", None),
    ]
    assert found["events"][0]["data"] == {"plan": "<b>"}
    assert found["events"][0]["event"] == item(name="signup", data={"plan": "<b>"})
    assert names(http, name="signup") == ["signup"]
    assert events(http, kind="identify")[0]["data"] == {"plan": "pro"}
    assert events(http, since=found["last"]) == []
    send(http, name="later")
    assert names(http, since=found["last"]) == ["later"]


def test_a_request_waits_until_the_event_arrives(http):
    found: list[str | None] = []
    waiting = threading.Thread(target=lambda: found.extend(names(http, name="late", wait=DEADLINE, count=2)))
    waiting.start()
    send(http, name="other")
    send(http, name="late")
    send(http, name="late")
    waiting.join(DEADLINE)
    assert found == ["late", "late"]


def test_a_wait_ends(http):
    started = time.monotonic()
    assert events(http, name="never", wait=0.2) == []
    assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize("asked", [{"since": "x"}, {"wait": "long"}, {"count": "1.5"}])
def test_a_wrong_query_is_refused(http, asked):
    response = http.get("/collector/events", params=asked)
    assert (response.status_code, list(response.json())) == (400, ["error"])


def test_rejected_and_bots_events_come_with_the_reason(http):
    http.post("/api/batch", json=[item(name="good"), item(name="x" * 51), item(website="none")])
    http.post("/api/send", json=item(name="crawl"), headers={"User-Agent": "Googlebot/2.1"})
    send(http, name="halved", data={"text": "\0"})
    found = [(event["verdict"], event["reason"]) for event in events(http, "rejected")]
    assert found[:2] == [
        ("rejected", "name: Too big: expected string to have <=50 characters"),
        ("rejected", "website: Invalid UUID"),
    ]
    assert found[2] == ("bot", "Umami takes this User-Agent for a bot, and drops its events.")
    assert found[3][1].startswith("Stored, but not all of it: ")
    assert names(http) == ["good"]


@with_each("version", ["1.40", "2.0", "2.15", "2.19", "3.4", "cloud"])
def test_each_version_tells_what_became_of_an_event(browse, version):
    path = "/api/collect" if version == "1.40" else "/api/send"
    body = {"type": "event", "payload": {"website": SITE, "hostname": "h", "url": "/"}}
    with Collector(umami=version) as collector:
        http = browse(collector)
        http.post(path, json=body)
        http.post(path, json=body, headers={"User-Agent": "Googlebot/2.1"})
        http.post(path, json={**body, "payload": {**body["payload"], "website": "none"}})
        assert len(events(http)) == 1
        assert [event["verdict"] for event in events(http, "rejected")] == ["bot", "rejected"]


def test_an_event_that_is_odd_is_shown_all_the_same(http):
    for body in ({"type": {"x": []}, "payload": {"name": {"a": 1}}}, None, "text", [[]], 1e300):
        http.post("/api/send", json=body)
    http.post("/api/send", content=b'{"type": "event", "payload": ' + b"[" * 50_000)
    surrogate = json.dumps(item(name="half")).replace("half", "\\ud800")
    http.post("/api/send", content=surrogate.encode())
    assert len(events(http, "rejected")) == 6
    assert names(http) == ["\ud800"]


def test_the_detail_has_the_exact_json_and_the_request_without_secrets(http):
    first = json.dumps(item(name="a"))
    fields = f'"website":"{SITE}","hostname":"h","url":"/","name":"b"'
    numbers = '"n": 1234567890123456789.10, "n":1e2 '
    exact = f'{{"type":"event","payload":{{{fields},"data":{{{numbers}}}}}}}'
    body = f"[{first},\n {exact}]".encode()
    answer = http.post("/api/batch", content=body, headers={"Authorization": "Bearer hush", "X-Test": "1"})
    assert answer.json()["processed"] == 2
    detail = http.get(f"/collector/entries/{events(http, name='b')[0]['id']}").json()
    assert (detail["json"], detail["index"], detail["verdict"]) == (exact, 1, "stored")
    request = detail["request"]
    assert (request["method"], request["path"], request["status"]) == ("POST", "/api/batch", 200)
    assert request["body"] == body.decode()
    headers = dict(request["headers"])
    assert (headers["x-test"], headers["authorization"]) == ("1", "(11 characters, not shown)")
    assert http.get("/collector/entries/999999").status_code == 404


def test_an_export_has_what_the_filters_let_through(http):
    http.post("/api/batch", json=[item(name="a", tag="red"), item(name="b"), item(name="c" * 51)])
    lines = [json.loads(line) for line in http.get("/collector/export").text.splitlines()]
    assert [(line["name"], line["verdict"]) for line in lines] == [
        ("a", "stored"),
        ("b", "stored"),
        ("c" * 51, "rejected"),
    ]
    assert lines[0]["event"] == item(name="a", tag="red")
    assert len(http.get("/collector/export", params={"search": "RED example"}).text.splitlines()) == 1
    assert len(http.get("/collector/export", params={"verdict": "rejected"}).text.splitlines()) == 1
    assert http.get("/collector/export", params={"kind": "identify"}).text == ""


def test_clear_forgets_all(collector, http):
    send(http, name="a")
    collector.fail(503, times=None)
    assert http.post("/collector/clear").status_code == 204
    assert (events(http), collector.events, collector.request_count) == ([], (), 0)
    send(http, name="b")
    assert names(http) == ["b"]


@pytest.mark.slow
def test_no_more_than_ten_thousand_are_kept(http):
    for start in range(0, 10_200, 400):
        http.post("/api/batch", json=[item(name=f"{start + each}", website="none") for each in range(400)])
    found = events(http, "rejected")
    assert (len(found), found[-1]["name"]) == (10_000, "10399")


# Server-sent events


@pytest.mark.slow
def test_the_stream_brings_all_that_is_kept_and_then_what_arrives(collector, http):
    http.post("/api/batch", json=[item(name=f"{number}", website="none") for number in range(600)])
    shown: list[str] = []
    for last, message in stream(collector):  # noqa: B007 - it is, after the loop
        shown += [entry["values"]["name"] for entry in message["entries"]]
        if len(shown) == 600:
            send(http, name="new", ip="203.0.113.7")
        if len(shown) == 601:
            break
    assert shown == [*map(str, range(600)), "new"]
    assert message["state"]["counts"] == {"stored": 1, "rejected": 600, "bot": 0, "fault": 0}
    assert sum(sum(counts.values()) for _, counts in message["state"]["chart"]) == 601
    # A browser that reconnects goes on where it was.
    send(http, name="newer")
    number, message = next(stream(collector, last))
    assert [entry["values"]["name"] for entry in message["entries"]] == ["newer"]
    # Another run, or nonsense, gets all.
    for other in ("elsewhere/7", f"{number.partition('/')[0]}/x", "-1"):
        assert len(next(stream(collector, other))[1]["entries"]) == 250


def test_a_clear_is_told(collector, http):
    send(http, name="a")
    messages = stream(collector)
    _, first = next(messages)
    collector.clear()
    send(http, name="b")
    for _, message in messages:
        if message["entries"]:
            break
    assert message["run"] != first["run"]
    assert [entry["values"]["name"] for entry in message["entries"]] == ["b"]


def test_a_server_that_finishes_does_not_wait_for_an_open_page(own_collector):
    messages = stream(own_collector)
    next(messages)
    started = time.monotonic()
    own_collector.stop(finish=True)
    assert time.monotonic() - started < 5
    with pytest.raises(httpx.TransportError):
        list(messages)


def test_long_values_are_cut_in_the_stream(collector, http):
    send(http, name="wide", data={"a": "x" * 400, "b": "y" * 400}, url="/" + "z" * 2000)
    _, message = next(stream(collector))
    assert len(json.dumps(message["entries"])) < 3000


# Faults


def fault(http: httpx.Client, expected: int = 200, /, **asked: object) -> dict:
    response = http.post("/collector/faults", json=asked)
    assert response.status_code == expected, response.text
    return response.json()


def test_faults_are_those_of_the_method(collector, http):
    on = fault(http, status=429, headers={"Retry-After": "1"}, times=2)
    assert on["faults"] == [{"what": "answers 429", "path": None, "times": 2, "hits": 0}]
    answer = send(http, name="a")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    assert http.get("/collector/faults").json()["faults"][0]["hits"] == 1
    fault(http, clear=True)
    fault(http, status=None, items={"1": {"code": "P1001"}})
    reply = http.post("/api/batch", json=[item(name="a"), item(name="b")]).json()
    assert [each["index"] for each in reply["details"]] == [1]
    fault(http, database="away")
    assert send(http).status_code == 500
    assert fault(http, database="back")["database"] == "there"
    assert send(http).status_code == 200


def test_a_freeze_ends_with_the_clear(collector, http):
    fault(http, status=None, freeze=True)
    answers: list[int] = []
    sending = threading.Thread(target=lambda: answers.append(send(http, name="frozen").status_code))
    sending.start()
    collector.wait_for(requests=1)
    fault(http, clear=True)
    sending.join(DEADLINE)
    assert answers == [200]


@with_each(
    ("asked", "why"),
    [
        ({"status": 99}, "status: Input should be greater than or equal to 200"),
        ({"state": 503}, "state: Extra inputs are not permitted"),
        ({"cut": "middle"}, "cut: Input should be 'before', 'after' or 'body'"),
        ({"status": 503, "items": {"0": {}}}, "items needs status=None"),
        ({"headers": {"a": "b\r\nc: d"}}, "headers.a"),
        ({"delay": -1}, "delay: Input should be greater"),
        ({"database": "gone"}, "database: Input should be 'away' or 'back'"),
        ({"clear": True, "status": 503}, "status: Extra inputs"),
    ],
)
def test_a_wrong_fault_is_refused_with_the_reason(http, asked, why):
    assert why in fault(http, 400, **asked)["error"]
    assert http.get("/collector/faults").json()["faults"] == []


def test_a_body_that_is_no_json_is_refused(http):
    assert http.post("/collector/faults", content=b"[503]").status_code == 400
    assert http.post("/collector/faults", content=b"{").status_code == 400


@with_each("path", ["/collector/faults", "/collector/clear"])
@with_each(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
    ],
)
def test_a_page_of_another_origin_changes_nothing(http, collector, path, headers):
    send(http, name="kept")
    assert http.post(path, headers=headers, content=b'{"status": 503}').status_code == 403
    assert names(http) == ["kept"]
    assert http.get("/collector/faults").json()["faults"] == []
    own = {"Origin": str(http.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert http.post(path, headers=own, content=b'{"status": 503}').is_success


@pytest.mark.parametrize("path", ["/collector/stream", "/collector/faults"])
def test_the_stream_and_the_faults_are_not_for_a_name_that_is_anybodys(http, path):
    assert b" 403 " in raw(http, path, "evil.example").partition(b"\r\n")[0]


def test_a_fault_and_a_request_that_is_refused_whole_are_shown(collector, http):
    collector.fail(503)
    collector.fail(None, cut="after")
    send(http, name="lost")
    with pytest.raises(httpx.TransportError):
        send(http, name="twice")
    http.post("/api/batch", content=b"{")
    http.post("/api/nothing/send", json=item())
    http.post("/api/auth/login", json={"username": "admin", "password": PASSWORD + "x"})
    _, message = next(stream(collector))
    shown = [(entry["kind"], entry["verdict"], entry["values"].get("reason")) for entry in message["entries"]]
    assert shown == [
        ("request", "fault", "Fault: answers 503."),
        ("request", "fault", "Fault: cuts the connection after storing."),
        ("event", "stored", None),
        ("request", "rejected", "Answered 400."),
        ("request", "rejected", "Answered 404."),
    ]
