"""Clock changes: timers keep their length, nothing hangs, and every event arrives."""

from collections.abc import Callable
from subprocess import CompletedProcess

import pytest
from process_helpers import once, settings
from queue_helpers import stored

from umami.collector import Collector

pytestmark = pytest.mark.slow

Run = Callable[..., CompletedProcess[str]]

# What a program does to the clock before it imports anything else: each look at it shows another moment: one
# that is set, or one so far from the real one. `monotonic` is left alone, as a system leaves it.
JUMPS = """
import itertools, threading, time

HOUR, DAY = 3600.0, 86400.0
real = time.time
jumps = itertools.cycle([{jumps}])
lock = threading.Lock()
SET = {{-1e9, -1.0, 1.0, 253402300000.0, 253402300799.0}}

def jumping():
    with lock:
        jump = next(jumps)
    return jump if jump in SET else real() + jump

time.time = jumping
time.time_ns = lambda: int(jumping() * 1e9)
"""
CLOCKS = {
    "by hours and days": "0, HOUR, -3 * DAY, -HOUR, 5 * DAY, -30 * DAY",
    "to before the epoch and the year 9999": "-1e9, 253402300000.0, -1.0, 1.0, 253402300799.0",
    "everywhere": "0, HOUR, -HOUR, 400 * DAY, -1e9, 253402300000.0, -DAY, 1.0",
}
SLACK = 10.0


@pytest.fixture(params=CLOCKS.values(), ids=CLOCKS)
def run(request: pytest.FixtureRequest, python: Run) -> Run:
    """Run a program whose clock jumps."""
    jumps = JUMPS.format(jumps=request.param)

    def run(program: str, first: str = "", **environment: str) -> CompletedProcess[str]:
        return python(f"{jumps}\n{first}\nimport umami\n{program}", **environment)

    return run


def test_events_are_sent_flushed_and_shut_down(collector: Collector, run: Run) -> None:
    program = """
for number in range(300):
    assert umami.new_event(f"e{number}") == {"queued": True}
    if number % 50 == 0:
        assert umami.flush(30)
assert umami.shutdown(30)
umami.new_event("last")
"""

    process = run(program, **settings(collector))

    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
    assert stored(collector) == once("last", *(f"e{number}" for number in range(300)))


def test_events_are_sent_without_a_flush(collector: Collector, run: Run) -> None:
    program = """
umami.new_event("alone")
while not umami.queue_stats().delivered:
    time.sleep(0.01)
"""

    process = run(program, **settings(collector, flush_interval=0.2))

    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
    assert stored(collector) == once("alone")


def test_retries_wait_as_long_as_they_are_told_to(collector: Collector, run: Run) -> None:
    collector.fail(503, times=3, headers={"Retry-After": "1"})
    program = """
umami.new_event("patient")
while not umami.queue_stats().delivered:
    time.sleep(0.01)
"""

    process = run(program, **settings(collector, flush_interval=0, retry_wait=0.001))

    assert process.returncode == 0
    assert stored(collector) == once("patient")
    first, *others = [request.at for request in collector.requests]
    assert len(others) == 3
    assert others[-1] - first >= 3.0


def test_a_send_blocks_for_its_timeout_and_no_longer(collector: Collector, run: Run) -> None:
    collector.fail(freeze=True, times=None)
    program = """
assert umami.new_event("first") == {"queued": True}
began = time.monotonic()
answer = umami.new_event("second")
print(answer, time.monotonic() - began)
began = time.monotonic()
assert umami.flush(0.5) is False
print(time.monotonic() - began)
"""

    process = run(
        program,
        **settings(collector, queue_size=1, overflow="block", block_timeout=0.5, shutdown_timeout=0.5),
    )

    assert process.returncode == 0
    blocked, flushed = process.stdout.splitlines()
    assert blocked.startswith("{'queued': False, 'reason': 'queue_full'} ")
    for seconds in (float(blocked.split()[-1]), float(flushed)):
        assert 0.5 <= seconds < 0.5 + SLACK
    assert "ends with 1 event not delivered" in process.stderr


def test_the_end_of_a_process_waits_for_a_dead_server_no_longer_than_it_may(
    collector: Collector, run: Run
) -> None:
    collector.fail(freeze=True, times=None)
    program = """
umami.new_event("lost")
ended = time.monotonic()
"""

    # Registered before umami's own handler, it runs after it.
    measure = "import atexit; atexit.register(lambda: print(time.monotonic() - ended))"
    process = run(program, first=measure, **settings(collector, shutdown_timeout=1))

    assert process.returncode == 0
    assert 1 <= float(process.stdout) < 1 + SLACK
    assert "ends with 1 event not delivered" in process.stderr


FREEZE = {
    "freezegun": "from freezegun import freeze_time as freeze",
    "time_machine": "from time_machine import travel as freeze",
}


@pytest.mark.parametrize("library", FREEZE)
@pytest.mark.parametrize("first", ["umami", "freeze"])
def test_frozen_time_stops_no_wait(first: str, library: str, collector: Collector, python: Run) -> None:
    pytest.importorskip(library)
    program = f"""
import time
{FREEZE[library]}
{"import umami; umami.queue_stats()" if first == "umami" else ""}
import umami._clock
elapsed = umami._clock.monotonic
with freeze("2024-01-01 12:00"):
    import umami
    umami.new_event("frozen")
    assert umami.flush(30)
    umami.configure(url_base="http://127.0.0.1:9", queue_size=1, overflow="block", block_timeout=0.2)
    umami.new_event("pending")
    began = elapsed()
    assert umami.flush(0.2) is False
    assert umami.new_event("blocked") == {{"queued": False, "reason": "queue_full"}}
    print(elapsed() - began)
    umami.shutdown(0.1)
"""

    process = python(program, **settings(collector, shutdown_timeout=0.1))

    assert process.returncode == 0, process.stderr
    assert 0.4 <= float(process.stdout) < 0.4 + SLACK
    (event,) = collector.events
    assert event.created_at.isoformat() == "2024-01-01T12:00:00+00:00"
