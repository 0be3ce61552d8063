"""What the findings of a node come to: what it can measure, what not and why, and whether a run would start. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.doctor.finding import EFFECTS, Effect, Finding
from harness.doctor.gpus import numbers
from harness.doctor.probe import Probe

NODE_METERS = ("meters.redfish", "meters.ipmi", "meters.hwmon")


@dataclass(frozen=True)
class Capability:
    """One kind of figure: can it be had here? ``how`` it would be, or why it cannot.

    ``boundary`` is the hardware that its joules cover, None for figures without joules.
    """

    what: str
    boundary: Literal["gpu", "node_modelled", "node", "cpu_dram"] | None
    can: bool
    how: str


def stress_effect(findings: Sequence[Finding]) -> Effect:
    """Return the worst that any finding does to ``harness stress``."""
    return max((finding.stress for finding in findings), key=EFFECTS.index, default="runs")


def capabilities(probe: Probe, findings: Sequence[Finding]) -> tuple[Capability, ...]:
    """Return every kind of figure the harness knows, and whether this node can give it."""
    by_id = {finding.id: finding for finding in findings}
    gpu = _gpu(probe, by_id)
    return (_tokens(by_id), gpu, _modelled(probe, gpu), _metered(by_id), _cpu(by_id))


def profile_finding(probe: Probe) -> Finding:
    """Judge the node profile for these GPUs: from it come node joules without a meter."""
    title, plan = "node profile", probe.plan
    if probe.driver is None:
        return Finding("node.profile", title, "missing", "no GPU to have one for", "no joules of the node by model")
    names = ", ".join(sorted({gpu.name for gpu in probe.driver.gpus}))
    calibrate = ("harness calibrate-node --meter ipmi --out node.yaml", "harness stress --node-profile node.yaml")
    if plan is None:
        trouble = probe.no_plan
        found = "unknown" if trouble is None else f"{trouble.what} ({trouble.why})"
        return Finding(
            "node.profile", title, "limits", found,
            "harness stress stops unless it is told another boundary or profile",
            ("harness stress --boundary gpu", *calibrate), stress="needs_option",
        )  # fmt: skip
    if plan.power != "nvml" or plan.profile is None:
        return Finding(
            "node.profile", title, "missing", f"none is shipped for {names}",
            "figures are at the boundary gpu, beside which no prediction stands, unless a meter gives the node's",
            calibrate,
        )  # fmt: skip
    return Finding("node.profile", title, "ok", f"{plan.profile}, {plan.node_share:.0%} of its GPUs in use")


def summary(found: Sequence[Capability]) -> str:
    """Say in one text what can be measured, what cannot, and why."""
    can = "; ".join(f"{one.what} ({one.how})" for one in found if one.can) or "nothing"
    cannot = [f"{one.what}, because {one.how}" for one in found if not one.can]
    return f"This node can measure: {can}. " + (f"It cannot measure: {'; '.join(cannot)}." if cannot else "")


def _tokens(by_id: dict[str, Finding]) -> Capability:
    what = "tokens and times"
    vllm, port = by_id["server.vllm"], by_id["server.port"]
    broken = [finding for finding in by_id.values() if finding.topic == "server" and finding.status == "missing"]
    if vllm.status == "ok" and not broken:
        return Capability(what, None, True, f"of vLLM {vllm.found.split(',')[0]}, launched here")
    if port.fix and "--url" in port.fix[0]:
        return Capability(what, None, True, f"of the running server: {port.found}")
    reason = broken[0] if broken else vllm
    return Capability(what, None, False, f"{reason.title}: {reason.found}")


def _gpu(probe: Probe, by_id: dict[str, Finding]) -> Capability:
    what = "joules of the GPUs"
    if probe.driver is None:
        return Capability(what, "gpu", False, _short(by_id["gpu.driver"].found))
    gpus = [gpu for gpu in probe.driver.gpus if gpu.carries_joules]
    if not gpus:
        return Capability(what, "gpu", False, "no GPU here is whole and reports power or energy")
    counter = all(gpu.ways.get("energy_j") for gpu in gpus)
    return Capability(
        what, "gpu", True, f"NVML, {'energy counters' if counter else 'integrated power'} of {numbers(gpus)}"
    )


def _modelled(probe: Probe, gpu: Capability) -> Capability:
    what, plan = "joules of the node, by model", probe.plan
    if not gpu.can or probe.driver is None or plan is None:
        return Capability(what, "node_modelled", False, "that needs joules of GPUs")
    if plan.profile is None:
        names = ", ".join(sorted({gpu.name for gpu in probe.driver.gpus}))
        return Capability(what, "node_modelled", False, f"no node profile is shipped for {names}")
    return Capability(what, "node_modelled", True, f"node profile {plan.profile}")


def _metered(by_id: dict[str, Finding]) -> Capability:
    what = "joules of the node, by meter"
    working = [by_id[name] for name in NODE_METERS if by_id[name].status == "ok"]
    if working:
        options = ", ".join(f"--node-meter {finding.id.partition('.')[2]}" for finding in working)
        return Capability(what, "node", True, f"{', '.join(finding.title for finding in working)}: {options}")
    reasons = "; ".join(f"{by_id[name].title}: {_short(by_id[name].found)}" for name in NODE_METERS)
    return Capability(what, "node", False, reasons)


def _cpu(by_id: dict[str, Finding]) -> Capability:
    rapl = by_id["meters.rapl"]
    can = rapl.status == "ok"
    return Capability("joules of CPUs and memory", "cpu_dram", can, "--node-meter rapl" if can else _short(rapl.found))


def _short(text: str) -> str:
    """Return the first statement of a finding, fit to follow "because".

    >>> _short("The library (libx.so) was not found. There is none; really")
    'the library was not found'
    """
    first = re.split(r"[.;] |\.$", re.sub(r" \([^()]*\)", "", text))[0]
    return first[:1].lower() + first[1:] if re.match(r"(The|This|There|No|A) ", first) else first
