"""What the commands that send have in common: their options, and what they say about the outcome."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ._client import add_server, connected, resolved_settings
from ._errors import FAILED, OK, WRONG, CommandError
from ._output import add_formats, complain, say, show_json
from ._parser import moment

if TYPE_CHECKING:
    from umami import Client
    from umami.models import QueueStats


EVENT_OPTIONS: Final = ("url", "title", "referrer", "language", "screen", "distinct_id", "tag")
"""The arguments of a send that `add_event` has options for."""


def add_event(parser: argparse.ArgumentParser) -> None:
    """Adds the options of an event, with or without revenue."""
    add_data(parser)
    parser.add_argument("--url", help="the page's URL or path (default: /)")
    parser.add_argument("--title", help="the page's title (default: the event's name)")
    add_visitor(parser)
    add_common(parser)


def add_data(parser: argparse.ArgumentParser) -> None:
    """Adds the option `--data`."""
    parser.add_argument(
        "--data",
        metavar="KEY=TEXT",
        nargs="+",
        action="extend",
        type=_pair,
        default=[],
        help="custom data; KEY:=JSON for a number, a boolean, a list or an object",
    )


def add_visitor(parser: argparse.ArgumentParser) -> None:
    """Adds the options for what a visitor's browser would have sent."""
    group = parser.add_argument_group("visitor")
    group.add_argument("--referrer", metavar="URL", help="where the visitor came from")
    group.add_argument("--language", help="the visitor's language, such as en-GB")
    group.add_argument("--screen", metavar="SIZE", help="the size of the screen, such as 1920x1080")
    group.add_argument("--distinct-id", metavar="ID", help="your own id for the visitor")
    group.add_argument("--tag", help="a tag, to compare variants")


def add_common(parser: argparse.ArgumentParser) -> None:
    """Adds the options of all sends."""
    group = parser.add_argument_group("website")
    group.add_argument(
        "--website", dest="website_id", metavar="ID", help="the website's id (default: UMAMI_WEBSITE_ID)"
    )
    group.add_argument(
        "--hostname", help="the website's host name (default: UMAMI_HOSTNAME, or that of the URL)"
    )
    group.add_argument("--ip-address", metavar="ADDRESS", help="the visitor's address")
    group.add_argument("--user-agent", dest="ua", metavar="TEXT", help="the visitor's (default: a browser's)")
    group.add_argument(
        "--time", dest="timestamp", metavar="TIME", type=moment, help="when it happened (default: now)"
    )
    add_server(parser)
    add_formats(parser, csv=False)


def send(
    arguments: argparse.Namespace, what: str, call: Callable[..., Any], *names: str, **given: Any
) -> int:
    """Sends one event, waits for the server's answer, and says what it was.

    The event goes through the client's queue, which knows what each generation of Umami wants to be sent and
    how it answers. The queue makes one more attempt if the first one fails.

    Args:
        arguments: The command's arguments.
        what: What is sent, in words.
        call: Called with a client and the arguments of its send.
        *names: The arguments to pass on, where they are given.
        **given: Further arguments of the send.

    Returns:
        The exit code.
    """
    names = ("website_id", "ip_address", "ua", "timestamp", *names)
    own = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    settings = resolved_settings({})
    url = getattr(arguments, "url", None)
    if hostname := arguments.hostname or settings.hostname or (urlsplit(url).hostname if url else None):
        own["hostname"] = hostname
    if settings.enabled and not (own.get("website_id") or settings.website_id):
        raise CommandError("no website is set: set UMAMI_WEBSITE_ID, or pass --website ID", WRONG)
    if settings.enabled and not hostname:
        raise CommandError("no host name is set: set UMAMI_HOSTNAME, or pass --hostname NAME", WRONG)
    with connected(arguments, retry_limit=1, flush_interval=0, shutdown_timeout=0) as client:
        result = call(client, **given, **own)
        client.flush(timeout=3 * (arguments.timeout or settings.timeout))
        return _report(arguments, what, client, result)


def _report(arguments: argparse.Namespace, what: str, client: "Client", result: dict[str, Any]) -> int:
    stats = client.queue_stats()
    outcome = _outcome(stats) if result else "disabled"
    message = stats.last_error if outcome in ("rejected", "dropped", "pending") else None
    if arguments.json:
        show_json(
            {"outcome": outcome, "server": stats.server, "message": message, "repaired": stats.repaired}
        )
        return OK if outcome in ("delivered", "disabled") else FAILED
    if outcome == "disabled":
        say("Nothing was sent: UMAMI_DISABLED is set.")
        return OK
    if repaired := ", ".join(sorted(stats.repaired)):
        say(f"Changed to fit Umami's limits: {repaired}.")
    if outcome == "delivered":
        say(f"Stored: {what}. The server is {stats.server}.")
        return OK
    reason = message or result.get("reason") or "no answer yet: see --timeout"
    if outcome == "rejected":
        complain(f"the server refused it: {reason}")
    else:
        complain(f"not sent: {reason}")
    return FAILED


def _outcome(stats: "QueueStats") -> str:
    if stats.delivered:
        return "delivered"
    if stats.rejected:
        return "rejected"
    return "pending" if stats.pending else "dropped"


def data_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the custom data of `--data`."""
    return dict(arguments.data)


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or key in ("", ":"):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=TEXT or KEY:=JSON")
    if not key.endswith(":"):
        return key, value
    import json

    try:
        return key.removesuffix(":"), json.loads(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r}, after {key}=, is not JSON") from None
