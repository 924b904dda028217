"""The help of each command, as it is in tests/help, and the completion of the shells.

With UMAMI_WRITE_HELP=1, the files in tests/help are made anew.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import with_each

from umami.cli import COMMANDS, main

PAGES = Path(__file__).parent / "help"
WRITES = "UMAMI_WRITE_HELP" in os.environ


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit, match="0"):
        main(words)
    return capsys.readouterr().out


@with_each("name", ["umami", *COMMANDS])
def test_the_help_is_as_it_was_reviewed(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("UMAMI_SPOOL", raising=False)
    shown = printed(capsys, *([] if name == "umami" else [name]), "--help")
    page = PAGES / f"{name}.txt"
    if WRITES:
        page.write_text(shown, "utf-8")
    assert shown == page.read_text("utf-8")


def test_there_is_no_help_of_another_command():
    assert {page.stem for page in PAGES.iterdir()} == {"umami", *COMMANDS}


@with_each("name", COMMANDS)
def test_help_fits_a_narrow_terminal(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    shown = printed(capsys, name, "--help").partition("examples:")[0]
    usage, _, rest = shown.partition("\n")
    assert usage.startswith(f"usage: umami {name} ")
    assert max(map(len, rest.splitlines())) <= 60


@pytest.fixture
def script(capsys, tmp_path):
    def script(shell: str) -> Path:
        assert main(["completion", shell]) == 0
        file = tmp_path / f"umami.{shell}"
        file.write_text(capsys.readouterr().out)
        return file

    return script


def completed(shell: str, program: str) -> str:
    if (found := shutil.which(shell)) is None:
        pytest.skip(f"{shell} is not installed")
    flags = ["--no-config"] if shell == "fish" else ["-f"] if shell == "zsh" else []
    return subprocess.run(
        [found, *flags, "-c", program], capture_output=True, text=True, check=True, timeout=60
    ).stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("umami im", "import"),
        ("umami import --form", "--format --format-regex"),
        ("umami import --format c", "combined cloudfront"),
        ("umami spool ''", "list send clear"),
        ("umami spool list ''", ""),
        ("umami spool --t", "--timeout"),
        ("umami import acc", ""),
    ],
)
def test_bash_completes(words, expected, script):
    program = (
        f"source {script('bash')}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _umami; "
    )
    assert completed("bash", program + 'echo "${COMPREPLY[*]}"').strip() == expected


def test_fish_completes(script):
    lines = ("umami import --format ", "umami spool ", "umami spool list cle")
    asked = "; echo; ".join(f"complete -C '{line}'" for line in lines)
    shown = completed("fish", f"source {script('fish')}; {asked}")
    formats, actions, later = (
        [line.split("\t")[0] for line in part.split("\n")] for part in shown.split("\n\n")
    )
    assert formats[:3] == ["alb", "auto", "cloudfront"]
    assert actions == ["clear", "list", "send"]
    assert "clear" not in later


@pytest.mark.slow
def test_zsh_can_read_its_script(script):
    completed(
        "zsh", f"autoload -U compinit; compinit -u -D; source {script('zsh')}; [[ -n $functions[_umami] ]]"
    )
