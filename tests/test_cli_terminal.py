"""The command on a real terminal: prompts, colours, width, Ctrl-C."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import DEADLINE, PASSWORD, SITE
from typing_extensions import Self

from umami.collector import Collector

pty = pytest.importorskip("pty", reason="needs terminals as Unix has them")
termios = pytest.importorskip("termios")


_PROGRAM = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C arrives as a signal
from umami.cli import main
sys.exit(main())
"""


pytestmark = pytest.mark.slow  # each starts processes


class Terminal:
    """A command on a terminal of 60 columns."""

    def __init__(self, folder: Path, url: str, *arguments: str, **environment: str) -> None:
        self._terminal, other = pty.openpty()
        termios.tcsetwinsize(other, (24, 60)) if hasattr(termios, "tcsetwinsize") else None
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("UMAMI_", "NO_COLOR"))
        }
        own = {"UMAMI_URL": url, "XDG_STATE_HOME": str(folder), "TERM": "xterm", "COLUMNS": "60"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *arguments],
            stdin=other,
            stdout=other,
            stderr=other,
            env={**clean, **own, **environment},
            start_new_session=True,
        )
        os.close(other)
        self.shown = ""

    def until(self, text: str | None) -> str:
        """Read until a text was shown, or until the end."""
        end = time.monotonic() + DEADLINE
        while text is None or text not in self.shown:
            assert time.monotonic() < end, self.shown
            try:
                got = os.read(self._terminal, 4096)
            except OSError:  # the other end is closed
                got = b""
            if not got:
                break
            self.shown += got.decode()
        assert text is None or text in self.shown
        return self.shown

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._terminal)


@pytest.fixture
def server() -> Iterator[Collector]:
    with Collector(password=PASSWORD) as server:
        yield server


def test_a_person_logs_in_and_looks(server, tmp_path):
    server.add_website("[bold]Shop[/bold]", "shop.example")
    with Terminal(tmp_path, server.url, "login") as terminal:
        terminal.until("User name: ")
        terminal.type("admin\n")
        terminal.until("Password of admin at ")
        terminal.type(f"{PASSWORD}\n")
        shown = terminal.until(None)
        assert terminal.process.wait(DEADLINE) == 0
        assert f"Logged in to {server.url} as admin." in shown
        assert PASSWORD not in shown
    with Terminal(tmp_path, server.url, "websites") as terminal:
        shown = terminal.until(None)
    assert "[bold]" in shown  # a name is not markup
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in shown.splitlines()]
    assert max(map(len, lines)) <= 60


@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_ctrl_c_or_ctrl_d_at_the_prompt_ends_it_without_a_traceback(key, server, tmp_path):
    with Terminal(tmp_path, server.url, "login", "--username", "admin") as terminal:
        terminal.until("Password of admin at ")
        terminal.type(key)
        assert "Traceback" not in terminal.until(None)
        assert "umami: interrupted" in terminal.shown
        assert terminal.process.wait(DEADLINE) == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("environment", "colors"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_shown_unless_they_are_not_wanted(environment, colors, server, tmp_path):
    with Terminal(tmp_path, server.url, "doctor", "--no-send", **environment) as terminal:
        assert ("\x1b[32mok" in terminal.until(None)) is colors
        assert terminal.process.wait(DEADLINE) == 1  # no website is set


def test_an_import_asks_shows_how_far_it_is_and_stops_in_good_order(server, tmp_path):
    log = tmp_path / f"access-{'x' * 50}.log"
    browser = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
    line = '203.0.113.9 - - [15/Jun/2025:15:06:40 +0000] "GET /{} HTTP/1.1" 200 99 "-" "{}"\n'
    log.write_text("".join(line.format(number, browser) for number in range(3000)))
    own = {"UMAMI_WEBSITE_ID": SITE, "UMAMI_HOSTNAME": "example.com", "UMAMI_TIMEOUT": "1"}
    with Terminal(tmp_path, server.url, "import", "--rate", "150", str(log), **own) as terminal:
        terminal.until("3,000 page views to send: about 23 s at 130 a second")
        terminal.until("Import? [y/N] ")
        terminal.type("y\n")
        server.wait_for(events=50, timeout=DEADLINE)
        terminal.until(" sent  ")
        server.stop()
        terminal.until("the server does not take page views, so the import waits: ")
        server.start()
        terminal.until("the server takes page views again")
        terminal.type("\x03")
        shown = terminal.until(None)
        assert terminal.process.wait(DEADLINE) == 130
    lines = re.split(r"[\r\n]+", shown.replace("^C", ""))  # which the terminal shows
    progress = [line for line in lines if re.match(r" *\d+%  [\d,]+ sent  \d+/s  ", line)]
    assert any(" s left  " in line for line in progress)
    assert max(map(len, progress)) < 60
    assert "umami: interrupted; the same command goes on where this one stopped" in lines
    [delivered] = [int(line.split()[0].replace(",", "")) for line in lines if line.endswith("  delivered")]
    stored = len({event.url_path for event in server.events})
    # The batch that was under way when the server stopped may be stored, without an answer that says so.
    assert delivered <= stored <= delivered + 50 < 3000
