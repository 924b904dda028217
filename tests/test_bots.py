"""Bots: events that Umami drops are counted as rejected, and other events travel in full batches."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from conftest import CHROME, DEADLINE, SITE
from pydantic_core import to_json
from queue_helpers import NEVER, Listener, Reports, send_many, sizes
from reverse_proxy import Answer, ProxyRequest, ReverseProxy

import umami
from umami._http.connections import Connections
from umami._http.exporter import UmamiExporter
from umami._http.messages import Reply
from umami._http.target import Target
from umami._http.verdicts import BOT
from umami._user_agents import is_bot
from umami.collector import Collector
from umami.settings import Settings

MakeClient = Callable[..., umami.Client]
Balanced = Callable[[umami.Client], None]

VERSIONS = ["2.6", "2.11", "2.15", "2.16", "2.17", "2.19", "3.0.1", "3.0.3", "3.1", "3.4", "cloud"]
SERVERS = [
    *(pytest.param((version, 22), id=version) for version in VERSIONS),
    *(pytest.param((version, 24), id=f"{version} on Node 24") for version in ("2.17", "2.19", "3.0.1")),
]
BROWSERS = [
    CHROME,
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 "
        "(KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"
    ),
]
ODD_BROWSERS = [
    "Mozilla/5.0 (X11; FreeBSD amd64) AppleWebKit/605.1.15 (KHTML, like Gecko) Falkon/23.08 Safari/605.1.15",
    "Lynx/2.8.9rel.1 libwww-FM/2.14SSL-MM/1.4.1",
]
CRAWLERS = [
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    (
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; "
        "+http://www.bing.com/bingbot.htm) Chrome/116.0.1938.76 Safari/537.36"
    ),
    "curl/8.5.0",
    "python-requests/2.32.3",
    CHROME.replace("Chrome", "HeadlessChrome"),
]


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Collector]:
    """A server of each generation."""
    version, node = request.param
    with Collector(umami=version, node=node) as server:
        yield server


def visit(client: umami.Client, agents: list[str], start: int = 0) -> dict[str, str]:
    """Send a page view of each User-Agent's, and return the User-Agents by title."""
    titles = {f"page{number}": agent for number, agent in enumerate(agents, start)}
    for title, agent in titles.items():
        assert client.new_page_view(title, "/", ua=agent) == {"queued": True}
    return titles


def mixed(count: int) -> list[str]:
    """Return so many User-Agents, a tenth of them crawlers', a twentieth unusual."""
    return [
        CRAWLERS[number // 10 % len(CRAWLERS)]
        if number % 10 == 3
        else ODD_BROWSERS[number // 20 % len(ODD_BROWSERS)]
        if number % 20 == 8
        else BROWSERS[number % len(BROWSERS)]
        for number in range(count)
    ]


@pytest.mark.slow
def test_of_a_mixed_crowd_exactly_the_crawlers_events_are_rejected(
    server: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    reports = Reports()
    client = make_client(url_base=server.url, on_error=reports)
    visits = visit(client, mixed(300))
    assert client.flush(DEADLINE)
    people = {title: agent for title, agent in visits.items() if not is_bot(agent)}
    assert len(people) in range(255, 271)
    assert {event.title: event.user_agent for event in server.events} == people
    assert server.event_count == len(people)
    stats = client.queue_stats()
    assert (stats.delivered, stats.rejected, stats.dropped) == (len(people), 300 - len(people), {})
    balanced(client)
    reports.wait_for(300 - len(people))
    assert reports.counts() == {("rejected", "bot"): 300 - len(people)}


@pytest.mark.slow
@pytest.mark.parametrize("version", ["2.17", "2.19", "3.0.1", "3.0.3", "3.1", "3.4"])
def test_browsers_events_stay_in_full_batches(version: str, make_client: MakeClient) -> None:
    with Collector(umami=version) as server:
        client = make_client(url_base=server.url, batch_size=100, flush_interval=NEVER, senders=1)
        visit(client, BROWSERS * 100)
        assert client.flush(DEADLINE)
        assert [size for size in sizes(server) if size] == [100, 100, 100]
        assert len(server.requests) <= 4


@pytest.mark.parametrize("version", ["3.0.3", "3.1", "3.4"])
def test_where_the_answer_tells_each_unusual_user_agent_has_a_batch_of_its_own(
    version: str, make_client: MakeClient
) -> None:
    with Collector(umami=version) as server:
        client = make_client(url_base=server.url, batch_size=100, flush_interval=NEVER, senders=1)
        visit(client, [BROWSERS[0], *CRAWLERS, *ODD_BROWSERS, BROWSERS[1]] * 10)
        assert client.flush(DEADLINE)
        requests = [request for request in server.requests if len(request.body) > len("[]")]
        assert {request.path for request in requests} == {"/api/batch"}
        assert len(requests) == 1 + len(CRAWLERS) + len(ODD_BROWSERS)
        for request in requests:
            agents = {item["payload"]["userAgent"] for item in request.json}
            assert len(agents) == 1 or agents <= set(BROWSERS)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.0.3", "3.1", "3.4"])
def test_what_the_server_made_of_a_user_agent_is_remembered(version: str, make_client: MakeClient) -> None:
    with Collector(umami=version) as server:
        client = make_client(url_base=server.url, batch_size=100, flush_interval=NEVER, senders=1)
        crowd = [*BROWSERS, *CRAWLERS, *ODD_BROWSERS] * 10
        visit(client, crowd)
        assert client.flush(DEADLINE)
        before = server.request_count
        for turn in range(1, 4):
            visit(client, crowd, turn * 100)
            assert client.flush(DEADLINE)
        # The browsers' in one batch, and the bots' in another.
        assert server.request_count - before == 3 * 2
    stats = client.queue_stats()
    assert (stats.rejected, stats.delivered) == (4 * 10 * len(CRAWLERS), 4 * 10 * (len(crowd) // 10 - 5))


@pytest.mark.parametrize("version", ["2.19", "3.0.1"])
def test_where_the_answer_does_not_tell_only_unusual_user_agents_go_one_by_one(
    version: str, make_client: MakeClient
) -> None:
    with Collector(umami=version) as server:
        client = make_client(url_base=server.url, batch_size=100, flush_interval=NEVER, senders=1)
        visit(client, [*BROWSERS, *CRAWLERS] * 10)
        assert client.flush(DEADLINE)
        paths = Counter(request.path for request in server.requests)
        assert paths["/api/send"] == 10 * len(CRAWLERS)
        assert paths["/api/batch"] <= 2
    assert client.queue_stats().rejected == 10 * len(CRAWLERS)


def believed(body: bytes) -> bytes:
    """Make browsers of all User-Agents, so that a server stores what each sends, as without its check."""
    for agent in [*CRAWLERS, *ODD_BROWSERS]:
        body = body.replace(agent.encode(), CHROME.encode())
    return body


@pytest.mark.slow
@pytest.mark.parametrize("version", ["2.15", "2.16", "2.19", "3.0.1", "3.1", "cloud"])
def test_a_server_that_does_not_check_for_bots_costs_no_requests_once_that_is_known(
    version: str, make_client: MakeClient, balanced: Balanced
) -> None:
    with (
        Collector(umami=version) as server,
        ReverseProxy(server.url, change=believed) as proxy,
    ):
        client = make_client(url_base=proxy.url, batch_size=100, flush_interval=NEVER, senders=1)
        visit(client, [CRAWLERS[0], CHROME])
        assert client.flush(DEADLINE)
        before = len(proxy.requests)
        visit(client, [*CRAWLERS, *BROWSERS, *ODD_BROWSERS] * 10, 100)
        assert client.flush(DEADLINE)
        has_batches = version not in ("2.15", "2.16", "cloud")
        assert len(proxy.requests) - before == (1 if has_batches else 100)
        assert server.event_count == 102
    stats = client.queue_stats()
    assert (stats.delivered, stats.rejected) == (102, 0)
    balanced(client)


def test_an_outage_makes_the_client_forget_what_the_server_made_of_user_agents(
    collector: Collector, make_client: MakeClient, heard: Listener
) -> None:
    with ReverseProxy(collector.url) as proxy:
        client = make_client(url_base=proxy.url)
        visit(client, CRAWLERS)
        assert client.flush(DEADLINE)
        assert client.queue_stats().rejected == len(CRAWLERS)
        collector.stop()
        visit(client, [CHROME], 100)
        heard.wait_for("not getting through")
        proxy.change = believed  # it comes back with DISABLE_BOT_CHECK
        collector.start()
        visit(client, CRAWLERS, 200)
        assert client.flush(DEADLINE)
        stats = client.queue_stats()
        assert (stats.delivered, stats.rejected) == (len(CRAWLERS) + 1, len(CRAWLERS))
        # And once more, the other way round.
        collector.stop()
        visit(client, [CHROME], 300)
        heard.wait_for("not getting through", 1)
        proxy.change = lambda body: body
        collector.start()
        visit(client, CRAWLERS, 400)
        assert client.flush(DEADLINE)
    assert client.queue_stats().delivered + client.queue_stats().rejected == 3 * len(CRAWLERS) + 2


def test_no_mixed_batch_is_split_and_posted_again(collector: Collector, make_client: MakeClient) -> None:
    with ReverseProxy(collector.url) as proxy:
        client = make_client(url_base=proxy.url, batch_size=100, flush_interval=NEVER)
        visit(client, mixed(200))
        assert client.flush(DEADLINE)
        times = Counter(name for request in proxy.requests for name in request.names)
        assert set(times.values()) == {1}


def test_a_verdict_that_has_changed_meanwhile_is_noticed(
    collector: Collector, make_client: MakeClient
) -> None:
    with ReverseProxy(collector.url) as proxy:
        client = make_client(url_base=proxy.url)
        visit(client, CRAWLERS)
        assert client.flush(DEADLINE)
        proxy.change = believed  # without an outage that anybody saw
        visit(client, CRAWLERS * 3, 100)
        assert client.flush(DEADLINE)
    stats = client.queue_stats()
    assert (stats.rejected, stats.delivered) == (len(CRAWLERS), 3 * len(CRAWLERS))


@pytest.mark.slow
def test_bots_that_come_while_something_refuses_their_events_are_still_counted(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    turns = iter(range(1000))

    def busy(request: ProxyRequest) -> Answer | None:
        """Say now and then that there is no server, and twice that it is asked too often."""
        turn = next(turns)
        if turn in (4, 9):
            return Answer(429, b"slow down", {"Retry-After": "0"})
        return Answer(502, b"<h1>Bad Gateway</h1>") if turn % 7 == 5 else None

    with ReverseProxy(collector.url, busy) as proxy:
        client = make_client(url_base=proxy.url, batch_size=10)
        visits = visit(client, mixed(100))
        assert client.flush(DEADLINE)
        people = sum(not is_bot(agent) for agent in visits.values())
    stats = client.queue_stats()
    assert (stats.delivered, stats.rejected) == (people, 100 - people)
    assert collector.event_count == people
    balanced(client)


@pytest.mark.slow
def test_bots_behind_a_rate_limit_are_counted_where_the_batch_route_is_broken(
    collector: Collector, make_client: MakeClient
) -> None:
    limited = collector.fail(429, path="/api/send", times=1)
    broken = collector.fail(405, path="/api/batch", times=None)
    client = make_client()
    visit(client, CRAWLERS * 4)
    assert client.flush(DEADLINE / 2)
    assert limited.is_spent
    assert client.queue_stats().rejected == 4 * len(CRAWLERS)
    assert broken.hits < 4 * len(CRAWLERS)


@pytest.mark.parametrize("version", ["2.16", "3.0.1", "3.1"])
def test_a_blank_user_agent_is_none(version: str, make_client: MakeClient) -> None:
    with Collector(umami=version) as server:
        client = make_client(url_base=server.url)
        for ua in ("", " ", "\t"):
            client.new_page_view("blank", "/", ua=ua)
        assert client.flush(DEADLINE)
        assert len(server.requests) <= 4
        for request in server.requests:
            items = request.json if isinstance(request.json, list) else [request.json]
            assert all("userAgent" not in item["payload"] for item in items)
    assert client.queue_stats().delivered == 3


def test_the_log_names_the_setting_that_keeps_bots(
    collector: Collector, make_client: MakeClient, heard: Listener
) -> None:
    client = make_client()
    client.new_page_view("crawled", "/", ua=CRAWLERS[0])
    assert client.flush(DEADLINE)
    heard.wait_for("DISABLE_BOT_CHECK=1")
    (line,) = heard.matching("rejected (bot)")
    assert "ua=" in line.getMessage()


@pytest.mark.slow
def test_a_thousand_different_crawlers_are_each_counted(
    collector: Collector, make_client: MakeClient, balanced: Balanced
) -> None:
    client = make_client(queue_size=10_000)
    visit(client, [f"crawler/{number}.0" for number in range(1000)])
    assert client.flush(DEADLINE)
    assert collector.events == ()
    assert client.queue_stats().rejected == 1000
    balanced(client)


def test_an_identify_of_a_bots_is_rejected_too(collector: Collector, make_client: MakeClient) -> None:
    client = make_client()
    event = {"type": "identify", "payload": {"website": SITE, "userAgent": "curl/8.5.0", "data": {"a": 1}}}
    route = client._state.new_route()
    assert route.put(json.dumps(event, separators=(",", ":")).encode())
    send_many(client, 3)
    assert client.flush(DEADLINE)
    stats = client.queue_stats()
    assert (stats.delivered, stats.rejected) == (3, 1)


class ForgetfulServer:
    """Umami 3.1, of which another sender's failure has all forgotten while a crawler's batch is under way."""

    exporter: UmamiExporter
    is_away = False

    def post(self, url: str, content: bytes, headers: Mapping[str, str], **bounds: Any) -> Reply:
        if content == b"[]":
            if self.is_away:
                return Reply(503, {}, b"away")
            return Reply(200, {}, b'{"size":0,"processed":0,"errors":0,"details":[],"cache":null}')
        self.is_away = True
        self.exporter._learned.away()
        return Reply(200, {}, b'{"size":2,"processed":2,"errors":0,"details":[]}')


def test_what_is_forgotten_while_a_crawlers_batch_is_under_way_makes_none_of_it_delivered() -> None:
    server = ForgetfulServer()
    target = Target("http://u/api/send", "http://u/api/batch")
    server.exporter = UmamiExporter(target, Connections(lambda: server, Settings))
    payload = {"website": "w", "url": "/", "name": "b", "userAgent": "Googlebot/2.1"}
    exported = server.exporter.export([to_json({"type": "event", "payload": payload})] * 2, None)
    assert exported.outcomes == {0: BOT, 1: BOT}
    assert server.exporter._learned.checks_bots
