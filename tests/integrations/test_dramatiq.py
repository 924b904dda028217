"""Dramatiq: the visitor travels to the actor, outcomes are events, and worker processes lose none."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import DEADLINE
from process_helpers import finished, running
from process_helpers import settings as environment

import umami
import umami.testing
from umami.collector import Collector
from umami.errors import ValidationError

dramatiq = pytest.importorskip("dramatiq")

from dramatiq.brokers.stub import StubBroker  # noqa: E402
from dramatiq.middleware import Retries, SkipMessage  # noqa: E402

from umami.integrations.dramatiq import install  # noqa: E402

pytestmark = pytest.mark.slow  # the quick tests leave out task queues

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
EVENTS = ["success", "failure", "retry"]
Outbox = umami.testing.Outbox


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    with umami.testing.capture() as outbox:
        yield outbox


@contextmanager
def working(broker: Any) -> Iterator[None]:
    """Have a worker process all messages of the block."""
    worker = dramatiq.Worker(broker, worker_timeout=10, worker_threads=2)
    worker.start()
    try:
        yield
        for queue in broker.get_declared_queues():
            broker.join(queue, timeout=int(DEADLINE * 1000), fail_fast=False)
        worker.join()
    finally:
        worker.stop()


def seen(outbox: Outbox) -> list[tuple[str, str, str]]:
    """Return the events by name, with their page, and the actor of an outcome."""
    return sorted((sent.name, sent.url, sent.data.get("task", "")) for sent in outbox.all)


def test_the_visitor_travels_to_the_actor_and_on(outbox: Outbox) -> None:
    broker = StubBroker()
    install(broker, events=EVENTS)

    @dramatiq.actor(broker=broker)
    def parent(text: str) -> str:
        umami.new_event("parent")
        child.send()
        return text

    @dramatiq.actor(broker=broker)
    def child() -> None:
        umami.new_event("child")

    @dramatiq.actor(broker=broker)
    def piped(text: str) -> None:
        umami.new_event(text)

    with working(broker):
        with umami.visitor(url="/checkout"):
            dramatiq.pipeline([parent.message("piped"), piped.message()], broker=broker).run()
        child.send()
    assert seen(outbox) == [
        ("child", "/", ""),
        ("child", "/checkout", ""),
        ("parent", "/checkout", ""),
        ("piped", "/checkout", ""),
        ("task success", "/", "child"),
        ("task success", "/checkout", "child"),
        ("task success", "/checkout", "parent"),
        ("task success", "/checkout", "piped"),
    ]


def test_an_async_actor_knows_the_visitor(outbox: Outbox) -> None:
    asyncio_middleware = pytest.importorskip("dramatiq.middleware.asyncio")
    broker = StubBroker()
    broker.add_middleware(asyncio_middleware.AsyncIO())
    install(broker)

    @dramatiq.actor(broker=broker)
    async def actor() -> None:
        await umami.new_event_async("seen")

    with working(broker), umami.visitor(url="/checkout"):
        actor.send()
    assert seen(outbox) == [("seen", "/checkout", "")]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("retries", "outcomes"),
    [(Retries(max_retries=1, min_backoff=1), ["failure", "retry"]), (None, ["failure"])],
    ids=["retried", "not retried"],
)
def test_a_retry_keeps_the_visitor(outbox: Outbox, retries: Any, outcomes: list[str]) -> None:
    broker = StubBroker(middleware=[retries] if retries else [])
    install(broker, events=EVENTS)

    @dramatiq.actor(broker=broker)
    def fails() -> None:
        umami.new_event("tried")
        raise ZeroDivisionError

    with working(broker), umami.visitor(url="/checkout"):
        fails.send()
    expected = [(f"task {outcome}", "/checkout", "fails") for outcome in outcomes]
    assert seen(outbox) == expected + [("tried", "/checkout", "")] * len(outcomes)
    assert outbox.one("task failure").data["error"] == "ZeroDivisionError"


def test_a_skipped_message_leaves_no_visitor_behind(outbox: Outbox) -> None:
    class Skips(dramatiq.Middleware):  # type: ignore[misc, name-defined]
        def before_process_message(self, broker: Any, message: Any) -> None:
            if message.args == (True,):
                raise SkipMessage

    broker = StubBroker(middleware=[Skips()])
    install(broker, events=EVENTS)

    @dramatiq.actor(broker=broker)
    def actor(_: bool) -> None:
        umami.new_event("seen")

    with working(broker):
        with umami.visitor(url="/checkout"):
            for _ in range(4):
                actor.send(True)
        for _ in range(4):
            actor.send(False)
    assert [sent.url for sent in outbox.all] == ["/"] * 8


def test_an_option_that_is_not_ours_fails_no_actor(outbox: Outbox, heard: Any) -> None:
    broker = StubBroker()
    install(broker)

    @dramatiq.actor(broker=broker)
    def actor() -> None:
        umami.new_event("seen")

    with working(broker):
        for option in ({"shoe_size": 43}, {"url": 3}, "text"):
            actor.send_with_options(umami=option)
    assert len(outbox.all) == 3
    assert heard.matching("A task was not tracked")


@pytest.mark.parametrize("events", ["success", ["started"]])
def test_an_unknown_outcome_is_refused(events: Any) -> None:
    with pytest.raises(ValidationError, match="events must be a list of success, failure, retry, got"):
        install(StubBroker(), events=events)


def test_the_example_in_a_worker_process(collector: Collector, redis_url: str) -> None:
    pytest.importorskip("redis")
    variables = {**environment(collector, flush_interval=600), "REDIS_URL": redis_url}
    worker = ["dramatiq", "examples.dramatiq_tasks", "--processes=1", "--threads=1", "--verbose"]
    with running("-m", *worker, errors=subprocess.STDOUT, **variables) as child:
        queued = finished("-m", "examples.dramatiq_tasks", **variables)
        assert queued.returncode == 0, queued.stderr
        child.says("Completed after|Acknowledging message")
        child.process.send_signal(signal.SIGTERM)
        assert child.end() == 0

    assert sorted((event.name, event.url_path, event.ip) for event in collector.events) == [
        ("bought", "/checkout", "203.0.113.7"),
        ("shipped", "/checkout", "203.0.113.7"),
        ("task success", "/checkout", "203.0.113.7"),
    ]
