"""`umami event`: sends a custom event."""

import argparse
from typing import Final

from ._sending import add_common, add_data, add_visitor, data_of, send

NAME: Final = "event"
SUMMARY: Final = "send a custom event"
USAGE: Final = "umami event NAME [--data KEY=TEXT ...] [--url URL] [options]"
DESCRIPTION: Final = "Sends a custom event, and says what the server answered."
EXAMPLES: Final = """\
umami event signup
umami event signup --data plan=pro seats:=3 --url https://example.com/account/new
umami event backup --data host=$(hostname) --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("name", metavar="NAME", help="the event's name, at most 50 characters")
    add_data(parser)
    parser.add_argument("--url", help="the page's URL or path (default: /)")
    parser.add_argument("--title", help="the page's title (default: the event's name)")
    add_visitor(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Sends the event."""
    from umami import Client

    return send(
        arguments,
        f"event {arguments.name}",
        Client.new_event,
        *("url", "title", "referrer", "language", "screen", "distinct_id", "tag"),
        event_name=arguments.name,
        custom_data=data_of(arguments),
    )
