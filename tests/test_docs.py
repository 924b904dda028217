"""What the README says of the settings, and its programs, against the code."""

import re
from pathlib import Path

import pytest
from conftest import ROOT
from pydantic_core import PydanticUndefined

from umami.settings import Settings, environment_names

README = (ROOT / "README.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| (.*?) \| (.*?) \| ", re.MULTILINE)


def settings_table() -> list[tuple[str, str, str]]:
    return ROW.findall(README.partition("[start:settings]")[2].partition("[end:settings]")[0])


def test_the_readme_lists_every_setting() -> None:
    assert sorted(name for name, _, _ in settings_table()) == sorted(Settings.model_fields)


@pytest.mark.parametrize(("name", "environment", "default"), settings_table())
def test_the_readme_says_a_settings_variables_and_default(name: str, environment: str, default: str) -> None:
    variables = tuple(re.findall(r"`(\w+)(?:=1)?`", environment))
    assert variables == environment_names(name)
    value = Settings.model_fields[name].default
    if value is None:
        assert not default.startswith("`")
    else:
        assert value is not PydanticUndefined
        assert default == f"`{value}`"


def test_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", README):
        assert (ROOT / target).is_file(), target


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_programs_in_the_docs_are_python(page: Path) -> None:
    for text in (README, page.read_text()):
        for program in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            compile(program, "docs", "exec")
