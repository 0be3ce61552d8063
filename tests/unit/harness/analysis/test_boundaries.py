import math

import numpy as np
import pytest

from estimator.nodes import load_profile
from harness.analysis.boundaries import NodeShare, choose_node_meter, meter_reading
from harness.analysis.energy import DeviceSeries, longest_repeat_s
from results.schema import MeterDescription

H100 = load_profile("hgx-h100")
WHOLE = NodeShare(H100, 1.0, "share")


def meter(name="redfish", boundary="node", period_s=2.0, **changes):
    plain = {"gain_rel_u": None, "power_lag_s": 0.0, "device_uuids": ("m",), "notes": ()}
    return MeterDescription(name=name, boundary=boundary, period_s=period_s, **{**plain, **changes})


def series(power_w=None, energy_j=None, step_s=2.0, errors=None):
    size = len(power_w if power_w is not None else energy_j)
    blank = np.full(size, np.nan)
    return DeviceSeries(
        "m",
        np.arange(size) * step_s,
        blank if power_w is None else np.asarray(power_w, float),
        blank if energy_j is None else np.asarray(energy_j, float),
        errors or (None,) * size,
    )


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["hwmon", "ipmi", "redfish"], "redfish"),
        (["hwmon", "ipmi"], "ipmi"),
        (["replay of x.csv", "hwmon"], "hwmon"),
        (["replay of x.csv"], "replay of x.csv"),
        ([], None),
    ],
)
def test_the_node_figure_comes_from_the_best_meter(names, chosen):
    found = choose_node_meter([meter(name) for name in names])
    assert (found and found.name) == chosen


def test_a_meter_of_processors_is_no_meter_of_the_node():
    assert choose_node_meter([meter("rapl", "cpu_dram")]) is None


def test_a_meter_slower_than_a_second_has_no_gaps_at_its_own_pace():
    power_w = [5000 + 10 * (i % 2) for i in range(31)]
    reading = meter_reading(meter(), [series(power_w)], (10.0, 50.0), WHOLE, gpu_w=3000.0)
    assert reading.watts == pytest.approx(5005)
    assert reading.joules == pytest.approx(5005 * 40)
    assert reading.reasons == ()
    assert reading.charged_watts == reading.watts
    assert reading.modelled_watts == pytest.approx(1600 + 1.22 * 3000)
    assert reading.difference_rel == pytest.approx(5005 / 5260 - 1)


def test_meters_of_several_supplies_are_added_within_their_boundary_only():
    both = [series([1000, 1010] * 15), series([2000, 2010] * 15)]
    reading = meter_reading(meter("hwmon", period_s=1.0), both, (10.0, 50.0), WHOLE, gpu_w=None)
    assert reading.watts == pytest.approx(3010)
    assert (reading.modelled_watts, reading.difference_rel) == (None, None)


def test_counters_of_processors_stay_at_their_own_boundary():
    joules = np.arange(31) * 400.0
    reading = meter_reading(meter("rapl", "cpu_dram", 0.5), [series(energy_j=joules)], (10.0, 50.0), WHOLE, 3000.0)
    assert reading.watts == pytest.approx(200)
    assert (reading.boundary, reading.charged_watts, reading.modelled_watts) == ("cpu_dram", None, None)


@pytest.mark.parametrize(
    ("node", "charged_w"),
    [
        (NodeShare(H100, 0.5, "share"), 5000 - 0.5 * 2550),
        (NodeShare(H100, 0.5, "marginal"), 5000 - 2550),
        (NodeShare(H100, 0.5, "whole"), 5000),
        (NodeShare(None, 0.5, "whole"), 5000),
        (NodeShare(None, 1.0, "share"), 5000),
        (NodeShare(None, 0.5, "share"), None),
        (NodeShare(None, 1.0, "marginal"), None),
    ],
)
def test_the_run_is_charged_its_part_of_the_metered_node(node, charged_w):
    assert node.metered_w(5000.0) == charged_w


def test_a_silent_meter_is_missing_and_never_zero():
    silent = series([math.nan] * 31, errors=("power_w: HTTP status 503",) * 31)
    reading = meter_reading(meter(), [silent], (10.0, 50.0), WHOLE, 3000.0)
    assert (reading.watts, reading.joules, reading.charged_watts, reading.difference_rel) == (None,) * 4
    assert "meter_silent" in reading.reasons
    assert "sensor_error" in reading.reasons


def test_a_pause_of_the_meter_is_told():
    power_w = [5000.0 + 10 * (i % 2) for i in range(31)]
    for i in range(8, 16):
        power_w[i] = math.nan
    assert "power_gap" in meter_reading(meter(), [series(power_w)], (10.0, 50.0), WHOLE, None).reasons


def test_a_value_that_is_only_repeated_is_called_stale():
    power_w = [5000.0] * 5 + [5100.0] * 26
    reading = meter_reading(meter(), [series(power_w)], (4.0, 54.0), WHOLE, None)
    assert reading.longest_repeat_s == 44.0
    assert "meter_stale" in reading.reasons
    assert reading.watts is not None


def test_repeats_are_counted_within_the_window():
    readings = series([1, 1, 1, 2, 3, 3, 4])
    assert longest_repeat_s(readings, 0, 12) == 4.0
    assert longest_repeat_s(readings, 4, 12) == 2.0
    assert longest_repeat_s(readings, 100, 120) == 0.0
