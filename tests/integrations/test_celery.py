"""Celery's workers of every kind: the visitor travels to the tasks, and outcomes are events."""

import os
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE, ROOT
from process_helpers import finished, running
from process_helpers import settings as environment
from queue_helpers import stored, until

import umami
import umami.testing
from umami.collector import Collector
from umami.errors import ValidationError

celery = pytest.importorskip("celery")

from celery import signals  # noqa: E402

from umami.integrations.celery import install  # noqa: E402

pytestmark = pytest.mark.slow  # importing Celery takes longer than the quick tests

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PROGRAM = """
import os, umami
from celery import Celery
from umami.integrations.celery import install

app = Celery("tasks", broker=os.environ["BROKER"])
install(app, events=["success", "failure", "retry"])
umami.new_event("imported")

@app.task
def parent():
    umami.new_event("parent")
    child.delay()

@app.task
def child():
    umami.new_event("child")

@app.task(bind=True, default_retry_delay=0)
def again(self):
    umami.new_event("again")
    if not self.request.retries:
        self.retry()
    raise ZeroDivisionError

@app.task
def nobody():
    umami.new_event("nobody")
"""
OF_TASKS = Counter(
    ["parent", "child", "nobody", *["again"] * 2, *["task success"] * 3, "task retry", "task failure"]
)
POOLS = {
    "prefork": ["--pool=prefork", "--concurrency=2"],
    "recycled": ["--pool=prefork", "--concurrency=1", "--max-tasks-per-child=1"],
    "threads": ["--pool=threads", "--concurrency=2"],
    "solo": ["--pool=solo"],
    "gevent": ["--pool=gevent", "--concurrency=2"],
}


@pytest.mark.parametrize("options", POOLS.values(), ids=POOLS)
def test_the_visitor_travels_to_the_task(
    collector: Collector, redis_url: str, tmp_path: Path, options: list[str]
) -> None:
    if "gevent" in options[0]:
        pytest.importorskip("gevent")
    (tmp_path / "tasks.py").write_text(PROGRAM)
    broker = redis_url.replace("unix:", "redis+socket:")
    variables = {
        **environment(collector, flush_interval=600),
        "BROKER": broker,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
        "PYTHONWARNINGS": "ignore:This process:DeprecationWarning",
    }
    quick = ["--without-mingle", "--without-gossip", "--without-heartbeat"]
    worker = ["celery", "-A", "tasks", "worker", "-l", "INFO", *quick, *options]
    with running("-m", *worker, errors=subprocess.STDOUT, **variables) as child:
        child.says("ready.")
        with celery.Celery("site", broker=broker, set_as_current=False) as site:
            install(site)
            with umami.visitor(ip_address="203.0.113.7", ua=BROWSER, distinct_id=lambda: "user-17"):
                site.send_task("tasks.parent")
                site.send_task("tasks.again")
            site.send_task("tasks.nobody")
        child.says(r"succeeded in|raised unexpected", times=4)
        if "--max-tasks-per-child=1" in options:
            # billiard lets a child that has done its tasks wait up to 30 s before it ends.
            collector.wait_for(events=10, timeout=2 * DEADLINE)
            until(lambda: not OF_TASKS - stored(collector))
        child.process.send_signal(signal.SIGTERM)
        assert child.end() == 0

    assert stored(collector) == OF_TASKS + Counter(["imported"])
    for event in collector.events:
        assert (event.distinct_id == "user-17") == (event.ip == "203.0.113.7")
    assert stored(collector) - Counter(
        event.name for event in collector.events if event.distinct_id == "user-17"
    ) == Counter(["imported", "nobody", "task success"])
    (failed,) = (event for event in collector.events if event.name == "task failure")
    assert failed.data == {"task": "tasks.again", "error": "ZeroDivisionError"}


def test_the_example(collector: Collector, tmp_path: Path) -> None:
    variables = {**environment(collector, flush_interval=600), "BROKER_FOLDER": str(tmp_path)}
    worker = ["celery", "-A", "examples.celery_tasks", "worker", "--concurrency=1", "-l", "INFO"]
    with running("-m", *worker, errors=subprocess.STDOUT, **variables) as child:
        child.says("ready.")
        queued = finished("-m", "examples.celery_tasks", **variables)
        assert queued.returncode == 0, queued.stderr
        child.says("succeeded in")
        child.process.send_signal(signal.SIGTERM)
        assert child.end() == 0

    assert sorted((event.name, event.url_path, event.ip) for event in collector.events) == [
        ("bought", "/checkout", "203.0.113.7"),
        ("shipped", "/checkout", "203.0.113.7"),
        ("task success", "/checkout", "203.0.113.7"),
    ]


def test_a_task_that_runs_at_once_has_the_visitor_of_its_caller() -> None:
    app = celery.Celery("eager", broker="memory://")
    app.conf.task_always_eager = True
    install(app, events=["success"])

    @app.task
    def task() -> None:
        umami.new_event("seen")

    with umami.testing.capture() as outbox, umami.visitor(url="/checkout"):
        task.delay()
    assert [sent.name for sent in outbox.all] == ["seen", "task success"]
    assert [sent.url for sent in outbox.all] == ["/checkout", "/checkout"]


def test_a_header_that_is_not_ours_fails_no_task(heard: Any) -> None:
    app = celery.Celery("foreign", broker="memory://")
    install(app)

    @app.task
    def task() -> None:
        umami.new_event("seen")

    with umami.testing.capture() as outbox:
        for header in ({"shoe_size": 43}, {"url": 3}, "text", {"url": "/checkout"}):
            # As a worker does: one in this process would take four seconds.
            task.push_request(umami=header)
            signals.task_prerun.send(task, task_id="id", task=task)
            task.run()
            signals.task_postrun.send(task, task_id="id", task=task)
            task.pop_request()
    assert [sent.url for sent in outbox.all] == ["/", "/", "/", "/checkout"]
    assert heard.matching("A task was not tracked: TypeError")


@pytest.mark.parametrize("events", ["success", ["started"]])
def test_an_unknown_outcome_is_refused(events: Any) -> None:
    with pytest.raises(ValidationError, match="events must be a list of success, failure, retry, got"):
        install(celery.Celery("wrong"), events=events)
