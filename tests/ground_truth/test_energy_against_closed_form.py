import math
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.nvml_library import Failure, Scenario
from tests.ground_truth.scenarios import Outcome, Run, closed_form_joules, run_all

SECONDS = 34.0
TIME_SCALE = 3.0
AT_ONCE = (6, 2)  # more would starve one another on a small machine; fewer, where others keep it busy
PARTS = (
    *((1.7 * number, 10.0) for number in range(14)),
    *((0.9 + 2.3 * number, 20.0) for number in range(6)),
    (0.6, 30.0),
    (3.1, 30.0),
)
LONGEST_PAUSE_S, WIDEST_STEP_S = 0.15, 0.03  # an edge where the sampling could not keep its pace is not known as well
MOST_DROPPED = 0.5
"""Of the windows of a scenario, or it is measured again, and of all together: else what is left would be no study."""

levels = np.random.default_rng(20)


def random_steps(number: int) -> tuple[float, ...]:
    return tuple(levels.uniform(300.0, 500.0, number).round(1).tolist())


WAVES = {
    "sine": Scenario(wave="sine", amplitude_w=100.0),
    "square": Scenario(wave="square", amplitude_w=100.0),
    "random steps": Scenario(wave="steps", steps_w=random_steps(7)),
}
CASES = [(wave, period_s) for wave in WAVES for period_s in (1.0, 3.3, 10.0)]
SCENARIOS = {
    "constant x8": Scenario(mean_w=523.0, gpus=8, phase_s=0.37),
    **{
        f"{wave} {period_s:g} s x{number % 8 + 1}": WAVES[wave].but(
            period_s=period_s, gpus=number % 8 + 1, phase_s=0.37 * period_s
        )
        for number, (wave, period_s) in enumerate(CASES)
    },
    "sine without counter x2": WAVES["sine"].but(
        period_s=4.3,
        gpus=2,
        failures=(Failure("nvmlDeviceGetTotalEnergyConsumption"), Failure("83")),
    ),
}
RUNS = {
    name: Run(scenario.but(time_scale=TIME_SCALE), SECONDS, parts=PARTS) for name, scenario in SCENARIOS.items()
} | {
    "square 3.3 s x2 in real time": Run(
        WAVES["square"].but(period_s=3.3, gpus=2, phase_s=0.37),
        13.0,
        parts=tuple((0.1 + 0.4 * number, 10.0) for number in range(7)),
    )
}
COUNTED = [name for name in RUNS if "without" not in name]


@pytest.fixture(scope="module")
def outcomes(nvml: Path) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    for at_once in AT_ONCE:
        out_of_pace = {name: run for name, run in RUNS.items() if name not in outcomes or not kept_up(outcomes[name])}
        outcomes |= run_all(nvml, out_of_pace, at_once=at_once)
    return outcomes


def kept_up(outcome: Outcome) -> bool:
    return len(in_pace(outcome)) >= (1 - MOST_DROPPED) * len(outcome.printed["parts"])


def in_pace(outcome: Outcome) -> list[dict]:
    parts = outcome.printed["parts"]
    return [part for part in parts if part["pause_s"] <= LONGEST_PAUSE_S and part["step_bound_s"] <= WIDEST_STEP_S]


def cuts(outcome: Outcome) -> list[dict]:
    """The parts whose edges the sampling kept up with."""
    kept = in_pace(outcome)
    assert kept, "the sampler could not keep its pace around any window"
    return kept


def test_most_windows_are_cut_where_the_sampling_kept_its_pace(outcomes):
    windows = {name: len(outcome.printed["parts"]) for name, outcome in outcomes.items()}
    dropped = {name: windows[name] - len(cuts(outcome)) for name, outcome in outcomes.items()}
    assert sum(dropped.values()) <= MOST_DROPPED * sum(windows.values()), dropped


def errors_j(outcome: Outcome, part: dict, quantity: str) -> list[tuple[float, float]]:
    """The error of each GPU's joules, and the true ones."""
    true_j = [
        closed_form_joules(outcome.run.scenario, gpu, part["start_s"], part["end_s"])
        for gpu in range(outcome.run.scenario.gpus)
    ]
    return [(device[quantity] - true, true) for device, true in zip(part["window"]["devices"], true_j, strict=True)]


@pytest.mark.parametrize("name", COUNTED)
def test_joules_of_every_gpu_and_window_are_within_half_a_percent_of_the_closed_form(outcomes, name):
    for part in cuts(outcomes[name]):
        for error_j, true_j in errors_j(outcomes[name], part, "joules"):
            assert abs(error_j) < 0.005 * true_j
        assert part["window"]["reasons"] in ([], ["power_gap"])
        assert {device["method"] for device in part["window"]["devices"]} == {"counter"}


@pytest.mark.parametrize("name", COUNTED)
def test_the_error_is_within_the_bound_stated_for_the_edges(outcomes, name):
    for part in cuts(outcomes[name]):
        errors = errors_j(outcomes[name], part, "joules")
        for (error_j, _), device in zip(errors, part["window"]["devices"], strict=True):
            assert abs(error_j) < device["edge_bound_j"]


@pytest.mark.parametrize("name", RUNS)
def test_integrated_power_agrees_with_the_closed_form_once_its_lag_is_undone(outcomes, name):
    for part in cuts(outcomes[name]):
        for error_j, true_j in errors_j(outcomes[name], part, "integral_j"):
            assert abs(error_j) < 0.02 * true_j


@pytest.mark.parametrize("name", RUNS)
def test_the_total_is_the_sum_of_the_gpus_and_the_mean_power_its_rate(outcomes, name):
    for part in outcomes[name].printed["parts"]:
        window = part["window"]
        assert window["joules"] == pytest.approx(math.fsum(device["joules"] for device in window["devices"]))
        assert window["mean_w"] == pytest.approx(window["joules"] / (part["end_s"] - part["start_s"]))


def test_without_an_energy_counter_power_is_integrated(outcomes):
    outcome = outcomes["sine without counter x2"]
    for part in cuts(outcome):
        assert {device["method"] for device in part["window"]["devices"]} == {"integral"}
        assert {device["edge_bound_j"] for device in part["window"]["devices"]} == {None}
