"""One NVIDIA GPU behind NVML: finding it, probing what it can tell, and reading it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import pynvml

from harness.errors import NodeError
from harness.power.base import GPU_LOST, DeviceIdentity, DeviceSample
from harness.power.nvml_reading import (
    CARRY_JOULES,
    POWER_AVERAGE,
    QUANTITIES,
    Call,
    Handle,
    Quantity,
    attempt,
    average_power_w,
    error_name,
    value_if_supported,
)

GA100 = (8, 0)  # the compute capability of A100 and A30


class StepWatch:
    """When a counter that moves in steps last moved, as well as the looks at it tell."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._value: float | None = None
        self._seen_s = 0.0
        self._between_s: tuple[float, float] | None = None

    def saw(self, value: float, at_s: float) -> None:
        """Note the counter's value at a time."""
        if self._value is not None and value != self._value:
            self._between_s = (self._seen_s, at_s)
        self._value, self._seen_s = value, at_s

    def age_s(self, at_s: float) -> tuple[float, float] | None:
        """Return how long before ``at_s`` it stepped to its value, and the bound of that; None before any step."""
        if self._between_s is None:
            return None
        early_s, late_s = self._between_s
        return at_s - (early_s + late_s) / 2, (late_s - early_s) / 2


@dataclass(frozen=True)
class Gpu:
    """One whole GPU and the calls that were found to work on it.

    ``averaged`` says that power is the mean of the last second; ``notes`` say what is missing or second best.
    """

    identity: DeviceIdentity
    handle: Handle
    calls: dict[str, Call]
    averaged: bool
    notes: tuple[str, ...]
    steps: StepWatch = field(default_factory=StepWatch)

    def read(self) -> DeviceSample:
        """Read the GPU once; a call that fails is named in ``error`` and leaves its field ``None``."""
        values: dict[str, Any] = {}
        errors: list[str] = []
        at_s = time.monotonic()
        for name, call in self.calls.items():
            values[name], error = attempt(call, self.handle)
            if name == "energy_j":
                at_s = time.monotonic()
            if error is not None and error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
                return DeviceSample(self.identity.uuid, error=GPU_LOST)
            if error is not None:
                errors.append(f"{name}: {error_name(error)}")
        if values.get("energy_j") is not None:
            self.steps.saw(values["energy_j"], at_s)
            values["energy_age_s"], values["energy_age_bound_s"] = self.steps.age_s(at_s) or (None, None)
        return DeviceSample(self.identity.uuid, **values, error="; ".join(errors) or None, t_mono_s=at_s)

    def look(self) -> None:
        """Look at the energy counter alone, to know when it steps; a failure is left for ``read`` to tell."""
        if "energy_j" in self.calls:
            value, _ = attempt(self.calls["energy_j"], self.handle)
            if value is not None:
                self.steps.saw(value, time.monotonic())


def open_gpu(gpu: str | int) -> Gpu:
    """Find a GPU by UUID or NVML index and probe what it can tell.

    Raises ``NodeError`` for an unknown GPU, for MIG and when there is neither power nor energy.
    """
    if isinstance(gpu, str) and gpu.startswith("MIG-"):
        raise mig_refused(gpu)
    handle = find_gpu(gpu)
    identity = identify(handle)
    if _mig_enabled(handle):
        raise mig_refused(identity.uuid)
    calls: dict[str, Call] = {}
    power_way = None
    notes: list[str] = []
    for quantity in QUANTITIES:
        way, failures = first_working(quantity, handle)
        if way is not None:
            calls[quantity.field] = quantity.ways[way]
        if way is not None and quantity.field == "power_w":
            power_way = way
        if failures:
            found = quantity.absence if way is None else f"{quantity.field} is from {way}"
            notes.append(f"{found} ({'; '.join(failures)})")
    if not set(CARRY_JOULES) & calls.keys():
        raise NodeError(
            f"{identity.uuid} reports neither power nor energy.",
            why="; ".join(notes),
            fix="choose another GPU, or use --power simulated to try the harness without watts",
        )
    averaged, of_average = _is_average(power_way, handle)
    notes += of_average + _module_note(handle)
    return Gpu(identity, handle, calls, averaged, tuple(f"NVML on {identity.uuid}: {note}" for note in notes))


def first_working(quantity: Quantity, handle: Handle) -> tuple[str | None, list[str]]:
    """Try the ways to read a quantity; name the first that works and say why those before it did not."""
    failures: list[str] = []
    for way, call in quantity.ways.items():
        _, error = attempt(call, handle)
        if error is None:
            return way, failures
        if error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
            raise error
        failures.append(f"{way}: {error_name(error)}")
    return None, failures


def _is_average(power_way: str | None, handle: Handle) -> tuple[bool, list[str]]:
    """Tell whether power is the mean of the last second, and note what that is a guess about.

    ``nvmlDeviceGetPowerUsage`` averages over a second on Ampere and newer, except GA100; older GPUs and GA100
    read the present (nvml.h).
    """
    if power_way is None or power_way == POWER_AVERAGE:
        return power_way is not None, []
    capability = value_if_supported(lambda: pynvml.nvmlDeviceGetCudaComputeCapability(handle))
    if capability is None:
        return False, ["whether power is an average is unknown (no compute capability): taken as the present"]
    return capability > GA100, []


def _module_note(handle: Handle) -> list[str]:
    module_w, error = attempt(lambda gpu: average_power_w(gpu, pynvml.NVML_POWER_SCOPE_MODULE), handle)
    if error is not None or module_w is None:
        return []
    return [
        "its module, which holds a CPU too, has a power of its own; "
        "only the GPU's power is read, and which of the two the energy counter covers is not told"
    ]


def find_gpu(gpu: str | int) -> Handle:
    """Get the handle of a GPU by UUID or NVML index; ``NodeError`` names those present."""
    try:
        if isinstance(gpu, int):
            return pynvml.nvmlDeviceGetHandleByIndex(gpu)
        return pynvml.nvmlDeviceGetHandleByUUID(gpu)
    except (pynvml.NVMLError_NotFound, pynvml.NVMLError_InvalidArgument) as error:
        indices = range(pynvml.nvmlDeviceGetCount())
        present = ", ".join(f"{i}: {pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(i))}" for i in indices)
        raise NodeError(f"There is no GPU {gpu}.", why=f"present: {present}", fix="name one of these") from error


def identify(handle: Handle) -> DeviceIdentity:
    """Read what identifies a GPU and does not change while it runs."""
    persistence = value_if_supported(lambda: pynvml.nvmlDeviceGetPersistenceMode(handle))
    return DeviceIdentity(
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        name=pynvml.nvmlDeviceGetName(handle),
        index=pynvml.nvmlDeviceGetIndex(handle),
        pci_bus_id=pynvml.nvmlDeviceGetPciInfo(handle).busId,
        memory_total_b=value_if_supported(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle).total),
        power_limit_w=enforced_limit_w(handle),
        persistence_mode=None if persistence is None else persistence == pynvml.NVML_FEATURE_ENABLED,
    )


def enforced_limit_w(handle: Handle) -> float | None:
    """Return the power limit in force in watts, None where it is not told."""
    limit_mw = value_if_supported(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle))
    return None if limit_mw is None else limit_mw / 1e3


def _mig_enabled(handle: Handle) -> bool:
    modes = value_if_supported(lambda: pynvml.nvmlDeviceGetMigMode(handle))
    return modes is not None and modes[0] == pynvml.NVML_DEVICE_MIG_ENABLE


def mig_refused(uuid: str) -> NodeError:
    """Return the error for a GPU in MIG mode, or for an instance of one."""
    return NodeError(
        f"{uuid} is in MIG mode and cannot be measured.",
        why="NVML reports the power of the whole GPU, which its MIG instances share",
        fix="disable MIG (nvidia-smi -i GPU -mig 0) and use the whole GPU",
    )
