"""`umami doctor` against each generation of Umami, and against what stands in front of one."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from conftest import SITE
from test_access import over_tls, server_context
from test_connections import Wire

from umami.cli import main
from umami.collector import Collector

Doctor = Callable[..., tuple[int, dict[str, tuple[str, str]]]]


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> Doctor:
    """Runs the command; returns its exit code, and for each check its result and text."""
    for name in [each for each in os.environ if each.startswith("UMAMI_") and "TEST" not in each]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UMAMI_WEBSITE_ID", SITE)
    monkeypatch.setenv("UMAMI_HOSTNAME", "example.com")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def run(url: str, *options: str) -> tuple[int, dict[str, tuple[str, str]]]:
        code = main(["doctor", "--server", url, "--json", *options])
        lines = json.loads(capsys.readouterr().out)
        return code, {line["check"]: (line["result"], line["text"]) for line in lines}

    return run


@pytest.mark.parametrize(
    ("version", "node", "said", "batches"),
    [
        ("2.0", 22, ("note", "Umami before 2.16: it dates events"), ("ok", "Umami before 2.17 has none")),
        ("2.15", 22, ("note", "Umami before 2.16: it dates events"), ("ok", "Umami before 2.17 has none")),
        ("2.16", 22, ("note", "Umami 2.16: it dates events"), ("ok", "Umami before 2.17 has none")),
        ("2.17", 22, ("ok", "Umami 2.17 to 3.0.1: "), ("ok", "supported")),
        ("2.19", 24, ("ok", "Umami 2.17 to 3.0.1: "), ("note", "they do not work")),
        ("3.0.1", 22, ("ok", "Umami 2.17 to 3.0.1: "), ("ok", "supported")),
        ("3.1", 22, ("ok", "Umami 3.0.2 or later"), ("ok", "supported")),
        ("3.4", 22, ("ok", "Umami 3.0.2 or later"), ("ok", "supported")),
    ],
)
def test_each_generation_is_known_and_takes_an_event(version, node, said, batches, doctor):
    with Collector(umami=version, node=node) as server:
        server.add_website("example.com", "example.com", SITE)
        code, found = doctor(server.url)
        assert code == 0, found
        for check, (result, text) in (("version", said), ("batches", batches)):
            assert found[check][0] == result, found[check]
            assert found[check][1].startswith(text), found[check]
        assert found["send"][0] == "ok"
        assert found["bots"] == ("ok", found["bots"][1])
        (event,) = server.events
        assert (event.name, event.data) == ("umami doctor", {"test": "yes"})


def test_nothing_is_sent_unless_it_may_be(doctor, collector):
    code, found = doctor(collector.url, "--no-send")
    assert (code, found["send"]) == (0, ("-", "not tried: --no-send"))
    assert collector.events == ()


@pytest.mark.parametrize(
    ("fault", "path", "said"),
    [
        ({"status": 404}, "", "answered 404 Not Found: there is no Umami at this URL."),
        ({"status": 403, "body": "<title>Blocked</title>"}, "", "Blocked: a proxy or a firewall in front"),
        ({"status": 200, "body": "<html>Log in"}, "", "with an HTML page, not with Umami's heartbeat"),
        ({"status": 407, "body": ""}, "", "the proxy wants a user and a password"),
        ({"status": 502, "body": ""}, "", "Umami is down, or is starting."),
        ({"status": 429, "body": ""}, "", "limits the rate of requests"),
        (None, "/nothing", "Check UMAMI_URL: it has the path that Umami is served under"),
    ],
)
def test_what_stands_in_front_of_umami_is_told(fault, path, said, doctor, collector):
    if fault is not None:
        collector.fail(times=None, path="*", **fault)
    code, found = doctor(collector.url + path)
    result, text = found["server"]
    assert (code, result, list(found)[-1]) == (1, "FAIL", "server")
    assert said in text, text


def test_a_proxy_that_blocks_batches_alone(doctor, collector):
    collector.fail(404, times=None, path="/api/batch", body="<title>nginx</title>")
    code, found = doctor(collector.url)
    assert code == 0
    assert found["batches"] == (
        "note",
        "/api/batch answered 404, so events are sent one by one: let the proxy pass it",
    )


def test_a_name_that_does_not_exist(doctor):
    code, found = doctor("http://nothing.invalid")
    assert (code, found["DNS"][0], list(found)[-1]) == (1, "FAIL", "DNS")
    assert found["DNS"][1].startswith("nothing.invalid: ")


def test_a_server_that_is_down(doctor):
    code, found = doctor("http://127.0.0.1:9")
    assert (code, found["server"][0]) == (1, "FAIL")
    assert "refused: is the server running, and are host and port" in found["server"][1]


def test_an_authority_that_is_not_known(doctor, monkeypatch, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    with Wire(over_tls(server_context(authority))) as wire:
        url = f"https://localhost:{wire.port}"
        code, found = doctor(url, "--no-send")
        assert (code, found["TLS"][0], list(found)[-1]) == (1, "FAIL", "TLS")
        assert "set UMAMI_VERIFY to the file of your certificate authority" in found["TLS"][1]
        monkeypatch.setenv("UMAMI_VERIFY", str(tmp_path / "authority.pem"))
        assert doctor(url, "--no-send")[1]["TLS"] == ("ok", "the certificate is valid")


def test_https_at_a_port_without_it(doctor, collector):
    code, found = doctor(collector.url.replace("http:", "https:"))
    assert (code, found["TLS"][0]) == (1, "FAIL")
    assert "should UMAMI_URL begin with http://?" in found["TLS"][1]


@pytest.mark.parametrize(
    ("name", "value", "check", "said"),
    [
        ("UMAMI_WEBSITE_ID", None, "website", "none is set: set UMAMI_WEBSITE_ID"),
        ("UMAMI_WEBSITE_ID", "shop", "website", "shop is no UUID"),
        ("UMAMI_API_KEY", "umami_wrong", "API key", "the server does not accept it: check UMAMI_API_KEY"),
    ],
)
def test_a_setting_that_is_missing_or_wrong(name, value, check, said, doctor, collector, monkeypatch):
    monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    code, found = doctor(collector.url)
    assert (code, found[check][0]) == (1, "FAIL")
    assert found[check][1].startswith(said)


def test_a_website_that_is_unknown(doctor):
    with Collector(auto_register=False) as server:
        code, found = doctor(server.url)
        assert (code, found["send"]) == (1, ("FAIL", "400 Website not found."))


def test_a_login_is_used_to_look_the_website_up(doctor, monkeypatch, capsys):
    monkeypatch.setenv("UMAMI_PASSWORD", "umami")
    with Collector() as server:
        main(["login", "--server", server.url, "--username", "admin"])
        capsys.readouterr()
        code, found = doctor(server.url)
        assert (code, found["login"], found["website"][0]) == (1, ("ok", "accepted"), "FAIL")
        server.add_website("Shop", "shop.example", SITE)
        code, found = doctor(server.url)
        assert (code, found["website"]) == (0, ("ok", f"{SITE} is Shop"))
        server.revoke_tokens()
        code, found = doctor(server.url)
        assert (code, found["login"][1]) == (1, "the server does not accept it: run `umami login`")


def test_a_clock_that_is_wrong(doctor, collector):
    collector.fail(None, times=None, path="/api/heartbeat", headers={"Date": "Tue, 06 Jan 2026 08:00:00 GMT"})
    code, found = doctor(collector.url, "--no-send")
    assert (code, found["clock"][0]) == (1, "FAIL")
    assert " s ahead of the server" in found["clock"][1]


def test_a_proxy_of_the_environment_is_named_without_its_password(doctor, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    code, found = doctor("http://umami.example.com")
    assert (code, found["proxy"]) == (1, ("ok", "through http://127.0.0.1:9"))
    assert found["server"][1].endswith(": check UMAMI_PROXY, HTTP_PROXY and HTTPS_PROXY")
    assert "secret" not in str(found)


def test_the_lines_as_a_person_sees_them(doctor, collector, capsys):
    assert main(["doctor", "--server", collector.url, "--no-send"]) == 0
    shown = capsys.readouterr().out
    assert f"ok    URL         {collector.url}\n" in shown
    assert "\x1b" not in shown


def test_a_switch_that_is_off_is_noted(doctor, monkeypatch):
    monkeypatch.setenv("UMAMI_DISABLED", "1")
    with Collector() as server:
        code, lines = doctor(server.url)
    assert code == 0
    assert lines["disabled"] == ("note", "UMAMI_DISABLED is set: only this command sends events")
