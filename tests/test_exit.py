"""The ends of a process: what was queued is delivered, or said to be lost, and the exit is as it was."""

import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from subprocess import CompletedProcess

import pytest
from process_helpers import once, running, settings, stored

from umami.collector import Collector

Run = Callable[..., CompletedProcess[str]]

SLACK = 10.0
"""Seconds that a loaded machine may take for what is measured in milliseconds."""

TRACEBACK = r"Traceback \(most recent call last\):\n(  .*\n)+"
LOST = re.compile(r"^The process ends with (\d+) events? not delivered\.", re.MULTILINE)
THOUSAND = once(*(f"e{number}" for number in range(1000)))


ENDINGS = {
    "the last line": ("", 0, ""),
    "sys.exit": ("import sys; sys.exit(3)", 3, ""),
    "an exception": ("raise LookupError('the end')", 1, TRACEBACK + "LookupError: the end\n"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", -signal.SIGINT, TRACEBACK + "KeyboardInterrupt\n"),
}


@pytest.mark.parametrize(("ending", "code", "stderr"), ENDINGS.values(), ids=ENDINGS)
def test_a_thousand_events_survive_the_end(
    collector: Collector, python: Run, ending: str, code: int, stderr: str
):
    program = f"""
        import umami
        umami.new_event("e0")
        umami.flush()
        for number in range(1, 1000):
            umami.new_event(f"e{{number}}")
        {ending}
    """

    process = python(program, **settings(collector))

    assert stored(collector) == THOUSAND
    assert process.returncode == code
    assert re.fullmatch(stderr, process.stderr), process.stderr


OTHER_WAYS = {
    "asyncio": """
        import asyncio, umami

        async def main():
            for number in range(1000):
                await umami.new_event_async(f"e{number}")

        asyncio.run(main())
    """,
    "asyncio, cancelled": """
        import asyncio, umami

        async def main():
            asyncio.current_task().cancel()
            for number in range(1000):
                await umami.new_event_async(f"e{number}")

        asyncio.run(main())
    """,
    "a thread that outlives the main one": """
        import threading, umami

        def work():
            threading.main_thread().join()
            for number in range(1000):
                umami.new_event(f"e{number}")

        threading.Thread(target=work).start()
    """,
    "a thread that flushes after the main one's end": """
        import threading, umami

        def work():
            threading.main_thread().join()
            for number in range(999):
                umami.new_event(f"e{number}")
            assert umami.flush()
            assert umami.queue_stats().delivered == 999
            umami.new_event("e999")

        threading.Thread(target=work).start()
    """,
    "a pool of threads": """
        import concurrent.futures, umami

        executor = concurrent.futures.ThreadPoolExecutor(8)
        for number in range(1000):
            executor.submit(umami.new_event, f"e{number}")
    """,
    "after a shutdown": """
        import umami

        for number in range(500):
            umami.new_event(f"e{number}")
        umami.shutdown()
        for number in range(500, 1000):
            umami.new_event(f"e{number}")
    """,
    "two clients": """
        import umami

        clients = [umami.Client(), umami.Client()]
        for number in range(1000):
            clients[number % 2].new_event(f"e{number}")
    """,
}


@pytest.mark.parametrize("program", OTHER_WAYS.values(), ids=OTHER_WAYS)
def test_it_matters_not_who_sends_and_ends(collector: Collector, python: Run, program: str):
    process = python(program, **settings(collector))

    assert stored(collector) == THOUSAND
    assert "asyncio.current_task().cancel()" in program or (process.returncode, process.stderr) == (0, "")


def test_one_event_and_the_immediate_end(collector: Collector, python: Run):
    process = python('import umami; umami.new_event("only")', **settings(collector))

    assert stored(collector) == once("only")
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


# Events sent while the process ends.

EARLIER = {
    "first ever": "",
    "after others": 'umami.new_event("earlier")',
    "after a flush": 'umami.new_event("earlier"); umami.flush()',
}


@pytest.mark.parametrize("count", [1, 60])
@pytest.mark.parametrize("earlier", EARLIER.values(), ids=EARLIER)
@pytest.mark.parametrize("order", ["before", "after"])
def test_events_from_an_exit_handler(collector: Collector, python: Run, order: str, earlier: str, count: int):
    register = "atexit.register(say_goodbye)"
    program = f"""
        import atexit

        def say_goodbye():
            for number in range({count}):
                assert umami.new_event(f"goodbye{{number}}") == {{"queued": True}}

        {register if order == "before" else ""}
        import umami
        {register if order == "after" else ""}
        {earlier}
    """

    process = python(program, **settings(collector))

    goodbyes = [f"goodbye{number}" for number in range(count)]
    assert stored(collector) == once(*goodbyes, *(["earlier"] if earlier else []))
    assert (process.returncode, process.stderr) == (0, "")


def test_a_client_made_by_an_exit_handler(collector: Collector, python: Run):
    program = """
        import atexit
        atexit.register(lambda: umami.Client().new_event("goodbye"))
        import umami
        umami.new_event("earlier")
    """

    process = python(program, **settings(collector))

    assert stored(collector) == once("earlier", "goodbye")
    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.parametrize("earlier", EARLIER.values(), ids=EARLIER)
@pytest.mark.parametrize("where", ["last = Last()", "last = Last(); last.itself = last"])
def test_an_event_from_a_finalizer_at_shutdown(collector: Collector, python: Run, where: str, earlier: str):
    program = f"""
        import umami

        class Last:
            def __del__(self, umami=umami):
                print(umami.new_event("last"))

        {where}
        {earlier}
    """

    process = python(program, **settings(collector))

    # Nothing can be imported by then, and so nothing sent; but it is counted and said.
    assert stored(collector) == once(*(["earlier"] if earlier else []))
    assert process.returncode == 0
    assert process.stdout == "{'queued': False, 'reason': 'shutdown'}\n"
    assert process.stderr == "1 event dropped (shutdown). Sent when the process was ending.\n"


def test_a_daemon_thread_that_goes_on_sending(collector: Collector, python: Run):
    program = """
        import os, threading, umami

        def send():
            number = 0
            while True:
                answer = umami.new_event(f"e{number}")
                os.write(1, f"{answer['queued']} e{number}\\n".encode())
                number += 1
                if number == 200:
                    going.set()

        going = threading.Event()
        threading.Thread(target=send, daemon=True).start()
        going.wait()
    """

    process = python(program, **settings(collector))

    lines = [line.split() for line in process.stdout.splitlines()]
    taken = {name for answer, name in lines if answer == "True"}
    refused = {name for answer, name in lines if answer == "False"}
    delivered = stored(collector)
    assert len(taken) >= 200
    assert set(delivered.values()) == {1}
    assert taken <= set(delivered)
    assert not refused & set(delivered)
    assert process.returncode == 0
    assert re.fullmatch(r"(\d+ events? dropped \(shutdown\)\. .*\n)?", process.stderr)


# A server that is away.


@contextmanager
def refusing() -> Iterator[int]:
    """A port that is taken, and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def blackholed() -> Iterator[int]:
    """A port whose packets are dropped: the queue of the listener is full."""
    with socket.socket() as listener, ExitStack() as callers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            caller = callers.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@contextmanager
def frozen() -> Iterator[Collector]:
    with Collector() as collector:
        collector.fail(freeze=True, times=None)
        yield collector


@contextmanager
def failing() -> Iterator[Collector]:
    with Collector() as collector:
        collector.fail(500, times=None)
        yield collector


AWAY = [refusing, blackholed, frozen, failing]


@pytest.mark.parametrize("away", AWAY)
def test_a_dead_server_delays_the_end_by_the_timeout_and_no_more(python: Run, away: Callable):
    program = """
        import atexit, time

        @atexit.register
        def measure():
            print(time.monotonic() - ended)

        import umami

        for number in range(1000):
            umami.new_event(f"e{number}")
        ended = time.monotonic()
    """

    with away() as server:
        process = python(program, **settings(server, shutdown_timeout=1))

    assert process.returncode == 0
    assert float(process.stdout) < 1 + SLACK
    assert LOST.findall(process.stderr) == ["1000"], process.stderr


@pytest.mark.parametrize("away", AWAY)
def test_events_that_an_exit_handler_sends_to_a_dead_server(python: Run, away: Callable):
    program = """
        import atexit, time

        @atexit.register
        def say_goodbye():
            began = time.monotonic()
            assert umami.new_event("goodbye") == {"queued": True}
            for number in range(100):
                assert umami.new_event("goodbye") == {"queued": False, "reason": "shutdown"}
            print(time.monotonic() - began)

        import umami
    """

    with away() as server:
        process = python(program, **settings(server, shutdown_timeout=1))

    assert (process.returncode, float(process.stdout) < 1 + SLACK) == (0, True)
    assert LOST.findall(process.stderr) == ["1"], process.stderr
    assert process.stderr.count("dropped (shutdown)") == 1


def test_an_interrupt_cuts_the_exit_short(python: Run):
    program = """
        import atexit
        atexit.register(lambda: print("bye"))
        import umami
        atexit.register(lambda: print("ending", flush=True))
        umami.new_event("lost")
    """

    with frozen() as server, running("-c", program, **settings(server, shutdown_timeout=600)) as child:
        assert child.line() == "ending"
        server.wait_for(requests=1)
        child.process.send_signal(signal.SIGINT)
        assert child.line() == "bye"
        assert child.end() == 0
        assert LOST.findall(child.stderr) == ["1"]
        assert "Traceback" not in child.stderr


def test_an_interrupt_in_the_middle_of_a_flush(python: Run):
    program = """
        import umami
        umami.new_event("lost")
        print("flushing", flush=True)
        try:
            umami.flush()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """

    with frozen() as server, running("-c", program, **settings(server, shutdown_timeout=0)) as child:
        assert child.line() == "flushing"
        server.wait_for(requests=1)
        began = time.monotonic()
        child.process.send_signal(signal.SIGINT)
        assert child.line() == "interrupted"
        assert time.monotonic() - began < SLACK
        assert child.end() == 0
        assert LOST.findall(child.stderr) == ["1"]
