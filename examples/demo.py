"""A web service and a batch job send events to Umami. Then their counts are compared with the server's.

It starts the embedded collector, or uses the server at UMAMI_URL, with the login UMAMI_USERNAME (admin) and
UMAMI_PASSWORD (umami). It exits with 1 if the counts differ.
"""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from typing import IO

import httpx

import umami

LIMIT = 300
VISITS = 3_000
ROWS = 500
VISITS_PER_PURCHASE = 10
BROWSERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Safari/604.1",
)


def main() -> int:
    """Run the demo; return the exit code."""
    with ExitStack() as stack:
        url = os.environ.get("UMAMI_URL") or stack.enter_context(collector())
        umami.configure(url_base=url)
        umami.login(os.environ.get("UMAMI_USERNAME", "admin"), os.environ.get("UMAMI_PASSWORD", "umami"))
        website = new_website(url)
        umami.set_website_id(website)
        environment = {
            **os.environ,
            "UMAMI_URL": url,
            "UMAMI_WEBSITE_ID": website,
            "UMAMI_HOSTNAME": "shop.example",
            # A real Umami stores about 100 events per second: give the exit flush enough time.
            "UMAMI_SHUTDOWN_TIMEOUT": "120",
        }
        print(f"Umami at {url}, website {website}")

        began = datetime.now(timezone.utc)
        service = run_service(environment)
        job = run_job(environment)
        return compare(service, job, url, website, began)


@contextmanager
def collector() -> Iterator[str]:
    """Run `umami collector` on a free port."""
    with running("umami", "collector", "--stop-after", str(LIMIT), "--quiet") as process:
        yield wait_for(process.stdout, r"(http://\S+)")


@contextmanager
def running(*module: str, environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run a module of Python with arguments; if it still runs at the end, or after `LIMIT`, it is killed."""
    command = [sys.executable, "-m", *module]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        limit = threading.Timer(LIMIT, process.kill)
        limit.start()
        try:
            yield process
        finally:
            limit.cancel()
            process.kill()


def new_website(url: str) -> str:
    """Create a website for this run, so that its counts begin at zero."""
    headers = {"Authorization": f"Bearer {token()}"}
    website = {"name": "Demo", "domain": "shop.example"}
    answer = httpx.post(f"{url}/api/websites", json=website, headers=headers)
    answer.raise_for_status()
    return str(answer.json()["id"])


def token() -> str:
    """Log in and return the token, for the routes that the client does not have."""
    name, password = os.environ.get("UMAMI_USERNAME", "admin"), os.environ.get("UMAMI_PASSWORD", "umami")
    return umami.login(name, password).token


def run_service(environment: dict[str, str]) -> umami.models.QueueStats:
    """Run the web service under load, stop it, and return its counts."""
    port = free_port()
    uvicorn = ("uvicorn", "examples.service:app", f"--port={port}", "--log-level=warning")
    with running(*uvicorn, environment=environment) as process:
        base = f"http://127.0.0.1:{port}"
        wait_until_up(f"{base}/ledger", process)
        started = time.monotonic()
        with httpx.Client(base_url=base) as browser, ThreadPoolExecutor(8) as visitors:
            visits = [visitors.submit(visit, browser, number) for number in range(VISITS)]
            try:
                for done, each in enumerate(visits, 1):
                    each.result()
                    progress("web service", done, VISITS, "visits")
            except httpx.HTTPError as error:
                visitors.shutdown(wait=False, cancel_futures=True)
                raise SystemExit(f"\nThe service has failed: {error}") from None
        seconds = time.monotonic() - started
        process.send_signal(signal.SIGINT)
        ledger = read_ledger(process)
    report(f"web service: {VISITS} visits in {seconds:.1f} s, {ledger.submitted} events sent")
    return ledger


def visit(browser: httpx.Client, number: int) -> None:
    """Load a page as one of many visitors, and sometimes buy something."""
    luck = random.Random(number)
    headers = {
        "User-Agent": luck.choice(BROWSERS),
        "Accept-Language": luck.choice(("en-US,en;q=0.9", "de-DE,de;q=0.9,en;q=0.8", "fr-FR")),
        "X-Forwarded-For": f"10.0.{number % 7}.{number % 250}",
    }
    browser.get(luck.choice(("/", "/pricing", "/about")), headers=headers).raise_for_status()
    if number % VISITS_PER_PURCHASE == 0:
        browser.post("/buy", json={"plan": "pro", "price": 19.99}, headers=headers).raise_for_status()


def run_job(environment: dict[str, str]) -> umami.models.QueueStats:
    """Run the batch job, and return its counts after the exit flush."""
    progress("batch job", 0, ROWS, "rows")
    started = time.monotonic()
    with running("examples.job", str(ROWS), environment=environment) as process:
        ledger = read_ledger(process)
    report(f"batch job: {ROWS} rows in {time.monotonic() - started:.1f} s, including the exit flush")
    return ledger


def compare(
    service: umami.models.QueueStats, job: umami.models.QueueStats, url: str, website: str, began: datetime
) -> int:
    """Print the counts of the clients and of the server; return 1 if they differ."""
    start, end = began - timedelta(minutes=1), datetime.now(timezone.utc) + timedelta(minutes=1)
    views = umami.website_stats(start, end).pageviews
    bounds = {"startAt": int(start.timestamp() * 1000), "endAt": int(end.timestamp() * 1000)}
    headers = {"Authorization": f"Bearer {token()}"}
    answer = httpx.get(f"{url}/api/websites/{website}/events/stats", params=bounds, headers=headers)
    answer.raise_for_status()
    events = int(answer.json()["data"]["events"])

    purchases = len(range(0, VISITS, VISITS_PER_PURCHASE))
    delivered = service.delivered + job.delivered
    rows = [
        ("page views", VISITS, delivered - 2 * purchases - ROWS, views),
        ("custom events", 2 * purchases + ROWS, delivered - VISITS, events),
        ("all", VISITS + 2 * purchases + ROWS, delivered, views + events),
    ]
    print(f"\n  {'':14}{'sent':>10}{'client: delivered':>20}{'server: stored':>18}")
    for name, sent, ledger, stored in rows:
        print(f"  {name:14}{sent:>10}{ledger:>20}{stored:>18}")
    for name, stats in (("service", service), ("job", job)):
        print(
            f"  {name}: {stats.requests} requests, {stats.retries} of them retries; "
            f"{stats.rejected} rejected, {sum(stats.dropped.values())} dropped, {stats.pending} pending"
        )
    agreed = all(sent == ledger == stored for _, sent, ledger, stored in rows)
    print("\n  The counts agree." if agreed else "\n  THE COUNTS DIFFER.")
    return 0 if agreed else 1


def free_port() -> int:
    """Return an unused port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_up(url: str, process: subprocess.Popen[str]) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + 60
    why: object = "it does not answer"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(url).raise_for_status()
        except httpx.HTTPError as error:
            why = error
            time.sleep(0.05)
        else:
            return
    ended = f"it ended with code {process.returncode}" if process.poll() is not None else why
    raise SystemExit(f"The service at {url} does not start: {ended}.")


def wait_for(output: IO[str] | None, pattern: str) -> str:
    """Return the group of `pattern` in the first line that matches it."""
    for line in output or ():
        found = re.search(pattern, line)
        if found:
            return found[1]
    raise SystemExit(f"The program ended without printing {pattern}.")


def read_ledger(process: subprocess.Popen[str]) -> umami.models.QueueStats:
    """Return the counts that a program prints at its end, and wait until it has ended."""
    ledger = umami.models.QueueStats.model_validate(json.loads(wait_for(process.stdout, r"LEDGER (.*)")))
    process.wait(60)
    return ledger


def report(line: str) -> None:
    """Print a line, in place of the progress."""
    print(f"\r  {line:79}" if sys.stdout.isatty() else f"  {line}", flush=True)


def progress(what: str, done: int, total: int, unit: str) -> None:
    """Show the progress on a terminal, at every percent."""
    if sys.stdout.isatty() and (done % max(1, total // 100) == 0 or done == total):
        width = 30
        bar = ("█" * (done * width // total)).ljust(width, "·")
        print(f"\r  {what}: {bar} {done}/{total} {unit}", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
