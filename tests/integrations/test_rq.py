"""RQ: the visitor travels to the job, outcomes are events, and the process of a job loses none."""

import os
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from process_helpers import finished
from process_helpers import settings as environment

import umami
import umami.testing
from umami.collector import Collector
from umami.errors import ValidationError

rq = pytest.importorskip("rq")

import redis  # noqa: E402

from umami.integrations.rq import Job  # noqa: E402

pytestmark = pytest.mark.slow  # importing RQ takes longer than the quick tests

PROGRAM = """
import rq, umami
from umami.integrations.rq import FlushMixin, Job, Worker

class Outcomes(Job):
    umami_events = ["success", "failure", "retry"]

class OwnWorker(FlushMixin, getattr(rq, "SpawnWorker", rq.Worker)):
    pass

def parent():
    umami.new_event("parent")
    rq.Queue(connection=rq.get_current_job().connection, job_class=Outcomes).enqueue("jobs.child")

def child():
    umami.new_event("child")

def again():
    umami.new_event("again")
    raise ZeroDivisionError

def nobody():
    umami.new_event("nobody")

own = umami.Client(hostname="example.com")

def by_own_client():
    own.new_event("by a client")

def called(job, connection, *result):
    umami.new_event("called back")
"""


def work(redis_url: str, worker_class: str, job_class: str, **variables: str) -> None:
    """Have a worker do all jobs."""
    worker = ["worker", "--burst", "--url", redis_url, "-w", worker_class, "-j", job_class]
    worked = finished("-m", "rq.cli", *worker, **variables)
    assert worked.returncode == 0, worked.stderr


@pytest.fixture
def variables(collector: Collector, redis_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of the tests' processes, which can import the program as `jobs`."""
    (tmp_path / "jobs.py").write_text(PROGRAM)
    return {
        **environment(collector, flush_interval=600),
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
        "REDIS_URL": redis_url,
    }


def test_the_visitor_travels_to_the_job_and_no_event_is_lost(
    collector: Collector, redis_url: str, variables: dict[str, str]
) -> None:
    jobs = rq.Queue(connection=redis.Redis.from_url(redis_url), job_class=Job)
    with umami.visitor(ip_address="203.0.113.7", distinct_id=lambda: "user-17"):
        jobs.enqueue("jobs.parent", on_success=rq.Callback("jobs.called"))
        jobs.enqueue("jobs.again", retry=rq.Retry(1))
        jobs.enqueue("jobs.by_own_client")
    jobs.enqueue("jobs.nobody", meta={"shoe_size": 43})
    work(redis_url, "umami.integrations.rq.Worker", "jobs.Outcomes", **variables)
    by_visitor: dict[bool, list[str]] = {True: [], False: []}
    for event in collector.events:
        assert (event.distinct_id == "user-17") == (event.ip == "203.0.113.7")
        by_visitor[event.distinct_id == "user-17"].append(event.name)
    assert sorted(by_visitor[False]) == ["called back", "nobody", "task success"]
    assert sorted(by_visitor[True]) == [
        "again",
        "again",
        "by a client",
        "child",
        "parent",
        "task failure",
        "task retry",
        "task success",
        "task success",
        "task success",
    ]
    (failed,) = (event for event in collector.events if event.name == "task failure")
    assert failed.data == {"task": "jobs.again", "error": "ZeroDivisionError"}


def test_the_example(collector: Collector, redis_url: str, variables: dict[str, str]) -> None:
    queued = finished("-m", "examples.rq_tasks", **variables)
    assert queued.returncode == 0, queued.stderr
    work(redis_url, "jobs.OwnWorker", "examples.rq_tasks.ShopJob", **variables)
    assert sorted((event.name, event.url_path, event.ip) for event in collector.events) == [
        ("bought", "/checkout", "203.0.113.7"),
        ("shipped", "/checkout", "203.0.113.7"),
        ("task success", "/checkout", "203.0.113.7"),
    ]


def test_a_header_that_is_not_ours_fails_no_job(redis_url: str, heard: Any) -> None:
    queue = rq.Queue(connection=redis.Redis.from_url(redis_url), is_async=False, job_class=Job)
    with umami.testing.capture() as outbox:
        for meta in ({"shoe_size": 43}, {"url": 3}, "text"):
            queue.enqueue(umami.new_event, "seen", meta={"umami": meta})
    assert [sent.name for sent in outbox.all] == ["seen"] * 3
    assert heard.matching("A task was not tracked: TypeError")


def test_an_unknown_outcome_is_refused() -> None:
    with pytest.raises(ValidationError, match="events must be a list of success, failure, retry, got"):

        class Wrong(Job):
            umami_events = ("started",)
