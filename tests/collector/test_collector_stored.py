"""What the collector stores, compared with a real Umami 3.1.0."""

import json

import httpx
import pytest
from collector_helpers import ABSENT, failure, item, send
from conftest import with_each

from umami.collector import Collector, EventType


def properties(collector: Collector) -> list[tuple[str, str, float | None]]:
    return [
        (prop.key, prop.text, prop.number) for event in collector.events for prop in event.properties.values()
    ]


def send_data(http: httpx.Client, data: str) -> httpx.Response:
    """Send an event with custom data that is written out, as no encoder would."""
    body = json.dumps(item(name="x", data={"data": "here"})).replace('{"data": "here"}', data)
    return http.post("/api/send", content=body)


@with_each(
    ("sent", "text", "number"),
    [
        ("2.00005", "2.0000", 2.0001),
        ("12345.67895", "12345.6789", 12345.679),
        ("1.00015", "1.0002", 1.0002),
        ("-0.0", "0.0000", 0.0),
        ("-0.00001", "-0.0000", 0.0),
        ("1e400", "Infinity", None),
        ("-1e400", "-Infinity", None),
        ("1E2", "100.0000", 100.0),
    ],
)
def test_a_number_is_text_as_javascript_has_it_and_a_decimal_as_postgresql_has_it(
    collector, http, sent, text, number
):
    assert send_data(http, f'{{"a": {sent}}}').status_code == 200
    assert properties(collector) == [("a", text, number)]
    assert str(properties(collector)[0][2]) == str(number)


@with_each(
    ("sent", "stored"),
    [
        ("2026-01-02T03:04:05", "2026-01-02T03:04:05.000Z"),
        ("2026-01-02T03:04:05.678", "2026-01-02T03:04:05.678Z"),
        ("2026-01-02T03:04:05.678+02:00", "2026-01-02T01:04:05.678Z"),
        ("2026-02-31T00:00:00.000Z", "2026-03-03T00:00:00.000Z"),
        ("2026-01-02T24:00:00", "2026-01-03T00:00:00.000Z"),
        ("0001-01-01T00:00:00.000Z", "0001-01-01T00:00:00.000Z"),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
    ],
)
def test_a_date_is_stored_in_utc(collector, http, sent, stored):
    assert send(http, name="x", data={"d": sent}).status_code == 200
    assert properties(collector) == [("d", stored, None)]


@with_each(
    ("sent", "stored"),
    [
        ('{"__proto__": 1, "a": "b"}', {"a": "b"}),
        ('{"__proto__": {"x": 1}}', {}),
        ('{"__proto__": "' + "x" * 501 + '"}', {}),
        ('{"a": {"__proto__": "b"}}', {"a": {"__proto__": "b"}}),
    ],
)
def test_one_key_of_the_data_is_dropped(collector, http, sent, stored):
    assert send_data(http, sent).status_code == 200
    assert collector.events[0].data == stored


def test_a_performance_event_has_a_path_and_a_title_alone(collector, http):
    payload = {"url": "/a?utm_source=" + "z" * 300 + "#top", "title": "T%20", "name": "n", "tag": "t"}
    event = item(type="performance", **payload, referrer="https://g.com/", data={"a": 1}, lcp=1)
    assert http.post("/api/send", json=event).status_code == 200
    [stored] = collector.events
    assert (stored.type, stored.url_path, stored.title) == (EventType.PERFORMANCE, "/a", "T ")
    absent = ("hostname", "url_query", "name", "tag", "referrer_domain", "referrer_path", "data")
    assert [getattr(stored, name) for name in absent] == [None] * len(absent)
    [shown] = http.get("/collector/events").json()["events"]
    assert (shown["kind"], shown["event"]) == ("performance", event)


@pytest.mark.parametrize(("hostname", "name"), [("a\0", "DriverAdapterError"), ("a\0b", "TypeError")])
def test_a_nul_in_the_hostname_is_refused(collector, http, hostname, name):
    assert failure(send(http, hostname=hostname))["name"] == name
    assert collector.events == ()


# Identify


@with_each(
    ("data", "kept"),
    [
        ({"a": 1, "b": "x" * 501, "c": 2}, {"a": 1}),
        ({"k": 1, "n": {"o": 2, "p": "x" * 501, "q": 3}, "z": 1}, {"k": 1, "n": {"o": 2}}),
        ({"a": 1, "k" * 501: 2}, {"a": 1}),
        ({"a": 1, "n": 1e15}, {"a": 1}),
        ({"a": 1, "n": "\0"}, {"a": 1}),
        ({"b": "x" * 501, "c": 2}, None),
        ({"a": 1, "d": "2026-13-01T00:00:00"}, None),
    ],
)
def test_identify_keeps_what_comes_before_the_value_that_is_refused(collector, http, data, kept):
    assert http.post("/api/send", json=item(type="identify", id="ann", data=data)).status_code == 500
    assert [identity.data for identity in collector.identities] == ([] if kept is None else [kept])


# When and where


def test_every_month_has_sessions_of_its_own(http):
    seconds = [253_402_300_799, 253_402_300_800, 253_405_000_000, 999_999_999_999, 8_640_000_000_000]
    sessions = [send(http, timestamp=at).json()["sessionId"] for at in seconds]
    assert len(set(sessions)) == len(seconds)
    assert send(http, timestamp=253_402_300_801).json()["sessionId"] == sessions[1]


@with_each(
    ("timestamp", "code", "message"),
    [
        (-62_135_596_801, "22008", 'date/time field value out of range: "0000-12-31 23:59:59"'),
        (
            -62_167_219_201,
            "22007",
            'invalid input syntax for type timestamp with time zone: "00-1-12-31 23:59:59"',
        ),
        (-300_000_000_000, "22009", 'time zone displacement out of range: "-7537-05-18 18:40:00"'),
        (-8_640_000_000_000, "22009", 'time zone displacement out of range: "-271821-04-20 00:00:00"'),
        (
            8_640_000_000_001,
            "22007",
            'invalid input syntax for type timestamp with time zone: "0NaN-NaN-NaN NaN:NaN:NaN"',
        ),
    ],
)
def test_a_moment_out_of_range_fails_with_the_databases_words(http, timestamp, code, message):
    error = failure(send(http, timestamp=timestamp))
    driver_error = error["meta"]["driverAdapterError"]
    assert (driver_error["message"], driver_error["cause"]["originalCode"]) == (message, code)
    assert error["message"].endswith(f"Raw query failed. Code: `{code}`. Message: `{message}`")


@with_each(
    ("payload", "members"),
    [
        ({"id": "x" * 51}, "code meta clientVersion name message stack"),
        ({"name": "\0"}, "name cause clientVersion message stack"),
        ({"hostname": "a b"}, "code input base name message stack"),
        ({"name": ABSENT, "data": {"revenue": 1, "currency": "EUR"}}, "name clientVersion message stack"),
        ({"data": {"d": "2026-13-01T00:00:00"}}, "name message stack"),
    ],
)
def test_an_errors_members_come_in_umamis_order(http, payload, members):
    assert " ".join(failure(send(http, **payload))) == members


@with_each(
    ("ip", "status"),
    [
        *((ip, 200) for ip in ("::", "127.1", "0x7f.1", "0177.1", "2130706433", "10.0.0.1", "::1")),
        *((ip, 500) for ip in ("1.1", "08.1", "8.8.8.8", "2001:db8::1", "100.64.0.1", "[::1]", "garbage")),
    ],
)
def test_what_a_server_without_a_geo_database_takes_for_its_own_address(browse, ip, status):
    with Collector(geo_database=False) as collector:
        assert send(browse(collector), ip=ip).status_code == status


@with_each(
    ("headers", "payload", "status"),
    [
        ({"X-Forwarded-For": "8.8.8.8"}, {}, 500),
        ({"X-Forwarded-For": "8.8.8.8", "CF-IPCountry": "DE"}, {}, 200),
        ({"X-Forwarded-For": "8.8.8.8", "X-Vercel-IP-Country": "DE"}, {}, 200),
        ({"X-Forwarded-For": "8.8.8.8", "CF-IPCountry": ""}, {}, 500),
        ({"CF-IPCountry": "DE"}, {"ip": "8.8.8.8"}, 500),
        ({"Forwarded": "for=8.8.8.8"}, {}, 200),
        ({"X-Forwarded-For": "", "Forwarded": "for=8.8.8.8"}, {}, 500),
        ({"X-Forwarded-For": "", "X-Client-IP": "8.8.8.8"}, {}, 500),
        ({"X-Forwarded-For": ""}, {}, 200),
    ],
)
def test_what_headers_say_of_a_visitor(browse, headers, payload, status):
    with Collector(geo_database=False) as collector:
        response = browse(collector).post("/api/send", json=item(**payload), headers=headers)
        assert response.status_code == status


def test_an_empty_header_makes_a_visitor_without_an_address(collector, http):
    http.post("/api/send", json=item(), headers={"X-Forwarded-For": ""})
    send(http)
    assert [event.ip for event in collector.events] == ["", "127.0.0.1"]
    assert len({event.session_id for event in collector.events}) == 2
