"""What the import says: what it found, how far it is, and what became of the lines."""

import argparse
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from umami._clock import monotonic
from umami.cli._output import clear_progress, complain, counted, say, show_json, show_progress

if TYPE_CHECKING:
    from typing_extensions import Self

    from umami.models import QueueStats

    from .counts import Counts, Log

_EVENTS_A_SECOND: Final = 130
_SHOWN_SECONDS: Final = 0.5
_TROUBLE_SECONDS: Final = 5.0


def say_found(counts: "Counts", arguments: argparse.Namespace) -> None:
    """Say what was found in logs, and how long it takes to send it."""
    if arguments.json and not arguments.dry_run:
        return  # the result is JSON alone
    if arguments.json:
        show_json(_record(counts))
        return
    for line in _lines(counts):
        say(line)
    if counts.first is not None and counts.last is not None:
        first, last = (
            datetime.fromtimestamp(each).astimezone().isoformat(" ", "minutes")
            for each in (counts.first, counts.last)
        )
        say(f"from {first} to {last}")
    rate = min(_EVENTS_A_SECOND, arguments.rate or _EVENTS_A_SECOND)
    seconds = _duration(counts.sent / rate)
    say(f"{counted(counts.sent, 'page view')} to send: about {seconds} at {rate:g} a second")


def say_sent(
    counts: "Counts", stats: "QueueStats", reports: dict[str, int], arguments: argparse.Namespace
) -> None:
    """Say what became of the lines.

    Args:
        counts: Of the lines.
        stats: Of the page views that were sent.
        reports: How many were refused or dropped, by reason.
        arguments: The command's arguments.
    """
    if arguments.json:
        outcome = {"delivered": stats.delivered, "rejected": stats.rejected, "dropped": stats.dropped}
        show_json({**_record(counts), **outcome, "unanswered": stats.pending, "reasons": reports})
        return
    for line in _lines(counts):
        say(line)
    say(f"{stats.delivered:>12,}  delivered")
    for name, count in sorted(reports.items()):
        if name.startswith(("rejected", "dropped")):
            say(f"{count:>12,}  {name}")
    if stats.pending:
        say(f"{stats.pending:>12,}  not answered; the next run sends them")
    if stats.repaired:
        fields = ", ".join(f"{name} ({count:,})" for name, count in sorted(stats.repaired.items()))
        say(f"{'':12}  changed to fit Umami's limits: {fields}")
    if stats.last_error and (stats.pending or stats.rejected):
        complain(f"the last error: {stats.last_error}")


def _lines(counts: "Counts") -> Iterator[str]:
    yield f"{counts.read:>12,}  lines read"
    parts = [
        ("imported before", counts.before),
        ("headers", counts.headers),
        ("malformed", counts.malformed),
        *((f"left out: {reason}", count) for reason, count in counts.left_out.most_common()),
        ("page views", counts.sent),
    ]
    for name, count in parts:
        if count or name == "page views":
            yield f"{count:>12,}  {name}"
    for path, number in counts.examples:
        yield f"{'':12}  malformed: {path}, line {number:,}"
    for path, what in counts.damaged:
        yield f"{'':12}  read only up to where it is damaged: {path}: {what}"


def _record(counts: "Counts") -> dict[str, Any]:
    return {
        "read": counts.read,
        "imported_before": counts.before,
        "headers": counts.headers,
        "malformed": counts.malformed,
        "left_out": dict(counts.left_out),
        "sent": counts.sent,
        "damaged": [path for path, _ in counts.damaged],
    }


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Progress:
    """How far the import is: one line on stderr, if that is a terminal. And that the server takes nothing."""

    def __init__(self) -> None:
        self._due = self._began = self._moved = monotonic()
        self._counts: Counts | None = None
        self._stats: Callable[[], QueueStats] | None = None
        self._done = 0
        self._in_trouble = False

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        clear_progress()

    def sends(self, counts: "Counts", client: Any) -> None:
        """Show what is delivered from now on."""
        self._counts, self._stats = counts, client.queue_stats
        self._began = self._moved = monotonic()

    def show(self, log: "Log") -> None:
        """Show how far it is. Called often; most calls return at once."""
        now = monotonic()
        if now < self._due:
            return
        self._due = now + _SHOWN_SECONDS
        parts = [f"{min(1.0, log.position / log.size):4.0%}"] if log.size else []
        if self._counts is not None and self._stats is not None:
            stats = self._stats()
            done = stats.delivered + stats.rejected
            self._note(stats, done, now)
            parts += [f"{done:,} sent", f"{done / max(now - self._began, 0.1):.0f}/s"]
            part = (
                log.position * done / (log.size * self._counts.sent) if log.size and self._counts.sent else 0
            )
            if part > 0.01:  # of the log is answered
                parts.append(f"{_duration((now - self._began) * (1 / part - 1))} left")
            if self._in_trouble:
                parts.append("waiting for the server")
            parts.append(f"{self._counts.read:,} lines")
        parts.append(Path(log.path).name)  # at the end, where a long one may be cut off
        show_progress("  ".join(parts))

    def _note(self, stats: "QueueStats", done: int, now: float) -> None:
        """Say once if the server takes nothing for a while, and once when it does again."""
        if done > self._done or not stats.pending:
            if self._in_trouble:
                clear_progress()
                complain("the server takes page views again")
            self._done, self._moved, self._in_trouble = done, now, False
        elif not self._in_trouble and stats.last_error and now > self._moved + _TROUBLE_SECONDS:
            self._in_trouble = True
            clear_progress()
            complain(f"the server does not take page views, so the import waits: {stats.last_error}")
