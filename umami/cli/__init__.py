"""The command `umami`. Each command is a module of its own, which is imported when it is asked for.

A command's module has these names:

- `NAME`, `SUMMARY`, `USAGE`, `DESCRIPTION`, `EXAMPLES`: what `--help` says;
- `add_arguments(parser)`: its arguments;
- `run(arguments)`: does it, and returns the exit code, or raises a `CommandError`.

It imports what is slow to import, the client included, in `run`: so `--help` and a wrong argument are
answered at once.
"""

import argparse
import functools
import sys
from collections.abc import Sequence
from importlib import import_module
from keyword import iskeyword
from typing import Any, Final

from ._errors import guarded
from ._parser import Formatter

COMMANDS: Final = (
    *("event", "page-view", "revenue", "identify"),
    *("login", "logout", "websites", "stats", "active", "export"),
    *("import", "doctor", "collector", "demo", "spool", "completion"),
)
"""The commands. Each one's module has its name, with `_` in place of `-` and after a keyword of Python."""

_DESCRIPTION: Final = """\
Sends events to Umami and shows what it has counted, from the terminal. The server, the website and all other
settings are read from the environment, as by the Python client: UMAMI_URL, UMAMI_WEBSITE_ID, UMAMI_HOSTNAME.
"""
_EXIT_CODES: Final = """\
Exit codes: 0 done, 1 failed, 2 wrong arguments or settings, 130 interrupted.

"umami COMMAND --help" explains a command, with examples.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: The arguments; by default, those of the process.

    Returns:
        The exit code.

    Example:
        ```python
        main(["collector", "--stop-after", "60"])
        ```
    """
    words = sys.argv[1:] if argv is None else list(argv)
    return guarded(functools.partial(_run, words))


def _run(words: Sequence[str]) -> int:
    if not words or words[0] not in COMMANDS:
        parser = _parser()
        parser.parse_args(words)  # which ends with the help, the version or an error
        parser.error("the first argument must be a command")
    command = module_of(words[0])
    # Options may stand anywhere among the arguments, which argparse's own subcommands do not allow.
    return int(command.run(_parser_of(command).parse_intermixed_args(words[1:])))


class _Parser(argparse.ArgumentParser):
    def format_help(self) -> str:
        """Returns the help, with the commands' summaries: they take a while to import."""
        width = max(map(len, COMMANDS))
        commands = "\n".join(f"{name:{width}}  {module_of(name).SUMMARY}" for name in COMMANDS)
        self.epilog = f"commands:\n{commands}\n\n{_EXIT_CODES}"
        return super().format_help()


def _parser() -> argparse.ArgumentParser:
    """Returns the parser for what precedes a command."""
    from umami import __version__

    parser = _Parser(
        prog="umami",
        usage="umami COMMAND [arguments]",
        description=_DESCRIPTION,
        formatter_class=Formatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"umami {__version__}", help="show the version"
    )
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help=argparse.SUPPRESS)
    return parser


def _parser_of(command: Any) -> argparse.ArgumentParser:
    """Returns the parser for a command's arguments."""
    parser = argparse.ArgumentParser(
        prog=f"umami {command.NAME}",
        usage=command.USAGE,
        description=command.DESCRIPTION,
        epilog=f"examples:\n{command.EXAMPLES}",
        formatter_class=Formatter,
    )
    command.add_arguments(parser)
    return parser


def module_of(name: str) -> Any:
    """Returns the module of a command."""
    module = name.replace("-", "_")
    return import_module(f"{__name__}.{module}{'_' if iskeyword(module) else ''}")
