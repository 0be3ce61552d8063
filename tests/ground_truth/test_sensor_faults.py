from pathlib import Path

import pytest

from tests.fakes.nvml_library import GPU_IS_LOST, NO_PERMISSION, TIMEOUT, UNKNOWN, Failure, Scenario, uuid
from tests.ground_truth.measure_scenario import AFTER_S, BEFORE_S
from tests.ground_truth.scenarios import Outcome, Run, run_all

CONSTANT = Scenario(mean_w=523.0, time_scale=3.0)
COUNTER, FIELD_COUNTER = "nvmlDeviceGetTotalEnergyConsumption", "83"
SECONDS = 10.0
AT_ONCE = 5
PAUSED = "power_gap"
"""What a window has, besides what is tested, where a busy machine kept the sampling from reading for 0.33 s."""

SCENARIOS = {
    "gain": CONSTANT.but(power_gain=1.05),
    "small gain": CONSTANT.but(power_gain=1.02),
    "reset": CONSTANT.but(reset_s=5.0),
    "stuck": CONSTANT.but(stuck_s=4.0),
    "lost": CONSTANT.but(gpus=2, failures=(Failure("*", GPU_IS_LOST, 5.0, gpu=1),)),
    "counter fails": CONSTANT.but(failures=(Failure(COUNTER, TIMEOUT, 5.0),)),
    "field fails": CONSTANT.but(failures=(Failure("185", UNKNOWN, 5.0),)),
    "a few reads fail": CONSTANT.but(
        failures=(Failure("185", UNKNOWN, 5.0, until_s=5.25), Failure(COUNTER, TIMEOUT, 5.0, until_s=5.25))
    ),
    "temperature fails": CONSTANT.but(failures=(Failure("nvmlDeviceGetTemperature", UNKNOWN, 3.0),)),
    "errors": CONSTANT.but(gpus=2, ecc_s=4.0, xid_s=5.0, xid=79, pids=(4321,)),
    "no events": CONSTANT.but(
        failures=(Failure("nvmlEventSetCreate", NO_PERMISSION), Failure("nvmlDeviceGetTotalEccErrors"))
    ),
}
RUNS = {name: Run(scenario, SECONDS) for name, scenario in SCENARIOS.items()} | {
    "one of two": Run(CONSTANT.but(gpus=2), 3.0, (uuid(1),)),
    "own process": Run(CONSTANT.but(gpus=2, time_scale=1.0), 2.0, own_process=True),
    "own process, lost": Run(
        CONSTANT.but(gpus=2, time_scale=1.0, failures=(Failure("*", GPU_IS_LOST, 1.0, gpu=1),)), 2.0, own_process=True
    ),
}


@pytest.fixture(scope="module")
def outcomes(nvml: Path) -> dict[str, Outcome]:
    return run_all(nvml, RUNS, at_once=AT_ONCE)


def but_pauses(reasons: list[str]) -> list[str]:
    return [reason for reason in reasons if reason != PAUSED]


def test_power_that_reads_five_percent_above_the_counter_is_reported_as_a_disagreement(outcomes):
    printed = outcomes["gain"].printed
    assert but_pauses(printed["window"]["reasons"]) == ["counter_integral_disagree"]
    assert but_pauses(printed["suspect"]) == ["counter_integral_disagree"]
    assert printed["window"]["devices"][0]["method"] == "counter"


def test_power_that_reads_two_percent_above_the_counter_is_no_disagreement(outcomes):
    device = outcomes["small gain"].printed["window"]["devices"][0]
    assert but_pauses(device["reasons"]) == []
    assert device["integral_j"] > 1.01 * device["counter_j"]


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


def test_a_few_failed_reads_are_counted_and_cost_nothing(outcomes):
    """Two or three reads are due during the fault; one before it may be late, and some are lost in a pause."""
    printed = outcomes["a few reads fail"].printed
    device = printed["window"]["devices"][0]
    assert printed["errors"], "no read ever failed"
    assert 1 <= device["failed_readings"] <= 4
    assert but_pauses(device["reasons"]) == []
    assert device["joules"] == pytest.approx(523.0 * (printed["end_s"] - printed["start_s"]), rel=0.01)


@pytest.mark.parametrize("name", ["lost", "own process, lost"])
def test_a_total_without_a_lost_gpu_is_no_total(outcomes, name):
    window = outcomes[name].printed["window"]
    kept, lost = window["devices"]
    assert (window["joules"], lost["joules"]) == (None, None)
    assert kept["joules"] > 0
    assert outcomes[name].printed["errors"] == ["gpu_lost"]


def test_a_counter_that_fails_midway_leaves_its_integral_and_names_the_error(outcomes):
    printed = outcomes["counter fails"].printed
    assert printed["errors"] == ["energy_j: TIMEOUT"]
    assert printed["window"]["devices"][0]["method"] == "integral"


def test_a_field_that_fails_inside_a_successful_call_is_an_error_and_not_a_number(outcomes):
    printed = outcomes["field fails"].printed
    assert printed["errors"] == ["power_w: UNKNOWN"]
    assert but_pauses(printed["window"]["reasons"]) == ["sensor_error"]
    assert set(printed["values_beside_errors"]) == {None}
    assert printed["window"]["devices"][0]["method"] == "counter"


def test_a_failing_thermometer_does_not_touch_the_joules(outcomes):
    printed = outcomes["temperature fails"].printed
    assert printed["errors"] == ["temperature_c: UNKNOWN"]
    assert but_pauses(printed["window"]["reasons"]) == []


def test_ecc_errors_are_told_by_the_growth_of_their_counts(outcomes):
    before, after = outcomes["errors"].printed["states"]
    assert [state["ecc_corrected"] for state in before] == [5, 5]
    assert [state["ecc_corrected"] for state in after] == [6, 6]
    assert [state["ecc_uncorrected"] for state in after] == [1, 1]
    assert [state["pids"] for state in after] == [[4321], [4321]]


def test_an_xid_error_is_told_once_on_its_gpu_when_it_happens(outcomes):
    ((told, number, at_s),) = outcomes["errors"].printed["xids"]
    assert (told, number) == (uuid(0), 79)
    assert 4.5 < at_s < 8


def test_where_events_and_ecc_counts_are_refused_they_are_unknown(outcomes):
    printed = outcomes["no events"].printed
    assert printed["notes"] == ["NVML: whether XID errors occur is unknown (NO_PERMISSION)"]
    assert printed["states"][0][0]["ecc_uncorrected"] is None


def test_a_process_of_its_own_reads_the_same_rows(outcomes):
    printed = outcomes["own process"].printed
    row = printed["first_rows"][1]
    assert (row["uuid"], row["source"], row["boundary"], row["error"]) == (uuid(1), "nvml", "gpu", None)
    assert row["power_w"] == 523.0
    assert printed["window"]["joules"] == pytest.approx(2 * 523.0 * (printed["end_s"] - printed["start_s"]), rel=0.05)


def test_every_sampler_kept_reading(outcomes):
    for outcome in outcomes.values():
        around_s = (BEFORE_S + AFTER_S) * outcome.run.scenario.time_scale
        expected = (outcome.printed["end_s"] - outcome.printed["start_s"] + around_s) / 0.1
        assert outcome.printed["rounds"] + outcome.printed["missed"] == pytest.approx(expected, rel=0.2)
