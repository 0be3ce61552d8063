"""A run with meters beside its GPUs: which figure has which boundary, by arithmetic on a run made by hand."""

import math

import pytest

from harness.analysis.run import analyse_run
from harness.console.run import result_text
from tests.unit.harness.synthetic_run import LOADED_W, OFFSET_KW, SLOPE, SyntheticRun

METER_W, CPU_W, SHARE, IDLE_W = 3000.0, 150.0, 0.25, 2700.0


def meter(name, boundary, gain_rel_u=None):
    return {
        "name": name, "boundary": boundary, "gain_rel_u": gain_rel_u, "power_lag_s": 0.0, "period_s": 2.0,
        "device_uuids": [f"{name}:0"], "notes": [],
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


def test_the_error_of_a_metered_energy_is_the_meters_and_not_the_gpu_sensors(tmp_path):
    energy = metered_run(tmp_path, BOTH, allocation="whole").cells[0].wh_per_query
    assert {"random", "meter_gain"} <= set(energy.uncertainty_parts_rel)
    assert not {"sensor_gain", "node_model", "node_idle"} & set(energy.uncertainty_parts_rel)
    assert energy.uncertainty_parts_rel["meter_gain"] == pytest.approx(0.01)
    assert energy.boundary == "node x PUE"


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
