"""The spool's settings: syncing, `spool_required` and `rejected`."""

import errno
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE, SITE
from queue_helpers import NEVER, Listener, drain, refusal, send_many, stored, until

import umami
from umami._spool.disk import Disk
from umami.cli import main
from umami.collector import Collector

MakeClient = Callable[..., umami.Client]
FORBIDDEN = {"error": {"message": "Forbidden", "code": "forbidden", "status": 403}}


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what was synced to the disk itself."""
    found: list[str] = []
    sync, sync_path = Disk.sync, Disk.sync_path

    def noted(descriptor: int) -> None:
        found.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        sync(descriptor)

    def path_noted(self: Disk, path: str | os.PathLike[str]) -> None:
        if Path(path).is_dir():
            found.append(Path(path).name)
        sync_path(self, path)

    monkeypatch.setattr(Disk, "sync", staticmethod(noted))
    monkeypatch.setattr(Disk, "sync_path", path_noted)
    return found


# spool_sync


def test_by_default_nothing_is_synced(
    collector: Collector, folder: Path, make_client: MakeClient, synced: list[str]
) -> None:
    client = make_client(spool=str(folder))
    send_many(client, 20)
    assert client.flush(DEADLINE)
    client.shutdown()
    assert not synced


def test_always_syncs_each_event_and_the_name_of_its_file(
    collector: Collector, folder: Path, make_client: MakeClient, synced: list[str]
) -> None:
    collector.fail(None, freeze=True)
    client = make_client(spool=str(folder), spool_sync="always", spool_sync_interval=1000)
    send_many(client, 1)
    (file,) = folder.iterdir()
    assert set(synced) == {file.name, folder.name}
    before = synced.count(file.name)
    send_many(client, 5)
    assert synced.count(file.name) == before + 5


def test_an_interval_syncs_what_was_written_and_then_rests(
    collector: Collector, folder: Path, make_client: MakeClient, synced: list[str]
) -> None:
    collector.fail(None, freeze=True)
    client = make_client(spool=str(folder), spool_sync="interval", spool_sync_interval=0.01)
    send_many(client, 20)
    (file,) = folder.iterdir()
    until(lambda: {file.name, folder.name} <= set(synced))
    disk = client._state._storage.spool._folder
    segment = next(iter(disk._own))
    until(lambda: segment.synced == segment.size and disk._syncer.sleeps)
    count = len(synced)
    send_many(client, 1)
    until(lambda: len(synced) > count and segment.synced == segment.size)


def test_a_disk_that_cannot_sync_is_said_and_the_events_live_in_memory(
    collector: Collector, folder: Path, make_client: MakeClient, heard: Listener, monkeypatch: Any
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    client = make_client(spool=str(folder), spool_sync="always")
    monkeypatch.setattr(Disk, "sync", staticmethod(broken))
    names = send_many(client, 30)
    assert client.flush(DEADLINE)
    heard.wait_for("Input/output error")
    assert stored(collector) == dict.fromkeys(names, 1)


# A spool that is not required, locks that fail, a folder that goes.


def test_a_client_may_start_without_its_spool(
    tmp_path: Path, collector: Collector, make_client: MakeClient, heard: Listener
) -> None:
    (tmp_path / "file").write_text("")
    spool = str(tmp_path / "file")
    assert "spool_required=False" in refusal(umami.Client, spool=spool)
    client = make_client(spool=spool, spool_required=False)
    heard.wait_for("Events are kept in memory only")
    send_many(client, 3)
    assert client.flush(DEADLINE)
    assert len(collector.events) == 3


def test_locks_that_fail_are_said_and_events_live_in_memory(
    folder: Path, collector: Collector, make_client: MakeClient, heard: Listener, monkeypatch: Any
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(Disk, "lock", staticmethod(broken))
    client = make_client(spool=str(folder))
    names = send_many(client, 200)
    assert client.flush(DEADLINE)
    heard.wait_for("No locks available")
    client.shutdown()
    assert len(heard.matching("No locks available")) == 1
    assert stored(collector) == dict.fromkeys(names, 1)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("removed", ["spool", "parents"])
def test_a_folder_that_was_removed_is_made_anew(
    removed: str,
    folder: Path,
    collector: Collector,
    make_client: MakeClient,
    heard: Listener,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("umami.queue.workers._LOOK_SECONDS", 0.01)
    collector.fail(None, freeze=True)
    top, folder = folder, folder if removed == "spool" else folder / "var" / "spool"
    client = make_client(spool=str(folder))
    send_many(client, 3)
    shutil.rmtree(top)
    heard.wait_for("its events are no longer on disk")
    send_many(client, 2, "more")
    heard.wait_for("It is created again")
    assert sum(file.stat().st_size for file in folder.iterdir()) > 0
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    collector.thaw()
    assert client.flush(DEADLINE)
    assert len(collector.events) == 5
    collector.clear()
    assert drain(copy).delivered == 2


def test_a_folder_that_cannot_be_made_anew_is_not_tried_at_each_send(
    folder: Path,
    collector: Collector,
    make_client: MakeClient,
    heard: Listener,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("umami.queue.workers._LOOK_SECONDS", 0.01)
    monkeypatch.setattr("umami._spool.folder._CREATE_AGAIN", NEVER)
    made: list[Path] = []

    def mkdir(path: Path, mode: int) -> None:
        made.append(path)
        path.mkdir(mode)

    collector.fail(None, freeze=True)
    client = make_client(spool=str(folder / "var" / "spool"))
    send_many(client, 3)
    shutil.rmtree(folder / "var")
    (folder / "var").symlink_to("nowhere")
    heard.wait_for("its events are no longer on disk")
    monkeypatch.setattr(Disk, "mkdir", staticmethod(mkdir))
    send_many(client, 10, "more")
    assert made == [folder / "var" / "spool"]
    collector.thaw()
    assert client.flush(DEADLINE)
    assert len(collector.events) == 13


@pytest.mark.slow
def test_a_relative_folder_of_the_environment_stays_where_it_was(
    folder: Path, tmp_path: Path, collector: Collector, python: Callable[..., Any]
) -> None:
    program = f"""
        import os, umami
        os.chdir({str(tmp_path)!r})
        umami.configure(url_base={collector.url!r}, website_id={SITE!r}, hostname="example.com")
        umami.new_event("one")
        os.chdir("/")
        umami.configure(queue_size=500)
        umami.new_event("two")
        assert umami.flush(30)
    """
    done: subprocess.CompletedProcess[str] = python(program, UMAMI_SPOOL="spool")
    assert done.returncode == 0, done.stderr
    assert folder.is_dir()
    assert stored(collector) == {"one": 1, "two": 1}


def test_a_block_that_cannot_be_read_costs_its_events(
    folder: Path,
    collector: Collector,
    make_client: MakeClient,
    balanced: Callable[[umami.Client], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pread = os.pread

    def broken(descriptor: int, length: int, start: int) -> bytes:
        if start < 20_000 < start + length:
            raise OSError(errno.EIO, "Input/output error")
        return pread(descriptor, length, start)

    monkeypatch.setattr(Disk, "pread", staticmethod(broken))
    collector.fail(None, freeze=True)
    client = make_client(spool=str(folder), queue_size=10, senders=1)
    send_many(client, 200)
    collector.thaw()
    assert client.flush(DEADLINE)
    stats = client.queue_stats()
    assert 0 < stats.dropped["spool_damaged"] < 40
    assert stats.delivered == 200 - stats.dropped["spool_damaged"] == len(stored(collector))
    balanced(client)


# rejected


def test_rejected_events_are_kept_and_sent_again(
    tmp_path: Path, collector: Collector, make_client: MakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "rejected"
    collector.fail(403, body=FORBIDDEN)
    client = make_client(rejected=folder, batch_size=1)
    client.new_event("refused", custom_data={"n": 1})
    assert client.flush(DEADLINE)
    client.new_event("accepted")
    assert client.flush(DEADLINE)
    (file,) = folder.iterdir()
    (line,) = file.read_text().splitlines()
    read = json.loads(line)
    assert read["event"]["payload"]["name"] == "refused"
    assert read["exporter"] == f"umami:{collector.url}/api/send"
    assert {"rejected", "message", "time"} <= read.keys()
    assert file.stat().st_mode & 0o777 == 0o600
    assert main(["spool", "send", str(folder)]) == 0  # which leaves a file that is in use alone
    assert file.exists()
    client.shutdown()
    client.configure(rejected=None)
    assert main(["spool", "list", str(folder)]) == 0
    assert "1 events" in capsys.readouterr().out
    assert main(["spool", "send", str(folder)]) == 0
    assert "Sending again after a rejection: 1 event." in capsys.readouterr().out
    assert stored(collector) == {"accepted": 1, "refused": 1}
    assert not list(folder.iterdir())


def test_what_is_rejected_again_is_kept_again(
    tmp_path: Path, collector: Collector, make_client: MakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "rejected"
    collector.fail(403, body=FORBIDDEN, times=None)
    client = make_client(rejected=folder)
    send_many(client, 3)
    assert client.flush(DEADLINE)
    client.shutdown()
    client.configure(rejected=None)
    assert main(["spool", "send", str(folder)]) == 0
    assert "0 sent, 3 rejected, 0 dropped, 0 left" in (output := capsys.readouterr().out)
    assert re.search("^ +3  rejected: 403$", output, re.MULTILINE)
    assert f"Rejected events stay in {folder}, to be sent again." in output
    assert sum(len(file.read_text().splitlines()) for file in folder.iterdir()) == 3


def test_other_lines_are_no_rejected_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "empty.jsonl").touch()
    assert main(["spool", "send", str(tmp_path)]) == 0
    assert main(["spool", "clear", "--yes", str(tmp_path)]) == 0
    assert (tmp_path / "mine.jsonl").read_text() == '{"a": 1}\n'
    assert (tmp_path / "empty.jsonl").exists()
    capsys.readouterr()
    mixed = '{"rejected":"403","exporter":"umami:http://127.0.0.1:9/api/send","event":{}}\n{"a": 1}\n'
    (tmp_path / "mixed.jsonl").write_text(mixed)
    assert main(["spool", "send", str(tmp_path)]) == 2
    assert "mixed.jsonl, line 2" in capsys.readouterr().err
    assert (tmp_path / "mixed.jsonl").read_text() == mixed


def test_a_line_that_a_kill_cut_short_does_not_hold_up_the_others(
    tmp_path: Path, collector: Collector, make_client: MakeClient
) -> None:
    folder = tmp_path / "rejected"
    collector.fail(403, body=FORBIDDEN)
    client = make_client(rejected=folder, batch_size=1)
    client.new_event("refused")
    assert client.flush(DEADLINE)
    (file,) = folder.iterdir()
    (folder / "left.jsonl").write_bytes(file.read_bytes() + b'{"rejected":"403","mess')
    assert main(["spool", "send", str(folder)]) == 0
    assert stored(collector) == {"refused": 1}
    assert list(folder.iterdir()) == [file]


def test_rejected_must_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert refusal(umami.Client, rejected=tmp_path / "file").startswith("rejected must be a folder")
