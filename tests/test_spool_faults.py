"""Faults of the spool: races with other processes, damage, full disks, forks, missing credentials."""

import base64
import contextlib
import fcntl
import gc
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE, SITE
from queue_helpers import NEVER, at_moment, drain, in_threads, moments, recover, send_many, stored, until
from secrecy import watch
from tenacity import RetryCallState

import umami
from umami._spool.folder import Folder
from umami._spool.partition import SpoolPartition
from umami.collector import Collector

MakeClient = Callable[..., umami.Client]
Balanced = Callable[[umami.Client], None]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

LEAVE = f"""
    import os, signal, sys, umami
    url, folder, count = sys.argv[1:]
    umami.configure(url_base=url, website_id={SITE!r}, hostname="example.com", spool=folder,
                    flush_interval=600, batch_size=100_000)
    for number in range(int(count)):
        assert umami.new_event(f"e{{number}}") == {{"queued": True}}
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def leave(collector: Collector, folder: Path, python: Run) -> Callable[..., Path]:
    """Have a killed process leave so many events, and return their file."""

    def run(count: int, url: str | None = None) -> Path:
        done = python(LEAVE, url or collector.url, str(folder), str(count))
        assert done.returncode == -9, done.stderr
        (file,) = folder.glob("*.events")
        return file

    return run


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def names(count: int) -> Counter[str]:
    return Counter(f"e{number}" for number in range(count))


def test_a_retry_strategy_that_sets_a_spool_does_not_upset_the_counts(
    leave: Callable[..., Path],
    collector: Collector,
    folder: Path,
    make_client: MakeClient,
    balanced: Balanced,
) -> None:
    leave(7)
    set_in_the_middle: list[bool] = []

    def wait(_: RetryCallState) -> float:
        client.configure(spool=str(folder))
        set_in_the_middle.append(True)
        return 0.01

    client = make_client(retry_wait=wait)
    collector.fail(503, times=1)
    send_many(client, 5)
    assert client.flush(DEADLINE)
    assert set_in_the_middle
    assert client.queue_stats().delivered == len(collector.events) == 12
    balanced(client)


# Neighbours.


def test_a_neighbour_that_meets_a_file_before_it_is_locked_takes_nothing_away(
    collector: Collector, folder: Path, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector.fail(None, freeze=True)
    client = make_client(spool=str(folder))
    flock = fcntl.flock
    meetings = [1, 2, 3]

    def met(descriptor: int, operation: int) -> None:
        if meetings:
            meetings.pop()
            umami.Client(spool=str(folder)).flush(0)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", met)
    client.new_event("e0")
    monkeypatch.undo()
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)  # as it would be after a kill
    assert sum(file.events or 0 for file in umami.spool.files(copy)) == 1
    assert client.queue_stats().last_error is None


def test_a_neighbour_that_looks_at_a_new_file_is_no_reason_to_do_without(
    collector: Collector, folder: Path, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector.fail(None, freeze=True)
    client = make_client(spool=str(folder))
    flock = fcntl.flock
    held: list[int] = []

    def met(descriptor: int, operation: int) -> None:
        if not held:
            held.append(os.open(next(folder.iterdir()), os.O_RDWR))
            flock(held[0], fcntl.LOCK_EX)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", met)
    client.new_event("e0")
    monkeypatch.undo()
    os.close(held[0])
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    assert sum(file.events or 0 for file in umami.spool.files(copy)) == 1


@pytest.mark.slow
def test_clear_deletes_nothing_that_a_neighbour_has_just_taken_over(
    leave: Callable[..., Path],
    collector: Collector,
    folder: Path,
    make_client: MakeClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leave(3)
    collector.fail(None, freeze=True)
    unlink = Path.unlink
    neighbours = []

    def met(path: Path, *arguments: Any, **options: Any) -> None:
        if not neighbours:
            neighbours.append(make_client(spool=str(folder)))
        unlink(path, *arguments, **options)

    monkeypatch.setattr(Path, "unlink", met)
    (cleared,) = umami.spool.clear(folder)
    monkeypatch.undo()
    assert cleared.events == 3
    assert neighbours[0].queue_stats().submitted == 0


@pytest.mark.slow
def test_to_look_at_a_spool_changes_nothing(leave: Callable[..., Path], folder: Path) -> None:
    file = leave(5)
    torn = file.read_bytes()[:-7]
    file.write_bytes(torn)
    (seen,) = umami.spool.files(folder)
    assert (seen.state, seen.events) == ("waiting", 4)
    assert file.read_bytes() == torn
    assert drain(folder).dropped == {"torn": 1}


@pytest.mark.slow
def test_a_child_that_lives_on_does_not_keep_its_parents_files(
    collector: Collector, folder: Path, python: Run
) -> None:
    program = f"""
        import os, signal, sys, warnings, umami
        warnings.simplefilter("ignore", DeprecationWarning)
        umami.configure(
            url_base={collector.url!r}, website_id={SITE!r}, hostname="example.com", flush_interval=600,
            batch_size=500,
        )
        for number in range(50):
            umami.new_event(f"e{{number}}")
        child = os.fork()
        if child == 0:
            os.closerange(0, 3)
            signal.pause()
        print(child, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = python(program, UMAMI_SPOOL=str(folder))
    child = int(done.stdout)
    try:
        assert drain(folder).submitted == 50
        assert stored(collector) == names(50)
    finally:
        os.kill(child, 9)


@pytest.mark.slow
def test_a_client_that_is_forgotten_gives_its_files_up(
    collector: Collector, folder: Path, make_client: MakeClient
) -> None:
    def delivered_by_another() -> bool:
        gc.collect()
        with make_client(spool=str(folder)) as other:  # a busy machine may need many
            return other.flush(DEADLINE) and len(collector.events) == 5

    for _ in range(30):  # its last look for files of others may come before, while or after it is forgotten
        collector.clear()
        collector.fail(503, times=None)
        client = umami.Client(
            url_base=collector.url, website_id=SITE, hostname="example.com", spool=str(folder)
        )
        send_many(client, 5)
        client.shutdown(0)
        watch.let_go(client)
        del client
        collector.clear_faults()
        until(delivered_by_another)
        assert stored(collector) == names(5)


@pytest.mark.slow
def test_what_many_processes_left_is_not_all_opened_at_once(
    leave: Callable[..., Path],
    collector: Collector,
    folder: Path,
    make_client: MakeClient,
    balanced: Balanced,
) -> None:
    file = leave(1)
    for number in range(300):
        shutil.copy(file, folder / f"copy-{number}.events")
    collector.fail(None, freeze=True)
    before = open_files()
    client = make_client(spool=str(folder))
    until(lambda: client.queue_stats().pending > 0)
    assert client.queue_stats().pending < 50
    assert open_files() - before < 50
    collector.thaw()
    assert client.flush(DEADLINE)
    assert stored(collector) == {"e0": 301}
    assert not list(folder.iterdir())
    balanced(client)


@pytest.mark.slow
def test_a_neighbour_goes_on_with_what_was_too_much_at_first(
    leave: Callable[..., Path], collector: Collector, folder: Path, make_client: MakeClient
) -> None:
    file = leave(1)
    for number in range(200):
        shutil.copy(file, folder / f"copy-{number}.events")
    client = make_client(spool=str(folder))
    collector.wait_for(events=201, timeout=DEADLINE)
    assert client.flush(DEADLINE)
    assert stored(collector) == {"e0": 201}


def test_a_large_spool_has_large_files(collector: Collector, folder: Path, make_client: MakeClient) -> None:
    collector.fail(None, freeze=True)
    client = make_client(spool=str(folder), spool_max_bytes=2**30, shutdown_timeout=0)
    data = {f"key{number}": "x" * 400 for number in range(40)}
    for _ in range(250):
        client.new_event("large", custom_data=data)
    assert sum(file.stat().st_size for file in folder.iterdir()) > 3 * 2**20
    assert len(list(folder.iterdir())) == 1


# Credentials, versions, rights.


@pytest.mark.slow
def test_what_needs_a_credential_waits_for_a_process_that_has_it(
    leave: Callable[..., Path], collector: Collector, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with_user = collector.url.replace("//", "//user:geheim@")
    file = leave(5, with_user)
    assert drain(folder).submitted == 0
    assert file.exists()
    assert file.name in caplog.text
    assert "geheim" not in caplog.text
    assert not collector.events
    assert drain(folder, url_base=with_user).delivered == 5
    basic = "Basic " + base64.b64encode(b"user:geheim").decode()
    assert {request.headers["authorization"] for request in collector.requests} == {basic}


@pytest.mark.parametrize("step", ["settle", "mark"])
def test_an_error_in_a_settlement_counts_no_event_twice(
    step: str,
    collector: Collector,
    folder: Path,
    make_client: MakeClient,
    balanced: Balanced,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raised = []
    original = getattr(SpoolPartition, step)

    def broken(self: SpoolPartition, *args: Any, **kwargs: Any) -> None:
        if not raised:
            raised.append(step)
            raise MemoryError
        original(self, *args, **kwargs)

    monkeypatch.setattr(SpoolPartition, step, broken)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    client = make_client(spool=str(folder), at_most_once=True)
    sent = send_many(client, 10)
    until(lambda: bool(raised))
    sent += send_many(client, 10, "later")
    assert client.flush(DEADLINE)
    balanced(client)
    stats = client.queue_stats()
    assert (stats.submitted, stats.pending, stats.pending_bytes) == (20, 0, 0)
    assert set(stored(collector).values()) == {1}
    assert stats.delivered + sum(stats.dropped.values()) == 20


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["torn", "damaged"])
def test_a_file_for_another_exporter_is_left_as_it_is(
    damage: str, leave: Callable[..., Path], collector: Collector, folder: Path
) -> None:
    with_user = collector.url.replace("//", "//user:geheim@")
    file = leave(5, with_user)
    content = file.read_bytes()
    content = content[:-3] if damage == "torn" else content.replace(b'"e2"', b'"??"')
    file.write_bytes(content)
    assert drain(folder).submitted == 0
    assert file.read_bytes() == content
    stats = drain(folder, url_base=with_user)
    assert (stats.submitted, stats.delivered, sum(stats.dropped.values())) == (5, 4, 1)


@pytest.mark.slow
def test_a_file_of_another_version_is_left_to_it(
    folder: Path, leave: Callable[..., Path], collector: Collector
) -> None:
    file = leave(5)
    content = file.read_bytes().replace(b"umami-spool-2\n", b"umami-spool-22\n")
    file.write_bytes(content)
    assert drain(folder).submitted == 0
    assert file.read_bytes() == content
    assert [seen.state for seen in umami.spool.files(folder)] == ["foreign"]


def test_a_folder_that_others_may_use_is_named(
    folder: Path, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir()
    folder.chmod(0o770)
    make_client(spool=str(folder))
    assert "(mode 770)" in caplog.text
    assert str(folder) in caplog.text


# Damage.


@pytest.mark.slow
@pytest.mark.parametrize("full", [False, True])
def test_a_file_whose_beginning_is_damaged_holds_nothing_up(
    full: bool, collector: Collector, folder: Path, make_client: MakeClient, balanced: Balanced
) -> None:
    collector.fail(503, times=None)
    client = make_client(spool=str(folder), queue_size=5, batch_size=5, spool_max_bytes=4_000)
    send_many(client, 10)
    files = [*folder.glob("*.events")]
    assert files
    for file in files:
        with file.open("r+b") as opened:
            opened.write(b"XXXXXX")
    if full:  # sends load what is on disk alone
        client.configure(queue_size=1_000)
        send_many(client, 50)
    collector.clear_faults()
    assert client.flush(DEADLINE)
    assert client.queue_stats().dropped.keys() == {"spool_damaged"}
    balanced(client)


@pytest.mark.parametrize("damaged", [0, 3, 9])
def test_the_other_events_of_a_damaged_file_are_sent(
    damaged: int, leave: Callable[..., Path], collector: Collector, folder: Path, balanced: Balanced
) -> None:
    file = leave(10)
    content = file.read_bytes()
    file.write_bytes(content.replace(f'"e{damaged}"'.encode(), b'"??"'))
    stats = drain(folder)
    assert (stats.submitted, stats.delivered, stats.dropped) == (10, 9, {"spool_damaged": 1})
    assert stored(collector) == names(10) - Counter([f"e{damaged}"])
    (kept,) = folder.iterdir()
    assert kept.suffix == ".damaged"


@pytest.mark.slow
@pytest.mark.parametrize("broken", [0, 6])
def test_a_broken_frame_costs_its_event_alone(
    broken: int, leave: Callable[..., Path], collector: Collector, folder: Path
) -> None:
    file = leave(10)
    content = bytearray(file.read_bytes())
    frames = [at for at in range(len(content)) if content[at : at + 2] == b"\xffE"]
    assert len(frames) == 10
    struct.pack_into("<I", content, frames[broken] + 6, 2**31)
    file.write_bytes(content)
    stats = drain(folder)
    assert (stats.submitted, stats.delivered, stats.dropped) == (10, 9, {"spool_damaged": 1})
    assert stored(collector) == names(10) - Counter([f"e{broken}"])


@pytest.mark.slow
def test_events_whose_exporter_is_damaged_are_counted(leave: Callable[..., Path], folder: Path) -> None:
    file = leave(10)
    file.write_bytes(file.read_bytes().replace(b"exporter", b"exp0rter"))
    stats = drain(folder)
    assert (stats.submitted, stats.dropped) == (10, {"spool_damaged": 10})


def test_what_was_settled_before_a_file_was_damaged_is_not_sent_again(
    collector: Collector, folder: Path, make_client: MakeClient
) -> None:
    client = make_client(spool=str(folder), batch_size=5, senders=1, flush_interval=NEVER)
    send_many(client, 5)
    collector.wait_for(events=5, timeout=DEADLINE)
    collector.fail(None, freeze=True)
    send_many(client, 4, "more")
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    (file,) = [path for path in copy.iterdir() if b"more0" in path.read_bytes()]
    file.write_bytes(file.read_bytes().replace(b'"more1"', b'"nore1"'))
    collector.thaw()
    assert client.flush(DEADLINE)
    collector.clear()
    assert drain(copy).dropped["spool_damaged"] == 1
    assert stored(collector)["more0"] == 1
    assert set(stored(collector)) <= {"more0", "more2", "more3"} | (
        {f"e{n}" for n in range(5)} if file else set()
    )


def test_a_file_that_is_damaged_under_its_owner_is_counted_and_stops_nothing(
    collector: Collector, folder: Path, make_client: MakeClient, balanced: Balanced
) -> None:
    collector.fail(None, freeze=True)
    client = make_client(spool=str(folder), queue_size=10, batch_size=4, senders=1)
    send_many(client, 100)
    (file,) = folder.iterdir()
    os.truncate(file, 20)
    collector.thaw()
    assert client.flush(DEADLINE)
    assert client.queue_stats().dropped == {"spool_damaged": 90}
    assert stored(collector) == names(10)
    balanced(client)
    send_many(client, 5, "after")
    assert client.flush(DEADLINE)
    assert stored(collector) == names(10) + Counter(f"after{number}" for number in range(5))


# A disk that fails.


FULL = f"""
    import os, resource, signal, sys, umami
    url, folder = sys.argv[1:]
    umami.configure(url_base=url, website_id={SITE!r}, hostname="example.com", spool=folder,
                    flush_interval=600, batch_size=5, senders=1)
    umami.new_event("e0")
    (file,) = os.listdir(folder)
    size = os.stat(os.path.join(folder, file)).st_size
    limit = resource.RLIM_INFINITY
"""


@pytest.mark.slow
def test_a_disk_that_is_full_in_the_middle_of_a_record_leaves_whole_ones(
    collector: Collector, folder: Path, python: Run
) -> None:
    collector.fail(503, times=None)
    program = f"""{FULL}
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, limit))
    assert umami.new_event("e1") == {{"queued": True}}
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    assert umami.new_event("e2") == {{"queued": True}}
    os.kill(os.getpid(), signal.SIGKILL)
    """
    done = python(program, collector.url, str(folder))
    assert done.returncode == -9, done.stderr
    assert [(seen.state, seen.events) for seen in umami.spool.files(folder)] == [("waiting", 2)]
    recover(collector)
    assert drain(folder).dropped == {}
    assert stored(collector) == {"e0": 1, "e2": 1}


@pytest.mark.slow
def test_what_could_not_be_noted_as_delivered_is_noted_later(
    collector: Collector, folder: Path, python: Run
) -> None:
    program = f"""{FULL}
    def delivered(count):
        while umami.queue_stats().delivered < count:
            pass
    umami.configure(batch_size=1000)
    for number in range(1, 6):
        umami.new_event(f"e{{number}}")
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.stat(os.path.join(folder, file)).st_size, limit))
    umami.configure(batch_size=5)
    delivered(5)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    for number in range(6, 11):
        umami.new_event(f"e{{number}}")
    delivered(10)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    done = python(program, collector.url, str(folder))
    assert done.returncode == -9, done.stderr
    drain(folder)
    assert max(stored(collector).values()) == 1
    assert {f"e{number}" for number in range(11)} <= set(stored(collector))


def test_what_a_full_disk_does_not_take_is_sent_after_what_it_took(
    collector: Collector, folder: Path, make_client: MakeClient
) -> None:
    collector.fail(None, freeze=True)
    client = make_client(spool=str(folder), spool_max_bytes=20_000, queue_size=20, senders=1)
    while client.new_event(f"e{client.queue_stats().pending}")["queued"]:
        pass
    client.configure(queue_size=1000)
    for _ in range(20):
        assert client.new_event(f"e{client.queue_stats().pending}")["queued"]
    sent = client.queue_stats().pending
    collector.thaw()
    assert client.flush(DEADLINE)
    assert [event.name for event in collector.events] == [f"e{number}" for number in range(sent)]


@pytest.mark.slow
def test_a_flush_waits_for_what_is_on_disk_although_later_events_overtake_it(
    folder: Path, make_client: MakeClient
) -> None:
    with Collector(item_delay=0.02) as collector:
        collector.fail(None, freeze=True)
        client = make_client(
            url_base=collector.url,
            spool=str(folder),
            spool_max_bytes=20_000,
            queue_size=20,
            batch_size=1,
            senders=1,
            overflow="drop_oldest",
        )
        before = []
        while not client.queue_stats().dropped:
            before.append(f"e{len(before)}")
            client.new_event(before[-1])
        seen: list[set[str]] = []

        def flush() -> None:
            assert client.flush(DEADLINE)
            seen.append(set(stored(collector)))

        flushing = threading.Thread(target=flush, daemon=True)
        flushing.start()
        until(lambda: len(client._state._agent.queue._waiting) > 0)
        for number in range(15):
            client.new_event(f"later{number}")
        collector.thaw()
        flushing.join(DEADLINE)
        assert set(before[20:]) <= seen[0]


# at_most_once, the end of the process, and Ctrl-C.


@pytest.mark.slow
def test_at_most_once_leaves_what_was_surely_not_stored_to_the_next_process(
    collector: Collector, folder: Path, python: Run
) -> None:
    collector.fail(503, times=None)
    program = f"""
        import umami
        umami.configure(url_base={collector.url!r}, website_id={SITE!r}, hostname="example.com",
                        at_most_once=True, shutdown_timeout=0.3, retry_wait=0.01, retry_wait_max=0.1)
        for number in range(120):
            assert umami.new_event(f"e{{number}}") == {{"queued": True}}
    """
    done = python(program, UMAMI_SPOOL=str(folder))
    said = re.search(r"120 events not delivered, (\d+) of them kept in the spool", done.stderr)
    assert said is not None, done.stderr
    collector.clear()
    # One may have been on the wire at the end, and might be stored.
    assert 119 <= drain(folder).delivered == int(said[1])
    assert stored(collector) <= names(120)


@pytest.mark.slow
def test_at_most_once_does_not_send_again_what_was_on_the_wire_at_a_kill(
    collector: Collector, folder: Path, python: Run
) -> None:
    collector.fail(None, freeze=True)
    program = f"""
        import os, signal, umami
        umami.configure(url_base={collector.url!r}, website_id={SITE!r}, hostname="example.com",
                        at_most_once=True, batch_size=5, senders=1, flush_interval=600)
        for number in range(8):
            umami.new_event(f"e{{number}}")
        while not umami.queue_stats().requests:
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    """
    python(program, UMAMI_SPOOL=str(folder))
    collector.clear()
    assert drain(folder).delivered == 3
    assert stored(collector).keys() >= {"e5", "e6", "e7"}


@pytest.mark.slow
@pytest.mark.parametrize("wait", ["", "time.sleep(0.4)"], ids=["in time", "too late"])
def test_an_event_of_an_exit_handler_is_kept_too(
    wait: str, collector: Collector, folder: Path, python: Run
) -> None:
    collector.fail(503, times=None)
    program = f"""
        import atexit, time

        def late():
            {wait}
            print(umami.new_event("late"))

        atexit.register(late)
        import umami
        umami.configure(url_base={collector.url!r}, website_id={SITE!r}, hostname="example.com",
                        shutdown_timeout=0.3, retry_wait=0.01, retry_wait_max=0.1)
        {"" if wait else "atexit.register(late)"}
        umami.new_event("e")
    """
    done = python(program, UMAMI_SPOOL=str(folder))
    assert done.stdout.splitlines() == ["{'queued': True}"] * (1 if wait else 2), done.stderr
    collector.clear()
    drain(folder)
    assert stored(collector) == {"e": 1, "late": 1 if wait else 2}


@pytest.mark.slow
def test_a_write_that_is_broken_off_at_any_moment_confuses_nothing(
    own_collector: Collector, folder: Path, make_client: MakeClient
) -> None:
    collector = own_collector

    def break_off() -> None:
        raise KeyboardInterrupt

    for moment in moments():
        collector.clear()
        spool = folder.with_name(f"spool{moment}")
        client = make_client(
            url_base=collector.url, spool=str(spool), flush_interval=NEVER, batch_size=4, senders=1
        )
        send_many(client, 1, "before")
        with (
            contextlib.suppress(KeyboardInterrupt),
            at_moment(moment, break_off, "umami/_spool/") as reached,
        ):
            client.new_event("broken off")
        collector.fail(None, freeze=True)
        send_many(client, 3)
        collector.wait_for(requests=1, timeout=DEADLINE)
        send_many(client, 1, "last")
        collector.thaw()
        until(lambda client=client: client.queue_stats().delivered == 4)
        copy = folder.with_name(f"copy{moment}")
        shutil.copytree(spool, copy)  # as it would be after a kill
        drain(copy)
        both = stored(collector)
        assert both.pop("broken off", 0) <= 1, moment
        assert both == {"before0": 1, "e0": 1, "e1": 1, "e2": 1, "last0": 1}, moment
        collector.clear()
        assert client.flush(DEADLINE)
        client.shutdown()
        assert not client.queue_stats().pending
        if not reached:
            break
    assert moment > 20


@pytest.mark.slow
def test_a_process_that_ends_takes_nothing_over(
    leave: Callable[..., Path], collector: Collector, folder: Path, python: Run
) -> None:
    file = leave(100)
    away = file.rename(folder.with_name("later.events"))
    collector.fail(503, times=None)
    program = f"""
        import shutil, umami
        umami.configure(url_base={collector.url!r}, website_id={SITE!r}, hostname="example.com",
                        shutdown_timeout=0.2)
        umami.new_event("own")
        shutil.move({str(away)!r}, {str(file)!r})
    """
    done = python(program, UMAMI_SPOOL=str(folder))
    assert "1 event not delivered, 1 of them kept in the spool" in done.stderr
    collector.clear()
    assert drain(folder).delivered == 101


@pytest.mark.slow
def test_a_round_that_fails_does_not_end_the_watch(
    leave: Callable[..., Path],
    collector: Collector,
    folder: Path,
    make_client: MakeClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed = threading.Event()
    scan = Folder.take_over

    def broken(self: Folder, accepts: Callable[[str], bool]) -> Any:
        if threading.current_thread().name == "umami-spool" and not failed.is_set():
            failed.set()
            raise MemoryError
        return scan(self, accepts)

    file = leave(3)
    away = file.rename(folder.with_name("later.events"))
    monkeypatch.setattr("umami.queue.workers._LOOK_SECONDS", 0.01)
    monkeypatch.setattr(Folder, "take_over", broken)
    client = make_client(spool=str(folder))
    client.new_event("own")
    assert failed.wait(DEADLINE)
    away.rename(file)
    until(lambda: stored(collector) == names(3) + Counter(["own"]))


@pytest.mark.slow
@pytest.mark.usefixtures("restless")
def test_files_may_be_taken_over_while_others_are_settled(
    leave: Callable[..., Path], collector: Collector, folder: Path, make_client: MakeClient
) -> None:
    one = shutil.copy(leave(1), folder.with_name("one"))
    client = make_client(spool=str(folder))
    for turn in range(20):
        for number in range(60):
            shutil.copy(one, folder / f"{turn}-{number}.events")
        in_threads(3, lambda _: client.flush(DEADLINE))
    assert client.flush(DEADLINE)
    assert stored(collector) == {"e0": 1201}


@pytest.fixture
def restless() -> Iterator[None]:
    """Have threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
