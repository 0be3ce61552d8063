import pytest

from harness.doctor.gpus import gpu_findings, numbers
from harness.doctor.probe import Probe
from tests.unit.harness.doctor.facts import check_fixes, gpu, node_of, without, without_gpus

EIGHT = tuple(gpu(index) for index in range(8))


def found_on(probe, *, nvidia_devices=None, host_pids=True):
    findings = {finding.id: finding for finding in gpu_findings(probe, nvidia_devices, host_pids=host_pids)}
    for finding in findings.values():
        check_fixes(finding)
    return findings


def test_healthy_gpus_have_nothing_to_mend():
    findings = found_on(node_of(*EIGHT), nvidia_devices=8)
    assert {finding.status for finding in findings.values()} == {"ok"}
    assert not any(finding.fix for finding in findings.values())
    assert findings["gpu.models"].found == "8 x NVIDIA H100 80GB HBM3, 86 GB"


@pytest.mark.parametrize(
    ("change", "finding_id", "status", "found", "fix", "stress"),
    [
        ({"mig": True}, "gpu.mig", "limits", "on: GPU 1", "sudo nvidia-smi -i 1 -mig 0", "needs_option"),
        (without("energy_j"), "gpu.energy_counter", "limits", "GPU 1: missing (call: NOT_", "nvidia-smi", "runs"),
        (without("power_w"), "gpu.power_average", "limits", "GPU 1: missing", "nvidia-smi", "runs"),
        (without("power_w", "energy_j"), "gpu.joules", "missing", "GPU 1: neither", "--gpu 0 --gpu 2", "needs_option"),
        (without("power_instant_w"), "gpu.power_instant", "limits", "GPU 1: missing", "nvidia-smi", "runs"),
        (without("throttle_reasons"), "gpu.throttle_reasons", "limits", "GPU 1: missing", "nvidia-smi", "runs"),
        (without("temperature_c"), "gpu.readings", "limits", "GPU 1: temperature", "nvidia-smi", "runs"),
        ({"pids": (42, 7)}, "gpu.processes", "limits", "42, 7 on GPU 1", "--query-compute-apps", "runs"),
        ({"pids": None}, "gpu.processes", "unknown", "GPU 1", "--query-compute-apps", "runs"),
        ({"persistence": False}, "gpu.persistence", "limits", "off: GPU 1", "sudo nvidia-smi -i 1 -pm 1", "runs"),
        ({"persistence": None}, "gpu.persistence", "unknown", "GPU 1", None, "runs"),
        ({"limit_w": 450.0}, "gpu.power_limit", "limits", "GPU 1: 450 W, default 700 W", "-i 1 -pl 700", "runs"),
        ({"default_limit_w": None}, "gpu.power_limit", "unknown", "GPU 1: 700 W, default unknown", "-d POWER", "runs"),
        ({"ecc": False}, "gpu.ecc", "limits", "off: GPU 1", "sudo nvidia-smi -i 1 -e 1", "runs"),
        ({"ecc": None}, "gpu.ecc", "unknown", "not told by GPU 1", None, "runs"),
        ({"ecc_uncorrected": 3}, "gpu.ecc", "limits", "3 uncorrected error(s) since", "-d ECC", "runs"),
        ({"name": "NVIDIA A100"}, "gpu.models", "limits", "1 x NVIDIA A100, 2 x NVIDIA", "--gpu 0 --gpu 2", "runs"),
    ],
)  # fmt: skip
def test_what_is_not_well_on_one_gpu_of_three_is_named_with_its_number(change, finding_id, status, found, fix, stress):
    findings = found_on(node_of(gpu(0), gpu(1, **change), gpu(2)))
    finding = findings[finding_id]
    assert (finding.status, finding.stress) == (status, stress)
    assert found in finding.found
    assert any(fix in command for command in finding.fix) if fix else not finding.fix


def test_a_call_that_stands_in_for_another_is_named_and_costs_nothing():
    way = {"power_w": "nvmlDeviceGetPowerUsage"}
    old = gpu(3, ways=gpu().ways | way, refusals={"power_w": "field X: NOT_SUPPORTED"})
    finding = found_on(node_of(*EIGHT[:3], old))["gpu.power_average"]
    assert finding.status == "ok"
    assert finding.found.endswith("; GPU 3: nvmlDeviceGetPowerUsage (in place of field X: NOT_SUPPORTED)")
    assert finding.found.startswith("GPUs 0-2: field ")


def test_gpus_that_are_all_in_mig_mode_stop_every_run():
    findings = found_on(node_of(*(gpu(index, mig=True) for index in range(2))))
    assert findings["gpu.mig"].stress == "cannot_run"
    assert findings["gpu.mig"].fix == ("sudo nvidia-smi -i 0,1 -mig 0",)
    assert "gpu.energy_counter" not in findings


def test_a_driver_without_events_cannot_tell_of_xid_errors():
    finding = found_on(node_of(gpu(), no_events="NOT_SUPPORTED"))["gpu.readings"]
    assert (finding.status, "XID errors (NOT_SUPPORTED)" in finding.found) == ("limits", True)


def test_an_empty_list_of_processes_proves_little_in_a_container():
    finding = found_on(node_of(gpu()), host_pids=False)["gpu.processes"]
    assert finding.status == "unknown"


def test_gpus_on_the_bus_that_this_process_does_not_see_are_missed():
    finding = found_on(node_of(gpu()), nvidia_devices=8)["gpu.models"]
    assert finding.status == "limits"
    assert "8 NVIDIA devices on the PCI bus" in finding.found


@pytest.mark.parametrize(
    ("devices", "said", "fixes", "stress"),
    [(0, "No NVIDIA device", 0, "runs"), (8, "8 NVIDIA", 3, "needs_option"), (None, "cannot be seen", 2, "runs")],
)
def test_without_a_driver_the_bus_tells_whether_there_is_anything_to_mend(devices, said, fixes, stress):
    (finding,) = found_on(without_gpus(), nvidia_devices=devices).values()
    assert (finding.status, finding.stress, len(finding.fix)) == ("missing", stress, fixes)
    assert said in finding.found


def test_a_driver_that_does_not_answer_stops_every_run():
    (finding,) = found_on(Probe()).values()
    assert (finding.status, finding.stress) == ("unknown", "cannot_run")


@pytest.mark.parametrize(
    ("indices", "text"), [((4,), "GPU 4"), ((0, 1, 2), "GPUs 0-2"), ((7, 0, 2, 3), "GPUs 0, 2-3, 7")]
)
def test_gpus_are_named_in_runs(indices, text):
    assert numbers([gpu(index) for index in indices]) == text
