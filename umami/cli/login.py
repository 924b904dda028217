"""`umami login`: logs in to a self-hosted server, and keeps the token for later commands."""

import argparse
import os
import sys
from typing import TYPE_CHECKING, Final

from . import _logins
from ._client import add_server, connected, resolved_settings, server_url
from ._errors import FAILED, OK, WRONG, CommandError
from ._output import say

if TYPE_CHECKING:
    from umami import Client

NAME: Final = "login"
SUMMARY: Final = "log in to a server, for queries such as stats"
USAGE: Final = "umami login [--username NAME] [--password-stdin] [--code CODE] [options]"
DESCRIPTION: Final = """\
Logs in to a self-hosted server, and keeps the token in a file that only you can read. The password is asked
for, or read from UMAMI_PASSWORD or stdin. It is not taken as an argument, which other users of the machine
could see, and it is not kept.

Umami Cloud has no login: set UMAMI_API_KEY.
"""
EXAMPLES: Final = """\
umami login --server https://umami.example.com --username admin
pass show umami | umami login --username admin --password-stdin
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--username", metavar="NAME", help="the account (default: UMAMI_USERNAME, or asked)")
    parser.add_argument("--password-stdin", action="store_true", help="read the password from stdin")
    parser.add_argument("--code", help="for an account with a second factor: its code (default: asked)")
    add_server(parser)


def run(arguments: argparse.Namespace) -> int:
    """Logs in."""
    if resolved_settings({}).api_key is not None:
        raise CommandError("UMAMI_API_KEY is set, and is the credential: no login is needed", WRONG)
    with connected(arguments) as client:
        url = server_url(client)
        username = arguments.username or os.environ.get("UMAMI_USERNAME") or _asked_name()
        password = _password(arguments, username, url)
        f"{username}{password}".encode()  # or it is no text that can be sent
        token = _token(client, arguments.code, username, password)
    path = _logins.keep(url, username, token)
    say(f"Logged in to {url} as {username}. The token is kept in {path}.")
    return OK


def _token(client: "Client", code: str | None, username: str, password: str) -> str:
    import httpx

    from umami.errors import OperationNotAllowedError

    try:
        return client.login(username, password, code=code).token
    except OperationNotAllowedError as error:  # the account has a second factor
        if code is not None or not sys.stdin.isatty():
            raise CommandError("the account has a second factor: pass its code with --code", WRONG) from error
        return _token(client, input("Code of the second factor: "), username, password)
    except httpx.HTTPStatusError as error:
        if error.response.status_code == 401:
            raise CommandError(f"{error} The user name or the password is wrong.", FAILED) from error
        raise


def _asked_name() -> str:
    if not sys.stdin.isatty():
        raise CommandError("no user name: pass --username NAME, or set UMAMI_USERNAME", WRONG)
    return input("User name: ").strip()


def _password(arguments: argparse.Namespace, username: str, url: str) -> str:
    if arguments.password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif os.environ.get("UMAMI_PASSWORD"):
        password = os.environ["UMAMI_PASSWORD"]
    elif sys.stdin.isatty():
        import getpass

        password = getpass.getpass(f"Password of {username} at {url}: ")
    else:
        raise CommandError(
            "no password: there is no terminal to ask on, so pass --password-stdin or set UMAMI_PASSWORD",
            WRONG,
        )
    if not password:
        raise CommandError("the password is empty", WRONG)
    return password
