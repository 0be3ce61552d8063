"""Measure the energy of a command or a stretch of time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import psutil

from harness.errors import ConfigError, MeasurementError, NodeError
from harness.live.state import LiveState
from harness.power.base import DeviceState, PowerRow, PowerSource
from harness.power.meter_names import METERS_HELP, check_meter
from harness.power.meters import open_meter
from harness.power.nvml import NvmlSource, list_gpus, nvml_unavailable_reason, open_nvml
from harness.power.nvml_sampler import sampler_for
from harness.power.nvml_state import sees_host_pids
from harness.power.sampler import PERIOD_S, Sampler
from harness.power.simulated import Driver, SimulatedSource
from harness.power.visible import visible_gpus
from harness.stretch import Stretch, run_command, wait_seconds
from harness.studies.measure_report import Reading, measure_document

FIRST_ROUND_LIMIT_S = 60.0
_LEAD_S = _TAIL_S = 0.3  # readings around the window, so that its edges lie between steps of a counter


@dataclass(frozen=True)
class MeasureOptions:
    """What ``harness measure`` was asked for.

    ``power`` names sources, ``gpu`` indices or UUIDs; without any they are those of CUDA_VISIBLE_DEVICES, else all.
    """

    seconds: float | None = None
    power: tuple[str, ...] = ("auto",)
    gpu: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    stdout_to_stderr: bool = False


class _Readings:
    """Keeps every row, and gives those of the stretch to its live state."""

    def __init__(self) -> None:
        self.rows: list[PowerRow] = []
        self.live: LiveState | None = None

    def take(self, rows: Sequence[PowerRow]) -> None:
        self.rows.extend(rows)
        if self.live is not None:
            self.live.power_read(rows)


def measure(
    options: MeasureOptions, watch: Callable[[LiveState], AbstractContextManager[None]] = lambda _: nullcontext()
) -> dict[str, Any]:
    """Measure a command, a number of seconds, or the time until interrupted; return the result as a document.

    ``watch`` is given the live state of the stretch, and is left when the stretch has ended.
    """
    with ExitStack() as stack:
        sources = _open_sources(options, stack)
        before = {state.uuid: state for source in sources for state in _states(source)}
        taken = _Readings()
        samplers = [
            stack.enter_context(sampler_for(source, taken.take, period_s=_period_s(source))) for source in sources
        ]
        _wait_until(lambda: all(sampler.latest for sampler in samplers), samplers)
        time.sleep(_LEAD_S)
        taken.live = LiveState()
        with watch(taken.live):
            stretch = _pass_stretch(options)
        time.sleep(max(source.power_lag_s + _period_s(source) for source in sources) + _TAIL_S)
        for sampler in samplers:
            sampler.stop()
        after = {state.uuid: state for source in sources for state in _states(source)}
        readings = tuple(
            Reading(source, _period_s(source), sampler) for source, sampler in zip(sources, samplers, strict=True)
        )
        states = {uuid: (before[uuid], after[uuid]) for uuid in before}
        return measure_document(
            readings, taken.rows, stretch, states, options.command, options.seconds, host_pids=sees_host_pids()
        )


def _pass_stretch(options: MeasureOptions) -> Stretch:
    if options.command:
        return run_command(options.command, seconds=options.seconds, stdout_to_stderr=options.stdout_to_stderr)
    return wait_seconds(options.seconds)


def _period_s(source: PowerSource) -> float:
    return float(getattr(source, "period_s", PERIOD_S))


def _states(source: PowerSource) -> Sequence[DeviceState]:
    if isinstance(source, NvmlSource):
        return source.state()
    return tuple(DeviceState(device.uuid) for device in source.devices)


def _wait_until(holds: Callable[[], bool], samplers: Sequence[Sampler]) -> None:
    end_s = time.monotonic() + FIRST_ROUND_LIMIT_S
    while not holds():
        for sampler in samplers:
            sampler.check()
        if time.monotonic() > end_s:
            raise MeasurementError(
                "A power source gave no reading.",
                why=f"{FIRST_ROUND_LIMIT_S:g} s passed before the first one",
                fix="leave the source out with --power, or see why it does not answer",
            )
        time.sleep(0.01)


# Sources ------------------------------------------------------------------------------------------------


def _open_sources(options: MeasureOptions, stack: ExitStack) -> list[PowerSource]:
    if len(set(options.power)) < len(options.power):
        raise ConfigError("A power source is named twice.", fix="name each --power once")
    sources: list[PowerSource] = []
    for name in options.power:
        sources.append(_open(name, options.gpu))
        stack.callback(sources[-1].close)
    if options.gpu and not any(isinstance(source, NvmlSource) for source in sources):
        raise ConfigError("--gpu chooses among NVML's GPUs, and NVML is not asked for.", fix="use --power nvml")
    if sum(source.boundary == "gpu" for source in sources) > 1:
        raise ConfigError("Only one source of GPU power can be used.", fix="name one of nvml and simulated")
    return sources


def _open(name: str, gpus: tuple[str, ...]) -> PowerSource:
    if name == "simulated":
        return _simulated()
    if name == "auto":
        _refuse_without_nvml()
    if name in ("auto", "nvml"):
        return open_nvml([int(gpu) if gpu.isdecimal() else gpu for gpu in gpus] or _visible())
    try:
        return open_meter(check_meter(name))
    except ValueError as error:
        raise ConfigError(
            f"--power {name} is no power source.", fix=f"give auto, nvml, simulated, {METERS_HELP}"
        ) from error


def _visible() -> list[str | int] | None:
    """Return the GPUs that a command started here may use, or ``None`` for all of them."""
    visible = visible_gpus(list_gpus(), os.environ)
    return None if visible is None else [gpu.uuid for gpu in visible]


def _refuse_without_nvml() -> None:
    reason = nvml_unavailable_reason()
    if reason is not None:
        raise NodeError(
            "There is no GPU power sensor to measure with.",
            why=reason,
            fix="name another source, such as --power rapl or --power redfish; "
            "or try the command with --power simulated, whose joules are invented",
        )


def _simulated() -> SimulatedSource:
    cores = psutil.cpu_count() or 1
    psutil.cpu_percent()  # the first call has nothing to compare with
    driver = Driver("the busy processor cores of this machine", cores / 2, "cores")
    return SimulatedSource(lambda: cores * psutil.cpu_percent() / 100, driver=driver)
