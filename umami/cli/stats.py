"""`umami stats`: a website's sums over a range of time."""

import argparse
from datetime import datetime, timedelta
from typing import Any, Final

from ._client import add_server, add_website, chosen_website, connected, need_login
from ._errors import OK, WRONG, CommandError
from ._output import add_formats, say, show, show_json
from ._parser import add_filter, last_moment, moment, span

NAME: Final = "stats"
SUMMARY: Final = "show a website's page views and visitors"
USAGE: Final = "umami stats [WEBSITE] [--last 7d | --since TIME --until TIME] [--json | --csv] [options]"
DESCRIPTION: Final = """\
Shows a website's page views, visitors, visits, bounces and total time, beside those of the period before.
Times are local. A date alone means all of that day.
"""
EXAMPLES: Final = """\
umami stats                                # the last 7 days of UMAMI_WEBSITE_ID
umami stats example.com --last 24h
umami stats example.com --since 2026-02-01 --until 2026-02-28 --csv
umami stats example.com --filter path=/pricing country=DE --json
"""

_SUMS: Final = ("pageviews", "visitors", "visits", "bounces", "totaltime")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_website(parser)
    parser.add_argument(
        "--last", metavar="SPAN", type=span, help="a number with m, h, d or w, such as 24h (default: 7d)"
    )
    parser.add_argument(
        "--since", metavar="TIME", type=moment, help="the beginning, such as 2026-02-01 or 2026-02-01T08:00"
    )
    parser.add_argument("--until", metavar="TIME", type=last_moment, help="the end (default: now)")
    add_filter(parser)
    add_formats(parser)
    add_server(parser)


def run(arguments: argparse.Namespace) -> int:
    """Shows the sums."""
    since, until = _range(arguments)
    with connected(arguments) as client:
        need_login(client)
        website = chosen_website(client, arguments.website)
        stats = client.website_stats(since, until, website.id, **dict(arguments.filters))
    name = website.domain or website.name or website.id
    if arguments.json:
        times = {"since": since.isoformat(), "until": until.isoformat()}
        show_json({"id": website.id, "website": name, **times, **stats.model_dump()})
        return OK
    if not arguments.csv:
        say(f"{name}, {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M}")
    rows: list[dict[str, Any]] = []
    for each in _SUMS:
        row = {"sum": "seconds" if each == "totaltime" else each, "now": getattr(stats, each)}
        row["before"] = None if stats.comparison is None else getattr(stats.comparison, each)
        rows.append(row)
    show(rows, ("sum", "now", "before"), arguments)
    return OK


def _range(arguments: argparse.Namespace) -> tuple[datetime, datetime]:
    if arguments.last is not None and (arguments.since or arguments.until):
        raise CommandError("--last does not go with --since and --until", WRONG)
    if arguments.until and not arguments.since:
        raise CommandError("--until needs --since", WRONG)
    now = datetime.now().astimezone()
    if not arguments.since:
        return now - (arguments.last or timedelta(days=7)), now
    return arguments.since, arguments.until or now
