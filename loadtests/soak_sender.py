"""The sender of the soak test: threads and an event loop send numbered events at a steady rate."""

import asyncio
import ctypes
import json
import logging
import sys
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import umami
from umami.models import ErrorReport

from .soak_lines import serve

BATCHED_THREADS: Final = 3
WORKERS: Final = BATCHED_THREADS + 3  # and an event loop; and one thread for each other server
OTHERS_SHARE: Final = 0.1
"""The part of the events that each of the other servers gets: they take them one by one."""
SITE: Final = "978435e2-7ba1-4337-9860-ec31ece2db60"

# Every 25th event of a worker comes from a crawler. Others name browsers; one of them is unusual.
_EVERY: Final = 25
_AGENTS: Final = {
    0: "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    1: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    2: "Opera/9.80 (Windows NT 6.1; WOW64) Presto/2.12.388 Version/12.18",
}


def is_crawlers(number: int) -> bool:
    """Tell whether an event's User-Agent is a crawler's, so that Umami drops the event."""
    return number // WORKERS % _EVERY == 0


@dataclass
class Worker:
    """One source of events. It sends those with the numbers `number`, `number + WORKERS`, and so on.

    Attributes:
        number: Its number.
        client: The client to send with.
        server: The index of the client's server.
        rate: Events per second.
        sent: How many events it has sent.
        refused: The numbers of the events that were not queued.
        slowest: The duration of the slowest send, in seconds.
        error: The error that ended it, if any.
    """

    number: int
    client: umami.Client
    server: int
    rate: float
    sent: int = 0
    refused: "array[int]" = field(default_factory=lambda: array("Q"))
    slowest: float = 0.0
    error: str | None = None

    def run(self, seconds: float) -> None:
        """Send for so many seconds."""
        self._guarded(self._run, seconds)

    def run_async(self, seconds: float) -> None:
        """Send from an event loop for so many seconds."""
        self._guarded(lambda seconds: asyncio.run(self._run_async(seconds)), seconds)

    def _guarded(self, run: Callable[[float], object], seconds: float) -> None:
        try:
            run(seconds)
        except Exception as error:  # noqa: BLE001 - reported by a check: no send may raise
            self.error = repr(error)

    def _run(self, seconds: float) -> None:
        started = time.monotonic()
        while self._due() < seconds:
            time.sleep(self._pause(started))
            before = time.monotonic()
            self._count(self.client.new_event("soak", **self._event()), before)

    async def _run_async(self, seconds: float) -> None:
        started = time.monotonic()
        while self._due() < seconds:
            await asyncio.sleep(self._pause(started))
            before = time.monotonic()
            self._count(await self.client.new_event_async("soak", **self._event()), before)

    def _due(self) -> float:
        return self.sent / self.rate

    def _pause(self, started: float) -> float:
        return max(0.0, started + self._due() - time.monotonic())

    def _next(self) -> int:
        return self.number + self.sent * WORKERS

    def _event(self) -> dict[str, Any]:
        number = self._next()
        agent = _AGENTS.get(number // WORKERS % _EVERY)
        return {
            "url": f"/soak/{number}",
            "custom_data": {"plan": "pro", "price": 19.99, "items": 3},
            **({} if agent is None else {"ua": agent}),
        }

    def _count(self, answer: Any, before: float) -> None:
        self.slowest = max(self.slowest, time.monotonic() - before)
        if not answer["queued"]:
            self.refused.append(self._next())
        self.sent += 1


class Sender:
    """All workers and their clients.

    Args:
        task: Its task: URLs, settings, seconds and rate.
    """

    def __init__(self, task: dict[str, Any]) -> None:
        self.seconds: float = task["seconds"]
        self.reported: Counter[str] = Counter()
        self.clients = [
            umami.Client(
                url_base=url,
                website_id=SITE,
                hostname="example.com",
                on_error=self._on_error,
                **task["settings"],
            )
            for url in task["urls"]
        ]
        batched, *others = self.clients
        sources = WORKERS - len(others)
        rate = task["rate"] * (1 - OTHERS_SHARE * len(others)) / sources
        self.workers = [Worker(number, batched, 0, rate) for number in range(sources)]
        for server, client in enumerate(others, 1):
            number = len(self.workers)
            self.workers.append(Worker(number, client, server, task["rate"] * OTHERS_SHARE))
        self.threads: list[threading.Thread] = []

    def _on_error(self, report: ErrorReport) -> None:
        self.reported[f"{report.kind} {report.reason}"] += report.count

    def start(self) -> None:
        """Start sending."""
        for worker in self.workers:
            run = worker.run_async if worker.number == BATCHED_THREADS else worker.run
            thread = threading.Thread(target=run, args=(self.seconds,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def stats(self) -> list[dict[str, Any]]:
        """Return the counts of each client."""
        return [client.queue_stats().model_dump() for client in self.clients]

    def is_sending(self) -> bool:
        """Tell whether any worker is still sending."""
        return any(thread.is_alive() for thread in self.threads)

    def flush(self) -> list[bool]:
        """Flush each client, and return which flushes settled everything."""
        return [client.flush(timeout=120) for client in self.clients]

    def memory(self) -> dict[str, int]:
        """Return what is allocated, without what this program keeps of its own."""
        own = sum(worker.refused.buffer_info()[1] * worker.refused.itemsize for worker in self.workers)
        found = memory()
        return {**found, "used": found["used"] - own}

    def sent(self) -> list[dict[str, Any]]:
        """Return what each worker has sent."""
        fields = ("number", "server", "sent", "refused", "slowest", "error")
        return [
            {name: list(worker.refused) if name == "refused" else getattr(worker, name) for name in fields}
            for worker in self.workers
        ]


class _Mallinfo2(ctypes.Structure):
    _fields_ = tuple((f"field{number}", ctypes.c_size_t) for number in range(10))


def memory() -> dict[str, int]:
    """Return what is allocated: the bytes from malloc, and the number of Python's small objects."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Mallinfo2
    info = mallinfo2()
    mapped, allocated = info.field4, info.field7  # hblkhd, uordblks
    return {"used": mapped + allocated, "objects": sys.getallocatedblocks()}


def main() -> None:
    """Run the task in the argument, until standard input ends."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s")
    sender = Sender(json.loads(sys.argv[1]))
    serve(
        {
            "start": sender.start,
            "is_sending": sender.is_sending,
            "stats": sender.stats,
            "flush": sender.flush,
            "sent": sender.sent,
            "memory": sender.memory,
            "reported": lambda: dict(sender.reported),
        }
    )


if __name__ == "__main__":
    main()
