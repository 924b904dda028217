"""One measurement of the scenario `middleware`: requests to a service at a fixed rate (open loop)."""

import asyncio
from pathlib import Path
from typing import Final

import anyio

from .model import Case, MeasurementError, Metrics
from .service import cpu_seconds, serving

_REQUEST: Final = (
    b"GET /checkout HTTP/1.1\r\nHost: example.com\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    b"Accept-Language: de-DE,de;q=0.9,en;q=0.8\r\nReferer: https://example.org/\r\n\r\n"
)
_LONGEST: Final = 30.0  # seconds for one answer


def measure_paced(case: Case, python: Path, port: int) -> Metrics:
    """Run the service under a load of a fixed rate.

    Raises:
        MeasurementError: The service failed.
    """
    rate, seconds = int(case.options["rate"]), int(case.options["seconds"])
    more = {"LOADTEST_TRACKING": case.options["tracking"], "LOADTEST_URL": f"http://127.0.0.1:{port}"}
    with serving(case, python, "loadtests.paced_app:app", **more) as (service, own):
        asyncio.run(_Load(own).run(rate, rate))
        load = _Load(own)
        cpu = cpu_seconds(service.pid)
        asyncio.run(load.run(rate, rate * seconds))
        cpu = cpu_seconds(service.pid) - cpu
    if not load.times:
        raise MeasurementError("no request was answered")
    times = sorted(load.times)
    return {
        "requests": len(times),
        "errors": load.errors,
        "cpu_us": cpu / len(times) * 1e6,
        "p50_ms": times[len(times) // 2] * 1e3,
        "p99_ms": times[len(times) * 99 // 100] * 1e3,
    }


class _Load:
    """Requests at a fixed rate. One that is due never waits for the answers to others."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.times: list[float] = []
        self.errors = 0

    async def run(self, rate: int, requests: int) -> None:
        """Make the requests, and wait for their answers."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        running = []
        for number in range(requests):
            due = began + number / rate
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            running.append(loop.create_task(self._request(due)))
        await asyncio.gather(*running)
        for _, writer in self._idle:
            writer.close()

    async def _request(self, due: float) -> None:
        try:
            with anyio.fail_after(_LONGEST):
                while self._idle and self._idle[-1][0].at_eof():
                    self._idle.pop()[1].close()  # the service closed it, as it does after five idle seconds
                reader, writer = self._idle.pop() if self._idle else await self._connection()
                writer.write(_REQUEST)
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
        except (OSError, EOFError, TimeoutError, ValueError):
            self.errors += 1
            return
        self.times.append(asyncio.get_running_loop().time() - due)
        self.errors += not head.startswith(b"HTTP/1.1 200")
        self._idle.append((reader, writer))

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port)
