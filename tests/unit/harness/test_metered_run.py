"""A run with meters beside its GPUs: which figure has which boundary, by arithmetic on a run made by hand."""

import math

import numpy as np
import pytest

from harness.analysis.run import analyse_run
from harness.console.run import result_text
from harness.job import write_result_files
from harness.verify.evidence import read_evidence
from harness.verify.uncertainty import parts
from results.store import RunWriter
from tests.unit.harness.synthetic_run import LOADED_W, OFFSET_KW, SLOPE, SyntheticRun

METER_W, CPU_W, SHARE, IDLE_W = 3000.0, 150.0, 0.25, 2700.0


def meter(name, boundary, gain_rel_u=None, *, period_s=2.0, power_lag_s=0.0):
    return {
        "name": name, "boundary": boundary, "gain_rel_u": gain_rel_u, "power_lag_s": power_lag_s,
        "period_s": period_s, "device_uuids": [f"{name}:0"], "notes": [],
    }  # fmt: skip


def rows(run, name, boundary, watts, *, counter=False):
    """Readings every 2 s: a power that alternates about its mean, or a counter."""
    template = run.power[0]
    return [
        template
        | {"t_mono_s": 66.0 + 2 * step, "source": name, "boundary": boundary, "uuid": f"{name}:0"}
        | {"power_w": None if counter else watts + (-1) ** step, "energy_j": 2 * step * watts if counter else None}
        | {"utilization_ratio": None}
        for step in range(90)
    ]


def metered_run(tmp_path, meters, *, profile=True, **changes):
    run = SyntheticRun()
    run.manifest |= {"meters": meters, "boundary": "node", **changes}
    if not profile:
        run.manifest["node_profile"] = None
    run.power += rows(run, "redfish", "node", METER_W) + rows(run, "rapl", "cpu_dram", CPU_W, counter=True)
    folder = tmp_path / "run"
    run.write(folder)
    return analyse_run(folder)


BOTH = [meter("rapl", "cpu_dram"), meter("redfish", "node", 0.01)]
MODELLED_W = SHARE * 1000 * OFFSET_KW + SLOPE * 2 * LOADED_W


@pytest.mark.parametrize(
    ("allocation", "charged_w", "modelled_w"),
    [
        ("share", METER_W - 0.75 * IDLE_W, MODELLED_W),
        ("marginal", METER_W - IDLE_W, MODELLED_W - 0.25 * IDLE_W),
        ("whole", METER_W, MODELLED_W + 0.75 * IDLE_W),
    ],
)
def test_node_watts_come_from_the_meter_and_the_model_is_set_beside_them(tmp_path, allocation, charged_w, modelled_w):
    result = metered_run(tmp_path, BOTH, allocation=allocation)
    cell = result.cells[0]
    assert (cell.boundary, cell.power_source, result.run.power_source) == ("node", "redfish", "redfish")
    assert cell.watts == pytest.approx(charged_w, rel=1e-3)
    assert cell.gpu_watts == pytest.approx(2 * LOADED_W, rel=1e-6)
    assert cell.joules_per_tok == pytest.approx(cell.watts / cell.tps_tok_per_s, rel=1e-3)
    processors, node = cell.meters
    assert (processors.boundary, processors.charged_watts) == ("cpu_dram", None)
    assert processors.watts == pytest.approx(CPU_W)
    assert node.watts == pytest.approx(METER_W, rel=1e-3)
    assert node.modelled_watts == pytest.approx(modelled_w, rel=1e-6)
    assert node.difference_rel == pytest.approx(charged_w / modelled_w - 1, rel=1e-2)


def rising_run(tmp_path, name="run", *, u_idle_kw=0.012, gain_rel_u=0.005, **changes):
    """A run whose meter reads 3,000 W while the first cell runs and 4,000 W while the second does."""
    run = SyntheticRun()
    run.manifest |= {"meters": [meter("redfish", "node", gain_rel_u)], "boundary": "node", **changes}
    run.manifest["node_profile"] = run.manifest["node_profile"] | {"u_idle_kw": u_idle_kw}
    run.power += [row | {"power_w": row["power_w"] + 1000.0 * (row["t_mono_s"] > 170)} for row in
                  rows(run, "redfish", "node", METER_W)]  # fmt: skip
    return analyse_run(run.write(tmp_path / name))


@pytest.mark.parametrize(("allocation", "taken"), [("share", 0.75), ("marginal", 1.0), ("whole", 0.0)])
def test_what_a_meter_and_idle_power_leave_in_a_ratio_is_that_of_drawing_them(tmp_path, allocation, taken):
    result = rising_run(tmp_path, allocation=allocation)
    ratio, (plain, multiplied) = result.energy_ratio, result.cells
    rng, n = np.random.default_rng(1), 200_000
    idle_w, gain = taken * rng.normal(IDLE_W, 12, n), 1 + 0.005 * math.sqrt(3) * rng.uniform(-1, 1, n)
    drawn = np.log((4000 * gain - idle_w) / (3000 * gain - idle_w))
    own = [cell.wh_per_query.uncertainty_parts_rel[name] for cell in result.cells
           for name in ("random", "clock_edges", "token_count")]  # fmt: skip
    own_half = math.hypot(*(1.96 * part for part in own))
    half = math.log(ratio.measured_ci95[1] / ratio.measured)
    assert multiplied.watts / plain.watts == pytest.approx((4000 - taken * IDLE_W) / (3000 - taken * IDLE_W), rel=0.01)
    assert half == pytest.approx(math.hypot(own_half, 1.96 * float(np.std(drawn))), rel=0.05)


def test_a_meter_that_stands_still_may_be_as_old_as_that_so_that_much_of_its_swing_is_uncertain(tmp_path):
    """Its readings change by 100 W every 10 s: over the window of 26 s they stand still for 8 s (five readings)."""
    run = SyntheticRun()
    run.manifest |= {"meters": [meter("redfish", "node", 0.01)], "boundary": "node", "allocation": "whole"}
    stepping = rows(run, "redfish", "node", METER_W)
    for number, row in enumerate(stepping):
        row["power_w"] = METER_W + 100.0 * (number // 5 % 2)
    run.power += stepping
    for event in run.events:
        event.setdefault("t_wall_s", 1.7e9 + event["t_mono_s"])
    folder = run.write(tmp_path / "run")
    cell = write_result_files(RunWriter.reopened(folder)).cells[0]
    pace = math.sqrt(2 * 2.0**2 / 3) / cell.window.duration_s
    refresh = 8.0 * 100 / math.sqrt(3) / (cell.watts * cell.window.duration_s)
    assert cell.wh_per_query.uncertainty_parts_rel["clock_edges"] == pytest.approx(math.hypot(pace, refresh), rel=1e-6)
    evidence = read_evidence(folder)
    found = parts(evidence, evidence.cells[0], cell.window.start_mono_s, cell.window.end_mono_s)
    assert [check.text for check in found if not check.ok] == []


@pytest.mark.parametrize("unknown", [{"u_idle_kw": None}, {"gain_rel_u": None}])
def test_an_unknown_error_that_does_not_cancel_in_a_metered_ratio_leaves_it_without_an_interval(tmp_path, unknown):
    ratio = rising_run(tmp_path, **unknown).energy_ratio
    assert ratio.measured is not None
    assert (ratio.measured_ci95, ratio.interval_basis) == (None, "unknown")
    whole = rising_run(tmp_path, "whole", allocation="whole", **unknown).energy_ratio
    assert whole.interval_basis == "within_windows"  # nothing is taken off the reading: the gain cancels


def test_loaded_idle_by_a_meter_has_the_meters_error(tmp_path):
    idle = rising_run(tmp_path, allocation="whole").idle
    assert idle.watts == pytest.approx(METER_W, rel=1e-3)
    expected = {"meter_gain": 0.005, "clock_edges": math.sqrt(2 * 2.0**2 / 3) / 20}
    assert idle.uncertainty_parts_rel == pytest.approx(expected, rel=1e-3)
    assert idle.standard_uncertainty_rel == pytest.approx(math.hypot(*expected.values()), rel=1e-3)


def test_the_error_of_a_metered_energy_is_the_meters_and_not_the_gpu_sensors(tmp_path):
    energy = metered_run(tmp_path, BOTH, allocation="whole").cells[0].wh_per_query
    assert {"random", "meter_gain"} <= set(energy.uncertainty_parts_rel)
    assert not {"sensor_gain", "node_model", "node_idle"} & set(energy.uncertainty_parts_rel)
    assert energy.uncertainty_parts_rel["meter_gain"] == pytest.approx(0.01)
    assert energy.boundary == "node x PUE"


@pytest.mark.parametrize(
    ("period_s", "power_lag_s", "half_s"), [(1.0, 0.0, 1.0), (5.0, 0.0, 5.0), (1.0, 3.0, 3.0), (0.01, 0.0, 0.1)]
)
def test_the_edges_of_a_metered_window_are_known_to_a_period_of_the_meter(tmp_path, period_s, power_lag_s, half_s):
    redfish = meter("redfish", "node", 0.01, period_s=period_s, power_lag_s=power_lag_s)
    cell = metered_run(tmp_path, [redfish], allocation="whole").cells[0]
    # The difference of two rectangular errors of half width h has the variance 2 h^2 / 3.
    expected = math.sqrt(2 * half_s**2 / 3) / cell.window.duration_s
    assert cell.wh_per_query.uncertainty_parts_rel["clock_edges"] == pytest.approx(expected)


def test_a_slow_meter_beside_a_modelled_node_does_not_blur_the_edges_of_the_counters(tmp_path):
    slow = [meter("redfish", "node", 0.01, period_s=5.0)]
    cell = metered_run(tmp_path, slow, boundary="node_modelled").cells[0]
    expected = math.sqrt(2 * 0.1**2 / 3) / cell.window.duration_s
    assert cell.wh_per_query.uncertainty_parts_rel["clock_edges"] == pytest.approx(expected)


def test_what_idle_power_adds_is_unknown_where_its_error_is(tmp_path):
    energy = metered_run(tmp_path, BOTH).cells[0].wh_per_query
    assert energy.uncertainty_parts_rel["node_idle"] is None
    assert energy.uncertainty_parts_rel["meter_gain"] == pytest.approx(
        0.01 * METER_W / (METER_W - 0.75 * IDLE_W), rel=1e-3
    )
    assert energy.standard_uncertainty_rel is None


def test_a_meter_of_unknown_accuracy_leaves_the_uncertainty_unknown(tmp_path):
    energy = metered_run(tmp_path, [meter("redfish", "node")], allocation="whole").cells[0].wh_per_query
    assert energy.uncertainty_parts_rel["meter_gain"] is None
    assert energy.standard_uncertainty_rel is None


def test_meters_beside_a_modelled_node_change_nothing_but_what_is_reported(tmp_path):
    cell = metered_run(tmp_path, BOTH, boundary="node_modelled").cells[0]
    assert cell.watts == pytest.approx(MODELLED_W, rel=1e-6)
    assert cell.power_source == "nvml"
    assert [reading.source for reading in cell.meters] == ["rapl", "redfish"]
    assert math.isfinite(cell.wh_per_query.standard_uncertainty_rel)


def test_a_node_without_a_profile_is_charged_whole(tmp_path):
    cell = metered_run(tmp_path, BOTH, profile=False, allocation="whole").cells[0]
    assert cell.watts == pytest.approx(METER_W, rel=1e-3)
    assert cell.meters[1].modelled_watts is None


def test_loaded_idle_is_metered_too(tmp_path):
    idle = metered_run(tmp_path, BOTH, allocation="whole").idle
    assert (idle.boundary, idle.power_source) == ("node", "redfish")
    assert idle.watts == pytest.approx(METER_W, rel=1e-3)


def test_a_silent_meter_invalidates_the_node_figures(tmp_path):
    run = SyntheticRun()
    run.manifest |= {"meters": BOTH, "boundary": "node"}
    run.power += [
        row | {"power_w": None, "error": "power_w: HTTP status 503"} for row in rows(run, "redfish", "node", METER_W)
    ]
    run.write(tmp_path / "run")
    cell = analyse_run(tmp_path / "run").cells[0]
    assert (cell.verdict, cell.watts, cell.wh_per_query) == ("invalid", None, None)
    assert "meter_silent" in cell.reasons


def test_a_person_reads_every_boundary(tmp_path):
    text = result_text(metered_run(tmp_path, BOTH, allocation="whole"))
    assert "redfish covers node: 3,000" in text
    assert "rapl covers cpu_dram: 150.0 W; accuracy unknown" in text
    assert "against" in text
