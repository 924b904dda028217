"""The custom data of every event, and the browser, system and device that a send may name."""

import json
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from conftest import DEADLINE, SITE

import umami
from umami.collector import Collector
from umami.errors import ValidationError
from umami.testing import capture


def test_every_event_has_the_common_data_and_its_own_keys_win() -> None:
    client = umami.Client(common_data={"release": "1.2", "price": Decimal("9.5"), "site": {"shard": 3}})
    with capture() as outbox:
        client.new_event("a")
        client.new_event("b", custom_data={"release": "2.0", "plan": "pro"})
        client.new_event("c", custom_data=MappingProxyType({"plan": "pro"}))
        client.new_revenue_event(5)
        client.new_page_view("Home", "/")
        client.identify("user-17", {"plan": "pro"})
    common = {"release": "1.2", "price": 9.5, "site": {"shard": 3}}
    assert [event.data for event in outbox.all] == [
        common,
        {**common, "release": "2.0", "plan": "pro"},
        {**common, "plan": "pro"},
        {**common, "revenue": 5, "currency": "USD"},
        {},
        {"plan": "pro"},
    ]


def test_the_program_may_change_its_own_dict_afterwards() -> None:
    common: dict[str, Any] = {"release": "1.2", "nested": {"a": 1}}
    client = umami.Client(common_data=common)
    common["nested"]["a"] = common["release"] = "changed"
    with capture() as outbox:
        client.new_event("a")
    assert outbox.one("a").data == {"release": "1.2", "nested": {"a": 1}}


def test_the_environment_sets_it_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UMAMI_COMMON_DATA", json.dumps({"release": "1.2"}))
    with capture() as outbox:
        umami.Client().new_event("a")
        umami.Client(common_data=None).new_event("b")
    assert [event.data for event in outbox.events] == [{"release": "1.2"}, {}]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("release", "common_data: data must be a mapping, got str."),
        ({"session": object()}, "common_data: data.session: object cannot be encoded as JSON"),
    ],
)
def test_what_cannot_be_sent_is_refused_when_it_is_set(data: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        umami.Client(common_data=data)


def test_a_browser_system_and_device_are_stored_as_given(collector: Collector) -> None:
    with umami.Client(url_base=collector.url, website_id=SITE, hostname="example.com") as client:
        client.new_event("a", browser="kiosk", os="PalmOS", device="toaster", distinct_id="1")
        client.new_page_view("Home", "/", browser="kiosk 2", distinct_id="2")
        client.new_revenue_event(5, os="PalmOS 2", distinct_id="3")
        client.new_event("b", browser="x" * 21, os="", device=None, distinct_id="4")
        assert client.flush(timeout=DEADLINE)
        assert client.queue_stats().repaired == {"browser": 1}
    stored = [(event.browser, event.os, event.device) for event in collector.events]
    assert stored == [
        ("kiosk", "PalmOS", "toaster"),
        ("kiosk 2", "Mac OS", "laptop"),
        ("chrome", "PalmOS 2", "laptop"),
        ("chrome", "Mac OS", "laptop"),
    ]


@pytest.mark.parametrize("field", ["browser", "os", "device"])
def test_a_value_that_is_no_text_is_refused(field: str) -> None:
    with capture(), pytest.raises(ValidationError, match=f"^{field} must be a string, got int.$"):
        umami.new_event("a", **{field: 7})  # type: ignore[arg-type]
