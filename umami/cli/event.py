"""`umami event`: sends a custom event."""

import argparse
from typing import Final

from ._sending import EVENT_OPTIONS, add_event, data_of, send

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
    add_event(parser)


def run(arguments: argparse.Namespace) -> int:
    """Sends the event."""
    from umami import Client

    return send(
        arguments,
        f"event {arguments.name}",
        Client.new_event,
        *EVENT_OPTIONS,
        event_name=arguments.name,
        custom_data=data_of(arguments),
    )
