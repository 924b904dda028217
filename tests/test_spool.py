"""The spool: an acknowledged event survives the process, and the next process sends it once."""

import os
import random
import stat
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import DEADLINE, PASSWORD, ROOT, SITE
from queue_helpers import drain, recover

import umami
from umami.cli import main
from umami.collector import Collector

ROUNDS = int(os.environ.get("SPOOL_ROUNDS", "4"))

SENDER = """
    import itertools, sys, umami
    url, folder, first = sys.argv[1:]
    umami.configure(url_base=url, website_id={site!r}, hostname="example.com", spool=folder)
    for number in itertools.count(int(first)):
        answer = umami.new_event("e", custom_data={{"n": number}})
        assert answer == {{"queued": True}}, answer
        sys.stdout.write(f"{{number}}\\n")
        sys.stdout.flush()
"""


@pytest.fixture
def sender(collector: Collector, folder: Path) -> Iterator[Callable[..., "Sender"]]:
    senders = []

    def start(first: int = 0) -> Sender:
        senders.append(Sender(collector.url, folder, first))
        return senders[-1]

    yield start
    for process in senders:
        process.kill()


@pytest.fixture
def orphan(collector: Collector, folder: Path, sender: Callable[..., "Sender"]) -> Path:
    """The file that a killed process left, with events that the server has not got."""
    collector.fail(503, times=None)
    process = sender()
    process.wait_for(50)
    process.kill()
    recover(collector)
    (file,) = folder.iterdir()
    return file


class Sender:
    """A process that sends numbered events as fast as it can, and prints each number when it is queued."""

    def __init__(self, url: str, folder: Path, first: int) -> None:
        program = textwrap.dedent(SENDER.format(site=SITE))
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, url, str(folder), str(first)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.acknowledged = first

    def wait_for(self, number: int) -> None:
        assert self.process.stdout is not None
        while self.acknowledged < number:
            line = self.process.stdout.readline()
            assert line, "the sender ended by itself"
            self.acknowledged = int(line) + 1

    def kill(self) -> int:
        """Kill it, and return the number after the last that it acknowledged."""
        assert self.process.stdout is not None
        if self.process.stdout.closed:
            return self.acknowledged
        self.process.kill()
        for line in self.process.stdout:
            if line.endswith("\n"):
                self.acknowledged = int(line) + 1
        self.process.wait(DEADLINE)
        self.process.stdout.close()
        return self.acknowledged


def numbers(collector: Collector) -> Counter[int]:
    return Counter(event.data["n"] for event in collector.events)


@pytest.mark.slow
@pytest.mark.parametrize("round_", range(ROUNDS))
def test_an_acknowledged_event_survives_kill_9(
    round_: int,
    collector: Collector,
    folder: Path,
    sender: Callable[..., Sender],
    record_property: Callable[[str, object], None],
) -> None:
    luck = random.Random(round_)
    acknowledged: set[int] = set()
    first = 0
    for _ in range(2):
        if luck.random() < 0.5:
            collector.fail(503, times=luck.randrange(1, 5))
        process = sender(first)
        process.wait_for(first + luck.randrange(1, 1500))
        end = process.kill()
        acknowledged.update(range(first, end))
        first = end + 1  # it may have queued one more, and not come to acknowledge that
    collector.clear_faults()
    stats = drain(folder)
    stored = numbers(collector)
    assert acknowledged <= set(stored)
    assert stats.pending == stats.rejected == 0
    # At each kill, at most one batch was on the wire.
    duplicates = sum(stored.values()) - len(stored)
    assert duplicates <= 2 * 50
    assert not list(folder.iterdir())
    record_property("kills", 2)
    record_property("events acknowledged in a round", len(acknowledged))
    record_property("acknowledged events lost in a round", len(acknowledged - set(stored)))
    record_property("duplicates in a round", duplicates)


@pytest.mark.slow
def test_an_outage_at_exit_leaves_the_events_to_the_next_process(
    collector: Collector,
    folder: Path,
    make_client: Callable[..., umami.Client],
    python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    collector.fail(503, times=None)
    program = f"""
        import umami
        umami.configure(url_base={collector.url!r}, website_id={SITE!r}, hostname="example.com")
        for number in range(300):
            umami.new_event("e", custom_data={{"n": number}})
    """
    done = python(program, UMAMI_SPOOL=str(folder), UMAMI_SHUTDOWN_TIMEOUT="0.2")
    assert done.returncode == 0
    assert "300 events not delivered, 300 of them kept in the spool" in done.stderr
    collector.clear()
    make_client(spool=str(folder)).flush(DEADLINE)
    assert numbers(collector) == Counter(range(300))


@pytest.mark.slow
def test_a_living_neighbour_sends_what_a_killed_process_left(
    collector: Collector,
    folder: Path,
    make_client: Callable[..., umami.Client],
    sender: Callable[..., Sender],
) -> None:
    neighbour = make_client(spool=str(folder))
    neighbour.new_event("e", custom_data={"n": -1})
    assert neighbour.flush(DEADLINE)
    collector.fail(503, times=None)
    process = sender()
    process.wait_for(200)
    end = process.kill()
    collector.clear_faults()
    collector.wait_for(events=end + 1, timeout=DEADLINE)
    assert neighbour.flush(DEADLINE)
    assert set(range(-1, end)) <= set(numbers(collector))
    assert neighbour.queue_stats().submitted == neighbour.queue_stats().delivered + sum(
        neighbour.queue_stats().dropped.values()
    )


@pytest.mark.slow
def test_processes_that_share_a_folder_send_each_event_once(
    collector: Collector, folder: Path, sender: Callable[..., Sender]
) -> None:
    collector.fail(503, times=None)
    ends = {}
    for first in (0, 100_000, 200_000):
        process = sender(first)
        process.wait_for(first + 300)
        ends[first] = process.kill()
    recover(collector)
    clients = [umami.Client(spool=str(folder)) for _ in range(3)]
    assert all(client.flush(DEADLINE) for client in clients)
    for client in clients:
        client.shutdown()
    stored = numbers(collector)
    assert max(stored.values()) == 1
    for first, end in ends.items():
        assert set(range(first, end)) <= set(stored)


@pytest.mark.slow
def test_overflow_goes_to_disk_and_is_sent_in_order(
    collector: Collector, folder: Path, make_client: Callable[..., umami.Client]
) -> None:
    collector.fail(None, freeze=True)
    client = make_client(spool=str(folder), queue_size=100, senders=1)
    for number in range(5000):
        assert client.new_event("e", custom_data={"n": number}) == {"queued": True}
    stats = client.queue_stats()
    assert (stats.pending, stats.dropped) == (5000, {})
    assert stats.pending_bytes < 101 * 400
    collector.thaw()
    assert client.flush(DEADLINE)
    assert [event.data["n"] for event in collector.events] == list(range(5000))
    assert client.queue_stats().delivered == 5000


def test_a_full_spool_falls_back_to_memory_and_its_policy(
    collector: Collector, folder: Path, make_client: Callable[..., umami.Client]
) -> None:
    collector.fail(None, freeze=True)
    client = make_client(spool=str(folder), spool_max_bytes=20_000, queue_size=100)
    answers = [client.new_event("e", custom_data={"n": number})["queued"] for number in range(500)]
    stats = client.queue_stats()
    assert answers.count(False) == stats.dropped["queue_full"] > 0
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 21_000
    collector.thaw()
    assert client.flush(DEADLINE)
    assert client.queue_stats().delivered == answers.count(True)


def test_a_failing_disk_is_said_and_the_events_live_in_memory(
    collector: Collector,
    folder: Path,
    make_client: Callable[..., umami.Client],
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = make_client(spool=str(folder))
    client.new_event("before")
    assert client.flush(DEADLINE)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    for _ in range(100):
        assert client.new_event("after") == {"queued": True}
    assert client.flush(DEADLINE)
    assert [event.name for event in collector.events].count("after") == 100
    assert str(folder) in caplog.text


@pytest.mark.slow
def test_a_torn_last_record_is_dropped_and_counted(folder: Path, orphan: Path) -> None:
    whole = umami.spool.files(folder)[0].events
    assert whole is not None
    orphan.write_bytes(orphan.read_bytes()[:-7])
    stats = drain(folder)
    assert stats.dropped == {"torn": 1}
    assert stats.delivered in (whole - 1, whole)  # the kill itself may have torn the last one
    assert stats.submitted == stats.delivered + 1


@pytest.mark.slow
def test_a_damaged_file_is_set_aside_and_named(
    folder: Path, orphan: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = bytearray(orphan.read_bytes())
    content[len(content) // 2] ^= 0xFF
    orphan.write_bytes(content)
    stats = drain(folder)
    assert stats.submitted == stats.delivered + stats.dropped["spool_damaged"] > stats.delivered > 0
    (kept,) = folder.iterdir()
    assert kept.suffix == ".damaged"
    assert kept.read_bytes().startswith(content)  # what was sent and what was lost is noted behind it
    assert str(kept) in caplog.text
    assert "not getting through" not in caplog.text  # nor are they: the others are


def test_what_the_server_refused_is_not_sent_again(
    collector: Collector, folder: Path, make_client: Callable[..., umami.Client]
) -> None:
    collector.fail(403, body={"error": {"message": "Forbidden", "code": "forbidden", "status": 403}})
    client = make_client(spool=str(folder))
    client.new_event("refused")
    assert client.flush(DEADLINE)
    assert client.queue_stats().rejected == 1
    client.shutdown()
    assert drain(folder).submitted == 0


@pytest.mark.slow
def test_a_child_of_a_fork_has_files_of_its_own(
    collector: Collector, folder: Path, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    program = f"""
        import os, sys, warnings, umami
        warnings.simplefilter("ignore", DeprecationWarning)
        umami.configure(url_base={collector.url!r}, website_id={SITE!r}, hostname="example.com")
        for number in range(100):
            umami.new_event("e", custom_data={{"n": number}})
        if os.fork() == 0:
            for number in range(100, 200):
                umami.new_event("e", custom_data={{"n": number}})
            sys.exit(0)
        os.wait()
    """
    done = python(program, UMAMI_SPOOL=str(folder))
    assert done.returncode == 0, done.stderr
    assert numbers(collector) == Counter(range(200))
    assert not list(folder.iterdir())


def test_only_its_owner_may_read_the_spool(
    folder: Path, make_client: Callable[..., umami.Client], collector: Collector
) -> None:
    collector.fail(None, freeze=True)
    client = make_client(spool=str(folder))
    before = os.umask(0)
    try:
        client.new_event("secret")
    finally:
        os.umask(before)
    (file,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_no_credential_is_written_to_disk(
    folder: Path, collector: Collector, make_client: Callable[..., umami.Client]
) -> None:
    client = make_client(spool=str(folder), url_base=collector.url.replace("//", "//user:g3heim-zeichen@"))
    token = client.login("admin", PASSWORD).token
    collector.fail(None, freeze=True)
    client.new_event("e")
    (file,) = folder.iterdir()
    assert b"g3heim-zeichen" not in file.read_bytes()
    assert token.encode() not in file.read_bytes()


def test_the_spool_of_a_client_cannot_be_changed(
    folder: Path, make_client: Callable[..., umami.Client], tmp_path: Path
) -> None:
    client = make_client(spool=str(folder))
    with pytest.raises(umami.errors.ValidationError, match="cannot be changed"):
        client.configure(spool=str(tmp_path / "other"))
    with pytest.raises(umami.errors.ValidationError, match="cannot be changed"):
        client.configure(spool=None)


def test_a_spool_that_cannot_be_used_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(umami.errors.ValidationError, match="spool must be a folder"):
        umami.Client(spool=str(tmp_path / "file"))


class TestCommand:
    @pytest.fixture
    def left(self, collector: Collector, folder: Path, sender: Callable[..., Sender]) -> int:
        """Leave some events in the spool, and return how many."""
        collector.fail(503, times=None)
        process = sender()
        process.wait_for(40)
        process.kill()
        recover(collector)
        return sum(file.events or 0 for file in umami.spool.files(folder))

    @pytest.mark.slow
    def test_list_says_what_waits_and_where_it_goes(
        self, left: int, collector: Collector, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["spool", "list", str(folder)]) == 0
        output = capsys.readouterr().out
        assert f"{collector.url}/api/send" in output
        assert f"Waiting to be sent: {left:,} events in 1 file." in output

    @pytest.mark.slow
    def test_send_sends_it(
        self, left: int, collector: Collector, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["spool", "send", str(folder)]) == 0
        assert f"{left:,} sent" in capsys.readouterr().out
        assert len(collector.events) == left

    @pytest.mark.slow
    def test_send_says_what_is_left_when_the_server_is_away(
        self,
        left: int,
        collector: Collector,
        folder: Path,
        python: Callable[..., subprocess.CompletedProcess[str]],
    ) -> None:
        collector.fail(503, times=None)
        for seconds in ("1", "5", "25"):  # a slow machine may have no answer within the first
            command = ["spool", "send", str(folder), "--timeout", seconds]
            done = python("import umami.cli; raise SystemExit(umami.cli.main())", *command)
            assert done.returncode == 1
            assert f"{left:,} left" in done.stdout
            if "503" in done.stderr:
                break
        assert "503" in done.stderr

    @pytest.mark.slow
    def test_clear_deletes_it(self, left: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["spool", "clear", str(folder), "--yes"]) == 0
        assert f"Deleted: {left:,} events in 1 file." in capsys.readouterr().out
        assert not list(folder.iterdir())

    @pytest.mark.parametrize("order", ["--yes clear {}", "clear --timeout 5 --yes {}", "clear {} --yes"])
    def test_options_may_stand_anywhere(
        self, order: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["spool", *order.format(tmp_path).split()]) == 0
        assert "Deleted: 0 events in 0 files." in capsys.readouterr().out

    def test_a_missing_folder_is_an_error(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["spool", "list", str(tmp_path / "none")]) == 2
        assert "is not a folder" in capsys.readouterr().err
