"""Settings: their sources and precedence, and the errors for wrong ones."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import pytest
import settings_table
import tenacity
from conftest import DEADLINE, PASSWORD, SITE, with_each
from queue_helpers import refusal

import umami
from umami.collector import Collector
from umami.errors import OperationNotAllowedError
from umami.exporters import MemoryExporter
from umami.settings import Settings, SettingsDict

NO_SERVER = "Set a URL base with set_url_base() or call set_cloud_api_key()."
NO_LOGIN = "Call login() or set_cloud_api_key() before proceeding."
NOT_HTTP = "The url must start with the HTTP scheme (http:// or https://)."
OTHER_SITE = "c0ffee00-7ba1-4337-9860-ec31ece2db60"


@pytest.fixture
def bare() -> Iterator[Callable[..., umami.Client]]:
    """Make clients of just these settings, and what the environment says; each is shut down at the end."""
    with ExitStack() as made:
        yield lambda **settings: made.enter_context(umami.Client(**settings))


@pytest.fixture
def from_environment(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, bare: Callable[..., umami.Client]
) -> Callable[..., umami.Client]:
    """Make clients of nothing but the environment."""

    def make(**variables: str) -> umami.Client:
        defaults = {"UMAMI_URL": collector.url, "UMAMI_WEBSITE_ID": SITE, "UMAMI_HOSTNAME": "example.com"}
        for name, value in {**defaults, **variables}.items():
            monkeypatch.setenv(name, value)
        return bare()

    return make


# Precedence.


def test_a_call_goes_before_configure_before_the_environment(
    monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    monkeypatch.setenv("UMAMI_URL", collector.url)
    monkeypatch.setenv("UMAMI_WEBSITE_ID", SITE)
    monkeypatch.setenv("UMAMI_HOSTNAME", "environment.example")
    with umami.Client() as client:
        client.new_event("environment")
        client.configure(hostname="configure.example", website_id=OTHER_SITE)
        client.new_event("configure")
        client.new_event("call", hostname="call.example", website_id=SITE)
        assert client.flush(DEADLINE)
    assert [(event.name, event.hostname, event.website_id) for event in collector.events] == [
        ("environment", "environment.example", SITE),
        ("configure", "configure.example", OTHER_SITE),
        ("call", "call.example", SITE),
    ]


def test_without_any_of_them_a_setting_has_its_default(collector: Collector) -> None:
    with umami.Client(url_base=collector.url, website_id=SITE, hostname="example.com") as client:
        assert client.new_event("signup") == {"queued": True}
        assert client.flush(DEADLINE)
    assert [request.path for request in collector.requests] == ["/api/batch"]


def test_none_in_code_unsets_what_the_environment_sets(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, bare: Callable[..., umami.Client]
) -> None:
    monkeypatch.setenv("UMAMI_URL", collector.url)
    client = bare(url_base=None)
    assert not client.heartbeat()
    assert refusal(client.new_event, "signup") == NO_SERVER
    assert bare().heartbeat()


def test_a_blank_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UMAMI_URL", "  ")
    monkeypatch.setenv("UMAMI_QUEUE_SIZE", "")
    assert refusal(umami.Client().new_event, "signup") == NO_SERVER


def test_url_goes_before_url_base_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, bare: Callable[..., umami.Client]
) -> None:
    monkeypatch.setenv("UMAMI_URL_BASE", collector.url)
    assert bare().heartbeat()
    monkeypatch.setenv("UMAMI_URL", "http://localhost:1")
    assert repr(bare()) == "<umami.Client to http://localhost:1>"


@pytest.mark.slow
def test_the_environment_is_read_by_the_first_call_not_by_the_import(
    python: Callable[..., Any], collector: Collector
) -> None:
    program = """
        import os, sys, umami
        os.environ["UMAMI_URL"] = sys.argv[1]
        assert umami.heartbeat()
    """
    result = python(program, collector.url)
    assert (result.returncode, result.stderr) == (0, "")


# Each variable.


@with_each("value", ["1", "true", "yes", "on"])
def test_disabled_in_the_environment_sends_nothing(
    value: str, from_environment: Callable[..., umami.Client], collector: Collector
) -> None:
    client = from_environment(UMAMI_DISABLED=value)
    assert client.new_event("signup") == {}
    client.enable()
    assert client.new_event("signup") == {"queued": True}
    assert client.flush(DEADLINE)
    assert len(collector.events) == 1


@pytest.mark.parametrize("code", [{}, {"enabled": False}], ids=["alone", "and disabled in code"])
def test_disabled_in_the_environment_a_send_needs_no_settings(
    code: dict[str, bool],
    monkeypatch: pytest.MonkeyPatch,
    bare: Callable[..., umami.Client],
    call: Callable[..., Any],
    collector: Collector,
) -> None:
    monkeypatch.setenv("UMAMI_DISABLED", "1")
    client = bare(**code)
    assert call(client.new_event, "signup") == {}
    assert call(client.new_page_view, "Home", "/") == {}
    assert call(client.new_revenue_event, 1) == {}
    assert call(client.identify, "user-17", {"plan": "pro"}) == {}
    with pytest.raises(umami.errors.ValidationError, match="event_name"):
        call(client.new_event, "")
    with pytest.raises(OperationNotAllowedError, match=re.escape(NO_SERVER)):
        client.websites()
    client.configure(url_base=collector.url, website_id=SITE, hostname="example.com", enabled=True)
    assert call(client.new_event, "signup") == {"queued": True}
    assert client.flush(DEADLINE)


def test_disabled_in_code_a_send_needs_what_it_always_needs(
    bare: Callable[..., umami.Client], collector: Collector
) -> None:
    client = bare(enabled=False)
    with pytest.raises(OperationNotAllowedError, match=re.escape(NO_SERVER)):
        client.new_event("signup")
    client.set_url_base(collector.url)
    with pytest.raises(umami.errors.ValidationError, match="hostname must be set"):
        client.new_event("signup")
    client.configure(hostname="example.com", website_id=SITE)
    assert client.new_event("signup") == {}


@with_each("value", ["0", "false", "no", "off"])
def test_not_disabled_in_the_environment_sends(
    value: str, from_environment: Callable[..., umami.Client]
) -> None:
    assert from_environment(UMAMI_DISABLED=value).new_event("signup") == {"queued": True}


def test_the_mode_comes_from_the_environment(from_environment: Callable[..., umami.Client]) -> None:
    assert "sessionId" in from_environment(UMAMI_MODE="direct").new_event("signup")


def test_the_cloud_key_and_region_come_from_the_environment(
    from_environment: Callable[..., umami.Client],
) -> None:
    client = from_environment(UMAMI_API_KEY="k3y-of-the-cloud", UMAMI_REGION="eu")
    assert client.is_logged_in()
    assert repr(client) == "<umami.Client to Umami Cloud>"


def test_the_queues_size_comes_from_the_environment(
    from_environment: Callable[..., umami.Client], collector: Collector
) -> None:
    collector.fail(None, freeze=True)
    client = from_environment(UMAMI_QUEUE_SIZE="2")
    answers = [client.new_event("signup") for _ in range(3)]
    assert answers == [{"queued": True}, {"queued": True}, {"queued": False, "reason": "queue_full"}]
    collector.thaw()


def test_the_overflow_policy_comes_from_the_environment(
    from_environment: Callable[..., umami.Client], collector: Collector
) -> None:
    client = from_environment(UMAMI_QUEUE_SIZE="2", UMAMI_OVERFLOW="drop_oldest", UMAMI_FLUSH_INTERVAL="3600")
    for name in ("one", "two", "three"):
        assert client.new_event(name) == {"queued": True}
    assert client.flush(DEADLINE)
    assert [event.name for event in collector.events] == ["two", "three"]
    assert client.queue_stats().dropped == {"queue_full": 1}


def test_the_batch_size_comes_from_the_environment(
    from_environment: Callable[..., umami.Client], collector: Collector
) -> None:
    client = from_environment(UMAMI_BATCH_SIZE="2", UMAMI_FLUSH_INTERVAL="3600")
    for _ in range(3):
        client.new_event("signup")
    assert client.flush(DEADLINE)
    assert [len(request.json) for request in collector.requests] == [2, 1]


WRONG = {
    "UMAMI_URL": "example.com",
    "UMAMI_URL_BASE": "ftp://example.com",
    "UMAMI_REGION": "mars",
    "UMAMI_DISABLED": "perhaps",
    "UMAMI_ENABLED": "perhaps",
    "UMAMI_MODE": "psychic",
    "UMAMI_QUEUE_SIZE": "0",
    "UMAMI_QUEUE_BYTES": "lots",
    "UMAMI_OVERFLOW": "drop_all",
    "UMAMI_BLOCK_TIMEOUT": "-1",
    "UMAMI_BATCH_SIZE": "1.5",
    "UMAMI_BATCH_BYTES": str(10 * 1024 * 1024),
    "UMAMI_FLUSH_INTERVAL": "nan",
    "UMAMI_SENDERS": "65",
    "UMAMI_TIMEOUT": "0",
    "UMAMI_QUERY_TIMEOUT": "0",
    "UMAMI_SERVER_VERSION": "newest",
    "UMAMI_ITEM_TIMEOUT": "inf",
    "UMAMI_RETRY_WAIT": "0",
    "UMAMI_RETRY_WAIT_MAX": "soon",
    "UMAMI_RETRY_AFTER_MAX": "-1",
    "UMAMI_RETRY_LIMIT": "-1",
    "UMAMI_MAX_EVENT_AGE": "0",
    "UMAMI_ITEM_RETRY_LIMIT": "-1",
    "UMAMI_AT_MOST_ONCE": "perhaps",
    "UMAMI_SHUTDOWN_TIMEOUT": "-1",
    "UMAMI_FLUSH_ON_SIGTERM": "perhaps",
    "UMAMI_SPOOL_MAX_BYTES": "0",
    "UMAMI_SPOOL_SYNC": "sometimes",
    "UMAMI_SPOOL_SYNC_INTERVAL": "0",
    "UMAMI_SPOOL_REQUIRED": "perhaps",
    "UMAMI_MIRROR": "localhost:3000",
    "UMAMI_HEADERS": "X-Key: secret",
    "UMAMI_COMMON_DATA": "release=1.2",
    "UMAMI_VERIFY": "/no/such/authority.pem",
    "UMAMI_CERT": "/no/such/certificate.pem",
    "UMAMI_PROXY": "gopher://proxy",
}


@with_each("name", WRONG)
def test_a_wrong_variable_is_named_by_the_first_call_that_needs_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setenv(name, WRONG[name])
        client = umami.Client()
        message = refusal(client.new_event, "signup", hostname="example.com", website_id=SITE)
        assert message.startswith(name)
        assert repr(client)
        assert not client.heartbeat()
        assert not client.verify_token()


def test_every_setting_has_a_variable_that_is_tested_here() -> None:
    listed = refusal(umami.configure, nonsense=1).partition("The settings are: ")[2].rstrip(".").split(", ")
    code_only = {"before_send", "on_error", "exporter"}
    free_text = {"website_id", "hostname", "api_key", "spool", "rejected"}
    renamed = {"UMAMI_DISABLED": "enabled", "UMAMI_ENABLED": "enabled", "UMAMI_URL": "url_base"}
    tested = {renamed.get(name, name.removeprefix("UMAMI_").lower()) for name in WRONG}
    assert set(listed) == tested | code_only | free_text, "add a wrong value of the new setting to WRONG"


@with_each("name", ["UMAMI_BEFORE_SEND", "UMAMI_ON_ERROR", "UMAMI_EXPORTER"])
def test_callbacks_come_from_code_only(name: str, from_environment: Callable[..., umami.Client]) -> None:
    assert from_environment(**{name: "os.abort"}).new_event("signup") == {"queued": True}


OTHERS_OF_ENABLED = [
    ({"UMAMI_ENABLED": "0"}, False),
    ({"UMAMI_ENABLED": "1"}, True),
    ({"UMAMI_ENABLED": "1", "UMAMI_DISABLED": "1"}, False),
    ({"UMAMI_ENABLED": "0", "UMAMI_DISABLED": "0"}, False),
    ({"UMAMI_ENABLED": "1", "UMAMI_DISABLED": "0"}, True),
    ({"UMAMI_ENABLED": " "}, True),
]


@pytest.mark.parametrize(("variables", "sends"), OTHERS_OF_ENABLED)
def test_of_enabled_and_disabled_the_one_that_disables_wins(
    variables: dict[str, str], sends: bool, from_environment: Callable[..., umami.Client]
) -> None:
    assert from_environment(**variables).new_event("signup") == ({"queued": True} if sends else {})


MISSPELT = {
    "UMAMI_WEBSTE_ID": "UMAMI_WEBSITE_ID",
    "UMAMI_ULR": "UMAMI_URL",
    "UMAMI_QEUE_SZE": "UMAMI_QUEUE_SIZE",
    "UMAMI_DISABLE": "UMAMI_DISABLED",
    "UMAMI_RETRY_WAITS": "UMAMI_RETRY_WAIT",
}


@pytest.mark.slow
def test_a_misspelt_variable_is_named_once(python: Callable[..., Any], collector: Collector) -> None:
    program = """
        import umami
        umami.configure(website_id="site")
        umami.configure(hostname="example.com")
        umami.Client(enabled=False).heartbeat()
    """
    misspelt = dict.fromkeys(MISSPELT, "1")
    result = python(program, UMAMI_HOSTNAME="example.com", UMAMI_URL=collector.url, **misspelt)
    assert sorted(result.stderr.splitlines()) == sorted(
        f"The environment variable {wrong} has no effect. Did you mean {right}?"
        for wrong, right in MISSPELT.items()
    )


@pytest.mark.slow
def test_variables_of_others_are_left_alone(python: Callable[..., Any], collector: Collector) -> None:
    others = {
        "UMAMI_PORT": "tcp://10.0.0.1:3000",
        "UMAMI_PORT_3000_TCP": "tcp://10.0.0.1:3000",
        "UMAMI_SERVICE_HOST": "10.0.0.1",
        "UMAMI_USERNAME": "admin",
        "UMAMI_PASSWORD": PASSWORD,
        "UMAMI_TEST_DEADLINE": "60",
    }
    result = python("import umami; umami.configure(hostname='a')", UMAMI_URL=collector.url, **others)
    assert result.stderr == ""


def test_a_spools_folder_is_that_of_the_moment_it_was_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bare: Callable[..., umami.Client]
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    client = bare(spool="~/of-home")
    monkeypatch.setenv("UMAMI_SPOOL", "of-here")
    monkeypatch.chdir(tmp_path)
    here = bare(url_base="http://127.0.0.1:9")
    relative = bare(spool=Path("of-code"))
    monkeypatch.chdir("/")
    for each in (client, here, relative):
        each.configure(queue_size=10)
    assert {path.name for path in tmp_path.iterdir()} == {"home", "of-here", "of-code"}
    assert [path.name for path in home.iterdir()] == ["of-home"]


# What the definitions say in other places.


def test_the_readmes_table_is_that_of_the_definitions() -> None:
    text = settings_table.README.read_text()
    assert settings_table.written(text) == text, "run python tests/settings_table.py"


def test_help_describes_every_setting_in_one_sentence_or_two() -> None:
    doc = umami.configure.__doc__ or ""
    for name, field in Settings.model_fields.items():
        assert f" {name}: {field.description}" in doc
        assert field.description.endswith(".")


def test_type_checkers_know_the_settings_that_there_are() -> None:
    assert get_type_hints(SettingsDict) == get_type_hints(Settings)


# Strategies of tenacity, and an exporter.


def test_tenacitys_strategies_decide(make_client: Callable[..., umami.Client], collector: Collector) -> None:
    seen = []

    def wait(state: tenacity.RetryCallState) -> float:
        seen.append(state.attempt_number)
        return 0.01

    client = make_client(retry_wait=wait, retry_limit=tenacity.stop_after_attempt(3), flush_interval=600)
    collector.fail(503, times=10)
    client.new_event("signup")
    assert client.flush(DEADLINE)
    assert client.queue_stats().dropped == {"retry_limit": 1}
    assert seen[:2] == [1, 2]


def test_an_exporter_takes_batches_and_no_direct_sends() -> None:
    client = umami.Client(mode="direct")
    assert refusal(client.configure, exporter=MemoryExporter()).startswith(
        "mode must be 'queued' with an exporter"
    )
    client = umami.Client(exporter=MemoryExporter())
    assert refusal(client.configure, mode="direct").startswith("mode must be 'queued' with an exporter")


# The log.


def test_at_debug_the_log_says_the_settings_in_force_and_the_route(
    collector: Collector, caplog: pytest.LogCaptureFixture, bare: Callable[..., umami.Client]
) -> None:
    caplog.set_level(logging.DEBUG, "umami")
    url = collector.url.replace("://", f"://me:{PASSWORD}@")
    client = bare(
        url_base=url, website_id=SITE, hostname="example.com", headers={"X-Key": "s3cret-of-a-gate"}
    )
    client.configure(queue_size=5)
    client.new_event("signup")
    text = caplog.text
    assert "queue_size=5" in text
    assert "headers=***" in text
    assert "s3cret" not in text
    assert PASSWORD not in text
    assert f"Events go to umami+basic:{collector.url}/api/send" in text
    assert "timeout" not in text.partition("queue_size=5")[0]


# Refusals of configure.


@with_each(
    ("setting", "value"),
    [
        ("url_base", "example.com"),
        ("url_base", ""),
        ("url_base", 5),
        ("website_id", 5),
        ("hostname", ["example.com"]),
        ("api_key", " "),
        ("api_key", 5),
        ("region", "mars"),
        ("enabled", "perhaps"),
        ("enabled", None),
        ("mode", "psychic"),
        ("mode", None),
        ("queue_size", 0),
        ("queue_size", True),
        ("queue_size", 1.5),
        ("queue_size", None),
        ("queue_bytes", 0),
        ("overflow", "drop_all"),
        ("block_timeout", -1),
        ("batch_size", 0),
        ("batch_bytes", 1023),
        ("batch_bytes", 10 * 1024 * 1024),
        ("flush_interval", -0.1),
        ("flush_interval", True),
        ("senders", 0),
        ("senders", 65),
        ("senders", True),
        ("timeout", 0),
        ("timeout", float("nan")),
        ("item_timeout", float("inf")),
        ("retry_wait", 0),
        ("retry_wait_max", 0),
        ("retry_after_max", -1),
        ("retry_limit", -1),
        ("retry_limit", True),
        ("retry_limit", "forever"),
        ("retry_limit", tenacity.stop_after_attempt),
        ("retry_wait", True),
        ("retry_wait", None),
        ("retry_wait", "soon"),
        ("retry_wait", tenacity.wait_fixed),
        ("spool", 5),
        ("spool", " "),
        ("timeout", None),
        ("verify", None),
        ("exporter", "print"),
        ("exporter", object()),
        ("max_event_age", 0),
        ("item_retry_limit", -1),
        ("at_most_once", "perhaps"),
        ("shutdown_timeout", -1),
        ("headers", "X-Key: secret"),
        ("headers", {"X-Key": 5}),
        ("headers", {"X-Key": "a\r\nX-Evil: 1"}),
        ("headers", {"X Key": "a"}),
        ("headers", {"Authorization": "Bearer a"}),
        ("headers", {"Content-Type": "text/plain"}),
        ("headers", {"user-agent": "me"}),
        ("headers", {"x-umami-cache": "a"}),
        ("headers", {"Host": "elsewhere.example"}),
        ("headers", {"Transfer-Encoding": "chunked"}),
        ("verify", "/no/such/authority.pem"),
        ("verify", 5),
        ("cert", "/no/such/certificate.pem"),
        ("cert", ("a", "b", "c", "d")),
        ("proxy", "gopher://proxy"),
        ("proxy", "http://"),
        ("proxy", 5),
        ("before_send", "print"),
        ("on_error", 5),
    ],
)
def test_a_wrong_setting_is_named(setting: str, value: Any) -> None:
    assert refusal(umami.Client().configure, **{setting: value}).startswith(setting)
    assert refusal(umami.Client, **{setting: value}).startswith(setting)


def test_a_refusal_says_the_limit_and_what_was_given() -> None:
    message = refusal(umami.configure, queue_size=-3)
    assert message == "queue_size must be greater than or equal to 1, got -3."


def test_a_refusal_stays_short_whatever_was_given() -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    assert refusal(umami.configure, queue_size=Hostile()).endswith("got Hostile.")
    assert len(refusal(umami.configure, mode="x" * 100_000)) < 200


def test_an_unknown_setting_is_named_with_those_there_are() -> None:
    message = refusal(umami.configure, que_size=5)
    assert message.startswith("que_size is not a setting. The settings are: api_key, at_most_once, ")


def test_configure_is_atomic(make_client: Callable[..., umami.Client], collector: Collector) -> None:
    client = make_client()
    refusal(client.configure, hostname="changed.example", enabled=False, queue_size=0)
    assert client.new_event("signup") == {"queued": True}
    assert client.flush(DEADLINE)
    assert [event.hostname for event in collector.events] == ["example.com"]


def test_configure_keeps_what_it_does_not_name(
    make_client: Callable[..., umami.Client], collector: Collector
) -> None:
    client = make_client()
    client.configure(hostname="changed.example")
    client.configure(queue_size=10)
    client.new_event("signup")
    assert client.flush(DEADLINE)
    assert [(event.hostname, event.website_id) for event in collector.events] == [("changed.example", SITE)]


def test_a_change_of_the_queues_settings_loses_no_event(
    make_client: Callable[..., umami.Client], collector: Collector
) -> None:
    client = make_client(flush_interval=3600, batch_size=100)
    for _ in range(10):
        client.new_event("before")
    client.configure(queue_size=5, batch_size=3, overflow="drop_oldest", flush_interval=0.01)
    assert client.flush(DEADLINE)
    assert len(collector.events) == 10
    assert all(len(request.json) <= 3 for request in collector.requests)


def test_what_was_queued_goes_where_the_client_pointed_then(
    make_client: Callable[..., umami.Client], collector: Collector
) -> None:
    with Collector() as other:
        client = make_client(flush_interval=3600)
        client.new_event("before")
        client.set_url_base(other.url)
        client.new_event("after")
        assert client.flush(DEADLINE)
        assert [event.name for event in collector.events] == ["before"]
        assert [event.name for event in other.events] == ["after"]


# The set functions.


@with_each("url", ["", "   ", None])
def test_set_url_base_refuses_a_blank(url: str | None) -> None:
    assert refusal(umami.Client().set_url_base, url) == "URL must not be empty."


@with_each("url", ["example.com", "ftp://example.com", "//example.com", "localhost:3000", 5, b""])
def test_set_url_base_refuses_what_is_no_http_url(url: Any) -> None:
    assert refusal(umami.Client().set_url_base, url) == NOT_HTTP


@with_each(
    "url",
    [
        "http://",
        "https:///path",
        "http://:3000",
        "http://host:port",
        "http://[::1",
        f"http://{'a' * 64}.example",
        "http://a..example",
        "http://.example",
        "http://example..",
    ],
)
def test_set_url_base_refuses_a_url_without_a_host(url: str) -> None:
    assert refusal(umami.Client().set_url_base, url).startswith("The url must name a host")


URLS_OF_MORE = [
    ("https://umami.example/api", "https://umami.example"),
    ("https://umami.example/api/", "https://umami.example"),
    ("https://umami.example/api/send", "https://umami.example"),
    ("https://umami.example/api/batch", "https://umami.example"),
    ("https://umami.example/api/auth/login", "https://umami.example"),
    ("https://umami.example/base/script.js", "https://umami.example/base"),
    ("https://umami.example/login", "https://umami.example"),
    ("https://umami.example/websites/978435e2/settings", "https://umami.example"),
    ("https://umami.example/?utm_source=a", "https://umami.example"),
    ("https://umami.example/login?next=/", "https://umami.example"),
    ("https://umami.example/base#top", "https://umami.example/base"),
    ("https://me:pa55-of-a-proxy@umami.example/api", "https://umami.example"),
]


@with_each(("url", "right"), URLS_OF_MORE)
def test_a_url_of_more_than_the_base_is_refused_with_the_right_one(url: str, right: str) -> None:
    message = refusal(umami.Client().set_url_base, url)
    assert message.endswith(f"set it to {right}.")
    assert "pa55" not in message
    assert refusal(umami.Client().configure, url_base=url) == f"url_base: {message}"


@with_each(
    "url",
    ["https://a b.example", "https://a.example/x y", "https://a.example/\x1b[2J", "https://a.example\\b"],
)
def test_a_url_with_blanks_or_control_characters_in_it_is_refused(url: str) -> None:
    assert "must not have blanks" in refusal(umami.Client().set_url_base, url)


@with_each("character", "#/?[]")
def test_a_password_that_is_not_percent_encoded_is_refused_and_not_shown(character: str) -> None:
    message = refusal(umami.Client().set_url_base, f"https://me:s3cret-{character}-pa55@umami.example")
    assert "percent-encoded" in message
    assert "s3cret" not in message
    assert "pa55" not in message


@with_each("path", ["/api/umami", "/my-api", "/analytics/v2"])
def test_a_base_path_may_look_a_little_like_a_route(path: str) -> None:
    with umami.Client(url_base=f"http://localhost:1{path}", enabled=False) as client:
        assert repr(client) == f"<umami.Client to http://localhost:1{path}>"


@with_each("dressed", ["{}/", "{}///", "  {}  ", " {}/ ", "\t{}//\n"])
def test_set_url_base_drops_trailing_slashes_and_blanks(
    dressed: str, collector: Collector, bare: Callable[..., umami.Client]
) -> None:
    client = bare()
    client.set_url_base(dressed.format(collector.url))
    assert client.heartbeat()
    assert collector.requests[-1].path == "/api/heartbeat"


def test_a_url_base_may_have_a_path_of_its_own(
    collector: Collector, bare: Callable[..., umami.Client]
) -> None:
    client = bare(url_base=f"{collector.url}/analytics/")
    client.heartbeat()
    assert collector.requests[-1].path == "/analytics/api/heartbeat"


@with_each("key", ["", "   ", None, 5])
def test_set_cloud_api_key_refuses_a_blank(key: Any) -> None:
    assert refusal(umami.Client().set_cloud_api_key, key) == "API key must not be empty."


@with_each("key", ["schlüssel", "two\nlines", "nul\x00"])
def test_set_cloud_api_key_refuses_what_no_header_can_carry(key: str) -> None:
    assert refusal(umami.Client().set_cloud_api_key, key) == "API key must be of printable ASCII characters."


@with_each("region", ["mars", "", "US", 5, ["us"]])
def test_set_cloud_api_key_refuses_an_unknown_region(region: Any) -> None:
    client = umami.Client()
    assert refusal(client.set_cloud_api_key, "key", region) == "region must be 'us', 'eu', or None."
    assert not client.is_logged_in()


def test_none_unsets_the_website_and_the_hostname(make_client: Callable[..., umami.Client]) -> None:
    client = make_client()
    client.set_hostname(None)
    assert "set_hostname()" in refusal(client.new_event, "signup")
    client.set_hostname("example.com")
    client.set_website_id(None)
    assert "set_website_id()" in refusal(client.new_event, "signup")


@pytest.mark.usefixtures("no_websites")
def test_disable_and_enable_concern_sends_only(
    make_client: Callable[..., umami.Client], collector: Collector
) -> None:
    client = make_client()
    client.disable()
    assert (
        client.new_event("signup") == client.new_revenue_event(5) == client.new_page_view("Home", "/") == {}
    )
    assert client.identify("user-1", {"plan": "pro"}) == {}
    client.login("admin", PASSWORD)
    assert client.heartbeat()
    assert client.websites() == []
    client.enable()
    client.new_event("signup")
    assert client.flush(DEADLINE)
    assert client.queue_stats().submitted == 1


# Cloud, and the login's token.


def test_the_cloud_wins_while_a_key_is_set(make_client: Callable[..., umami.Client]) -> None:
    client = make_client()
    client.set_cloud_api_key("k3y-of-the-cloud", region="eu")
    assert client.is_logged_in()
    assert repr(client) == "<umami.Client to Umami Cloud>"
    with pytest.raises(OperationNotAllowedError, match="clear_cloud_api_key"):
        client.login("admin", PASSWORD)
    client.clear_cloud_api_key()
    assert not client.is_logged_in()
    assert client.login("admin", PASSWORD).user.username == "admin"


def test_a_login_outlasts_a_time_with_the_cloud(make_client: Callable[..., umami.Client]) -> None:
    client = make_client()
    client.login("admin", PASSWORD)
    client.set_cloud_api_key("k3y-of-the-cloud")
    client.clear_cloud_api_key()
    assert client.is_logged_in()
    assert client.verify_token()


def test_without_a_server_calls_say_what_to_set() -> None:
    client = umami.Client(website_id=SITE, hostname="example.com")
    for call, args in (
        (client.new_event, ("signup",)),
        (client.new_page_view, ("Home", "/")),
        (client.new_revenue_event, (5,)),
        (client.identify, ("user-1", {})),
        (client.login, ("admin", PASSWORD)),
        (client.logout, ()),
        (client.websites, ()),
        (client.active_users, ()),
    ):
        with pytest.raises(OperationNotAllowedError) as caught:
            call(*args)
        assert str(caught.value) == NO_SERVER


def test_without_a_login_queries_say_what_to_call(make_client: Callable[..., umami.Client]) -> None:
    client = make_client()
    for call in (client.websites, client.active_users, client.logout):
        with pytest.raises(OperationNotAllowedError) as caught:
            call()
        assert str(caught.value) == NO_LOGIN


def test_a_token_goes_to_no_server_but_the_one_that_gave_it(
    make_client: Callable[..., umami.Client], collector: Collector
) -> None:
    with Collector() as other:
        client = make_client()
        client.login("admin", PASSWORD)
        client.set_url_base(other.url)
        assert not client.is_logged_in()
        assert not client.verify_token(check_server=False)
        assert refusal(client.websites) == NO_LOGIN
        client.new_event("signup")
        assert client.flush(DEADLINE)
        assert [request.headers.get("authorization") for request in other.requests] == [None]
        client.set_url_base(collector.url)
        assert client.is_logged_in()
        assert client.verify_token()


def test_clients_share_nothing(collector: Collector, make_client: Callable[..., umami.Client]) -> None:
    one, other = make_client(), make_client(hostname="other.example")
    one.login("admin", PASSWORD)
    one.disable()
    assert not other.is_logged_in()
    assert other.new_event("signup") == {"queued": True}
    assert other.flush(DEADLINE)
    assert [event.hostname for event in collector.events] == ["other.example"]
    assert one.queue_stats().submitted == 0


@pytest.mark.slow
def test_the_modules_functions_are_one_clients(python: Callable[..., Any], collector: Collector) -> None:
    program = """
        import sys, umami
        umami.set_url_base(sys.argv[1])
        umami.configure(website_id=sys.argv[2])
        umami.set_hostname("module.example")
        umami.new_event("signup")
        assert umami.flush(60)
        assert umami.queue_stats().delivered == 1
    """
    result = python(program, collector.url, SITE)
    assert (result.returncode, result.stderr) == (0, "")
    assert [event.hostname for event in collector.events] == ["module.example"]


# An API key of a self-hosted server.

OWN_KEY = "umami_0123456789abcdef"


@pytest.mark.parametrize("key_first", [True, False], ids=["key first", "url first"])
def test_a_self_hosted_api_key_goes_to_the_url_base_as_a_token(
    key_first: bool, collector: Collector, bare: Callable[..., umami.Client]
) -> None:
    client = bare(website_id=SITE, hostname="example.com")
    steps = [lambda: client.configure(api_key=OWN_KEY), lambda: client.set_url_base(collector.url)]
    for step in steps if key_first else reversed(steps):
        step()
    assert repr(client) == f"<umami.Client to {collector.url}>"
    assert client.is_logged_in()
    with pytest.raises(httpx.HTTPStatusError, match="401"):  # the collector does not know it
        client.websites()
    assert collector.requests[-1].headers["authorization"] == f"Bearer {OWN_KEY}"
    client.new_event("signup")
    assert client.flush(DEADLINE)
    assert "authorization" not in collector.requests[-1].headers
    assert [event.name for event in collector.events] == ["signup"]


def test_a_self_hosted_api_key_never_goes_to_the_cloud(bare: Callable[..., umami.Client]) -> None:
    client = bare(website_id=SITE, hostname="example.com")
    client.set_cloud_api_key(OWN_KEY, "eu")
    for call in (client.websites, lambda: client.new_event("signup"), lambda: client.login("a", "b")):
        message = refusal(call)
        assert "never sent to Umami Cloud" in message
        assert "set_url_base()" in message
        assert OWN_KEY not in message
    assert not client.heartbeat()
    assert not client.verify_token()
    assert repr(client) == "<umami.Client to no server>"


def test_login_says_that_an_api_key_is_the_credential(
    collector: Collector, bare: Callable[..., umami.Client]
) -> None:
    client = bare(url_base=collector.url, api_key=OWN_KEY)
    assert "is not used with an API key" in refusal(client.login, "admin", PASSWORD)
    client.logout()
    assert collector.requests == ()


# A change that is refused.


def test_a_spool_that_cannot_be_opened_changes_nothing(
    make_client: Callable[..., umami.Client], collector: Collector, tmp_path: Path
) -> None:
    client = make_client()
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert refusal(client.configure, spool=str(blocked), queue_size=5).startswith("spool must be a folder")
    assert client.configure(timeout=3) is None
    assert client.new_event("signup") == {"queued": True}
    assert client.flush(DEADLINE)
    assert [event.name for event in collector.events] == ["signup"]


@pytest.mark.slow
def test_a_password_that_is_set_after_the_spool_opens_what_waits_for_it(
    collector: Collector, tmp_path: Path, python: Callable[..., Any]
) -> None:
    folder = tmp_path / "spool"
    url = collector.url.replace("//", f"//me:{PASSWORD}@")
    program = f"""
        import os, umami
        umami.configure(url_base={url!r}, website_id={SITE!r}, hostname="example.com", spool={str(folder)!r},
                        flush_interval=600)
        umami.new_event("kept")
        os._exit(0)
    """
    assert python(program).returncode == 0
    with umami.Client(spool=folder) as client:
        assert client.flush(DEADLINE)
        assert not collector.events
        client.configure(url_base=url, website_id=SITE, hostname="example.com")
        assert client.flush(DEADLINE)
    assert [event.name for event in collector.events] == ["kept"]
