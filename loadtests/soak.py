"""The soak test: steady events for minutes, to servers that fail at random. Nothing may get lost or leak.

`python -m loadtests.soak` starts two processes. One runs three collectors that produce all kinds of faults
at random (`soak_server`). One of them loses its batch route during the run, and another is upgraded from
Umami 2.0 to the newest version. The other process sends numbered events to all, some of them a crawler's,
from threads and an event loop (`soak_sender`). This process watches the sender's memory, threads and
descriptors, compares event by event what was sent with what was stored, and exits with 1 if a check fails. It
needs Linux, because it reads /proc.
"""

import argparse
import itertools
import json
import os
import platform
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from . import soak_sender
from .soak_lines import ROOT, Child, ChildError
from .soak_server import UPGRADES

TIMEOUT: Final = 1.5
CLIENTS: Final = 3
SENDERS: Final = CLIENTS * 8  # the client's own default where there is no batch route

# Growth is only judged after every part of the client has been in use.
JUDGED_FROM_SECONDS: Final = 60.0
MEMORY_JUDGED_FROM_SECONDS: Final = 1800.0  # it levels off within a quarter of an hour
WARM_UP: Final = 0.25
MOST_GROWTH_MB: Final = 2.0
MOST_GROWTH_OBJECTS: Final = 5_000
MOST_MORE: Final = 2.0
MOST_THREADS: Final = (
    1 + soak_sender.WORKERS + SENDERS + CLIENTS
)  # the main thread; a reporter for each client
SPOOL_THREADS: Final = CLIENTS
MOST_SOCKETS: Final = 2 * SENDERS + 2  # to two names of the server each; the event loop's own pair


@dataclass(frozen=True)
class Sample:
    """Figures of the sender's process at one time.

    Attributes:
        at: Seconds since the start.
        rss: Resident memory, in MB.
        used: The part of it that is allocated, in MB, without Python's small objects.
        objects: The number of Python's small objects.
        threads: The number of threads.
        descriptors: The number of open files, including sockets.
        sockets: The number of open sockets.
        pending: The number of queued events.
    """

    at: float
    rss: float
    used: float
    objects: int
    threads: int
    descriptors: int
    sockets: int
    pending: int


@dataclass(frozen=True)
class Check:
    """A condition, whether it holds, and the figures. `holds` is None if the run is too short to tell."""

    name: str
    holds: bool | None
    figures: str


@dataclass
class Evidence:
    """The results of a run.

    Attributes:
        looks: The counts (`queue_stats`) at all times of the run, in order.
        samples: The figures of the sender's process.
        settled: For each client, whether its flush settled everything.
        ledgers: The final counts of each client.
        sent: What each worker sent.
        reported: The number of events that `on_error` was called for, by kind and reason.
        servers: The report of each server.
        exit_code: The sender's exit code.
        log: The sender's stderr.
        left: The number of files left in the spool.
    """

    looks: list[dict[str, Any]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    settled: list[bool] = field(default_factory=list)
    ledgers: list[dict[str, Any]] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)
    reported: dict[str, int] = field(default_factory=dict)
    servers: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int = 0
    log: str = ""
    left: int = 0

    def accepted(self, server: int) -> set[int]:
        """Return the numbers of the events that were queued for a server."""
        numbers: set[int] = set()
        for worker in self.sent:
            if worker["server"] == server:
                first = worker["number"]
                numbers.update(
                    range(first, first + worker["sent"] * soak_sender.WORKERS, soak_sender.WORKERS)
                )
                numbers.difference_update(worker["refused"])
        return numbers

    def total(self, name: str) -> int:
        """Return the sum of a count over all clients."""
        return sum(_count(ledger, name) for ledger in self.ledgers)


# Running.


def settings(rate: float, spool: Path | None) -> dict[str, Any]:
    """Return the clients' settings: quick retries, so that a short run has many faults."""
    return {
        "timeout": TIMEOUT,
        "item_timeout": 0.01,
        "retry_wait": 0.05,
        "retry_wait_max": 0.5,
        "retry_after_max": 1.0,
        "flush_interval": 0.2,
        # Faults at random may hit an event three times while others are accepted, and so make it a suspect.
        "item_retry_limit": 10,
        # For two seconds. In longer outages the queue overflows, or events stay on disk if there is a spool.
        "queue_size": max(50, round(2 * rate)),
        **({} if spool is None else {"spool": str(spool)}),
    }


def run(seconds: float, rate: float, seed: int, folder: Path, *, spool: bool) -> Evidence:
    """Run the soak test, and return its results.

    Raises:
        ChildError: One of the processes failed.
    """
    spool_folder = folder / "spool" if spool else None
    server_log, sender_log = folder / "server.log", folder / "sender.log"
    evidence = Evidence()
    children: list[Child] = []
    try:
        task = {"folder": str(folder), "seed": seed, "seconds": seconds, "timeout": TIMEOUT}
        children.append(server := Child("loadtests.soak_server", task, server_log))
        plan = {"urls": server.ask("start"), "settings": settings(rate, spool_folder)}
        children.append(
            sender := Child("loadtests.soak_sender", {"seconds": seconds, "rate": rate, **plan}, sender_log)
        )
        _watch(sender, evidence, seconds)
        _say("no more faults; flushing")
        server.ask("calm")
        evidence.settled = sender.ask("flush", within=300)
        evidence.ledgers = sender.ask("stats")
        evidence.looks += evidence.ledgers
        evidence.sent = sender.ask("sent")
        evidence.reported = sender.ask("reported")
        evidence.exit_code = sender.end()
        evidence.servers = server.ask("report")
        server.end()
    except ChildError as error:
        tail = "".join(log.read_text()[-3000:] for log in (server_log, sender_log) if log.exists())
        raise ChildError(f"{error}\n{tail}") from None
    finally:
        for child in children:
            child.kill()
    evidence.log = sender_log.read_text()
    if spool_folder is not None:
        evidence.left = len(list(spool_folder.iterdir()))
    return evidence


def _watch(sender: Child, evidence: Evidence, seconds: float) -> None:
    """Record the counts and figures of the sender until it has sent everything."""
    interval = min(5.0, max(0.5, seconds / 60))
    started = time.monotonic()
    sender.ask("start")
    for look in itertools.count(1):
        time.sleep(max(0.0, started + look * interval - time.monotonic()))
        if evidence.samples and not sender.ask("is_sending"):
            return
        ledgers = sender.ask("stats")
        evidence.looks += ledgers
        pending = sum(ledger["pending"] for ledger in ledgers)
        sample = _sample(sender.pid, sender.ask("memory"), time.monotonic() - started, pending)
        evidence.samples.append(sample)
        submitted, requests, retries = (
            sum(ledger[name] for ledger in ledgers) for name in ("submitted", "requests", "retries")
        )
        _say(
            f"{sample.at:4.0f} s: {submitted} sent, {pending} pending, {requests} requests, {retries} retries"
            f", {sample.rss:.1f} MB, {sample.threads} threads, {sample.sockets} sockets"
        )


def _sample(pid: int, memory: dict[str, Any], at: float, pending: int) -> Sample:
    process = Path(f"/proc/{pid}")
    pages = int((process / "statm").read_text().split()[1])
    descriptors = list(_descriptors(process / "fd"))
    return Sample(
        at=round(at, 2),
        rss=round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 3),
        used=round(memory["used"] / 1e6, 3),
        objects=memory["objects"],
        threads=len(list((process / "task").iterdir())),
        descriptors=len(descriptors),
        sockets=sum(target.startswith("socket:") for target in descriptors),
        pending=pending,
    )


def _descriptors(folder: Path) -> Iterator[str]:
    for descriptor in folder.iterdir():
        try:
            yield str(descriptor.readlink())
        except OSError:
            continue  # closed meanwhile


# Judging.


def judge(evidence: Evidence, seconds: float, *, spool: bool) -> list[Check]:
    """Return all checks."""
    checks = [_ledger(evidence), _settled(evidence)]
    for index, server in enumerate(evidence.servers):
        checks += _compare(evidence, index, server)
    checks += [_crawlers(evidence), _dropped(evidence), _reported(evidence), _callers(evidence)]
    checks.append(_end(evidence, spool=spool))
    judged = seconds >= JUDGED_FROM_SECONDS
    samples = evidence.samples
    threads = MOST_THREADS + (SPOOL_THREADS if spool else 0)
    return [
        *checks,
        _versions(evidence, judged=judged),
        _memory(samples, judged=seconds >= MEMORY_JUDGED_FROM_SECONDS),
        _threads(samples, threads),
        *_files(samples, judged=judged),
    ]


def _ledger(evidence: Evidence) -> Check:
    exact = all(
        look["submitted"] == look["delivered"] + look["rejected"] + _count(look, "dropped") + look["pending"]
        for look in evidence.looks
    )
    sent = sum(worker["sent"] for worker in evidence.sent)
    submitted = evidence.total("submitted")
    counts = ", ".join(
        f"{evidence.total(name)} {name}" for name in ("delivered", "rejected", "dropped", "pending")
    )
    return Check(
        "the ledger is exact",
        exact and submitted == sent,
        f"{sent} sent, {submitted} submitted: {counts}; {len(evidence.looks)} looks",
    )


def _settled(evidence: Evidence) -> Check:
    pending = evidence.total("pending") + evidence.total("pending_bytes")
    return Check(
        "the last flush settles everything", all(evidence.settled) and not pending, f"{pending} left"
    )


def _compare(evidence: Evidence, index: int, server: dict[str, Any]) -> list[Check]:
    """Compare event by event what was sent to a server with what it stored."""
    name = Path(server["database"]).stem
    accepted = evidence.accepted(index)
    stored = _stored(server["database"])
    ledger = evidence.ledgers[index]
    crawlers = set(filter(soak_sender.is_crawlers, accepted))
    refused = set(server["refused"])
    missing = accepted - stored.keys()
    unexplained = missing - refused - crawlers
    strangers = stored.keys() - accepted | stored.keys() & crawlers
    # An event may be stored by a request without an answer, and be refused the next time.
    most = len(missing) + len(stored.keys() & refused)
    unanswered = dict(server["unanswered"])
    counted = len(missing - _unclear(server)) <= ledger["rejected"] <= most
    surplus = {number: count - 1 for number, count in stored.items() if count > 1}
    beyond = {number for number, more in surplus.items() if more > unanswered.get(number, 0)}
    return [
        Check(
            f"{name}: every accepted event is stored, refused by the server, or a crawler's",
            not unexplained and counted,
            f"{len(accepted)} accepted, {len(crawlers)} of crawlers, {len(stored)} stored"
            f", {len(missing)} missing, {ledger['rejected']} rejected{_examples(unexplained)}",
        ),
        Check(
            f"{name}: nothing else is stored",
            not strangers,
            f"{len(strangers)} strangers{_examples(strangers)}",
        ),
        Check(
            f"{name}: each duplicate has its unanswered request",
            not beyond and not server["overlooked"],
            f"{sum(surplus.values())} duplicates; {server['unanswered_requests']} unanswered requests"
            f" explain up to {sum(unanswered.values())}{_examples(beyond)}",
        ),
    ]


def _unclear(server: dict[str, Any]) -> set[int]:
    """Return the crawlers' events that a client may have taken for delivered, as the answer did not tell."""
    perhaps_stored = {number for number, _ in server["unanswered"]}
    return set(filter(soak_sender.is_crawlers, perhaps_stored | set(server["unclear"])))


def _crawlers(evidence: Evidence) -> Check:
    """Compare how many events were rejected as a bot's with how many the crawlers sent."""
    sent, told_otherwise = 0, 0
    for index, server in enumerate(evidence.servers):
        crawlers = set(filter(soak_sender.is_crawlers, evidence.accepted(index)))
        sent += len(crawlers)
        told_otherwise += len(crawlers & (_unclear(server) | set(server["refused"])))
    rejected = evidence.reported.get("rejected bot", 0)
    return Check(
        "crawlers' events are rejected as a bot's",
        sent - told_otherwise <= rejected <= sent,
        f"{rejected} of {sent}; of {told_otherwise}, an answer may have said something else",
    )


def _versions(evidence: Evidence, *, judged: bool) -> Check:
    stored = evidence.servers[-1]["stored"]
    figures = ", ".join(f"{version}: {count}" for version, count in stored.items())
    every = stored.keys() == set(UPGRADES) and all(stored.values())
    return Check("each generation of Umami stores events", every if judged else None, figures)


def _stored(database: str) -> Counter[int]:
    """Return how often each number is stored."""
    connection = sqlite3.connect(database)
    try:
        rows = connection.execute("select url_path, count(*) from event group by url_path")
        return Counter({int(path.rpartition("/")[2]): count for path, count in rows})
    finally:
        connection.close()


def _dropped(evidence: Evidence) -> Check:
    reasons: Counter[str] = Counter()
    for ledger in evidence.ledgers:
        reasons.update(ledger["dropped"])
    refused = sum(len(worker["refused"]) for worker in evidence.sent)
    return Check(
        "every dropped event was returned as not queued",
        reasons == Counter(queue_full=refused),
        f"{refused} sends returned queued: False; dropped {dict(reasons)}",
    )


def _reported(evidence: Evidence) -> Check:
    told = {
        kind: sum(count for name, count in evidence.reported.items() if name.startswith(kind))
        for kind in ("rejected", "dropped")
    }
    return Check(
        "on_error is called for all rejected and dropped events",
        all(count == evidence.total(kind) for kind, count in told.items()),
        f"called for {told}",
    )


def _callers(evidence: Evidence) -> Check:
    errors = [worker["error"] for worker in evidence.sent if worker["error"]]
    slowest = max(worker["slowest"] for worker in evidence.sent)
    return Check(
        "no send raises", not errors, "; ".join(errors) or f"the slowest took {slowest * 1e3:.1f} ms"
    )


def _end(evidence: Evidence, *, spool: bool) -> Check:
    clean = (
        evidence.exit_code == 0 and "a bug in umami" not in evidence.log and "Traceback" not in evidence.log
    )
    left = f", {evidence.left} files left in the spool" if spool else ""
    return Check(
        "the sender ends cleanly", clean and not evidence.left, f"exit code {evidence.exit_code}{left}"
    )


def _memory(samples: Sequence[Sample], *, judged: bool) -> Check:
    """Check what is allocated. Resident memory may grow although that is flat, as the allocator's gaps do."""
    warm = [sample for sample in samples if sample.at >= samples[-1].at * WARM_UP]
    used, objects, rss = (_growth(warm, name) for name in ("used", "objects", "rss"))
    least, most = (extreme(sample.rss for sample in warm) for extreme in (min, max))
    return Check(
        "memory is flat after the warm-up",
        used <= MOST_GROWTH_MB and objects <= MOST_GROWTH_OBJECTS if judged else None,
        f"over {warm[-1].at - warm[0].at:.0f} s by the slopes {used:+.2f} MB allocated (at most "
        f"{MOST_GROWTH_MB}), {objects:+.0f} small objects (at most {MOST_GROWTH_OBJECTS}), {rss:+.2f} MB "
        f"resident; {least:.1f} to {most:.1f} MB resident",
    )


def _threads(samples: Sequence[Sample], allowed: int) -> Check:
    """Check the upper bound: the number of senders changes with the backlog, so growth is not a leak."""
    most = max(sample.threads for sample in samples)
    figures = (
        f"{samples[0].threads} at first, {samples[-1].threads} at last, {most} at most (allowed {allowed})"
    )
    return Check("threads stay under their bound", most <= allowed, figures)


def _files(samples: Sequence[Sample], *, judged: bool) -> list[Check]:
    """Check that nothing grows faster than the number of threads: each sender has its own connections."""
    end = samples[-1].at
    early = [sample for sample in samples if WARM_UP <= sample.at / end < 2 * WARM_UP] or samples[:1]
    late = [sample for sample in samples if sample.at / end >= 1 - WARM_UP]
    checks = []
    for name, allowed in (("sockets", MOST_SOCKETS), ("descriptors", None)):
        more = _beside_threads(late, name) - _beside_threads(early, name)
        most = max(getattr(sample, name) for sample in samples)
        figures = (
            f"{more:+.1f} more than threads from the second quarter to the last (at most {MOST_MORE})"
            f"; {most} at most" + ("" if allowed is None else f" (allowed {allowed})")
        )
        within = allowed is None or most <= allowed
        steady = more <= MOST_MORE if judged else None
        checks.append(Check(f"{name} do not grow", steady if within else False, figures))
    return checks


def _beside_threads(samples: Sequence[Sample], name: str) -> float:
    return statistics.fmean(getattr(sample, name) - sample.threads for sample in samples)


def _growth(samples: Sequence[Sample], name: str) -> float:
    """Return the growth of a figure over the samples, by linear regression."""
    if len(samples) < 2:
        return 0.0
    times = [sample.at for sample in samples]
    slope = statistics.linear_regression(times, [getattr(sample, name) for sample in samples]).slope
    return slope * (times[-1] - times[0])


def _count(ledger: dict[str, Any], name: str) -> int:
    value = ledger[name]
    return sum(value.values()) if isinstance(value, dict) else int(value)


def _examples(numbers: set[int]) -> str:
    return f"; NOT EXPLAINED: {len(numbers)}, such as {sorted(numbers)[:5]}" if numbers else ""


# Telling.


def result(
    evidence: Evidence, checks: Sequence[Check], seconds: float, rate: float, seed: int, *, spool: bool
) -> dict[str, Any]:
    """Return the run as a JSON object."""
    return {
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "commit": _commit(),
        "python": platform.python_version(),
        "machine": _machine(),
        "seconds": seconds,
        "rate": rate,
        "seed": seed,
        "spool": spool,
        "settings": settings(rate, None),
        "holds": all(check.holds is not False for check in checks),
        "checks": [asdict(check) for check in checks],
        "ledger": {
            name: evidence.total(name)
            for name in ("submitted", "delivered", "rejected", "dropped", "pending", "requests", "retries")
        },
        "servers": [
            {
                "requests": server["requests"],
                "stored": sum(server["stored"].values()),
                "unanswered_requests": server["unanswered_requests"],
                "faults": server["scripted"],
                "requests_hit": server["hit"],
            }
            for server in evidence.servers
        ],
        "samples": [list(asdict(sample).values()) for sample in evidence.samples],
        "samples_of": list(Sample.__dataclass_fields__),
    }


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True).stdout.strip()


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {model}"


def _print(checks: Sequence[Check], figures: dict[str, Any]) -> None:
    faults: Counter[str] = Counter()
    hit: Counter[str] = Counter()
    for server in figures["servers"]:
        faults.update(server["faults"])
        hit.update(server["requests_hit"])
    print(
        f"{figures['seconds']:g} s at {figures['rate']:g} events/s, seed {figures['seed']}, "
        f"on {figures['machine']}"
    )
    print(f"Python {figures['python']}, umami {figures['commit']}, {figures['date']}")
    print(f"settings: {json.dumps(figures['settings'])}{', and a spool' if figures['spool'] else ''}")
    print(
        f"{faults.total()} faults of {len(faults)} kinds hit {hit.total()} requests; "
        f"{figures['ledger']['requests']} requests, {figures['ledger']['retries']} retries"
    )
    for check in checks:
        verdict = {True: "ok", False: "FAILED", None: "run too short"}[check.holds]
        print(f"{verdict}: {check.name} ({check.figures})")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _keep(file: Path, figures: dict[str, Any]) -> None:
    """Add a run to the list in a file."""
    runs = json.loads(file.read_text()) if file.exists() else []
    lines = ",\n".join(json.dumps(each, ensure_ascii=False) for each in [*runs, figures])
    file.write_text(f"[\n{lines}\n]\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long to send (default: 600)")
    parser.add_argument(
        "--rate", type=float, default=500.0, help="events per second, of all senders (default: 500)"
    )
    parser.add_argument("--seed", type=int, help="seed for the faults (default: random)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the run to the list in this file")
    parser.add_argument("--spool", action="store_true", help="use a spool")
    options = parser.parse_args(arguments)
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    spool: bool = options.spool
    with tempfile.TemporaryDirectory(prefix="umami-soak-") as folder:
        try:
            evidence = run(options.seconds, options.rate, seed, Path(folder), spool=spool)
        except ChildError as error:
            print(f"FAILED: {error}")
            return 1
        checks = judge(evidence, options.seconds, spool=spool)
    figures = result(evidence, checks, options.seconds, options.rate, seed, spool=spool)
    _print(checks, figures)
    if options.json is not None:
        _keep(options.json, figures)
    broken = [check.name for check in checks if check.holds is False]
    print(f"FAILED: {'; '.join(broken)}" if broken else "all checks passed")
    if broken:
        print(evidence.log[-3000:], file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
