"""Lists that come in pages: each row once, while others are stored, and in whatever order of equal times."""

import csv
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import anyio
import pytest
from conftest import DEADLINE, PASSWORD, SITE, slow
from old_umami import Answer, OldUmami, Seen, served

import umami
from umami.collector import Collector
from umami.errors import ResponseStatusError, UnsupportedError, ValidationError
from umami.models import AsyncRows, Rows, Table

NOW = datetime.now(timezone.utc)
RANGE = {"start_at": NOW - timedelta(days=1), "end_at": NOW + timedelta(days=1), "timezone": "UTC"}


@pytest.fixture(scope="module", params=["3.1", *slow("2.19", "3.0", "3.4")])
def visited(request: pytest.FixtureRequest) -> Iterator[umami.Client]:
    """A client of a website with 60 page views of ten visitors, many of the same moment, and two sign-ups."""
    with (
        Collector(umami=request.param, password=PASSWORD) as collector,
        umami.Client(url_base=collector.url, website_id=SITE, hostname="example.com") as client,
    ):
        for number in range(60):
            at = NOW - timedelta(minutes=number // 20)
            client.new_page_view(f"Page {number}", f"/p{number}", distinct_id=f"v{number % 10}", timestamp=at)
        for plan in ("free", "pro"):
            client.new_event("signup", url="/join", custom_data={"plan": plan}, distinct_id="v0")
        client.identify("v0", {"name": "Ada"})
        assert client.flush(DEADLINE)
        client.login("admin", PASSWORD)
        yield client


@pytest.fixture(params=["sync", "asyncio", *slow("trio")])
def read(request: pytest.FixtureRequest) -> Callable[..., list[Any]]:
    """Read a list to its end, sync or async."""

    def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Any]:
        if request.param == "sync":
            rows = function(*args, **kwargs)
            assert isinstance(rows, Rows)
            return list(rows)
        pair = getattr(function.__self__, f"{function.__name__}_async")

        async def all_of() -> list[Any]:
            rows = pair(*args, **kwargs)
            assert isinstance(rows, AsyncRows)
            return [row async for row in rows]

        return anyio.run(all_of, backend=request.param)

    return run


@pytest.mark.parametrize("size", [3, 20, 62, 500])
def test_every_event_comes_once(visited: umami.Client, read: Callable[..., Any], size: int) -> None:
    events = read(visited.events, **RANGE, page_size=size)
    assert len(events) == len({event.id for event in events}) == 62
    assert {event.urlPath for event in events} == {"/join", *(f"/p{number}" for number in range(60))}
    times = [event.createdAt for event in events]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("size", [3, 500])
def test_every_session_comes_once(visited: umami.Client, read: Callable[..., Any], size: int) -> None:
    sessions = read(visited.sessions, **RANGE, page_size=size)
    assert len(sessions) == len({session.id for session in sessions}) == 10
    assert sum(session.views for session in sessions) == 60


def test_a_list_tells_how_far_it_is(visited: umami.Client) -> None:
    rows = visited.events(**RANGE, page_size=50)
    assert (rows.count, rows.done, rows.pages) == (None, 0, 0)
    assert repr(rows) == "<Rows: 0 of ? rows>"
    next(rows)
    assert (rows.count, rows.done, rows.pages) == (62, 1, 1)
    assert len(rows.to_table()) == 61
    assert next(rows, None) is None
    assert repr(rows) == "<Rows: 62 of 62 rows>"


def test_rows_stream_to_a_file(visited: umami.Client, tmp_path: Any) -> None:
    path = tmp_path / "events.csv"
    assert visited.events(**RANGE, page_size=25).to_csv(path) == 62
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert (len(rows), list(rows[0])) == (62, list(umami.models.Event.model_fields))

    async def write() -> int:
        return await visited.events_async(**RANGE).to_csv(tmp_path / "again.csv")

    assert anyio.run(write) == 62
    assert (tmp_path / "again.csv").read_text(encoding="utf-8") == path.read_text(encoding="utf-8")


def test_rows_become_a_table(visited: umami.Client) -> None:
    assert isinstance(visited.sessions(**RANGE).to_table(), Table)
    pandas = pytest.importorskip("pandas")
    assert isinstance(visited.events(**RANGE).to_pandas(), pandas.DataFrame)


def test_a_filter_narrows_a_list(visited: umami.Client) -> None:
    try:
        events = list(visited.events(**RANGE, path="/p7"))
    except UnsupportedError as error:
        assert "A filter of events() needs Umami 3.0" in str(error)  # noqa: PT017
        return
    assert [event.urlPath for event in events] == ["/p7"]
    assert len(list(visited.events(**RANGE, event="signup"))) == 2


def test_custom_data_is_listed(visited: umami.Client, read: Callable[..., Any]) -> None:
    try:
        rows = read(visited.event_data, **RANGE)
    except UnsupportedError as error:
        assert str(error).startswith("event_data() needs Umami 3.1 or later")  # noqa: PT017
        return
    plans = {each.stringValue for row in rows for each in row.eventProperties}
    assert ({row.eventName for row in rows}, plans) == ({"signup"}, {"free", "pro"})


def test_a_session_is_known_in_detail(visited: umami.Client, call: Callable[..., Any]) -> None:
    event = next(row for row in visited.events(**RANGE) if row.eventName == "signup")
    session = call(visited.session, event.sessionId)
    assert (session.id, session.views) == (event.sessionId, 6)
    activity = call(visited.session_activity, event.sessionId, **RANGE)
    assert len(activity) == 8
    assert {row.eventName for row in activity} >= {"signup"}
    assert [(row.dataKey, row.stringValue) for row in call(visited.session_properties, event.sessionId)] == [
        ("name", "Ada")
    ]


def test_a_session_that_is_not_there(visited: umami.Client) -> None:
    with pytest.raises((ValidationError, ResponseStatusError), match=r"has no (such )?session"):
        visited.session("00000000-0000-0000-0000-000000000000")
    with pytest.raises(ValidationError, match="session_id must be a UUID, got 'x'"):
        visited.session("x")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "^Give start_at"),
        ({"page_size": 0, "period": "1d"}, "^page_size"),
        ({"search": 5, "period": "1d"}, "^search"),
        ({"pth": 1, "period": "1d"}, "^pth"),
    ],
)
def test_a_lists_arguments_are_checked_at_the_call(
    visited: umami.Client, arguments: dict[str, Any], message: str
) -> None:
    for function in (visited.events, visited.events_async):
        with pytest.raises(ValidationError, match=message):
            function(**arguments)


def test_a_row_that_is_stored_meanwhile_moves_no_other(client: umami.Client, collector: Collector) -> None:
    for number in range(30):
        client.new_page_view("t", f"/{number}", timestamp=NOW - timedelta(seconds=number))
    assert client.flush(DEADLINE)
    client.login("admin", PASSWORD)
    found = []
    for event in client.events(**RANGE, page_size=5):
        found.append(event.urlPath)
        client.new_page_view("t", f"/new/{len(found)}", timestamp=NOW + timedelta(seconds=len(found)))
        assert client.flush(DEADLINE)
    assert [path for path in found if "new" not in path] == [f"/{number}" for number in range(30)]


def test_a_page_that_fails_for_a_moment_is_fetched_again(client: umami.Client, collector: Collector) -> None:
    for number in range(10):
        client.new_page_view("t", f"/{number}", timestamp=NOW - timedelta(seconds=number))
    assert client.flush(DEADLINE)
    client.login("admin", PASSWORD, remember=True)
    found = []
    for event in client.events(**RANGE, page_size=3):
        found.append(event.urlPath)
        collector.fail(503, path="/api/websites/*")
        if len(found) == 5:
            collector.revoke_tokens()
    assert found == [f"/{number}" for number in range(10)]


# Servers whose order is not the same twice.


def unordered(rows: list[dict[str, Any]], path: str) -> Callable[[Seen], Answer | None]:
    """Serve pages of rows, sorted by time alone: those of one moment come in another order each time."""
    turn = iter(range(10**9))

    def answer(seen: Seen) -> Answer | None:
        if not seen.path.endswith(path):
            return None
        start, end, page, size = (int(seen.query[name]) for name in ("startAt", "endAt", "page", "pageSize"))
        mixed = next(turn)
        held = [row for row in rows if start * 1000 <= row["at"] <= end * 1000]
        held.sort(key=lambda row: (-row["at"], hash((mixed, row["id"]))))
        data = [{**row, "createdAt": iso(row["at"]), "lastAt": iso(row["at"])} for row in held]
        return Answer(
            200, {"data": data[size * (page - 1) : size * page], "count": len(held), "pageSize": size}
        )

    return answer


def iso(microseconds: int) -> str:
    """Write a time as JavaScript does: cut off to milliseconds."""
    moment = datetime.fromtimestamp(microseconds // 1000 / 1000, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 1, 400, 1_000_000])
@pytest.mark.parametrize("size", [1, 7, 50])
def test_events_of_one_moment_come_once_in_whatever_order(step: int, size: int) -> None:
    now = int(NOW.timestamp()) * 1_000_000
    rows = [{"id": f"e{n}", "sessionId": "s", "at": now - n * step} for n in range(120)]
    server = OldUmami("3.1", unordered(rows, "/events"))
    with served(server) as url, umami.Client(url_base=url, website_id=SITE) as client:
        client.set_token("t")
        found = [event.id for event in client.events(**RANGE, page_size=size)]
    assert sorted(found) == sorted(row["id"] for row in rows)


def test_custom_data_of_one_moment_comes_once_in_whatever_order() -> None:
    now = int(NOW.timestamp()) * 1_000_000
    times = [now - n // 9 * 1_000_000 for n in range(120)]
    rows = [
        {"eventId": f"e{n}", "id": n, "at": at, "eventProperties": [{"dataKey": "n", "createdAt": iso(at)}]}
        for n, at in enumerate(times)
    ]
    server = OldUmami("3.1", unordered(rows, "/event-data"))
    with served(server) as url, umami.Client(url_base=url, website_id=SITE) as client:
        client.set_token("t")
        found = [row.eventId for row in client.event_data(**RANGE, page_size=7)]
    assert sorted(found) == sorted(row["eventId"] for row in rows)


@pytest.mark.parametrize("pages", ["/events", "/sessions"])
@pytest.mark.parametrize(
    "cap", ["of a page", "of pages, which tell it", "of pages, without a count", "of the list and its count"]
)
def test_a_list_goes_on_after_a_page_that_was_cut(pages: str, cap: str) -> None:
    now = int(NOW.timestamp()) * 1_000_000
    rows = [{"id": f"r{n}", "sessionId": "s", "at": now - n * 1_000_000} for n in range(2_600)]
    whole = unordered(rows, pages)

    def cut(seen: Seen) -> Answer | None:
        answer = whole(seen)
        if answer is None:
            return None
        page = answer.body
        if cap == "of the list and its count":  # as Umami 2.17
            left = max(0, 1_000 - (int(seen.query["page"]) - 1) * int(seen.query["pageSize"]))
            page["data"], page["count"] = page["data"][:left], min(page["count"], 1_000)
        else:
            page["data"] = page["data"][:700]
            if cap == "of pages, without a count":
                page["count"] = None
            page["pageSize"] = 700 if cap == "of pages, which tell it" else page["pageSize"]
        return answer

    with served(OldUmami("3.1", cut)) as url, umami.Client(url_base=url, website_id=SITE) as client:
        client.set_token("t")
        for size in (900, 2_000):
            listed = client.events if pages == "/events" else client.sessions
            found = [row.id for row in listed(**RANGE, page_size=size)]
            assert sorted(found) == sorted(row["id"] for row in rows)


def test_sessions_come_once_while_others_come_go_and_return() -> None:
    """Each page is served from another state of the list; the same ones at the end are what was there."""
    now = int(NOW.timestamp()) * 1_000_000
    seconds = 1_000_000
    visits = {f"s{n}": [now - n * seconds, now - (400 - n) * seconds] for n in range(200)}
    stays = {*visits} - {"s3", "s90"}
    turn = iter(range(10**9))

    def answer(seen: Seen) -> Answer | None:
        if not seen.path.endswith("/sessions"):
            return None
        match next(turn):
            case 1:
                visits["new"] = [now - 5 * seconds]
            case 3:
                visits["s150"].append(now - 2 * seconds)  # it moves to where the list was read already
            case 5:
                del visits["s3"]
                del visits["s90"]
        start, end, page, size = (int(seen.query[name]) for name in ("startAt", "endAt", "page", "pageSize"))
        within = {
            id_: max(times)
            for id_, all_times in visits.items()
            if (times := [at for at in all_times if start * 1000 <= at <= end * 1000])
        }
        order = sorted(within, key=within.__getitem__, reverse=True)[size * (page - 1) : size * page]
        data = [{"id": id_, "lastAt": iso(within[id_])} for id_ in order]
        return Answer(200, {"data": data, "count": len(within), "pageSize": size})

    with served(OldUmami("3.1", answer)) as url, umami.Client(url_base=url, website_id=SITE) as client:
        client.set_token("t")
        found = [row.id for row in client.sessions(**RANGE, page_size=20)]
    assert len(found) == len(set(found))
    assert stays <= {*found}


@pytest.mark.parametrize("pages", ["/events", "/sessions"])
def test_exactly_as_many_rows_of_one_moment_as_an_older_server_lists(pages: str) -> None:
    at = int(NOW.timestamp()) * 1_000_000
    rows = [{"id": f"r{n}", "sessionId": "s", "at": at} for n in range(1_000)]
    with (
        served(OldUmami("3.1", unordered(rows, pages))) as url,
        umami.Client(url_base=url, website_id=SITE) as client,
    ):
        client.set_token("t")
        listed = client.events if pages == "/events" else client.sessions
        assert len({row.id for row in listed(**RANGE)}) == 1_000


@pytest.mark.parametrize(
    ("time", "said"), [(iso(0), "no more than 5 of the rows"), ("soon", "time is 'soon'")]
)
def test_a_list_that_cannot_be_read_further_ends_with_an_error(time: str, said: str) -> None:
    def answer(seen: Seen) -> Answer | None:
        if not seen.path.endswith("/events") or len(server.seen) > 50:
            return None
        rows = [{"id": f"e{n}", "sessionId": "s", "createdAt": time} for n in range(5)]
        return Answer(200, {"data": rows, "count": 30, "pageSize": 5})

    server = OldUmami("3.1", answer)
    with served(server) as url, umami.Client(url_base=url, website_id=SITE) as client:
        client.set_token("t")
        rows = client.events(**RANGE)
        with pytest.raises(umami.errors.ResponseError, match=said):
            list(rows)


def test_sessions_that_change_places_come_once() -> None:
    now = int(NOW.timestamp()) * 1_000_000
    rows = [{"id": f"s{n}", "at": now, "hostname": "a.example"} for n in range(30)]
    rows += [{"id": "s0", "at": now, "hostname": "b.example"}]
    server = OldUmami("3.1", unordered(rows, "/sessions"))
    with served(server) as url, umami.Client(url_base=url, website_id=SITE) as client:
        client.set_token("t")
        found = [(row.id, row.hostname) for row in client.sessions(**RANGE, page_size=7)]
    assert sorted(found) == sorted((row["id"], row["hostname"]) for row in rows)


@pytest.mark.slow
def test_a_long_list_takes_constant_memory(python: Callable[..., Any]) -> None:
    program = """
        import gc
        import sys
        import tracemalloc
        from datetime import datetime, timedelta, timezone

        sys.path.insert(0, "tests")
        from old_umami import Answer, OldUmami, served
        import umami

        now = datetime.now(timezone.utc)
        last = int(now.timestamp() * 1000)

        def answer(seen):
            if not seen.path.endswith("/events"):
                return None
            first = int(seen.query["endAt"])
            left = first - last + 60_000
            size = min(int(seen.query["pageSize"]), left)
            numbers = range(first, first - size, -1)
            moments = (datetime.fromtimestamp(at / 1000, timezone.utc) for at in numbers)
            rows = [{"id": at.isoformat(), "createdAt": at.isoformat(), "sessionId": "s"} for at in moments]
            return Answer(200, {"data": rows, "count": left, "pageSize": 500})

        server = OldUmami("3.1", answer)
        with served(server) as url, umami.Client(url_base=url, website_id="a") as client:
            client.set_token("t")
            rows, held = client.events(now - timedelta(days=1), now), []
            tracemalloc.start()
            for event in rows:
                if rows.done % 15_000 == 0:
                    server.seen.clear()
                    gc.collect()  # Python 3.14 does it in small steps
                    held.append(tracemalloc.get_traced_memory()[0])
        assert rows.done == 60_000, rows
        assert max(held) - held[0] < 2_000_000, held  # a page or two
    """
    process = python(program)
    assert process.returncode == 0, process.stderr
