"""The probes in an event loop. They measure how late it runs a timer of one millisecond."""

import asyncio
import time
from typing import Final

from .model import Metrics
from .subjects import Subject

_TICK: Final = 0.001
_QUIET: Final = 0.3
_SINGLE: Final = 1.2


class Ticker:
    """Wakes up every millisecond, and records how late it was, in milliseconds."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self._task = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            due = time.perf_counter() + _TICK
            await asyncio.sleep(_TICK)
            self.late.append(1000 * (time.perf_counter() - due))

    def taken(self) -> list[float]:
        """Return the delays recorded since the last call, sorted."""
        late, self.late = self.late, []
        return sorted(late)

    def stop(self) -> None:
        """Stop."""
        self._task.cancel()


def burst(subject: Subject, events: int, bursts: int = 5) -> Metrics:
    """Measure how long bursts of sends block the loop, and how late its timers run afterwards."""
    return asyncio.run(_burst(subject, max(5, int(events * min(1.0, subject.pace * 10))), bursts, events))


async def _burst(subject: Subject, events: int, bursts: int, asked: int) -> Metrics:
    send, loop = subject.sender(), asyncio.get_running_loop()
    send()
    await loop.run_in_executor(None, subject.flush)
    ticker = Ticker()
    blocks: list[float] = []
    idle: list[float] = []
    draining: list[float] = []
    for _ in range(bursts):
        await asyncio.sleep(_QUIET)
        idle += ticker.taken()
        begun = time.perf_counter()
        for _ in range(events):
            send()
        blocks.append(1000 * (time.perf_counter() - begun))
        await asyncio.sleep(0)
        ticker.late.clear()
        await loop.run_in_executor(None, subject.flush)
        draining += ticker.taken()
    ticker.stop()
    idle.sort()
    draining.sort()
    blocks.sort()
    found = {
        "block_ms": blocks[len(blocks) // 2] * asked / events,
        "idle_p99_ms": idle[int(0.99 * len(idle))],
        "sent": bursts * events + 1,
    }
    if draining:
        found["draining_p99_ms"] = draining[int(0.99 * len(draining))]
    return found


def first_event(subject: Subject) -> Metrics:
    """Measure the longest delay of the ticker after the first event of the process, and after later ones."""
    return asyncio.run(_first_event(subject))


async def _first_event(subject: Subject) -> Metrics:
    send = subject.sender()
    ticker = Ticker()
    await asyncio.sleep(_QUIET)
    ticker.taken()
    worst = []
    for _ in range(4):
        send()
        await asyncio.sleep(_SINGLE)  # enough for the worker to create its HTTP client and send
        worst.append(ticker.taken()[-1])
    ticker.stop()
    return {"first_ms": worst[0], "later_ms": sorted(worst[1:])[1]}


def enqueue_async(subject: Subject, events: int, awaited: bool) -> Metrics:
    """Measure the CPU time of sends in a coroutine, either of the async version or of the sync one."""
    return asyncio.run(_enqueue_async(subject, events, awaited))


async def _enqueue_async(subject: Subject, events: int, awaited: bool) -> Metrics:
    chunk = min(500, events)
    send, send_async = subject.sender(), subject.sender_async()
    spent = 0
    for number in range(events // chunk + 1):
        begun = time.thread_time_ns()
        if awaited:
            for _ in range(chunk):
                await send_async()
        else:
            for _ in range(chunk):
                send()
        if number:  # the first chunk is the warm-up
            spent += time.thread_time_ns() - begun
        subject.flush()
    return {"cpu_us": spent / (events // chunk * chunk) / 1000}
