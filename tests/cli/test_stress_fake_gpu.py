"""The main job on a GPU node: a stand-in driver gives the power, so that the joules have a closed form."""

import json
import math
import os

import pytest

from harness.verify.evidence import read_evidence
from harness.verify.rules import apply_rules
from results.store import RunReader
from tests.cli.command import environment, run_harness
from tests.fakes import nvml_library
from tests.fakes.nvml_library import Scenario
from tests.fakes.scripted_engine import Script

pytestmark = pytest.mark.timeout(300)

GPUS, GPU_W = 2, 400.0
STRANGER = 4_999_999  # beyond any real process id
CAPPED_AND_HOT = 0x4 | 0x40
CONFIG = """
model: org/some-model
replicas: 2
tensor_parallel: 1
workload: fixed:100x40
multiplier: 3
concurrency: 8
budget: 12
idle: 6
linger: 0
"""


@pytest.fixture(scope="module")
def finished(vllm, tmp_path_factory):
    """A short run on two of the eight GPUs that the shipped node profile is for, each at a constant power.

    The GPUs are hot, and a process that is not ours computes on them all the time.
    """
    if nvml_library.compiler() is None:
        pytest.skip("no C compiler to build the stand-in driver with")
    home = tmp_path_factory.mktemp("gpu")
    scenario = Scenario(gpus=GPUS, mean_w=GPU_W, clock_reasons=CAPPED_AND_HOT, pids=(STRANGER,))
    driver = nvml_library.environment(nvml_library.build(home), scenario)
    config = home / "run.yaml"
    config.write_text(CONFIG)
    done = run_harness(
        "stress", "--config", str(config), "--json", "--metrics-address", "none", "--server-arg=--some-flag",
        cwd=home, env=environment(vllm, Script(tok_per_s=800, tick_s=0.005, max_num_seqs=4), {**os.environ, **driver}),
    )  # fmt: skip
    assert done.code == 0, done.err
    (folder,) = (home / "results" / "runs").iterdir()
    return done, folder


@pytest.fixture(scope="module")
def outcome(finished):
    done, folder = finished
    return json.loads(done.out), json.loads((folder / "manifest.json").read_text()), done.err


def test_power_comes_from_nvml_and_is_lifted_by_the_node_profile(outcome):
    document, manifest, _ = outcome
    assert manifest["node_share"] == GPUS / 8
    for cell in document["cells"]:
        assert (cell["power_source"], cell["boundary"], cell["energy_method"]) == ("nvml", "node_modelled", "counter")
        assert cell["gpu_watts"] == pytest.approx(GPUS * GPU_W, rel=0.01)
        assert cell["watts"] == pytest.approx(1600 * GPUS / 8 + 1.22 * GPUS * GPU_W, rel=0.01)


def test_bare_and_loaded_idle_are_measured_before_and_after_the_launch(outcome):
    document, _, log = outcome
    for idle in (document["bare_idle"], document["idle"]):
        assert idle["gpu_watts"] == pytest.approx(GPUS * GPU_W, rel=0.01)
        assert 6 <= idle["duration_s"] < 9
        assert idle["reasons"] == ["hardware_throttled", "foreign_processes"]
    assert document["bare_idle_unknown"] is None
    assert log.index("bare idle for") < log.index("server 0 starting") < log.index("loaded idle for")


def test_systematic_uncertainty_follows_from_sensor_and_node_model(outcome):
    document, _, _ = outcome
    gpu_w, node_w = GPUS * GPU_W, 1600 * GPUS / 8 + 1.22 * GPUS * GPU_W
    gain = 0.05 / 3**0.5 * 1.22 * gpu_w / node_w
    offset_w, slope_w = 170 * GPUS / 8, 0.05 * gpu_w
    model = (offset_w**2 + slope_w**2 - 2 * 0.8 * offset_w * slope_w) ** 0.5 / node_w
    parts = document["cells"][0]["wh_per_query"]["uncertainty_parts_rel"]
    assert parts["sensor_gain"] == pytest.approx(gain, rel=0.02)
    assert parts["node_model"] == pytest.approx(model, rel=0.02)


def test_a_budget_too_short_for_a_valid_window_is_said_before_the_cell_starts_and_honoured(outcome):
    """8 requests in flight at 4 + 4 slots of 800 tok/s: the budget of 12 s leaves less than the 60 s of a window."""
    document, _, log = outcome
    for cell in document["cells"]:
        said = f"{cell['name']}: a mean request takes "
        assert said in log
        assert "s of load; budget 12 s: TOO SHORT, expect window_too_short" in log.split(said)[1].split(chr(10))[0]
        assert log.index(said) < log.index(f"measuring {cell['name']}: 8 in flight for at most 12 s")


def test_each_replica_gets_a_gpu_of_its_own_by_index_in_bus_order(outcome):
    _, manifest, _ = outcome
    environments = [server["env"] for server in manifest["servers"]]
    assert [env["CUDA_VISIBLE_DEVICES"] for env in environments] == ["0", "1"]
    assert all(env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID" for env in environments)
    assert all(uuid.startswith("GPU-") for server in manifest["servers"] for uuid in server["device_uuids"])


def test_the_prediction_takes_the_same_share_of_the_nodes_maximum(outcome):
    document, _, _ = outcome
    # A log-normal with P5 and P95 at 0.4 and 0.9 of P_max: mean = sqrt(p5 p95) exp(sigma^2 / 2).
    sigma = math.log(0.9 / 0.4) / (2 * 1.6448536269514722)
    predicted_w = 1000 * 11.3 * GPUS / 8 * math.sqrt(0.4 * 0.9) * math.exp(sigma**2 / 2)
    for cell in document["cells"]:
        assert cell["split"]["power"] == pytest.approx(math.log(cell["watts"] / predicted_w), abs=1e-9)


def test_each_gpu_of_a_cell_has_its_energy_and_conditions(outcome):
    document, manifest, _ = outcome
    for cell in document["cells"]:
        assert [device["uuid"] for device in cell["devices"]] == [device["uuid"] for device in manifest["devices"]]
        seconds = cell["window"]["duration_s"]
        for device in cell["devices"]:
            assert device["joules_counter"] == pytest.approx(GPU_W * seconds, rel=0.01)
            assert device["joules_integral"] == pytest.approx(GPU_W * seconds, rel=0.005)
            assert (device["source"], device["boundary"], device["mean_w"]) == ("nvml", "gpu", pytest.approx(400, 0.01))
            assert (device["throttled_share"], device["temperature_max_c"]) == (1.0, 61.0)
            assert device["throttled_by_cause"] == {"sw_power_cap": 1.0, "hw_thermal_slowdown": 1.0}
            assert (device["sm_clock_mean_mhz"], device["utilization_mean_ratio"]) == (1755.0, pytest.approx(0.97))
            assert (device["power_limit_w"], device["ecc_corrected"], device["ecc_uncorrected"]) == (700.0, 0, 0)
            assert (device["xids"], device["memory_max_b"]) == ([], 60 * 2**30)


def test_heat_and_a_process_from_before_the_launch_make_the_cells_suspect(outcome):
    document, _, _ = outcome
    for cell in document["cells"]:
        assert {"hardware_throttled", "foreign_processes"} <= set(cell["reasons"])
        assert cell["verdict"] != "valid"
        for device in cell["devices"]:
            assert device["foreign_processes"] is True
            assert device["foreign_processes_why"] == f"there before launch and still: {STRANGER}"


def test_the_states_of_the_gpus_are_stored_so_that_every_figure_can_be_derived_again(finished):
    _, folder = finished
    events = [event for event in RunReader(folder).events() if event["event"].startswith("devices_")]
    around = ["devices_before", "devices_after"]
    bare_idle, launch, loads = events[:2], events[2], events[3:]
    assert len(loads) >= 2 * 3, "loaded idle and both cells"
    assert [event["event"] for event in (*bare_idle, launch)] == [*around, "devices_before_launch"]
    assert [event["event"] for event in loads] == len(loads) // 2 * around
    assert all(len(event["devices"]) == GPUS for event in events)
    launched = [event["own_pids"] for event in events if event["cell"]]
    assert all(len(pids) >= 2 * 2 for pids in launched)  # of each replica the guard and the server
    found = {finding.id: finding.status for finding in apply_rules(read_evidence(folder))}
    names = ("devices", "device_figures", "device_states", "device_reasons")
    assert {name: found[name] for name in names} == dict.fromkeys(names, "pass")


def test_the_table_shows_what_the_gpus_went_through(finished):
    _, folder = finished
    table = (folder / "summary.txt").read_text()
    for row in ("throttled readings", "highest GPU temperature (°C)", "GPU power limit (W)", "client: event-loop lag"):
        assert row in table
    assert "hw_thermal_slowdown 100%" in table
