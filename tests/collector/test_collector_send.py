"""The collector's ``/api/send``: what is accepted, refused and stored; sessions and visits."""

import gzip
import json
import uuid
from datetime import datetime, timedelta, timezone

import httpx
import pytest
from collector_helpers import ABSENT, SITE, failure, item, send, wrong
from conftest import CHROME, with_each
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from umami.collector import Collector, EventType

BAD_BODY = {
    "error": {
        "message": "Bad request",
        "code": "bad-request",
        "status": 400,
        "errors": ["Invalid input: expected object, received undefined"],
    }
}


def test_an_event_is_stored_as_it_was_sent(collector, http):
    before = datetime.now(timezone.utc)
    reply = send(
        http,
        url="/pricing?plan=pro&utm_source=mail#top",
        referrer="https://www.google.com/search?q=umami",
        title="Pricing",
        name="signup",
        tag="beta",
        language="de-DE",
        screen="1920x1080",
        id="user-1",
        data={"plan": "pro", "seats": 3},
    ).json()
    [event] = collector.events
    assert (event.website_id, event.session_id, event.visit_id) == (
        SITE,
        reply["sessionId"],
        reply["visitId"],
    )
    assert len(reply["cache"]) == 307
    assert event.type is EventType.CUSTOM_EVENT
    assert (event.name, event.title, event.tag) == ("signup", "Pricing", "beta")
    assert (event.hostname, event.url_path, event.url_query) == (
        "example.com",
        "/pricing#top",
        "plan=pro&utm_source=mail",
    )
    assert (event.referrer_domain, event.referrer_path, event.referrer_query) == (
        "google.com",
        "/search",
        "q=umami",
    )
    assert (event.language, event.screen, event.distinct_id) == ("de-DE", "1920x1080", "user-1")
    assert (event.ip, event.user_agent) == ("127.0.0.1", CHROME)
    assert (event.browser, event.os, event.device) == ("chrome", "Linux", "laptop")
    assert event.data == {"plan": "pro", "seats": 3}
    assert abs(event.created_at - before) < timedelta(minutes=1)


@with_each(
    ("payload", "kind"),
    [
        ({}, EventType.PAGE_VIEW),
        ({"name": ""}, EventType.PAGE_VIEW),
        ({"name": "x"}, EventType.CUSTOM_EVENT),
        ({"website": ABSENT, "link": SITE, "name": "x"}, EventType.LINK),
        ({"website": ABSENT, "pixel": SITE}, EventType.PIXEL),
        ({"type": "performance", "name": "x", "lcp": 2500}, EventType.PERFORMANCE),
    ],
)
def test_the_name_and_the_source_decide_the_type(collector, http, payload, kind):
    assert send(http, **payload).status_code == 200
    assert [event.type for event in collector.events] == [kind]


@with_each(
    ("field", "limit"), [("name", 50), ("tag", 50), ("hostname", 100), ("language", 35), ("screen", 11)]
)
def test_a_text_may_have_so_many_utf16_units(collector, http, field, limit):
    assert send(http, **{field: "a" * limit}).status_code == 200
    message = f"Too big: expected string to have <={limit} characters"
    assert wrong(send(http, **{field: "a" * (limit + 1)}), field) == message
    assert wrong(send(http, **{field: "😀" * (limit // 2 + 1)}), field) == message
    assert len(collector.events) == 1


@with_each(
    "field",
    [
        "website", "name", "tag", "hostname", "language", "screen", "title", "url", "referrer", "id", "ip",
        "userAgent", "browser", "os", "device", "data", "link", "lcp",
    ],
)  # fmt: skip
def test_null_is_not_the_same_as_absent(http, field):
    assert "received null" in wrong(send(http, **{field: None}), field)


@with_each(
    ("payload", "message"),
    [
        ({"name": 5}, "Invalid input: expected string, received number"),
        ({"title": True}, "Invalid input: expected string, received boolean"),
        ({"url": ["/"]}, "Invalid input: expected string, received array"),
        ({"data": [1]}, "Invalid input: expected record, received array"),
        ({"data": "x"}, "Invalid input: expected record, received string"),
        ({"url": "http://"}, "Invalid URL."),
        ({"referrer": "http://["}, "Invalid URL."),
        ({"website": "my-site"}, "Invalid UUID"),
        ({"website": SITE.replace("-", "")}, "Invalid UUID"),
        ({"website": "11111111-1111-1111-1111-111111111111"}, "Invalid UUID"),
        ({"website": ABSENT}, "Exactly one of website, link, or pixel must be provided"),
        ({"link": SITE}, "Exactly one of website, link, or pixel must be provided"),
        ({"timestamp": 1.5}, "Invalid input: expected int, received number"),
        ({"timestamp": "soon"}, "Invalid input: expected number, received NaN"),
        ({"timestamp": 1_700_000_000_000_000_000}, "Too big: expected int to be <=9007199254740991"),
        ({"lcp": -1}, "Too small: expected number to be >=0"),
        ({"lcp": 60_001}, "Too big: expected number to be <=60000"),
    ],
)
def test_a_wrong_field_is_named(collector, http, payload, message):
    field = "website" if "Exactly one" in message else next(iter(payload))
    assert wrong(send(http, **payload), field) == message
    assert collector.events == ()


def test_every_wrong_field_is_named(http):
    body = http.post("/api/send", json={"type": "pageview", "payload": {"website": "x", "name": None}}).json()
    assert body["error"]["properties"] == {
        "type": {"errors": ['Invalid option: expected one of "event"|"identify"|"performance"']},
        "payload": {
            "errors": [],
            "properties": {
                "website": {"errors": ["Invalid UUID"]},
                "name": {"errors": ["Invalid input: expected string, received null"]},
            },
        },
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b'{"type": ',
        gzip.compress(json.dumps(item()).encode()),
        json.dumps(item(data={"a": "@"})).replace('"@"', "NaN").encode(),
        json.dumps(item(data={"a": "@"})).replace('"@"', "Infinity").encode(),
        json.dumps(item()).encode("utf-16"),
    ],
    ids=["empty", "text", "truncated", "gzip", "NaN", "Infinity", "UTF-16"],
)
def test_what_is_no_json_is_refused_as_a_whole(collector, http, body):
    response = http.post(
        "/api/send", content=body, headers={"Content-Encoding": "gzip"} if body[:1] == b"\x1f" else {}
    )
    assert (response.status_code, response.json()) == (400, BAD_BODY)
    assert collector.events == ()


def test_a_body_over_ten_mebibytes_looks_like_no_json(collector, http):
    def body(size: int) -> bytes:
        start = json.dumps(item(title="@")).encode()
        return start.replace(b"@", b"x" * (size - len(start) + 1))

    assert http.post("/api/send", content=body(10 * 1024 * 1024)).status_code == 200
    response = http.post("/api/send", content=body(10 * 1024 * 1024 + 1))
    assert (response.status_code, response.json()) == (400, BAD_BODY)
    assert len(collector.events) == 1


def test_the_content_type_and_unknown_fields_do_not_matter(collector, http):
    body = {**item(colour="red"), "more": 1}
    response = http.post("/api/send", content=json.dumps(body), headers={"Content-Type": "text/plain"})
    assert response.status_code == 200
    assert len(collector.events) == 1


def test_lone_surrogates_are_replaced(collector, http):
    body = json.dumps(item(name="a\ud800", title="\udc00b", data={"k": "\ud800"}))
    assert http.post("/api/send", content=body).status_code == 200
    [event] = collector.events
    assert (event.name, event.title, event.data) == ("a\ufffd", "\ufffdb", {"k": "\ufffd"})


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("t" * 501, "t" * 500),
        ("a%20b%C3%A9", "a bé"),
        ("100% sure", "100% sure"),
        ("😀" * 300, "😀" * 250),
        ("a" * 499 + "😀", "a" * 499 + "\ufffd"),
    ],
    ids=["cut", "decoded", "not an escape", "cut in units", "cut in an emoji"],
)
def test_a_title_is_decoded_and_cut(collector, http, sent, stored):
    send(http, title=sent)
    assert collector.events[0].title == stored


def test_paths_and_queries_are_cut(collector, http):
    send(http, url=f"/{'p' * 600}?{'q' * 600}", referrer=f"https://a.com/{'r' * 600}?{'s' * 600}")
    [event] = collector.events
    assert event.url_path == "/" + "p" * 499
    assert event.url_query == "q" * 500
    assert event.referrer_path == "/" + "r" * 499
    assert event.referrer_query == "s" * 500


def test_a_hostname_that_is_none_fails(collector, http):
    error = failure(send(http, hostname="my site"))
    assert (error["name"], error["code"], error["base"]) == (
        "TypeError",
        "ERR_INVALID_URL",
        "https://my site",
    )
    assert collector.events == ()


@with_each(
    ("payload", "code"),
    [
        ({"id": "i" * 51}, "P2010"),
        ({"browser": "b" * 21}, "P2010"),
        ({"os": "o" * 21}, "P2010"),
        ({"device": "d" * 21}, "P2010"),
        ({"language": "a\0b"}, "P2010"),
        ({"timestamp": 1_700_000_000_000_000}, "P2010"),
        ({"timestamp": -62_135_596_801}, "P2010"),
        ({"url": f"/?utm_source={'u' * 256}"}, "P2000"),
        ({"url": f"/?fbclid={'u' * 256}"}, "P2000"),
        ({"name": "a\0b"}, None),
        ({"title": "a%00b"}, None),
        ({"url": "/%00"}, None),
        ({"tag": "a\0b"}, None),
    ],
)
def test_what_the_database_refuses_is_not_stored(collector, http, payload, code):
    error = failure(send(http, **payload))
    assert error.get("code") == code
    assert error.get("meta", {}).get("modelName") in (None, "WebsiteEvent")
    assert collector.events == ()


@with_each(
    ("data", "code", "model"),
    [
        ({"a": "s" * 501}, "P2000", "EventData"),
        ({"k" * 501: 1}, "P2000", "EventData"),
        ({"a": ["s" * 497]}, "P2000", "EventData"),
        ({"a": {"b": {"c" * 497: 1}}}, "P2000", "EventData"),
        ({"a": 1e15}, "P2020", "EventData"),
        ({"a": -(10**15)}, "P2020", "EventData"),
        ({"a": "x\0y"}, None, None),
        ({"a": "2024-13-01T00:00:00.000Z"}, None, None),
        ({"revenue": 1, "currency": "X" * 11}, "P2000", "Revenue"),
        ({"revenue": True, "currency": "USD"}, None, None),
    ],
)
def test_an_event_whose_data_is_refused_is_stored_all_the_same(collector, http, data, code, model):
    error = failure(send(http, name="buy", data=data))
    assert error.get("code") == code
    assert error.get("meta", {}).get("modelName") == model
    [event] = collector.events
    assert event.name == "buy"
    assert event.data == (data if "revenue" in data else None)


def test_revenue_without_a_name_fails_after_storing(collector, http):
    error = failure(send(http, data={"revenue": 10, "currency": "USD"}))
    assert error["name"] == "PrismaClientValidationError"
    assert error["message"].endswith("Argument `eventName` is missing.")
    assert len(collector.events) == 1


def test_an_error_is_as_large_as_a_real_one(http):
    assert 4000 < len(send(http, name="x", data={"a": "s" * 501}).content) < 5500


@with_each(
    "data",
    [
        {"a": "s" * 500},
        {"a": "😀" * 500},
        {"k" * 500: 1},
        {"a": 999_999_999_999_999},
        {"a": ["x\0y"]},
        {"a": "2024-13-01T00:00:00Z"},
        {"revenue": 0, "currency": "X" * 11},
        {"revenue": 10, "currency": ""},
    ],
)
def test_data_at_the_limits_is_stored(collector, http, data):
    assert send(http, name="buy", data=data).status_code == 200
    assert collector.events[0].data == data


def test_data_is_flattened_to_typed_properties(collector, http):
    data = {
        "plan": {"name": "pro", "seats": 2.123456},
        "tags": ["a", 1],
        "trial": False,
        "none": None,
        "since": "2026-01-02T03:04:05.678+02:00",
        "day": "2026-01-02",
    }
    send(http, name="x", data=data)
    properties = collector.events[0].properties
    assert [(p.key, p.type, p.text) for p in properties.values()] == [
        ("plan.name", "string", "pro"),
        ("plan.seats", "number", "2.1235"),
        ("tags", "array", '["a",1]'),
        ("trial", "boolean", "false"),
        ("none", "array", "null"),
        ("since", "date", "2026-01-02T01:04:05.678Z"),
        ("day", "string", "2026-01-02"),
    ]
    assert properties["plan.seats"].number == 2.1235
    assert properties["since"].date == datetime(2026, 1, 2, 1, 4, 5, 678_000, tzinfo=timezone.utc)


@with_each(
    ("sent", "stored"),
    [
        (1_700_000_000, 1_700_000_000),
        ("1700000000", 1_700_000_000),
        (-5, -5),
        (4_000_000_000, 4_000_000_000),
        (True, 1),
        (1_700_000_000_000, 1_700_000_000_000),
    ],
)
def test_a_timestamp_is_seconds(collector, http, sent, stored):
    assert send(http, timestamp=sent).status_code == 200
    assert collector.events[0].timestamp == stored


@pytest.mark.parametrize("timestamp", [None, 0, ""])
def test_without_a_timestamp_an_event_is_dated_at_arrival(collector, http, timestamp):
    send(http, timestamp=timestamp)
    assert abs(collector.events[0].created_at - datetime.now(timezone.utc)) < timedelta(minutes=1)


def test_milliseconds_end_in_the_far_future(collector, http):
    send(http, timestamp=1_700_000_000_000)
    with pytest.raises(OverflowError, match="year 9999"):
        _ = collector.events[0].created_at


def test_the_payload_overrides_address_and_user_agent(collector, http):
    firefox = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0"
    send(http, ip="203.0.113.9", userAgent=firefox, device="tv")
    [event] = collector.events
    assert (event.ip, event.user_agent) == ("203.0.113.9", firefox)
    assert (event.browser, event.os, event.device) == ("firefox", "Windows 10", "tv")


def test_a_proxy_names_the_address(collector, http):
    http.post("/api/send", json=item(), headers={"X-Forwarded-For": "198.51.100.7, 10.0.0.1"})
    assert collector.events[0].ip == "198.51.100.7"


def test_without_a_geo_database_a_public_address_fails(browse):
    with Collector(geo_database=False) as collector:
        http = browse(collector)
        assert failure(send(http, ip="8.8.8.8"))["code"] == "ENOENT"
        assert send(http, ip="192.168.1.1").status_code == 200
        assert [event.ip for event in collector.events] == ["192.168.1.1"]


@with_each(
    "user_agent",
    [
        "python-httpx/0.28.1",
        "python-requests/2.32.0",
        "Python/3.11 aiohttp/3.9.1",
        "Python-urllib/3.11",
        "curl/8.5.0",
        "Go-http-client/1.1",
        "Mozilla/5.0",
        "myapp/1.0",
        CHROME.replace("Chrome", "HeadlessChrome"),
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    ],
)
def test_a_bot_gets_200_and_is_dropped(collector, http, user_agent):
    by_header = http.post("/api/send", json=item(), headers={"User-Agent": user_agent})
    by_payload = send(http, userAgent=user_agent)
    for response in (by_header, by_payload):
        assert (response.status_code, response.json()) == (200, {"beep": "boop"})
    assert collector.events == ()


@pytest.mark.parametrize("user_agent", [CHROME, "umami-client/1.0 (python)", ""])
def test_a_browser_is_stored(collector, http, user_agent):
    http.post("/api/send", json=item(), headers={"User-Agent": user_agent})
    assert [event.user_agent for event in collector.events] == [user_agent]


def test_an_unknown_website_is_registered_on_first_sight(collector, http):
    assert send(http, website=str(uuid.uuid4())).status_code == 200


def test_an_unknown_website_is_refused_if_it_is_to_be(browse):
    with Collector(auto_register=False) as collector:
        http = browse(collector)
        response = send(http)
        assert response.status_code == 400
        assert response.json() == {
            "error": {"message": "Website not found.", "code": "bad-request", "status": 400}
        }
        assert collector.add_website("Shop", "example.com", SITE) == SITE
        assert send(http).status_code == 200


# Sessions and visits


def test_a_session_is_the_distinct_id_or_else_the_visitor_and_the_month(http):
    def session(**payload: object) -> str:
        return send(http, **{"timestamp": 1_767_312_000, **payload}).json()["sessionId"]

    assert session() == session(timestamp=1_767_312_000 + 86_400)
    assert session() != session(timestamp=1_767_312_000 + 40 * 86_400)
    assert session() != session(ip="10.0.0.9")
    assert session() != session(userAgent=CHROME + " Edg/126.0")
    assert session(id="u") == session(id="u", ip="10.0.0.9", timestamp=1_500_000_000)
    assert session(id="u") != session(id="v")
    assert session(id="u") != session(id="u", website=SITE.upper())


def test_a_visit_is_the_sessions_events_of_one_clock_hour(http):
    def visit(timestamp: int) -> str:
        return send(http, timestamp=timestamp, id="u").json()["visitId"]

    hour = 1_767_312_000 - 1_767_312_000 % 3600
    assert visit(hour) == visit(hour + 3599)
    assert visit(hour) != visit(hour - 1)


def test_a_replayed_cache_forces_the_visit(collector, http):
    first = send(http, id="one").json()
    headers = {"x-umami-cache": first["cache"]}
    second = http.post("/api/send", json=item(id="two"), headers=headers).json()
    assert second["visitId"] == first["visitId"]
    forged = http.post(
        "/api/send", json=item(id="two"), headers={"x-umami-cache": first["cache"][:-2] + "xx"}
    )
    assert forged.json()["visitId"] != first["visitId"]
    assert len(collector.events) == 3


def test_identify_attaches_data_to_the_session(collector, http):
    reply = send(http, type="identify", id="user-1", data={"plan": "pro"}).json()
    [identity] = collector.identities
    assert (identity.website_id, identity.session_id) == (SITE, reply["sessionId"])
    assert (identity.distinct_id, identity.data) == ("user-1", {"plan": "pro"})
    assert collector.events == ()


def test_identify_with_data_that_does_not_fit_stores_nothing(collector, http):
    error = failure(send(http, type="identify", id="user-1", data={"a": "s" * 501}))
    assert error["meta"]["modelName"] == "SessionData"
    assert collector.identities == ()


# Around the route


@with_each("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_other_methods_are_refused(http, method):
    assert http.request(method, "/api/send").status_code == 405


def test_browsers_may_ask_across_origins(http):
    response = http.options("/api/send")
    assert (response.status_code, response.headers["Allow"]) == (204, "OPTIONS, POST")
    assert response.headers["Access-Control-Allow-Origin"] == "*"


def test_a_trailing_slash_is_redirected_with_its_method(collector, http):
    response = http.post("/api/send/?x=1", json=item())
    assert (response.status_code, response.headers["Location"]) == (308, "/api/send?x=1")
    assert http.post("/api/send/", json=item(), follow_redirects=True).status_code == 200
    assert len(collector.events) == 1


def test_an_unknown_path_is_a_page_that_says_so(http):
    response = http.post("/api/collect", json=item())
    assert (response.status_code, response.headers["Content-Type"]) == (404, "text/html; charset=utf-8")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)

FIELDS = st.sampled_from(
    ["name", "title", "url", "referrer", "hostname", "data", "timestamp", "id", "screen"]
)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(body=JSON | st.builds(lambda payload: item(**payload), st.dictionaries(FIELDS, JSON)))
def test_any_json_is_answered_as_umami_answers(
    collector: Collector, http: httpx.Client, body: object
) -> None:
    stored = collector.event_count
    response = http.post("/api/send", content=json.dumps(body))
    assert response.status_code in (200, 400, 500)
    if response.status_code == 200:
        assert set(response.json()) == {"cache", "sessionId", "visitId"}
        assert collector.event_count == stored + 1
    else:
        assert response.json()["error"]["status"] == response.status_code
    if response.status_code == 400:
        assert collector.event_count == stored
