"""Web servers and task queues: the events of all their processes arrive exactly once."""

import http.client
import os
import re
import signal
import subprocess
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from cloud_proxy import Internet
from conftest import ROOT
from process_helpers import Child, once, running, settings
from queue_helpers import stored

from umami.collector import Collector

pytestmark = pytest.mark.slow

Run = Callable[..., CompletedProcess[str]]

NEVER = 600
"""Seconds between two flushes, where only the end of a process is to flush."""


@contextmanager
def serving(folder: Path, program: str, *command: str, **environment: str) -> Iterator[Child]:
    """Run a module with arguments, or a program, on a module `app`; its log is among its lines."""
    (folder / "app.py").write_text(textwrap.dedent(program))
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(ROOT)])
    # Python warns of a fork beside threads since 3.12.
    environment["PYTHONWARNINGS"] = "ignore:This process:DeprecationWarning"
    run = [] if command[0] == "-c" else ["-m"]
    with running(*run, *command, errors=subprocess.STDOUT, **environment) as child:
        yield child


def get(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def visit(port: int, paths: Iterable[str]) -> set[str]:
    """Make requests, several at a time, and return the different answers."""
    with ThreadPoolExecutor(8) as executor:
        return set(executor.map(lambda path: get(port, path), paths))


WSGI = """
    import os, time, umami

    umami.new_event("preloaded")
    umami.flush()

    def app(environ, start_response):
        umami.new_event(environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/hang":
            time.sleep(600)
        start_response("200 OK", [("Content-Length", "0")])
        return []
"""


def gunicorn(folder: Path, *options: str) -> list[str]:
    config = folder / "gunicorn.conf.py"
    config.write_text("def post_worker_init(worker): worker.log.info('Ready')")
    address = ["--bind=127.0.0.1:0", "--no-control-socket"]
    return ["gunicorn", "app:app", "--preload", f"--config={config}", *address, *options]


@pytest.mark.parametrize("worker", ["sync", "gevent"])
def test_gunicorn_restarted_gracefully(collector: Collector, tmp_path: Path, worker: str):
    command = gunicorn(tmp_path, "--workers=2", f"--worker-class={worker}")
    with serving(tmp_path, WSGI, *command, **settings(collector, flush_interval=NEVER)) as child:
        port = int(child.says(r"Listening at: http://127\.0\.0\.1:(\d+)")[1])
        child.says("Ready", times=2)
        visit(port, (f"/before/{number}" for number in range(30)))
        child.process.send_signal(signal.SIGHUP)
        child.says("Ready", times=2)
        collector.wait_for(events=31)
        visit(port, (f"/after/{number}" for number in range(30)))
        child.process.send_signal(signal.SIGTERM)
        assert child.end() == 0

    visits = [f"/{when}/{number}" for when in ("before", "after") for number in range(30)]
    assert stored(collector) == once("preloaded", *visits)


def test_gunicorn_when_a_worker_hangs(collector: Collector, tmp_path: Path):
    command = gunicorn(tmp_path, "--workers=1", "--timeout=2")
    with serving(tmp_path, WSGI, *command, **settings(collector, flush_interval=NEVER)) as child:
        port = int(child.says(r"Listening at: http://127\.0\.0\.1:(\d+)")[1])
        get(port, "/fine")
        with suppress(http.client.HTTPException, OSError):
            get(port, "/hang")
        child.says("Booting worker")
        collector.wait_for(events=3)
        child.process.send_signal(signal.SIGTERM)
        assert child.end() == 0

    assert stored(collector) == once("preloaded", "/fine", "/hang")


ASGI = """
    import asyncio, umami

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            async with LIFESPAN:
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            if scope["path"] == "/slow":
                print("Stop now", flush=True)
                await asyncio.sleep(0.5)
            await umami.new_event_async(scope["path"])
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})
"""
NO_LIFESPAN = "asyncio.Lock()"

# uvicorn ends by the signal that ended it, and so without the exit handlers of Python.
UVICORN = {
    "the lifespan flushes": (
        1,
        "umami.lifespan()",
        {},
    ),  # with two workers: `integrations/test_real_servers.py`
    "SIGTERM flushes": (2, NO_LIFESPAN, {"flush_on_sigterm": 1}),
}


@pytest.mark.parametrize(("workers", "lifespan", "more"), UVICORN.values(), ids=UVICORN)
def test_uvicorn(collector: Collector, tmp_path: Path, workers: int, lifespan: str, more: dict[str, int]):
    command = ["uvicorn", "app:app", "--port=0", f"--workers={workers}"]
    environment = settings(collector, flush_interval=NEVER, **more)
    with serving(tmp_path, ASGI.replace("LIFESPAN", lifespan), *command, **environment) as child:
        port = int(child.says(r"Uvicorn running on http://127\.0\.0\.1:(\d+)")[1])
        if workers > 1:
            child.says("Application startup complete", times=workers)
        visit(port, (f"/{number}" for number in range(100)))
        with ThreadPoolExecutor(1) as executor:
            slow = executor.submit(get, port, "/slow")
            child.says("Stop now")
            child.process.send_signal(signal.SIGTERM)
            slow.result()
        child.end()
        assert not any("umami.lifespan" in line for line in child.lines())

    assert stored(collector) == once("/slow", *(f"/{number}" for number in range(100)))


def test_uvicorn_in_a_program_that_asked_for_the_flush_before(collector: Collector, tmp_path: Path):
    program = """
        import umami, uvicorn
        from app import app
        umami.configure(flush_on_sigterm=True)  # uvicorn restores that at its end
        uvicorn.run(app, port=0)
    """
    run = ["-c", textwrap.dedent(program)]
    environment = settings(collector, flush_interval=NEVER, flush_on_sigterm=1)
    with serving(tmp_path, ASGI.replace("LIFESPAN", NO_LIFESPAN), *run, **environment) as child:
        port = int(child.says(r"Uvicorn running on http://127\.0\.0\.1:(\d+)")[1])
        get(port, "/")
        child.process.send_signal(signal.SIGTERM)
        child.end()

    assert stored(collector) == once("/")


def test_sigterm_ends_a_program_that_uvicorn_is_only_part_of(collector: Collector, tmp_path: Path):
    program = """
        import asyncio, uvicorn
        from app import app
        async def main():
            await asyncio.gather(uvicorn.Server(uvicorn.Config(app, port=0)).serve(), asyncio.sleep(600))
        asyncio.run(main())
    """
    run = ["-c", textwrap.dedent(program)]
    environment = settings(collector, flush_interval=NEVER, flush_on_sigterm=1)
    with serving(tmp_path, ASGI.replace("LIFESPAN", NO_LIFESPAN), *run, **environment) as child:
        port = int(child.says(r"Uvicorn running on http://127\.0\.0\.1:(\d+)")[1])
        get(port, "/")
        child.process.send_signal(signal.SIGTERM)
        assert child.end() == -signal.SIGTERM

    assert stored(collector) == once("/")


def test_uvicorn_without_any_flush_is_named_once(collector: Collector, tmp_path: Path):
    command = ["uvicorn", "app:app", "--port=0"]
    program = "import umami; umami.new_event('imported')\n" + textwrap.dedent(
        ASGI.replace("LIFESPAN", NO_LIFESPAN)
    )
    with serving(tmp_path, program, *command, **settings(collector, flush_interval=0.05)) as child:
        port = int(child.says(r"Uvicorn running on http://127\.0\.0\.1:(\d+)")[1])
        for number in range(3):
            get(port, f"/{number}")
            collector.wait_for(events=number + 2)
        child.process.send_signal(signal.SIGTERM)
        child.end()
        lines = child.lines()

    assert sum("lifespan=umami.lifespan" in line for line in lines) == 1


def test_uvicorn_without_any_flush_is_named_before_anything_is_sent(collector: Collector, tmp_path: Path):
    command = ["uvicorn", "app:app", "--port=0"]
    app = ASGI.replace("LIFESPAN", NO_LIFESPAN)
    with serving(tmp_path, app, *command, **settings(collector, flush_interval=NEVER)) as child:
        get(int(child.says(r"Uvicorn running on http://127\.0\.0\.1:(\d+)")[1]), "/")
        child.says(r"lifespan=umami\.lifespan")
    assert not collector.events


UWSGI = """
    import os, umami

    umami.new_event("boot")

    def application(environ, start_response):
        umami.new_event(environ["PATH_INFO"])
        flushed = environ["PATH_INFO"] != "/flush" or umami.flush(30)
        start_response("200 OK", [])
        return [b"%d %d" % (os.getpid(), flushed)]
"""


@pytest.mark.parametrize("option", ["--master", "--lazy-apps", "--py-call-uwsgi-fork-hooks"])
def test_uwsgi(collector: Collector, tmp_path: Path, option: str):
    pytest.importorskip("pyuwsgi")
    program = ["--wsgi-file=app.py", f"--chdir={tmp_path}", "--http-socket=127.0.0.1:0"]
    boots = 2 if option == "--lazy-apps" else 1
    options = ["--master", "--processes=2", "--enable-threads", "--die-on-term", option]
    command = ["-c", "import pyuwsgi; pyuwsgi.run()", *program, *options]
    with serving(tmp_path, UWSGI, *command, **settings(collector, flush_interval=0.2)) as child:
        port = int(child.says(r"bound to TCP address 127\.0\.0\.1:(\d+)")[1])
        child.says("spawned uWSGI worker 2")
        workers = set()
        count = 0
        while len(workers) < 2:  # each flushes what it was given
            workers |= visit(port, [f"/{number}" for number in range(count, count + 10)])
            count += 10
        flushed: set[str] = set()
        flushes = 0
        while flushed != workers:
            flushed |= visit(port, ["/flush"])
            flushes += 1
            assert flushed <= workers  # or a flush has failed
        collector.wait_for(events=boots + count + flushes)
        child.process.send_signal(signal.SIGTERM)
        child.end()

    names = Counter({"boot": boots, "/flush": flushes, **once(*(f"/{number}" for number in range(count)))})
    assert stored(collector) == names


# gevent.

PATCHES = {
    "patched first": "from gevent import monkey; monkey.patch_all(); import umami",
    "patched later": "import umami; from gevent import monkey; monkey.patch_all()",
}


@pytest.mark.parametrize("patch", PATCHES.values(), ids=PATCHES)
def test_no_greenlet_stops_the_delivery_and_what_they_send_survives_the_end(
    collector: Collector, python: Run, patch: str
):
    program = f"""
        import atexit; atexit.register(lambda: umami.new_event("goodbye"))
        {patch}
        import gevent

        def block():
            umami.new_event("e0")
            while not umami.queue_stats().delivered:
                pass

        def send(sender):
            for number in range(50):
                umami.new_event(f"{{sender}} {{number}}")
                gevent.sleep(0)

        gevent.spawn(block).join()
        umami.configure(flush_interval={NEVER})
        gevent.joinall([gevent.spawn(send, sender) for sender in range(4)])
        assert umami.flush()
        umami.new_event("last")
    """

    process = python(program, **settings(collector, flush_interval=0.05))

    assert (process.returncode, process.stderr) == (0, "")
    names = [f"{sender} {number}" for sender in range(4) for number in range(50)]
    assert stored(collector) == once("e0", *names, "last", "goodbye")


def test_a_gevent_program_that_sends_its_first_event_from_an_exit_handler(collector: Collector, python: Run):
    program = """
        from gevent import monkey; monkey.patch_all()
        import atexit
        atexit.register(lambda: umami.new_event("goodbye"))
        import umami
    """

    process = python(program, **settings(collector))

    assert (process.returncode, process.stderr) == (0, "")
    assert stored(collector) == once("goodbye")


def test_a_greenlet_that_flushes_does_not_stop_the_others(collector: Collector, python: Run):
    program = """
        from gevent import monkey; monkey.patch_all()
        import gevent, umami

        def tick():
            global ticks
            while True:
                ticks += 1
                gevent.sleep(0.01)

        ticks = 0
        gevent.spawn(tick)
        umami.new_event("kept")
        assert not umami.flush(1)
        during_flush = ticks
        assert not umami.shutdown(1)
        print(during_flush, ticks - during_flush)
    """
    collector.fail(freeze=True, times=None)

    process = python(program, **settings(collector, shutdown_timeout=0))

    assert all(int(ticks) > 5 for ticks in process.stdout.split()), process
    assert process.returncode == 0


@pytest.mark.parametrize("wait", ["umami.flush", "umami.new_event"])
def test_greenlets_that_wait_take_turns_neither_with_each_other_nor_with_look_ups(
    collector: Collector, python: Run, wait: str
):
    program = f"""
        from gevent import monkey; monkey.patch_all()
        import gevent, os, socket, sys, umami
        from umami._default import _client as client

        umami.configure(queue_size=1, overflow="block", block_timeout={NEVER})
        umami.new_event("kept")
        for _ in range(20):
            gevent.spawn({wait}, {NEVER} if {wait} is umami.flush else "late")
        while len(client._state.agent.queue._waiting) < 20:
            gevent.sleep(0.01)
        print(socket.getaddrinfo("localhost", 80)[0][4][1])
        sys.stdout.flush()
        os._exit(0)
    """
    collector.fail(freeze=True, times=None)

    process = python(program, **settings(collector))

    assert (process.returncode, process.stdout, process.stderr) == (0, "80\n", "")


def test_a_gevent_program_through_a_proxy_and_tls(collector: Collector, python: Run, tmp_path: Path):
    program = """
        from gevent import monkey; monkey.patch_all()
        import umami
        for number in range(100):
            umami.new_event(f"e{number}", custom_data={str(key): "x" * 400 for key in range(9)})
        assert umami.flush()
        umami.new_event("last")
    """

    with Internet(collector, tmp_path, "umami.example.com") as internet:
        environment = {**settings(collector, url="https://umami.example.com"), **internet.environment}
        process = python(program, **environment)

    assert (process.returncode, process.stderr) == (0, "")
    assert stored(collector) == once(*(f"e{number}" for number in range(100)), "last")


def test_a_gevent_program_that_trusts_no_certificate(collector: Collector, python: Run, tmp_path: Path):
    program = """
        from gevent import monkey; monkey.patch_all()
        import umami
        umami.new_event("kept")
        umami.flush(1)
        print(umami.queue_stats().last_error)
    """

    with Internet(collector, tmp_path, "other.example.com") as internet:
        environment = {**settings(collector, url="https://umami.example.com"), **internet.environment}
        process = python(program, **environment, UMAMI_SHUTDOWN_TIMEOUT="0")

    assert re.search("ConnectError.*certificate verify failed", process.stdout)
    assert not collector.events


def test_sigterm_in_a_gevent_program(collector: Collector):
    program = """
        from gevent import monkey; monkey.patch_all()
        import time, umami
        umami.configure(flush_on_sigterm=True)
        umami.new_event("pending")
        print("ready", flush=True)
        while True:  # gevent sees a signal when its hub turns, and may sleep on one that comes just before
            time.sleep(0.01)
    """

    with running("-c", program, **settings(collector, flush_interval=NEVER)) as child:
        assert child.line() == "ready"
        child.process.send_signal(signal.SIGTERM)
        assert child.end() == -signal.SIGTERM

    assert child.stderr == ""
    assert stored(collector) == once("pending")


def test_a_forked_gevent_program(collector: Collector, python: Run):
    program = """
        from gevent import monkey; monkey.patch_all()
        import gevent, os, umami
        umami.new_event("parent")
        umami.flush()
        child = os.fork()
        umami.new_event("child" if child == 0 else "parent again")
        if child:
            assert os.waitpid(child, 0)[1] == 0
    """
    quiet = {"PYTHONWARNINGS": "ignore:This process:DeprecationWarning"}

    process = python(program, **settings(collector, flush_interval=NEVER), **quiet)

    assert (process.returncode, process.stderr) == (0, "")
    assert stored(collector) == once("parent", "child", "parent again")


# eventlet.


def test_eventlets_threads_are_refused(collector: Collector, python: Run):
    pytest.importorskip("eventlet")
    program = """
        import eventlet; eventlet.monkey_patch()
        import umami
        for call in (lambda: umami.new_event("refused"), lambda: umami.configure(batch_size=7)):
            try:
                call()
            except umami.errors.OperationNotAllowedError as error:
                print(error)
        umami.configure(enabled=False)
        assert umami.new_event("disabled") == {}
        assert umami.queue_stats().submitted == 0
    """

    process = python(program, **settings(collector), PYTHONWARNINGS="ignore")

    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.count("umami does not work with eventlet's threads") == 2
    assert not collector.events


def test_eventlet_with_the_operating_systems_threads(collector: Collector, python: Run):
    pytest.importorskip("eventlet")
    program = """
        import eventlet; eventlet.monkey_patch(thread=False)
        import umami

        def send(sender):
            for number in range(20):
                umami.new_event(f"{sender}-{number}")
                eventlet.sleep(0)

        pool = eventlet.GreenPool()
        for sender in range(5):
            pool.spawn(send, sender)
        pool.waitall()
        assert umami.flush(30)
        umami.new_event("at exit")
    """

    # trio cannot be imported after the patch. dnspython, which eventlet uses otherwise, would try to.
    quiet = {"PYTHONWARNINGS": "ignore", "EVENTLET_NO_GREENDNS": "yes"}
    process = python(program, **settings(collector, flush_interval=NEVER), **quiet)

    assert (process.returncode, process.stderr) == (0, "")
    assert stored(collector) == once(*(f"{s}-{n}" for s in range(5) for n in range(20)), "at exit")
