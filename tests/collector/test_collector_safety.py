"""Safety of the collector, its users and the programs in which it runs."""

import json
import socket
import sqlite3
import sys

import httpx
import pytest
from collector_helpers import SITE, item, send
from conftest import ALL_PACKAGES, DEADLINE, with_each

from umami.collector import Collector

# Writes that fail


@pytest.fixture
def file(tmp_path):
    return tmp_path / "umami.db"


@pytest.fixture
def stored(file, browse):
    """A collector with a file, and a browser for it."""
    with Collector(database=file) as collector:
        http = browse(collector)
        assert send(http, name="before").status_code == 200
        yield collector, http


def names(collector: Collector) -> list[str | None]:
    return [event.name for event in collector.events]


@pytest.mark.slow
def test_a_locked_file_fails_as_a_database_that_is_away_and_is_written_to_later(file, stored, caplog):
    collector, http = stored
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("begin immediate")
    reply = http.post("/api/batch", json=[item(name="a"), item(name="b")]).json()
    assert (reply["processed"], reply["errors"]) == (0, 2)
    assert {each["response"]["error"]["errorObject"]["code"] for each in reply["details"]} == {"P1001"}
    assert send(http, name="c").status_code == 500
    assert "Cannot store events: database is locked" in caplog.text
    other.execute("rollback")
    other.close()
    assert send(http, name="d").status_code == 200
    assert names(collector) == ["before", "d"]
    assert collector.event_count == 2


@pytest.mark.skipif(sys.platform == "win32", reason="files have no limit there")
def test_a_full_disk_fails_as_a_database_that_is_away_and_is_written_to_later(stored):
    import resource

    collector, http = stored
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    large = [item(name="a", data={f"key{number}": "x" * 500 for number in range(100)}) for _ in range(20)]
    # A file that may not grow: what is written past its end fails, as on a disk without room.
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        reply = http.post("/api/batch", json=large).json()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (reply["processed"], reply["errors"]) == (0, 20)
    assert http.post("/api/batch", json=large).json()["processed"] == 20
    assert names(collector) == ["before", *["a"] * 20]


def test_an_exception_in_a_handler_is_a_500_and_no_more(collector, http, caplog):
    def broken(index: int, event: dict) -> None:
        raise ZeroDivisionError

    collector.fail(None, items=broken)
    response = send(http, name="a")
    assert (response.status_code, response.content) == (500, b"")
    assert collector.requests[0].status == 500
    assert "Cannot answer POST /api/send" in caplog.text
    assert send(http, name="b").status_code == 200
    assert names(collector) == ["b"]


# Pages of other origins


@pytest.fixture(
    params=["/", "/collector/events", "/collector/./export", "/collector/%2e/events", "/collector/page.js"]
)
def page(request):
    return request.param


@with_each(
    "host",
    [
        "evil.example",
        "evil.example:80",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "",
        "a@localhost",
        "[::1",
    ],
)
def test_the_page_is_not_for_a_name_that_is_anybodys(http, page, host):
    send(http, name="secret")
    response = raw(http, page, host)
    assert b" 403 " in response.partition(b"\r\n")[0]
    assert b"--allow-host NAME" in response
    assert b"secret" not in response
    assert b"evil" not in response


@with_each(
    "host",
    [
        "localhost",
        "LOCALHOST.:3000",
        "umami.localhost",
        "127.0.0.1:1",
        "[::1]:80",
        "192.168.0.7",
        "[fe80::1]",
    ],
)
def test_the_page_is_for_localhost_and_addresses(http, page, host):
    assert b" 200 " in raw(http, page, host).partition(b"\r\n")[0]


def raw(http: httpx.Client, path: str, host: str, method: str = "GET") -> bytes:
    """Ask for a path under any name, and return the whole answer."""
    port = http.base_url.port
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        request = (
            f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nConnection: close\r\n\r\n"
        )
        connection.sendall(request.encode())
        answer = b""
        while received := connection.recv(65536):
            answer += received
        return answer


def test_a_name_can_be_allowed(browse):
    with Collector(allow_hosts=["collector", "Umami.Test"]) as collector:
        for host, status in (("collector:3000", 200), ("umami.test", 200), ("test", 403)):
            response = browse(collector).get("/collector/events", headers={"Host": host})
            assert response.status_code == status


def test_a_text_is_no_list_of_names():
    with pytest.raises(TypeError, match=r"such as \['collector'\]"):
        Collector(allow_hosts="collector")


@with_each("method", ["GET", "OPTIONS", "HEAD", "POST"])
def test_no_other_origin_is_let_in(http, page, method):
    answer = raw(http, page, "localhost", method).lower()
    assert b"access-control" not in answer
    if method == "GET":
        for header in (
            b"cross-origin-resource-policy: same-origin",
            b"x-content-type-options: nosniff",
            b"frame-ancestors 'none'",
        ):
            assert header in answer


@with_each(
    ("method", "path", "status"),
    [
        ("POST", "/api/send", 400),
        ("GET", "/api/send", 405),
        ("OPTIONS", "/api/send", 204),
        ("GET", "/api/nope", 404),
        ("GET", "/api/me", 401),
    ],
)
def test_umamis_own_routes_are_for_every_origin(http, method, path, status):
    response = http.request(method, path, headers={"Host": "evil.example"})
    assert (response.status_code, response.headers["Access-Control-Allow-Origin"]) == (status, "*")
    assert ("Content-Type" in response.headers) == (status not in (204, 405))
    assert response.headers["Vary"].startswith("rsc, ")


# Bodies


def test_of_a_body_that_is_too_long_no_more_is_kept_than_shows_it(collector):
    limit = 10 * 1024 * 1024

    def parts():
        yield json.dumps(item()).encode()
        for _ in range(20):
            yield b" " * 1024 * 1024

    response = httpx.post(f"{collector.url}/api/send", content=parts(), timeout=DEADLINE)
    [message] = response.json()["error"]["errors"]
    assert (response.status_code, message) == (400, "Invalid input: expected object, received undefined")
    assert len(collector.requests[0].body) == limit + 1


@pytest.mark.slow
def test_the_bodies_that_are_remembered_have_a_bound(browse):
    with Collector(keep_requests=1000) as collector:
        http = browse(collector)
        for _ in range(16):
            http.post("/api/heartbeat", content=b"x" * 9_000_000)
        kept = len(collector.requests)
        assert kept * 9_000_000 <= 64 * 1024 * 1024 < (kept + 1) * 9_000_000
        assert collector.request_count == 16
        for _ in range(10):
            http.get("/api/heartbeat")
        assert len(collector.requests) == kept + 10


# Paths


@with_each(
    ("path", "status"),
    [
        ("/api/./heartbeat", 200),
        ("/api/%2E/heartbeat", 200),
        ("/x/../api/heartbeat", 200),
        ("/../api/heartbeat", 200),
        ("/api/heart%62eat", 404),
        ("/API/heartbeat", 404),
        ("/api//heartbeat", 308),
    ],
)
def test_a_path_is_routed_without_dots_and_undecoded(http, path, status):
    answer = raw(http, path, "localhost").partition(b"\r\n")[0]
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())


def test_answers_say_how_long_the_connection_is_kept(browse):
    with Collector(keep_alive=7) as collector:
        http = browse(collector)
        response = http.get("/api/heartbeat")
        assert (response.headers["Connection"], response.headers["Keep-Alive"]) == ("keep-alive", "timeout=7")
        response = http.get("/api/heartbeat", headers={"Connection": "close"})
        assert (response.headers["Connection"], "Keep-Alive" in response.headers) == ("close", False)


# In the program that it serves

PROGRAM = """
import atexit, sys

def tell():
    print([event.name for event in collector.events])

atexit.register(tell)  # before Umami's own, so that it runs after the last flush
{imports}
import umami
from umami.collector import Collector

collector = Collector(database={database!r})
collector.start()
umami.configure(url_base=collector.url, website_id={site!r}, hostname="example.com")
umami.new_event("row")
{end}
"""


@pytest.mark.slow
@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize(
    ("imports", "end", "code"),
    [
        ("", "", 0),
        ("import umami.collector", "", 0),
        ("", "sys.exit(3)", 3),
        ("import umami; umami.configure(url_base='http://127.0.0.1:9')", "", 0),
    ],
)
def test_a_program_that_ends_has_its_last_event_stored(python, file, in_file, imports, end, code):
    database = str(file) if in_file else None
    program = PROGRAM.format(imports=imports, end=end, database=database, site=SITE)
    process = python(program, **ALL_PACKAGES)
    assert (process.returncode, process.stdout, process.stderr) == (code, "['row']\n", "")
    if in_file:
        with Collector(database=file) as collector:
            assert names(collector) == ["row"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals to speak of")
def test_a_collector_that_has_stopped_closes_its_file_at_the_end(python, file):
    program = f"""
        from umami.collector import Collector
        with Collector(database={str(file)!r}) as collector:
            pass
        assert collector.events == ()
    """
    process = python(program, PYTHONWARNINGS="error", **ALL_PACKAGES)
    assert (process.returncode, process.stderr) == (0, "")
    assert not file.with_name("umami.db-wal").exists()
