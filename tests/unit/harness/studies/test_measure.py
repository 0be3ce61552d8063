import sys
from pathlib import Path

import pytest

from harness.errors import ConfigError, NodeError
from harness.power.nvml import nvml_unavailable_reason
from harness.studies.measure import MeasureOptions, measure

SLEEP = (sys.executable, "-c", "import time; time.sleep(0.5)")


def test_without_a_sensor_nothing_is_made_up_unless_asked_for():
    if nvml_unavailable_reason() is None:
        pytest.skip("this machine has an NVIDIA driver")
    with pytest.raises(NodeError, match="no GPU power sensor") as refused:
        measure(MeasureOptions(seconds=0.2))
    assert "--power simulated" in refused.value.fix


def test_simulated_joules_are_labelled_wherever_they_are_told():
    measured = measure(MeasureOptions(power=("simulated",), command=SLEEP))
    assert (measured["simulated"], measured["source"], measured["node"]["profile"]) == (
        True,
        "simulated",
        "simulated-node",
    )
    assert "joules are not measured" in measured["notes"][0]
    assert measured["gpus"][0]["uuid"] == "simulated-0"
    assert 30.0 * measured["window_s"] * 0.99 <= measured["joules"] <= 200.0 * measured["window_s"]
    assert measured["exit_code"] == 0


def test_a_recorded_meter_beside_is_a_block_of_its_own_and_never_added(tmp_path: Path):
    table = tmp_path / "meter.csv"
    table.write_text(
        "t_s,uuid,power_w,energy_j,boundary\n" + "".join(f"{second},wall,900,,node\n" for second in range(60))
    )
    measured = measure(MeasureOptions(power=("simulated", f"replay:{table}"), seconds=1.5))
    (meter,) = measured["meters"]
    assert (meter["source"], meter["boundary"]) == ("replay of meter.csv", "node")
    assert meter["joules"] == pytest.approx(900 * measured["window_s"], rel=0.01)
    assert measured["boundary"] == "gpu"
    assert measured["joules"] < 200.0 * measured["window_s"] * 1.01


@pytest.mark.parametrize(
    ("power", "gpu", "what"),
    [
        (("sunshine",), (), "no power source"),
        (("simulated", "simulated"), (), "named twice"),
        (("simulated",), ("0",), "chooses among NVML's GPUs"),
    ],
)
def test_sources_that_make_no_sense_are_refused(power, gpu, what):
    with pytest.raises(ConfigError, match=what):
        measure(MeasureOptions(seconds=0.2, power=power, gpu=gpu))
