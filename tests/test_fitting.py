"""Visitors' values: each is repaired, stored by the server and counted."""

import hashlib
import logging
import math
import os
import string
import sys
import threading
from collections import Counter, OrderedDict, UserDict, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from ipaddress import ip_address, ip_network
from itertools import count, repeat
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import pydantic
import pytest
from conftest import DEADLINE, SITE, with_each
from hostile_values import Values
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from queue_helpers import Listener, until

import umami
from umami.collector import Collector, StoredEvent

REPLACED = "\ufffd"
EMOJI = "\N{ROCKET}"  # one code point, two UTF-16 units
NAIVE = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - what a program may well pass


@pytest.fixture
def stored(client: umami.Client, collector: Collector) -> Callable[..., StoredEvent]:
    """Send an event and return what the server made of it."""

    def send(**arguments: Any) -> StoredEvent:
        collector.clear()
        before = client.queue_stats()
        client.new_event(**{"event_name": "signup", **arguments})
        assert client.flush(DEADLINE)
        stats = client.queue_stats()
        assert (stats.delivered - before.delivered, stats.rejected, stats.retries) == (1, 0, 0), stats
        (event,) = collector.events
        assert event.data is not None
        return event

    return send


_earlier: WeakKeyDictionary[umami.Client, Counter[str]] = WeakKeyDictionary()


def repaired(client: umami.Client) -> dict[str, int]:
    """Return how often what was repaired since the last call."""
    before, now = _earlier.get(client, Counter()), Counter(client.queue_stats().repaired)
    _earlier[client] = now
    return dict(now - before)


# What needs no repair.


@with_each(
    ("field", "value", "attribute"),
    [
        ("url", "/pricing", "url_path"),
        ("url", "/", "url_path"),
        ("title", "Prices", "title"),
        ("title", "100% off", "title"),
        ("language", "en-US", "language"),
        ("language", "x" * 35, "language"),
        ("language", "", "language"),
        ("screen", "1920x1080", "screen"),
        ("screen", "x" * 11, "screen"),
        ("ip_address", "203.0.113.9", "ip"),
        ("ip_address", "2001:db8::1", "ip"),
        ("distinct_id", "x" * 50, "distinct_id"),
        ("distinct_id", EMOJI * 50, "distinct_id"),
        ("tag", "variant-b", "tag"),
        ("ua", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "user_agent"),
    ],
)
def test_a_good_value_is_stored_as_it_is(
    client: umami.Client, stored: Callable[..., StoredEvent], field: str, value: str, attribute: str
) -> None:
    assert getattr(stored(**{field: value}), attribute) == value
    assert repaired(client) == {}


@with_each("field", ["url", "referrer", "language", "screen", "ip_address", "title", "ua", "tag"])
def test_none_is_left_out(client: umami.Client, stored: Callable[..., StoredEvent], field: str) -> None:
    stored(**{field: None})
    assert repaired(client) == {}


def test_a_full_url_is_taken_apart_by_the_server(stored: Callable[..., StoredEvent]) -> None:
    event = stored(url="https://example.com/a/b?plan=pro#top", referrer="https://news.example/item?id=5")
    assert (event.url_path, event.url_query) == ("/a/b#top", "plan=pro")
    assert (event.referrer_domain, event.referrer_path, event.referrer_query) == (
        "news.example",
        "/item",
        "id=5",
    )


def test_the_title_falls_back_to_the_name(stored: Callable[..., StoredEvent]) -> None:
    assert stored(title="").title == "signup"


# The visitor's fields.


@with_each(
    ("header", "tag"), [("de-DE,de;q=0.9,en;q=0.8", "de-DE"), ("en-US,*", "en-US"), (" fr , en", "fr")]
)
def test_of_an_accept_language_header_the_first_tag_is_sent(
    client: umami.Client, stored: Callable[..., StoredEvent], header: str, tag: str
) -> None:
    assert stored(language=header).language == tag
    assert repaired(client) == {}  # it is what a visitor's request has


@with_each(
    ("header", "tag"),
    [
        ("de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7,fr;q=0.6", "de-DE"),
        ("en;" + "q" * 40, "en"),
        ("x" * 36 + ",en", None),
        ("x" * 36, None),
        (EMOJI * 18, None),
    ],
)
def test_a_language_over_35_is_cut_to_its_first_tag(
    client: umami.Client, stored: Callable[..., StoredEvent], header: str, tag: str | None
) -> None:
    assert stored(language=header).language == tag
    assert repaired(client) == {"language": 1}


@with_each("screen", ["x" * 12, "1920x1080x24x2", EMOJI * 6])
def test_an_overlong_screen_is_left_out(
    client: umami.Client, stored: Callable[..., StoredEvent], screen: str
) -> None:
    assert stored(screen=screen).screen is None
    assert repaired(client) == {"screen": 1}


@with_each(
    "address",
    [
        *(
            "unknown",
            "256.1.1.1",
            "::g",
            "a.example",
            "\x00",
            "a.example:80",
            "[::1",
            "[]",
            "203.0.113.9:",
            ":80",
        ),
        *("203.0.113.9:port", "203.0.113.9:123456", "unknown, a.example", ", ,", "1" * 100),
    ],
)
def test_an_address_that_is_none_is_left_out(
    client: umami.Client, stored: Callable[..., StoredEvent], address: str
) -> None:
    assert stored(ip_address=address).ip == "127.0.0.1"
    assert repaired(client) == {"ip_address": 1}


@with_each(("address", "ip"), [("", "127.0.0.1"), ("  ", "127.0.0.1"), (" 203.0.113.9 ", "203.0.113.9")])
def test_blanks_around_an_address_are_no_fault(
    client: umami.Client, stored: Callable[..., StoredEvent], address: str, ip: str
) -> None:
    assert stored(ip_address=address).ip == ip
    assert repaired(client) == {}


@with_each(
    ("address", "ip"),
    [
        ("203.0.113.9:5000", "203.0.113.9"),
        (" 203.0.113.9:5000 ", "203.0.113.9"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%eth0]:443", "fe80::1"),
        ("::ffff:203.0.113.9", "::ffff:203.0.113.9"),
    ],
)
def test_an_address_is_taken_without_its_port_brackets_and_zone(
    client: umami.Client, stored: Callable[..., StoredEvent], address: str, ip: str
) -> None:
    assert stored(ip_address=address).ip == ip
    assert repaired(client) == {}


@pytest.mark.parametrize(
    ("header", "ip"),
    [
        ("203.0.113.9, 10.0.0.1", "203.0.113.9"),
        ("198.51.100.7, 203.0.113.9", "203.0.113.9"),
        ("198.51.100.7,203.0.113.9:4711,192.168.0.1,127.0.0.1,169.254.1.1,100.64.0.1", "203.0.113.9"),
        ("forged, 203.0.113.9, unknown", "203.0.113.9"),
        ("203.0.113.9,", "203.0.113.9"),
        ("198.51.100.7, [2001:db8::1]:443, fd00::1, ::1, fe80::1%eth0, ::ffff:10.0.0.1", "2001:db8::1"),
        ("10.0.0.7, 10.0.0.1", "10.0.0.7"),
        ("x," * 100_000 + "203.0.113.9, 10.0.0.1", "203.0.113.9"),
    ],
)
def test_of_a_list_of_addresses_the_last_public_one_is_sent_with_one_warning(
    client: umami.Client,
    stored: Callable[..., StoredEvent],
    heard: Listener,
    collector: Collector,
    header: str,
    ip: str,
) -> None:
    assert stored(ip_address=header).ip == ip
    client.new_event("again", ip_address=header)
    assert client.flush(DEADLINE)
    assert [event.ip for event in collector.events] == [ip, ip]
    assert repaired(client) == {}
    heard.wait_for("ip_address is a list")
    (warning,) = heard.matching("ip_address")
    assert "proxy middleware" in warning.getMessage()


@with_each("identity", ["x" * 51, "long" * 100, EMOJI * 51, 10**60])
def test_an_overlong_distinct_id_becomes_a_stable_digest(
    client: umami.Client, collector: Collector, identity: Any
) -> None:
    for _ in range(2):
        client.new_event("signup", distinct_id=identity)
    client.new_event("signup", distinct_id=f"{identity}!")
    assert client.flush(DEADLINE)
    one, same, other = (event.distinct_id for event in collector.events)
    assert one == same == hashlib.sha256(str(identity).encode()).hexdigest()[:50]
    assert other not in {one, None}
    assert repaired(client) == {"distinct_id": 3}


@with_each("key", ["utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term",
                                 "gclid", "fbclid", "msclkid", "ttclid", "li_fat_id", "twclid"])  # fmt: skip
@with_each("value", ["x" * 256, "é" * 300, "%C3%A9" * 256, "+" * 256, "x" * 5000])
def test_an_overlong_campaign_value_is_cut_and_its_neighbours_kept(
    client: umami.Client, stored: Callable[..., StoredEvent], key: str, value: str
) -> None:
    event = stored(url=f"/landing?a=1&{key}={value}&b=2#top")
    assert event.url_path == "/landing#top"
    assert event.url_query.startswith(f"a=1&{key}=")
    assert repaired(client) == {"url": 1}


@pytest.mark.parametrize("value", ["x" * 255, "%C3%A9" * 255])
def test_a_campaign_value_that_fits_is_left_alone(
    client: umami.Client, stored: Callable[..., StoredEvent], value: str
) -> None:
    assert stored(url=f"/landing?utm_source={value}&b={'y' * 600}").url_path == "/landing"
    assert repaired(client) == {}


# Or not every server: versions of Node differ over some.
UNPARSABLE = ["http://", "https://[", "http://[::1", "//", "http://a b/", "http://%zz/", "http://1.2.3.4.5/", "http://:80/",
              "http://host:port/", "http://host:99999/", "http://xn--a/", "http://ex^mple/", "http://a.0x1g.0x/",
              f"http://{'a.' * 126}ab/", f"http://{'é' * 60}.example/",
              "http://a\u0301\u200cb/", "http://\u0301a/", "http://1א.example/", "http://a\u00adb/",
              "http://\u1c89.example/", "file:\\\\a b"]  # fmt: skip


@with_each("url", UNPARSABLE)
def test_a_url_that_the_server_cannot_parse_is_percent_encoded(
    client: umami.Client, stored: Callable[..., StoredEvent], url: str
) -> None:
    event = stored(url=url)
    assert event.url_path.startswith("/")
    assert (event.url_path == "/") == (url == "//")
    assert repaired(client) == {"url": 1}


@with_each("referrer", UNPARSABLE)
def test_a_referrer_that_the_server_cannot_parse_is_left_out(
    client: umami.Client, stored: Callable[..., StoredEvent], referrer: str
) -> None:
    event = stored(referrer=referrer)
    assert (event.referrer_domain, event.referrer_path) == (None, None)
    assert repaired(client) == {"referrer": 1}


@with_each(
    ("referrer", "domain"),
    [
        ("android-app://com.google.android.gm/", "com.google.android.gm"),
        ("https://www.example.com/", "example.com"),
        ("https://bücher.example/", "xn--bcher-kva.example"),
        ("https://BÜCHER.example/", "xn--bcher-kva.example"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example"),
        ("https://אבג.example/", "xn--4dbcd.example"),
        ("http://a_b.ab--c.-a./", "a_b.ab--c.-a."),
        ("http://a..3com/", "a..3com"),
        (f"http://{'a' * 100}.example/", f"{'a' * 100}.example"),
        ("/inside", "example.com"),
        ("about:blank", ""),
    ],
)
def test_a_referrer_of_another_kind_is_kept(
    client: umami.Client, stored: Callable[..., StoredEvent], referrer: str, domain: str
) -> None:
    assert stored(referrer=referrer).referrer_domain == domain
    assert repaired(client) == {}


@with_each("broken", ["a\x00b", "a\ud800b"])
@with_each(
    ("field", "attribute"),
    [("title", "title"), ("language", "language"), ("screen", "screen"), ("distinct_id", "distinct_id"),
     ("tag", "tag"), ("event_name", "name"), ("ua", "user_agent")],
)  # fmt: skip
def test_u0000_and_lone_surrogates_are_replaced(
    client: umami.Client, stored: Callable[..., StoredEvent], field: str, attribute: str, broken: str
) -> None:
    if field == "ua":
        broken = f"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 {broken}"
    event = stored(**{field: broken})
    fitted = broken.replace("\x00", REPLACED).replace("\ud800", REPLACED)
    assert getattr(event, attribute) == fitted
    assert repaired(client) == {"unprintable": 1}


@with_each("url", ["/a\x00b", "/a\ud800b", "/a%00b", "https://example.com/a%00b", "/a%0\t0b", "/a%\n0\r0b"])
def test_u0000_in_a_url_is_replaced_in_every_form(stored: Callable[..., StoredEvent], url: str) -> None:
    assert stored(url=url).url_path == f"/a{REPLACED}b"


def test_an_escaped_u0000_in_a_title_is_replaced(
    client: umami.Client, stored: Callable[..., StoredEvent]
) -> None:
    assert stored(title="a%00b").title == f"a{REPLACED}b"
    assert repaired(client) == {"title": 1}


@with_each("field", ["url", "title", "referrer", "ua"])
def test_an_endless_value_is_cut_rather_than_refused(
    make_client: Callable[..., umami.Client], collector: Collector, field: str
) -> None:
    client = make_client(batch_bytes=100_000)
    start = (
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 " if field == "ua" else "/"
    )
    client.new_event("signup", **{field: start + "x" * 1_000_000})
    assert client.flush(DEADLINE)
    assert len(collector.events) == 1
    assert len(collector.requests[0].body) < 20_000
    assert repaired(client) == {field: 1}


LONG_HEADER = "de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7,fr;q=0.6"


def test_every_repair_of_one_event_counts_once(
    client: umami.Client, stored: Callable[..., StoredEvent]
) -> None:
    stored(
        title="broken\ud800",
        language=LONG_HEADER,
        screen="x" * 12,
        ip_address="unknown",
        referrer="http://",
        distinct_id="x" * 51,
        custom_data={"long": "x" * 501, "nan": math.nan},
    )
    assert repaired(client) == dict.fromkeys(
        [
            "unprintable",
            "language",
            "screen",
            "ip_address",
            "referrer",
            "distinct_id",
            "custom_data_text",
            "not_finite",
        ],
        1,
    )


def test_a_page_views_fields_are_fitted_likewise(client: umami.Client, collector: Collector) -> None:
    client.new_page_view("Home\x00", "http://[", language=LONG_HEADER, screen="x" * 12, ip_address="unknown")
    assert client.flush(DEADLINE)
    (event,) = collector.events
    assert (event.title, event.language, event.screen) == (f"Home{REPLACED}", "de-DE", None)
    assert repaired(client) == {"unprintable": 1, "url": 1, "language": 1, "screen": 1, "ip_address": 1}


# Custom data.


class Plan(Enum):
    PRO = "pro"


class Level(IntEnum):
    HIGH = 3


@dataclass
class Order:
    number: int
    plan: Plan = Plan.PRO
    tags: list[str] = field(default_factory=list)


class Customer(pydantic.BaseModel):
    name: str
    since: date
    orders: list[Order] = []


@with_each(
    ("value", "kept"),
    [
        ("text", "text"),
        ("", ""),
        ("x" * 500, "x" * 500),
        (EMOJI * 500, EMOJI * 500),
        ('"\\\n\t\x1f', '"\\\n\t\x1f'),
        ("\\u0000", "\\u0000"),
        (True, True),
        (None, None),
        (5, 5),
        (-0.5, -0.5),
        (999_999_999_999_999, 999_999_999_999_999),
        (Decimal("19.99"), 19.99),
        (UUID(SITE), SITE),
        (Plan.PRO, "pro"),
        (Level.HIGH, 3),
        (date(2026, 1, 2), "2026-01-02"),
        (time(3, 4, 5), "03:04:05"),
        (timedelta(hours=1), "PT1H"),
        (Path("relative"), "relative"),
        (ip_address("203.0.113.9"), "203.0.113.9"),
        (ip_network("2001:db8::/32"), "2001:db8::/32"),
        ({ip_address("203.0.113.9"): 1}, {"203.0.113.9": 1}),
        (b"bytes", "bytes"),
        ([1, "two", None], [1, "two", None]),
        ((1, 2), [1, 2]),
        (deque([1, 2]), [1, 2]),
        ({5}, [5]),
        ({"a": {"b": 1}}, {"a": {"b": 1}}),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (Order(5, tags=["new"]), {"number": 5, "plan": "pro", "tags": ["new"]}),
        (
            Customer(name="Ada", since=date(2026, 1, 2), orders=[Order(5)]),
            {"name": "Ada", "since": "2026-01-02", "orders": [{"number": 5, "plan": "pro", "tags": []}]},
        ),
    ],
)
def test_a_value_that_fits_arrives_as_it_is(
    client: umami.Client, stored: Callable[..., StoredEvent], value: Any, kept: Any
) -> None:
    assert stored(custom_data={"key": value}).data == {"key": kept}
    assert repaired(client) == {}


@with_each(
    ("moment", "text"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=timezone.utc), "2026-01-02T03:04:05.678Z"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))), "2026-01-02T01:04:05.000Z"),
        (NAIVE, f"{NAIVE.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%S}.000Z"),
        (datetime(1, 1, 1, tzinfo=timezone.utc), "0001-01-01T00:00:00.000Z"),
    ],
)
def test_a_datetime_is_stored_as_a_date(
    stored: Callable[..., StoredEvent], moment: datetime, text: str
) -> None:
    event = stored(custom_data={"at": moment})
    assert event.data == {"at": text}
    assert event.properties["at"].type == "date"


@with_each(
    "text",
    [
        "2026-13-01T00:00:00",
        "2026-01-02T25:00:00.000Z",
        "0000-00-00T00:00:00",
        "2026-01-02T03:04:05.678+99:00",
    ],
)
def test_a_text_that_only_looks_like_a_date_is_stored_as_text(
    client: umami.Client, stored: Callable[..., StoredEvent], text: str
) -> None:
    event = stored(custom_data={"at": text})
    assert (event.properties["at"].type, event.properties["at"].text) == ("string", text.replace("T", " "))
    assert repaired(client) == {"custom_data_date": 1}


@with_each(
    ("value", "kept", "repair"),
    [
        ("x" * 501, "x" * 500, "custom_data_text"),
        (EMOJI * 501, EMOJI * 500, "custom_data_text"),
        (b"x" * 501, "x" * 500, "custom_data_text"),
        ("a\x00b", f"a{REPLACED}b", "unprintable"),
        ("a\ud800b", f"a{REPLACED}b", "unprintable"),
        (math.nan, None, "not_finite"),
        (-math.inf, None, "not_finite"),
        (Decimal("NaN"), None, "not_finite"),
        (Decimal("sNaN"), None, "not_finite"),
        (Decimal("Infinity"), None, "not_finite"),
        (10**15, "1000000000000000", "large_number"),
        (-(10**15), "-1000000000000000", "large_number"),
        (1e15, "1000000000000000.0", "large_number"),
        (1e300, "1e+300", "large_number"),
        (Decimal("1E+20"), "1E+20", "large_number"),
        (10**600, "1" + "0" * 499, "large_number"),
    ],
)
@with_each("wrap", [lambda value: value, lambda value: {"in": value}])
def test_a_value_that_does_not_fit_is_made_to(
    client: umami.Client,
    stored: Callable[..., StoredEvent],
    value: Any,
    kept: Any,
    repair: str,
    wrap: Callable[[Any], Any],
) -> None:
    event = stored(custom_data={"key": wrap(value), "neighbour": "kept"})
    assert event.data == {"key": wrap(kept), "neighbour": "kept"}
    assert repaired(client) == {repair: 1}


def test_an_integer_of_thousands_of_digits_is_sent_as_text(
    client: umami.Client, stored: Callable[..., StoredEvent]
) -> None:
    event = stored(custom_data={"huge": 10**10_000})
    assert len(event.properties["huge"].text) == 500
    assert repaired(client) == {"large_number": 1}


@with_each(
    "values",
    [
        ["x" * 100] * 10,
        list(range(1000)),
        [EMOJI] * 1000,
        ['"'] * 1000,
        [[["deep"]]] * 100,
        [{"key": "value"}] * 100,
        [1e-6] * 200,
        [0.1] * 1000,
        ["short", "x" * 600, "short"],
    ],
)
def test_an_array_over_500_keeps_what_fits(
    client: umami.Client, stored: Callable[..., StoredEvent], values: list[Any]
) -> None:
    event = stored(custom_data={"list": values})
    kept = event.data["list"]
    assert kept == [*values[: len(kept) - 1], *kept[-1:]]
    assert 0 < len(kept) <= len(values)
    assert len(event.properties["list"].text) <= 500
    assert set() < set(repaired(client)) <= {"custom_data_array", "custom_data_text"}


def test_the_text_of_an_array_is_measured_as_javascript_writes_it(
    client: umami.Client, stored: Callable[..., StoredEvent]
) -> None:
    kept = stored(custom_data={"list": [1e-6] * 200}).data["list"]
    assert len(f"[{','.join(['0.000001'] * len(kept))}]") <= 500


@pytest.mark.parametrize("key", ["k" * 501, EMOJI * 501])
def test_an_overlong_key_is_cut(client: umami.Client, stored: Callable[..., StoredEvent], key: str) -> None:
    assert stored(custom_data={key: 1, "neighbour": 2}).data == {key[:500]: 1, "neighbour": 2}
    assert repaired(client) == {"custom_data_key": 1}


def test_an_overlong_path_of_keys_is_cut(client: umami.Client, stored: Callable[..., StoredEvent]) -> None:
    event = stored(custom_data={"a" * 300: {"b" * 300: 1}})
    assert list(event.properties) == ["a" * 300 + "." + "b" * 199]
    assert repaired(client) == {"custom_data_key": 1}


@with_each("rest", [1, [1]])
@with_each(
    ("key", "name"),
    [("a\x00b", f"a{REPLACED}b"), ("a\ud800", f"a{REPLACED}"), (5, "5"), (Plan.PRO, "pro"),
     (UUID(SITE), SITE),
     (date(2026, 1, 2), "2026-01-02"),
     (True, "true"), (1.5, "1.5"), ((1, 2), "1,2")],
)  # fmt: skip
def test_a_key_becomes_a_text_whatever_else_is_in_the_data(
    stored: Callable[..., StoredEvent], key: Any, name: str, rest: Any
) -> None:
    assert stored(custom_data={key: 1, "rest": rest}).data == {name: 1, "rest": rest}


def test_the_callers_data_is_a_snapshot_and_never_changed(client: umami.Client, collector: Collector) -> None:
    mine = {"list": list(range(1000)), "text": "x" * 600, "nested": {"nan": math.nan}}
    client.new_event("signup", custom_data=mine)
    assert (len(mine["list"]), len(mine["text"])) == (1000, 600)
    mine["later"] = "change"
    mine["nested"]["later"] = "change"
    assert client.flush(DEADLINE)
    assert collector.events[0].data.keys() == {"list", "text", "nested"}
    assert collector.events[0].data["nested"] == {"nan": None}


def test_a_visitors_data_is_fitted_too(client: umami.Client, collector: Collector) -> None:
    client.identify(
        "user-1", {"bio": "x" * 600, "since": datetime(2026, 1, 2, tzinfo=timezone.utc), "nan": math.nan}
    )
    assert client.flush(DEADLINE)
    (identity,) = collector.identities
    assert identity.distinct_id == "user-1"
    assert identity.data == {"bio": "x" * 500, "since": "2026-01-02T00:00:00.000Z", "nan": None}


# Types of the program's own, which may do anything.


class Endless(UserDict):  # type: ignore[type-arg]
    def items(self) -> Any:
        return zip(count(), repeat(1))

    def __iter__(self) -> Any:
        return count()


class EndlessList(list):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[Any]:
        return repeat("again")


class EndlessQueue(deque):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[Any]:
        return repeat("again")


class HugeQueue(deque):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 10**9


class EndlessItems(OrderedDict):  # type: ignore[type-arg]
    def items(self) -> Any:
        return repeat(("again", 1))


class EndlessKeys(dict):  # type: ignore[type-arg]
    def keys(self) -> Any:
        return repeat("again")


class Anything(pydantic.BaseModel):
    value: Any


class AnythingElse(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")


class Computing(pydantic.BaseModel):
    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def value(self) -> Any:
        return EndlessQueue()


@dataclass(slots=True)
class Slots:
    value: Any


@with_each(
    "value",
    [
        EndlessQueue(),
        HugeQueue(),
        EndlessItems(a=1),
        EndlessKeys(a=1),
        [EndlessQueue()],
        {"in": ({"out": EndlessQueue()},)},
        Anything(value=EndlessQueue()),
        AnythingElse(value=EndlessQueue()),
        Computing(),
        Order(number=EndlessQueue()),  # type: ignore[arg-type]
        Slots(EndlessQueue()),
    ],
)
def test_a_model_that_holds_what_has_no_end_is_refused(client: umami.Client, value: Any) -> None:
    with pytest.raises(umami.errors.ValidationError, match=r"custom_data.model: .* a way of its own"):
        client.new_event("e", custom_data={"model": Anything(value=value)})


@with_each(
    "value", [OrderedDict(a=1), defaultdict(int, a=1), Counter(a=1), Slots(1), AnythingElse(a=1), deque([1])]
)
def test_a_model_may_hold_what_python_itself_offers(
    value: Any, client: umami.Client, stored: Callable[..., StoredEvent]
) -> None:
    held = stored(custom_data={"model": Anything(value=value)}).data["model"]["value"]
    assert held == ([1] if isinstance(value, deque) else {"value" if isinstance(value, Slots) else "a": 1})


def changing(base: type, method: str) -> Any:
    """Make a container that another thread changes at each step of an iteration over it."""

    def walk(self: Any) -> Iterator[Any]:
        for item in getattr(base, method)(self):
            (self.update if hasattr(self, "update") else self.append)({len(self): 1})
            yield item

    return type(f"Changing{base.__name__}", (base,), {method: walk})


@with_each(
    "container",
    [
        *(
            changing(dict, "items")(a=1, b=2),
            changing(OrderedDict, "items")(a=1, b=2),
            changing(UserDict, "items")(a=1, b=2),
        ),
        *({"in": changing(dict, "items")(a=1, b=2)}, {"in": changing(set, "__iter__")("ab")}),
        *(
            {"in": changing(deque, "__iter__")("ab")},
            {"in": AnythingElse(a=changing(OrderedDict, "items")(a=1, b=2))},
        ),
    ],
)
def test_data_that_changes_meanwhile_is_refused(client: umami.Client, container: Any) -> None:
    for send in (
        lambda: client.new_event("signup", custom_data=container),
        lambda: client.new_revenue_event(5, custom_data=container),
    ):
        with pytest.raises(umami.errors.ValidationError, match="custom_data"):
            send()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [dict, lambda data: defaultdict(int, data), Counter])
def test_a_dict_is_read_in_one_step_while_another_thread_changes_it(
    client: umami.Client, kind: Callable[[Any], Any]
) -> None:
    data, ended = kind({f"k{number}": number for number in range(300)}), threading.Event()

    def change() -> None:
        for number in count():
            data[f"n{number % 50}"] = number
            data.pop(f"n{(number - 25) % 50}", None)
            if ended.is_set():
                return

    thread = threading.Thread(target=change)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread.start()
    try:
        for _ in range(60):
            client.new_event("signup", custom_data=data)
            client.new_event("signup", custom_data={"in": data})
            client.new_revenue_event(5, custom_data=data)
    finally:
        ended.set()
        thread.join()
        sys.setswitchinterval(interval)


class Ownership(str):
    """A text that says it equals every other, or that does not say."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("example.com")


class Unhashable(str):
    __slots__ = ()

    def __hash__(self) -> int:
        raise RuntimeError


class Unwilling(set):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError


class Impostor:
    @property
    def __class__(self) -> Any:
        return str


class Nobody:
    @property
    def __class__(self) -> Any:
        raise RuntimeError


@with_each("data", [Endless(), {"in": Endless()}])
def test_a_mapping_without_an_end_is_refused(client: umami.Client, data: Any) -> None:
    with pytest.raises(umami.errors.ValidationError, match="custom_data"):
        client.new_event("signup", custom_data=data)
    with pytest.raises(umami.errors.ValidationError, match="custom_data"):
        client.new_revenue_event(5, custom_data=data)


def test_an_array_without_an_end_keeps_what_fits(
    client: umami.Client, stored: Callable[..., StoredEvent]
) -> None:
    assert set(stored(custom_data={"list": EndlessList()}).data["list"]) == {"again"}
    assert repaired(client) == {"custom_data_array": 1}


def test_a_mapping_of_anything_but_pairs_is_refused(client: umami.Client) -> None:
    class Threes(UserDict):  # type: ignore[type-arg]
        def items(self) -> Any:
            return [(1, 2, 3)]

    with pytest.raises(umami.errors.ValidationError, match="custom_data"):
        client.new_event("signup", custom_data=Threes())


def test_a_set_that_pydantic_panics_at_is_refused(client: umami.Client) -> None:
    class Holder(pydantic.BaseModel):
        value: Any

    with pytest.raises(umami.errors.ValidationError, match=r"custom_data\.key"):
        client.new_event("signup", custom_data={"key": Holder(value=Unwilling())})


@with_each("kind", [Impostor, Nobody])
@with_each(
    "field", ["event_name", "hostname", "website_id", "url", "tag", "distinct_id", "timestamp", "custom_data"]
)
def test_what_a_value_says_of_its_class_is_not_believed(
    client: umami.Client, field: str, kind: Callable[[], Any]
) -> None:
    for value in (kind(), {"in": kind()}) if field == "custom_data" else (kind(),):
        with pytest.raises(umami.errors.ValidationError):
            client.new_event(**{"event_name": "signup", field: value})


def test_a_text_that_has_no_hash_is_a_text(stored: Callable[..., StoredEvent]) -> None:
    assert stored(hostname=Unhashable("own.example")).hostname == "own.example"


def test_a_text_that_equals_every_other_takes_no_others_place(
    client: umami.Client, collector: Collector
) -> None:
    for hostname in (Ownership("own.example"), "example.com"):
        client.new_event("signup", hostname=hostname)
    assert client.flush(DEADLINE)
    assert [event.hostname for event in collector.events] == ["own.example", "example.com"]


# The log.


def test_a_repair_is_told_at_once_and_then_not_for_a_while(
    client: umami.Client, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        client.new_event("signup", language=LONG_HEADER)
        client.new_event("signup", screen="x" * 12)
    assert client.flush(DEADLINE)
    told = [(record.levelno, record.getMessage()) for record in caplog.records if record.name == "umami"]
    assert len(told) == 2
    assert all(level == logging.WARNING and " so far)." in text for level, text in told)
    assert sorted(text.partition(" (")[0] for _, text in told) == [
        "A language was cut to its first tag",
        "A screen over 11 characters was omitted",
    ]
    assert repaired(client) == {"language": 100, "screen": 100}


def test_no_repair_shows_the_visitors_value_in_the_log(
    client: umami.Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.new_event("signup", ip_address="visitor-secret", referrer="http://visitor-secret[")
    assert client.flush(DEADLINE)
    assert len([record for record in caplog.records if record.name == "umami"]) == 2
    assert "visitor-secret" not in caplog.text


@pytest.mark.slow
def test_no_thread_is_left_behind_to_tell_of_repairs(client: umami.Client) -> None:
    before = set(threading.enumerate())  # reporters of other tests' clients perhaps
    client.new_event("signup", screen="x" * 12)
    assert client.flush(DEADLINE)
    until(
        lambda: (
            not any(
                each.name == "umami-reporter" and each.is_alive()
                for each in set(threading.enumerate()) - before
            )
        )
    )
    client.new_event("signup", language=LONG_HEADER)
    assert client.flush(DEADLINE)
    assert repaired(client) == {"screen": 1, "language": 1}


def test_direct_mode_fits_alike(make_client: Callable[..., umami.Client], collector: Collector) -> None:
    client = make_client(mode="direct")
    client.new_event("signup", language=LONG_HEADER, custom_data={"long": "x" * 600})
    assert (collector.events[0].language, collector.events[0].data) == ("de-DE", {"long": "x" * 500})
    assert repaired(client) == {"language": 1, "custom_data_text": 1}


# Anything at all.

TEXTS = st.text(st.characters() | st.sampled_from("\x00\ud800%0/\\:?#[]@&=.\u0130\u212a"), max_size=80)
LONG = st.builds(lambda text, times: text * times, TEXTS, st.integers(1, 40))
ADDRESSES = st.one_of(
    LONG,
    st.builds(
        "{}{}".format, st.sampled_from(["/", "//", "http://", "https://", "http:", "//[", "mailto:"]), TEXTS
    ),
    st.builds(
        "https://{}/{}?{}={}#{}".format,
        st.text(string.ascii_letters + string.digits + ".-_xn", max_size=20),
        TEXTS,
        st.sampled_from(["utm_source", "gclid", "utm%5Fterm", "q"]),
        LONG,
        TEXTS,
    ),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.decimals(),
    LONG,
    st.binary(max_size=20),
    st.datetimes(),
    st.datetimes(timezones=st.timezones()),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    st.ip_addresses(),
    st.sampled_from([Plan.PRO, Level.HIGH, object(), print, 5j, "2026-99-99T99:99:99"]),
)
DATA = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=30),
        st.tuples(inner, inner),
        st.dictionaries(LONG | st.integers() | st.uuids() | st.booleans(), inner, max_size=5),
        st.builds(Order, number=inner),
    ),
    max_leaves=30,
)


@pytest.fixture(scope="module")
def shared_collector() -> Iterator[Collector]:
    with Collector(keep_requests=10) as collector:
        yield collector


@pytest.fixture(scope="module")
def shared(shared_collector: Collector) -> Iterator[umami.Client]:
    with umami.Client(
        url_base=shared_collector.url,
        website_id=SITE,
        hostname="example.com",
        flush_interval=0,
        retry_wait=0.01,
    ) as client:
        yield client


def accepted_is_stored(client: umami.Client, collector: Collector, send: Callable[[], Any]) -> bool:
    """Send an event and check that it is refused, or stored whole and once; tell which."""
    collector.clear()
    before = client.queue_stats()
    try:
        assert send() == {"queued": True}
    except umami.errors.ValidationError:
        assert client.queue_stats().submitted == before.submitted
        return False
    assert client.flush(DEADLINE)
    stats = client.queue_stats()
    assert stats.delivered == before.delivered + 1, stats.last_error
    assert (stats.rejected, stats.retries) == (before.rejected, before.retries), stats.last_error
    (event,) = collector.events
    assert event.data is not None, stats.last_error
    return True


EXAMPLES = int(os.environ.get("FITTING_EXAMPLES", "150"))
HANDFUL = 100

anything = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.slow
@anything
@given(data=DATA | st.dictionaries(LONG, DATA, max_size=5))
@example(data={"a" * 600: {"b" * 600: {"c": 1}}})
@example(data={"list": [{"k" * 300: "v" * 300}]})
@example(data={"at": "2026-02-31T24:00:01.000Z"})
def test_any_custom_data_is_refused_or_stored(
    shared: umami.Client, shared_collector: Collector, data: Any
) -> None:
    accepted_is_stored(shared, shared_collector, lambda: shared.new_event("any", custom_data=data))


@pytest.mark.slow
@anything
@given(name=LONG, tag=LONG, hostname=LONG, distinct_id=LONG | st.integers())
def test_any_name_is_refused_or_stored(
    shared: umami.Client, shared_collector: Collector, name: str, tag: str, hostname: str, distinct_id: Any
) -> None:
    for arguments in (
        {"event_name": name},
        {"event_name": "any", "tag": tag},
        {"event_name": "any", "hostname": hostname},
        {"event_name": "any", "distinct_id": distinct_id},
    ):
        accepted_is_stored(shared, shared_collector, lambda sent=arguments: shared.new_event(**sent))


@pytest.mark.slow
@anything
@given(url=ADDRESSES, referrer=ADDRESSES, title=LONG, language=LONG, screen=LONG, address=LONG)
@example(url="/\t/[", referrer="http:\n//[", title="%00", language="", screen="", address="::1%eth0")
@example(
    url="http://\u2100/", referrer="http://a\u3002b/", title="", language=",", screen="\x00", address="1"
)
@example(url="http://0x7f.1/", referrer="http://1.2.3/", title="%", language=";", screen="", address="")
@example(url="http://a.xn--zz/", referrer="http://-.-/", title="%ff", language="", screen="", address="")
def test_anything_a_visitor_brings_is_stored(
    shared: umami.Client,
    shared_collector: Collector,
    url: str,
    referrer: str,
    title: str,
    language: str,
    screen: str,
    address: str,
) -> None:
    assert accepted_is_stored(
        shared,
        shared_collector,
        lambda: shared.new_event(
            "any",
            url=url,
            referrer=referrer,
            title=title,
            language=language,
            screen=screen,
            ip_address=address,
        ),
    )


# pydantic tells stderr of a Decimal within a key that fails to show itself, and goes on.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_whatever_is_passed_is_refused_or_stored_and_costs_its_neighbours_nothing(
    shared: umami.Client, shared_collector: Collector, record_property: Callable[[str, object], None]
) -> None:
    outcomes: Counter[str] = Counter()

    @settings(anything, max_examples=max(1, EXAMPLES // 5))
    @given(seed=st.integers(0, 2**32))
    def send_a_handful(seed: int) -> None:
        shared_collector.clear()
        values, before = Values(seed), shared.queue_stats()
        taken: list[Any] = []
        sent: list[dict[str, Any]] = []
        for number in range(1, HANDFUL + 1):
            arguments = {"event_name": "any", "timestamp": number, **values.arguments()}
            sent.append(arguments)
            try:
                assert shared.new_event(**arguments) == {"queued": True}
            except umami.errors.ValidationError:
                continue
            taken.append(arguments["timestamp"])
        assert shared.flush(DEADLINE)
        stats = shared.queue_stats()
        assert stats.submitted == before.submitted + len(taken)
        bots = stats.rejected - before.rejected  # a User-Agent of any kind may be one
        assert bots <= sum("ua" in arguments for arguments in sent), stats.last_error
        assert stats.delivered + stats.rejected == before.delivered + before.rejected + len(taken)
        assert (stats.retries, stats.dropped) == (before.retries, {})
        assert all(event.data is not None for event in shared_collector.events)
        stored = Counter(event.timestamp for event in shared_collector.events)
        assert stored.total() == len(taken) - bots
        assert bots or {moment for moment in taken if type(moment) is int and 0 < moment <= HANDFUL} <= set(
            stored
        )
        outcomes.update(stored=len(taken), refused=HANDFUL - len(taken))

    send_a_handful()
    record_property("random values stored", outcomes["stored"])
    record_property("random values refused", outcomes["refused"])
