"""`umami.testing.capture` and the pytest plugin: what users' tests see of the events that are sent."""

import inspect
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE, ROOT, SITE
from queue_helpers import at_call, in_threads

import umami
from umami._state import State
from umami.collector import Collector
from umami.errors import OperationNotAllowedError, ValidationError
from umami.exporters import MemoryExporter
from umami.testing import Outbox, capture


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    with capture() as outbox:
        yield outbox


def test_events_are_there_as_soon_as_they_are_sent_with_nothing_configured(outbox: Outbox) -> None:
    assert umami.new_event("signup", custom_data={"plan": "pro"}) == {"queued": True}
    umami.new_page_view("Pricing", "/pricing", ip_address="203.0.113.9")
    umami.new_revenue_event(19.99, "EUR", event_name="purchase", tag="b")
    umami.identify("user-17", {"plan": "pro"})
    signup, purchase = outbox.events
    assert (signup.name, signup.data, signup.revenue, signup.ip_address) == (
        "signup",
        {"plan": "pro"},
        None,
        None,
    )
    assert (purchase.revenue, purchase.currency, purchase.tag) == (19.99, "EUR", "b")
    assert outbox.revenue == [purchase]
    assert [(view.title, view.url, view.ip_address) for view in outbox.page_views] == [
        ("Pricing", "/pricing", "203.0.113.9")
    ]
    assert [(each.distinct_id, each.data) for each in outbox.identifies] == [("user-17", {"plan": "pro"})]
    assert [each.kind for each in outbox.all] == ["event", "page_view", "event", "identify"]
    outbox.clear()
    assert outbox.all == []


def test_time_and_user_agent_are_as_given(outbox: Outbox) -> None:
    umami.new_event("a", timestamp=datetime(2026, 5, 1, tzinfo=timezone.utc), ua="Firefox/1", url="/x?y=1")
    assert outbox.one("a").at == datetime(2026, 5, 1, tzinfo=timezone.utc)
    assert (outbox.one("a").ua, outbox.one("a").url) == ("Firefox/1", "/x?y=1")


@pytest.mark.parametrize(
    "settings",
    [{}, {"enabled": False}, {"mode": "direct"}, {"overflow": "block", "queue_size": 1}],
    ids=["queued", "disabled", "direct", "block"],
)
@pytest.mark.anyio
async def test_every_client_is_caught_in_every_mode(
    collector: Collector, settings: dict[str, Any], outbox: Outbox
) -> None:
    client = umami.Client(url_base=collector.url, website_id=SITE, hostname="example.com", **settings)
    assert client.new_event("sync") == {"queued": True}
    assert await client.new_event_async("async") == {"queued": True}
    assert client.flush(timeout=DEADLINE)
    assert [sent.name for sent in outbox.events] == ["sync", "async"]
    assert (outbox.events[0].website_id, outbox.events[0].hostname) == (SITE, "example.com")
    assert client.queue_stats().submitted == 0
    assert not collector.requests


def test_arguments_are_checked_as_always(outbox: Outbox) -> None:
    with pytest.raises(ValidationError, match="event_name"):
        umami.new_event("")
    assert outbox.all == []


def test_a_send_disabled_by_the_environment_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UMAMI_DISABLED", "1")
    client = umami.Client()
    with capture() as outbox:
        client.new_event("signup")
    assert client.new_event("signup") == {}
    assert [sent.name for sent in outbox.events] == ["signup"]


def test_a_send_of_another_thread_is_caught(outbox: Outbox) -> None:
    thread = threading.Thread(target=umami.new_event, args=["threaded"])
    thread.start()
    thread.join(DEADLINE)
    assert outbox.one("threaded")


def test_before_send_changes_and_drops_what_is_caught(outbox: Outbox) -> None:
    def screen(payload: dict[str, Any]) -> dict[str, Any] | None:
        return None if payload["name"] == "secret" else {**payload, "url": "/screened"}

    client = umami.Client(before_send=screen)
    client.new_event("secret")
    client.new_event("open")
    assert [(sent.name, sent.url) for sent in outbox.all] == [("open", "/screened")]


def test_an_inner_capture_catches_first() -> None:
    with capture() as outer:
        with capture() as inner:
            umami.new_event("inner")
        umami.new_event("outer")
    assert [sent.name for sent in inner.all] == ["inner"]
    assert [sent.name for sent in outer.all] == ["outer"]


def test_afterwards_each_client_is_as_it_was(collector: Collector) -> None:
    client = umami.Client(url_base=collector.url, website_id=SITE, hostname="example.com")
    client.new_event("before")
    with capture() as outbox:
        client.configure(hostname="elsewhere.example", enabled=False)
        client.new_event("inside")
        assert outbox.one("inside").hostname == "elsewhere.example"
    client.new_event("after")
    assert client.flush(timeout=DEADLINE)
    assert [(event.name, event.hostname) for event in collector.events] == [
        ("before", "example.com"),
        ("after", "example.com"),
    ]
    assert client.queue_stats().submitted == 2
    client.shutdown(DEADLINE)


def test_an_event_that_comes_as_a_capture_ends_leads_no_later_one_astray() -> None:
    own, of_the_test = MemoryExporter("own"), MemoryExporter("of the test")
    client = umami.Client(exporter=own, website_id=SITE, hostname="example.com")

    def send_elsewhere() -> None:
        in_threads(1, lambda number: client.new_event("meanwhile"))

    with at_call(State.restore, send_elsewhere), capture():
        client.configure(exporter=of_the_test)
    client.new_event("after")
    assert client.flush(DEADLINE)
    assert [event["payload"]["name"] for event in own.events] == ["after"]
    assert client.shutdown(DEADLINE)


@pytest.mark.anyio
async def test_a_capture_of_async_code() -> None:
    async with capture() as outbox:
        await umami.new_event_async("signup")
    assert outbox.one("signup")


def test_an_event_is_found_by_a_part_of_it(outbox: Outbox) -> None:
    umami.new_event("purchase", url="/cart", custom_data={"plan": "free", "items": [1, 2]})
    umami.new_event("purchase", url="/checkout", custom_data={"plan": "pro", "buyer": {"id": 7, "new": True}})
    found = outbox.assert_event("purchase", url="/checkout", data={"buyer": {"id": 7}})
    assert found.data["plan"] == "pro"
    outbox.assert_no_event("refund")
    outbox.assert_no_event("purchase", url="/other")


def test_a_missing_event_is_shown_with_the_nearest_misses(outbox: Outbox) -> None:
    umami.new_event("signup")
    umami.new_event("purchase", url="/cart", custom_data={"plan": "free"})
    umami.new_event("purchase", url="/checkout", custom_data={"plan": "free"})
    with pytest.raises(AssertionError) as raised:
        outbox.assert_event("purchase", url="/checkout", data={"plan": "pro", "coupon": "x"})
    assert str(raised.value) == textwrap.dedent("""\
        No event 'purchase' was sent with
          url='/checkout'
          data={'plan': 'pro', 'coupon': 'x'}
        The nearest of 3:
        'purchase', url='/checkout', data={'plan': 'free'}
          data['plan']: 'free', not 'pro'
          data['coupon']: missing, not 'x'
        'purchase', url='/cart', data={'plan': 'free'}
          url: '/cart', not '/checkout'
          data['plan']: 'free', not 'pro'
          data['coupon']: missing, not 'x'
        'signup', url='/'
          name: 'signup', not 'purchase'
          url: '/', not '/checkout'
          data['plan']: missing, not 'pro'
          data['coupon']: missing, not 'x'""")


def test_messages_where_nothing_or_too_much_was_sent(outbox: Outbox) -> None:
    with pytest.raises(AssertionError, match=r"^No event 'a' was sent\nNo event was sent\.$"):
        outbox.assert_event("a")
    with pytest.raises(AssertionError, match=r"^Expected one event 'a', got 0. No event was sent.$"):
        outbox.one("a")
    umami.new_event("a")
    umami.new_event("a", url="/b")
    with pytest.raises(AssertionError, match=r"got 2. They are:\n  'a', url='/'\n  'a', url='/b'$"):
        outbox.one("a")
    with pytest.raises(AssertionError, match=r"^An event was sent: 'a', url='/'$"):
        outbox.assert_no_event()
    with pytest.raises(
        TypeError, match=r"^An event has no field 'ulr'. The fields are: at, browser, currency,"
    ):
        outbox.assert_event("a", ulr="/")


def test_each_field_of_an_event_can_be_expected(outbox: Outbox) -> None:
    names = {"event_name": "name", "custom_data": "data", "timestamp": "at"}
    for parameter in inspect.signature(umami.new_event).parameters:
        outbox.assert_no_event(**{names.get(parameter, parameter): "a"})


# The plugin.


def run_pytest(folder: Path, program: str, *options: str) -> str:
    (folder / "test_site.py").write_text(textwrap.dedent(program))
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "umami.pytest_plugin", *options],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    return ran.stdout + ran.stderr


@pytest.mark.slow
def test_the_fixtures(tmp_path: Path) -> None:
    output = run_pytest(
        tmp_path,
        """
        import sys, unittest, umami

        def test_nothing_is_loaded_before_it_is_asked_for():
            assert not {"pydantic", "httpx", "umami.client"} & sys.modules.keys()

        def test_the_outbox(umami_outbox):
            umami.new_event("signup")
            umami_outbox.assert_event("signup")

        def test_the_next_outbox_is_empty(umami_outbox):
            umami_outbox.assert_no_event()

        def test_the_collector(umami_collector):
            with umami.Client(url_base=umami_collector.url, website_id="978435e2-7ba1-4337-9860-ec31ece2db60",
                              hostname="example.com") as client:
                client.new_event("signup")
            assert [event.name for event in umami_collector.events] == ["signup"]

        class TestUnittest(unittest.TestCase):
            def test_capture(self):
                with umami.testing.capture() as outbox:
                    umami.new_event("signup")
                self.assertEqual(len(outbox.events), 1)
        """,
    )
    assert "5 passed" in output, output


BLOCKED = """
    import pytest, umami
    from umami.errors import OperationNotAllowedError

    SITE = dict(website_id="978435e2-7ba1-4337-9860-ec31ece2db60", hostname="example.com")

    def test_a_real_server():
        client = umami.Client(url_base="https://umami.example.com", **SITE)
        client.new_event("signup")

    def test_the_cloud():
        umami.Client(api_key="secret").websites()

    def test_this_machine(umami_collector):
        with umami.Client(url_base=umami_collector.url, **SITE) as client:
            client.new_event("signup")
"""


@pytest.mark.slow
def test_a_blocked_network_fails_a_test_that_would_call_a_real_server(tmp_path: Path) -> None:
    output = run_pytest(tmp_path, BLOCKED, "-o", "umami_network=block")
    assert "2 failed, 1 passed" in output, output
    for test, server in (("a_real_server", "https://umami.example.com"), ("the_cloud", "Umami Cloud")):
        assert (
            f"pytest's umami_network is 'block': test_site.py::test_{test} may call an Umami server on this "
            f"machine only, not {server}." in output
        )


@pytest.mark.slow
def test_a_blocked_network_also_stops_what_is_sent_at_import(tmp_path: Path) -> None:
    program = """
        import umami
        umami.Client(url_base="https://umami.example.com", website_id="978435e2-7ba1-4337-9860-ec31ece2db60",
                     hostname="example.com").new_event("imported")
    """
    output = run_pytest(tmp_path, program, "-o", "umami_network=block")
    assert "code outside of a test may call an Umami server on this machine only, not https://umami" in output


@pytest.mark.slow
def test_an_unknown_value_of_the_option_is_refused(tmp_path: Path) -> None:
    output = run_pytest(tmp_path, "", "-o", "umami_network=off")
    assert "umami_network must be 'allow' or 'block', got 'off'." in output


def test_the_option_is_off_by_default() -> None:
    with pytest.raises(OperationNotAllowedError, match="Set a URL base"):
        umami.Client().websites()
