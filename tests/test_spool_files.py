"""Files in a spool's folder: holes, zeros and planted files. Only the events in the damaged part are lost."""

import fcntl
import os
import random
import signal
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import DEADLINE, SITE
from queue_helpers import Listener, drain, send_many, stored, until
from secrecy import watch

import umami
from umami._spool.records import MAGIC, framed
from umami.cli import main
from umami.collector import Collector

COUNT = 300
BLOCK = 4096


@pytest.fixture
def left(own_collector: Collector, folder: Path) -> Path:
    """The file of a process that was killed, with `COUNT` events."""
    client = umami.Client(
        url_base=own_collector.url,
        website_id=SITE,
        hostname="example.com",
        spool=str(folder),
        flush_interval=600,
        batch_size=10_000,
    )
    send_many(client, COUNT)
    (file,) = folder.iterdir()
    content = file.read_bytes()
    client.shutdown()
    own_collector.clear()
    file.write_bytes(content)
    return file


def zero(file: Path, start: int, end: int) -> None:
    content = bytearray(file.read_bytes())
    content[start:end] = bytes(min(end, len(content)) - start)
    file.write_bytes(content)


# Damage.


@pytest.mark.slow
@pytest.mark.parametrize("block", [0, 1, 5])
def test_a_block_of_zeros_costs_the_events_in_it(block: int, left: Path, own_collector: Collector) -> None:
    size = left.stat().st_size / COUNT
    zero(left, block * BLOCK, (block + 1) * BLOCK)
    stats = drain(left.parent)
    assert stats.submitted == COUNT
    assert 0 < stats.dropped["spool_damaged"] <= BLOCK / size + 2
    assert stats.delivered == COUNT - stats.dropped["spool_damaged"] == len(own_collector.events)
    assert max(stored(own_collector).values()) == 1


def test_zeros_at_the_end_are_counted_by_their_size_and_said_to_be(
    left: Path, caplog: pytest.LogCaptureFixture
) -> None:
    size = left.stat().st_size
    zero(left, size // 2, size)
    stats = drain(left.parent)
    assert stats.dropped.keys() == {"torn"}
    assert abs(stats.submitted - COUNT) <= COUNT * 0.02
    assert "estimated from the size" in caplog.text
    assert not list(left.parent.iterdir())


@pytest.mark.slow
def test_a_file_that_was_made_longer_but_not_written_lost_nothing_else(
    left: Path, own_collector: Collector
) -> None:
    os.truncate(left, left.stat().st_size + 3 * BLOCK)
    stats = drain(left.parent)
    assert stats.delivered == COUNT == len(own_collector.events)
    assert 0 < stats.dropped["torn"] <= 3 * BLOCK / 200


@pytest.mark.slow
def test_what_was_counted_as_lost_is_not_counted_again(left: Path, own_collector: Collector) -> None:
    zero(left, BLOCK, 2 * BLOCK)
    own_collector.fail(503, times=None)
    client = umami.Client(spool=str(left.parent), retry_wait=600, retry_wait_max=600)
    own_collector.wait_for(requests=1, timeout=DEADLINE)
    assert not client.shutdown(0)
    first = client.queue_stats()
    watch.let_go(client)
    del client  # its last request may still be under way
    assert first.dropped["spool_damaged"] > 0
    own_collector.clear()
    with umami.Client(spool=str(left.parent)) as other:
        until(lambda: other.flush(DEADLINE) and other.queue_stats().submitted > 0)
        second = other.queue_stats()
    assert second.dropped == {}
    assert second.delivered == first.pending == COUNT - first.dropped["spool_damaged"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_random_damage_never_raises_and_sends_only_what_was_queued(
    seed: int, left: Path, own_collector: Collector
) -> None:
    luck = random.Random(seed)
    content = bytearray(left.read_bytes())
    for _ in range(luck.randrange(1, 6)):
        start = luck.randrange(len(content))
        size = luck.randrange(1, 600)
        kind = luck.randrange(4)
        if kind == 0:
            content[start : start + size] = luck.randbytes(size)
        elif kind == 1:
            del content[start : start + size]
        elif kind == 2:
            content[start:start] = content[max(0, start - size) : start]
        else:
            content[start] ^= 1 << luck.randrange(8)
    left.write_bytes(content)
    stats = drain(left.parent)
    found = stored(own_collector)
    assert set(found) <= {f"e{number}" for number in range(COUNT)}
    assert not found or max(found.values()) == 1
    assert stats.delivered == sum(found.values())
    if content.startswith(b"umami-spool-2\n"):
        assert stats.delivered > COUNT - 5 * 8


@pytest.mark.slow
def test_what_was_lost_is_sent_once_it_can_be_read(
    left: Path, own_collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = left.read_bytes()
    zero(left, BLOCK, 2 * BLOCK)
    assert main(["spool", "send", str(left.parent)]) == 0
    (damaged,) = left.parent.iterdir()
    content = damaged.read_bytes()
    assert main(["spool", "--damaged", "send", str(left.parent)]) == 0
    assert "Read from damaged files: 0 events." in capsys.readouterr().out
    lost = COUNT - len(own_collector.events)
    damaged.write_bytes(whole + content[len(whole) :])
    assert main(["spool", "list", str(left.parent)]) == 0
    assert f"{lost} events" in capsys.readouterr().out
    for _ in range(2):
        assert main(["spool", "send", "--damaged", str(left.parent)]) == 0
    assert stored(own_collector) == {f"e{number}": 1 for number in range(COUNT)}
    assert [path.suffix for path in left.parent.iterdir()] == [".damaged"]


# What others put there.

NAME = b'{"exporter": "umami:http://127.0.0.1:9/api/send"}'
EVENT = b'{"type":"event","payload":{"name":"planted"}}'
HUGE = 2**32 - 1


def frame(kind: bytes, index: int, length: int, payload: bytes) -> bytes:
    """Return a record that claims to have another length than it has."""
    head = struct.pack("<ccII", b"\xff", kind, index, length)
    return head + struct.pack("<I", zlib.crc32(payload, zlib.crc32(head))) + payload


WHOLE = MAGIC + framed(b"X", 0, NAME) + framed(b"E", 0, EVENT)
PLANTED = {
    "an invalid list": WHOLE + framed(b"S", 1, b"abc"),
    "a list of what is not there": WHOLE + framed(b"S", 1, struct.pack("<II", 0, HUGE)),
    "a list of half of everything": WHOLE + framed(b"S", 1, struct.pack("<II", 2**31, HUGE)),
    "a huge record": WHOLE + frame(b"E", 1, HUGE, EVENT),
    "a huge index": WHOLE + framed(b"E", HUGE, EVENT),
    "a deep name": MAGIC + framed(b"X", 0, b"[" * 3_000_000) + framed(b"E", 0, EVENT),
    "a name that is a list": MAGIC + framed(b"X", 0, b"[1]") + framed(b"E", 0, EVENT),
    "a name with a surrogate": MAGIC + framed(b"X", 0, b'{"exporter":"umami:http://\\ud800/"}'),
    "a name that is no URL": MAGIC + framed(b"X", 0, b'{"exporter":"umami:http://a:99999999/"}'),
    "a name with control characters": (
        MAGIC + framed(b"X", 0, b'{"exporter":"x\\n\\u001b[31mCRITICAL"}') + framed(b"E", 0, EVENT)
    ),
    "an unknown record": WHOLE + framed(b"?", 1, b""),
    "claims of lengths": WHOLE + frame(b"E", 1, 15_000_000, b"")[:10] * 200_000 + bytes(15_000_000),
}


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_file_does_no_harm(
    case: str,
    folder: Path,
    collector: Collector,
    make_client: Callable[..., umami.Client],
    balanced: Callable[[umami.Client], None],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder.mkdir(mode=0o700)
    (folder / "1-aa-0.events").write_bytes(PLANTED[case])
    client = make_client(spool=str(folder), shutdown_timeout=0)
    client.new_event("own")
    until(lambda: stored(collector)["own"] == 1)
    client.flush(0.5)
    assert client.queue_stats().submitted < 100_000
    balanced(client)
    client.shutdown(0)
    for file in umami.spool.files(folder):
        assert file.state in ("waiting", "in use", "damaged")
    main(["spool", "list", str(folder)])
    assert "\x1b" not in caplog.text + capsys.readouterr().out


def test_a_sparse_file_takes_neither_memory_nor_time(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    for name, begin in (("1-aa-0.events", WHOLE), ("1-aa-1.events", b""), ("strange.events", b"")):
        (folder / name).write_bytes(begin)
        os.truncate(folder / name, 8 << 30)
    begun = time.process_time()
    tracemalloc.start()
    try:
        client = umami.Client(spool=str(folder), shutdown_timeout=0)
        until(lambda: client.queue_stats().submitted > 0)
        client.shutdown(0)
        umami.spool.files(folder)
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()
    assert time.process_time() - begun < 5
    assert (folder / "strange.events").stat().st_size == 8 << 30


@pytest.mark.parametrize("begin", [b"", MAGIC, MAGIC + b"x" * BLOCK])
def test_a_file_that_tells_of_no_event_is_kept_and_no_number_is_made_up(
    begin: bytes, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir(mode=0o700)
    (folder / "1-aa-0.events").write_bytes(begin)
    os.truncate(folder / "1-aa-0.events", 1 << 30)
    client = umami.Client(spool=str(folder), shutdown_timeout=0)
    until(lambda: "Nothing in it can be read" in caplog.text)
    assert client.queue_stats().submitted == 0
    assert (folder / "1-aa-0.damaged").stat().st_size == 1 << 30
    client.shutdown(0)


def test_what_is_no_file_of_umamis_is_never_touched(
    folder: Path, tmp_path: Path, collector: Collector, make_client: Callable[..., umami.Client]
) -> None:
    folder.mkdir(mode=0o700)
    victim = tmp_path / "victim"
    victim.write_bytes(WHOLE)
    (folder / "todo.events").write_text("milk, bread")
    (folder / "empty.events").touch()
    (folder / "begun.events").write_bytes(MAGIC[:5])
    (folder / "notes.damaged").write_text("of the car")
    (folder / "1-aa-0.events").symlink_to(victim)
    (folder / "1-aa-1.events").mkdir()
    (folder / "1-aa-2.events").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "1-aa-3.events")
    before = sorted(folder.iterdir())
    client = make_client(spool=str(folder))
    client.new_event("own")
    assert client.flush(DEADLINE)
    client.shutdown()
    assert umami.spool.clear(folder) == []
    assert {file.state for file in umami.spool.files(folder)} == {"foreign"}
    assert sorted(folder.iterdir()) == before
    assert victim.read_bytes() == WHOLE
    assert set(stored(collector)) == {"own"}


def test_a_file_with_a_lease_does_not_hold_up_the_start(
    folder: Path, make_client: Callable[..., umami.Client], collector: Collector
) -> None:
    folder.mkdir(mode=0o700)
    path = folder / "1-aa-0.events"
    path.write_bytes(WHOLE)
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    lease = os.open(path, os.O_RDWR)
    try:
        fcntl.fcntl(lease, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        client = make_client(spool=str(folder), shutdown_timeout=0)
        begun = time.monotonic()
        assert client.flush(DEADLINE)
        assert time.monotonic() - begun < 10  # the kernel breaks a lease after 45 seconds
        assert {file.state for file in umami.spool.files(folder)} == {"in use"}
    finally:
        os.close(lease)
        signal.signal(signal.SIGIO, before)


def test_a_folder_of_another_user_is_named(
    folder: Path, make_client: Callable[..., umami.Client], caplog: pytest.LogCaptureFixture
) -> None:
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    folder.mkdir(mode=0o700)
    os.chown(folder, 4321, -1)
    make_client(spool=str(folder))
    assert "(uid 4321)" in caplog.text


# Files that this process does not send.


def test_files_for_others_are_read_once_and_named_once(
    folder: Path,
    make_client: Callable[..., umami.Client],
    heard: Listener,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder.mkdir(mode=0o700)
    theirs = MAGIC + framed(b"X", 0, b'{"exporter":"file"}')
    theirs += b"".join(framed(b"E", index, EVENT) for index in range(20_000))
    (folder / "1-aa-0.events").write_bytes(theirs)
    monkeypatch.setattr("umami.queue.workers._LOOK_SECONDS", 0.001)
    client = make_client(spool=str(folder))
    client.new_event("own")
    assert client.flush(DEADLINE)
    heard.wait_for("has events for file")
    looks = client._state._agent._orphans
    first = looks._looked
    read = Path("/proc/self/io").read_text().split()[1]
    for _ in range(30):
        assert client.flush(DEADLINE)
    assert looks._looked - first >= 30
    assert int(Path("/proc/self/io").read_text().split()[1]) - int(read) < len(theirs)
    client.shutdown()
    assert len(heard.matching("has events for file")) == 1
