"""Forks: a child sends only its own events, and no event arrives twice."""

import os
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from conftest import CORE_ONLY, DEADLINE, SITE
from process_helpers import finished, once, settings
from queue_helpers import stored

from umami.collector import Collector

FORKS = int(os.environ.get("FORKS", "40"))

Run = Callable[..., CompletedProcess[str]]

# Python warns of a fork beside threads since 3.12; that is what is tested here.
QUIET = {"PYTHONWARNINGS": "ignore:This process:DeprecationWarning"}
FORK = """
        child = os.fork()
        forked.set()
        if child == 0:
            umami.new_event("child")
            os._exit(0 if umami.flush(30) else 1)
        assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.slow
def test_forks_under_load(collector: Collector, python: Run, record_property: Callable[[str, object], None]):
    program = """
        import os, sys, threading, umami

        def send(sender):
            number = 0
            while not over.is_set():
                assert umami.new_event(f"thread-{sender}-{number}") == {"queued": True}
                number += 1
                if number % 10 == 0:
                    umami.flush()
            sent.append(number)

        over = threading.Event()
        sent = []
        threads = [threading.Thread(target=send, args=(sender,)) for sender in range(8)]
        for thread in threads:
            thread.start()
        for number in range(int(sys.argv[1])):
            umami.new_event(f"parent-{number}")
            child = os.fork()
            if child == 0:
                umami.new_event(f"child-{number}")
                os._exit(0 if umami.flush(60) and umami.queue_stats().submitted == 1 else 1)
            assert os.waitpid(child, 0)[1] == 0, number
        over.set()
        for thread in threads:
            thread.join()
        print(sum(sent))
    """

    process = python(program, str(FORKS), timeout=300.0, **settings(collector), **QUIET)

    assert (process.returncode, process.stderr) == (0, "")
    delivered = stored(collector)
    assert set(delivered.values()) == {1}
    for family, count in (("thread", int(process.stdout)), ("parent", FORKS), ("child", FORKS)):
        assert sum(name.startswith(family) for name in delivered) == count
    record_property("forks", FORKS)
    record_property("events delivered, each once", delivered.total())


@pytest.mark.slow
def test_a_fork_hook_of_the_program_may_send(collector: Collector, python: Run):
    program = f"""
        import os, umami
        os.register_at_fork(after_in_child=lambda: umami.new_event("child"))
        umami.configure(url_base={collector.url!r}, website_id={SITE!r}, hostname="example.com")
        umami.new_event("parent")
        child = os.fork()
        if child == 0:
            os._exit(0 if umami.flush(30) else 1)
        assert os.waitpid(child, 0)[1] == 0
    """

    process = python(program, **QUIET)

    assert (process.returncode, process.stderr) == (0, "")
    assert stored(collector) == once("parent", "child")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("patience", "waits"), [pytest.param(30, True, id="short"), pytest.param(0.1, False, id="endless")]
)
def test_a_fork_waits_for_a_look_up_of_a_name_unless_that_takes_long(
    patience: float, waits: bool, collector: Collector, python: Run
):
    program = """
        import os, sys, threading, umami

        def watch(event, arguments):
            if event == "socket.getaddrinfo" and not looking.is_set():
                looking.set()
                if forked.wait(0.5 if waits else 60):
                    meanwhile.append("forked")

        patience, waits = float(sys.argv[1]), sys.argv[2] == "True"
        umami._threads._FORK_SECONDS = patience
        looking, forked, meanwhile = threading.Event(), threading.Event(), []
        sys.addaudithook(watch)
        umami.new_event("parent")
        looking.wait()
    """
    then = """
        assert umami.flush(30)
        print(*meanwhile)
    """

    process = python(program + FORK + then, str(patience), str(waits), **settings(collector), **QUIET)

    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.strip() == ("" if waits else "forked")
    assert stored(collector) == once("parent", "child")


@pytest.mark.slow
def test_a_fork_in_the_middle_of_the_first_senders_imports(collector: Collector, python: Run):
    program = """
        import os, sys, threading, umami

        def watch(event, arguments):
            if event == "import" and arguments[0] == "httpcore" and not importing.is_set():
                importing.set()
                forked.wait(1)

        importing, forked = threading.Event(), threading.Event()
        sys.addaudithook(watch)
        umami.new_event("parent")
        importing.wait()
    """

    process = python(program + FORK, **settings(collector), **QUIET)

    assert (process.returncode, process.stderr) == (0, "")
    assert stored(collector) == once("parent", "child")


CHILDREN = {
    "import sys; sys.exit(4)": (4, True),
    "raise SystemExit('the end')": (1, True),
    "pass": (0, True),
    "os._exit(4)": (4, False),
    "umami.before_exit(); os._exit(4)": (4, True),
}


@pytest.mark.slow
@pytest.mark.parametrize("earlier", [True, False], ids=["after others", "first ever"])
def test_how_a_forked_child_ends(collector: Collector, python: Run, earlier: bool):
    program = f"""
        import os, umami
        if {earlier}:
            umami.new_event("parent before")
        for kind, ending in enumerate({list(CHILDREN)!r}):
            child = os.fork()
            if child == 0:
                for number in range(10):
                    umami.new_event(f"child {{kind}} {{number}}")
                exec(ending)
                break
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        else:
            umami.new_event("parent after")
    """

    process = python(program, **settings(collector, flush_interval=600), **QUIET)

    parents = ["parent before", "parent after"] if earlier else ["parent after"]
    children = [
        f"child {kind} {number}"
        for kind, (_, delivered) in enumerate(CHILDREN.values())
        for number in range(10 if delivered else 0)
    ]
    assert stored(collector) == once(*parents, *children)
    assert process.stdout.split() == [str(code) for code, _ in CHILDREN.values()]
    assert process.stderr == "the end\n"


@pytest.mark.slow
def test_a_grandchild(collector: Collector, python: Run):
    program = """
        import os, umami
        generation = 0
        while generation < 4:
            umami.new_event(f"generation {generation}")
            child = os.fork()
            if child:
                assert os.waitpid(child, 0)[1] == 0
                break
            generation += 1
    """

    process = python(program, **settings(collector), **QUIET)

    assert (process.returncode, process.stderr) == (0, "")
    assert stored(collector) == once(*(f"generation {number}" for number in range(4)))


@pytest.mark.slow
def test_what_a_child_does_not_inherit(collector: Collector, python: Run):
    program = """
        import os, umami
        for number in range(120):
            umami.new_event(f"e{number}")
        child = os.fork()
        if child == 0:
            stats = umami.queue_stats()
            assert (stats.submitted, stats.pending, stats.requests) == (0, 0, 0), stats
            assert umami.flush() and umami.shutdown()
            raise SystemExit
        assert os.waitpid(child, 0)[1] == 0
    """

    process = python(program, **settings(collector), **QUIET)

    assert (process.returncode, process.stderr) == (0, "")
    assert stored(collector) == once(*(f"e{number}" for number in range(120)))


# multiprocessing, whose children skip the exit handlers that they inherit.

Script = Callable[..., CompletedProcess[str]]
METHODS = ["fork", "spawn", "forkserver"]
EVERYBODY = once(
    "before", "after", *(f"child {child} {number}" for child in range(3) for number in range(10))
)


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Run a program from a file, where spawned children find what they are to do."""

    def run(program: str, **environment: str) -> CompletedProcess[str]:
        path = tmp_path / "program.py"
        path.write_text(PROLOGUE + textwrap.dedent(program))
        return finished(str(path), **CORE_ONLY, **environment, **QUIET)

    return run


PROLOGUE = """
import concurrent.futures, multiprocessing, os, sys, threading, time, umami

def work(child):
    for number in range(10):
        umami.new_event(f"child {child} {number}")
"""

COMMON_USES = {
    "Process": """
        def main(context):
            children = [context.Process(target=work, args=(child,)) for child in range(3)]
            for child in children:
                child.start()
            for child in children:
                child.join()
                assert child.exitcode == 0
    """,
    "Pool": """
        def main(context):
            pool = context.Pool(2)
            pool.map(work, range(3))
            pool.close()
            pool.join()
    """,
    "ProcessPoolExecutor": """
        def main(context):
            with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
                list(executor.map(work, range(3)))
    """,
}
RARE_USES = {
    "a Process that fails": """
        def work_and_fail(child):
            work(child)
            sys.exit(7)

        def main(context):
            children = [context.Process(target=work_and_fail, args=(child,)) for child in range(3)]
            for child in children:
                child.start()
            for child in children:
                child.join()
                assert child.exitcode == 7
    """,
    "a Process whose thread outlives its target": """
        def work_later(child):
            threading.main_thread().join(0.2)
            work(child)

        def start_thread(child):
            threading.Thread(target=work_later, args=(child,)).start()

        def main(context):
            children = [context.Process(target=start_thread, args=(child,)) for child in range(3)]
            for child in children:
                child.start()
            for child in children:
                child.join()
                assert child.exitcode == 0
    """,
    "a Process of a Process": """
        def work_and_start(context, child):
            work(child)
            if child < 2:
                process = context.Process(target=work_and_start, args=(context, child + 1))
                process.start()
                process.join()
                assert process.exitcode == 0

        def main(context):
            process = context.Process(target=work_and_start, args=(context, 0))
            process.start()
            process.join()
            assert process.exitcode == 0
    """,
}
USES = {**COMMON_USES, **RARE_USES}
WAYS = [(use, method) for use in COMMON_USES for method in METHODS] + [(use, "fork") for use in RARE_USES]

RUN_MAIN = """
if __name__ == "__main__":
    umami.new_event("before")
    main(multiprocessing.get_context({method!r}))
    umami.new_event("after")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("use", "method"), WAYS, ids=[" by ".join(way) for way in WAYS])
def test_children_deliver_what_they_sent(collector: Collector, script: Script, use: str, method: str):
    program = textwrap.dedent(USES[use]) + RUN_MAIN.format(method=method)

    process = script(program, **settings(collector, flush_interval=600))

    assert (process.returncode, process.stderr) == (0, "")
    assert stored(collector) == EVERYBODY


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "method"),
    [*(("in the environment", method) for method in METHODS), ("by the initializer", "spawn")],
)
def test_children_that_are_terminated_deliver_if_asked_to(
    collector: Collector, script: Script, asked: str, method: str
):
    program = f"""
        def begin(begun):
            begun.release()
            if {asked == "by the initializer"}:
                umami.configure(flush_on_sigterm=True)

        def main(context):
            begun = context.Semaphore(0)
            with context.Pool(2, begin, (begun,)) as pool:
                pool.map(work, range(3))
                for _ in range(2):  # CPython loses a signal that comes just after a fork
                    begun.acquire()
    """

    process = script(
        textwrap.dedent(program) + RUN_MAIN.format(method=method),
        **settings(
            collector,
            flush_interval=600,
            flush_on_sigterm=int(asked == "in the environment"),
            shutdown_timeout=DEADLINE,
        ),
    )

    assert (process.returncode, process.stderr) == (0, "")
    assert stored(collector) == EVERYBODY


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_says_once_what_it_could_not_deliver(collector: Collector, script: Script, method: str):
    program = """
        def main(context):
            child = context.Process(target=work, args=(1,))
            child.start()
            child.join()
            assert child.exitcode == 0
    """
    collector.fail(freeze=True, times=None)

    process = script(
        textwrap.dedent(program) + RUN_MAIN.format(method=method), **settings(collector, shutdown_timeout=0.5)
    )

    assert process.returncode == 0
    assert re.findall(r"ends with (\d+) events not delivered", process.stderr) == ["10", "2"]


@pytest.mark.slow
def test_a_sigterm_that_comes_as_a_child_begins_ends_it(collector: Collector, python: Run):
    program = """
        import os, signal, time, umami

        umami.new_event("before")  # has SIGTERM handled
        for _ in range(100):
            child = os.fork()
            if child == 0:
                # Not asleep: Python may run no handler for a signal that comes just before a system call.
                give_up = time.monotonic() + 60
                while time.monotonic() < give_up:
                    pass
                os._exit(0)
            os.kill(child, signal.SIGTERM)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    """

    process = python(program, **settings(collector, flush_on_sigterm=1))

    assert (process.returncode, process.stdout) == (0, "")
    assert stored(collector) == once("before")


# uWSGI forks its workers in C, where none of Python's fork hooks run.

FORKED_IN_C = """
        import ctypes, os, sys, threading, types

        uwsgi = sys.modules["uwsgi"] = types.ModuleType("uwsgi")  # as uWSGI's own module, which is built in
        worker = 0
        uwsgi.worker_id, uwsgi.mule_id, uwsgi.opt, uwsgi.has_threads = lambda: worker, lambda: 0, {}, 1

        import umami

        def fork():
            global worker
            child = ctypes.PyDLL(None).fork()
            if child == 0:
                worker = 1
            return child
"""


@pytest.mark.slow
def test_children_of_a_fork_in_c_deliver(collector: Collector, python: Run):
    program = """
        umami.new_event("master")  # is not sent yet: its sender is open for more
        for number in range(3):
            child = fork()
            if child == 0:
                for event in range(3):
                    umami.new_event(f"child {number} {event}")
                os._exit(0 if umami.flush(30) and umami.queue_stats().submitted == 3 else 1)
            assert os.waitpid(child, 0)[1] == 0
    """

    process = python(FORKED_IN_C + program, **settings(collector), **QUIET)

    assert (process.returncode, process.stderr) == (0, "")
    children = [f"child {child} {event}" for child in range(3) for event in range(3)]
    assert stored(collector) == once("master", *children)


@pytest.mark.slow
def test_a_fork_in_c_while_another_thread_holds_the_queues_lock(python: Run):
    program = f"""
        from umami.exporters import Exported, Exporter

        class Printer(Exporter):
            name = "printer"

            def export(self, events, deadline):
                print(len(events), "exported", flush=True)
                return Exported()

            def describe(self):  # called with the lock held
                holding.set()
                forked.wait()

        holding, forked = threading.Event(), threading.Event()
        client = umami.Client(exporter=Printer(), website_id={SITE!r}, hostname="example.com")
        client.new_event("master")
        client.flush()
        thread = threading.Thread(target=client.queue_stats)
        thread.start()
        holding.wait()
        child = fork()
        if child == 0:
            client.new_event("child")
            os._exit(0 if client.flush(30) else 1)
        assert os.waitpid(child, 0)[1] == 0
        forked.set()
        thread.join()
    """

    process = python(FORKED_IN_C + program, **QUIET)

    assert (process.returncode, process.stdout, process.stderr) == (0, "1 exported\n" * 2, "")


@pytest.mark.slow
def test_a_child_of_a_fork_in_c_ends_without_its_parents_events(collector: Collector, python: Run):
    program = """
        umami.new_event("master")
        for first in (lambda: umami.flush(30), umami.queue_stats, lambda: None):
            child = fork()
            if child == 0:
                first()
                raise SystemExit
            assert os.waitpid(child, 0)[1] == 0
    """

    process = python(FORKED_IN_C + program, **settings(collector), **QUIET)

    assert (process.returncode, process.stderr) == (0, "")
    assert stored(collector) == once("master")


@pytest.mark.slow
def test_a_fork_in_c_finds_no_import_in_progress(collector: Collector, python: Run):
    program = """
        before = set(sys.modules)
        umami.configure(hostname="example.com")
        assert umami.heartbeat() and umami.queue_stats()
        umami.new_event("master")
        umami.flush()
        imported = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(imported & {"umami", "httpx", "httpcore"})
    """

    process = python(FORKED_IN_C + program, **settings(collector), **QUIET)

    assert (process.returncode, process.stdout, process.stderr) == (0, "set()\n", "")


@pytest.mark.slow
def test_uwsgi_without_threads_is_named_once(collector: Collector, python: Run):
    program = """
        uwsgi.has_threads = 0
        umami.new_event("late")
        umami.flush()
        umami.shutdown()
        umami.new_event("later")
    """

    process = python(FORKED_IN_C + program, **settings(collector))

    assert re.fullmatch(r"uWSGI runs .* without threads.*--enable-threads\.\n", process.stderr)
