"""The setting `mirror`: a collector beside the server gets a copy of what is delivered."""

import logging
import time

import pytest
from conftest import DEADLINE, SITE, reserved

import umami
import umami.errors
from umami.collector import Collector


@pytest.fixture
def mirror(other):
    """The collector that gets the copies; the server is `collector`."""
    return other


def client_of(collector: Collector, mirror: str, **settings) -> umami.Client:
    quick = {"flush_interval": 0.01, "retry_wait": 0.01, "retry_wait_max": 0.05}
    given = {"url_base": collector.url, "website_id": SITE, "hostname": "example.com", "mirror": mirror}
    return umami.Client(**{**given, **quick, **settings})


def names(collector: Collector) -> list[str | None]:
    return sorted(event.name or "" for event in collector.events)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.1", "cloud"], ids=["batch", "send"])
def test_a_copy_of_each_delivered_event_arrives_once(mirror, version):
    with Collector(umami=version) as server, client_of(server, mirror.url) as client:
        server.fail(503, times=3)
        server.fail(None, items={0: {"code": "P1001"}})
        for number in range(30):
            client.new_event(f"e{number:02}", custom_data={"number": number})
        assert client.flush(timeout=DEADLINE)
        mirror.wait_for(events=30, timeout=DEADLINE)
        assert client.queue_stats().delivered == 30
    assert names(mirror) == [f"e{number:02}" for number in range(30)]
    assert {event.data["number"] for event in mirror.events} == set(range(30))
    assert {request.path for request in mirror.requests} == {"/api/batch"}


def test_what_the_server_refuses_is_copied_too_and_counted_once(collector, mirror):
    collector.fail(None, items={1: {"code": "P2000", "meta": {"modelName": "Session"}}})
    with client_of(collector, mirror.url, batch_size=3, flush_interval=5) as client:
        for name in "abc":
            client.new_event(name)
        assert client.flush(timeout=DEADLINE)
        mirror.wait_for(events=3, timeout=DEADLINE)
        stats = client.queue_stats()
    assert (stats.submitted, stats.delivered, stats.rejected) == (3, 2, 1)
    assert (names(collector), names(mirror)) == (["a", "c"], ["a", "b", "c"])


def test_the_mirror_gets_no_secret_and_no_setting_of_the_server(collector, mirror):
    with client_of(collector, mirror.url, headers={"X-Gateway": "hush"}) as client:
        client.login("admin", "pa55-of-the-collector")
        client.new_event("a")
        assert client.flush(timeout=DEADLINE)
        mirror.wait_for(events=1, timeout=DEADLINE)
    [request] = mirror.requests
    assert {"authorization", "x-gateway", "cookie"}.isdisjoint(request.headers)
    assert collector.requests[-1].headers["x-gateway"] == "hush"


def test_a_dead_mirror_costs_one_warning(collector, caplog):
    with (
        reserved() as closed,
        caplog.at_level(logging.INFO, "umami"),
        client_of(collector, dead := f"http://127.0.0.1:{closed.getsockname()[1]}") as client,
    ):
        for number in range(20):
            client.new_event(f"{number}")
            assert client.flush(timeout=DEADLINE)
    assert len(collector.events) == 20
    warnings = [record.getMessage() for record in caplog.records if "mirror" in record.getMessage()]
    assert len(warnings) == 1
    assert f"{dead}/api/batch does not answer" in warnings[0]


def test_a_mirror_that_hangs_delays_no_delivery(collector, mirror):
    mirror.fail(None, freeze=True)
    with client_of(collector, mirror.url) as client:
        client.new_event("first")
        assert client.flush(timeout=DEADLINE)
        mirror.wait_for(requests=1, timeout=DEADLINE)
        started = time.monotonic()
        for number in range(100):
            client.new_event(f"{number}")
        assert client.flush(timeout=DEADLINE)
        assert time.monotonic() - started < 2  # seconds, which one copy would wait
    mirror.thaw()
    assert len(collector.events) == 101


def test_a_server_that_is_no_collector_is_named(collector, mirror, caplog):
    mirror.fail(404, times=None)
    with client_of(collector, mirror.url) as client:
        client.new_event("a")
        assert client.flush(timeout=DEADLINE)
        mirror.wait_for(requests=1, timeout=DEADLINE)
    assert f"The mirror {mirror.url}/api/batch answered 404." in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["queued", "direct"])
@pytest.mark.parametrize("late", [False, True])
def test_a_program_that_ends_has_its_last_event_copied(python, collector, mirror, mode, late):
    send = 'umami.new_event("last")'
    if late:  # no thread can be started any more, since Python 3.12
        send = f"import atexit; atexit.register(lambda: {send})"
    program = f"""
        import umami
        {send}
    """
    environment = {"UMAMI_URL": collector.url, "UMAMI_MIRROR": mirror.url, "UMAMI_MODE": mode}
    process = python(program, UMAMI_WEBSITE_ID=SITE, UMAMI_HOSTNAME="example.com", **environment)
    assert (process.returncode, process.stderr) == (0, "")
    assert (names(collector), names(mirror)) == (["last"], ["last"])


@pytest.mark.anyio
async def test_a_direct_async_send_is_copied(collector, mirror):
    client = client_of(collector, mirror.url, mode="direct")
    await client.new_event_async("a")
    mirror.wait_for(events=1, timeout=DEADLINE)
    await client.shutdown_async()


def test_a_mirror_can_be_set_and_unset(collector, mirror):
    with client_of(collector, mirror.url) as client:
        client.new_event("a")
        assert client.flush(timeout=DEADLINE)
        mirror.wait_for(events=1, timeout=DEADLINE)
        client.configure(mirror=None)
        client.new_event("b")
        assert client.flush(timeout=DEADLINE)
        client.configure(mirror=mirror.url)
        client.new_event("c")
        assert client.flush(timeout=DEADLINE)
        mirror.wait_for(events=2, timeout=DEADLINE)
    assert names(mirror) == ["a", "c"]


@pytest.mark.parametrize(
    ("mirror", "why"),
    [
        ("localhost:3000", "mirror: The url must start with the HTTP scheme"),
        ("http://me:hush@localhost:3000", "mirror: The url of a collector must not have a user name"),
        ("http://localhost:3000/api/send", "mirror: The url must not have the path"),
        ("http://server:3000", "mirror must be another server than url_base"),
    ],
)
def test_a_wrong_mirror_is_refused(mirror, why):
    with pytest.raises(umami.errors.ValidationError) as raised:
        umami.Client(url_base="http://server:3000", mirror=mirror)
    assert str(raised.value).startswith(why)
    assert "hush" not in str(raised.value)
