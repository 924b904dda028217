"""Runs a scenario: all cases in turn, for several rounds, so that noise affects all of them alike."""

import os
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from . import environments
from .harness import measure
from .model import Case, MeasurementError, Rounds, Scenario
from .results import Result, summary


def run_scenario(
    scenario: Scenario, rounds: int, *, peers: bool = True, progress: TextIO = sys.stderr
) -> Result:
    """Measure a scenario and return its result.

    Args:
        scenario: What to measure.
        rounds: How often each case is measured.
        peers: Whether to measure the peers too.
        progress: Where to write the progress.
    """
    cases = [case for case in scenario.cases if peers or environments.pinned(case.subject) is None]
    left_out: dict[str, str] = {}
    found: Rounds = []
    load, began = os.getloadavg()[0], time.monotonic()
    for number in range(rounds):
        measured: dict[str, dict[str, float]] = {}
        found.append(measured)
        # Every second round runs in reverse order, so that a drift of the machine favours no case.
        for index, case in enumerate(_in_turn(cases, number)):
            if case.name in left_out:
                continue
            _tell(
                progress,
                f"{scenario.name}: round {number + 1}/{rounds}, {index + 1}/{len(cases)} {case.name}",
            )
            try:
                measured[case.name] = measure(case)
            except MeasurementError as error:
                left_out[case.name] = str(error)
    _tell(progress, "")
    result = summary(scenario, found, left_out)
    result["seconds"] = round(time.monotonic() - began, 1)
    result["load"] = [round(load, 2), round(os.getloadavg()[0], 2)]
    return result


def _in_turn(cases: Sequence[Case], number: int) -> Sequence[Case]:
    return cases[::-1] if number % 2 else cases


def _tell(progress: TextIO, text: str) -> None:
    if progress.isatty():
        progress.write(f"\r\033[K{text}")
    elif text:
        progress.write(f"{text}\n")
    progress.flush()
