from pathlib import Path

import pytest

from tests.fakes.nvml_library import GPU_IS_LOST, TIMEOUT, UNKNOWN, Failure, Scenario, uuid
from tests.ground_truth.scenarios import Outcome, Run, closed_form_joules, run_all

CONSTANT = Scenario(mean_w=523.0)
SINE = Scenario(wave="sine", mean_w=450.0, amplitude_w=150.0, period_s=4.3, phase_s=0.61)
SQUARE = Scenario(wave="square", mean_w=400.0, amplitude_w=150.0, period_s=2.3, phase_s=0.37)
STEPS = Scenario(wave="steps", steps_w=(300.0, 600.0, 400.0), period_s=6.6, phase_s=1.1)
NO_COUNTER = (Failure("nvmlDeviceGetTotalEnergyConsumption"),)

# The counter moves every 0.1 s, so that its difference is known to 0.1 s of power at an edge. None of these
# waves exceeds 1.4 times its mean: 15 s keep even the worst case under 1%.
ACCURATE_S = 15.0

RUNS = {
    **{f"constant x{n}": Run(CONSTANT.but(gpus=n), ACCURATE_S) for n in (1, 8)},
    **{f"sine x{n}": Run(SINE.but(gpus=n), ACCURATE_S) for n in (1, 8)},
    **{f"steps x{n}": Run(STEPS.but(gpus=n), ACCURATE_S) for n in (1, 8)},
    "square x2": Run(SQUARE.but(gpus=2), ACCURATE_S),
    "no counter": Run(SINE.but(failures=NO_COUNTER), ACCURATE_S),
    "gain": Run(CONSTANT.but(power_gain=1.05), 6.0),
    "one of two": Run(CONSTANT.but(gpus=2), 2.0, (uuid(1),)),
    "reset": Run(CONSTANT.but(reset_s=3.0), 6.0),
    "stuck": Run(CONSTANT.but(stuck_s=2.5), 6.0),
    "lost": Run(CONSTANT.but(gpus=2, failures=(Failure("*", GPU_IS_LOST, 3.0, gpu=1),)), 6.0),
    "counter fails": Run(CONSTANT.but(failures=(Failure("nvmlDeviceGetTotalEnergyConsumption", TIMEOUT, 3.0),)), 6.0),
    "field fails": Run(CONSTANT.but(failures=(Failure("185", UNKNOWN, 3.0),)), 6.0),
    "temperature fails": Run(CONSTANT.but(failures=(Failure("nvmlDeviceGetTemperature", UNKNOWN, 1.0),)), 3.0),
}


@pytest.fixture(scope="module")
def outcomes(nvml: Path) -> dict[str, Outcome]:
    return run_all(nvml, RUNS)


def relative_errors(outcome: Outcome, quantity: str) -> list[float]:
    window, scenario = outcome.printed["window"], outcome.run.scenario
    span_s = outcome.printed["start_s"], outcome.printed["end_s"]
    true_j = [closed_form_joules(scenario, gpu, *span_s) for gpu in range(scenario.gpus)]
    return [device[quantity] / true - 1 for device, true in zip(window["devices"], true_j, strict=True)]


ACCURATE = [name for name, run in RUNS.items() if run.seconds == ACCURATE_S]


@pytest.mark.parametrize("name", ACCURATE)
def test_joules_of_every_gpu_are_within_one_percent_of_the_closed_form(outcomes, name):
    errors = relative_errors(outcomes[name], "joules")
    assert max(map(abs, errors)) < 0.01
    assert outcomes[name].printed["window"]["reasons"] == []


@pytest.mark.parametrize("name", ACCURATE)
def test_integrated_power_agrees_with_the_closed_form_once_its_lag_is_undone(outcomes, name):
    errors = relative_errors(outcomes[name], "integral_j")
    assert max(map(abs, errors)) < 0.02


@pytest.mark.parametrize("name", ACCURATE)
def test_the_total_is_the_sum_of_the_gpus_and_the_mean_power_its_rate(outcomes, name):
    printed = outcomes[name].printed
    window = printed["window"]
    assert window["joules"] == pytest.approx(sum(device["joules"] for device in window["devices"]))
    assert window["mean_w"] == pytest.approx(window["joules"] / (printed["end_s"] - printed["start_s"]))


def test_without_an_energy_counter_power_is_integrated_and_a_note_says_so(outcomes):
    printed = outcomes["no counter"].printed
    assert printed["window"]["devices"][0]["method"] == "integral"
    assert printed["window"]["devices"][0]["counter_j"] is None
    assert printed["notes"] == [
        f"NVML on {uuid(0)}: no energy counter: energy comes from integrated power only "
        "(nvmlDeviceGetTotalEnergyConsumption: NOT_SUPPORTED)"
    ]


def test_power_that_reads_five_percent_above_the_counter_is_reported_as_a_disagreement(outcomes):
    printed = outcomes["gain"].printed
    assert printed["window"]["reasons"] == ["counter_integral_disagree"]
    assert printed["suspect"] == ["counter_integral_disagree"]
    assert printed["window"]["devices"][0]["method"] == "counter"


def test_only_the_gpus_asked_for_are_measured(outcomes):
    printed = outcomes["one of two"].printed
    assert [device["uuid"] for device in printed["window"]["devices"]] == [uuid(1)]
    assert printed["devices"][0]["index"] == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("reset", "counter_reset"),
        ("stuck", "sensor_stuck"),
        ("lost", "gpu_lost"),
        ("counter fails", "sensor_error"),
        ("field fails", "sensor_error"),
    ],
)
def test_a_failing_sensor_has_its_own_fatal_reason(outcomes, name, reason):
    others = {"counter_reset", "sensor_stuck", "gpu_lost", "sensor_error"} - {reason}
    assert reason in outcomes[name].printed["fatal"]
    assert not others & set(outcomes[name].printed["window"]["reasons"])


def test_a_total_without_a_lost_gpu_is_no_total(outcomes):
    window = outcomes["lost"].printed["window"]
    kept, lost = window["devices"]
    assert (window["joules"], lost["joules"]) == (None, None)
    assert kept["joules"] > 0
    assert outcomes["lost"].printed["errors"] == ["gpu_lost"]


def test_a_counter_that_fails_midway_leaves_its_integral_and_names_the_error(outcomes):
    printed = outcomes["counter fails"].printed
    assert printed["errors"] == ["energy_j: TIMEOUT"]
    assert printed["window"]["devices"][0]["method"] == "integral"


def test_a_field_that_fails_inside_a_successful_call_is_an_error_and_not_a_number(outcomes):
    printed = outcomes["field fails"].printed
    assert printed["errors"] == ["power_w: UNKNOWN"]
    assert printed["window"]["reasons"] == ["sensor_error"]
    assert set(printed["values_beside_errors"]) == {None}
    assert printed["window"]["devices"][0]["method"] == "counter"


def test_a_failing_thermometer_does_not_touch_the_joules(outcomes):
    printed = outcomes["temperature fails"].printed
    assert printed["errors"] == ["temperature_c: UNKNOWN"]
    assert printed["window"]["reasons"] == []


def test_every_sampler_kept_reading(outcomes):
    for outcome in outcomes.values():
        expected = (outcome.run.seconds + 1.0) / 0.1
        assert outcome.printed["rounds"] + outcome.printed["missed"] == pytest.approx(expected, rel=0.2)
