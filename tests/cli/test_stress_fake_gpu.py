"""The main job on a GPU node: a stand-in driver gives the power, so that the joules have a closed form."""

import json
import math
import os

import pytest

from tests.cli.command import environment, run_harness
from tests.fakes import nvml_library
from tests.fakes.nvml_library import Scenario
from tests.fakes.scripted_engine import Script

pytestmark = pytest.mark.timeout(240)

GPUS, GPU_W = 2, 400.0
CONFIG = """
model: org/some-model
replicas: 2
tensor_parallel: 1
workload: fixed:100x40
multiplier: 3
concurrency: 8
budget: 12
idle: 10
linger: 0
"""


@pytest.fixture(scope="module")
def outcome(vllm, tmp_path_factory):
    """A short run on two of the eight GPUs that the shipped node profile is for, each at a constant power."""
    if nvml_library.compiler() is None:
        pytest.skip("no C compiler to build the stand-in driver with")
    home = tmp_path_factory.mktemp("gpu")
    driver = nvml_library.environment(nvml_library.build(home), Scenario(gpus=GPUS, mean_w=GPU_W))
    config = home / "run.yaml"
    config.write_text(CONFIG)
    done = run_harness(
        "stress", "--config", str(config), "--json", "--metrics-address", "none", "--server-arg=--some-flag",
        cwd=home, env=environment(vllm, Script(tok_per_s=800, tick_s=0.005, max_num_seqs=4), {**os.environ, **driver}),
    )  # fmt: skip
    assert done.code == 0, done.err
    (folder,) = (home / "results" / "runs").iterdir()
    return json.loads(done.out), json.loads((folder / "manifest.json").read_text()), done.err


def test_power_comes_from_nvml_and_is_lifted_by_the_node_profile(outcome):
    document, manifest, _ = outcome
    assert manifest["node_share"] == GPUS / 8
    for cell in document["cells"]:
        assert (cell["power_source"], cell["boundary"], cell["energy_method"]) == ("nvml", "node_modelled", "counter")
        assert cell["gpu_watts"] == pytest.approx(GPUS * GPU_W, rel=0.01)
        assert cell["watts"] == pytest.approx(1600 * GPUS / 8 + 1.22 * GPUS * GPU_W, rel=0.01)


def test_idle_is_metered_as_well(outcome):
    document, _, _ = outcome
    assert document["idle"]["gpu_watts"] == pytest.approx(GPUS * GPU_W, rel=0.01)


def test_systematic_uncertainty_follows_from_sensor_and_node_model(outcome):
    document, _, _ = outcome
    gpu_w, node_w = GPUS * GPU_W, 1600 * GPUS / 8 + 1.22 * GPUS * GPU_W
    gain = 0.05 / 3**0.5 * 1.22 * gpu_w / node_w
    offset_w, slope_w = 170 * GPUS / 8, 0.05 * gpu_w
    model = (offset_w**2 + slope_w**2 - 2 * 0.8 * offset_w * slope_w) ** 0.5 / node_w
    parts = document["cells"][0]["wh_per_query"]["uncertainty_parts_rel"]
    assert parts["sensor_gain"] == pytest.approx(gain, rel=0.02)
    assert parts["node_model"] == pytest.approx(model, rel=0.02)


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
