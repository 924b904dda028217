"""The tokens that `umami login` keeps, one file a server, which only its owner can read.

They are in the folder for an application's state: `$XDG_STATE_HOME/umami`, which is `~/.local/state/umami` by
default; on macOS `~/Library/Application Support/umami`, on Windows `%LOCALAPPDATA%/umami`.
"""

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from ._errors import WRONG, CommandError


class Login(NamedTuple):
    """A login that was kept."""

    url: str
    username: str
    token: str


def folder() -> Path:
    """Returns where logins are kept.

    Raises:
        CommandError: The user has no home directory, as in a container with a user id of its own.
    """
    if sys.platform == "win32":
        base, usual = os.environ.get("LOCALAPPDATA"), "AppData/Local"
    elif sys.platform == "darwin":
        base, usual = None, "Library/Application Support"
    else:
        base, usual = os.environ.get("XDG_STATE_HOME"), ".local/state"
    if base and Path(base).is_absolute():  # a relative one is to be ignored
        return Path(base) / "umami"
    try:
        return Path.home() / usual / "umami"
    except RuntimeError:
        raise CommandError("this user has no home directory to keep files in: set HOME", WRONG) from None


def keep(url: str, username: str, token: str) -> Path:
    """Keeps a login, in place of an earlier one at the same server, and returns its file."""
    path = _file(url)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = {"url": one_form(url), "username": username, "token": token}
    # A temporary file is its owner's alone from the beginning, and a reader never sees half of it.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".login-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def find(url: str) -> Login | None:
    """Returns the login at a server, if one was kept.

    Raises:
        CommandError: It cannot be read.
    """
    return _read(_file(url))


def forget(url: str) -> bool:
    """Deletes the login at a server; tells whether there was one."""
    try:
        _file(url).unlink()
    except FileNotFoundError:
        return False
    return True


def all_logins() -> list[Login]:
    """Returns every login that was kept.

    Raises:
        CommandError: One of them cannot be read.
    """
    return [login for path in sorted(folder().glob("*.json")) if (login := _read(path))]


def _file(url: str) -> Path:
    shown = one_form(url)
    host = urlsplit(shown).hostname or "server"
    safe = "".join(each if each.isalnum() or each in ".-" else "_" for each in host)[:100]
    return folder() / f"{safe}-{hashlib.sha256(shown.encode()).hexdigest()[:12]}.json"


def one_form(url: str) -> str:
    """Returns a server's URL in one form, without a proxy's user and password."""
    parts = urlsplit(url.strip())
    return parts._replace(netloc=parts.netloc.rpartition("@")[2].lower()).geturl().rstrip("/")


def _read(path: Path) -> Login | None:
    """Returns the login in a file; None if there is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        login = Login(content["url"], content["username"], content["token"])
        if all(isinstance(each, str) and each for each in login):
            return login
        why = "it is damaged"
    except FileNotFoundError:
        return None
    except OSError as error:
        why = str(error.strerror)
    except (ValueError, LookupError, TypeError, RecursionError):
        why = "it is damaged"
    raise CommandError(
        f"the login in {path} cannot be read, {why}: delete it, and run `umami login` again", WRONG
    )
