"""The client that a command works with: made of its options, the environment, and what `umami login` kept."""

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ._errors import WRONG, CommandError
from ._output import printable

if TYPE_CHECKING:
    from umami import Client
    from umami.models import Website
    from umami.settings import Settings

logger: Final = logging.getLogger("umami")
_QUIET: Final = logging.NullHandler()  # with a handler, Python itself prints nothing on stderr


def add_server(parser: argparse.ArgumentParser) -> None:
    """Adds the options that every command with a server has."""
    group = parser.add_argument_group("server")
    group.add_argument("--server", metavar="URL", help="the Umami server (default: UMAMI_URL)")
    group.add_argument("--timeout", metavar="SECONDS", type=float, help="per request (default: 10)")
    group.add_argument("--verbose", action="store_true", help="print each request on stderr")


def add_website(parser: argparse.ArgumentParser) -> None:
    """Adds the argument that `chosen_website` takes."""
    parser.add_argument(
        "website",
        metavar="WEBSITE",
        nargs="?",
        help="a website's id, name or domain (default: UMAMI_WEBSITE_ID)",
    )


@contextlib.contextmanager
def connected(arguments: argparse.Namespace, **settings: Any) -> "Iterator[Client]":
    """Yields a client for the server that the arguments or the environment name, logged in if it can be.

    Args:
        arguments: Those of `add_server`.
        **settings: Further settings of the client.

    Raises:
        CommandError: No server is named.
    """
    import umami

    from . import _logins

    with log_shown(verbose=arguments.verbose):
        own = {"spool": None, "rejected": None, "mode": "queued", **settings}
        own |= server_settings(arguments, **settings)
        resolved = resolved_settings(own)
        client = umami.Client(**own)
        if resolved.api_key is None and (url := own.get("url_base") or resolved.url_base):
            with contextlib.suppress(CommandError):  # `need_login` tells, if the command needs it
                if login := _logins.find(url):
                    client.set_token(login.token)
        try:
            yield client
        finally:
            client.shutdown(timeout=0)


def server_settings(arguments: argparse.Namespace, **settings: Any) -> dict[str, Any]:
    """Returns the settings that the options of `add_server` make; the server may be that of the only login.

    Args:
        arguments: Those of `add_server`.
        **settings: Further settings of the client.

    Raises:
        CommandError: No server is named.
    """
    given = {"url_base": arguments.server, "timeout": arguments.timeout}
    given = {name: value for name, value in given.items() if value is not None}
    resolved = resolved_settings({**settings, **given})
    if not (resolved.url_base or resolved.api_key):
        given["url_base"] = _only_login()
    return given


def resolved_settings(own: dict[str, Any]) -> "Settings":
    """Returns all settings, the environment's included."""
    from umami.settings import resolve

    return resolve(own)


def need_login(client: "Client") -> None:
    """Raises a CommandError unless there is a login or an API key."""
    from . import _logins

    if not client.is_logged_in():
        _logins.find(server_url(client))  # which raises the error if there is one that cannot be read
        raise CommandError("you are not logged in: run `umami login`, or set UMAMI_API_KEY", WRONG)


def server_url(client: "Client") -> str:
    """Returns the URL of the server that a client uses, without a proxy's user and password."""
    return repr(client).removeprefix("<umami.Client to ").removesuffix(">")


def chosen_website(client: "Client", name: str | None) -> "Website":
    """Returns the website with an id, a name or a domain; by default `UMAMI_WEBSITE_ID`, or the only one.

    Raises:
        CommandError: There is no such website, or none is named and there are several.
    """
    wanted = name or resolved_settings({}).website_id
    websites = client.websites()
    if wanted is None and len(websites) == 1:
        return websites[0]
    if wanted is None:
        raise CommandError(f"name a website, or set UMAMI_WEBSITE_ID: {_listed(websites)}", WRONG)
    found = [each for each in websites if each.id == wanted.lower()]
    found = found or [each for each in websites if wanted in (each.name, each.domain)]
    if not found:
        raise CommandError(f"this login sees no website {wanted}: {_listed(websites)}")
    if len(found) > 1:
        ids = ", ".join(each.id for each in found)
        raise CommandError(f"there are {len(found)} websites {wanted}: name one by its id, {ids}", WRONG)
    return found[0]


def _listed(websites: "list[Website]") -> str:
    if not websites:
        return "there is none yet"
    names = [each.domain or each.name or each.id for each in websites]
    return f"there are {', '.join(names[:5])}{' and others (umami websites)' if len(names) > 5 else ''}"


def _only_login() -> str:
    from . import _logins

    logins = _logins.all_logins()
    if len(logins) == 1:
        return logins[0].url
    if logins:
        urls = " or ".join(each.url for each in logins)
        raise CommandError(f"you are logged in to several servers: pass --server {urls}", WRONG)
    raise CommandError("no server is set: set UMAMI_URL, or pass --server URL", WRONG)


@contextlib.contextmanager
def log_shown(*, verbose: bool) -> Iterator[None]:
    """Shows the client's log on stderr, or keeps it from there: the command says itself what happened.

    It is kept from there until the process ends, when the client would tell of unsent events again.
    """
    logger.addHandler(_QUIET)
    level = logger.level
    handler = logging.StreamHandler(sys.stderr)
    if verbose:
        handler.setFormatter(_Printable("%(levelname)s %(message)s"))
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Printable(logging.Formatter):
    """Formats a record as one line that is safe for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        return printable(super().format(record))
