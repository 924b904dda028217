"""`umami demo`: sends the events of a small shop to a collector, and compares the counts of both."""

import argparse
import random
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from umami._clock import monotonic

from ._errors import FAILED, OK, WRONG, CommandError
from ._output import clear_progress, say, show_progress
from ._signals import interrupted_by
from .collector import add_port, start

if TYPE_CHECKING:
    from umami import Client
    from umami.collector import Collector

NAME: Final = "demo"
SUMMARY: Final = "watch the events of a small shop arrive at a collector"
USAGE: Final = "umami demo [--visits NUMBER] [--rate NUMBER] [--outage] [options]"
DESCRIPTION: Final = """\
Starts a collector, and sends it the page views, purchases and refused events of a small shop. Open the
address in a browser to watch them arrive. At the end, the client's counts are compared with the collector's.

Nothing leaves this machine. It needs the extra `collector`.
"""
EXAMPLES: Final = """\
umami demo                             # half a minute
umami demo --visits 3000 --rate 500    # much at once
umami demo --outage                    # the server is away for a while: nothing is lost
umami demo --stay                      # then keep the page until Ctrl-C
"""

_HOST: Final = "shop.example"
_BROWSERS: Final = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 Version/18.6 Safari/604.1",
)
_BOT: Final = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
_PAGES: Final = ("/", "/teapots", "/teapots/blue", "/cups", "/about", "/search?q=teapot")
_REFERRERS: Final = ("", "", "https://duckduckgo.com/", "https://news.example/tea")
_VISITS_PER_PURCHASE: Final = 5
_VISITS_PER_BOT: Final = 12
_FLUSH_SECONDS: Final = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "--visits", metavar="NUMBER", type=int, default=300, help="how many visits (default: %(default)s)"
    )
    parser.add_argument(
        "--rate", metavar="NUMBER", type=float, default=10.0, help="visits a second (default: %(default)g)"
    )
    add_port(parser)
    parser.add_argument("--outage", action="store_true", help="stop the collector for a third of the visits")
    parser.add_argument("--stay", action="store_true", help="run the collector until Ctrl-C")


def run(arguments: argparse.Namespace) -> int:
    """Runs the demo."""
    if arguments.visits < 0 or not arguments.rate > 0:
        raise CommandError("--visits must not be negative, and --rate must be above 0", WRONG)
    try:
        from umami.collector import Collector
    except ModuleNotFoundError as error:
        raise CommandError(str(error), WRONG) from error
    import umami

    from ._client import log_shown

    collector = Collector(port=arguments.port)
    with log_shown(verbose=False), interrupted_by(signal.SIGINT, signal.SIGTERM):
        try:
            start(collector, collector.host, arguments.port)
            say(f"Open {collector.url} in a browser to watch the events arrive.")
            sys.stdout.flush()
            website = collector.add_website("Demo", _HOST)
            with umami.Client(
                **{
                    **_settings(),
                    "url_base": collector.url,
                    "website_id": website,
                    "hostname": _HOST,
                    "flush_interval": 0.2,
                    "retry_wait_max": 1.0,
                }
            ) as client:
                _send(client, collector, arguments)
                client.flush(timeout=_FLUSH_SECONDS)
                code = _compare(client, collector)
            if arguments.stay:
                say("The collector runs until Ctrl-C.")
                sys.stdout.flush()
                while True:
                    time.sleep(1)
        except KeyboardInterrupt:
            if not arguments.stay:
                raise
        finally:
            collector.stop()
    return code


def _settings() -> dict[str, Any]:
    """Returns the default of each setting, so that none is read from the environment."""
    from umami.settings import Settings

    return {
        name: field.get_default(call_default_factory=True) for name, field in Settings.model_fields.items()
    }


def _send(client: "Client", collector: "Collector", arguments: argparse.Namespace) -> None:
    """Sends the visits, at the rate."""
    away = range(arguments.visits // 3, 2 * arguments.visits // 3) if arguments.outage else range(0)
    due = shown = monotonic()
    for number in range(arguments.visits):
        if away and number == away[0]:
            collector.stop(finish=True)
            _say("The collector is stopped. Events wait in the client's queue.")
        elif away and number == away[-1]:
            collector.start()
            _say("The collector runs again.")
        _visit(client, number)
        due += 1 / arguments.rate
        while (left := due - monotonic()) > 0:
            time.sleep(min(left, 0.2))
        if monotonic() > shown + 0.5:
            shown = monotonic()
            stats = client.queue_stats()
            done = f"{number + 1:,} visits, {stats.delivered:,} events delivered, {stats.pending:,} waiting"
            show_progress(done)
    clear_progress()


def _say(text: str) -> None:
    """Prints a line in place of the progress."""
    clear_progress()
    print(text, flush=True)


def _visit(client: "Client", number: int) -> None:
    """Sends what one visitor does."""
    luck = random.Random(number)  # noqa: S311 - the same visits each time
    visitor: dict[str, Any] = {
        "ip_address": f"203.0.113.{luck.randrange(250)}",
        "ua": luck.choice(_BROWSERS),
        "language": luck.choice(("en-US", "de-DE", "fr-FR")),
    }
    page = luck.choice(_PAGES)
    client.new_page_view(
        page.strip("/").title() or "Tea shop", page, referrer=luck.choice(_REFERRERS), **visitor
    )
    if number % _VISITS_PER_PURCHASE == 0:
        visitor["distinct_id"] = f"customer-{luck.randrange(40)}"
        product = luck.choice(("teapot", "cup", "saucer"))
        client.new_event("add-to-cart", url=page, custom_data={"product": product}, **visitor)
        client.new_revenue_event(
            luck.randrange(500, 9900) / 100, "EUR", "purchase", url="/checkout", **visitor
        )
        client.identify(visitor["distinct_id"], {"plan": luck.choice(("free", "pro"))})
    if number % _VISITS_PER_BOT == _VISITS_PER_BOT - 1:
        client.new_page_view("Teapots", "/teapots", ip_address="198.51.100.7", ua=_BOT)


def _compare(client: "Client", collector: "Collector") -> int:
    """Prints what the client counted beside what the collector did."""
    stats = client.queue_stats()
    stored = len(collector.events) + len(collector.identities)
    say(f"{stats.submitted:>8,}  sent")
    say(f"{stats.delivered:>8,}  delivered, by the client's count")
    say(f"{stored:>8,}  stored, by the collector's count")
    say(f"{stats.rejected:>8,}  refused as a bot's")
    say(f"{sum(stats.dropped.values()) + stats.pending:>8,}  lost")
    agreed = stats.delivered == stored and stats.submitted == stored + stats.rejected
    say("The counts agree." if agreed else "The counts differ.")
    return OK if agreed else FAILED
