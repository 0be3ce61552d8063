"""Run scenarios in processes of their own, all at once, and compute what they should have measured."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes.nvml_library import Scenario, environment

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 180


@dataclass(frozen=True)
class Run:
    """One scenario to measure for ``seconds``, on the GPUs named (none: all), and in parts (start, length).

    With ``own_process`` the sampling has a process of its own, as in a run; the stand-in's clock is then not shared,
    so that no closed form is known.
    """

    scenario: Scenario
    seconds: float = 1.0
    gpus: tuple[str, ...] = ()
    parts: tuple[tuple[float, float], ...] = ()
    own_process: bool = False

    @property
    def request(self) -> str:
        wanted = {"seconds": self.seconds, "gpus": self.gpus, "parts": self.parts, "own_process": self.own_process}
        return json.dumps(wanted)


@dataclass(frozen=True)
class Outcome:
    """What a measuring process printed, and its exit status."""

    run: Run
    status: int
    printed: dict[str, Any]


def run_all(library: Path, runs: dict[str, Run], *, at_once: int = 100) -> dict[str, Outcome]:
    """Measure every scenario, so many at once. A process that prints no JSON fails with what it said."""
    outcomes: dict[str, Outcome] = {}
    for first in range(0, len(runs), at_once):
        batch = dict(list(runs.items())[first : first + at_once])
        with ExitStack() as stack:
            processes = {
                name: stack.enter_context(start(run, environment(library, run.scenario))) for name, run in batch.items()
            }
            outcomes |= {name: finish(runs[name], process) for name, process in processes.items()}
    return outcomes


def start(run: Run, env: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.ground_truth.measure_scenario", run.request]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(run: Run, process: subprocess.Popen[str]) -> Outcome:
    try:
        out, err = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert out, err
    return Outcome(run, process.returncode, json.loads(out))


def closed_form_joules(scenario: Scenario, gpu: int, start_s: float, end_s: float) -> float:
    """Integrate the scenario's power over a window: analytic for the sine, piece by piece for steps."""
    a, b = (t + gpu * scenario.phase_s for t in (start_s, end_s))
    if scenario.wave == "sine":
        turn = 2 * math.pi / scenario.period_s
        return scenario.mean_w * (b - a) + scenario.amplitude_w / turn * (math.cos(turn * a) - math.cos(turn * b))
    if scenario.wave == "constant":
        return scenario.mean_w * (b - a)
    levels = (
        scenario.steps_w
        if scenario.wave == "steps"
        else (
            scenario.mean_w + scenario.amplitude_w,
            scenario.mean_w - scenario.amplitude_w,
        )
    )
    dwell_s = scenario.period_s / len(levels)
    pieces = range(math.floor(a / dwell_s), math.floor(b / dwell_s) + 1)
    return sum(levels[i % len(levels)] * (min(b, (i + 1) * dwell_s) - max(a, i * dwell_s)) for i in pieces)
