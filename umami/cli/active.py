"""`umami active`: how many visitors are on the websites now."""

import argparse
from typing import Final

from ._client import add_server, chosen_website, connected, need_login, resolved_settings
from ._errors import OK
from ._output import add_formats, show

NAME: Final = "active"
SUMMARY: Final = "show how many visitors are on your websites now"
USAGE: Final = "umami active [WEBSITE ...] [--json | --csv] [options]"
DESCRIPTION: Final = "Shows how many visitors were on a website in the last five minutes."
EXAMPLES: Final = """\
umami active                # UMAMI_WEBSITE_ID, or all websites
umami active example.com --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("websites", metavar="WEBSITE", nargs="*", help="a website's id, name or domain")
    add_formats(parser)
    add_server(parser)


def run(arguments: argparse.Namespace) -> int:
    """Shows the visitors."""
    with connected(arguments) as client:
        need_login(client)
        if arguments.websites or resolved_settings({}).website_id:
            chosen = [chosen_website(client, name) for name in arguments.websites or [None]]
        else:
            chosen = client.websites()
        rows = [
            {"id": each.id, "website": each.domain or each.name, "visitors": client.active_users(each.id)}
            for each in chosen
        ]
    show(rows, ("website", "visitors"), arguments)
    return OK
