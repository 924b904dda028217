"""The probes: what a new process does with its subject, and measures.

For a call, the CPU time is that of the calling thread. For a delivered event, it is that of the process.
"""

import gc
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from .event_loop import burst, enqueue_async, first_event
from .model import Metrics
from .subjects import Send, Subject

_WARM_UP: Final = 200
_CHUNK: Final = 500


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile of sorted values."""
    return values[min(len(values) - 1, int(share * len(values)))]


def warm_up(subject: Subject, send: Send, events: int = _WARM_UP) -> None:
    """Send some events first, so that the subject opens its connection and fills its caches."""
    for _ in range(max(1, int(events * subject.pace))):
        send()
    subject.flush()


def enqueue(subject: Subject, events: int, kind: str = "event") -> Metrics:
    """Measure the CPU time of sends, in chunks with a flush in between, so that nothing is dropped."""
    send = subject.sender(kind)
    warm_up(subject, send)
    chunk = max(5, int(min(_CHUNK, events, subject.room) * min(1.0, subject.pace * 10)))
    chunks = max(2, int(events * subject.pace) // chunk)
    spent = 0
    for _ in range(chunks):
        begun = time.thread_time_ns()
        for _ in range(chunk):
            send()
        spent += time.thread_time_ns() - begun
        subject.flush()
    single = []
    for _ in range(chunks):
        for _ in range(chunk):
            begun = time.thread_time_ns()
            send()
            single.append(time.thread_time_ns() - begun)
        subject.flush()
    single.sort()
    clock = _clock_ns()
    return {
        "cpu_us": spent / (chunks * chunk) / 1000,
        "p50_us": (quantile(single, 0.5) - clock) / 1000,
        "p99_us": (quantile(single, 0.99) - clock) / 1000,
    }


def _clock_ns() -> float:
    """Return how long it takes to read the thread's clock twice."""
    pairs = []
    for _ in range(2000):
        begun = time.thread_time_ns()
        pairs.append(time.thread_time_ns() - begun)
    pairs.sort()
    return quantile(pairs, 0.5)


def enqueue_threads(subject: Subject, events: int, threads: int) -> Metrics:
    """Send from several threads at once: the events per second, and the duration of calls."""
    send = subject.sender()
    warm_up(subject, send)
    each = events // threads
    taken: list[list[int]] = [[] for _ in range(threads)]
    barrier = threading.Barrier(threads + 1)

    def work(mine: list[int]) -> None:
        clock = time.perf_counter_ns
        barrier.wait()
        for _ in range(each):
            begun = clock()
            send()
            mine.append(clock() - begun)
        barrier.wait()

    workers = [threading.Thread(target=work, args=(mine,)) for mine in taken]
    for worker in workers:
        worker.start()
    barrier.wait()
    wall = time.perf_counter()
    barrier.wait()
    wall = time.perf_counter() - wall
    calls = sorted(ns for mine in taken for ns in mine)
    subject.flush()
    return {
        "rate": each * threads / wall,
        "p50_us": quantile(calls, 0.5) / 1000,
        "p999_us": quantile(calls, 0.999) / 1000,
        "worst_ms": calls[-1] / 1e6,
    }


def drain(subject: Subject, events: int) -> Metrics:
    """Send and flush: the CPU time of the process per event, and the events per second."""
    send = subject.sender()
    warm_up(subject, send)
    warm = max(1, int(_WARM_UP * subject.pace))
    events = max(10, int(events * subject.pace))
    wall, cpu = time.perf_counter(), time.process_time()
    for number in range(events):
        if not number % 100:
            subject.wait_for_room()
        send()
    subject.flush()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "cpu_us": cpu / events * 1e6,
        "rate": events / wall,
        "sent": events + warm,
        **subject.facts(),
    }


def memory(subject: Subject, events: int, size: int = 0) -> Metrics:
    """Queue events while the server does not answer: the memory per event, and in total."""
    send = subject.sender()
    if size:
        umami = subject.umami  # type: ignore[attr-defined] # only this client is measured with large events
        data = {f"key-{number}": "x" * 400 for number in range(size // 400)}
        send = lambda: umami.new_event("large", custom_data=data)  # noqa: E731
    gc.collect()
    before = _resident()
    send()
    time.sleep(1.0)  # now its threads run, and its first request waits for an answer
    gc.collect()
    started = _resident()
    for _ in range(events):
        send()
    gc.collect()
    after = _resident()
    facts = subject.facts()
    return {
        "bytes_event": (after - started) / (events - facts.get("dropped", 0)),
        "agent_mb": (after - before) / 1024**2,
        **facts,
    }


def _resident() -> float:
    """Return the resident memory of this process in bytes (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def exit_time(subject: Subject, events: int) -> Metrics:
    """Send, return the time, and end normally. The parent measures when the process has ended."""
    send = subject.sender()
    for number in range(events):
        if not number % 100:
            subject.wait_for_room()
        send()
    last = time.monotonic()
    if type(subject).__name__.startswith("Floor"):
        subject.flush()  # it has no exit hook; this is the time for the requests alone
    return {"last_event_at": last, "sent": events}


def first_call(subject: Subject) -> Metrics:
    """Measure the duration of the first and of the second send."""
    send = subject.sender()
    times = []
    for _ in range(2):
        begun = time.perf_counter()
        send()
        times.append(1000 * (time.perf_counter() - begun))
    return {"first_ms": times[0], "second_ms": times[1]}


def abandon(probe: Callable[..., Metrics]) -> Callable[..., Metrics]:
    """Return a probe that ends the process at once, without waiting for a server that does not answer."""

    def run(subject: Subject, **options: int) -> Metrics:
        import json

        os.write(1, json.dumps(probe(subject, **options)).encode() + b"\n")
        os._exit(0)

    return run


PROBES: Final[dict[str, Callable[..., Metrics]]] = {
    "enqueue": enqueue,
    "enqueue-async": enqueue_async,
    "enqueue-threads": enqueue_threads,
    "drain": drain,
    "burst": burst,
    "first-event": abandon(first_event),
    "memory": abandon(memory),
    "exit": exit_time,
    "first-call": abandon(first_call),
}
"""The probes that run in `child`, by name."""
