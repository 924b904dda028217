"""Versions of Umami: each is sent what it can store, and each event is counted correctly."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from conftest import CHROME, DEADLINE, slow, with_version
from queue_helpers import NEVER, Listener, Reports, send_many, sizes, stored, until

import umami
from umami.collector import Collector

MakeClient = Callable[..., umami.Client]
Balanced = Callable[[umami.Client], None]

VERSIONS = [
    "2.0",
    "2.6",
    "2.11",
    "2.15",
    "2.16",
    "2.17",
    "2.19",
    "3.0.1",
    "3.0.3",
    "3.1",
    "3.3",
    "3.4",
    "cloud",
]
BROKEN_BATCHES = ["2.17", "2.19", "3.0.1"]
"""Whose batch route fails on Node.js 24."""
SERVERS = [
    *(with_version(version, (version, 22), name=version) for version in VERSIONS),
    *(with_version(version, (version, 24), name=f"{version} on Node 24") for version in BROKEN_BATCHES),
]
WITHOUT_BATCHES = {"2.0", "2.6", "2.11", "2.15", "2.16", "cloud"}
WITHOUT_IDENTIFY = {"2.0"}
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"
)


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Collector]:
    """A server of each generation."""
    version, node = request.param
    with Collector(umami=version, node=node) as server:
        yield server


def delivered(client: umami.Client, count: int) -> None:
    """Check that so many events are delivered, and that nothing else became of any."""
    stats = client.queue_stats()
    assert (stats.delivered, stats.rejected, stats.dropped, stats.pending) == (count, 0, {}, 0), stats


def routes(collector: Collector) -> list[str]:
    return [request.path for request in collector.requests]


@pytest.mark.slow
def test_each_of_many_events_is_stored_once(server: Collector, make_client: MakeClient) -> None:
    client = make_client(url_base=server.url)
    names = send_many(client, 200)
    assert client.flush(DEADLINE)
    assert stored(server) == dict.fromkeys(names, 1)
    delivered(client, 200)
    # What kind of server it is costs a few requests at the most.
    by_itself = routes(server).count("/api/send") >= 200
    assert len(server.requests) <= (203 if by_itself else 60)


@pytest.mark.slow
def test_a_database_that_is_away_for_a_moment_costs_nothing(
    server: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(url_base=server.url, item_retry_limit=0)
    names = send_many(client, 50)
    assert client.flush(DEADLINE)
    server.database_away()
    names += send_many(client, 50, "meanwhile")
    before = server.request_count
    server.wait_for(requests=before + 6, timeout=DEADLINE)
    assert client.queue_stats().pending == 50
    server.database_back()
    assert client.flush(DEADLINE)
    assert stored(server) == dict.fromkeys(names, 1)
    delivered(client, 100)
    balanced(client)


@pytest.mark.slow
def test_the_first_thing_that_a_server_says_may_be_that_its_database_is_away(
    server: Collector, make_client: MakeClient
) -> None:
    client = make_client(url_base=server.url, item_retry_limit=0)
    server.database_away()
    names = send_many(client, 50)
    server.wait_for(requests=6, timeout=DEADLINE)
    server.database_back()
    assert client.flush(DEADLINE)
    assert stored(server) == dict.fromkeys(names, 1)
    delivered(client, 50)


@pytest.mark.slow
def test_a_server_that_is_killed_and_restarted_gets_what_was_sent_meanwhile(
    server: Collector, make_client: MakeClient, heard: Listener
) -> None:
    client = make_client(url_base=server.url)
    names = send_many(client, 50)
    assert client.flush(DEADLINE)
    server.stop()
    names += send_many(client, 50, "meanwhile")
    heard.wait_for("not getting through")
    server.start()
    assert client.flush(DEADLINE)
    assert stored(server) == dict.fromkeys(names, 1)
    delivered(client, 100)


def test_identify_is_stored(server: Collector, make_client: MakeClient) -> None:
    if server.umami in WITHOUT_IDENTIFY:
        pytest.skip("it does not know identify")
    client = make_client(url_base=server.url)
    client.new_event("first")
    client.identify("user-1", {"plan": "pro"})
    assert client.flush(DEADLINE)
    client.identify("user-2", {"plan": "free"})
    assert client.flush(DEADLINE)
    assert [identity.data for identity in server.identities] == [{"plan": "pro"}, {"plan": "free"}]
    delivered(client, 3)


def test_identify_is_refused_in_clear_words_where_it_is_not_known(make_client: MakeClient) -> None:
    reports = Reports()
    with Collector(umami="2.0") as server:
        client = make_client(url_base=server.url, on_error=reports)
        client.identify("user-1", {"plan": "pro"})
        names = send_many(client, 3)
        assert client.flush(DEADLINE)
        assert stored(server) == dict.fromkeys(names, 1)
    reports.wait_for(1)
    assert reports.counts() == {("rejected", "400"): 1}
    assert "Wrong payload type" in reports.all[0].message


def test_an_events_own_user_agent_is_stored(server: Collector, make_client: MakeClient) -> None:
    client = make_client(url_base=server.url)
    for number in range(5):
        client.new_event(f"e{number}", ua=SAFARI)
        client.new_event(f"f{number}", ua=CHROME)
    client.identify("user-1", {"plan": "pro"}) if server.umami not in WITHOUT_IDENTIFY else None
    assert client.flush(DEADLINE)
    agents = {event.name: event.user_agent for event in server.events}
    assert agents == {f"{kind}{n}": ua for kind, ua in (("e", SAFARI), ("f", CHROME)) for n in range(5)}
    assert client.queue_stats().rejected == 0


@pytest.mark.parametrize("hostname", ["example.com:8000", "localhost", "localhost:8000"])
def test_a_host_name_with_a_port_is_no_reason_to_refuse_an_event(
    hostname: str, server: Collector, make_client: MakeClient
) -> None:
    client = make_client(url_base=server.url, hostname=hostname)
    names = send_many(client, 3)
    assert client.flush(DEADLINE)
    assert stored(server) == dict.fromkeys(names, 1)
    assert {event.hostname for event in server.events} <= {hostname, hostname.partition(":")[0]}


def test_an_absolute_url_is_stored_as_its_path(server: Collector, make_client: MakeClient) -> None:
    client = make_client(url_base=server.url)
    client.new_page_view("Absolute", "https://example.com/pricing?from=mail")
    client.new_page_view("Root", "https://example.com")
    assert client.flush(DEADLINE)
    pages = {event.title: (event.url_path, event.url_query or "") for event in server.events}
    assert pages == {"Absolute": ("/pricing", "from=mail"), "Root": ("/", "")}


@pytest.mark.slow
def test_a_refused_event_is_rejected_at_once_with_the_servers_words_and_takes_no_other_along(
    server: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    reports = Reports()
    client = make_client(url_base=server.url, on_error=reports)
    names = send_many(client, 20)
    client.new_event("lost", website_id="no-uuid")
    names += send_many(client, 20, "later")
    assert client.flush(DEADLINE)
    assert stored(server) == dict.fromkeys(names, 1)
    reports.wait_for(1)
    assert reports.counts() == {("rejected", "400"): 1}
    message = reports.all[0].message
    assert not message.endswith("400")
    assert "None" not in message
    assert "no reason" not in message
    assert sum(b"no-uuid" in request.body for request in server.requests) <= 2
    balanced(client)


# Servers that change.


@pytest.mark.slow
@pytest.mark.parametrize("old", ["2.15", "3.1", *slow("2.16", "2.19", "3.0.1")])
@pytest.mark.parametrize("new", ["2.15", "2.19", "3.4", *slow("2.16", "3.0.1", "3.1")])
def test_a_server_that_is_replaced_by_another_generation_is_learnt_anew(
    old: str, new: str, make_client: MakeClient, heard: Listener
) -> None:
    if old == new:
        pytest.skip("the same")
    with Collector(umami=old) as before:
        client = make_client(url_base=before.url)
        names = send_many(client, 20)
        assert client.flush(DEADLINE)
        assert stored(before) == dict.fromkeys(names, 1)
    names = send_many(client, 20, "new")
    heard.wait_for("not getting through")
    with Collector(umami=new, port=before.port) as after:
        assert client.flush(DEADLINE)
        client.new_event("agent", ua=SAFARI)
        client.identify("user-1", {"plan": "pro"})
        assert client.flush(DEADLINE)
        assert stored(after) == dict.fromkeys([*names, "agent"], 1)
        assert [event.user_agent for event in after.events if event.name == "agent"] == [SAFARI]
        assert len(after.identities) == 1
        if new not in WITHOUT_BATCHES:
            assert routes(after)[-1] == "/api/batch"  # one under way may still have gone to the old route
    delivered(client, 42)


@pytest.mark.parametrize("version", ["2.15", "2.16"])
def test_what_an_old_server_does_not_store_is_said_once(
    version: str, make_client: MakeClient, heard: Listener
) -> None:
    with Collector(umami=version) as server:
        client = make_client(url_base=server.url)
        for _ in range(3):
            send_many(client, 5)
            assert client.flush(DEADLINE)
    (line,) = heard.matching("dates events at their arrival")
    assert line.levelname == "WARNING"
    assert "Upgrade the server" in line.getMessage()


def test_nothing_is_said_of_a_server_that_stores_all(make_client: MakeClient, heard: Listener) -> None:
    with Collector(umami="3.1") as server:
        client = make_client(url_base=server.url)
        send_many(client, 5)
        assert client.flush(DEADLINE)
    assert [record for record in heard.records if record.levelname != "DEBUG"] == []


def test_a_server_that_is_too_old_is_named_once_and_its_events_are_not_tried_again(
    make_client: MakeClient, heard: Listener, balanced: Balanced
) -> None:
    reports = Reports()
    with Collector(umami="1.40") as server:
        client = make_client(url_base=server.url, on_error=reports, batch_size=50)
        send_many(client, 100)
        assert client.flush(DEADLINE)
        assert server.events == ()
        assert Counter(routes(server))["/api/batch"] <= 3
        assert len(server.requests) <= 12
    stats = client.queue_stats()
    assert (stats.delivered, stats.rejected, stats.dropped) == (0, 100, {})
    reports.wait_for(100)
    assert reports.counts() == {("rejected", "too_old"): 100}
    assert len({report.message for report in reports.all}) == 1
    assert "older than 2.0" in reports.all[0].message
    assert len(heard.matching("too_old")) == 1
    balanced(client)


def test_a_server_that_is_upgraded_from_one_that_is_too_old_is_sent_to_again(make_client: MakeClient) -> None:
    with Collector(umami="1.40") as old:
        client = make_client(url_base=old.url)
        send_many(client, 3, "lost")
        assert client.flush(DEADLINE)
    with Collector(port=old.port) as new:
        names = send_many(client, 3)
        assert client.flush(DEADLINE)
        assert stored(new) == dict.fromkeys(names, 1)
        assert set(routes(new)) == {"/api/batch"}


# The batch route.


@pytest.mark.parametrize("version", ["2.17", "2.19", "3.0.1"])
def test_batch_answers_without_cache_are_believed(version: str, make_client: MakeClient) -> None:
    with Collector(umami=version) as server:
        client = make_client(url_base=server.url, flush_interval=NEVER, batch_size=50)
        for turn in range(3):
            send_many(client, 50, f"e{turn}.")
            assert client.flush(DEADLINE)
        carried = [size for size in sizes(server) if size]
        assert carried == [50, 50, 50]
        assert sizes(server).count(0) <= 1  # it is asked once what its answers mean
    delivered(client, 150)


@pytest.mark.slow
@pytest.mark.parametrize("version", BROKEN_BATCHES)
def test_a_broken_batch_route_is_noticed_with_the_first_batch_and_left_alone(
    version: str, make_client: MakeClient, heard: Listener
) -> None:
    with Collector(umami=version, node=24) as server:
        client = make_client(url_base=server.url)
        names = send_many(client, 40)
        assert client.flush(DEADLINE)
        assert stored(server) == dict.fromkeys(names, 1)
        assert routes(server).count("/api/batch") <= 2
    delivered(client, 40)
    heard.wait_for("no working batch route")


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.3", "3.4"])
def test_no_request_has_more_events_than_the_server_takes(version: str, make_client: MakeClient) -> None:
    with Collector(umami=version) as server:
        client = make_client(
            url_base=server.url, flush_interval=NEVER, batch_size=2000, queue_size=5000, senders=1
        )
        send_many(client, 1200)
        assert client.flush(DEADLINE)
        assert max(sizes(server)) == 500
        until(lambda: server.event_count == 1200)
    delivered(client, 1200)


# A 500 without a reason may come after some of a batch's events were stored, or from a route that takes none.


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("umami_version", ["2.17", "3.0.1", "3.1"])
def test_with_at_most_once_a_batch_that_is_stored_and_answered_with_500_is_given_up(
    umami_version: str, count: int, make_client: MakeClient, balanced: Balanced
) -> None:
    with Collector(umami=umami_version) as server:
        error = {"message": "Server error", "code": "server-error", "status": 500}
        server.fail(500, path="/api/batch", store=True, body={"error": error})
        client = make_client(url_base=server.url, at_most_once=True, senders=1, flush_interval=NEVER)
        names = send_many(client, count)
        assert client.flush(DEADLINE)
        assert stored(server) == dict.fromkeys(names, 1)
        assert client.queue_stats().dropped == {"uncertain": count}
        names += send_many(client, 5, "later")
        assert client.flush(DEADLINE)
        assert stored(server) == dict.fromkeys(names, 1)
        assert client.queue_stats().delivered == 5
    balanced(client)


@pytest.mark.parametrize("umami_version", BROKEN_BATCHES)
def test_at_most_once_gives_up_nothing_where_no_batch_works(
    umami_version: str, make_client: MakeClient
) -> None:
    with Collector(umami=umami_version, node=24) as server:
        client = make_client(url_base=server.url, at_most_once=True, flush_interval=NEVER)
        names = send_many(client, 20)
        assert client.flush(DEADLINE)
        assert stored(server) == dict.fromkeys(names, 1)
        assert "one event a request" in (client.queue_stats().server or "")
    delivered(client, 20)


# The log says what is learnt of a server, in the middle of sending to it.


class Raising(logging.Handler):
    """A log handler that fails in senders, as on a full disk."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = 0

    def emit(self, record: logging.LogRecord) -> None:
        if threading.current_thread() is not threading.main_thread():
            self.lines += 1
            raise OSError("no space left")


@pytest.fixture(params=["DEBUG", "WARNING"])
def raising(request: pytest.FixtureRequest) -> Iterator[Raising]:
    handler, logger = Raising(), logging.getLogger("umami")
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(request.param)
    yield handler
    logger.removeHandler(handler)


@pytest.mark.parametrize("server", [("2.15", 22), ("2.19", 24), ("3.1", 22)], indirect=True)
def test_a_log_handler_that_raises_changes_nothing_of_what_becomes_of_events(
    server: Collector, raising: Raising, make_client: MakeClient, other: Collector
) -> None:
    for path in ("/api/batch", "/api/send"):
        other.fail(308, path=path, times=None, headers={"Location": f"{server.url}{path}"})
    client = make_client(url_base=other.url, flush_interval=NEVER)
    names = send_many(client, 20)
    assert client.flush(DEADLINE)
    names += send_many(client, 20, "later")
    assert client.flush(DEADLINE)
    assert stored(server) == dict.fromkeys(names, 1)
    assert raising.lines
    delivered(client, 40)
