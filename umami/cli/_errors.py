"""What ends a command early, and the exit codes.

The command says in one line what happened and what to do, and shows no traceback for what a user can mend.
"""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

OK: Final = 0
"""The command did what it was asked to."""
FAILED: Final = 1
"""It could not: the server refused or did not answer, or a check failed."""
WRONG: Final = 2
"""An argument or a setting is missing or wrong; nothing was done."""
INTERRUPTED: Final = 130
"""Ctrl-C ended it."""


class CommandError(Exception):
    """Ends the command with a message for the user.

    Args:
        message: One line: what is wrong, and what to do about it.
        code: The exit code.
    """

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def guarded(run: Callable[[], int]) -> int:
    """Runs a command, turns a user's errors into one line on stderr, and returns the exit code."""
    _open_streams()
    try:
        try:
            return run()
        finally:
            _flush()
    except CommandError as error:
        return _said(str(error), error.code)
    except (KeyboardInterrupt, EOFError):  # the latter by Ctrl-D at a question
        return _said("interrupted", INTERRUPTED)
    except UnicodeError:
        return _said("an argument, or what was read from stdin, is not valid UTF-8", WRONG)
    except OSError as error:
        # The reader of a pipe has left. Windows says so by EINVAL.
        if isinstance(error, BrokenPipeError) or (sys.platform == "win32" and error.errno == errno.EINVAL):
            return FAILED
        where = f"{error.filename}: " if error.filename else ""
        return _said(f"{where}{error.strerror or error}", FAILED)
    except Exception as error:
        if (found := _of_client(error)) is None:
            raise
        return _said(*found)


def _of_client(error: Exception) -> tuple[str, int] | None:
    """Returns the message and the exit code for an error of the client; None if it is a programming error."""
    from umami.errors import ResponseError, ValidationError

    if isinstance(error, ValidationError):
        return str(error), WRONG
    if isinstance(error, ResponseError):
        return f"{error} Is the server's URL right?", FAILED
    httpx = sys.modules.get("httpx")  # an error of httpx cannot come before its import
    if httpx is None or not isinstance(error, httpx.HTTPError):
        return None
    if isinstance(error, httpx.HTTPStatusError) and error.response.status_code == 401:
        return f"{error} Run `umami login` again, or check UMAMI_API_KEY.", FAILED
    return str(error), FAILED


def _said(message: str, code: int) -> int:
    from ._output import complain

    complain(message)
    return code


def _open_streams() -> None:
    """Opens stdout and stderr to nowhere if the caller has closed them (`>&-`)."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - to the end


def _flush() -> None:
    """Flushes stdout: that the reader of a pipe has left, or a disk is full, shows here, and not at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        # The interpreter flushes it again at exit, then to nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
