"""Logins and queries against servers of every version of Umami, sync and async."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from conftest import PASSWORD, SITE, with_each, with_version
from old_umami import GENERATIONS, TOKEN, VIEWS, Answer, OldUmami, Seen, served
from secrecy import watch

import umami
from umami.collector import Collector
from umami.errors import OperationNotAllowedError, ResponseError, ValidationError

Call = Callable[..., Any]
DAY = {
    "start_at": datetime(2026, 1, 1, tzinfo=timezone.utc),
    "end_at": datetime(2026, 1, 2, tzinfo=timezone.utc),
}
SINCE_3_1 = ["3.1", "3.2", "3.4", "3.4-clickhouse"]
VERSIONS = [with_version(version, version, name=version) for version in GENERATIONS]
NO_OPERATORS = ["2.0", "2.4", "2.6"]


class Site(umami.Client):
    """A client of a server of one generation."""

    server: OldUmami

    @property
    def paths(self) -> list[str]:
        """The paths that were asked for, logins apart."""
        return [request.path for request in self.server.seen if request.path != "/api/auth/login"]


@pytest.fixture
def serve() -> Iterator[Callable[..., Site]]:
    """Make clients of servers of a generation, which are logged in unless told otherwise."""
    with ExitStack() as stack:

        def make(version: str, override: Any = None, *, login: bool = True) -> Site:
            server = OldUmami(version, override)
            site = Site(url_base=stack.enter_context(served(server)), website_id=SITE, hostname="example.com")
            site.server = server
            stack.callback(site.__exit__, None, None, None)
            if login:
                site.login("admin", PASSWORD)
            return site

        yield make


def override(path: str, answer: Answer | Callable[[Seen], Answer | None]) -> Callable[[Seen], Answer | None]:
    def answered(request: Seen) -> Answer | None:
        if request.path != path:
            return None
        return answer if isinstance(answer, Answer) else answer(request)

    return answered


# Login.


@pytest.mark.parametrize("version", VERSIONS)
def test_a_login_is_read_on_every_generation(serve: Callable[..., Site], version: str) -> None:
    site = serve(version, login=False)
    answer = site.login("admin", PASSWORD)
    assert (answer.token, answer.user.id, answer.user.username) == (TOKEN, "user-1", "admin")
    assert (answer.user.role, answer.user.isAdmin) == (("", False) if version == "2.0" else ("admin", True))
    assert site.is_logged_in()


def test_umami_1_is_named_as_too_old(serve: Callable[..., Site], call: Call) -> None:
    site = serve("1.40", login=False)
    with pytest.raises(ResponseError, match=r"/api/auth/login is the route of an Umami 1, which is too old"):
        call(site.login, "admin", PASSWORD)
    assert not site.is_logged_in()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_wrong_password_says_so_in_the_servers_words(serve: Callable[..., Site], version: str) -> None:
    with pytest.raises(
        httpx.HTTPStatusError, match=r"answered 401 Unauthorized.*incorrect-username-password"
    ):
        serve(version, login=False).login("admin", "wrong")


PARTIAL = "partial-t0ken-of-the-first-factor"
BACKUP_CODE = "A1B2C3D4E5-F6A7B8C9D0"


def second_factor(request: Seen) -> Answer | None:
    """Ask for a second factor, and take one, as Umami's source has it."""
    if request.path == "/api/auth/login":
        return Answer(200, {"requiresTwoFactor": True, "partialToken": PARTIAL})
    if request.path != "/api/2fa/verify":
        return None
    watch.learn("a partial token", PARTIAL)
    assert request.headers["authorization"] == f"Bearer {PARTIAL}"
    if request.body not in ({"token": "123456"}, {"backupCode": BACKUP_CODE}):
        error = {
            "message": "Invalid verification code",
            "code": "two-factor-error-invalid-code",
            "status": 400,
        }
        return Answer(400, {"error": error})
    user = {"id": "user-1", "username": "admin", "role": "admin", "isAdmin": True, "teams": []}
    return Answer(200, {"token": TOKEN, "user": user})


@with_each("code", ["123456", "123 456", BACKUP_CODE])
def test_a_second_factor_completes_a_login(serve: Callable[..., Site], call: Call, code: str) -> None:
    site = serve("3.4", second_factor, login=False)
    assert call(site.login, "admin", PASSWORD, code=code).token == TOKEN
    assert site.is_logged_in()
    assert [request.path for request in site.server.seen] == ["/api/auth/login", "/api/2fa/verify"]


def test_a_second_factor_that_is_missing_is_asked_for(serve: Callable[..., Site], call: Call) -> None:
    site = serve("3.4", second_factor, login=False)
    watch.learn("a partial token", PARTIAL)
    with pytest.raises(
        OperationNotAllowedError, match=r"second factor: call login\(username, password, code="
    ):
        call(site.login, "admin", PASSWORD)
    assert not site.is_logged_in()


def test_a_wrong_second_factor_raises(serve: Callable[..., Site]) -> None:
    site = serve("3.4", second_factor, login=False)
    with pytest.raises(httpx.HTTPStatusError, match="400 Bad Request: Invalid verification code") as caught:
        site.login("admin", PASSWORD, code="654321")
    assert "654321" not in str(caught.value)
    assert not site.is_logged_in()


@pytest.mark.parametrize(
    ("code", "message"), [("", "code cannot be empty"), (123456, "code must be a string")]
)
def test_a_second_factor_is_checked_before_any_request(
    serve: Callable[..., Site], code: Any, message: str
) -> None:
    site = serve("3.4", second_factor, login=False)
    with pytest.raises(ValidationError, match=message):
        site.login("admin", PASSWORD, code=code)
    assert site.server.seen == []


def test_a_second_factor_that_nobody_asks_for_is_not_sent(serve: Callable[..., Site]) -> None:
    site = serve("3.4", login=False)
    site.login("admin", PASSWORD, code="123456")
    assert [request.body.keys() for request in site.server.seen] == [{"username", "password"}]


def test_a_second_factor_asked_for_without_a_token_is_no_answer_of_umami(serve: Callable[..., Site]) -> None:
    answer = override("/api/auth/login", Answer(200, {"requiresTwoFactor": True, "partialToken": 5}))
    with pytest.raises(ResponseError, match="did not answer as Umami does"):
        serve("3.4", answer, login=False).login("admin", PASSWORD, code="123456")


@pytest.mark.parametrize("secret", ["password", "code", "partial"])
def test_a_server_that_repeats_a_secret_is_not_quoted(serve: Callable[..., Site], secret: str) -> None:
    def echo(request: Seen) -> Answer | None:
        if secret == "password" or request.path == "/api/2fa/verify":
            shown = {"password": PASSWORD, "code": BACKUP_CODE, "partial": PARTIAL}[secret]
            return Answer(400, {"error": f"Odd: {shown}"})
        return second_factor(request)

    watch.learn("a partial token", PARTIAL)
    watch.learn("a backup code", BACKUP_CODE)
    site = serve("3.4", echo, login=False)
    with pytest.raises(httpx.HTTPStatusError) as caught:
        site.login("admin", PASSWORD, code=BACKUP_CODE)
    assert not any(value in str(caught.value) for value in (PASSWORD, BACKUP_CODE, PARTIAL))


# Verify.


@pytest.mark.parametrize("version", ["1.40", *VERSIONS])
def test_a_token_is_verified_on_every_generation(serve: Callable[..., Site], version: str) -> None:
    site = serve(version, login=False)
    site._state.set_token(TOKEN)
    assert site.verify_token() is True
    paths = ["/api/auth/verify", "/api/me"] if version in ("2.16", "2.17") else ["/api/auth/verify"]
    assert site.paths == paths
    site._state.set_token("an-0ther-token")
    assert site.verify_token() is False


@with_each(
    ("verify", "me", "valid"),
    [
        (Answer(404), Answer(200, {"user": {"username": "admin"}}), True),
        (Answer(405), Answer(200, {"username": "admin"}), True),
        (Answer(405), Answer(200, {"user": None}), False),
        (Answer(404), Answer(404), False),
        (Answer(405), Answer(401), False),
        (Answer(401), Answer(200, {"username": "admin"}), False),
        (Answer(500), Answer(200, {"username": "admin"}), False),
        (Answer(200, {"user": {"username": "admin"}, "token": "t"}), Answer(500), True),
    ],
)
def test_only_a_missing_route_has_the_token_verified_otherwise(
    serve: Callable[..., Site], verify: Answer, me: Answer, valid: bool
) -> None:
    site = serve("2.19", lambda request: {"/api/auth/verify": verify, "/api/me": me}.get(request.path))
    assert site.verify_token() is valid


# Websites.


@pytest.mark.parametrize("version", VERSIONS)
def test_websites_are_the_accounts_and_its_teams_each_once(serve: Callable[..., Site], version: str) -> None:
    websites = serve(version).websites()
    assert [website.id for website in websites] == ["site-1", "site-2", "site-3", "site-4"]
    assert [website.user is None for website in websites] == [False, False, True, True]


@pytest.mark.parametrize("version", VERSIONS)
def test_websites_are_read_to_the_last_page(serve: Callable[..., Site], version: str) -> None:
    site = serve(version)
    site.server.websites = {
        "own": [f"own-{n}" for n in range(250)],
        "team-1": [f"team-{n}" for n in range(101)],
    }
    assert len({website.id for website in site.websites()}) == 351


def test_a_list_without_an_order_is_read_again(serve: Callable[..., Site]) -> None:
    """As 3.x may give it: a row on two pages, and another on none."""
    answers = iter([[*range(100)], [*range(99, 149)], [*range(50, 150)], [*range(50)]])

    def page(request: Seen) -> Answer:
        rows = [{"id": f"site-{n}"} for n in next(answers)]
        return Answer(200, {"data": rows, "count": 150, "page": int(request.query["page"]), "pageSize": 100})

    site = serve("3.1", override("/api/websites", page))
    site.server.websites = {"own": []}
    assert sorted(website.id for website in site.websites()) == sorted(f"site-{n}" for n in range(150))


def test_a_server_without_teams_has_no_websites_of_teams(serve: Callable[..., Site]) -> None:
    site = serve("3.1", lambda request: Answer(404) if request.path.endswith("/teams") else None)
    assert [website.id for website in site.websites()] == ["site-1", "site-2"]


def test_teams_that_cannot_be_read_are_not_passed_over(serve: Callable[..., Site], call: Call) -> None:
    site = serve("3.1", override("/api/teams", Answer(403, b"Blocked", "text/plain")))
    with pytest.raises(httpx.HTTPStatusError, match=r"/api/teams\?.* answered 403 Forbidden: Blocked"):
        call(site.websites)


# Figures.


@pytest.mark.parametrize("version", VERSIONS)
def test_active_users_are_counted_on_every_generation(serve: Callable[..., Site], version: str) -> None:
    assert serve(version).active_users() == 7


@pytest.mark.parametrize("version", VERSIONS)
def test_the_period_before_is_read_on_every_generation(serve: Callable[..., Site], version: str) -> None:
    stats = serve(version).website_stats(**DAY)
    counted = version not in (*NO_OPERATORS,)  # visits: since 2.11
    expected = {"pageviews": len(VIEWS), "visitors": 2, "visits": 3 * counted, "bounces": 1, "totaltime": 40}
    before = {"pageviews": 1, "visitors": 1, "visits": 2 * counted, "bounces": 0, "totaltime": 10}
    assert stats.model_dump() == {**expected, "comparison": before}


@with_each(
    "body",
    [
        {"pageviews": None, "visitors": 0, "visits": 0, "bounces": None, "totaltime": None,
         "comparison": dict.fromkeys(umami.models.WebsiteStatsCmp.model_fields)},
        {name: {"value": 0, "prev": None} for name in umami.models.WebsiteStatsCmp.model_fields},
        {name: {"value": None, "change": None} for name in ("pageviews", "uniques", "bounces", "totaltime")},
        {name: {"value": 0} for name in ("pageviews", "uniques", "bounces", "totaltime")},
    ],
)  # fmt: skip
def test_nulls_are_zeros(serve: Callable[..., Site], body: Any) -> None:
    stats = serve("3.0", override(f"/api/websites/{SITE}/stats", Answer(200, body))).website_stats(**DAY)
    zeros = umami.models.WebsiteStatsCmp()
    assert stats.comparison == zeros
    assert stats.model_dump(exclude={"comparison"}) == zeros.model_dump()


# Filters.

PLAIN = [{"url": "/pricing"}, {"referrer": "example"}, {"title": "Pricing"}, {"title": "", "referrer": ""}]
BY_HOST = [{"host": "docs.example.com"}, {"host": "nowhere", "url": "/docs"}]
READ_AS_MORE = [
    {"referrer": "t.co"},
    {"referrer": "c.example"},
    {"title": "Pricing, plans"},
    {"title": "pricing, PLANS", "url": "/pricing"},
    {"title": "nothing, (at) [all]$"},
]
FIELDS = {"url": 0, "host": 1, "referrer": 2, "title": 3}


def literal(filters: dict[str, str]) -> int:
    return sum(all(view[FIELDS[name]] == value for name, value in filters.items()) for view in VIEWS)


@pytest.mark.parametrize("version", [*VERSIONS, "3.4-clickhouse"])
def test_a_plain_filter_needs_no_question(serve: Callable[..., Site], version: str) -> None:
    site = serve(version)
    filters_by_host = [] if version in (*NO_OPERATORS, "2.11") else BY_HOST  # which have no such filter
    for filters in PLAIN + filters_by_host:
        assert site.website_stats(**DAY, **filters).pageviews == literal(filters)
    assert set(site.paths) == {f"/api/websites/{SITE}/stats"}


@pytest.mark.parametrize("version", [*VERSIONS, "3.4-clickhouse"])
def test_a_value_is_literal_on_every_generation(serve: Callable[..., Site], version: str) -> None:
    site = serve(version)
    for filters in READ_AS_MORE:
        assert site.website_stats(**DAY, **filters).pageviews == literal(filters)


@pytest.mark.parametrize("version", [*VERSIONS, "3.4-clickhouse"])
def test_a_value_of_two_lines_is_literal_or_an_error(serve: Callable[..., Site], version: str) -> None:
    site = serve(version)
    if version[0] == "2" and version not in NO_OPERATORS:
        with pytest.raises(httpx.HTTPStatusError, match="500"):
            site.website_stats(**DAY, title="t.co\nsecond line")
    else:
        assert site.website_stats(**DAY, title="t.co\nsecond line").pageviews == 1


@pytest.mark.parametrize("version", [*VERSIONS, "3.4-clickhouse"])
def test_which_server_it_is_is_asked_once(serve: Callable[..., Site], call: Call, version: str) -> None:
    site = serve(version)
    for filters in READ_AS_MORE[:4]:
        call(site.website_stats, **DAY, **filters)
    assert site.paths.count("/api/config") == 1
    assert len(site.paths) == 5 + (version in ("3.0", "3.2"))
    (config,) = (request for request in site.server.seen if request.path == "/api/config")
    assert "authorization" not in config.headers


@pytest.mark.parametrize("version", [*VERSIONS, "3.4-clickhouse"])
@with_each("filters", [{"title": "!important"}, {"url": "/~user"}, {"title": "~x"}])
def test_what_2_reads_as_an_operator_is_refused_there_and_nowhere_else(
    serve: Callable[..., Site], version: str, filters: dict[str, str]
) -> None:
    site = serve(version)
    if version[0] == "2" and "title" in filters:
        with pytest.raises(
            ValidationError, match=r"^title='.*' cannot be used .* Umami 2 reads a leading ! or ~"
        ):
            site.website_stats(**DAY, **filters)
        assert site.paths == ["/api/config"]
    else:
        assert site.website_stats(**DAY, **filters).pageviews == literal(filters)


@with_each("version", SINCE_3_1)
def test_a_comma_before_a_lines_end_is_refused(serve: Callable[..., Site], version: str) -> None:
    with pytest.raises(ValidationError, match=r"title='a,b\\nc' cannot be used with this server: .* comma"):
        serve(version).website_stats(**DAY, title="a,b\nc")


@with_each("version", ["2.0", "2.6", "2.11"])
def test_a_filter_that_the_server_ignores_is_refused(serve: Callable[..., Site], version: str) -> None:
    with pytest.raises(ValidationError, match=r"host cannot be used with this server: Umami before 2\.12"):
        serve(version).website_stats(**DAY, host="docs.example.com")


@with_each("value", [["DE", 5], 5, b"x", True])
def test_a_filter_is_text(serve: Callable[..., Site], value: Any) -> None:
    site = serve("3.1")
    with pytest.raises(ValidationError, match=r"^country must be a string, got "):
        site.website_stats(**DAY, country=value)
    assert site.paths == []


@with_each(("old", "new"), [("2.19", "3.1"), ("3.1", "2.19"), ("2.15", "3.0"), ("3.4", "2.15")])
def test_an_upgraded_server_is_noticed(serve: Callable[..., Site], call: Call, old: str, new: str) -> None:
    site = serve(old)
    assert call(site.website_stats, **DAY, title="c.x").pageviews == 0
    site.server.version = tuple(map(int, new.split(".")))
    for filters in READ_AS_MORE[1:4]:
        assert call(site.website_stats, **DAY, **filters).pageviews == literal(filters)


def test_an_upgrade_that_fails_a_query_is_noticed_at_the_next(serve: Callable[..., Site]) -> None:
    site = serve("2.19")
    assert site.website_stats(**DAY, referrer="t.co").pageviews == 1
    site.server.version = (3, 1)
    with pytest.raises(httpx.HTTPStatusError, match="500"):
        site.website_stats(**DAY, referrer="t.co")
    assert site.website_stats(**DAY, referrer="t.co").pageviews == 1


@with_each("version", ["3.0", "3.1", "3.4"])
def test_a_proxy_that_hides_what_is_asked_leads_to_no_wrong_figure(
    serve: Callable[..., Site], version: str
) -> None:
    site = serve(version, override("/api/config", Answer(404, b"not here", "text/plain")))
    for filters in READ_AS_MORE[1:4]:
        assert site.website_stats(**DAY, **filters).pageviews == literal(filters)


@pytest.mark.parametrize("answer", [Answer(403, b"Blocked", "text/plain"), Answer(502)])
def test_what_cannot_be_asked_raises(serve: Callable[..., Site], answer: Answer) -> None:
    site = serve("3.1", override("/api/config", answer))
    site.configure(query_timeout=0.1)
    with pytest.raises(httpx.HTTPStatusError, match=f"/api/config answered {answer.status}"):
        site.website_stats(**DAY, referrer="t.co")


@with_each("body", [b"<html>", b"[]", b"5"])
def test_a_configuration_that_is_none_of_umamis_raises(serve: Callable[..., Site], body: bytes) -> None:
    with pytest.raises(ResponseError, match="/api/config"):
        serve("3.1", override("/api/config", Answer(200, body))).website_stats(**DAY, referrer="t.co")


# Errors.


@with_each("body", [b"", b"Internal Server Error"])
def test_a_query_that_the_server_could_not_run_names_its_filters(
    serve: Callable[..., Site], call: Call, body: bytes
) -> None:
    site = serve("2.16", override(f"/api/websites/{SITE}/stats", Answer(500, body, "text/plain")))
    with pytest.raises(httpx.HTTPStatusError) as caught:
        call(site.website_stats, **DAY, url="/a", referrer="news.example")
    assert str(caught.value).endswith(
        "answered 500 Internal Server Error: Umami could not run the query with the "
        "filters url='/a', referrer='news.example': check their values."
    )
    assert caught.value.response.status_code == 500
    with pytest.raises(
        httpx.HTTPStatusError, match=r"could not run the query about that website: check its id\.$"
    ):
        call(site.website_stats, **DAY)


@with_each(
    ("body", "kind", "said"),
    [
        (b"Website not found: 5.", "text/plain", ": Website not found: 5."),
        ({"error": ["startAt: Required", "endAt: Required"]}, "", ": startAt: Required; endAt: Required"),
        ({"error": "Odd \x1b[31mquery\n"}, "", ": Odd [31mquery"),
        ({"error": {"message": "Bad request", "properties": {"unit": {"errors": ["Odd"]}}}}, "",
         ": Bad request: unit: Odd"),
        ({"error": {"issues": [{"path": ["unit"], "message": "Odd"}], "name": "ZodError"}}, "",
         ": unit: Odd"),
        (b"<html><h1>Bad Gateway</h1></html>", "text/html", ""),
        (b"", "text/plain", ""),
        ({"error": "Bad Request"}, "", ""),
        ({"error": "x" * 5000}, "", ": " + "x" * 300),
    ],
)  # fmt: skip
@with_each("function", ["active_users", "website_stats", "websites"])
def test_an_error_has_the_servers_own_words(
    serve: Callable[..., Site], function: str, body: Any, kind: str, said: str
) -> None:
    site = serve("3.1", lambda request: Answer(400, body, kind) if "websites" in request.path else None)
    with pytest.raises(httpx.HTTPStatusError) as caught:
        getattr(site, function)(**(DAY if function == "website_stats" else {}))
    message = str(caught.value)
    assert message.startswith(f"GET {site._state.settings.url_base}/api/websites")
    assert message.endswith(f" answered 400 Bad Request{said}")
    assert caught.value.response.content == (body if isinstance(body, bytes) else json.dumps(body).encode())


# The collector, as every generation.

COLLECTED = ["2.0", "2.6", "2.11", "2.15.1", "2.16.1", "2.17", "2.19", "3.0.1", "3.0.3", "3.1", "3.3", "3.4"]


@pytest.mark.parametrize("version", [with_version(version, version, name=version) for version in COLLECTED])
def test_the_collector_of_a_generation_is_asked_in_its_form(
    make_client: Callable[..., umami.Client], version: str
) -> None:
    with Collector(umami=version, password=PASSWORD) as collector:
        site = collector.add_website("Site", "site.example")
        client = make_client(url_base=collector.url, website_id=site)
        with pytest.raises(httpx.HTTPStatusError, match="answered 401 Unauthorized"):
            client.login("admin", "wrong")
        assert client.login("admin", PASSWORD).user.username == "admin"
        assert client.verify_token()
        assert client.heartbeat()
        assert [website.id for website in client.websites()] == [site]
        assert client.active_users() == 0
        assert (
            client.website_stats(**DAY, url="/a", title="a, b").comparison == umami.models.WebsiteStatsCmp()
        )
        client.logout()
        collector.revoke_tokens()
        client._state.set_token(TOKEN)
        assert not client.verify_token()


@pytest.mark.slow
@pytest.mark.parametrize("version", COLLECTED)
def test_the_collector_of_a_generation_reads_values_literally(
    make_client: Callable[..., umami.Client], browse: Callable[..., httpx.Client], version: str
) -> None:
    titles = ["c.x", "x", "a, b", "A, b", "a", "re.x", "plain"]
    with Collector(umami=version, password=PASSWORD) as collector:
        for title in titles:
            payload = {"website": SITE, "url": "/", "hostname": "example.com", "title": title}
            answer = browse(collector).post("/api/send", json={"type": "event", "payload": payload})
            answer.raise_for_status()
        client = make_client(url_base=collector.url)
        client.login("admin", PASSWORD)
        now = datetime.now(timezone.utc)
        day = {"start_at": now - timedelta(days=1), "end_at": now + timedelta(days=1)}
        for title in titles:
            assert client.website_stats(**day, title=title).pageviews == 1, title
        assert client.website_stats(**day, title="a, b, c").pageviews == 0


def test_the_collector_of_umami_1_is_too_old(make_client: Callable[..., umami.Client]) -> None:
    with Collector(umami="1.40", password=PASSWORD) as collector:
        client = make_client(url_base=collector.url)
        with pytest.raises(ResponseError, match="is the route of an Umami 1"):
            client.login("admin", PASSWORD)


def test_the_collector_asks_for_a_second_factor(make_client: Callable[..., umami.Client], call: Call) -> None:
    with Collector(umami="3.4", password=PASSWORD, second_factor="123456") as collector:
        client = make_client(url_base=collector.url)
        with pytest.raises(OperationNotAllowedError, match="code="):
            call(client.login, "admin", PASSWORD)
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            call(client.login, "admin", PASSWORD, code="654321")
        assert call(client.login, "admin", PASSWORD, code="123 456").user.username == "admin"
        assert call(client.websites) == []


def test_a_self_hosted_api_key_is_verified(make_client: Callable[..., umami.Client], call: Call) -> None:
    key = "umami_0123456789abcdef"
    with Collector(umami="3.4", password=PASSWORD, api_key=key) as collector:
        client = make_client(url_base=collector.url, api_key=key)
        assert call(client.verify_token) is True
        assert [request.path for request in collector.requests] == ["/api/me"]
        client.configure(api_key="umami_an0ther-key")
        assert call(client.verify_token) is False


@with_each(
    ("version", "told"),
    [("2.6", "2.0"), ("2.15", "2.15"), ("2.16", "2.16"), ("2.19", "2.16"), ("3.0", "3.0"), ("3.1", "3.1"),
     ("3.4", "3.3")],
)  # fmt: skip
def test_a_servers_version_is_told(serve: Callable[..., Site], version: str, told: str) -> None:
    of_2_15 = override("/api/version", Answer(200, {"version": "2.15.1"})) if version == "2.15" else None
    site = serve(version, of_2_15, login=False)
    site.set_website_id(None)
    assert site.server_version() == told
    site.configure(server_version="3.2")
    assert site.server_version() == "3.2"
    assert umami.Client(api_key="key").server_version() == "3.4"
