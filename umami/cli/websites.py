"""`umami websites`: lists the websites of the account and its teams."""

import argparse
from typing import Final

from ._client import add_server, connected, need_login
from ._errors import OK
from ._output import add_formats, show

NAME: Final = "websites"
SUMMARY: Final = "list the websites of your account and its teams"
USAGE: Final = "umami websites [--json | --csv] [options]"
DESCRIPTION: Final = "Lists the websites of the account and its teams. JSON has all that Umami says of them."
EXAMPLES: Final = """\
umami websites
umami websites --csv > websites.csv
umami websites --json | jq -r '.[] | select(.domain == "example.com") | .id'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_formats(parser)
    add_server(parser)


def run(arguments: argparse.Namespace) -> int:
    """Lists the websites."""
    with connected(arguments) as client:
        need_login(client)
        rows = [website.model_dump() for website in client.websites()]
    show(rows, ("id", "name", "domain", "createdAt"), arguments)
    return OK
