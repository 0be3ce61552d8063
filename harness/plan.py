"""Resolve a configuration against the node: what will run where, measured how, before anything starts."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from estimator.nodes import NodeProfile, load_profile, profile_for_gpu
from estimator.throughput.tps import TpsModel
from harness.budget import CPU_JOB_S, JOB_S
from harness.config import StressConfig
from harness.errors import ConfigError, NodeError, ServerError, WorkloadError
from harness.load.timeline import arrivals_definition
from harness.power.base import DeviceIdentity
from harness.power.meter_names import covers_node, is_replayed
from harness.power.nvml import list_gpus, nvml_unavailable_reason, unreadable_gpus
from harness.power.replay import load_recording
from harness.power.simulated import DEVICE_NAME
from harness.power.visible import VARIABLE, visible_gpus
from harness.server.choose import ModelChoice, choose_model, place_model
from results.schema import Boundary
from workloads.prompts import PromptText, read_prompt_text
from workloads.spec import Workload, WorkloadNameError, load_workload
from workloads.tiny_model import TINY_MODEL
from workloads.traces import WorkloadFileError

MAX_WARMUP_S = 10.0
"""Left out after the fill whatever the log says; the window rule finds longer ramps itself."""
MAX_PART_S = 60.0
"""Of a rung of the search and of a calibration cell: a budget given for long requests must not make these long too."""


@dataclass(frozen=True)
class Timing:
    """How long each phase takes, in seconds."""

    budget_s: float
    warmup_s: float
    idle_s: float
    rung_s: float
    calibration_s: float
    linger_s: float
    min_window_s: float = 20.0
    fill_s: float = 0.0
    """Waited at least for servers to prefill what a load adds, which may be all that the caches of a node hold."""
    job_s: float | None = None
    """What the whole job may take where ``budget_s`` is the least and each cell gets what its window needs."""


@dataclass(frozen=True)
class Plan:
    """Everything decided before the first process starts."""

    config: StressConfig
    workload: Workload
    model: ModelChoice | None
    replica_gpus: tuple[tuple[DeviceIdentity, ...], ...]
    devices: tuple[DeviceIdentity, ...]
    power: str
    power_why: str
    boundary: Boundary
    profile: NodeProfile | None
    node_share: float
    timing: Timing
    tps_model: TpsModel | None
    text: PromptText | None = None
    """The text that prompts are made of; none for random token ids."""
    arrivals: dict[str, Any] | None = None
    """What of a trace is replayed at its own times, and how fast; none where the load does not follow one."""

    @property
    def replicas(self) -> int:
        """Return how many servers share the load."""
        return len(self.config.url) or len(self.replica_gpus)

    @property
    def cells(self) -> tuple[tuple[str, float], ...]:
        """Return the two compared cells as (name, multiplier)."""
        return (("1x", 1.0), (f"{self.config.multiplier:g}x", self.config.multiplier))

    @property
    def no_bare_idle(self) -> str | None:
        """Return why what the node draws before any launch is not measured, or ``None`` where it is."""
        if self.config.url:
            return "the servers ran before this run began"
        if self.power == "nvml":
            return None
        if self.boundary == "node" and not all(map(is_replayed, filter(covers_node, self.config.node_meter))):
            return None
        return f"{'replayed' if is_replayed(self.power) else self.power} power tells nothing of this node at rest"

    @property
    def visits(self) -> tuple[tuple[str, str], ...]:
        """Return what is measured in what order, as (name of the measurement, name of its cell)."""
        first, second = (name for name, _ in self.cells)
        once = ((first, first), (second, second))
        return once if self.config.order == "ab" else (*once, (f"{second}-2", second), (f"{first}-2", first))


def make_plan(config: StressConfig, *, pair: bool = True) -> Plan:
    """Resolve ``config``; raises ``NodeError``, ``WorkloadError`` or ``ConfigError`` for what cannot work here.

    ``pair`` says whether the job compares two lengths, which then must differ.
    """
    power, why, devices = _power(config)
    if pair and config.multiplier == 1:
        raise ConfigError(
            "multiplier = 1 would measure the same cell twice",
            fix="use a multiplier other than 1; for the one cell: harness sweep --ladder N, with N requests in flight",
        )
    model, replica_gpus = (None, ()) if config.url else _placement(config, devices)
    used = devices if config.url else tuple(gpu for gpus in replica_gpus for gpu in gpus)
    known_profile = _profile(config, used, power)
    boundary = _boundary(config, known_profile, used)
    profile = None if boundary == "gpu" else known_profile
    workload = _workload(config, on_gpu=bool(devices))
    return Plan(
        config=config,
        workload=workload,
        model=model,
        replica_gpus=replica_gpus,
        devices=used,
        power=power,
        power_why=why,
        boundary=boundary,
        profile=profile,
        node_share=_node_share(config, boundary, profile, power, used),
        timing=_timing(config, on_gpu=bool(devices), pair=pair),
        tps_model=_tps_model(config),
        text=_text(config),
        arrivals=arrivals_definition(config.arrival, config.workload, workload.definition().get("trace_requests")),
    )


def _power(config: StressConfig) -> tuple[str, str, tuple[DeviceIdentity, ...]]:
    """Return the power source, why it was taken, and the GPUs there are to use."""
    missing = nvml_unavailable_reason()
    _refuse_unreadable_recordings(config)
    if config.power.startswith("replay:"):
        gpus, named = ((), "") if missing is not None else _gpus(config.gpu)
        return config.power, f"asked for{named}", gpus
    if config.power == "auto" and missing is not None:
        _refuse_unreadable_gpus()
        return "simulated", f"no NVML here: {missing}", ()
    if config.power == "simulated" and missing is not None:
        return "simulated", "asked for", ()
    gpus, named = _gpus(config.gpu)
    if config.power == "simulated":
        return "simulated", f"asked for{named}", gpus
    return "nvml", f"{'asked for' if config.power == 'nvml' else 'the NVIDIA driver is here'}{named}", gpus


def _refuse_unreadable_recordings(config: StressConfig) -> None:
    for text, boundary in ((config.power, "gpu"), *((meter, "node") for meter in config.node_meter)):
        if is_replayed(text):
            load_recording(Path(text.partition(":")[2]), boundary)


def _refuse_unreadable_gpus() -> None:
    """Power is simulated unasked only where there is no GPU: one that fails must not turn joules into inventions."""
    why = unreadable_gpus()
    if why is not None:
        raise NodeError(
            "there are NVIDIA GPUs here, but their power cannot be read",
            why=why,
            fix="mend the driver (harness doctor says more; in a container: --gpus all); or ask for joules that are "
            "invented with --power simulated",
        )


def _gpus(wanted: tuple[str, ...]) -> tuple[tuple[DeviceIdentity, ...], str]:
    """Return the GPUs to use and, where it is not an option that names them, what does."""
    gpus = list_gpus()
    if wanted:
        return _select(gpus, wanted), ""
    visible = visible_gpus(gpus, os.environ)
    return (gpus, "") if visible is None else (visible, f"; GPUs by {VARIABLE}={os.environ[VARIABLE]}")


def _select(gpus: tuple[DeviceIdentity, ...], wanted: tuple[str, ...]) -> tuple[DeviceIdentity, ...]:
    chosen = tuple(gpu for gpu in gpus if str(gpu.index) in wanted or gpu.uuid in wanted)
    if len(chosen) != len(set(wanted)):
        here = ", ".join(f"{gpu.index} ({gpu.uuid})" for gpu in gpus)
        raise NodeError(f"--gpu {' '.join(wanted)}: not all of these exist", why=f"this node has {here}")
    return chosen


def _placement(
    config: StressConfig, devices: tuple[DeviceIdentity, ...]
) -> tuple[ModelChoice, tuple[tuple[DeviceIdentity, ...], ...]]:
    """Choose the model and give each replica its GPUs; without GPUs every replica gets none."""
    if importlib.util.find_spec("vllm") is None:
        raise ServerError(
            "vLLM is not installed in this Python",
            why="the harness launches it as a process with this interpreter",
            fix="run: make setup, or use a running server with --url",
        )
    if config.model and _looks_like_path(config.model) and not Path(config.model).is_dir():
        raise ConfigError(f"the model folder {config.model} does not exist", fix="give an existing folder or a hub id")
    if config.model == TINY_MODEL or not devices:
        why = "given" if config.model else "no GPU here"
        model = ModelChoice(config.model or TINY_MODEL, config.tensor_parallel or 1, why)
    else:
        memory_b = _smallest_memory_b(devices)
        if config.model is None:
            model = choose_model(len(devices), memory_b)
        else:
            model = place_model(config.model, config.tensor_parallel, len(devices), memory_b)
    if not devices:
        return model, ((),) * (config.replicas or 1)
    width = model.tensor_parallel
    replicas = config.replicas or max(1, len(devices) // width)
    if replicas * width > len(devices):
        raise NodeError(
            f"{replicas} replica(s) of {width} GPU(s) need {replicas * width} GPUs, this node has {len(devices)}",
            fix="lower --replicas or --tensor-parallel",
        )
    return model, tuple(devices[number * width : (number + 1) * width] for number in range(replicas))


def _smallest_memory_b(devices: tuple[DeviceIdentity, ...]) -> int:
    sizes = [gpu.memory_total_b for gpu in devices if gpu.memory_total_b is not None]
    if len(sizes) < len(devices):
        raise NodeError("the driver does not report the GPUs' memory", fix="check nvidia-smi, or use --url")
    return min(sizes)


def _looks_like_path(model: str) -> bool:
    return model.startswith(("/", "./", "../", "~"))


def _profile(config: StressConfig, used: tuple[DeviceIdentity, ...], power: str) -> NodeProfile | None:
    try:
        if config.node_profile is not None:
            return load_profile(config.node_profile)
    except ValueError as error:
        raise NodeError(f"node_profile = {config.node_profile!r} cannot be used", why=str(error)) from error
    if power == "simulated":
        return profile_for_gpu(DEVICE_NAME)
    return profile_for_gpu(used[0].name) if used else None


def _boundary(config: StressConfig, profile: NodeProfile | None, used: tuple[DeviceIdentity, ...]) -> Boundary:
    if config.boundary == "node_modelled" and profile is None:
        raise NodeError(
            "the boundary node_modelled needs a node profile",
            why=f"none is shipped for {used[0].name if used else 'this node'}",
            fix="give one with --node-profile FILE.yaml, or use --boundary gpu",
        )
    metered = any(covers_node(meter) for meter in config.node_meter)
    if config.boundary == "node" and not metered:
        raise NodeError(
            "the boundary node needs a meter of the node",
            why="it is not modelled",
            fix="give one with --node-meter, or use --boundary node_modelled",
        )
    if config.boundary == "auto":
        return "node" if metered else "gpu" if profile is None else "node_modelled"
    return config.boundary


def _node_share(
    config: StressConfig, boundary: Boundary, profile: NodeProfile | None, power: str, used: tuple[DeviceIdentity, ...]
) -> float:
    """Return the used share of the node's GPUs; a part of a metered node takes a profile unless all is charged."""
    if profile is not None:
        return 1.0 if power == "simulated" else _share(profile, _gpus_used(power, used))
    share = len(used) / len(list_gpus()) if boundary == "node" and used else 1.0
    if (config.allocation == "marginal" and boundary != "gpu") or (config.allocation == "share" and share < 1):
        raise NodeError(
            f"the allocation {config.allocation} needs a node profile",
            why="what the unused GPUs and the idle node draw is not metered apart",
            fix="give one with --node-profile FILE.yaml, or use --allocation whole",
        )
    return share


def _gpus_used(power: str, used: tuple[DeviceIdentity, ...]) -> int:
    """Return how many GPUs draw the power: those in use here, or those of the recording."""
    _, _, file = power.partition("replay:")
    return len(load_recording(Path(file)).devices) if file else len(used)


def _share(profile: NodeProfile, gpus_used: int) -> float:
    """Return the share of the node that the GPUs used are."""
    try:
        return profile.share(gpus_used)
    except ValueError as error:
        raise NodeError("the node profile does not match this node", why=str(error)) from error


def _workload(config: StressConfig, *, on_gpu: bool) -> Workload:
    try:
        return load_workload(config.workload or ("traditional" if on_gpu or config.url else "small"))
    except WorkloadNameError as error:
        raise ConfigError(str(error)) from error
    except WorkloadFileError as error:
        raise WorkloadError(str(error)) from error


def _text(config: StressConfig) -> PromptText | None:
    _, _, file = config.prompts.partition("text:")
    try:
        return read_prompt_text(Path(file)) if file else None
    except WorkloadFileError as error:
        raise WorkloadError(str(error)) from error


def _tps_model(config: StressConfig) -> TpsModel | None:
    if config.tps_model is None:
        return None
    try:
        return TpsModel.load(Path(config.tps_model))
    except (OSError, ValueError) as error:
        raise WorkloadError(
            f"cannot use the TPS model {config.tps_model}",
            why=str(error),
            fix="write one with: harness refit RUN",
        ) from error


def _timing(config: StressConfig, *, on_gpu: bool, pair: bool) -> Timing:
    """Return the phases' lengths; on a CPU everything is short, so that the whole run takes a few minutes.

    Without ``--budget`` the cells of a pair get what their windows need, as far as the job's hour, or minutes, go.
    """
    budget_s = config.budget or (300.0 if on_gpu else 35.0)
    return Timing(
        budget_s=budget_s,
        warmup_s=min(budget_s / 5, MAX_WARMUP_S),
        idle_s=config.idle or (60.0 if on_gpu else 8.0),
        rung_s=min(max(3.0, budget_s / (7 if on_gpu else 10)), MAX_PART_S),
        calibration_s=min(max(4.0, budget_s / (5 if on_gpu else 3)), MAX_PART_S),
        linger_s=config.linger if config.linger is not None else (15.0 if on_gpu else 5.0),
        min_window_s=config.min_window or (60.0 if on_gpu else 20.0),
        fill_s=120.0 if on_gpu else 0.0,
        job_s=(JOB_S if on_gpu else CPU_JOB_S) if pair and config.budget is None else None,
    )


def cpu_cores(replica: int, replicas: int) -> str:
    """Return the cores of one CPU replica as vLLM wants them: its own share, so that none starves the other."""
    cores = sorted(os.sched_getaffinity(0))
    mine = cores[replica::replicas] or [cores[replica % len(cores)]]
    return ",".join(str(core) for core in mine)
