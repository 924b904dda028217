"""`umami import`: the page views in web servers' logs, each sent once."""

import bz2
import gzip
import json
import lzma
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE, with_each
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from process_helpers import finished, running, settings
from queue_helpers import until

from umami.cli import main
from umami.cli._import.checkpoint import Checkpoints
from umami.cli._import.filters import Filter
from umami.cli._import.formats import FORMATS, common, detect, pattern, table
from umami.cli._import.hits import Hit
from umami.cli._import.importer import Importer
from umami.cli._import.reading import _zstd_module
from umami.cli._import.times import any_time
from umami.collector import Collector

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
BOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
IMPORT = "import sys; from umami.cli import main; sys.exit(main(sys.argv[1:]))"
AT = 1_750_000_000

Run = Callable[..., Any]


def line(path: str, number: int = 0, *, status: int = 200, method: str = "GET", ua: str = BROWSER) -> str:
    """Return a line of a log in the format `combined`."""
    at = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(AT + number))
    return f'203.0.113.{number % 200} - - [{at}] "{method} {path} HTTP/1.1" {status} 99 "-" "{ua}"\n'


def pages(count: int, begin: int = 0) -> str:
    return "".join(line(f"/page/{number}", number) for number in range(begin, begin + count))


def stored(collector: Collector) -> Counter[str]:
    return Counter(event.url_path for event in collector.events)


@pytest.fixture
def command(collector: Collector, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `umami import` in this process, and return its exit code, its output and its errors."""

    def command(*arguments: Any, **environment: str) -> tuple[int, str, str]:
        with monkeypatch.context() as patch:
            for name in [each for each in os.environ if each.startswith("UMAMI_")]:
                patch.delenv(name)
            for name, value in {**settings(collector), **environment}.items():
                patch.setenv(name, value)
            code = main(["import", *map(str, arguments)])
        return code, *capsys.readouterr()

    return command


@pytest.fixture
def run(command: Run, tmp_path: Path) -> Run:
    """Run `umami import --json`, and return its result."""

    def run(*arguments: Any, code: int = 0, **environment: str) -> Any:
        ended, shown, complaints = command(
            "--json", "--state", tmp_path / "state.json", *arguments, **environment
        )
        assert ended == code, (shown, complaints)
        return json.loads(shown) if shown.startswith("{") else complaints

    return run


# What a line says.

CLF = '203.0.113.9 - bob [15/Jun/2025:15:06:40 +0000] "GET /a?b=1 HTTP/2.0" 200 1'
REST = f'"https://news.example/x" "{BROWSER}"'
CADDY = {
    "level": "info",
    "ts": AT + 0.25,
    "request": {
        "remote_ip": "10.0.0.1",
        "client_ip": "203.0.113.9",
        "method": "GET",
        "host": "example.com",
        "uri": "/a?b=1",
        "headers": {"User-Agent": [BROWSER], "Referer": ["https://news.example/x"]},
    },
    "status": 200,
}
TRAEFIK = {
    "ClientHost": "203.0.113.9",
    "RequestMethod": "GET",
    "RequestPath": "/a?b=1",
    "RequestHost": "example.com",
    "DownstreamStatus": 200,
    "StartUTC": "2025-06-15T15:06:40.250000000Z",
    "request_User-Agent": BROWSER,
    "request_Referer": "https://news.example/x",
}
NGINX = {
    "time_iso8601": "2025-06-15T17:06:40+02:00",
    "remote_addr": "203.0.113.9",
    "request": "GET /a?b=1 HTTP/1.1",
    "status": "200",
    "http_referer": "https://news.example/x",
    "http_user_agent": BROWSER,
    "http_host": "example.com:8080",
}
CLOUDFRONT = (
    "2025-06-15 15:06:40 FRA1 1 203.0.113.9 GET d1.cloudfront.net /a 200 https://news.example/x UA b=1"
)
CLOUDFRONT = CLOUDFRONT.replace(" ", "\t").replace("UA", BROWSER.replace(" ", "%20"))
CLOUDFRONT_JSON = {
    "date": "2025-06-15",
    "time": "15:06:40",
    "c-ip": "203.0.113.9",
    "cs-method": "GET",
    "cs(Host)": "d1.cloudfront.net",
    "cs-uri-stem": "//a",
    "sc-status": "200",
    "cs(Referer)": "https://news.example/x",
    "cs(User-Agent)": BROWSER.replace(" ", "%2520"),  # twice, as until 2020
    "cs-uri-query": "b=1",
    "x-host-header": "example.com",
}
INGRESS = {  # nginx's $uri is decoded, and without the query
    "time": "2025-06-15T15:06:40+00:00",
    "remote_addr": "203.0.113.9",
    "vhost": "example.com",
    "path": "/a",
    "request_query": "b=1",
    "status": 200,
    "method": "GET",
    "http_referrer": "https://news.example/x",
    "http_user_agent": BROWSER,
}
ALB = (
    "https 2025-06-15T15:06:40.250000Z app/lb/1 203.0.113.9:5100 10.0.0.1:80 0.0 0.1 0.0 200 200 34 366 "
    f'"GET https://example.com:443/a?b=1 HTTP/2.0" "{BROWSER}" ECDHE TLSv1.2 arn "Root=1" "-" "-" 0'
)


@with_each(
    ("name", "text", "host", "referrer"),
    [
        ("combined", f"{CLF} {REST}", "", True),
        ("combined", f'{CLF} {REST} 17 "router@docker" "http://10.0.0.2" 3ms', "", True),
        ("combined", f'{CLF} - "{BROWSER}" 13 "Host-0" "http://10.0.0.2" 3ms', "", False),  # Traefik 1
        ("vhost_combined", f"example.com:443 {CLF} {REST}", "example.com", True),
        ("json", json.dumps(CADDY), "example.com", True),
        ("json", json.dumps(TRAEFIK), "example.com", True),
        (
            "json",
            json.dumps({**TRAEFIK, "ClientHost": None, "ClientAddr": "203.0.113.9:51"}),
            "example.com",
            True,
        ),
        ("json", json.dumps({**CADDY, "ts": "2025/06/15 15:06:40.250"}), "example.com", True),
        ("json", json.dumps(NGINX), "example.com", True),
        ("json", json.dumps(INGRESS), "example.com", True),
        ("json", json.dumps(CLOUDFRONT_JSON), "example.com", True),
        ("cloudfront", CLOUDFRONT, "d1.cloudfront.net", True),
        ("alb", ALB, "example.com", False),
    ],
)
def test_a_format_is_found_out_and_read(name: str, text: str, host: str, referrer: bool) -> None:
    assert detect([text]) == name
    hit = FORMATS[name]()(text)
    assert hit is not None
    assert (int(hit.time), hit.address, hit.method, hit.target) == (AT, "203.0.113.9", "GET", "/a?b=1")
    assert (hit.status, hit.ua, hit.host) == (200, BROWSER, host)
    assert hit.referrer == ("https://news.example/x" if referrer else "")


def test_common_has_neither_referrer_nor_user_agent() -> None:
    assert common(CLF) == Hit(AT, "203.0.113.9", "GET", "/a?b=1", 200)


@with_each(
    ("request_line", "method", "target"),
    [
        ("GET / HTTP/1.1", "GET", "/"),
        ("GET /with space HTTP/1.1", "GET", "/with space"),
        ("GET http://example.com/a?b HTTP/1.1", "GET", "/a?b"),
        ("GET //a/b?c HTTP/1.1", "GET", "/a/b?c"),
        (r"GET /\xc3\xa4\"q\" HTTP/1.1", "GET", '/\xe4"q"'),
        ("-", "", ""),
        (r"\x16\x03\x01", "", ""),
        ("", "", ""),
        ("CONNECT example.com:443 HTTP/1.1", "CONNECT", ""),
    ],
)
def test_a_request_line_of_any_kind_is_read(request_line: str, method: str, target: str) -> None:
    hit = common(f'203.0.113.9 - - [15/Jun/2025:15:06:40 +0000] "{request_line}" 400 0 "-" "-"')
    assert (hit.method, hit.target, hit.ua) == (method, target, "")


def test_what_is_no_request_is_no_page_view() -> None:
    for request in ("", "\x16\x03", "OPTIONS * HTTP/1.1"):
        hit = FORMATS["json"]()(json.dumps({**NGINX, "request": request, "status": "400"}))
        assert hit is not None
        assert (hit.method, hit.target) == ("", "")
    assert common(CLF.replace("200", "-")).status == 0


def test_a_log_of_iis_is_not_taken_for_one_of_cloudfront() -> None:
    assert (
        detect(["#Software: IIS", "#Version: 1.0", "#Fields: date time cs-uri-stem", "2025-06-15 15:06:40 /"])
        is None
    )


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)


@pytest.mark.slow
@given(TEXTS, TEXTS, TEXTS)
@examples(deadline=None)
def test_texts_of_any_kind_are_read_as_apachelogs_reads_them(path: str, referrer: str, ua: str) -> None:
    apachelogs = pytest.importorskip("apachelogs")
    parser = apachelogs.LogParser(apachelogs.COMBINED)

    def escaped(text: str) -> str:  # as Apache does
        raw = text.replace("\\", "\\\\").replace('"', '\\"').encode()
        return "".join(chr(byte) if byte < 127 else f"\\x{byte:02x}" for byte in raw)

    text = (
        f'203.0.113.9 - - [15/Jun/2025:17:06:40 +0200] "GET /{escaped(path)} HTTP/1.1" 200 5 '
        f'"{escaped(referrer)}" "{escaped(ua)}"'
    )
    ours, theirs = common(text), parser.parse(text)
    assert ours.time == theirs.request_time.timestamp() == AT
    assert ours.target == f"/{path.lstrip('/')}"
    for mine, name, given_ in ((ours.referrer, "Referer", referrer), (ours.ua, "User-Agent", ua)):
        assert mine == (given_ if given_ != "-" else "")
        assert (theirs.headers_in[name] or "").encode("latin-1", "replace") in (given_.encode(), b"")


@with_each(
    ("text", "expected"),
    [
        ("2025-06-15T15:06:40Z", AT),
        ("2025-06-15 15:06:40,250 +00:00", AT + 0.25),
        ("2025-06-15T17:06:40+0200", AT),
        ("15/Jun/2025:15:06:40 +0000", AT),
        (AT, AT),
        (AT * 1000, AT),
        (str(AT), AT),
    ],
)
def test_times_are_read(text: Any, expected: float) -> None:
    assert any_time(text) == expected


@with_each("text", ["", "now", "2025-13-15T15:06:40Z", "15/Jun/2025:15:06:99 +0000", True, -1, None])
def test_what_is_no_time_is_malformed(text: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        any_time(text)


def test_tables_and_patterns_name_their_fields() -> None:
    parse = table({"target": "Page", "time": "When"})
    assert parse("When,Page,ip,tag") is None
    hit = parse('2025-06-15T15:06:40Z,"/a,b",1,b')
    assert hit is not None
    assert (hit.time, hit.target, hit.more) == (AT, "/a,b", {"tag": "b"})
    parse = pattern(r"(?P<time>\S+) (?P<request>.+)")
    hit = parse(f"{AT} GET /a HTTP/1.1")
    assert hit is not None
    assert (hit.time, hit.method, hit.target) == (AT, "GET", "/a")
    for wrong in ("(", "(?P<time>.)", "(?P<time>.)(?P<target>.)(?P<size>.)"):
        with pytest.raises(ValueError, match="it "):
            pattern(wrong)


# What is left out.


@with_each(
    ("change", "options", "reason"),
    [
        ({}, {}, None),
        ({"method": "POST"}, {}, "other methods"),
        ({"status": 404}, {}, "errors and redirects"),
        ({"status": 304}, {}, None),
        ({"target": "/app.css?v=3"}, {}, "assets"),
        ({"target": "/app.css"}, {"assets": True}, None),
        ({"ua": BOT}, {}, "bots"),
        ({"ua": ""}, {}, "bots"),
        ({"ua": BOT}, {"bots": "tag"}, None),
        ({"purpose": "prefetch;prerender"}, {}, "prefetches"),
        ({"target": "/admin/x"}, {"exclude": ["/admin/*"]}, "excluded paths"),
        ({"target": "/b"}, {"include": ["/blog/*"]}, "excluded paths"),
        ({"address": "10.1.2.3"}, {"exclude_ip": ["10.0.0.0/8"]}, "excluded addresses"),
        (
            {"ua": "UptimeRobot monitor"},
            {"exclude_ua": ["*monitor*"], "bots": "keep"},
            "excluded User-Agents",
        ),
        ({"time": 5.0}, {"since": 6.0}, "before --since"),
        ({"time": 6.0}, {"until": 5.9}, "after --until"),
        ({"host": "other.example"}, {"sites": {"example.com": "x"}}, "other sites"),
        ({"host": "Example.com"}, {"sites": {"example.com": "x"}}, None),
    ],
)
def test_a_request_is_left_out_with_its_reason(
    change: dict[str, Any], options: dict[str, Any], reason: str | None
) -> None:
    hit = Hit(AT, "203.0.113.9", "GET", "/a", 200, ua=BROWSER)
    for name, value in change.items():
        setattr(hit, name, value)
    assert Filter(**options).reason(hit) == reason


@pytest.mark.slow
@given(st.lists(st.binary(max_size=60) | st.just(line("/a").encode()[:-1]), max_size=30))
@examples(deadline=None)
def test_each_line_is_counted_once_whatever_it_holds(lines: list[bytes]) -> None:
    path = Path(os.environ.get("PYTEST_TMP", "/tmp")) / f"umami-import-{os.getpid()}.log"
    lines = [line("/a").encode(), *lines]  # whatever follows, it does not begin as a compressed file does
    path.write_bytes(b"".join(each.replace(b"\n", b"") + b"\n" for each in lines))
    try:
        importer = Importer(Filter(), lambda: common)
        importer.scan(str(path))
    finally:
        path.unlink()
    counts = importer.counts
    assert counts.read == len(lines)
    assert counts.read == counts.headers + counts.malformed + sum(counts.left_out.values()) + counts.sent


def test_a_line_of_ten_megabytes_is_malformed_and_costs_no_other(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text(line("/a") + "x" * 10_000_000 + "\n" + line("/b"))
    importer = Importer(Filter())
    importer.scan(str(log))
    assert (importer.counts.sent, importer.counts.malformed) == (2, 1)
    assert importer.counts.examples == [(str(log), 2)]


# Sending.


def test_a_log_is_imported_once(collector: Collector, run: Run, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text("nonsense\n" + pages(30) + line("/bot", ua=BOT) + "x" * 70_000 + "\n")
    first = run("--yes", log)
    assert (first["sent"], first["delivered"], first["malformed"]) == (30, 30, 2)
    assert first["left_out"] == {"bots": 1}
    event = collector.events[7]
    assert (event.url_path, event.ip, event.timestamp, event.user_agent) == (
        "/page/7",
        "203.0.113.7",
        AT + 7,
        BROWSER,
    )
    # It is known under another name, compressed, and with more at its end.
    more = log.read_text() + pages(5, 30)
    for name, content in (
        ("access.log.1", log.read_bytes()),
        ("access.log.2.gz", gzip.compress(log.read_bytes())),
        ("access.log.3.bz2", bz2.compress(log.read_bytes())),
        ("access.log.4.xz", lzma.compress(log.read_bytes())),
        ("access.log", more.encode()),
    ):
        (tmp_path / name).write_bytes(content)
        again = run("--yes", tmp_path / name)
        # A line that is too long is read again.
        assert (again["read"] - again["sent"], again["imported_before"], again["malformed"]) == (33, 32, 1)
    assert again["delivered"] == 5
    assert stored(collector) == Counter({f"/page/{number}": 1 for number in range(35)})


def test_a_last_line_without_its_end_is_imported_once_too(
    collector: Collector, run: Run, tmp_path: Path
) -> None:
    log = tmp_path / "access.log"
    log.write_text(pages(3)[:-1])
    assert run("--yes", log)["delivered"] == 3
    log.write_text(pages(5))
    assert run("--yes", log)["delivered"] == 2
    assert stored(collector) == Counter({f"/page/{number}": 1 for number in range(5)})


@pytest.mark.slow
def test_a_dry_run_sends_nothing(collector: Collector, run: Run, tmp_path: Path) -> None:
    (tmp_path / "access.log").write_text(pages(5))
    assert run("--dry-run", tmp_path / "access.log")["sent"] == 5
    assert not collector.events


@pytest.mark.slow
def test_a_host_has_its_website(collector: Collector, run: Run, tmp_path: Path) -> None:
    shop = "5801a7a4-8f3c-4a53-a3f6-2f7bbd0f6a11"
    (tmp_path / "log").write_text(
        "".join(f"{host}:443 {line('/a', 1)}" for host in ("example.com", "shop.example.com", "else.example"))
    )
    site = settings(collector)["UMAMI_WEBSITE_ID"]
    sites = [f"--site=example.com={site}", f"--site=shop.example.com={shop}"]
    assert run("--yes", *sites, tmp_path / "log")["left_out"] == {"other sites": 1}
    assert {(event.hostname, event.website_id) for event in collector.events} == {
        ("example.com", site),
        ("shop.example.com", shop),
    }


@pytest.mark.parametrize(
    ("content", "arguments", "says"),
    [
        ("what is this\n", (), "no known format"),
        (pages(1), ("--site", "x"), "HOST=UUID"),
        (pages(1), ("--exclude-ip", "x"), "x"),
        (pages(1), ("--format-regex", "("), "no regular expression"),
        (pages(1), ("--rate", "0"), "--rate"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    content: str, arguments: tuple[str, ...], says: str, tmp_path: Path, command: Run, collector: Collector
) -> None:
    (tmp_path / "log").write_text(content)
    code, _, complaints = command("--yes", "--state", tmp_path / "s", *arguments, tmp_path / "log")
    assert code in (1, 2)
    assert says in complaints
    assert complaints.count("\n") == 1
    assert not collector.events


@pytest.mark.parametrize(
    ("unset", "says"),
    [
        ({"UMAMI_WEBSITE_ID": ""}, "no website is set"),
        ({"UMAMI_HOSTNAME": ""}, "the log names no hosts"),
        ({"UMAMI_DISABLED": "1"}, "UMAMI_DISABLED is set"),
    ],
)
def test_without_what_each_page_view_needs_nothing_is_sent_and_no_line_counts_as_imported(
    unset: dict[str, str], says: str, collector: Collector, command: Run, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "log").write_text(pages(3))
    state = ("--state", tmp_path / "state.json")  # that of `run`
    code, shown, complaints = command("--yes", *state, tmp_path / "log", **unset)
    assert (code, says in complaints) == (2, True)
    assert not re.search(r"[1-9]\d* +(lines read|page views)", shown)
    assert not collector.events
    assert run("--yes", tmp_path / "log")["delivered"] == 3


def test_a_pipe_goes_on_where_it_stopped(
    collector: Collector, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def piped(text: bytes) -> Any:
        read, write = os.pipe()
        threading.Thread(target=written, args=(write, text)).start()
        with os.fdopen(read, encoding="utf-8") as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            return run("-")

    def written(pipe: int, text: bytes) -> None:
        with os.fdopen(pipe, "wb") as file:
            file.write(text)

    assert piped(pages(30).encode())["delivered"] == 30
    assert piped(pages(35).encode())["delivered"] == 5
    again = piped(gzip.compress((pages(35) + pages(5, 40)).encode()))
    assert (again["imported_before"], again["delivered"]) == (35, 5)
    assert piped(pages(3, 50).encode())["delivered"] == 3  # another log
    (tmp_path / "log").write_text(pages(35) + pages(6, 40))  # the same one, as a file
    assert run("--yes", tmp_path / "log")["delivered"] == 1
    assert set(stored(collector).values()) == {1}


def compressed(text: str, ending: str) -> bytes:
    if ending == "zst":
        pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
        return bytes(_zstd_module().compress(text.encode()))
    return {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[ending](text.encode())


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst"])
@pytest.mark.parametrize("damage", ["none", "short", "garbled"])
def test_a_compressed_log_is_read_up_to_where_it_is_damaged(ending: str, damage: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    whole = compressed("".join(line(f"/{n * 2_654_435_761 % 2**32}", n) for n in range(4_000)), ending)
    middle = len(whole) // 2
    garbled = whole[:middle] + b"\xff" * 64 + whole[middle + 64 :]
    log.write_bytes({"none": whole, "short": whole[:middle], "garbled": garbled}[damage])
    importer = Importer(Filter(), lambda: common)
    importer.scan(str(log))
    if damage == "none":
        assert (importer.counts.sent, importer.counts.damaged) == (4_000, [])
    else:
        assert importer.counts.sent < 4_000
        assert [path for path, _ in importer.counts.damaged] == [str(log)]


def test_a_damaged_log_costs_no_other(collector: Collector, run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(gzip.compress(pages(500).encode())[:2_500])
    (tmp_path / "good").write_text(pages(3, 5_000))
    result = run("--yes", tmp_path / "bad", tmp_path / "good", code=1)
    assert result["damaged"] == [str(tmp_path / "bad")]
    assert result["delivered"] == result["sent"] > 3
    assert {f"/page/{number}" for number in (0, 5_000, 5_002)} <= set(stored(collector))


def test_a_server_that_stores_no_times_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(pages(20))
    with Collector(umami="2.15") as old:
        url = settings(old)["UMAMI_URL"]
        assert "date all page views" in run("--yes", tmp_path / "log", code=1, UMAMI_URL=url)
        assert len(old.events) == 1
        old.clear()
        assert run("--yes", "--without-time", tmp_path / "log", UMAMI_URL=url)["delivered"] == 19
        assert len(old.events) == 19


def test_a_server_that_refuses_all_page_views_stops_the_import_and_none_counts_as_imported(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "log").write_text(pages(60))
    with Collector(auto_register=False) as strict:
        url = settings(strict)["UMAMI_URL"]
        said = run("--yes", tmp_path / "log", code=1, UMAMI_URL=url)
        assert "refused the first 20 page views, so the import stopped: 400 Website not found." in said
        strict.add_website("Shop", "shop.example", settings(strict)["UMAMI_WEBSITE_ID"])
        assert run("--yes", tmp_path / "log", UMAMI_URL=url)["delivered"] == 60


# Interruptions.


@pytest.mark.slow
@pytest.mark.parametrize("answers", [True, False])
def test_after_ctrl_c_nothing_answered_is_sent_twice(
    answers: bool, collector: Collector, run: Run, tmp_path: Path
) -> None:
    log = tmp_path / "access.log"
    log.write_text(pages(2000))
    arguments = ("--rate", "400", "--yes", "--state", str(tmp_path / "state.json"), str(log))
    with running("-c", IMPORT, "import", *arguments, **settings(collector)) as child:
        collector.wait_for(events=300, timeout=DEADLINE)
        if not answers:
            collector.fail(None, freeze=True, times=None)
        child.process.send_signal(signal.SIGINT)
        assert child.end() == 130
    answered = stored(collector)
    assert 300 <= len(answered) < 2000
    collector.clear_faults()
    collector.thaw()
    rest = run("--yes", log)
    assert rest["delivered"] >= 2000 - len(answered)
    found = stored(collector)
    assert set(found) == {f"/page/{number}" for number in range(2000)}
    # Requests that were under way may be stored, and are unanswered.
    assert sum(found.values()) - 2000 <= (0 if answers else 200)


@pytest.mark.slow
def test_after_a_kill_at_most_what_was_answered_since_the_last_checkpoint_is_sent_twice(
    collector: Collector, run: Run, tmp_path: Path
) -> None:
    log = tmp_path / "access.log"
    log.write_text(pages(2000))
    state = tmp_path / "state.json"
    with running(
        "-c",
        IMPORT,
        "import",
        "--rate",
        "300",
        "--yes",
        "--state",
        str(state),
        str(log),
        **settings(collector),
    ) as child:
        until(state.exists)
        at = len(collector.events)
        until(lambda: len(collector.events) > at + 50)
        child.process.kill()
        child.end()
    rotated = tmp_path / "access.log.1.gz"
    rotated.write_bytes(gzip.compress(log.read_bytes()))
    log.unlink()
    run("--yes", rotated)
    found = stored(collector)
    assert set(found) == {f"/page/{number}" for number in range(2000)}
    assert sum(found.values()) - 2000 <= 700


@pytest.mark.slow
def test_it_notes_what_was_answered_while_it_waits_for_the_last_answers(tmp_path: Path) -> None:
    log, state = tmp_path / "access.log", tmp_path / "state.json"
    log.write_text(pages(900))  # all of them may be on their way at once
    command = ("-c", IMPORT, "import", "--yes", "--json", "--state", str(state), str(log))
    with Collector(item_delay=0.01) as slow:
        with running(*command, **settings(slow)) as child:
            slow.wait_for(events=500, timeout=DEADLINE)
            child.process.kill()
            child.end()
        # Of several thousand milliseconds, at most those since the last second are sent again.
        assert json.loads(finished(*command, **settings(slow)).stdout)["delivered"] < 700
        found = stored(slow)
    assert set(found) == {f"/page/{number}" for number in range(900)}


@pytest.mark.slow
def test_an_outage_is_waited_out(collector: Collector, run: Run, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text(pages(1500))
    with running(
        "-c",
        IMPORT,
        "import",
        "--rate",
        "500",
        "--yes",
        "--state",
        str(tmp_path / "s"),
        str(log),
        **settings(collector),
    ) as child:
        collector.wait_for(events=300, timeout=DEADLINE)
        collector.stop()
        time.sleep(0.3)
        collector.start()
        assert child.end() == 0, child.stderr
    found = stored(collector)
    assert found.keys() == {f"/page/{number}" for number in range(1500)}
    assert found.total() - 1500 <= 200  # what was stored as the server stopped, but not answered


@pytest.mark.slow
def test_a_log_is_followed_through_its_rotation(collector: Collector, command: Run, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text(pages(3))
    state = tmp_path / "state.json"
    with running(
        "-c", IMPORT, "import", "--follow", "--state", str(state), str(log), **settings(collector)
    ) as child:
        collector.wait_for(events=3, timeout=DEADLINE)
        code, _, complaints = command("--yes", "--state", state, log)  # a second one at the same time
        assert (code, "is running" in complaints) == (2, True)
        with log.open("a") as file:
            file.write(pages(2, 3)[:-5])  # its last line has no end yet
            file.flush()
            collector.wait_for(events=4, timeout=DEADLINE)
            log.rename(tmp_path / "access.log.1")
            file.write(pages(2, 3)[-5:])
        log.write_text(pages(2, 5))
        collector.wait_for(events=7, timeout=DEADLINE)
        child.process.send_signal(signal.SIGTERM)
        assert child.end() == 130
    assert stored(collector) == Counter({f"/page/{number}": 1 for number in range(7)})
    assert len(Checkpoints(state)._places) == 2


def test_what_cannot_grow_is_not_followed(collector: Collector, run: Run, tmp_path: Path) -> None:
    (tmp_path / "log.gz").write_bytes(gzip.compress(pages(3).encode()))
    result = run("--follow", tmp_path / "log.gz")
    assert (result["read"], result["delivered"]) == (3, 3)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_on_a_terminal_it_asks_first(collector: Collector, tmp_path: Path) -> None:
    import pty

    log = tmp_path / "access.log"
    log.write_text(pages(3))
    master, slave = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-c", IMPORT, "import", "--state", str(tmp_path / "s"), str(log)],
            env={**os.environ, **settings(collector), "PYTHONPATH": str(Path(__file__).parent.parent)},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        ) as process:
            os.write(master, b"n\n")
            assert process.wait(DEADLINE) == 1
            output = os.read(master, 65_536).decode()
    finally:
        os.close(master)
        os.close(slave)
    assert "3 page views to send" in output
    assert "Import? [y/N]" in output
    assert "nothing was sent" in output
    assert not collector.events
