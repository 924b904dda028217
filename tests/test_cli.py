"""The commands of the terminal that send, log in and query, against the collector."""

import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import DEADLINE, PASSWORD, ROOT, SITE, with_each

from umami import __version__
from umami.cli import COMMANDS, main
from umami.collector import Collector

BOT = "Googlebot/2.1 (+http://www.google.com/bot.html)"


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector of the test's own, because some register websites."""
    with Collector(password=PASSWORD) as server:
        yield server


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, collector: Collector) -> None:
    for name in [each for each in os.environ if each.startswith("UMAMI_") and "TEST" not in each]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UMAMI_URL", collector.url)
    monkeypatch.setenv("UMAMI_WEBSITE_ID", SITE)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))


@pytest.fixture
def logged_in(collector: Collector, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["login", "--username", "admin", "--password-stdin"]) == 0
    capsys.readouterr()


def test_the_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"umami {__version__}\n"


@with_each("name", COMMANDS)
def test_each_command_teaches_by_examples(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: umami {name} ")
    assert f"examples:\n  umami {name}" in shown or name == "login"


@pytest.mark.parametrize("version", ["2.0", "2.15", "2.16", "2.17", "3.0.1", "3.4"])
def test_a_send_says_that_it_was_stored_on_each_generation(version, capsys):
    with Collector(umami=version) as server:
        server.add_website("example.com", "example.com", SITE)
        options = ["--server", server.url, "--hostname", "example.com"]
        assert main(["event", "signup", "--data", "plan=pro", "seats:=3", *options]) == 0
        assert capsys.readouterr().out.startswith("Stored: event signup. The server is Umami ")
        assert server.events[-1].name == "signup"
        assert server.events[-1].data == {"plan": "pro", "seats": 3}


def test_the_other_sends(collector, capsys):
    assert main(["page-view", "https://example.com/pricing?a=1", "--title", "Pricing"]) == 0
    assert main(["revenue", "19.99", "EUR", "--name", "checkout", "--hostname", "example.com"]) == 0
    assert main(["identify", "user-17", "--data", "plan=pro", "--hostname", "example.com"]) == 0
    view, sale = collector.events
    assert (view.title, view.hostname, sale.name) == ("Pricing", "example.com", "checkout")
    assert sale.data == {"revenue": 19.99, "currency": "EUR"}
    assert collector.identities[-1].data == {"plan": "pro"}
    assert capsys.readouterr().err == ""


def test_a_refused_send_shows_the_servers_words(capsys):
    send = ["event", "signup", "--hostname", "example.com"]
    with Collector(auto_register=False) as server:
        assert main([*send, "--server", server.url]) == 1
    assert capsys.readouterr().err == "umami: the server refused it: 400 Website not found.\n"
    assert main([*send, "--user-agent", BOT, "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["outcome"] == "rejected"
    assert said["message"].startswith("Umami dropped it as a bot's")


@pytest.mark.parametrize(
    ("words", "environment_", "code", "said"),
    [
        (
            "event x --hostname a",
            {"UMAMI_URL": ""},
            2,
            "no server is set: set UMAMI_URL, or pass --server URL",
        ),
        (
            "event x",
            {"UMAMI_WEBSITE_ID": ""},
            2,
            "no website is set: set UMAMI_WEBSITE_ID, or pass --website",
        ),
        ("event x", {}, 2, "no host name is set: set UMAMI_HOSTNAME, or pass --hostname NAME"),
        ("event x --hostname a --server ftp://a", {}, 2, "url_base: The url must start with the HTTP scheme"),
        ("event x --hostname a --server http://127.0.0.1:9", {}, 1, "not sent: http://127.0.0.1:9/api/"),
        ("websites", {}, 2, "you are not logged in: run `umami login`, or set UMAMI_API_KEY"),
        ("stats --last 1d --since 2026-01-01", {}, 2, "--last does not go with --since and --until"),
        ("login --username admin", {}, 2, "no password: there is no terminal to ask on"),
        ("logout", {}, 1, "there is no login at http://127.0.0.1"),
    ],
)
def test_a_users_error_is_one_line_that_says_what_to_do(words, environment_, code, said, monkeypatch, capsys):
    for name, value in environment_.items():
        monkeypatch.delenv(name) if not value else monkeypatch.setenv(name, value)
    assert main(words.split()) == code
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert shown.err.startswith(f"umami: {said}")


@pytest.mark.parametrize("command", ["stats --since", "import x.log --until", "event x --time"])
def test_each_command_reads_times_alike(command, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*command.split(), "yesterday"])
    assert "'yesterday' is not a time, such as 2026-03-01T12:30" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("collector --database /nowhere/x.db", "/nowhere/x.db: unable to open database file"),
        ("collector --port 65536", "'65536' is not a port: use 1 to 65535, or 0 for a free one"),
        ("demo --rate 0", "--visits must not be negative, and --rate must be above 0"),
        ("stats --last 999999w", "'999999w' is longer than 100 years"),
        ("import --format-regex ( x.log", "--format-regex: it is no regular expression"),
        ("import --columns a=b x.log", "--columns needs --format table"),
        ("import --state /dev/null/x x.log", "/dev/null"),
        ("login --username \udcff", "is not valid UTF-8"),
    ],
)
def test_a_wrong_argument_is_said_without_a_traceback(words, said, monkeypatch, capsys):
    monkeypatch.setenv("UMAMI_PASSWORD", "x")
    try:
        code = main(words.split())
    except SystemExit as error:
        code = error.code
    assert code in (1, 2)
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "end", "code"),
    [
        ("websites --csv", ">&-", 0),
        ("websites --csv", "> /dev/full", 1),
        ("websites --csv", "| (exec <&-; sleep 1)", 1),
        ("spool list .", "| (exec <&-; sleep 1)", 1),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
@pytest.mark.usefixtures("logged_in")
def test_a_closed_or_full_output_is_no_crash(words, end, code, tmp_path):
    script = f"{sys.executable} -m umami {words} {end}; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(
        ["bash", "-c", script], check=False, cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=DEADLINE
    )
    assert ended.returncode == code, ended.stderr
    assert ended.stderr == ("umami: No space left on device\n" if "full" in end else "")


def test_a_disabled_send_needs_nothing(monkeypatch, capsys, collector):
    monkeypatch.setenv("UMAMI_DISABLED", "1")
    assert main(["event", "x"]) == 0
    assert capsys.readouterr().out == "Nothing was sent: UMAMI_DISABLED is set.\n"
    assert collector.events == ()


def test_a_login_is_kept_for_its_owner_alone_until_the_logout(tmp_path, collector, capsys, monkeypatch):
    assert main(["login", "--username", "admin", "--password-stdin"]) == 0
    (file,) = (tmp_path / "umami").iterdir()
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (0o600, 0o700)
    assert PASSWORD not in file.read_text() + capsys.readouterr().out
    monkeypatch.delenv("UMAMI_URL")  # the only login's server is the default
    assert main(["websites"]) == 0
    assert main(["logout"]) == 0
    assert not file.exists()
    assert collector.requests[-1].path == "/api/auth/logout"


@pytest.mark.parametrize("key", ["key", "umami_key"])
@pytest.mark.usefixtures("logged_in")
def test_a_logout_revokes_the_kept_token_although_an_api_key_is_set(key, tmp_path, collector, monkeypatch):
    monkeypatch.setenv("UMAMI_API_KEY", key)
    monkeypatch.delenv("UMAMI_URL")
    assert main(["logout"]) == 0
    assert not list((tmp_path / "umami").iterdir())
    (request,) = [each for each in collector.requests if each.path == "/api/auth/logout"]
    assert request.headers["authorization"].startswith("Bearer ")


def cannot_be_opened(login: Path) -> None:
    login.unlink()
    login.mkdir()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda login: login.write_text("[1, 2"), "it is damaged"),
        (lambda login: login.write_text('{"url": 1}'), "it is damaged"),
        (cannot_be_opened, "Is a directory"),
    ],
)
@pytest.mark.usefixtures("logged_in")
def test_a_login_that_cannot_be_read_stops_only_what_needs_it(spoil, why, tmp_path, capsys):
    (login,) = (tmp_path / "umami").iterdir()
    spoil(login)
    assert main(["event", "signup", "--hostname", "example.com"]) == 0
    said = f"the login in {login} cannot be read, {why}: delete it, and run `umami login` again"
    assert main(["websites"]) == 2
    assert capsys.readouterr().err == f"umami: {said}\n"
    assert main(["doctor", "--no-send"]) == 0
    assert f"note  login       {said}. Sends need none" in capsys.readouterr().out
    if login.is_file():
        assert main(["logout"]) == 0
        assert not login.exists()
        assert "the server was not told: the login could not be read" in capsys.readouterr().err


def test_a_user_without_a_home_directory_can_send(monkeypatch, capsys):
    def unknown(_: int) -> None:
        raise KeyError

    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert main(["event", "signup", "--hostname", "example.com"]) == 0
    assert main(["login", "--username", "admin", "--password-stdin"]) == 2
    assert main(["import", "--yes", os.devnull]) == 2
    assert (
        capsys.readouterr().err.count("umami: this user has no home directory to keep files in: set HOME")
        == 2
    )


def test_a_wrong_password_keeps_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UMAMI_PASSWORD", "wrong-secret")
    assert main(["login", "--username", "admin"]) == 1
    shown = capsys.readouterr()
    assert "The user name or the password is wrong." in shown.err
    assert "wrong-secret" not in shown.err
    assert not (tmp_path / "umami").exists()


@pytest.mark.usefixtures("logged_in")
def test_the_tables(collector, capsys):
    collector.add_website("\x1b[31mShop\x07", "shop.example")
    main(["page-view", "https://example.com/"])
    capsys.readouterr()
    assert main(["websites"]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split() == ["ID", "NAME", "DOMAIN", "CREATEDAT"]
    assert "\\x1b[31mShop\\x07" in shown
    assert "\x1b" not in shown
    assert main(["websites", "--json"]) == 0
    assert {each["domain"] for each in json.loads(capsys.readouterr().out)} >= {"shop.example"}
    assert main(["stats", "--last", "24h", "--csv"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == ["sum,now,before", "pageviews,1,0", "visitors,1,0"]
    assert main(["stats", SITE, "--since", "2026-01-01", "--until", "2026-01-02", "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert (stats["pageviews"], stats["until"][:23]) == (0, "2026-01-02T23:59:59.999")
    assert main(["active", "--csv"]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith(",1")
    assert main(["stats", "nothere"]) == 1
    assert "this login sees no website nothere: there are " in capsys.readouterr().err


@pytest.mark.usefixtures("logged_in")
def test_a_login_that_expired_is_said(collector, capsys):
    collector.revoke_tokens()
    assert main(["websites"]) == 1
    assert capsys.readouterr().err.endswith("Run `umami login` again, or check UMAMI_API_KEY.\n")


def test_the_log_is_shown_if_asked(capsys):
    assert main(["event", "x", "--hostname", "example.com", "--verbose"]) == 0
    assert "Events go to " in capsys.readouterr().err


@pytest.mark.parametrize("outage", [False, True])
def test_the_demo_needs_no_server_and_its_counts_agree(outage, monkeypatch, capsys):
    monkeypatch.setenv("UMAMI_URL", "http://127.0.0.1:9")  # it has nothing to do with the demo
    monkeypatch.setenv("UMAMI_DISABLED", "1")
    words = ["demo", "--visits", "60", "--rate", "300"]
    assert main([*words, "--outage"] if outage else words) == 0
    shown = capsys.readouterr().out
    assert "The counts agree." in shown
    assert ("The collector is stopped." in shown) is outage
