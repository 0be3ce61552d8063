"""Nodes as the driver would describe them, to be changed in one respect."""

from __future__ import annotations

from typing import Any

from harness.doctor.finding import Finding
from harness.doctor.probe import DriverFacts, GpuFacts, PlanFacts, Probe, Trouble
from tests.unit.deploy.commands import check, commands_in

H100 = "NVIDIA H100 80GB HBM3"
WAYS = {
    "power_w": "field NVML_FI_DEV_POWER_AVERAGE", "energy_j": "nvmlDeviceGetTotalEnergyConsumption",
    "power_instant_w": "field NVML_FI_DEV_POWER_INSTANT", "utilization_ratio": "u", "memory_used_b": "m",
    "temperature_c": "t", "sm_clock_mhz": "s", "memory_clock_mhz": "c",
    "throttle_reasons": "nvmlDeviceGetCurrentClocksEventReasons",
}  # fmt: skip
NVML_PLAN = PlanFacts(
    power="nvml", power_why="the NVIDIA driver is here", boundary="node_modelled", profile="hgx-h100",
    model="org/model", tensor_parallel=8,
)  # fmt: skip
NO_LIBRARY = Trouble(what="The library was not found.", why="there is no NVIDIA driver here", fix="install the driver")


def gpu(index: int = 0, **changes: Any) -> GpuFacts:
    """Return a healthy H100, but for ``changes``."""
    healthy = {
        "index": index, "uuid": f"GPU-{index}", "name": H100, "memory_total_b": 80 * 2**30, "limit_w": 700.0,
        "default_limit_w": 700.0, "persistence": True, "mig": False, "ecc": True, "ecc_uncorrected": 0, "pids": (),
        "ways": WAYS,
    }  # fmt: skip
    return GpuFacts.model_validate(healthy | changes)


def node_of(*gpus: GpuFacts, no_events: str | None = None, plan: PlanFacts | None = NVML_PLAN) -> Probe:
    """Return what a node with these GPUs tells."""
    driver = DriverFacts(version="570.1", nvml="12.570.1", cuda=(12, 8), gpus=gpus, no_events=no_events)
    return Probe(driver=driver, plan=plan)


def without_gpus() -> Probe:
    """Return what a node without a driver tells."""
    plan = PlanFacts(
        power="simulated", power_why="no NVML here", boundary="node_modelled", profile="simulated-node", model="tiny"
    )
    return Probe(no_driver=NO_LIBRARY, plan=plan)


def without(*fields: str) -> dict[str, Any]:
    """Return the change to a GPU by which these readings have no call that works."""
    return {
        "ways": {**WAYS, **dict.fromkeys(fields)},
        "refusals": dict.fromkeys(fields, "call: NOT_SUPPORTED"),
    }


def check_fixes(finding: Finding) -> None:
    """Check that the commands of the harness among the fixes exist, and that what is not well says what it means."""
    for words in commands_in("\n".join(finding.fix)):
        check(words)
    assert finding.status == "ok" or finding.meaning, finding
    assert finding.status != "limits" or finding.fix, finding
