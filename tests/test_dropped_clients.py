"""Clients without shutdown, and servers that are no longer used: their threads and connections end."""

import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from conftest import DEADLINE, SITE
from process_helpers import finished, once, settings
from queue_helpers import drain, in_threads, stored, until
from reverse_proxy import ReverseProxy
from secrecy import watch

import umami
from umami.collector import Collector

MakeClient = Callable[..., umami.Client]
FILES = Path("/proc/self/fd")


def send_and_drop(name: str, **more: Any) -> None:
    """Send an event with a client of its own, and let the client go."""
    client = umami.Client(website_id=SITE, hostname="example.com", **more)
    assert client.new_event(name) == {"queued": True}
    watch.let_go(client)


def open_files() -> int:
    return len(list(FILES.iterdir())) if FILES.is_dir() else 0


def threads() -> int:
    return sum(thread.name in ("umami-sender", "umami-spool") for thread in threading.enumerate())


def test_a_dropped_client_delivers_and_its_threads_and_sockets_go(own_collector: Collector) -> None:
    before = threads()
    files = open_files()
    for number in range(20):
        send_and_drop(f"e{number}", url_base=own_collector.url, flush_interval=0.1)
    own_collector.wait_for(events=20, timeout=DEADLINE)
    until(lambda: threads() == before)
    assert stored(own_collector) == once(*(f"e{number}" for number in range(20)))
    until(lambda: open_files() <= files)


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
@pytest.mark.parametrize("way", ["dropped", "dropped elsewhere", "closed"])
@pytest.mark.anyio
async def test_an_event_loop_keeps_nothing_of_the_clients_that_it_has_had(
    way: str, own_collector: Collector
) -> None:
    async def ask() -> Any:
        """Return what only the client and its connections have."""
        client = umami.Client(url_base=own_collector.url, website_id=SITE, hostname="example.com")
        assert await client.heartbeat_async()
        if way == "closed":
            await client.__aexit__(None, None, None)
        access = weakref.ref(client._state.access())
        watch.let_go(client)
        if way == "dropped elsewhere":
            only_one, client = [client], None
            in_threads(1, lambda number: only_one.clear())
        return access

    files = open_files()
    held = [await ask() for _ in range(10)]
    with anyio.fail_after(DEADLINE):
        while any(access() is not None for access in held) or open_files() > files + 2:
            gc.collect()
            await anyio.sleep(0.01)


@pytest.mark.slow
def test_a_dropped_client_is_freed(collector: Collector) -> None:
    client = umami.Client(url_base=collector.url, website_id=SITE, hostname="example.com")
    client.new_event("last")
    assert client.flush(DEADLINE)
    agent = weakref.ref(client._state.agent)
    watch.let_go(client)
    del client

    def is_freed() -> bool:
        gc.collect()
        return agent() is None

    until(is_freed)


@pytest.mark.slow
def test_a_dropped_client_waits_out_an_outage(collector: Collector) -> None:
    before = threads()
    collector.fail(503, times=None)
    send_and_drop("patient", url_base=collector.url, flush_interval=0, retry_wait=0.02, retry_wait_max=0.05)
    collector.wait_for(requests=2, timeout=DEADLINE)
    gc.collect()
    collector.clear_faults()
    collector.wait_for(events=1, timeout=DEADLINE)
    until(lambda: threads() == before)


def test_a_dropped_client_lets_its_spool_go(collector: Collector, folder: Path) -> None:
    before = threads()
    send_and_drop("spooled", url_base=collector.url, spool=str(folder))
    collector.wait_for(events=1, timeout=DEADLINE)
    until(lambda: threads() == before)
    assert drain(folder, url_base=collector.url, website_id=SITE, hostname="h").submitted == 0


@pytest.mark.slow
def test_what_a_dropped_client_has_no_thread_for_goes_out_at_the_end(collector: Collector) -> None:
    program = """
    import gc
    import threading
    import umami
    from umami.exporters import Exported, Exporter

    class Slow(Exporter):
        name = "slow"

        def export(self, events, deadline):
            began.set()
            answered.wait()
            print(len(events))
            return Exported()

    began, answered = threading.Event(), threading.Event()
    client = umami.Client(flush_interval=3600)
    client.new_event("left")
    assert not client.shutdown(0)
    client = umami.Client(exporter=Slow(), batch_size=1, flush_interval=0)
    client.new_event("under way")
    client.new_event("left behind it")
    began.wait()
    sender = next(thread for thread in threading.enumerate() if thread.name == "umami-sender")
    assert not client.shutdown(0)
    del client
    answered.set()
    sender.join()
    gc.collect()
    """
    run = finished("-c", program, **settings(collector))
    assert (run.returncode, run.stdout) == (0, "11"), run.stderr
    assert stored(collector) == {"left": 1}


def test_servers_that_are_not_used_any_more_cost_a_send_nothing(
    collector: Collector, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, balanced: Any
) -> None:
    monkeypatch.setattr("umami.queue.workers._EXTRA_SENDER_SECONDS", 0.05)
    with ReverseProxy(collector.url) as proxy:
        client = make_client(url_base=proxy.url)
        for number in range(5):
            client.configure(url_base=f"{proxy.url}/{number}", enabled=True)
            client.new_event(f"e{number}")
            for unused in range(20):
                client.configure(url_base=f"{proxy.url}/{number}/{unused}", enabled=False)
                client.new_event("not sent")
        destinations = client._state.agent.queue._destinations
        until(lambda: len(destinations) == 1)
        assert len(client._state._exporters) <= 64
        client.configure(url_base=f"{proxy.url}/3", enabled=True)
        client.new_event("again")
        assert client.flush(DEADLINE)
    assert stored(collector) == once("again", *(f"e{number}" for number in range(5)))
    balanced(client)


@pytest.mark.slow
def test_an_event_of_a_send_that_began_before_its_server_was_left_is_delivered(
    collector: Collector, other: Collector, make_client: MakeClient, balanced: Any
) -> None:
    client = make_client(url_base=other.url)
    client.new_event("first")
    assert client.shutdown(DEADLINE)
    put = client._state.route.destination.put
    client.set_url_base(collector.url)
    client.new_event("elsewhere")
    assert len(client._state.agent.queue._destinations) == 1
    gc.collect()
    assert put(b'{"type":"event","payload":{"website":"%s","url":"/","name":"late"}}' % SITE.encode())
    assert client.flush(DEADLINE)
    assert stored(other) == once("first", "late")
    assert stored(collector) == once("elsewhere")
    balanced(client)
