"""The end of a process: queued events are delivered or reported as lost, and the exit code stays the same."""

import os
import re
import shutil
import signal
import socket
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from subprocess import CompletedProcess

import pytest
from conftest import SITE, reserved
from process_helpers import finished, once, running, settings
from queue_helpers import NEVER, stored

from umami.collector import Collector

Run = Callable[..., CompletedProcess[str]]

Record = Callable[[str, object], None]
SLACK = 10.0
"""Seconds that a loaded machine may take for what is measured in milliseconds."""

TRACEBACK = r"Traceback \(most recent call last\):\n(  .*\n)+"
LOST = re.compile(
    r"^(?:The process ends|SIGTERM takes effect) with (\d+) events? not delivered\.", re.MULTILINE
)
THOUSAND = once(*(f"e{number}" for number in range(1000)))


ENDINGS = {
    "the last line": ("", 0, ""),
    "sys.exit": ("import sys; sys.exit(3)", 3, ""),
    "an exception": ("raise LookupError('the end')", 1, TRACEBACK + "LookupError: the end\n"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", -signal.SIGINT, TRACEBACK + "KeyboardInterrupt\n"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "code", "stderr"), ENDINGS.values(), ids=ENDINGS)
def test_a_thousand_events_survive_the_end(
    collector: Collector,
    python: Run,
    ending: str,
    code: int,
    stderr: str,
    request: pytest.FixtureRequest,
    record_property: Record,
):
    program = f"""
        import atexit, time
        atexit.register(lambda: print(time.monotonic() - ended))
        import umami
        umami.new_event("e0")
        umami.flush()
        for number in range(1, 1000):
            umami.new_event(f"e{{number}}")
        ended = time.monotonic()
        {ending}
    """

    process = python(program, **settings(collector))

    assert stored(collector) == THOUSAND
    assert process.returncode == code
    assert re.fullmatch(stderr, process.stderr), process.stderr
    ending = request.node.callspec.id
    record_property(f"exit code after {ending}", process.returncode)
    record_property(f"seconds of flushing after {ending}", float(process.stdout))


OTHER_WAYS = {
    "asyncio": """
        import asyncio, umami

        async def main():
            for number in range(100):
                await umami.new_event_async(f"e{number}")

        asyncio.run(main())
    """,
    "asyncio, cancelled": """
        import asyncio, umami

        async def main():
            asyncio.current_task().cancel()
            for number in range(100):
                await umami.new_event_async(f"e{number}")

        asyncio.run(main())
    """,
    "a thread that outlives the main one": """
        import threading, umami

        def work():
            threading.main_thread().join()
            for number in range(100):
                umami.new_event(f"e{number}")

        threading.Thread(target=work).start()
    """,
    "a thread that flushes after the main one's end": """
        import threading, umami

        def work():
            threading.main_thread().join()
            for number in range(99):
                umami.new_event(f"e{number}")
            assert umami.flush()
            assert umami.queue_stats().delivered == 99
            umami.new_event("e99")

        threading.Thread(target=work).start()
    """,
    "a pool of threads": """
        import concurrent.futures, umami

        executor = concurrent.futures.ThreadPoolExecutor(8)
        for number in range(100):
            executor.submit(umami.new_event, f"e{number}")
    """,
    "after a shutdown": """
        import umami

        for number in range(50):
            umami.new_event(f"e{number}")
        umami.shutdown()
        for number in range(50, 100):
            umami.new_event(f"e{number}")
    """,
    "two clients": """
        import umami

        clients = [umami.Client(), umami.Client()]
        for number in range(100):
            clients[number % 2].new_event(f"e{number}")
    """,
}


@pytest.mark.slow
@pytest.mark.parametrize("program", OTHER_WAYS.values(), ids=OTHER_WAYS)
def test_it_matters_not_who_sends_and_ends(collector: Collector, python: Run, program: str):
    process = python(program, **settings(collector))

    assert stored(collector) == once(*(f"e{number}" for number in range(100)))
    assert "asyncio.current_task().cancel()" in program or (process.returncode, process.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_server_that_is_first_named_in_an_exit_handler(collector: Collector, python: Run, when: str):
    program = f"""
        import atexit

        def last():
            umami.configure(url_base={collector.url!r}, website_id={SITE!r}, hostname="example.com")
            umami.new_event("only")

        when = {when!r}
        when == "before" and atexit.register(last)
        import umami
        when == "after" and atexit.register(last)
    """

    process = python(program)

    assert stored(collector) == once("only")
    assert (process.returncode, process.stderr) == (0, "")


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("orders", "earlier"),
    [
        ("before", ""),
        ("after", ""),
        ("before, after", EARLIER["after others"]),
        ("before, after", EARLIER["after a flush"]),
    ],
)
def test_events_from_an_exit_handler(collector: Collector, python: Run, orders: str, earlier: str):
    program = f"""
        import atexit

        def say_goodbye(order):
            for number in range(60):
                assert umami.new_event(f"{{order}} {{number}}") == {{"queued": True}}

        orders = {orders.split(", ")}
        "before" in orders and atexit.register(say_goodbye, "before")
        import umami
        "after" in orders and atexit.register(say_goodbye, "after")
        {earlier}
    """

    process = python(program, **settings(collector))

    goodbyes = [f"{order} {number}" for order in orders.split(", ") for number in range(60)]
    assert stored(collector) == once(*goodbyes, *(["earlier"] if earlier else []))
    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("earlier", EARLIER.values(), ids=EARLIER)
def test_an_event_from_a_finalizer_at_shutdown(collector: Collector, python: Run, earlier: str):
    program = f"""
        import umami

        class Last:
            def __del__(self, umami=umami):
                print(umami.new_event("last"))

        last = Last()
        in_a_cycle = Last()
        in_a_cycle.itself = in_a_cycle
        {earlier}
    """

    process = python(program, **settings(collector))

    # Nothing can be imported by then, and so nothing sent; but it is counted and said.
    assert stored(collector) == once(*(["earlier"] if earlier else []))
    assert process.returncode == 0
    assert process.stdout == "{'queued': False, 'reason': 'shutdown'}\n" * 2
    assert (
        process.stderr
        == "1 event dropped (shutdown). Sent when the process was ending; more are not logged.\n"
    )


@pytest.mark.slow
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
    assert re.fullmatch(r"(\d+ events? dropped \(shutdown\)\. .*\n){0,2}", process.stderr)


# A server that is away.


@contextmanager
def refusing() -> Iterator[int]:
    """A port that is taken, and where nobody listens."""
    with reserved() as holder:
        yield holder.getsockname()[1]


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


@pytest.mark.slow
@pytest.mark.parametrize("away", AWAY)
def test_a_dead_server_delays_the_end_by_the_timeout_and_no_more(
    python: Run, away: Callable, record_property: Record
):
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
    record_property(
        f"seconds to the end, with a shutdown_timeout of 1 ({away.__name__})",
        float(process.stdout),
    )


@pytest.mark.slow
@pytest.mark.parametrize("away", [refusing, frozen])
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


@pytest.mark.slow
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


@pytest.mark.slow
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


# SIGTERM, for those who ask.

WAITS = {
    "sleeps": "time.sleep(600)",
    "computes": "while True: pass",
    "waits for a lock": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "waits for a thread": "sleeper.start(); sleeper.join()",
    "runs an event loop": "asyncio.run(asyncio.sleep(600))",
    "holds the agent's lock": "[umami.queue_stats() for _ in iter(int, 1)]",
}


@pytest.mark.slow
@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_sigterm_flushes_and_then_kills(collector: Collector, wait: str):
    program = f"""
import asyncio, threading, time, umami
umami.configure(flush_on_sigterm=True)
umami.new_event("pending")
sleeper = threading.Thread(target=time.sleep, args=(600,), daemon=True)
print("ready", flush=True)
{wait}
"""

    with running("-c", program, **settings(collector, flush_interval=600)) as child:
        assert child.line() == "ready"
        child.terminate()
        assert child.end() == -signal.SIGTERM

    assert stored(collector) == once("pending")
    assert child.stderr == ""


def may_unshare() -> bool:
    command = ["unshare", "--pid", "--fork", "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, check=False).returncode == 0


@pytest.mark.slow
def test_sigterm_ends_the_first_process_of_a_container_too(collector: Collector):
    if not may_unshare():
        pytest.skip("this user may not make a namespace of processes")
    program = """
        import os, time, umami
        umami.configure(flush_on_sigterm=True)
        umami.new_event("pending")
        assert os.getpid() == 1  # for which the kernel ignores the default action of a signal
        print("ready", flush=True)
        while True:
            time.sleep(0.01)
    """
    nested = """
        import subprocess, sys
        with subprocess.Popen(["unshare", "--pid", "--fork", sys.executable, "-c", sys.argv[1]]) as unshare:
            children = lambda: open(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read()
            while not (child := children()):
                pass
            print(int(child), flush=True)
            print("ended by", unshare.wait())
    """

    with running("-c", nested, textwrap.dedent(program), **settings(collector, flush_interval=600)) as child:
        first = int(child.line())
        assert child.line() == "ready"
        os.kill(first, signal.SIGTERM)
        assert child.line() == "ended by 143"
        child.end()

    assert child.stderr == ""
    assert stored(collector) == once("pending")


@pytest.mark.slow
def test_sigterm_in_the_middle_of_a_flush(python: Run):
    program = """
        import umami
        umami.new_event("lost")
        print("flushing", flush=True)
        umami.flush()
    """

    asked = {"flush_on_sigterm": 1, "shutdown_timeout": 1}
    with frozen() as server, running("-c", program, **settings(server, **asked)) as child:
        assert child.line() == "flushing"
        server.wait_for(requests=1)
        began = time.monotonic()
        child.process.send_signal(signal.SIGTERM)
        assert child.end() == -signal.SIGTERM
        assert time.monotonic() - began < 1 + SLACK
        assert LOST.findall(child.stderr) == ["1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("handler", "code", "output"),
    [
        ("lambda *_: print(umami.queue_stats().delivered) or arrived.set()", 0, "1\n"),
        ("lambda *_: sys.exit(umami.queue_stats().delivered + 4)", 5, ""),
        ("signal.SIG_IGN", 0, ""),
    ],
    ids=["a function", "a function that exits", "ignored"],
)
def test_sigterm_flushes_and_then_has_its_former_effect(
    collector: Collector, python: Run, handler: str, code: int, output: str
):
    ignored = handler == "signal.SIG_IGN"
    program = f"""
        import os, signal, sys, threading, umami
        arrived = threading.Event()
        signal.signal(signal.SIGTERM, {handler})
        umami.configure(flush_on_sigterm=True)
        umami.new_event("pending")
        os.kill(os.getpid(), signal.SIGTERM)
        {"umami.flush()" if ignored else "arrived.wait()"}
    """

    process = python(program, **settings(collector, flush_interval=600))

    assert stored(collector) == once("pending")
    assert (process.returncode, process.stdout, process.stderr) == (code, output, "")


@pytest.mark.slow
def test_sigterm_is_not_touched_unasked(collector: Collector, python: Run):
    program = """
        import os, signal, umami
        umami.new_event("pending")
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)
    """

    process = python(program, **settings(collector, flush_interval=600))

    assert process.returncode == -signal.SIGTERM
    assert not collector.events


@pytest.mark.slow
def test_sigterm_is_given_back(python: Run):
    program = """
        import signal, umami
        handler = lambda *_: None
        signal.signal(signal.SIGTERM, handler)
        other = umami.Client(flush_on_sigterm=True)
        umami.configure(flush_on_sigterm=True)
        assert signal.getsignal(signal.SIGTERM) is not handler
        umami.configure(flush_on_sigterm=False)
        assert signal.getsignal(signal.SIGTERM) is not handler
        other.configure(flush_on_sigterm=False)
        assert signal.getsignal(signal.SIGTERM) is handler
    """

    process = python(program)

    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.slow
def test_only_the_main_thread_can_ask_for_sigterm(python: Run):
    program = """
        import signal, threading, umami

        def ask():
            try:
                umami.configure(flush_on_sigterm=True, batch_size=7)
            except umami.errors.ValidationError as error:
                print(error)

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        umami.configure(flush_on_sigterm=True)
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    """

    process = python(program)

    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.startswith("flush_on_sigterm must be set in the main thread")
    assert process.stdout.count("\n") == 1


@pytest.mark.slow
def test_the_variable_says_when_it_comes_to_nothing(collector: Collector, python: Run):
    program = """
        import threading, umami
        thread = threading.Thread(target=umami.new_event, args=("e0",))
        thread.start()
        thread.join()
    """

    process = python(program, **settings(collector, flush_on_sigterm=1))

    assert stored(collector) == once("e0")
    assert process.returncode == 0
    assert re.fullmatch(r"UMAMI_FLUSH_ON_SIGTERM has no effect here: .* main thread .*\n", process.stderr)


@pytest.mark.slow
def test_a_signal_is_not_lost_on_a_system_call_that_just_begins(collector: Collector, python: Run):
    program = """
        import os, signal, time, umami

        class Woken(Exception):
            pass

        def wake(*_):
            raise Woken

        signal.signal(signal.SIGTERM, wake)
        umami.configure(flush_on_sigterm=True)
        umami.new_event("delivered")
        umami.flush()
        for _ in range(500):
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                # With nothing to flush, the signal is raised again in just this moment.
                time.sleep(600)
            except Woken:
                continue
    """

    process = python(program, **settings(collector))

    assert (process.returncode, process.stderr) == (0, "")
    assert stored(collector) == once("delivered")


@pytest.mark.slow
def test_five_hundred_signals_at_random_moments(collector: Collector, python: Run, record_property: Record):
    program = """
        import os, random, signal, sys, threading, time, umami

        handled = []
        signal.signal(signal.SIGTERM, lambda *_: handled.append(1))
        umami.configure(flush_on_sigterm=True)

        def bombard():
            moments = random.Random(3)
            for _ in range(500):
                time.sleep(moments.uniform(0, 0.004))
                os.kill(os.getpid(), signal.SIGTERM)

        def send(sender):
            number = 0
            while bomber.is_alive():
                assert umami.new_event(f"{sender}-{number}") == {"queued": True}
                number += 1
                if number % 50 == 0:
                    umami.flush()
                    umami.queue_stats()
            sent[sender] = number

        sent = {}
        bomber = threading.Thread(target=bombard)
        bomber.start()
        others = [threading.Thread(target=send, args=(sender,)) for sender in (1, 2)]
        for other in others:
            other.start()
        send(0)
        for other in others:
            other.join()
        print(sum(sent.values()), len(handled))
    """

    process = python(program, **settings(collector))

    assert (process.returncode, process.stderr) == (0, "")
    sent, handled = map(int, process.stdout.split())
    delivered = stored(collector)
    assert len(delivered) == delivered.total() == sent
    assert handled  # many come while one is still to be handled, the more the busier the machine is
    record_property("signals handled", handled)
    record_property("events delivered meanwhile, each once", sent)


@pytest.mark.slow
def test_an_exit_while_another_thread_makes_clients_flushes(collector: Collector) -> None:
    run = finished(
        "-c",
        """
        import atexit, sys, threading, time

        ended = threading.Event()
        kept = []

        def stop() -> None:
            ended.set()
            thread.join()

        atexit.register(stop)  # what is registered first is called last

        import umami

        def make() -> None:
            client = umami.Client(hostname="example.com")
            client.queue_stats()
            kept.append(client)

        def keep_making() -> None:
            while not ended.is_set():
                make()

        for _ in range(3000):
            make()
        umami.new_event("last")
        thread = threading.Thread(target=keep_making, daemon=True)
        thread.start()
        sys.setswitchinterval(1e-6)
        time.sleep(0.02)
        """,
        **settings(collector, flush_interval=NEVER),
    )
    assert run.returncode == 0
    assert "umami" not in run.stderr  # `weakref` itself may fail: a thread adds finalizers as it runs them
    assert stored(collector) == once("last")


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before the end", "in an exit handler"])
def test_a_resolver_that_hangs_holds_up_the_end_no_longer_than_it_may(moment: str) -> None:
    send = 'umami.new_event("lost")'
    program = f"""
    import atexit, os, socket, threading, time
    atexit.register(lambda: print(time.monotonic() - ended))
    real = socket.getaddrinfo

    def hang(host, *args, **kwargs):
        if host in ("analytics.example.com", b"analytics.example.com"):
            threading.Event().wait(20)
        return real(host, *args, **kwargs)

    socket.getaddrinfo = hang
    import umami
    umami.configure(url_base="http://analytics.example.com")
    {send if moment == "before the end" else f"atexit.register(lambda: {send})"}
    ended = time.monotonic()
    """
    run = finished("-c", program, **settings(9, shutdown_timeout=1))
    assert run.returncode == 0, run.stderr
    assert 1 <= float(run.stdout) < 15
    assert "ends with 1 event not delivered" in run.stderr
