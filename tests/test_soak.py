"""A short soak test: some seconds of steady events to servers that fail at random."""

import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow

MOST_SECONDS = 300


@pytest.mark.skipif(sys.platform != "linux", reason="the soak reads /proc")
def test_nothing_is_lost_doubled_or_leaked_under_random_faults() -> None:
    command = [sys.executable, "-m", "loadtests.soak", "--seconds", "6", "--rate", "200", "--seed", "1"]
    done = subprocess.run(
        [*command, "--spool"], cwd=ROOT, timeout=MOST_SECONDS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.endswith("all checks passed\n")
