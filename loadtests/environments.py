"""A virtual environment for each client, with only the packages that its users would have.

Other packages would change the results: httpx imports trio if it is installed, and Sentry's client uses
Brotli if statsig installed it. `python -m loadtests setup` creates the environments in `.venv-loadtests/` (or
`$LOADTEST_ENVIRONMENTS`). A peer's environment has the package of its line in `peers.txt`. This client and
the floor share one with this client's dependencies. All have the web server of the scenario `service`.
"""

import compileall
import importlib.metadata
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

from .peers import REQUIREMENTS

ROOT: Final = Path(__file__).resolve().parent.parent
PEERS: Final = Path(__file__).with_name("peers.txt")
_SERVER: Final = ("starlette", "uvicorn")
_OURS: Final = ("anyio", "httpx", "pydantic", "tenacity")


def directory() -> Path:
    """Return the folder of the environments."""
    return Path(os.environ.get("LOADTEST_ENVIRONMENTS") or ROOT / ".venv-loadtests")


def pinned(subject: str) -> str | None:
    """Return a peer's line of `peers.txt`; None if the subject is not a peer."""
    package = REQUIREMENTS.get(subject)
    if package is None:
        return None
    lines = PEERS.read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{package}=="))


def interpreter(subject: str) -> Path | None:
    """Return the Python to run a subject with; None if it is a peer that is not installed.

    Without an environment of their own, this client and the floor run with the current Python.
    """
    line = pinned(subject)
    if _is_made(subject if line else "ours"):
        return directory() / (subject if line else "ours") / "bin" / "python"
    return None if line else Path(sys.executable)


def is_clean() -> bool:
    """Tell whether this client has an environment of its own."""
    return _is_made("ours")


def _is_made(name: str) -> bool:
    """Tell whether an environment exists and has the right packages."""
    contents = directory() / name / "installed.txt"
    return contents.exists() and contents.read_text().split() == _packages(name)


def _packages(name: str) -> list[str]:
    """Return the packages of an environment. Those not in `peers.txt` have the versions installed here."""
    line = pinned(name)
    here = [] if line else list(_OURS)
    return [
        *([line] if line else []),
        *(f"{package}=={importlib.metadata.version(package)}" for package in (*here, *_SERVER)),
    ]


def import_path(subject: str) -> list[Path]:
    """Return the import path of a subject: `loadtests` for all, and `umami` for this client only.

    `$LOADTEST_CLIENT` names another folder to import `umami` from, such as a checkout of another version.
    """
    if pinned(subject) is None and "LOADTEST_CLIENT" not in os.environ:
        return [ROOT]
    alone = directory() / "path"
    alone.mkdir(parents=True, exist_ok=True)
    link, package = alone / "loadtests", Path(__file__).parent
    if link.resolve() != package.resolve():  # missing, or for a checkout that was removed
        link.unlink(missing_ok=True)
        link.symlink_to(package, target_is_directory=True)
    return [alone] if pinned(subject) else [alone, Path(os.environ["LOADTEST_CLIENT"]).resolve()]


def compile_ours() -> None:
    """Compile this client to bytecode, as pip does with the peers when it installs them."""
    sources = Path(os.environ.get("LOADTEST_CLIENT") or ROOT) / "umami"
    compileall.compile_dir(sources, quiet=1)


def variables(subject: str) -> dict[str, str]:
    """Return the environment variables of a subject's process, without any that would configure it."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(map(str, import_path(subject))),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": os.environ.get("PYTHONDONTWRITEBYTECODE", ""),
    }


def install() -> list[str]:
    """Create the missing environments; return an error message for each that failed."""
    wrong = []
    for name in ("ours", *REQUIREMENTS):
        if _is_made(name):
            continue
        packages = _packages(name)
        print(f"installing {' '.join(packages)} …", file=sys.stderr, flush=True)
        home = directory() / name
        venv.create(home, clear=True, with_pip=True)
        command = [
            str(home / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        done = subprocess.run([*command, *packages], check=False, capture_output=True, text=True)
        if done.returncode:
            wrong.append(f"{name}: {done.stderr.strip()[-300:]}")
        else:
            (home / "installed.txt").write_text("\n".join([*packages, ""]))
    return wrong


def versions() -> dict[str, str]:
    """Return the version of each installed subject, by name."""
    found = {
        package: importlib.metadata.version(package) for package in ("httpx", "pydantic", "pydantic_core")
    }
    for subject in REQUIREMENTS:
        if interpreter(subject) is not None:
            found[subject] = (pinned(subject) or "").partition("==")[2]
    return found
