"""`umami completion`: prints what a shell needs to complete the command's words.

The scripts are made from the arguments of the commands. Libraries for that, such as shtab and argcomplete,
would be one more dependency; argcomplete also starts Python at each press of Tab, and shtab knows no fish.
"""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ._errors import OK

NAME: Final = "completion"
SUMMARY: Final = "print the completion for bash, zsh or fish"
USAGE: Final = "umami completion {bash,zsh,fish}"
DESCRIPTION: Final = """\
Prints a script that has a shell complete commands, options and their values with Tab. It starts no Python.
"""
EXAMPLES: Final = """\
umami completion bash > ~/.local/share/bash-completion/completions/umami
umami completion zsh > "${fpath[1]}/_umami"    # then start a new shell
umami completion fish > ~/.config/fish/completions/umami.fish
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")


def run(arguments: argparse.Namespace) -> int:
    """Prints the script."""
    from . import COMMANDS, module_of

    commands = [_Command(name, module_of(name)) for name in COMMANDS]
    print({"bash": _bash, "zsh": _zsh, "fish": _fish}[arguments.shell](commands), end="")
    return OK


@dataclass
class _Option:
    """An option, or a positional argument, whose `name` is blank.

    Attributes:
        name: `--format`, say.
        help: What it means, in some words.
        takes: What follows it: `nothing`, `text`, `file` or `folder`.
        choices: The values that may follow it; empty if there are many.
        is_repeated: Whether a positional argument may be given several times.
    """

    name: str
    help: str
    takes: str
    choices: Sequence[str] = ()
    is_repeated: bool = False


@dataclass
class _Command:
    """A command with its options. It takes the place of the parser to which a command adds its arguments."""

    name: str
    module: Any
    options: list[_Option] = field(default_factory=lambda: [_Option("--help", "show the help", "nothing")])
    positionals: list[_Option] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.module.add_arguments(self)

    def add_argument(self, name: str, **given: Any) -> None:
        """Takes note of an argument."""
        text = str(given.get("help", "")) % {"default": given.get("default")}
        takes = {"FILE": "file", "FOLDER": "folder"}.get(given.get("metavar", ""), "text")
        if given.get("action") in ("store_true", "store_false"):
            takes = "nothing"
        is_option = name.startswith("--")
        option = _Option(
            name if is_option else "",
            text.partition(";")[0].partition(" (")[0],
            takes,
            given.get("choices", ()),
            is_repeated=given.get("nargs") in ("*", "+"),
        )
        (self.options if is_option else self.positionals).append(option)

    def add_argument_group(self, *_: object) -> "_Command":
        """Returns what takes the arguments of a group."""
        return self

    def add_mutually_exclusive_group(self) -> "_Command":
        """Returns what takes the arguments of a group."""
        return self


_BASH: Final = """\
# bash completion for umami, made by `umami completion bash`
_umami() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} words=
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "{commands} --help --version" -- "$current"))
        return
    fi
    case "${{COMP_WORDS[1]}} $previous" in
{values}
        *)
            case "${{COMP_WORDS[1]}} $current" in
{options}
            esac ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _umami umami
"""


def _bash(commands: Sequence[_Command]) -> str:
    values, options = [], []
    for command in commands:
        for option in command.options:
            if option.takes != "nothing":
                words = " ".join(option.choices)
                values.append(f'        "{command.name} {option.name}") words="{words}" ;;')
        names = " ".join(option.name for option in command.options)
        options.append(f'                "{command.name} -"*) words="{names}" ;;')
        words = " ".join(each for option in command.positionals for each in option.choices)
        if words:
            options.append(f'                "{command.name} "*) ((COMP_CWORD == 2)) && words="{words}" ;;')
    return _BASH.format(
        commands=" ".join(command.name for command in commands),
        values="\n".join(values),
        options="\n".join(options),
    )


_ZSH: Final = """\
#compdef umami
# zsh completion for umami, made by `umami completion zsh`
_umami() {{
    if ((CURRENT == 2)); then
        local -a commands=(
{commands}
        )
        _describe command commands
        return
    fi
    local command=$words[2]
    shift words
    ((CURRENT--))
    case $command in
{options}
    esac
}}
if [[ $funcstack[1] == _umami ]]; then _umami "$@"; else compdef _umami umami; fi
"""


def _zsh(commands: Sequence[_Command]) -> str:
    def action(option: _Option) -> str:
        if option.choices:
            return f"({' '.join(option.choices)})"
        return {"file": "_files", "folder": "_files -/", "text": " "}[option.takes]

    def spec(option: _Option) -> str:
        text = "".join(f"\\{each}" if each in "[]:\\" else each for each in option.help)
        if not option.name:
            return shlex.quote(f"{'*' if option.is_repeated else ''}:{text}:{action(option)}")
        value = "" if option.takes == "nothing" else f":{option.name[2:]}:{action(option)}"
        return shlex.quote(f"*{option.name}[{text}]{value}")

    options = [
        f"        {command.name}) _arguments "
        + " ".join(map(spec, [*command.options, *command.positionals]))
        + " ;;"
        for command in commands
    ]
    lines = [f"            {shlex.quote(f'{each.name}:{each.module.SUMMARY}')}" for each in commands]
    return _ZSH.format(commands="\n".join(lines), options="\n".join(options))


def _fish(commands: Sequence[_Command]) -> str:
    lines = [
        "# fish completion for umami, made by `umami completion fish`",
        "function __umami_is",
        "    set -l words (commandline -opc)",
        "    test (count $words) -ge 2; and test $words[2] = $argv[1]",
        "end",
        "complete -c umami -f",
        "complete -c umami -n __fish_use_subcommand -l version -d 'show the version'",
    ]
    for command in commands:
        summary = shlex.quote(command.module.SUMMARY)
        lines.append(f"complete -c umami -n __fish_use_subcommand -a {command.name} -d {summary}")
        when = f"complete -c umami -n '__umami_is {command.name}'"
        for option in command.options:
            words = f" -a {shlex.quote(' '.join(option.choices))}" if option.choices else ""
            value = {"nothing": "", "text": " -x", "file": " -r -F", "folder": " -r -F"}[option.takes]
            lines.append(f"{when} -l {option.name[2:]}{value}{words} -d {shlex.quote(option.help)}")
        for option in command.positionals:
            if option.choices:
                words = " ".join(option.choices)
                seen = f"__fish_seen_subcommand_from {words}"
                lines.append(f"{when[:-1]}; and not {seen}' -a {shlex.quote(words)}")
                when = f"{when[:-1]}; and {seen}'"
            elif option.takes in ("file", "folder"):
                lines.append(f"{when} -F")
    return "\n".join(lines) + "\n"
