"""The server of each measurement, in a process of its own. It is plain asyncio, which takes little CPU time.

It answers each client as that client expects. It counts events by a text that each event contains once.
`/stats` returns its counts, and how much of a core it used. It ends with its parent.
"""

import argparse
import asyncio
import gzip
import json
import random
import sys
import time
import zlib
from dataclasses import dataclass
from typing import Any, Final

MARK: Final = b"SPRING-24"
"""A text that the typical event contains once, in the encoding of any client."""

_MARKS: Final = {
    b"/api/batch": b'"type":"event"',
    b"/com.snowplowanalytics": b'"eid"',  # its custom data is base64
}
_CACHE: Final = "x" * 307  # as long as Umami's own token
_STORED: Final = json.dumps({"cache": _CACHE, "sessionId": "0" * 36, "visitId": "0" * 36}).encode()
_STATSIG_RULES: Final = json.dumps(
    {"has_updates": True, "time": 1, "feature_gates": [], "dynamic_configs": [], "layer_configs": []}
).encode()
_SEED: Final = 4


@dataclass(frozen=True)
class Behaviour:
    """How the server answers.

    Attributes:
        latency: Seconds before each answer. batched: Whether there is `/api/batch`. silent: Whether events
        get no answer. item_seconds: The least and the most seconds for one item. Items take them one after
        another, as in Umami. share: The part of that time in which the server's only processor is busy.
    """

    latency: float = 0.0
    batched: bool = True
    silent: bool = False
    item_seconds: tuple[float, float] = (0.0, 0.0)
    share: float = 0.67


class Sink:
    """The state that connections share: counts, times, and the server's only processor."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.loop = asyncio.get_running_loop()
        self.dice = random.Random(_SEED)
        self.processor_free = 0.0
        self.busy = 0
        self.events = self.requests = self.bytes = self.connections = self.most_busy = 0
        self.began = self.ended = self.began_cpu = self.ended_cpu = 0.0

    def stats(self) -> dict[str, float]:
        """Return the counts, and how much of a core the sink used from the first event to the last answer."""
        seconds = self.ended - self.began
        return {
            "events": self.events,
            "requests": self.requests,
            "bytes": self.bytes,
            "connections": self.connections,
            "most_busy": self.most_busy,
            "seconds": seconds,
            "cpu_share": (self.ended_cpu - self.began_cpu) / seconds if seconds > 0 else 0.0,
        }

    def admit(self, events: int, size: int) -> None:
        """Count a request that carries events."""
        if not self.requests:
            self.began, self.began_cpu = time.monotonic(), time.process_time()
        self.requests += 1
        self.bytes += size
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        self.events += events

    def answered(self) -> None:
        """Count a request as answered."""
        self.busy -= 1
        self.ended, self.ended_cpu = time.monotonic(), time.process_time()

    async def store(self, events: int) -> None:
        """Take as long as a real Umami: item after item, with one processor for all connections."""
        ready = self.loop.time()
        for _ in range(events):
            seconds = self.dice.uniform(*self.behaviour.item_seconds)
            start = max(ready, self.processor_free)
            self.processor_free = start + seconds * self.behaviour.share
            ready = start + seconds
            await asyncio.sleep(ready - self.loop.time())


class Connection(asyncio.Protocol):
    """One client's connection: requests with a Content-Length, one after another."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.received = bytearray()
        self.wanted = 0  # the size of the current request; 0 until its head is complete
        self.head_size = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Collect the bytes of a request, and handle it when it is complete."""
        self.received += data
        while self.received:
            if not self.wanted:
                self.head_size = self.received.find(b"\r\n\r\n") + 4
                if self.head_size < 4:
                    return
                length = _header(bytes(self.received[: self.head_size]).lower(), b"content-length")
                self.wanted = self.head_size + int(length or 0)
            if len(self.received) < self.wanted:
                return
            head, body = (
                bytes(self.received[: self.head_size]),
                bytes(self.received[self.head_size : self.wanted]),
            )
            del self.received[: self.wanted]
            self.wanted = 0
            self.handle(head, body)

    def handle(self, head: bytes, body: bytes) -> None:
        """Count one request and answer it."""
        sink, behaviour = self.sink, self.sink.behaviour
        method, path, _ = head.split(b" ", 2)
        if path == b"/stats":
            return self.answer(json.dumps(sink.stats()).encode())
        if path == b"/api/batch" and not behaviour.batched:
            return self.answer(b"{}", b"405 Method Not Allowed")
        if method != b"POST" or path.startswith((b"/v1/get_id_lists", b"/v1/sdk_exception")):
            return self.answer(_STATSIG_RULES if b"download_config_specs" in path else b"{}")
        count = 1 if path == b"/api/send" else _count(path, head, body)
        sink.admit(count, len(body))
        sink.connections += not self.counted
        self.counted = True
        if behaviour.silent:
            return None
        reply = _reply(path, count)
        if behaviour.item_seconds[1]:
            task = sink.loop.create_task(self.answer_slowly(count, reply))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        elif behaviour.latency:
            sink.loop.call_later(behaviour.latency, self.settle, reply)
        else:
            self.settle(reply)
        return None

    async def answer_slowly(self, count: int, reply: bytes) -> None:
        """Store the items, then answer."""
        await self.sink.store(count)
        self.settle(reply)

    def settle(self, reply: bytes) -> None:
        """Answer a request that carried events."""
        self.answer(reply)
        self.sink.answered()

    def answer(self, body: bytes, status: bytes = b"200 OK") -> None:
        """Write one response."""
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (status, len(body), body)
            )


def _header(head: bytes, name: bytes) -> bytes:
    return head.partition(b"\r\n" + name + b":")[2].partition(b"\r\n")[0].strip()


def _count(path: bytes, head: bytes, body: bytes) -> int:
    encoding = _header(head.lower(), b"content-encoding")
    if encoding == b"gzip":
        body = gzip.decompress(body)
    elif encoding == b"deflate":
        body = zlib.decompress(body)
    mark = next((mark for start, mark in _MARKS.items() if path.startswith(start)), MARK)
    return body.count(mark)


def _reply(path: bytes, count: int) -> bytes:
    if path == b"/api/batch":
        return b'{"size":%d,"processed":%d,"errors":0,"details":[],"cache":"%b"}' % (
            count,
            count,
            _CACHE.encode(),
        )
    if path == b"/api/send":
        return _STORED
    return b"" if path == b"/v1/logs" else b'{"success":true,"status":1}'


async def serve(behaviour: Behaviour) -> None:
    """Serve on a free port, print it, and end when standard input ends."""
    loop = asyncio.get_running_loop()
    sink = Sink(behaviour)
    server = await loop.create_server(lambda: Connection(sink), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    parent = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(parent), sys.stdin)
    await parent.read()


def main() -> None:
    """Run the sink."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("behaviour", type=json.loads, help="the fields of Behaviour, as JSON")
    asyncio.run(serve(Behaviour(**parser.parse_args().behaviour)))


if __name__ == "__main__":
    main()
