"""No thread can be started: a send never waits for the server, and nothing is lost."""

import subprocess
from collections.abc import Callable

import pytest
from conftest import ALL_PACKAGES
from process_helpers import settings
from queue_helpers import stored

from umami.collector import Collector

pytestmark = pytest.mark.slow

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# No limit on threads binds root; so it becomes another user, once all is imported that this one may not read.
LIMIT = """
import asyncio, logging, os, sys, threading, time
import anyio, umami
from contextlib import contextmanager

for backend in ("asyncio", "trio"):
    anyio.run(anyio.sleep, 0, backend=backend)
umami.queue_stats()
umami.configure(url_base=os.environ["UMAMI_URL"])
try:
    import resource
    if os.geteuid() == 0:
        os.setuid(54321)
    _, most = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (1, most))
    threading.Thread(target=str).start()
except ImportError:
    sys.exit("no limit")
except RuntimeError:
    pass
else:
    sys.exit("no limit")

def more_threads():
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
"""


@pytest.fixture
def run(python: Run) -> Run:
    """Run a program that can start no thread."""

    def run(program: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        process = python(LIMIT + program, **ALL_PACKAGES, **environment)
        if process.stderr.strip() == "no limit":
            pytest.skip("the number of threads cannot be limited here")
        assert process.returncode == 0, process.stderr
        return process

    return run


def test_a_send_does_not_wait_for_the_server(collector: Collector, run: Run) -> None:
    collector.fail(freeze=True, times=None)
    process = run(
        """
for number in range(300):
    assert umami.new_event(f"e{number}") == {"queued": True}
print(umami.queue_stats().requests, umami.queue_stats().pending)
assert umami.flush(0.3) is False
assert umami.queue_stats().pending == 300
        """,
        **settings(collector, shutdown_timeout=0.3, timeout=0.2, item_timeout=0.001),
    )
    assert process.stdout.split() == ["0", "300"]
    assert "No thread can be started" in process.stderr
    assert "ends with 300 events not delivered" in process.stderr


def test_a_flush_sends_in_its_own_thread(collector: Collector, run: Run) -> None:
    process = run(
        """
for number in range(120):
    umami.new_event(f"e{number}")
print(umami.flush(30), umami.queue_stats().delivered, threading.active_count())
        """,
        **settings(collector),
    )
    assert process.stdout.split() == ["True", "120", "1"]
    assert stored(collector) == {f"e{number}": 1 for number in range(120)}


def test_the_end_of_the_process_sends_what_waits(collector: Collector, run: Run) -> None:
    run('umami.new_event("last")', **settings(collector))
    assert stored(collector) == {"last": 1}


def test_a_later_send_starts_a_thread_when_it_can(collector: Collector, run: Run) -> None:
    process = run(
        """
umami.new_event("waits")
more_threads()
while not umami.queue_stats().delivered:
    umami.new_event("later")
    time.sleep(0.05)
print(any(thread.name == "umami-sender" for thread in threading.enumerate()))
        """,
        **settings(collector, flush_interval=0),
    )
    assert process.stdout.split() == ["True"]
    assert stored(collector)["waits"] == 1


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest", "block"])
def test_a_full_queue_drops_and_never_sends_in_the_caller(
    overflow: str, collector: Collector, run: Run
) -> None:
    process = run(
        """
for number in range(20):
    umami.new_event(f"e{number}")
stats = umami.queue_stats()
print(stats.requests, stats.pending, stats.dropped["queue_full"])
        """,
        **settings(collector, queue_size=10, overflow=overflow, block_timeout=0.01),
    )
    assert process.stdout.split() == ["0", "10", "10"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_flush_of_an_event_loop_returns_at_once(backend: str, collector: Collector, run: Run) -> None:
    process = run(
        """
async def main():
    await umami.new_event_async("waits")
    print(await umami.flush_async(), await umami.shutdown_async(60), umami.queue_stats().pending)

import trio
"""
        f'anyio.run(main, backend="{backend}")',
        **settings(collector),
    )
    assert process.stdout.split() == ["False", "False", "1"]
    assert stored(collector) == {"waits": 1}, "at the end of the process"
