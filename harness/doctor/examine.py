"""Examine a node: ask everything at once, each with a time limit, and sum it up as one document."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import asdict
from functools import partial
from threading import Thread
from typing import Any, TypeVar

from harness import __version__
from harness.doctor import system
from harness.doctor.finding import Finding
from harness.doctor.gpus import gpu_findings
from harness.doctor.meters import METERS
from harness.doctor.node import NoAnswerError, Node
from harness.doctor.outlook import capabilities, profile_finding, stress_effect, summary
from harness.doctor.probe import Probe
from harness.doctor.server import import_vllm, is_running, running_server, vllm_findings
from harness.power.pci import PCI_DEVICES, nvidia_devices_on_bus

SCHEMA = "inference-energy/doctor/1"
PROBE_LIMIT_S = 60.0
CHECK_LIMIT_S = 30.0
STATUSES = ("ok", "limits", "missing", "unknown")

_T = TypeVar("_T")
Check = tuple[str, str, Callable[[], Finding]]


def examine(node: Node) -> dict[str, Any]:
    """Look at everything and return the document; nothing on the node is changed, and nothing is waited for forever."""
    vllm = _begin(partial(import_vllm, node))
    probing = _begin(partial(ask_driver, node))
    meters = _begin_checks([(f"meters.{meter.__name__}", meter.__name__, partial(meter, node)) for meter in METERS])
    ports = _begin_checks(
        [
            ("server.port", f"port {node.server_port}", partial(running_server, node)),
            ("load.metrics_port", "port of the metrics", partial(system.metrics_port, node)),
        ]
    )
    probe = probing.result()
    own = _begin_checks(_system_checks(node, len(probe.driver.gpus) if probe.driver else 0))
    port, metrics_port = (_ended(check) for check in ports)
    findings = [
        *gpu_findings(probe, nvidia_devices(node), host_pids=node.host_pids()),
        *map(_ended, meters),
        *vllm_findings(vllm.result(), probe, running=is_running(port)),
        port,
        metrics_port,
        *map(_ended, own),
        profile_finding(probe),
    ]
    return document(probe, findings)


def document(probe: Probe, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return what was found as one JSON-able document; pure but for the name of this machine."""
    found, plan = capabilities(probe, findings), probe.plan
    return {
        "schema": SCHEMA,
        "harness": __version__,
        "host": {
            "name": platform.node(),
            "system": f"{platform.system()} {platform.release()}",
            "python": f"{platform.python_version()} at {sys.executable}",
        },
        "summary": summary(found),
        "stress": stress_effect(findings),
        "capabilities": [asdict(one) for one in found],
        "power_auto": None if plan is None else {"source": plan.power, "why": plan.power_why},
        "boundary_auto": None if plan is None else plan.boundary,
        "counts": {status: sum(finding.status == status for finding in findings) for status in STATUSES},
        "findings": [{**asdict(finding), "topic": finding.topic, "fix": list(finding.fix)} for finding in findings],
    }


def ask_driver(node: Node) -> Probe:
    """Return what the driver and the planner say; an empty ``Probe`` where they do not answer."""
    try:
        answer = node.run((sys.executable, "-B", "-m", "harness.doctor.probe"), PROBE_LIMIT_S)
    except NoAnswerError:
        return Probe()
    lines = answer.out.strip().splitlines()
    return Probe.model_validate_json(lines[-1]) if answer.code == 0 and lines else Probe()


def nvidia_devices(node: Node) -> int | None:
    """Count NVIDIA's display devices and accelerators on the PCI bus; None where the bus cannot be seen."""
    return nvidia_devices_on_bus(node.path(str(PCI_DEVICES)))


def _system_checks(node: Node, gpus: int) -> Iterator[Check]:
    yield "load.open_files", "open files", system.open_files
    yield "node.clock", "clock", partial(system.clock, node)
    yield "node.disk", "disk", partial(system.disk, node, gpus)
    yield "node.processors", "processors", partial(system.processors, node, gpus)
    yield "node.memory", "memory", partial(system.memory, node)
    yield "node.shared_memory", "shared memory", partial(system.shared_memory, node, gpus)
    yield "node.process_ids", "process ids", partial(system.process_ids, node)


# Work with a time limit ---------------------------------------------------------------------------------


def _begin(work: Callable[[], _T]) -> Future[_T]:
    """Start work on a thread that does not keep this process from ending."""
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed on to whoever asks for the result
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


def _begin_checks(checks: Iterator[Check] | Sequence[Check]) -> list[tuple[str, str, Future[Finding]]]:
    return [(finding_id, title, _begin(work)) for finding_id, title, work in checks]


def _ended(check: tuple[str, str, Future[Finding]]) -> Finding:
    """Return a check's finding; one that does not end in time is itself a finding."""
    finding_id, title, future = check
    if not wait([future], timeout=CHECK_LIMIT_S).done:
        return Finding(finding_id, title, "unknown", f"no answer within {CHECK_LIMIT_S:g} s", "it may hang a run, too")
    return future.result()
