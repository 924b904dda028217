"""Mistakes in the program: the order of the checks, and their messages."""

import math
import traceback
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from conftest import DEADLINE, PASSWORD, SITE, with_each
from queue_helpers import SENDS, Listener, refusal

import umami
from umami.collector import Collector
from umami.errors import OperationNotAllowedError, ValidationError

NO_SERVER = "Set a URL base with set_url_base() or call set_cloud_api_key()."
DISTINCT_ID = "distinct_id must be a string or integer."
NO_HOSTNAME = "The hostname must be set, either as a parameter here or via set_hostname()."
NO_WEBSITE = "The website_id must be set, either as a parameter here or via set_website_id()."
NO_NAME = "The event_name is required."
NO_NUMBER = "Revenue must be a number (int or float)."
NEGATIVE = "Revenue must be >= 0."
NO_CURRENCY = "Currency must be a non-empty string."

EMOJI = "\N{ROCKET}"  # two UTF-16 units
HUGE = 10**5000  # more digits than Python prints


# The order of the checks.

WRONG_EVENT = {"distinct_id": True, "hostname": None, "website_id": None, "event_name": " "}
WRONG_REVENUE = {"revenue": "5", "currency": "", **WRONG_EVENT}
EVENT_ORDER = [
    ("url_base", NO_SERVER),
    ("distinct_id", DISTINCT_ID),
    ("hostname", NO_HOSTNAME),
    ("website_id", NO_WEBSITE),
    ("event_name", NO_NAME),
]
REVENUE_ORDER = [("revenue", NO_NUMBER), ("currency", NO_CURRENCY), *EVENT_ORDER]
RIGHT = {
    "distinct_id": "user-1",
    "hostname": "example.com",
    "website_id": SITE,
    "event_name": "signup",
    "revenue": 5,
    "currency": "USD",
}


@with_each(
    ("send", "wrong", "order"),
    [
        ("new_event", WRONG_EVENT, EVENT_ORDER),
        ("new_revenue_event", WRONG_REVENUE, REVENUE_ORDER),
        ("new_page_view", {"page_title": "Home", "url": "/", **WRONG_EVENT}, EVENT_ORDER[:-1]),
    ],
)
def test_a_call_wrong_in_every_way_is_refused_in_order_until_it_is_right(
    send: str, wrong: dict[str, Any], order: list[tuple[str, str]], call: Callable[..., Any]
) -> None:
    client = umami.Client(enabled=False)
    arguments = dict(wrong)
    if send == "new_page_view":
        del arguments["event_name"]
    for field, message in order:
        assert refusal(call, getattr(client, send), **arguments) == message
        if field == "url_base":
            client.set_url_base("http://127.0.0.1:9")
        else:
            arguments[field] = RIGHT[field]
    assert call(getattr(client, send), **arguments) == {}


def test_identify_is_checked_in_the_same_order(call: Callable[..., Any]) -> None:
    client = umami.Client(enabled=False)
    assert refusal(call, client.identify, True, {}) == NO_SERVER
    client.set_url_base("http://127.0.0.1:9")
    assert refusal(call, client.identify, True, {}) == DISTINCT_ID
    assert refusal(call, client.identify, "user-1", {}) == NO_HOSTNAME
    client.set_hostname("example.com")
    assert refusal(call, client.identify, "user-1", {}) == NO_WEBSITE
    client.set_website_id(SITE)
    assert refusal(call, client.identify, " ", {}) == "The distinct_id is required."
    assert call(client.identify, "user-1", {}) == {}


@with_each("send", SENDS)
def test_only_the_missing_server_is_an_operation_not_allowed(send: str) -> None:
    client = umami.Client(enabled=False)
    with pytest.raises(OperationNotAllowedError):
        getattr(client, send)(**SENDS[send])
    client.set_url_base("http://127.0.0.1:9")
    with pytest.raises(ValidationError) as caught:
        getattr(client, send)(**SENDS[send])
    assert type(caught.value) is ValidationError


def test_a_refused_event_is_neither_queued_nor_counted(
    make_client: Callable[..., umami.Client], collector: Collector
) -> None:
    client = make_client()
    refusal(client.new_event, "x" * 51)
    refusal(client.new_event, "signup", custom_data=[])
    assert client.flush(DEADLINE)
    assert client.queue_stats().submitted == 0
    assert collector.requests == ()


@pytest.mark.parametrize("mode", ["queued", "direct"])
def test_both_modes_refuse_alike(mode: str, make_client: Callable[..., umami.Client]) -> None:
    assert refusal(make_client(mode=mode).new_event, "") == NO_NAME


# Names, tags and hosts.


@with_each("name", ["", " ", "\t\n", None])
def test_a_blank_event_name_is_refused(client: umami.Client, name: Any) -> None:
    assert refusal(client.new_event, name) == NO_NAME
    assert refusal(client.new_revenue_event, 5, event_name=name) == NO_NAME


@with_each("field", ["event_name", "tag"])
@with_each(
    ("text", "length"),
    [("x" * 51, 51), (EMOJI * 26, 52), ("é" * 51, 51), (EMOJI * 25 + "x", 51)],
)
def test_a_name_or_tag_over_50_utf16_units_is_refused(
    client: umami.Client, field: str, text: str, length: int
) -> None:
    message = refusal(client.new_event, **{"event_name": "signup", field: text})
    assert message.startswith(f"{field} must have at most 50 characters, got {length}: '{text[0]}")
    assert len(message) < 150


@with_each("field", ["event_name", "tag"])
@with_each("text", ["x" * 50, EMOJI * 25, "é" * 50])
def test_a_name_or_tag_of_50_utf16_units_is_stored(
    client: umami.Client, collector: Collector, field: str, text: str
) -> None:
    client.new_event(**{"event_name": "signup", field: text})
    assert client.flush(DEADLINE)
    (event,) = collector.events
    assert text == {"event_name": event.name, "tag": event.tag}[field]


@with_each(
    "hostname", ["my host", "exa mple.com", " example.com", "[", "[::1", "host:port", "ex%ample.com", "#"]
)
def test_a_hostname_that_is_none_is_refused(client: umami.Client, hostname: str) -> None:
    message = refusal(client.new_event, "signup", hostname=hostname)
    assert message == f"hostname must be a host name like example.com, without spaces, got {hostname!r}."


def test_a_hostname_over_100_is_refused(client: umami.Client) -> None:
    message = refusal(client.new_event, "signup", hostname="h" * 101)
    assert message.startswith("hostname must have at most 100 characters, got 101: 'hhh")


@with_each(
    "hostname",
    ["h" * 100, "example.com:8080", "localhost", "bücher.example", "127.0.0.1", "[::1]", "a_b.example"],
)
def test_a_hostname_that_is_one_is_stored(client: umami.Client, collector: Collector, hostname: str) -> None:
    client.new_event("signup", hostname=hostname)
    assert client.flush(DEADLINE)
    assert [event.hostname for event in collector.events] == [hostname]


def test_a_wrong_default_is_refused_like_an_argument(make_client: Callable[..., umami.Client]) -> None:
    client = make_client(hostname="my host")
    assert refusal(client.new_event, "signup").startswith("hostname must be a host name")


def test_a_website_id_that_is_no_uuid_is_the_servers_to_judge(
    client: umami.Client, collector: Collector
) -> None:
    assert client.new_event("signup", website_id="test-website-id") == {"queued": True}
    assert client.flush(DEADLINE)
    stats = client.queue_stats()
    assert (stats.rejected, collector.events) == (1, ())
    assert "website: Invalid UUID" in str(stats.last_error)


def test_a_website_id_that_is_no_uuid_is_warned_of_once(
    make_client: Callable[..., umami.Client], heard: Listener
) -> None:
    client = make_client(website_id="test-site")
    for language in ("en", "de"):
        assert client.new_event("signup", language=language) == {"queued": True}
        assert client.new_page_view("Home", "/", website_id="other\nsite") == {"queued": True}
    client.identify("user-1", {}, website_id=SITE.upper())
    for given in ("'test-site'", r"'other\nsite'"):
        heard.wait_for(f"website_id {given} is not a UUID")
    assert client.flush(DEADLINE)
    assert len(heard.matching("is not a UUID")) == 2


# Errors by themselves.

BAD = [
    {"event_name": ""},
    {"hostname": ""},
    {"hostname": "my host", "language": "de"},
    {"website_id": ""},
    {"hostname": b"bytes"},
    {"hostname": ["unhashable"]},
    {"custom_data": {"at": object()}},
    {"custom_data": {"text": "\ud800" * 4000}},
    {"custom_data": {"raw": b"\xff"}},
    {"custom_data": {"at": datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))}},
    {"timestamp": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))},
    {"distinct_id": 1.5},
    {"url": 5},
    {"ip_address": 5},
    {"tag": "x" * 51},
]


@with_each("bad", BAD)
def test_an_error_is_shown_alone(make_client: Callable[..., umami.Client], bad: dict[str, Any]) -> None:
    client = make_client(hostname=None, website_id=None, batch_bytes=1024)
    arguments = {"event_name": "signup", "hostname": "example.com", "website_id": SITE, **bad}
    with pytest.raises(ValidationError) as caught:
        client.new_event(**arguments)
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.count("Traceback (most recent call last)") == 1
    assert "KeyError" not in shown
    assert caught.value.__cause__ is None


# Types.


@with_each(
    "field",
    ["hostname", "url", "website_id", "title", "referrer", "language", "screen", "ip_address", "tag", "ua"],
)
@with_each("value", [5, b"bytes", ["list"], {"key": "value"}, object(), 1.5])
@with_each("send", ["new_event", "new_revenue_event"])
def test_an_argument_that_must_be_a_string_is_named_with_what_was_given(
    client: umami.Client, send: str, field: str, value: Any
) -> None:
    message = refusal(getattr(client, send), **SENDS[send], **{field: value})
    assert message == f"{field} must be a string, got {type(value).__name__}."


@with_each("value", [[], {}, 0, b"", False])
@with_each("field", ["hostname", "website_id", "language", "screen"])
def test_an_empty_thing_is_no_string_either(client: umami.Client, field: str, value: Any) -> None:
    message = refusal(client.new_event, "signup", **{field: value})
    assert message == f"{field} must be a string, got {type(value).__name__}."


@with_each("value", [5, b"signup", ["signup"], True])
def test_an_event_name_that_is_no_string_is_refused(client: umami.Client, value: Any) -> None:
    assert refusal(client.new_event, value) == f"event_name must be a string, got {type(value).__name__}."


@with_each("value", [None, 5, b"Home"])
def test_a_page_title_that_is_no_string_is_refused(client: umami.Client, value: Any) -> None:
    assert refusal(client.new_page_view, value, "/") == f"title must be a string, got {type(value).__name__}."


@with_each("value", [True, False, 1.5, b"id", ["id"], {"id": 1}, object()])
@with_each("send", SENDS)
def test_a_distinct_id_is_a_string_or_an_integer(client: umami.Client, send: str, value: Any) -> None:
    arguments = {**SENDS[send], "distinct_id": value}
    assert refusal(getattr(client, send), **arguments) == DISTINCT_ID


@with_each(
    ("value", "stored"),
    [
        ("user-1", "user-1"),
        ("  user-1 ", "user-1"),
        (0, "0"),
        (-5, "-5"),
        (12345, "12345"),
        ("", None),
        ("  ", None),
    ],
)
def test_a_distinct_id_is_stripped_and_a_blank_one_left_out(
    client: umami.Client, collector: Collector, value: Any, stored: str | None
) -> None:
    client.new_event("signup", distinct_id=value)
    assert client.flush(DEADLINE)
    assert [event.distinct_id for event in collector.events] == [stored]


def test_enum_members_and_other_strings_of_its_own_kind_are_taken_by_their_value(
    client: umami.Client, collector: Collector
) -> None:
    class Name(str, Enum):
        SIGNUP = "signup"

    class Loud(str):
        __slots__ = ()

        def __str__(self) -> str:
            raise RuntimeError("never asked for")

    client.new_event(Name.SIGNUP, tag=Name.SIGNUP, distinct_id=Name.SIGNUP)
    client.new_event(
        Loud("loud"), hostname=Loud("a.example"), url=Loud("/loud"), tag=Loud("loud"), language=Loud("de")
    )
    assert client.flush(DEADLINE)
    one, other = collector.events
    assert (one.name, one.title, one.tag, one.distinct_id) == ("signup",) * 4
    assert (other.name, other.hostname, other.url_path, other.tag) == ("loud", "a.example", "/loud", "loud")
    assert other.language == "de"


# Revenue.


@with_each("value", ["5", None, True, False, [5], {"amount": 5}, Fraction(1, 2), 5j, object()])
def test_a_revenue_that_is_no_number_is_refused(client: umami.Client, value: Any) -> None:
    assert refusal(client.new_revenue_event, value) == NO_NUMBER


@with_each("value", [-0.01, -5, Decimal("-0.01")])
def test_a_negative_revenue_is_refused(client: umami.Client, value: Any) -> None:
    assert refusal(client.new_revenue_event, value) == NEGATIVE


@with_each(
    "value",
    [math.nan, math.inf, -math.inf, Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), 10**400, HUGE],
)
def test_a_revenue_that_is_not_finite_is_refused(client: umami.Client, value: Any) -> None:
    assert refusal(client.new_revenue_event, value).startswith("Revenue must be a finite number, got ")


@with_each("value", [1e15, 10**15, Decimal("1e15")])
def test_a_revenue_that_the_server_cannot_store_is_refused(client: umami.Client, value: Any) -> None:
    assert refusal(client.new_revenue_event, value).startswith("Revenue must be below 1e15, got ")


@with_each("value", [0, 0.0, 100, 19.99, Decimal("19.99"), 999_999_999_999_999, Decimal("1E+2")])
def test_a_revenue_is_stored_as_the_number_it_is(
    client: umami.Client, collector: Collector, value: Any
) -> None:
    client.new_revenue_event(value, "EUR")
    assert client.flush(DEADLINE)
    (event,) = collector.events
    assert event.name == "revenue"
    assert event.data == {"revenue": pytest.approx(float(value)), "currency": "EUR"}
    assert type(event.data["revenue"]) is (int if isinstance(value, int) else float)


@with_each("value", ["", "  ", None])
def test_a_blank_currency_is_refused(client: umami.Client, value: Any) -> None:
    assert refusal(client.new_revenue_event, 5, value) == NO_CURRENCY


def test_a_currency_over_10_is_refused(client: umami.Client) -> None:
    message = refusal(client.new_revenue_event, 5, "US dollars!")
    assert message == "currency must have at most 10 characters, got 11: 'US dollars!'."


@with_each("value", [5, ["EUR"], b"EUR"])
def test_a_currency_that_is_no_string_is_refused(client: umami.Client, value: Any) -> None:
    assert (
        refusal(client.new_revenue_event, 5, value)
        == f"currency must be a string, got {type(value).__name__}."
    )


def test_revenue_and_currency_overwrite_custom_data_in_a_copy(
    client: umami.Client, collector: Collector
) -> None:
    mine = {"revenue": "mine", "currency": "mine", "product": "book"}
    client.new_revenue_event(5, "EUR", custom_data=mine)
    assert client.flush(DEADLINE)
    assert collector.events[0].data == {"revenue": 5, "currency": "EUR", "product": "book"}
    assert mine == {"revenue": "mine", "currency": "mine", "product": "book"}


# Timestamps.


@with_each("value", ["2026-01-01", True, [1], None])
def test_a_timestamp_is_a_datetime_or_seconds(client: umami.Client, value: Any) -> None:
    if value is None:
        assert client.new_event("signup", timestamp=value) == {"queued": True}
    else:
        message = refusal(client.new_event, "signup", timestamp=value)
        assert message.startswith("timestamp must be a datetime or epoch seconds, got ")


@with_each(
    "value",
    [
        *(1_767_225_600_000, 1e18, math.inf, -math.inf, math.nan, HUGE, -62_135_596_801, 253_402_300_800),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
    ],
)
def test_a_timestamp_in_milliseconds_or_of_no_year_is_refused(client: umami.Client, value: Any) -> None:
    message = refusal(client.new_event, "signup", timestamp=value)
    assert message.startswith("timestamp must be epoch seconds of the years 1 to 9999, got ")


@with_each(
    ("value", "stored"),
    [
        (1_767_225_600, 1_767_225_600),
        (1_767_225_600.9, 1_767_225_600),
        (datetime(2026, 1, 1, tzinfo=timezone.utc), 1_767_225_600),
        (datetime(2026, 1, 1, 0, 0, 0, 999_999, tzinfo=timezone.utc), 1_767_225_600),
        (datetime.fromtimestamp(1_767_225_600), 1_767_225_600),  # noqa: DTZ006 - a naive one is local time
        (-1.5, -2),
    ],
)
def test_a_timestamp_arrives_as_whole_seconds(
    client: umami.Client, collector: Collector, value: Any, stored: int
) -> None:
    client.new_event("signup", timestamp=value)
    assert client.flush(DEADLINE)
    assert [event.timestamp for event in collector.events] == [stored]


# Custom data.


@with_each("value", [[("key", "value")], "text", 5, object(), {"a", "b"}, True])
@with_each("send", ["new_event", "new_revenue_event"])
def test_custom_data_is_a_mapping(client: umami.Client, send: str, value: Any) -> None:
    message = refusal(getattr(client, send), **SENDS[send], custom_data=value)
    assert message == f"custom_data must be a mapping, got {type(value).__name__}."


def test_no_custom_data_is_an_empty_object(client: umami.Client, collector: Collector) -> None:
    client.new_event("none", custom_data=None)
    client.new_event("empty", custom_data={})
    assert client.flush(DEADLINE)
    assert [event.data for event in collector.events] == [{}, {}]


@with_each(
    ("data", "named"),
    [
        ({"key": object()}, "custom_data.key: object "),
        ({"a": {"b": {"c": object()}}}, "custom_data.a.b.c: object "),
        ({"a": [1, object()]}, "custom_data.a[1]: object "),
        ({"fine": 1, "f": print}, "custom_data.f: builtin_function_or_method "),
        ({"type": int}, "custom_data.type: type "),
        ({"endless": (number for number in range(3))}, "custom_data.endless: generator "),
        ({"raw": b"\xff\xfe"}, "custom_data.raw: b'\\xff\\xfe' "),
        ({object(): "object"}, "custom_data: object "),
    ],
)
def test_custom_data_that_cannot_be_encoded_is_refused_by_its_key(
    client: umami.Client, data: dict[Any, Any], named: str
) -> None:
    assert refusal(client.new_event, "signup", custom_data=data).startswith(named)


def test_custom_data_that_contains_itself_is_refused(client: umami.Client) -> None:
    loop: dict[str, Any] = {}
    loop["a"] = {"again": loop}
    assert refusal(client.new_event, "signup", custom_data=loop) == (
        "custom_data.a.again: dict contains itself."
    )
    items: list[Any] = []
    items.append(items)
    assert "contains itself" in refusal(client.new_event, "signup", custom_data={"a": items})


@pytest.mark.slow
@pytest.mark.parametrize("levels", [51, 500, 100_000])
def test_custom_data_nested_too_deep_is_refused(client: umami.Client, levels: int) -> None:
    data: dict[str, Any] = {}
    for _ in range(levels):
        data = {"a": data}
    assert "is nested deeper than 50 levels" in refusal(client.new_event, "signup", custom_data=data)


def test_a_value_may_occur_twice(client: umami.Client, collector: Collector) -> None:
    shared = {"x": 1}
    client.new_event("signup", custom_data={"a": shared, "b": [shared, shared]})
    assert client.flush(DEADLINE)
    assert collector.events[0].data == {"a": {"x": 1}, "b": [{"x": 1}, {"x": 1}]}


def test_a_refusal_shows_at_most_the_start_of_a_key(client: umami.Client) -> None:
    message = refusal(client.new_event, "signup", custom_data={"k" * 100_000: object()})
    assert message.startswith("custom_data.kkk")
    assert len(message) < 600


def test_an_event_larger_than_a_batch_is_refused(make_client: Callable[..., umami.Client]) -> None:
    client = make_client(batch_bytes=2048)
    message = refusal(client.new_event, "signup", custom_data={str(i): "x" * 100 for i in range(100)})
    assert "batch_bytes allows 2046" in message


class Raising:
    """Raises whatever is done with it."""

    def fail(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("hostile")

    __str__ = __repr__ = __bool__ = __len__ = __iter__ = __eq__ = __int__ = __float__ = __getitem__ = fail
    __hash__ = None  # type: ignore[assignment]


class RaisingInt(int):
    __str__ = __repr__ = __int__ = __float__ = __index__ = Raising.fail


class RaisingFloat(float):
    __str__ = __repr__ = __int__ = __float__ = Raising.fail


class RaisingText(str):
    __str__ = __repr__ = __len__ = __iter__ = encode = strip = Raising.fail
    __slots__ = ()


class RaisingDict(dict):  # type: ignore[type-arg]
    items = keys = values = __iter__ = __getitem__ = Raising.fail


class RaisingList(list):  # type: ignore[type-arg]
    __iter__ = __len__ = __getitem__ = Raising.fail


HOSTILE: dict[str, Callable[[], Any]] = {
    "raising": Raising,
    "int": lambda: RaisingInt(5),
    "float": lambda: RaisingFloat(5.5),
    "text": lambda: RaisingText("text"),
    "dict": lambda: RaisingDict(key="value"),
    "list": lambda: RaisingList([1]),
}
FIELDS = (
    *("event_name", "title", "url", "hostname", "website_id", "referrer", "language", "screen"),
    *("ip_address", "distinct_id", "tag", "timestamp", "ua"),
)


def sent_or_refused(client: umami.Client, naming: str, name: str = "new_event", **arguments: Any) -> bool:
    """Send an event, and tell whether the server got it, or the refusal says which argument it is about."""
    before, refused = client.queue_stats(), None
    try:
        getattr(client, name)(**arguments)
    except ValidationError as error:
        refused = str(error)
    assert client.flush(DEADLINE)
    stats = client.queue_stats()
    if refused is None:
        return stats.delivered + stats.rejected == before.delivered + before.rejected + 1
    return naming in refused.lower() and stats.submitted == before.submitted


@with_each("hostile", HOSTILE)
@with_each("wrap", [lambda value: value, lambda value: {"key": value}, lambda value: {"a": {"b": [value]}}])
def test_custom_data_that_raises_when_read_is_sent_or_refused(
    client: umami.Client, hostile: str, wrap: Callable[[Any], Any]
) -> None:
    data = wrap(HOSTILE[hostile]())
    assert sent_or_refused(client, "custom_data", event_name="signup", custom_data=data)


@with_each("hostile", HOSTILE)
@with_each("field", FIELDS)
def test_an_argument_that_raises_when_read_is_sent_or_refused(
    client: umami.Client, hostile: str, field: str
) -> None:
    arguments = {"event_name": "signup", field: HOSTILE[hostile]()}
    assert sent_or_refused(client, field, **arguments)


def test_a_uuid_that_raises_when_read_is_refused(client: umami.Client) -> None:
    class RaisingUUID(UUID):
        int = property(Raising.fail)

    assert refusal(client.new_event, "signup", distinct_id=RaisingUUID.__new__(RaisingUUID)) == DISTINCT_ID


@with_each("hostile", HOSTILE)
@with_each("field", ["revenue", "currency"])
def test_a_revenue_that_raises_when_read_is_sent_or_refused(
    client: umami.Client, hostile: str, field: str
) -> None:
    arguments = {"revenue": 5, field: HOSTILE[hostile]()}
    assert sent_or_refused(client, field, "new_revenue_event", **arguments)


# Queries, login and timeouts.


@pytest.mark.parametrize("username", ["", None])
def test_login_needs_a_user_name(client: umami.Client, username: Any) -> None:
    assert refusal(client.login, username, PASSWORD) == "Email cannot be empty"


@pytest.mark.parametrize("password", ["", None])
def test_login_needs_a_password(client: umami.Client, password: Any) -> None:
    assert refusal(client.login, "admin", password) == "Password cannot be empty"


def test_login_takes_strings_only(client: umami.Client) -> None:
    assert refusal(client.login, 5, PASSWORD) == "username must be a string, got int."
    assert refusal(client.login, "admin", b"umami") == "password must be a string, got bytes."


def test_a_query_without_a_website_is_refused_before_any_request(
    make_client: Callable[..., umami.Client], collector: Collector, call: Callable[..., Any]
) -> None:
    client = make_client(website_id=None)
    client.login("admin", PASSWORD)
    now = datetime.now(timezone.utc)
    assert refusal(call, client.active_users) == NO_WEBSITE
    assert refusal(call, client.website_stats, now, now) == NO_WEBSITE
    assert [request.path for request in collector.requests] == ["/api/auth/login"]


def test_stats_need_a_range(client: umami.Client) -> None:
    client.login("admin", PASSWORD)
    message = refusal(client.website_stats, end_at=datetime.now(timezone.utc))
    assert message.startswith("Give start_at, and end_at unless it is now; or period")


@with_each("value", ["2026-01-01", 1_767_225_600])
@with_each("field", ["start_at", "end_at"])
def test_stats_need_dates(client: umami.Client, field: str, value: Any) -> None:
    client.login("admin", PASSWORD)
    now = datetime.now(timezone.utc)
    message = refusal(client.website_stats, **{"start_at": now, "end_at": now, field: value})
    assert message == f"{field} must be a datetime or a date, got {value!r}."


def test_stats_need_the_start_before_the_end(client: umami.Client) -> None:
    client.login("admin", PASSWORD)
    later, earlier = datetime(2026, 1, 2, tzinfo=timezone.utc), datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert refusal(client.website_stats, later, earlier).startswith(
        "start_at must not be after end_at: 2026-01-02"
    )


@with_each("value", [-1, math.nan, True, "5", [5]])
@with_each("function", ["flush", "shutdown"])
def test_a_timeout_is_a_number_of_seconds(
    client: umami.Client, function: str, value: Any, call: Callable[..., Any]
) -> None:
    message = refusal(call, getattr(client, function), value)
    assert message.startswith("timeout must be a number of seconds or None, got ")


@pytest.mark.parametrize("value", [0, 5, 5.5, 1e10, math.inf])
def test_a_timeout_may_be_as_long_as_one_likes(client: umami.Client, value: float) -> None:
    assert client.flush(value)
    client.new_event("signup")
    assert client.flush(value) or value == 0
    assert client.shutdown(value) or value == 0
