"""Handlers that flush: events arrive before a call returns, and a process may be frozen between calls."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE, ROOT
from process_helpers import settings
from queue_helpers import stored

import umami
from umami._user_agents import BROWSER_USER_AGENT
from umami.collector import Collector
from umami.errors import ValidationError
from umami.integrations.serverless import flush_after

NEVER = 600.0


def called(handler: Callable[..., Any], *args: Any) -> Any:
    result = handler(*args)
    return asyncio.run(result) if asyncio.iscoroutine(result) else result


def handlers(client: umami.Client, **options: Any) -> list[Callable[..., Any]]:
    """Return a sync and an async handler, which send an event of the given name and divide by a number."""

    @flush_after(client=client, **options)
    def handler(name: str, number: int = 1) -> float:
        client.new_event(name)
        return 1 / number

    @flush_after(client=client, **options)
    async def handler_async(name: str, number: int = 1) -> float:
        client.new_event(name)
        return 1 / number

    return [handler, handler_async]


def test_events_arrive_before_the_call_returns(
    collector: Collector, make_client: Callable[..., umami.Client]
) -> None:
    for number, handler in enumerate(handlers(make_client(flush_interval=NEVER), timeout=DEADLINE)):
        assert called(handler, f"event {number}") == 1
        assert f"event {number}" in stored(collector)
        with pytest.raises(ZeroDivisionError):
            called(handler, f"error {number}", 0)
        assert f"error {number}" in stored(collector)


def test_a_server_that_is_away_costs_a_call_no_more_than_the_timeout(
    make_client: Callable[..., umami.Client], heard: Any
) -> None:
    client = make_client(url_base="http://127.0.0.1:9", flush_interval=NEVER, shutdown_timeout=0)
    for number, handler in enumerate(handlers(client, timeout=0.2), 1):
        assert called(handler, f"late {number}") == 1
        warnings = heard.matching("events are not delivered. They are sent during the next call.")
        assert [record.levelname for record in warnings] == ["WARNING"] * number
        assert client.queue_stats().pending == number


@pytest.mark.parametrize("timeout", [print, 0, -1, True, "2"])
def test_a_wrong_timeout_is_refused(timeout: Any) -> None:
    with pytest.raises(
        ValidationError, match=r"^timeout must be a number of seconds, got .*@flush_after\(\)"
    ):
        flush_after(timeout)


FROZEN = """
    import json, pathlib, sys

    def made(seconds):
        names = {}
        exec(pathlib.Path("EXAMPLE").read_text().replace("timeout=2", f"timeout={seconds}"), names)
        return names["handler"]

    # A busy machine may take more than the example's two seconds to import httpx.
    patient, impatient = made(60), made(2)
    for line in sys.stdin:
        http = {"sourceIp": "203.0.113.7", "userAgent": "BROWSER"}
        handler = impatient if line.strip() == "/3" else patient
        answer = handler({"rawPath": line.strip(), "requestContext": {"http": http}}, None)
        print(json.dumps(answer), flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP")
def test_the_example_in_a_process_that_is_frozen_between_calls(collector: Collector) -> None:
    environment = {
        **os.environ,
        **settings(collector, flush_interval=NEVER, retry_wait=0.05),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "examples")]),
    }
    program = textwrap.dedent(FROZEN).replace("BROWSER", BROWSER_USER_AGENT)
    program = program.replace("EXAMPLE", str(ROOT / "examples" / "lambda_function.py"))
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def call(path: str) -> None:
            """Thaw the process for one call, and freeze it as soon as that has returned."""
            process.send_signal(signal.SIGCONT)
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
            assert '"statusCode": 200' in process.stdout.readline()
            process.send_signal(signal.SIGSTOP)
            until_stopped(process.pid)

        try:
            call("/1")
            assert paths(collector) == ["/1"]
            collector.stop()  # which ends the connection, as load balancers do with idle ones
            collector.start()
            call("/2")
            assert paths(collector) == ["/1", "/2"]
            collector.stop()
            call("/3")  # over before the server is back
            collector.start()
            call("/4")
            assert sorted(paths(collector)) == ["/1", "/2", "/3", "/4"]
        finally:
            process.send_signal(signal.SIGCONT)
            process.stdin.close()
            process.wait(DEADLINE)
    assert {event.ip for event in collector.events} == {"203.0.113.7"}


def paths(collector: Collector) -> list[str]:
    return [event.url_path for event in collector.events]


def until_stopped(pid: int) -> None:
    status = Path(f"/proc/{pid}/status")
    give_up = time.monotonic() + DEADLINE
    while status.exists() and not re.search(r"^State:\s+T", status.read_text(), re.MULTILINE):
        assert time.monotonic() < give_up
        time.sleep(0.005)
