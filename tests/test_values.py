"""Values of frameworks and other libraries: texts are sent as texts, and numbers as numbers."""

import copy
from collections import UserString
from collections.abc import Callable
from datetime import date, datetime, timezone
from decimal import Decimal
from ipaddress import ip_address
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pydantic
import pytest
from conftest import DEADLINE, SITE, with_each
from queue_helpers import refusal

import umami
from umami.collector import Collector, StoredEvent


@pytest.fixture
def stored(client: umami.Client, collector: Collector) -> Callable[..., StoredEvent]:
    """Send an event and return what the server made of it."""

    def send(**arguments: Any) -> StoredEvent:
        collector.clear()
        client.new_event(**{"event_name": "signup", **arguments})
        assert client.flush(DEADLINE)
        (event,) = collector.events
        assert client.queue_stats().repaired == {}
        return event

    return send


def same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and value == other


class Scalar:
    """What numpy has for a number."""

    shape = ()
    dtype = type("dtype", (), {"kind": "f"})()

    def __init__(self, value: Any) -> None:
        self._value = value

    def item(self) -> Any:
        return self._value


class Lazy:
    """What Django's `gettext_lazy` and Babel's `LazyProxy` return."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text

    def __getattr__(self, name: str) -> Any:
        return getattr(self._text, name)


class Proxy:
    """What Django's `SimpleLazyObject` and Werkzeug's `LocalProxy` are."""

    def __init__(self, value: Any) -> None:
        self._value = value

    @property
    def __class__(self) -> Any:
        return type(self._value)

    def __copy__(self) -> Any:
        return copy.copy(self._value)


class URL:
    """What Starlette and yarl have for a URL."""

    scheme = "https"
    path = "/pricing"

    def __str__(self) -> str:
        return "https://example.com/pricing"


class Nothing:
    """A class without a text of its own."""

    scheme = path = casefold = ""


# Custom data.


def numpy() -> Any:
    return pytest.importorskip("numpy")


def pandas() -> Any:
    return pytest.importorskip("pandas")


def django(name: str) -> Any:
    module = pytest.importorskip("django.utils.functional")
    return getattr(module, name)


def attrs_class() -> Any:
    attrs = pytest.importorskip("attrs")
    return attrs.make_class("Order", ["number", "tags"], slots=True)


DATA: dict[str, tuple[Callable[[], Any], Any]] = {
    "an integer like numpy's": (lambda: Scalar(3), 3),
    "a float like numpy's": (lambda: Scalar(1.5), 1.5),
    "a flag like numpy's": (lambda: Scalar(True), True),
    "a lazy text": (lambda: Lazy("Red"), "Red"),
    "an empty lazy text": (lambda: Lazy(""), ""),
    "a UserString": (lambda: UserString("Red"), "Red"),
    "a proxy of a text": (lambda: Proxy("Red"), "Red"),
    "a proxy of a number": (lambda: Proxy(5), 5),
    "a proxy of a flag": (lambda: Proxy(False), False),
    "a proxy of a Decimal": (lambda: Proxy(Decimal("1.5")), 1.5),
    "a proxy of a dict": (lambda: Proxy({"a": Proxy(1)}), {"a": 1}),
    "a proxy of a list": (lambda: [Proxy([1, Lazy("b")])], [[1, "b"]]),
    "a proxy of a date": (lambda: Proxy(date(2026, 1, 2)), "2026-01-02"),
    "a URL": (URL, "https://example.com/pricing"),
    "an httpx.URL": (lambda: httpx.URL("https://example.com/a"), "https://example.com/a"),
    "a path": (lambda: PurePosixPath("a/b"), "a/b"),
    "a Windows path": (lambda: PureWindowsPath("a/b"), "a\\b"),
    "a UUID key": (lambda: {UUID(SITE): 1}, {SITE: 1}),
    "an address as a key": (lambda: {ip_address("203.0.113.9"): 1}, {"203.0.113.9": 1}),
    "a lazy key": (lambda: {Lazy("a"): 1}, {"a": 1}),
    "a number like numpy's as a key": (lambda: {Scalar(3): 1}, {"3": 1}),
    "attrs": (lambda: attrs_class()(5, ["new"]), {"number": 5, "tags": ["new"]}),
    "attrs within attrs": (lambda: attrs_class()(attrs_class()(1, 2), 3),
                           {"number": {"number": 1, "tags": 2}, "tags": 3}),
    "numpy.int64": (lambda: numpy().int64(3), 3),
    "numpy.uint8": (lambda: numpy().uint8(3), 3),
    "numpy.float16": (lambda: numpy().float16(1.5), 1.5),
    "numpy.float32": (lambda: numpy().float32(1.5), 1.5),
    "numpy.float64": (lambda: numpy().float64(1.5), 1.5),
    "numpy.longdouble": (lambda: numpy().longdouble(1.5), 1.5),
    "numpy.bool_": (lambda: numpy().bool_(True), True),
    "numpy.str_": (lambda: numpy().str_("Red"), "Red"),
    "numpy.datetime64": (lambda: numpy().datetime64("2026-01-02"), "2026-01-02"),
    "numpy.int64 as a key": (lambda: {numpy().int64(3): 1}, {"3": 1}),
    "numpy NaT": (lambda: numpy().datetime64("NaT", "ns"), None),
    "pandas.NA": (lambda: pandas().NA, None),
    "pandas.NaT": (lambda: pandas().NaT, None),
    "pandas.Timestamp": (lambda: pandas().Timestamp("2026-01-02", tz="UTC"), "2026-01-02T00:00:00.000Z"),
    "pandas.Timedelta": (lambda: pandas().Timedelta("1h"), "PT1H"),
    "lazystr": (lambda: django("lazystr")("Red"), "Red"),
    "SimpleLazyObject": (lambda: django("SimpleLazyObject")(lambda: "Red"), "Red"),
    "SimpleLazyObject of a number": (lambda: django("SimpleLazyObject")(lambda: 5), 5),
    "SimpleLazyObject of a dict": (lambda: django("SimpleLazyObject")(lambda: {"a": 1}), {"a": 1}),
    "LocalProxy": (lambda: pytest.importorskip("werkzeug.local").LocalProxy(lambda: 5), 5),
}  # fmt: skip


OPTIONAL = [name for name in DATA if name.startswith(("numpy", "pandas"))]


def check_stored(stored: Callable[..., StoredEvent], name: str) -> None:
    make, kept = DATA[name]
    data = stored(custom_data={"key": make()}).data
    assert data is not None
    assert same(data["key"], kept)


@with_each("name", sorted(DATA.keys() - OPTIONAL))
def test_custom_data_has_the_value_that_is_meant(stored: Callable[..., StoredEvent], name: str) -> None:
    check_stored(stored, name)


@pytest.mark.parametrize("name", OPTIONAL)
def test_custom_data_has_the_value_that_numpy_or_pandas_means(
    stored: Callable[..., StoredEvent], name: str
) -> None:
    check_stored(stored, name)


@pytest.mark.parametrize("library", ["numpy", "pandas"])
def test_a_naive_moment_of_another_library_is_local_time(
    stored: Callable[..., StoredEvent], library: str
) -> None:
    if library == "numpy":
        moment = numpy().datetime64("2026-01-02T03:04:05", "ns")
    else:
        moment = pandas().Timestamp("2026-01-02T03:04:05")
    there = datetime(2026, 1, 2, 3, 4, 5).astimezone(timezone.utc)
    event = stored(custom_data={"at": moment}, timestamp=moment)
    assert event.data == {"at": f"{there:%Y-%m-%dT%H:%M:%S}.000Z"}
    assert event.timestamp == there.timestamp()


def test_custom_data_may_be_a_proxy(client: umami.Client, collector: Collector) -> None:
    data: Any = Proxy({"a": 1})
    client.new_event("signup", custom_data=data)
    client.new_revenue_event(5, custom_data=data)
    assert client.flush(DEADLINE)
    assert [event.data for event in collector.events] == [
        {"a": 1},
        {"a": 1, "revenue": 5, "currency": "USD"},
    ]


def test_a_list_that_pretends_to_be_another_class_is_not_copied(client: umami.Client) -> None:
    """A copy of it would never end, if its iterator has no end."""
    read = []

    class Pretending(list[int]):
        @property
        def __class__(self) -> Any:
            return int

        def __iter__(self) -> Any:
            read.append(self)
            return super().__iter__()

        def __hash__(self) -> int:  # type: ignore[override]
            return 1

    assert "custom_data" in refusal(client.new_event, "a", custom_data={Pretending(): 1})
    assert "url" in refusal(client.new_event, "a", url=Pretending())
    assert not read


def test_a_value_that_stands_for_itself_without_end_is_refused(client: umami.Client) -> None:
    class Endless(Scalar):
        def item(self) -> Any:
            return type("Endless", (Endless,), {})(None)

    assert "nested deeper" in refusal(client.new_event, "signup", custom_data={"key": Endless(None)})


# Arguments.

TEXTS: dict[str, Callable[[], Any]] = {
    "a lazy text": lambda: Lazy("Pricing"),
    "a proxy": lambda: Proxy("Pricing"),
    "lazystr": lambda: django("lazystr")("Pricing"),
    "SimpleLazyObject": lambda: django("SimpleLazyObject")(lambda: "Pricing"),
}
URLS: dict[str, Callable[[], Any]] = {
    "like Starlette's": URL,
    "urlsplit": lambda: urlsplit("https://example.com/pricing"),
    "httpx": lambda: httpx.URL("https://example.com/pricing"),
    "pydantic": lambda: pydantic.TypeAdapter(pydantic.AnyUrl).validate_python("https://example.com/pricing"),
    "starlette": lambda: pytest.importorskip("starlette.datastructures").URL("https://example.com/pricing"),
    "yarl": lambda: pytest.importorskip("yarl").URL("https://example.com/pricing"),
}


@with_each("name", TEXTS)
def test_a_lazy_text_is_a_text(client: umami.Client, collector: Collector, name: str) -> None:
    text = TEXTS[name]()
    client.new_event(text, title=text, tag=text, distinct_id=text, hostname=text, language=text)
    client.new_page_view(text, text)
    assert client.flush(DEADLINE)
    event, view = collector.events
    assert (event.name, event.title, event.tag, event.distinct_id) == ("Pricing",) * 4
    assert (event.hostname, event.language) == ("Pricing",) * 2
    assert (view.title, view.url_path) == ("Pricing", "/Pricing")


@with_each("name", URLS)
def test_a_url_object_is_its_text(stored: Callable[..., StoredEvent], name: str) -> None:
    url = URLS[name]()
    event = stored(url=url, referrer=url)
    assert (event.url_path, event.referrer_domain, event.referrer_path) == (
        "/pricing",
        "example.com",
        "/pricing",
    )


@pytest.mark.parametrize(
    ("value", "identity"),
    [
        (UUID(SITE), SITE),
        (Scalar(5), "5"),
        (Proxy(5), "5"),
        (Proxy(UUID(SITE)), SITE),
    ],
    ids=["UUID", "scalar", "proxy", "proxy of a UUID"],
)
def test_a_distinct_id_may_be_the_key_of_a_row(
    stored: Callable[..., StoredEvent], value: Any, identity: str
) -> None:
    assert stored(distinct_id=value).distinct_id == identity


def test_a_website_id_may_be_a_uuid(stored: Callable[..., StoredEvent]) -> None:
    assert stored(website_id=UUID(SITE)).website_id == SITE


@pytest.mark.parametrize("address", ["203.0.113.9", "2001:db8::1"])
def test_an_address_may_be_of_the_module_ipaddress(stored: Callable[..., StoredEvent], address: str) -> None:
    assert stored(ip_address=ip_address(address)).ip == address


@pytest.mark.parametrize(
    ("value", "amount"),
    [(Scalar(5), 5), (Scalar(1.5), 1.5), (Proxy(5), 5), (Proxy(Decimal("1.5")), 1.5)],
    ids=["integer", "float", "proxy", "proxy of a Decimal"],
)
def test_a_revenue_stays_the_number_it_is(
    client: umami.Client, collector: Collector, value: Any, amount: float
) -> None:
    client.new_revenue_event(value)
    assert client.flush(DEADLINE)
    assert collector.events[0].data is not None
    assert same(collector.events[0].data["revenue"], amount)


@pytest.mark.parametrize(
    "value",
    [Scalar(1_767_225_600), Proxy(datetime(2026, 1, 1, tzinfo=timezone.utc))],
    ids=["scalar", "proxy of a datetime"],
)
def test_a_timestamp_may_be_another_librarys_number(stored: Callable[..., StoredEvent], value: Any) -> None:
    assert stored(timestamp=value).timestamp == 1_767_225_600


@with_each("field", ["title", "url", "referrer", "tag", "ua", "language", "website_id"])
@with_each("value", [Nothing(), Proxy(object()), Scalar(5), Proxy(5), PurePosixPath("a")])
def test_what_only_looks_like_a_text_is_refused(client: umami.Client, field: str, value: Any) -> None:
    message = refusal(client.new_event, "signup", **{field: value})
    assert message == f"{field} must be a string, got {type(value).__name__}."


@pytest.mark.parametrize(
    "value", [Scalar(True), Scalar(1.5), Proxy(True), Scalar(None)], ids=["flag", "float", "proxy", "none"]
)
def test_a_distinct_id_is_no_flag_and_no_fraction(client: umami.Client, value: Any) -> None:
    assert refusal(client.new_event, "signup", distinct_id=value) == (
        "distinct_id must be a string or integer."
    )


def test_a_missing_value_of_pandas_is_no_moment(client: umami.Client) -> None:
    for value in (pandas().NaT, pandas().NA):
        assert "must be a datetime" in refusal(client.new_event, "signup", timestamp=value)


@pytest.mark.slow
def test_no_library_is_imported_for_its_values(python: Callable[..., Any]) -> None:
    program = """
        import sys
        import umami
        umami.configure(url_base="http://127.0.0.1:9", website_id="1", hostname="a", enabled=False)
        umami.new_event("signup", custom_data={"at": b"", "time": __import__("datetime").time()})
        print(sorted({"numpy", "pandas", "django", "attr", "attrs", "yarl", "starlette"} & set(sys.modules)))
    """
    done = python(program)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
