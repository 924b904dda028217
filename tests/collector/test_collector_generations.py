"""The collector as each version of Umami: its answers, and what it stores."""

import functools
import inspect
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from collector_helpers import ABSENT, SITE, item
from conftest import CHROME, with_each, with_version

from umami.collector import Collector

COLUMNS = [
    *("2.0", "2.6", "2.11", "2.15", "2.16", "2.17", "2.19"),
    *("3.0.1", "3.0.3", "3.1", "3.3", "3.4", "cloud"),
]
"""The versions that each table below has a column for."""
CURL = {"User-Agent": "curl/8.5"}
UNKNOWN = "4fb7fa4c-5b46-438d-94b3-3a8fb9bc2e8b"
TOO_LONG = "x" * 51
DATA_ERRORS = ({"a": "x" * 600}, {"a": "b\0"}, {"a": 1e16})

Server = Callable[..., httpx.Client]


@pytest.fixture(scope="module")
def _running() -> Iterator[dict[str, tuple[Collector, httpx.Client]]]:
    running: dict[str, tuple[Collector, httpx.Client]] = {}
    yield running
    for collector, http in running.values():
        http.close()
        collector.stop()


@pytest.fixture
def server(_running: dict[str, tuple[Collector, httpx.Client]]) -> Callable[[str], tuple[Any, Any]]:
    """Run the collector as a version, and browse it."""

    def run(version: str) -> tuple[Collector, httpx.Client]:
        if version not in _running:
            collector = Collector(umami=version)
            collector.start()
            # The collector closes an idle connection after five seconds: never use one just then.
            limits = httpx.Limits(keepalive_expiry=1)
            http = httpx.Client(
                base_url=collector.url, headers={"User-Agent": CHROME}, timeout=30, limits=limits
            )
            _running[version] = (collector, http)
        collector, http = _running[version]
        collector.clear()
        return collector, http

    return run


Table = dict[str, list[tuple[Any, ...]]]


def table(*rows: tuple[Any, ...]) -> Table:
    """Read a table, whose rows are a name, what the test needs, and a cell for each version.

    ``200*3 400`` stands for three cells of 200 and one of 400.
    """
    cells: Table = {version: [] for version in COLUMNS}
    for name, *given, line in rows:
        answers = []
        for cell in line.split():
            answer, _, times = cell.partition("*")
            answers += [answer] * int(times or 1)
        assert len(answers) == len(COLUMNS), name
        for version, answer in zip(COLUMNS, answers, strict=True):
            cells[version].append((*given, answer))
    return cells


def with_table(names: tuple[str, ...], cells: Table) -> Callable[[Callable[..., None]], Any]:
    """Run a test with each version, and for each with the rows of a table: what it needs, and the answer."""

    def decorate(test: Callable[..., None]) -> Any:
        rows = (*names, "answer")

        @functools.wraps(test)
        def run(version: str, **fixtures: Any) -> None:
            with_each(rows, cells[version])(test)(version=version, **fixtures)

        run.__signature__ = inspect.signature(with_each(rows, ())(test))  # type: ignore[attr-defined]
        versions = [with_version(version, version, name=version) for version in cells]
        return pytest.mark.parametrize("version", versions)(run)

    return decorate


def shape(response: httpx.Response) -> str:
    """Name what an answer is, in a word."""
    if response.status_code == 200:
        if response.text.startswith("eyJ"):
            assert response.headers["content-type"] == "text/plain"
            return "token"
        reply = response.json()
        names = {"cache": "cache", "cache sessionId visitId": "ids", "beep": "boop", "": "{}"}
        return names.get(" ".join(reply), "other")
    return f"{response.status_code}/{form(response.text, response.headers.get('content-type'))}"


def form(text: str, kind: str | None) -> str:
    """Name the form of an error, in a word."""
    if kind is None:
        return "text" if text else "nothing"
    if kind.startswith("text/html"):
        return "page"
    error = json.loads(text)["error"]
    if isinstance(error, (str, list)):
        return type(error).__name__
    if "status" not in error:
        assert "errorObject" not in error
        return "zod" if error["name"] == "ZodError" else "exception"
    return next((name for name in ("errorObject", "properties", "errors") if name in error), "object")


SENDS = table(
    ("page view", {}, "token*4 cache ids*8"),
    ("event", {"name": "signup", "data": {"plan": "pro"}}, "token*4 cache ids*8"),
    ("identify", {"type": "identify", "data": {"a": 1}}, "400/text token*3 cache ids*8"),
    (
        "identify without url",
        {"type": "identify", "data": {"a": 1}, "url": ABSENT},
        "400/text token*3 400/zod ids*8",
    ),
    ("identify without data", {"type": "identify"}, "400/text*4 400/str*2 ids*7"),
    (
        "performance",
        {"type": "performance", "lcp": 1},
        "400/text*4 400/zod 400/list*2 400/properties*2 ids*4",
    ),
    ("unknown field", {"nonsense": 1}, "token*4 cache ids*8"),
    ("null", {"title": None}, "token 400/text*3 400/zod 400/list*2 400/properties*6"),
    ("null tag", {"tag": None}, "token*4 400/zod 400/list*2 400/properties*6"),
    ("null timestamp", {"timestamp": None}, "token*4 cache ids*8"),
    ("website no UUID", {"website": "mine"}, "400/text*4 400/zod 400/list*2 400/properties*6"),
    ("name too long", {"name": TOO_LONG}, "token 400/text*3 400/zod 400/list*2 400/properties*6"),
    ("long title", {"title": "x" * 600}, "500/text 400/text token*2 cache ids*8"),
    ("url missing", {"url": ABSENT}, "token*4 400/zod ids*8"),
    (
        "utm too long",
        {"url": f"/?utm_source={'x' * 300}"},
        "token*4 cache ids 500/exception 500/errorObject*6",
    ),
    ("boolean data", {"data": {"a": True}}, "500/text token*3 cache ids*8"),
    ("id too long", {"id": TOO_LONG}, "token*4 cache ids 500/exception 500/errorObject*6"),
    ("ip no address", {"ip": "here"}, "token*2 400/text*2 400/zod 400/list*2 ids*6"),
    ("host with a port", {"hostname": "h.example:8000"}, "token 400/text*3 400/zod ids*8"),
    ("localhost with a port", {"hostname": "localhost:8000"}, "token 400/text*3 cache ids*8"),
    ("host with an underscore", {"hostname": "a_b"}, "token 400/text*2 token 400/zod ids*8"),
    ("international host", {"hostname": "bücher.example"}, "token 400/text*3 400/zod ids*8"),
    ("host with a dot at the end", {"hostname": "h.example."}, "token 400/text*3 400/zod ids*8"),
    ("empty host", {"hostname": ""}, "token 400/text*3 400/zod ids*8"),
    ("formula as a name", {"name": "=1+1"}, "token*4 cache ids*5 400/properties*3"),
    ("formula as a tag", {"tag": "@b"}, "token*4 cache ids*5 400/properties*3"),
    ("tabulator in front", {"name": "\tb"}, "token*4 cache ids*5 400/properties*3"),
    ("commerce", {"data": {"commerce": 1}}, "token*4 cache ids*6 400/properties*2"),
)


@with_table(("payload",), SENDS)
def test_send(server, payload, version, answer):
    _, http = server(version)
    payload = dict(payload)
    kind = payload.pop("type", "event")
    assert shape(http.post("/api/send", json=item(kind, **payload))) == answer


BODIES = table(
    ("no JSON", b"{", {"content-type": "application/json"}, "400/text*4 400/zod 400/list*2 400/errors*6"),
    (
        "gzip",
        b"\x1f\x8b\x08",
        {"content-type": "application/json"},
        "400/text*4 400/zod 400/list*2 400/errors*6",
    ),
    ("no content type", json.dumps(item()).encode(), {}, "400/text*4 cache ids*8"),
    (
        "a charset",
        json.dumps(item()).encode(),
        {"content-type": "application/json; charset=utf-8"},
        "token*4 cache ids*8",
    ),
    (
        "1.2 MB",
        json.dumps(item(title="x" * 1_200_000)).encode(),
        {"content-type": "application/json"},
        "413/text*4 cache ids*8",
    ),
    (
        "15 MB",
        json.dumps(item(title="x" * 15_000_000)).encode(),
        {"content-type": "application/json"},
        "413/text*4 cache ids*4 400/errors*4",
    ),
)


@with_table(("body", "headers"), BODIES)
def test_bodies(server, body, headers, version, answer):
    _, http = server(version)
    assert shape(http.post("/api/send", content=body, headers=headers)) == answer


BOTS = table(
    ("curl", CURL, "{}*3 boop*10"),
    ("a client", {"User-Agent": "Umami-Client/1.0 (python)"}, "{}*2 token*2 cache ids*8"),
)


@with_table(("headers",), BOTS)
def test_bots_by_header(server, headers, version, answer):
    collector, http = server(version)
    assert shape(http.post("/api/send", json=item(), headers=headers)) == answer
    assert len(collector.events) == (answer not in ("{}", "boop"))


USER_AGENTS = table(
    ("bot in the payload", CHROME, "curl/8.5", "token*4 500/exception ids boop*7"),
    ("browser in the payload", "curl/8.5", CHROME, "{}*3 boop*3 ids*7"),
)


@with_table(("header", "given"), USER_AGENTS)
def test_user_agents_of_the_payload(server, header, given, version, answer):
    collector, http = server(version)
    response = http.post("/api/send", json=item(userAgent=given), headers={"User-Agent": header})
    assert shape(response) == answer
    stored = [event.user_agent for event in collector.events]
    taken = header if answer == "token" else given
    assert stored == ([taken] if answer in ("token", "ids") else [])


def test_2_16_stores_a_user_agent_of_the_payload_in_a_session_that_is_there(server):
    collector, http = server("2.16.1")
    assert shape(http.post("/api/send", json=item())) == "cache"
    assert shape(http.post("/api/send", json=item(userAgent=CHROME))) == "cache"
    assert shape(http.post("/api/send", json=item(userAgent=CHROME + " Edg/126"))) == "500/exception"
    error = http.post("/api/send", json=item(userAgent=CHROME + " Edg/126")).json()["error"]
    assert error["code"] == "P2000"
    assert collector.event_count == 2


FIELDS = table(
    ("timestamp", {"timestamp": 1_600_000_000}, "timestamp", 1_600_000_000, "no*5 yes*8"),
    ("ip", {"ip": "10.1.2.3"}, "ip", "10.1.2.3", "no*2 yes*11"),
    ("id", {"id": "ann"}, "distinct_id", "ann", "no*6 yes*7"),
    ("tag", {"tag": "beta"}, "tag", "beta", "no*3 yes*10"),
    ("browser", {"browser": "lynx"}, "browser", "lynx", "no*8 yes*5"),
    ("absolute url", {"url": "https://a.example/p?q=1"}, "url_path", "/p", "no*4 yes*9"),
    (
        "absolute url whole",
        {"url": "https://a.example/p?q=1"},
        "url_path",
        "https://a.example/p",
        "yes*4 no*9",
    ),
    ("query", {"url": "https://a.example/p?q=1"}, "url_query", "q=1", "yes*13"),
    ("referrer", {"referrer": "https://www.b.example/r"}, "referrer_domain", "b.example", "yes*13"),
    ("fragment", {"url": "/p#f"}, "url_path", "/p", "no*4 yes*2 no*7"),
)


@with_table(("payload", "attribute", "value"), FIELDS)
def test_fields(server, payload, attribute, value, version, answer):
    collector, http = server(version)
    assert http.post("/api/send", json=item(**payload)).status_code == 200
    [event] = collector.events
    assert (getattr(event, attribute) == value) is (answer == "yes")
    if attribute == "timestamp" and answer == "no":
        assert abs(event.timestamp - time.time()) < 3600


SESSIONS = table(
    ("hosts", {"hostname": "a.example"}, {"hostname": "b.example"}, "2*4 1*9"),
    ("months", {"timestamp": 1_600_000_000}, {"timestamp": 1_700_000_000}, "1*5 2*8"),
)


@with_table(("first", "second"), SESSIONS)
def test_sessions(server, first, second, version, answer):
    collector, http = server(version)
    for payload in (first, second):
        assert http.post("/api/send", json=item(**payload)).status_code == 200
    assert len({event.session_id for event in collector.events}) == int(answer)


@with_each("data", DATA_ERRORS)
@with_table((), table(("", "500/text*4 500/exception*3 500/errorObject*6")))
def test_data_that_cannot_be_stored(server, data, version, answer):
    collector, http = server(version)
    assert shape(http.post("/api/send", json=item(name="e", data=data))) == answer
    assert len(collector.events) == (COLUMNS.index(version) >= COLUMNS.index("2.19"))


TEXTS = [
    ("2.0", item("identify"), "Wrong payload type."),
    ("2.0", item(website="mine"), "Session not found."),
    ("2.0", item(data=[1]), "Invalid event data."),
    ("2.0", item(title="x" * 501), "Internal Server Error"),
    ("2.15", item(website="mine"), "payload.website must be a valid UUID"),
    ("2.15", item(website=ABSENT), "payload.website is a required field"),
    ("2.15", item(name=TOO_LONG), "payload.name must be at most 50 characters"),
    ("2.15", {}, "type is a required field"),
    ("2.15", item("identify"), "Data required."),
    ("2.16", item("identify"), {"error": "Data required."}),
    ("2.17", item(name=TOO_LONG), {"error": ["payload: "]}),
    ("2.17", {"type": "event"}, {"error": ["payload: Required"]}),
    ("2.19", [], {"error": []}),
    (
        "2.16",
        item(name=TOO_LONG),
        {
            "error": {
                "issues": [
                    {
                        "code": "too_big",
                        "path": ["payload", "name"],
                        "message": "String must contain at most 50 character(s)",
                    }
                ],
                "name": "ZodError",
            }
        },
    ),
]


@with_each(("version", "body", "said"), TEXTS)
def test_the_words_of_a_refusal(server, version, body, said):
    _, http = server(version)
    response = http.post("/api/send", json=body)
    assert (response.text if isinstance(said, str) else response.json()) == said


def test_a_missing_content_type_is_refused_in_yups_words(server):
    _, http = server("2.15.1")
    assert http.post("/api/send", content=json.dumps(item())).text == "type is a required field"


STRANGERS = [
    ("2.6", 400, f"Website not found: {UNKNOWN}."),
    ("2.11", 403, f"Website not found: {UNKNOWN}."),
    ("2.15", 404, f"Website not found: {UNKNOWN}."),
    ("2.16", 400, {"error": "Website not found."}),
    ("2.17", 400, {"error": "Website not found."}),
    ("2.19", 400, {"error": "Website not found."}),
    *(
        (version, 400, {"error": {"message": "Website not found.", "code": "bad-request", "status": 400}})
        for version in ("3.0.1", "3.0.3", "3.1", "3.4", "cloud")
    ),
]


@with_each(("version", "status", "said"), STRANGERS)
def test_an_unknown_website(version, status, said, browse):
    with Collector(umami=version, auto_register=False) as collector:
        response = browse(collector).post("/api/send", json=item(website=UNKNOWN))
    assert response.status_code == status
    assert (response.text if isinstance(said, str) else response.json()) == said


def test_2_0_dies_of_an_unknown_website_and_is_there_again(browse):
    with Collector(umami="2.0", auto_register=False) as collector:
        http = browse(collector)
        with pytest.raises(httpx.RemoteProtocolError):
            http.post("/api/send", json=item(website=UNKNOWN))
        collector.add_website("Mine", "example.com", SITE)
        assert shape(http.post("/api/send", json=item())) == "token"


# 1.40


def test_1_40_has_another_route_and_another_body(server):
    collector, http = server("1.40.0")
    assert shape(http.post("/api/send", json=item())) == "404/page"
    assert shape(http.post("/api/collect", json=item(), headers=CURL)) == "{}"
    body = item("event", event_name="signup", event_data={"plan": "pro"})
    assert shape(http.post("/api/collect", json=body)) == "token"
    assert shape(http.post("/api/collect", json=item("pageview"))) == "token"
    assert [event.name for event in collector.events] == ["signup", None]


# Batches


BATCHES = table(
    ("good", [item()] * 3, "404/page*5 3,0,absent*3 3,0,set*4 405/nothing"),
    ("none", [], "404/page*5 0,0,absent*3 0,0,null*4 405/nothing"),
    ("bad", [item(), item(name=TOO_LONG), item()], "404/page*5 3,1,absent*3 3,1,set*4 405/nothing"),
    ("all bad", [item(name=TOO_LONG)] * 3, "404/page*5 3,3,absent*3 3,3,null*4 405/nothing"),
    ("501 of them", [item()] * 501, "404/page*5 501,0,absent*3 501,0,set*2 400/errors*2 405/nothing"),
)


def batch_shape(response: httpx.Response) -> str:
    """Name what a batch is answered, in a word: how many, how many errors, and the cache."""
    if response.status_code != 200:
        return shape(response) if response.text else f"{response.status_code}/nothing"
    reply = response.json()
    assert reply["size"] == reply["processed"] + reply["errors"]
    assert reply["errors"] == len(reply["details"])
    cache = "absent" if "cache" not in reply else "null" if reply["cache"] is None else "set"
    return f"{reply['size']},{reply['errors']},{cache}"


@with_table(("items",), BATCHES)
def test_batch(server, items, version, answer):
    _, http = server(version)
    assert batch_shape(http.post("/api/batch", json=items)) == answer


DETAILS = table(
    ("invalid", {"name": TOO_LONG}, "no*5 list*2 properties*5 no"),
    ("failed", {"url": f"/?utm_source={'x' * 300}"}, "no*5 stored exception errorObject*5 no"),
)


@with_table(("payload",), DETAILS)
def test_what_a_batch_says_of_an_item(server, payload, version, answer):
    if answer == "no":
        pytest.skip("there are no batches")
    collector, http = server(version)
    reply = http.post("/api/batch", json=[item(), item(**payload), item()]).json()
    if answer == "stored":
        assert reply["details"] == []
        return
    [detail] = reply["details"]
    assert detail["index"] == 1
    assert form(json.dumps(detail["response"]), "application/json") == answer
    assert collector.event_count == 2


BATCH_VERSIONS = [
    version for version in COLUMNS if version not in ("2.0", "2.6", "2.11", "2.15", "2.16", "cloud")
]


@with_each("version", BATCH_VERSIONS)
def test_bots_leave_no_trace_in_a_batch(server, version):
    collector, http = server(version)
    reply = http.post("/api/batch", json=[item()] * 3, headers=CURL).json()
    assert reply == {"size": 3, "processed": 3, "errors": 0, "details": []}
    assert collector.events == ()
    http.post("/api/batch", json=[item(), item(userAgent="curl/8.5")])
    assert collector.event_count == (2 if version == "2.17" else 1)
    http.post("/api/batch", json=[item(userAgent=CHROME)], headers=CURL)
    assert collector.event_count == 2


NODE = [
    ("2.17", {"name": "TypeError", "message": "private member"}),
    ("2.19", {"name": "TypeError", "message": "private member"}),
    ("3.0.1", {"message": "Server error", "code": "server-error", "status": 500}),
]


@pytest.mark.parametrize(("version", "said"), NODE)
def test_on_node_24_a_batch_fails_as_a_whole(browse, version, said):
    with Collector(umami=version, node=24) as collector:
        http = browse(collector)
        response = http.post("/api/batch", json=[item(), item()])
        assert response.status_code == 500
        error = response.json()["error"]
        if "name" in said:
            assert set(error) == {"name", "message", "stack"}
            assert "Cannot read private member #state" in error["message"]
        else:
            assert error == said
        assert collector.events == ()
        assert http.post("/api/batch", json=[]).json()["size"] == 0
        assert shape(http.post("/api/send", json=item())) == "ids"


@with_each("version", ["3.0.2", "3.0.3", "3.1", "3.4"])
def test_on_node_24_later_batches_work(browse, version):
    with Collector(umami=version, node=24) as collector:
        assert browse(collector).post("/api/batch", json=[item()]).json()["processed"] == 1


# The database away


AWAY = table(("", "dies 400/text*3 500/exception*3 500/errorObject*6"))


@with_table((), AWAY)
def test_without_its_database(server, version, answer):
    collector, http = server(version)
    assert http.post("/api/send", json=item(name="before")).status_code == 200
    collector.database_away()
    if answer == "dies":
        with pytest.raises(httpx.RemoteProtocolError):
            http.post("/api/send", json=item(name="lost"))
    else:
        response = http.post("/api/send", json=item(name="lost"))
        assert shape(response) == answer
        assert "Can't reach database server" in response.text
        if answer != "400/text":
            assert '"code":"P1001"' in response.text
    response = http.post("/api/batch", json=[item()] * 3)
    if version in BATCH_VERSIONS:
        assert batch_shape(response) == f"3,3,{'absent' if version in ('2.17', '2.19', '3.0.1') else 'null'}"
        assert response.text.count('"code":"P1001"') == 3
    else:
        assert response.status_code in (404, 405)
    if version != "cloud":
        assert http.get("/api/heartbeat").status_code == 200
        credentials = {"username": "admin", "password": "umami"}
        assert http.post("/api/auth/login", json=credentials).status_code == 500
    assert http.get("/api/websites").status_code == 500
    collector.database_back()
    assert http.post("/api/send", json=item(name="after")).status_code == 200
    assert [event.name for event in collector.events] == ["before", "after"]


def test_clear_gives_the_database_back(server):
    collector, http = server("3.1")
    collector.database_away()
    collector.clear()
    assert http.post("/api/send", json=item()).status_code == 200


def test_a_batch_fails_from_where_the_database_goes_away(browse):
    with Collector(item_delay=0.01) as collector:
        collector.fail(
            None, delay=0, items=lambda index, _: collector.database_away() if index == 5 else None
        )
        reply = browse(collector).post("/api/batch", json=[item()] * 10).json()
        assert (reply["processed"], reply["errors"]) == (5, 5)
        assert [detail["index"] for detail in reply["details"]] == [5, 6, 7, 8, 9]


@with_table((), table(("", "500/text*4 500/exception*3 500/errorObject*6")))
def test_a_scripted_500_has_the_form_of_its_generation(server, version, answer):
    collector, http = server(version)
    collector.fail(500)
    assert http.post("/api/send", json=item()).status_code == 500
    collector.fail(None, items={0: {"code": "P2000", "message": "too long"}})
    assert shape(http.post("/api/send", json=item())) == answer


@with_table((), AWAY)
def test_a_scripted_outage_has_the_form_of_its_generation(server, version, answer):
    collector, http = server(version)
    collector.fail(None, items={0: {"code": "P1001", "message": "away"}})
    if answer == "dies":
        with pytest.raises(httpx.RemoteProtocolError):
            http.post("/api/send", json=item())
    else:
        assert shape(http.post("/api/send", json=item())) == answer


# Logins


CREDENTIALS = {"username": "admin", "password": "umami"}
USER = ["id", "username", "role", "createdAt", "isAdmin"]
HOSTED = COLUMNS[:-1]
"""The versions that one may log in to."""


def log_in(http: httpx.Client) -> dict[str, str]:
    """Log in, and return the header that says so."""
    token = http.post("/api/auth/login", json=CREDENTIALS).json()["token"]
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.40", *HOSTED])
def test_login(server, version):
    _, http = server(version)
    user = http.post("/api/auth/login", json=CREDENTIALS).json()["user"]
    assert list(user) == {
        "1.40": ["userId", "username", "isAdmin", "accountUuid"],
        "2.0": ["id", "username", "createdAt"],
        "2.6": USER[:4],
        "3.1": [*USER, "teams"],
        "3.3": [*USER, "teams"],
        "3.4": [*USER, "teams"],
    }.get(version, USER)


TEXT_REASON = "message.incorrect-username-password"
NEWER_401 = {"error": {"message": "Unauthorized", "code": "unauthorized", "status": 401}}
WRONG = {
    "1.40": "401 Unauthorized",
    **dict.fromkeys(("2.0", "2.6", "2.11", "2.15"), TEXT_REASON),
    "2.16": {"error": "Unauthorized"},
    "2.17": {"error": TEXT_REASON},
    "2.19": {"error": TEXT_REASON},
}


@with_each("version", ["1.40", *HOSTED])
def test_a_wrong_password(server, version):
    _, http = server(version)
    response = http.post("/api/auth/login", json={**CREDENTIALS, "password": "x"})
    assert response.status_code == 401
    newer = {"error": {**NEWER_401["error"], "code": "incorrect-username-password"}}
    said = WRONG.get(version, newer)
    assert (response.text if isinstance(said, str) else response.json()) == said


@with_each("version", ["1.40", *COLUMNS])
def test_without_a_token(server, version):
    _, http = server(version)
    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        response = http.get("/api/websites", headers=headers)
        assert response.status_code == 401
        if version in ("1.40", *COLUMNS[:4]):
            assert response.text == "401 Unauthorized"
            assert "content-type" not in response.headers
        else:
            bare = {"error": "Unauthorized"}
            assert response.json() == (bare if version in ("2.16", "2.17", "2.19") else NEWER_401)


VERIFY = table(
    ("POST", "POST", "auth*2 user*2 405*2 user*6 404"),
    ("GET", "GET", "auth*2 user*4 405*6 404"),
)


@with_table(("method",), VERIFY)
def test_verify(server, method, version, answer):
    _, http = server(version)
    headers = {} if version == "cloud" else log_in(http)
    response = http.request(method, "/api/auth/verify", headers=headers)
    if answer.isdecimal():
        assert response.status_code == int(answer)
        return
    reply = response.json()
    user = reply["user"] if answer == "auth" else reply
    assert user["username"] == "admin"
    assert ("token" in reply) is (answer == "auth")
    assert ("teams" in reply) is (version.startswith("3"))


@with_each("version", HOSTED)
def test_what_is_looked_at_first(server, version):
    _, http = server(version)
    text = COLUMNS.index(version) < COLUMNS.index("2.16")
    assert http.get("/api/websites", params={"page": "x"}).status_code == (401 if text else 400)


@with_table((), table(("", "user*4 auth*8 401")))
def test_me(server, version, answer):
    _, http = server(version)
    headers = {} if version == "cloud" else log_in(http)
    response = http.get("/api/me", headers=headers)
    if answer == "401":
        assert response.status_code == 401
        return
    reply = response.json()
    assert (reply["user"] if answer == "auth" else reply)["username"] == "admin"
    assert ("token" in reply) is (answer == "auth")


@with_table((), table(("", "{}*4 ok*8 404")))
def test_heartbeat(server, version, answer):
    _, http = server(version)
    response = http.get("/api/heartbeat")
    if answer == "404":
        assert (response.status_code, response.headers["content-type"][:9]) == (404, "text/html")
    else:
        assert response.json() == ({"ok": True} if answer == "ok" else {})


def test_1_40_verifies_and_has_no_me(server):
    _, http = server("1.40")
    headers = log_in(http)
    for method in ("GET", "POST"):
        assert http.request(method, "/api/auth/verify", headers=headers).json()["userId"] == 1
    assert http.get("/api/me", headers=headers).status_code == 404
    assert http.get("/api/heartbeat").json() == {}


def test_the_cloud_has_no_login(server):
    _, http = server("cloud")
    for path in ("login", "verify", "logout"):
        assert http.post(f"/api/auth/{path}", json=CREDENTIALS).status_code == 404


@with_table((), table(("", "404*2 200*3 404*8")))
def test_version(server, version, answer):
    _, http = server(version)
    response = http.get("/api/version")
    assert response.status_code == int(answer)
    if answer == "200":
        assert response.json() == {"version": version}


def test_the_version_told_is_the_one_asked_for(server):
    _, http = server("v2.15.1")
    assert http.get("/api/version").json() == {"version": "2.15.1"}


CONFIGS = [
    ("1.40", {"telemetryDisabled", "updatesDisabled"}),
    ("2.0", {"cloudMode", "telemetryDisabled", "updatesDisabled"}),
    ("2.6", {"telemetryDisabled", "uiDisabled", "updatesDisabled"}),
    ("2.11", {"telemetryDisabled", "uiDisabled", "updatesDisabled"}),
    ("2.15", {"telemetryDisabled", "uiDisabled", "updatesDisabled"}),
    ("2.16", None),
    ("2.17", None),
    ("2.19", None),
    ("3.0.1", {"cloudMode", "privateMode", "telemetryDisabled", "updatesDisabled"}),
    ("3.0.3", {"cloudMode", "privateMode", "telemetryDisabled", "updatesDisabled"}),
    ("3.1", {"cloudMode", "privateMode", "telemetryDisabled", "updatesDisabled", "currentVersion"}),
]


@with_each(("version", "names"), CONFIGS)
def test_config(server, version, names):
    _, http = server(version)
    response = http.get("/api/config")
    assert (None if response.status_code == 404 else set(response.json())) == names


API_KEY = "umami_0123456789abcdef"


def test_an_api_key_is_a_bearer_token(browse):
    with Collector(umami="3.4", api_key=API_KEY) as collector:
        http = browse(collector)
        http.headers["Authorization"] = f"Bearer {API_KEY}"
        assert http.get("/api/me").json()["user"]["username"] == "admin"
        assert http.get("/api/websites").status_code == 200
        assert http.post("/api/auth/verify").status_code == 401
        headers = {"Authorization": "Bearer umami_other"}
        assert http.get("/api/me", headers=headers).status_code == 401
        assert (
            http.get("/api/me", headers={"Authorization": "", "x-umami-api-key": API_KEY}).status_code == 401
        )


def test_the_cloud_takes_its_key_either_way(browse):
    with Collector(umami="cloud", api_key="api_key") as collector:
        http = browse(collector)
        assert http.get("/api/me", headers={"x-umami-api-key": "api_key"}).status_code == 200
        assert http.get("/api/me", headers={"Authorization": "Bearer api_key"}).status_code == 200
        assert http.get("/api/me", headers={"x-umami-api-key": "other"}).status_code == 401
        assert http.get("/api/me").status_code == 401


@pytest.mark.parametrize("version", ["2.15", "3.1", "3.3"])
def test_an_earlier_version_has_no_api_keys(version):
    with pytest.raises(ValueError, match="has no API keys"):
        Collector(umami=version, api_key=API_KEY)


@pytest.mark.parametrize("version", ["2.15", "3.1", "cloud"])
def test_an_earlier_version_has_no_second_factor(version):
    with pytest.raises(ValueError, match="has no second factor"):
        Collector(umami=version, second_factor="123456")


def test_a_login_with_a_second_factor(browse):
    with Collector(umami="3.3", second_factor="123456") as collector:
        http = browse(collector)
        assert http.post("/api/auth/login", json={**CREDENTIALS, "password": "x"}).status_code == 401
        asked = http.post("/api/auth/login", json=CREDENTIALS).json()
        assert set(asked) == {"requiresTwoFactor", "partialToken"}
        assert asked["requiresTwoFactor"] is True
        partial = {"Authorization": f"Bearer {asked['partialToken']}"}
        assert http.get("/api/me", headers=partial).status_code == 401
        assert http.post("/api/2fa/verify", json={"token": "000000"}, headers=partial).status_code == 401
        assert http.post("/api/2fa/verify", json={"token": "123456"}).status_code == 401
        assert http.post("/api/2fa/verify", json={}, headers=partial).status_code == 400
        granted = http.post("/api/2fa/verify", json={"token": "123456"}, headers=partial).json()
        assert granted["user"]["username"] == "admin"
        headers = {"Authorization": f"Bearer {granted['token']}"}
        assert http.get("/api/me", headers=headers).status_code == 200
        assert http.post("/api/2fa/verify", json={"token": "123456"}, headers=headers).status_code == 401


# Queries


RANGE = {"startAt": 0, "endAt": 2_000_000_000_000}


@pytest.fixture
def visited(server) -> Callable[[str], Callable[..., Any]]:
    """Run a version with two visits of one website, and query it."""

    def run(version: str) -> Callable[..., Any]:
        collector, http = server(version)
        agents = (CHROME, CHROME.replace("126", "127"))
        send = "/api/collect" if version == "1.40" else "/api/send"
        for agent, url, host in ((0, "/v", "a.example"), (0, "/w", "a.example"), (1, "/v", "b.example")):
            event = item(url=url, hostname=host)
            assert http.post(send, json=event, headers={"User-Agent": agents[agent]}).status_code == 200
        assert collector.event_count == 3
        headers = log_in(http)

        def query(route: str, **parameters: Any) -> Any:
            return http.get(f"/api/websites/{SITE}/{route}", params=parameters, headers=headers)

        return query

    return run


def views(stats: dict[str, Any]) -> int:
    """Read the page views, in any generation's form."""
    figure = stats["pageviews"]
    return figure["value"] if isinstance(figure, dict) else figure


@with_each("version", HOSTED)
def test_stats(visited, version):
    stats = visited(version)("stats", **RANGE).json()
    old = ["pageviews", "uniques", "bounces", "totaltime"]
    names = old if version in ("2.0", "2.6") else ["pageviews", "visitors", "visits", "bounces", "totaltime"]
    if version.startswith("3"):
        assert list(stats) == [*names, "comparison"]
        assert stats["pageviews"] == 3
        assert stats["comparison"]["pageviews"] == 0
    else:
        assert list(stats) == names
        change = "change" if version in ("2.0", "2.6", "2.11") else "prev"
        assert stats["pageviews"] == {"value": 3, change: 3 if change == "change" else 0}
        assert stats[names[1]]["value"] == 2


def test_1_40_has_other_parameters(visited):
    query = visited("1.40")
    assert query("stats", **RANGE).status_code == 400
    stats = query("stats", start_at=0, end_at=RANGE["endAt"], url="/v").json()
    assert stats["pageviews"] == {"value": 2, "change": 2}


FILTERS = [
    ("url", {"url": "/v"}, "2*7 3*5"),
    ("path", {"path": "/v"}, "3*7 2*5"),
    ("both", {"url": "/v", "path": "/v"}, "2*12"),
    ("host", {"host": "a.example"}, "3*3 2*4 3*5"),
    ("hostname", {"hostname": "a.example"}, "3*7 2*5"),
    ("both hosts", {"host": "no.example", "hostname": "no.example"}, "3*3 0*9"),
    ("referrer", {"referrer": "no.example"}, "0*4 500 0*7"),
]


@with_table(("parameters",), table(*((*row[:2], row[2] + " -") for row in FILTERS)))
def test_filters(visited, parameters, version, answer):
    if answer == "-":
        pytest.skip("it has no login")
    response = visited(version)("stats", **RANGE, **parameters)
    if answer == "500":
        assert (response.status_code, response.content) == (500, b"")
    else:
        assert views(response.json()) == int(answer)


@with_each("version", HOSTED)
def test_metrics_by_path(visited, version):
    kind = "path" if version.startswith("3") else "url"
    rows = visited(version)("metrics", **RANGE, type=kind).json()
    assert rows == [{"x": "/v", "y": 2}, {"x": "/w", "y": 1}]


@with_each("version", HOSTED)
def test_active(visited, version):
    active = visited(version)("active").json()
    assert active == {"2.0": [{"x": 2}], "2.6": [{"x": 2}], "2.11": {"x": 2}, "2.15": {"x": 2}}.get(
        version, {"visitors": 2}
    )


@with_each("version", HOSTED)
def test_stats_of_an_unknown_website(server, version):
    _, http = server(version)
    response = http.get(f"/api/websites/{UNKNOWN}/stats", params=RANGE, headers=log_in(http))
    assert response.status_code == (500 if version == "2.15" else 200)
    if version != "2.15":
        assert not views(response.json())


@with_each("version", HOSTED)
def test_websites(server, version):
    collector, http = server(version)
    for number in range(25):
        collector.add_website(f"Site {number}", "example.com")
    reply = http.get("/api/websites", headers=log_in(http)).json()
    if version == "2.0":
        assert isinstance(reply, list)
        assert len(reply) >= 25
    else:
        newer = version.startswith("3")
        assert list(reply) == ["data", "count", "page", "pageSize", *([] if newer else ["orderBy"])]
        assert reply["pageSize"] == len(reply["data"]) == (20 if newer else 10)


@with_each("version", HOSTED)
def test_event_stats_came_late(visited, version):
    late = version in ("3.1", "3.3", "3.4")
    assert visited(version)("events/stats", **RANGE).status_code == (200 if late else 404)


# Versions


@with_each("version", ["", "x", "2.x", "0.9", "2.15.1.0", "2..1", "3.1\n", "-1", "latest"])
def test_what_is_no_version_is_refused(version):
    with pytest.raises(ValueError, match="Umami"):
        Collector(umami=version)


@with_each(
    ("version", "same"),
    [
        *[("v2.15.1", "2.15"), ("2.12", "2.15"), ("2.11.3", "2.11"), ("2.9.0", "2.6"), ("2.20.2", "2.19")],
        *[("3", "3.0.1"), ("3.0", "3.0.1"), ("3.0.2", "3.0.3"), ("3.2", "3.1"), ("3.3.1", "3.3")],
        ("4", "3.4"),
    ],
)
def test_a_version_between_two_generations_answers_as_the_earlier(version, same):
    assert Collector(umami=version).umami == same


def test_the_pages_for_what_is_missing_are_nexts(server):
    _, http = server("2.15")
    response = http.post("/api/batch", json=[])
    assert response.headers["content-type"].startswith("text/html")
    assert re.match("<!DOCTYPE html>", response.text)


@with_each("version", ["2.6", "2.15", "2.19"])
@with_each(
    ("system", "screen", "device"),
    [
        ("X11; Linux x86_64", "1920x1080", "desktop"),
        ("X11; Linux x86_64", "1919x1080", "laptop"),
        ("X11; CrOS x86_64 1.0", "2560x1440", "laptop"),
        ("iPhone; CPU iPhone OS 17_0 like Mac OS X", "479x900", "mobile"),
        ("iPhone; CPU iPhone OS 17_0 like Mac OS X", "820x900", "tablet"),
        ("Amiga", "1920x1080", "desktop"),
        ("Amiga", "1024x768", "laptop"),
        ("Amiga", "479x900", "tablet"),
        ("Amiga", "wide", "mobile"),
        ("X11; Linux x86_64", "wide", "desktop"),
        ("X11; Linux x86_64", "", None),
    ],
)
def test_before_3_the_screen_tells_the_kind_of_device(
    server: Server, version: str, system: str, screen: str, device: str | None
) -> None:
    collector, http = server(version)
    ua = f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36"
    answer = http.post("/api/send", json=item(name="signup", screen=screen), headers={"User-Agent": ua})
    assert answer.status_code == 200, answer.text
    (event,) = collector.events
    assert event.device == device


def test_2_19_stores_a_currency_of_100_characters(server: Server) -> None:
    collector, http = server("2.19")
    for length, status in ((100, 200), (101, 500)):
        revenue = item(name="signup", data={"revenue": 1, "currency": "x" * length})
        assert http.post("/api/send", json=revenue).status_code == status
    assert collector.event_count == 2


@with_each("version", ["2.11", "2.15", "2.16", "3.1"])
def test_a_title_is_cut(server: Server, version: str) -> None:
    collector, http = server(version)
    assert http.post("/api/send", json=item(name="signup", title="x" * 600)).status_code == 200
    (event,) = collector.events
    assert event.title == "x" * 500
