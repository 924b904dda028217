"""A campaign: sends mixed events through a proxy to a server that fails several times."""

import logging
import secrets
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from umami import Client
from umami.models import ErrorReport, QueueStats

from .proxy import Log, Proxy, nginx
from .servers import Server
from .traffic import Event, events

SCENARIOS: Final = {"mixed": None, "429": 429, "503": 503}
"""What is in front of the server: the proxy alone (None), or nginx with a rate limit, and its status."""

BATCH_SINCE: Final = (2, 17)
FLUSH_SECONDS: Final = 30.0
_OUTAGE_SECONDS: Final = 4.0
_DOWN_SECONDS: Final = 2.0
_BACKLOG: Final = 400
_RATE: Final = 150.0
_LOOK_SECONDS: Final = 0.25

Json = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """The parameters of a campaign.

    Attributes:
        scenario: One of `SCENARIOS`.
        count: The number of events.
        stall: Give up after so many seconds without progress.
        limit: Give up after so many seconds in any case.
    """

    scenario: str
    count: int
    stall: float = 120.0
    limit: float = 1500.0


def version(text: str) -> tuple[int, ...]:
    """Return a version as numbers, such as `(2, 15, 1)`. Any other text counts as the newest version."""
    try:
        return tuple(int(part) for part in text.split("."))
    except ValueError:
        return (99,)


def file_name(server: Server, scenario: str) -> str:
    """Return the name of a campaign's files, without the extension."""
    kind = "umami" if server.real else "collector"
    return f"{kind}-{server.name.replace(' ', '-')}-{scenario}"


def run(server: Server, plan: Plan, folder: Path) -> Json:
    """Send the events, cause the faults, flush, and compare the client's counts with the server's rows.

    Args:
        server: The server. It is started, and stopped at the end.
        plan: The parameters.
        folder: The folder for the client's log.

    Returns:
        The figures and the checks, as JSON.
    """
    mark = f"c{secrets.token_hex(3)}"
    sent = list(events(plan.count, mark, version(server.umami)))
    reports: Counter[str] = Counter()
    samples: dict[str, str] = {}

    def on_error(report: ErrorReport) -> None:
        kind = f"{report.kind}: {report.reason}"
        reports[kind] += report.count
        samples.setdefault(kind, report.message[:300])

    with ExitStack() as stack:
        log_file = folder / f"{file_name(server, plan.scenario)}.log"
        stack.enter_context(_logged_to(log_file))
        server.start()
        stack.callback(server.kill)
        proxy = stack.enter_context(Proxy(server.url))
        front = proxy.url
        status = SCENARIOS[plan.scenario]
        if status is not None:
            temporary = stack.enter_context(tempfile.TemporaryDirectory())
            front = stack.enter_context(nginx(proxy.url, status, Path(temporary)))
        client = Client(
            url_base=front,
            website_id=server.website_id,
            hostname="shop.example.com",
            on_error=on_error,
            shutdown_timeout=1.0,
        )
        stack.callback(client.shutdown)
        started = time.monotonic()
        troubles = _Troubles(server, plan.count)
        campaign = _Campaign(client, sent, plan, troubles, server.name)
        complete = campaign.run()
        seconds = time.monotonic() - started
        stats = client.queue_stats()
        troubles.end()
        client.shutdown(1.0)  # so that nothing is stored while the rows are read
        rows = server.rows()
    result = _compare(sent[: campaign.number], stats, rows, mark, proxy.log, len(troubles.done))
    return {
        "umami": server.umami,
        "name": server.name,
        "real": server.real,
        "scenario": plan.scenario,
        "complete": complete and troubles.complete,
        "seconds": round(seconds, 1),
        "troubles": troubles.done,
        "reports": dict(reports),
        "samples": samples,
        "server": stats.server,
        "last_error": stats.last_error,
        "statuses": dict(sorted(proxy.log.statuses.items())),
        **result,
    }


class _Troubles:
    """The faults of the server. Each begins when a part of the events is settled."""

    def __init__(self, server: Server, count: int) -> None:
        self._server = server
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self.done: list[str] = []
        self._due: list[tuple[int, str, Callable[[], None]]] = [
            (count // 5, "database outage", self._database_outage),
            (count * 2 // 5, "restart", self._restart),
            (count * 3 // 5, "kill -9", self._kill),
        ]
        self.now = ""

    @property
    def complete(self) -> bool:
        """Whether all of them are over."""
        return not self._due and not self.now

    def look(self, settled: int) -> None:
        """Begin the next fault if it is due and no other is in progress."""
        if self._error is not None:
            raise self._error
        if not self.now and self._due and settled >= self._due[0][0]:
            _, self.now, trouble = self._due.pop(0)
            self._thread = threading.Thread(target=self._make, args=(trouble,), daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Wait until the current fault ends, and cancel the others."""
        self._due.clear()
        if self._thread is not None:
            self._thread.join()

    def _make(self, trouble: Callable[[], None]) -> None:
        started = time.monotonic()
        try:
            trouble()
        except BaseException as error:  # noqa: BLE001  (raised again in the campaign's thread)
            self._error = error
        self.done.append(f"{self.now}, {time.monotonic() - started:.1f} s")
        self.now = ""

    def _database_outage(self) -> None:
        self._server.database_stop()
        time.sleep(_OUTAGE_SECONDS)
        self._server.database_start()

    def _restart(self) -> None:
        self._server.stop()
        time.sleep(_DOWN_SECONDS)
        self._server.start()

    def _kill(self) -> None:
        self._server.kill()
        time.sleep(_DOWN_SECONDS)
        self._server.start()


class _Campaign:
    """Sends the events as fast as the server can store them, and waits until all are settled."""

    def __init__(self, client: Client, sent: list[Event], plan: Plan, troubles: _Troubles, name: str) -> None:
        self._client = client
        self._sent = sent
        self._plan = plan
        self._troubles = troubles
        self._label = f"{name} {plan.scenario}"
        self.number = 0
        self._settled = 0
        self._begun = self._progressed = time.monotonic()
        self._shown = 0.0

    def run(self) -> bool:
        """Run the campaign; return whether all events were settled in time."""
        next_look = 0.0
        room = 0
        while self.number < len(self._sent) or not self._troubles.complete:
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + _LOOK_SECONDS
                stats = self._look()
                if self._is_over():
                    return False
                room = _BACKLOG - stats.pending
            if self.number < len(self._sent) and room > 0:
                self._sent[self.number].send(self._client)
                self.number += 1
                room -= 1
                time.sleep(1 / _RATE)
            else:
                time.sleep(_LOOK_SECONDS / 5)
        while not self._client.flush(FLUSH_SECONDS):
            self._look()
            if self._is_over():
                return False
        self._look()
        return True

    def _look(self) -> QueueStats:
        stats = self._client.queue_stats()
        settled = stats.submitted - stats.pending
        now = time.monotonic()
        if settled > self._settled or self._troubles.now:
            self._settled, self._progressed = settled, now
        self._troubles.look(settled)
        if now - self._shown > (0.5 if sys.stderr.isatty() else 15):
            self._shown = now
            print(
                f"{self._label}: {now - self._begun:4.0f} s, {self.number} sent, {stats.delivered} delivered,"
                f" {stats.rejected} rejected, {stats.pending} pending, {stats.requests} requests"
                f"{', ' + self._troubles.now if self._troubles.now else ''}",
                end="\x1b[K\r" if sys.stderr.isatty() else "\n",
                file=sys.stderr,
                flush=True,
            )
        return stats

    def _is_over(self) -> bool:
        now = time.monotonic()
        return now - self._progressed > self._plan.stall or now - self._begun > self._plan.limit


def _compare(
    sent: list[Event], stats: QueueStats, rows: Counter[str], mark: str, log: Log, troubles: int
) -> Json:
    """Compare the client's counts with the stored rows."""
    stored = Counter({name: count for name, count in rows.items() if mark in name})
    browsers = {event.mark for event in sent if not event.crawler and event.mark is not None}
    crawlers = {event.mark for event in sent if event.crawler}
    identified = sum(event.mark is None for event in sent)
    lost = browsers - stored.keys()
    duplicates = sum(stored[name] - 1 for name in stored)
    settled = stats.delivered + stats.rejected + sum(stats.dropped.values()) + stats.pending
    bound = duplicates_bound(log, troubles)
    crawlers_stored = len(crawlers & stored.keys())
    return {
        "sent": len(sent),
        "browsers": len(browsers),
        "identified": identified,
        "crawlers": len(crawlers),
        "rows": stored.total(),
        "stored": len(stored),
        "lost": len(lost),
        "lost_examples": sorted(name for name in lost if name)[:5],
        "crawlers_stored": crawlers_stored,
        "duplicates": duplicates,
        "bound": bound,
        "unanswered": log.unanswered,
        "doubtful": log.doubtful,
        "largest": log.largest,
        "submitted": stats.submitted,
        "delivered": stats.delivered,
        "rejected": stats.rejected,
        "dropped": stats.dropped,
        "pending": stats.pending,
        "retries": stats.retries,
        "requests": stats.requests,
        "passed_on": log.requests,
        "holds": {
            "nothing is lost": not lost,
            "nothing is pending": stats.pending == 0,
            "the ledger balances": stats.submitted == settled == len(sent),
            "delivered is what browsers sent": stats.delivered == len(browsers) + identified,
            "rejected is what crawlers sent": stats.rejected == len(crawlers) and not crawlers_stored,
            "duplicates are within the bound": duplicates <= bound,
        },
    }


def duplicates_bound(log: Log, troubles: int) -> int:
    """Return the upper bound for duplicates that follows from docs/queue.md.

    For each fault: one batch, and one event for each request without an answer, but not more than these
    requests carried. In addition, the events whose error answers do not rule out that they were stored.
    """
    silent = min(sum(log.unanswered), troubles * log.largest + len(log.unanswered))
    return silent + log.doubtful


@contextmanager
def _logged_to(file: Path) -> Iterator[None]:
    """Write the client's log to a file instead of the terminal."""
    logger = logging.getLogger("umami")
    handler = logging.FileHandler(file, "w")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.propagate = propagate
        logger.removeHandler(handler)
        handler.close()
