"""`umami logout`: ends a login, and deletes its token."""

import argparse
from typing import Final

from . import _logins
from ._client import add_server, connected, server_url
from ._errors import OK, CommandError
from ._output import complain, say

NAME: Final = "logout"
SUMMARY: Final = "log out, and delete the token"
USAGE: Final = "umami logout [options]"
DESCRIPTION: Final = (
    "Logs out of a server, and deletes the token that `umami login` kept, even if the server is away."
)
EXAMPLES: Final = """\
umami logout
umami logout --server https://umami.example.com
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_server(parser)


def run(arguments: argparse.Namespace) -> int:
    """Logs out."""
    with connected(arguments, api_key=None) as client:  # the login that was kept, whatever UMAMI_API_KEY says
        import httpx

        url = server_url(client)
        if not _logins.forget(url):
            raise CommandError(f"there is no login at {url}")
        if client.is_logged_in():
            try:
                client.logout()
            except httpx.HTTPError as error:
                complain(f"the server was not told: {error}")
        else:
            complain("the server was not told: the login could not be read")
    say(f"Logged out of {url}.")
    return OK
