import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.nvml_library import Scenario, environment
from tests.ground_truth.scenarios import ROOT, TIMEOUT_S

pytestmark = pytest.mark.skipif(importlib.util.find_spec("zeus") is None, reason="zeus, the oracle, is not installed")

SECONDS = 60.0  # zeus cuts at the counter's last step, 0.1 s of power at an edge: 0.2% of a window this long
SCENARIOS = {
    "constant x8": Scenario(mean_w=523.0, gpus=8),
    "sine x2": Scenario(wave="sine", amplitude_w=100.0, period_s=3.3, gpus=2, phase_s=0.9),
    "square x1": Scenario(wave="square", amplitude_w=100.0, period_s=10.0),
}


@pytest.fixture(scope="module")
def outcomes(nvml: Path) -> dict[str, dict]:
    command = [sys.executable, "-m", "tests.ground_truth.zeus_scenario", str(SECONDS)]
    processes = {
        name: subprocess.Popen(
            command, cwd=ROOT, env=environment(nvml, scenario.but(time_scale=10.0)), stdout=subprocess.PIPE, text=True
        )
        for name, scenario in SCENARIOS.items()
    }
    return {name: json.loads(process.communicate(timeout=TIMEOUT_S)[0]) for name, process in processes.items()}


@pytest.mark.parametrize("name", SCENARIOS)
def test_zeus_and_the_harness_agree_within_half_a_percent_on_every_gpu(outcomes, name):
    outcome = outcomes[name]
    assert len(outcome["zeus_j"]) == SCENARIOS[name].gpus
    assert min(outcome["zeus_j"]) > 300.0 * SECONDS
    busy = outcome["apart_s"] / SECONDS  # how far apart the edges of both may lie: far, if a busy machine paused there
    for zeus_j, harness_j in zip(outcome["zeus_j"], outcome["harness_j"], strict=True):
        assert harness_j == pytest.approx(zeus_j, rel=0.005 + busy)
