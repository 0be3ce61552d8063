"""The doctor as a person runs it: a stand-in driver, a stand-in for vLLM, and no change to the node."""

import json
import os
import re
import shutil
import subprocess

import pytest

from tests.cli.command import ended, start_harness
from tests.fakes import importable_vllm, nvml_library
from tests.fakes.nvml_library import DRIVER_NOT_LOADED, Failure, Scenario
from tests.paths import ROOT
from tests.unit.deploy.commands import check, commands_in

pytestmark = pytest.mark.timeout(240)

SCENARIOS = {
    "healthy": Scenario(gpus=8),
    "ailing": Scenario(
        gpus=2, persistence=False, limit_w=450.0, ecc=False, pids=(4321,), name="NVIDIA Unheard-of",
        failures=(Failure("185", gpu=1), Failure("nvmlDeviceGetTotalEnergyConsumption"), Failure("83")),
    ),
    "mig": Scenario(gpus=2, mig=True),
    "not loaded": Scenario(failures=(Failure("nvmlInitWithFlags", DRIVER_NOT_LOADED),)),
}  # fmt: skip


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """How the doctor ended on each node, all at once, each in a folder of its own."""
    if nvml_library.compiler() is None:
        pytest.skip("no C compiler to build the stand-in driver with")
    home = tmp_path_factory.mktemp("doctor")
    library = nvml_library.build(home)
    packages = importable_vllm.write(home / "vllm")
    running = {}
    for name, scenario in SCENARIOS.items():
        own = {"PYTHONPATH": f"{packages}{os.pathsep}{ROOT}", "NO_COLOR": "1"}
        folder = home / name
        folder.mkdir()
        words = ["doctor"] if name == "healthy" else ["doctor", "--json"]
        words += ["--out", str(home)] if name == "mig" else []
        running[name] = start_harness(*words, cwd=folder, env=nvml_library.environment(library, scenario) | own)
    done = {name: ended(process) for name, process in running.items()}
    assert all(list((home / name).iterdir()) == [] for name in SCENARIOS)
    return done


def findings(end):
    return {finding["id"]: finding for finding in json.loads(end.out)["findings"]}


def test_a_healthy_node_is_told_what_it_can_measure(ends):
    end = ends["healthy"]
    assert (end.code, end.err) == (0, "")
    assert "joules of the GPUs [gpu]: NVML, energy counters of GPUs 0-7" in end.out
    assert "joules of the node, by model [node_modelled]: node profile hgx-h100" in end.out
    assert "--power auto takes nvml; --boundary auto takes node_modelled" in end.out
    for quantity in (
        "energy counter",
        "power, 1 s average",
        "power, present",
        "throttle reasons",
        "power limit",
        "ECC",
    ):
        assert f"✓ ok      {quantity}" in end.out


def test_an_ailing_node_runs_and_every_ailment_is_named(ends):
    assert ends["ailing"].code == 0, ends["ailing"].err
    found = findings(ends["ailing"])
    expected = {
        "gpu.energy_counter": "missing (nvmlDeviceGetTotalEnergyConsumption: NOT_SUPPORTED; field",
        "gpu.processes": "4321 on GPUs 0-1",
        "gpu.persistence": "off: GPUs 0-1",
        "gpu.power_limit": "450 W, default 700 W",
        "gpu.ecc": "off: GPUs 0-1",
    }
    for finding_id, text in expected.items():
        assert found[finding_id]["status"] == "limits", finding_id
        assert found[finding_id]["found"].startswith(text), finding_id
    assert "GPU 1: nvmlDeviceGetPowerUsage (in place of" in found["gpu.power_average"]["found"]
    assert found["node.profile"]["found"] == "none is shipped for NVIDIA Unheard-of"
    document = json.loads(ends["ailing"].out)
    assert (document["schema"], document["boundary_auto"]) == ("inference-energy/doctor/1", "gpu")


def test_a_node_of_mig_instances_cannot_run_and_the_exit_code_says_so(ends):
    document = json.loads(ends["mig"].out)
    assert (ends["mig"].code, document["stress"]) == (3, "cannot_run")
    assert re.search(r"free at \S+/doctor\d+, ", findings(ends["mig"])["node.disk"]["found"])  # --out, not its folder
    assert re.search(r"free at \S+/ailing, ", findings(ends["ailing"])["node.disk"]["found"])
    assert findings(ends["mig"])["gpu.mig"]["fix"] == ["sudo nvidia-smi -i 0,1 -mig 0"]


def test_a_driver_that_is_not_loaded_leaves_a_cuda_build_nothing_to_serve_on(ends):
    assert ends["not loaded"].code == 3
    found = findings(ends["not loaded"])
    assert found["gpu.driver"]["found"].startswith("The NVIDIA driver is not loaded.")
    assert found["server.build"]["stress"] == "cannot_run"


@pytest.mark.parametrize("name", ["ailing", "mig", "not loaded"])
def test_every_finding_is_whole_and_its_commands_are_commands(ends, name):
    bash = shutil.which("bash")
    for finding in findings(ends[name]).values():
        assert finding["status"] in ("ok", "limits", "missing", "unknown")
        assert finding["found"]
        assert finding["status"] == "ok" or finding["meaning"], finding["id"]
        text = "\n".join(finding["fix"])
        for words in commands_in(text):
            check(words)
        if bash:
            assert subprocess.run([bash, "-n", "-c", text], check=False).returncode == 0, finding["fix"]
