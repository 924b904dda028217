"""`umami.visitor`: all sends in a block are for one visitor."""

import contextvars
import subprocess
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from conftest import SITE

import umami
from umami.exporters import MemoryExporter

VISITOR: dict[str, Any] = {
    "ip_address": "203.0.113.9",
    "ua": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "language": "de-DE",
    "url": "/pricing?plan=pro",
    "referrer": "https://example.org/",
    "distinct_id": 17,
    "tag": "b",
}
SENT = {
    "ip": VISITOR["ip_address"],
    "userAgent": VISITOR["ua"],
    "language": "de-DE",
    "url": "/pricing?plan=pro",
    "referrer": "https://example.org/",
    "id": "17",
    "tag": "b",
}


class Sent(umami.Client):
    """A client whose events stay in memory."""

    def __init__(self) -> None:
        self.exporter = MemoryExporter()
        super().__init__(exporter=self.exporter, website_id=SITE, hostname="example.com")

    def payloads(self) -> list[dict[str, Any]]:
        assert self.flush(timeout=30)
        return [event["payload"] for event in self.exporter.events]


@pytest.fixture
def client() -> Any:
    client = Sent()
    yield client
    client.shutdown(30)


def test_sends_in_a_block_take_what_they_were_not_given(client: Sent) -> None:
    with umami.visitor(**VISITOR):
        client.new_event("signup")
        client.new_revenue_event(5)
        client.new_page_view("Pricing", "/other")
        client.identify("17", {"plan": "pro"})
    client.new_event("outside")
    event, revenue, view, identity, outside = client.payloads()
    assert SENT.items() <= event.items()
    assert SENT.items() <= revenue.items()
    assert {**SENT, "url": "/other"}.items() <= view.items()
    assert (identity["ip"], identity["userAgent"]) == (SENT["ip"], SENT["userAgent"])
    assert outside.keys().isdisjoint({"ip", "userAgent", "id", "tag"})
    assert (outside["url"], outside["language"], outside["referrer"]) == ("/", "en-US", "")


def test_an_argument_wins_also_where_it_equals_the_default(client: Sent) -> None:
    with umami.visitor(**VISITOR):
        client.new_event("a", url="/", language="en-US", referrer="")
        client.new_event("b", ip_address="203.0.113.10", ua="Firefox/1", distinct_id="x", tag="c")
    defaults, others = client.payloads()
    assert (defaults["url"], defaults["language"], defaults["referrer"]) == ("/", "en-US", "")
    assert (others["ip"], others["userAgent"], others["id"], others["tag"]) == (
        "203.0.113.10",
        "Firefox/1",
        "x",
        "c",
    )


def test_an_inner_block_adds_and_none_unsets(client: Sent) -> None:
    with umami.visitor(url="/a", tag="x"):
        with umami.visitor(language="fr", tag=None):
            client.new_event("inner")
        client.new_event("outer")
    inner, outer = client.payloads()
    assert (inner["url"], inner["language"], inner.get("tag")) == ("/a", "fr", None)
    assert (outer["url"], outer["language"], outer["tag"]) == ("/a", "en-US", "x")


def test_a_function_tells_the_id_of_a_visitor_who_logs_in_later(client: Sent) -> None:
    user: list[int] = []
    with umami.visitor(distinct_id=lambda: user[0] if user else None):
        client.new_event("before")
        user.append(17)
        client.new_event("after")
    assert [payload.get("id") for payload in client.payloads()] == [None, "17"]


def test_an_event_in_a_block_has_its_data_and_its_own_keys_win(client: Sent) -> None:
    given = {"plan": "pro", "variant": "b"}
    client.configure(common_data={"release": "7", "plan": "none"})
    with umami.visitor(data=given):
        given["variant"] = "changed since"
        client.new_event("signup", custom_data={"plan": "free"})
        client.new_revenue_event(5)
        client.new_page_view("Pricing", "/other")
        with umami.visitor(data=None):
            client.new_event("bare")
    signup, revenue, view, bare = client.payloads()
    assert signup["data"] == {"release": "7", "plan": "free", "variant": "b"}
    assert revenue["data"] == {"release": "7", "plan": "pro", "variant": "b", "revenue": 5, "currency": "USD"}
    assert "data" not in view
    assert bare["data"] == {"release": "7", "plan": "none"}


def test_a_block_ends_with_an_exception_and_can_be_entered_again(client: Sent) -> None:
    block = umami.visitor(url="/a")
    with pytest.raises(KeyError), block:
        raise KeyError
    client.new_event("outside")
    with block, block:
        client.new_event("inside")
    client.new_event("outside")
    assert [payload["url"] for payload in client.payloads()] == ["/", "/a", "/"]


@pytest.mark.anyio
async def test_tasks_have_a_visitor_each(client: Sent) -> None:
    met = anyio.Event()
    inside = 0

    async def visit(number: int) -> None:
        nonlocal inside
        async with umami.visitor(url=f"/{number}", distinct_id=number):
            inside += 1
            if inside == 20:
                met.set()
            await met.wait()
            await client.new_event_async(str(number))

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(visit, number)
    await client.new_event_async("outside")
    *events, outside = await anyio.to_thread.run_sync(client.payloads)
    assert sorted((each["name"], each["url"], each["id"]) for each in events) == sorted(
        (str(number), f"/{number}", str(number)) for number in range(20)
    )
    assert (outside["url"], outside.get("id")) == ("/", None)


def test_threads_have_a_visitor_each_and_a_copied_context_carries_it(client: Sent) -> None:
    with umami.visitor(url="/a"):
        other = threading.Thread(target=client.new_event, args=["none"])
        same = threading.Thread(target=contextvars.copy_context().run, args=[client.new_event, "carried"])
        for thread in (other, same):
            thread.start()
            thread.join(60)
    assert {each["name"]: each["url"] for each in client.payloads()} == {"none": "/", "carried": "/a"}


@pytest.mark.slow
def test_greenlets_have_a_visitor_each(python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    pytest.importorskip("gevent")
    program = f"""
        from gevent import monkey
        monkey.patch_all()
        import gevent, umami
        from umami.exporters import MemoryExporter
        exporter = MemoryExporter()
        client = umami.Client(exporter=exporter, website_id={SITE!r}, hostname="example.com")

        def visit(number):
            with umami.visitor(url=f"/{{number}}"):
                gevent.sleep(0.01)
                client.new_event(str(number))

        gevent.joinall([gevent.spawn(visit, number) for number in range(20)], raise_error=True)
        assert client.flush(timeout=30)
        print(sorted((int(each["payload"]["name"]), each["payload"]["url"]) for each in exporter.events))
    """
    ran = python(textwrap.dedent(program))
    assert ran.stdout.strip() == str([(number, f"/{number}") for number in range(20)]), ran.stderr


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"url": 7}, "url must be a string or None, got 7."),
        ({"ip_address": ["203.0.113.9"]}, "ip_address must be a string or None, got "),
        (
            {"distinct_id": 1.5},
            "distinct_id must be a string, an integer, a function that returns one, or None, got 1.5.",
        ),
        (
            {"distinct_id": True},
            "distinct_id must be a string, an integer, a function that returns one, or None, got True.",
        ),
    ],
    ids=["url", "ip_address", "float", "bool"],
)
def test_a_wrong_value_is_refused_where_the_block_is_made(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(umami.errors.ValidationError, match=message):
        umami.visitor(**fields)


@pytest.mark.slow
def test_a_visitor_can_be_carried_elsewhere() -> None:
    assert umami.current_visitor() == {}
    with umami.visitor(url="/a", distinct_id=lambda: 17, tag=None), umami.visitor(ua="Firefox"):
        carried = umami.current_visitor()
    assert carried == {"url": "/a", "distinct_id": 17, "ua": "Firefox"}
    with umami.visitor(**carried):
        assert umami.current_visitor() == carried
