"""README and documentation: every Python block runs as printed."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import metadata
from pathlib import Path

import pytest
import reliability
from cloud_proxy import Internet
from conftest import ALL_PACKAGES, DEADLINE, ROOT, with_each
from pydantic_core import PydanticUndefined

import umami
from loadtests import report
from umami.cli import main
from umami.collector import Collector
from umami.models import QueueStats
from umami.queue.reasons import DROP_REASONS
from umami.settings import Settings, environment_names

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ROW = re.compile(r"^\| `(\w+)` \| (.*?) \| (.*?) \| ", re.MULTILINE)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

QUICK = ("README.md",)
"""The pages whose blocks `make test-fast` runs."""

each_page = with_each("page", PAGES)
each_page_with_code = pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=() if page.name in QUICK else pytest.mark.slow)
        for page in PAGES
        if "```python" in page.read_text()
    ],
)


def blocks(language: str, text: str) -> list[str]:
    return [block for name, block in BLOCK.findall(text) if name == language]


@pytest.fixture(scope="session")
def runner() -> Iterator["subprocess.Popen[str]"]:
    """A process that runs pages: most of a page's time would be the imports."""
    command = [sys.executable, "-W", "error", ROOT / "tests" / "run_page.py"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield process


@each_page_with_code
def test_a_pages_blocks_run_as_printed(
    page: Path, runner: "subprocess.Popen[str]", tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    output = tmp_path_factory.mktemp("output") / "output"
    print(json.dumps([str(page), str(tmp_path), str(output)]), file=runner.stdin, flush=True)
    assert runner.stdout.readline() == "0\n", output.read_text()


@pytest.mark.slow
def test_the_first_program_of_the_readme_is_complete(
    python: Callable[..., subprocess.CompletedProcess[str]], collector: Collector, tmp_path: Path
) -> None:
    with Internet(collector, tmp_path, "umami.example.com") as internet:
        program = blocks("python", README)[0]
        assert python(program, **internet.environment).returncode == 0
    (event,) = collector.events
    assert (event.name, event.url_path, event.data) == ("signup", "/account/new", {"plan": "pro"})


@each_page
def test_a_pages_blocks_name_their_language(page: Path) -> None:
    assert {name for name, _ in BLOCK.findall(page.read_text())} <= {"python", "text", "sh"}


@each_page
def test_commands_exist(page: Path) -> None:
    extras = metadata("umami-analytics").get_all("Provides-Extra")
    makefile = (ROOT / "Makefile").read_text()
    for line in "".join(blocks("sh", page.read_text())).splitlines():
        command, *words = line.split("#")[0].split()
        if command == "make":
            assert re.search(rf"^{words[0]}:", makefile, re.MULTILINE), line
        elif command == "umami" and words[0] == "collector":
            assert main([*words, "--stop-after", "0"]) == 0, line
        elif command == "umami":
            with pytest.raises(SystemExit) as ended:
                main([*words, "--help"])
            assert ended.value.code == 0, line
        elif command.endswith("pip") and (
            named := re.search(r"umami[-_]analytics(?:\[(\w+)\]|-([\d.]+)-)?", line)
        ):
            extra, version = named.groups()
            assert extra is None or extra in extras, line
            assert version in (None, umami.__version__), line


def test_the_reasons_of_drops_are_described() -> None:
    described = dict(
        re.findall(r"^\| `(\w+)` \| ([^|]+) \|$", (ROOT / "docs/queue.md").read_text(), re.MULTILINE)
    )
    assert DROP_REASONS.items() <= described.items()
    assert all(f"`{reason}`" in str(QueueStats.__doc__) for reason in DROP_REASONS)


def settings_table() -> list[tuple[str, str, str]]:
    return ROW.findall(README.partition("[start:settings]")[2].partition("[end:settings]")[0])


def test_the_readme_lists_every_setting() -> None:
    assert sorted(name for name, _, _ in settings_table()) == sorted(Settings.model_fields)


@with_each(("name", "environment", "default"), settings_table())
def test_the_readme_says_a_settings_variables_and_default(name: str, environment: str, default: str) -> None:
    variables = tuple(re.findall(r"`(\w+)(?:=1)?`", environment))
    assert variables == environment_names(name)
    value = Settings.model_fields[name].default
    if value is None:
        assert not default.startswith("`")
    else:
        assert value is not PydanticUndefined
        assert default == f"`{value}`"


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).is_file(), target


def test_the_pages_of_figures_are_those_of_their_data() -> None:
    summary, soaks = (json.loads(path.read_text()) for path in (reliability.SUMMARY, reliability.SOAK))
    assert reliability.FINDINGS.read_text() == reliability.findings(summary, soaks)
    assert reliability.APPENDIX.read_text() == reliability.appendix(summary, soaks)
    results = json.loads(report.PERFORMANCE.read_text())
    page = report.PERFORMANCE.with_suffix(".md")
    assert page.read_text() == report.findings(results, "performance.svg")
    assert (page.parent / "appendix" / page.name).read_text() == report.tables(results)


@pytest.mark.slow
def test_the_demo_ends_with_an_error_if_its_service_fails(
    python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    program = """
        import os, sys
        import examples.demo as demo

        run_service = demo.run_service
        demo.run_service = lambda environment: run_service({**environment, "UMAMI_HOSTNAME": "not a host"})
        sys.exit(demo.main())
    """

    process = python(program, timeout=3 * DEADLINE, **ALL_PACKAGES)

    assert process.returncode == 1
    assert "The service has failed: Server error '500" in process.stderr
    assert "\r" not in process.stdout  # no bar, where nobody watches


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_example_of_a_unit(tmp_path: Path) -> None:
    unit = (ROOT / "examples" / "shop.service").read_text()
    unit = unit.replace("/opt/shop/.venv/bin/uvicorn", sys.executable)
    (tmp_path / "shop.service").write_text(unit.replace("/opt/shop", str(tmp_path)))

    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "shop.service")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)

    assert (ran.returncode, ran.stderr) == (0, "")
