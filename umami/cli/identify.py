"""`umami identify`: sends data about a visitor."""

import argparse
from typing import Final

from ._sending import add_common, add_data, data_of, send

NAME: Final = "identify"
SUMMARY: Final = "send data about a visitor"
USAGE: Final = "umami identify ID [--data KEY=TEXT ...] [options]"
DESCRIPTION: Final = "Sends data about a visitor. Umami stores it with the visitor's sessions."
EXAMPLES: Final = """\
umami identify user-17 --data plan=pro seats:=3
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("id", metavar="ID", help="your own id for the visitor")
    add_data(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Sends the data."""
    from umami import Client

    return send(
        arguments,
        f"data about {arguments.id}",
        Client.identify,
        distinct_id=arguments.id,
        data=data_of(arguments),
    )
