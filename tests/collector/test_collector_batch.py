"""The collector's ``/api/batch``: events succeed or fail one by one; a malformed batch fails as a whole."""

import itertools
import json
import threading

import httpx
import pytest
from collector_helpers import ABSENT, SITE, item
from conftest import CHROME, with_each
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from umami.collector import Collector


def batch(http: httpx.Client, *items: object) -> dict:
    response = http.post("/api/batch", json=list(items))
    assert response.status_code == 200
    return response.json()


def test_items_are_stored_in_order(collector, http):
    reply = batch(http, *(item(name=f"e{i}") for i in range(250)))
    assert len(reply.pop("cache")) == 307
    assert reply == {"size": 250, "processed": 250, "errors": 0, "details": []}
    assert [event.name for event in collector.events] == [f"e{i}" for i in range(250)]


def test_an_empty_batch(http):
    assert batch(http) == {"size": 0, "processed": 0, "errors": 0, "details": [], "cache": None}


def test_each_failed_item_is_given_with_its_answer(collector, http):
    reply = batch(http, item(name="a"), item(name="x" * 51), item(hostname="a b"), item(name="b"))
    assert (reply["size"], reply["processed"], reply["errors"]) == (4, 2, 2)
    invalid, failed = reply["details"]
    assert (invalid["index"], failed["index"]) == (1, 2)
    assert invalid["response"] == http.post("/api/send", json=item(name="x" * 51)).json()
    assert failed["response"]["error"]["errorObject"]["code"] == "ERR_INVALID_URL"
    assert [event.name for event in collector.events] == ["a", "b"]


@with_each("body", ["{}", "null", '"x"', "1", ""])
def test_what_is_no_array_is_refused(http, body):
    response = http.post("/api/batch", content=body)
    assert response.status_code == 400
    [message] = response.json()["error"]["errors"]
    assert message.startswith("Invalid input: expected array, received ")


@with_each("alien", [None, 1, "x", True, [], [item()]])
def test_an_element_that_is_no_object_refuses_the_whole_batch(collector, http, alien):
    response = http.post("/api/batch", json=[item(), alien, item()])
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["errors"], error["items"][0]) == ([], None)
    assert error["items"][1]["errors"][0].startswith("Invalid input: expected record, received ")
    assert collector.events == ()


def test_an_event_of_an_unknown_website_fails_alone(browse):
    with Collector(auto_register=False) as collector:
        collector.add_website("Shop", "example.com", SITE)
        reply = batch(browse(collector), item(website=SITE[::-1][:8] + SITE[8:]), item())
        assert reply["details"][0]["response"]["error"]["message"] == "Website not found."
        assert len(collector.events) == 1


def test_a_body_over_ten_mebibytes_looks_like_no_json(collector, http):
    response = http.post("/api/batch", content=json.dumps([item(title="x" * 10 * 1024 * 1024)]))
    assert response.status_code == 400
    assert response.json()["error"]["errors"] == ["Invalid input: expected array, received undefined"]
    assert collector.events == ()


GOOD, BOT, BAD = item(), item(userAgent="curl/8.5.0"), item(name=None)


@with_each("items", list(itertools.product([GOOD, BOT, BAD], repeat=2)))
def test_the_cache_tells_bots_from_failures(http, items):
    reply = batch(http, *items)
    if GOOD in items:
        assert len(reply["cache"]) == 307
    elif BOT in items:
        assert "cache" not in reply
    else:
        assert reply["cache"] is None


def test_a_bot_counts_as_processed_and_leaves_no_trace(collector, http):
    reply = batch(http, BOT, GOOD)
    assert (reply["processed"], reply["details"]) == (2, [])
    assert len(collector.events) == 1


def test_headers_are_for_every_item_and_the_payload_overrides_them(collector, http):
    headers = {"User-Agent": "python-httpx/0.28", "X-Forwarded-For": "198.51.100.7"}
    items = [item(), item(userAgent=CHROME), item(userAgent=CHROME, ip="203.0.113.9")]
    http.post("/api/batch", json=items, headers=headers)
    assert [event.ip for event in collector.events] == ["198.51.100.7", "203.0.113.9"]


def test_the_same_batch_twice_is_stored_twice(collector, http):
    batch(http, item(name="once"))
    batch(http, item(name="once"))
    assert [event.name for event in collector.events] == ["once", "once"]


def test_a_client_that_goes_away_does_not_stop_the_batch(browse):
    with Collector(item_delay=0.005) as collector:
        with pytest.raises(httpx.ReadTimeout):
            browse(collector, timeout=0.05).post("/api/batch", json=[item()] * 40)
        collector.wait_for(events=40)
        assert len(collector.events) == 40


def test_items_take_their_time_one_after_another(browse):
    with Collector(item_delay=0.01) as collector:
        elapsed = browse(collector).post("/api/batch", json=[item()] * 10).elapsed.total_seconds()
        assert elapsed >= 0.1


def test_a_server_that_is_stopped_has_stored_the_items_before(browse):
    with Collector(item_delay=0.01) as collector:
        http = browse(collector)
        errors: list[Exception] = []

        def post() -> None:
            try:
                http.post("/api/batch", json=[item(name=f"e{i}") for i in range(500)])
            except httpx.RemoteProtocolError as error:
                errors.append(error)

        thread = threading.Thread(target=post)
        thread.start()
        collector.wait_for(events=5)
        collector.stop()
        thread.join()
        names = [event.name for event in collector.events]
        assert 5 <= len(names) < 500
        assert names == [f"e{i}" for i in range(len(names))]
        assert len(errors) == 1


KINDS = {
    "good": item(id="u"),
    "bot": BOT,
    "invalid": BAD,
    "failed": item(id="i" * 51),
    "stored and failed": item(name="x", data={"a": 1e15}),
    "no website": item(website=ABSENT),
}


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(kinds=st.lists(st.sampled_from(sorted(KINDS)), max_size=30))
def test_every_item_is_processed_or_an_error(
    collector: Collector, http: httpx.Client, kinds: list[str]
) -> None:
    stored = collector.event_count
    reply = batch(http, *(KINDS[kind] for kind in kinds))
    assert reply["size"] == len(kinds) == reply["processed"] + reply["errors"]
    failing = [index for index, kind in enumerate(kinds) if kind not in ("good", "bot")]
    assert [detail["index"] for detail in reply["details"]] == failing
    rows = sum(kind in ("good", "stored and failed") for kind in kinds)
    assert collector.event_count == stored + rows == len(collector.events)
