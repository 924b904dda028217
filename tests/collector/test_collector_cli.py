"""The command ``umami collector``."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from collector_helpers import item
from conftest import CHROME, with_each

from umami.cli import main

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-W", "error", "-m", "umami", "collector"]


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in a process of its own, and the address that its first line names."""
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    with subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.fullmatch(r"Umami collector listening on (http://127\.0\.0\.1:\d+)\n", line)
            assert match is not None, line or process.communicate()[1]
            yield process, match[1]
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_cleanly(number):
    with running() as (process, url):
        assert httpx.post(f"{url}/api/send", json=item(), headers={"User-Agent": CHROME}).status_code == 200
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.slow
def test_it_can_stop_by_itself():
    with running("--stop-after", "0.1", "--quiet") as (process, _):
        assert process.wait(30) == 0


@pytest.mark.slow
def test_its_options_reach_the_collector(tmp_path):
    file = tmp_path / "umami.db"
    options = ["--no-auto-register", "--username", "me", "--password", "secret", "--database", str(file)]
    options += ["--allow-host", "one", "--allow-host", "two"]
    with running(*options) as (_, url):
        refused = httpx.post(f"{url}/api/send", json=item(), headers={"User-Agent": CHROME})
        assert refused.json()["error"]["message"] == "Website not found."
        credentials = {"username": "me", "password": "secret"}
        assert httpx.post(f"{url}/api/auth/login", json=credentials).status_code == 200
        for host, status in (("one", 200), ("two:3000", 200), ("three", 403)):
            assert httpx.get(url, headers={"Host": host}).status_code == status
    assert file.exists()


def test_a_taken_port_is_said(collector, capsys):
    assert main(["collector", "--port", str(collector.port)]) == 2
    said = capsys.readouterr().err
    assert said == f"umami: cannot listen on 127.0.0.1:{collector.port}: Address already in use\n"


@with_each("host", ["0.0.0.0", "192.0.2.1", "example.com", "::"])
def test_other_machines_are_not_let_in_unasked(host, capsys):
    assert main(["collector", "--host", host, "--stop-after", "0"]) == 2
    assert capsys.readouterr() == (
        "",
        f"umami: {host} is not a loopback address: add --allow-remote to allow it\n",
    )


@with_each(
    "options",
    [
        ["--host", "localhost"],
        ["--host", "::1"],
        ["--host", "127.0.0.2"],
        ["--host", "0.0.0.0", "--allow-remote"],
    ],
)
def test_loopback_and_what_is_allowed(options, capsys):
    assert main(["collector", *options, "--stop-after", "0"]) == 0
    assert capsys.readouterr().out.startswith("Umami collector listening on http://")


def test_signal_handlers_are_put_back(capsys):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    main(["collector", "--stop-after", "0"])
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_counts_are_shown_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert main(["collector", "--stop-after", "0.01"]) == 0
    assert "\r0 events, 0 requests" in capsys.readouterr().err
    assert main(["collector", "--stop-after", "0.01", "--quiet"]) == 0
    assert "events" not in capsys.readouterr().err


def test_a_command_is_needed(capsys):
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "the following arguments are required: COMMAND" in capsys.readouterr().err


@pytest.mark.slow
def test_it_answers_as_another_version():
    with running("--umami", "2.19", "--node", "24") as (_, url):
        headers = {"User-Agent": CHROME}
        assert httpx.post(f"{url}/api/batch", json=[item()], headers=headers).status_code == 500
        answer = httpx.post(f"{url}/api/send", json=item(name="x" * 51), headers=headers)
        assert answer.json() == {"error": ["payload: "]}


def test_what_is_no_version_is_refused(capsys):
    assert main(["collector", "--umami", "newest"]) == 2
    assert capsys.readouterr().err == (
        "umami: 'newest' is not a version of Umami: use '2.15', '3.1' or the like, or 'cloud'.\n"
    )
