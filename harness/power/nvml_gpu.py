"""One NVIDIA GPU behind NVML: what it can tell, and reading it.

NVML's units (mW, mJ, percent) end in this file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pynvml
from pynvml import NVMLError

from harness.errors import NodeError
from harness.power.base import GPU_LOST, DeviceIdentity, DeviceSample

Handle = Any  # an opaque ctypes pointer; pynvml carries no types
Call = Callable[[Handle], float]

POWER_AVERAGE = "field NVML_FI_DEV_POWER_AVERAGE"

_ERROR_NAMES: dict[int, str] = {
    code: name.removeprefix("NVML_ERROR_") for name, code in vars(pynvml).items() if name.startswith("NVML_ERROR_")
}

_FIELD_MEMBERS = {
    pynvml.NVML_VALUE_TYPE_DOUBLE: "dVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: "usVal",
}

_THROTTLE_NAMES = {
    0x001: "gpu_idle",
    0x002: "application_clocks",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake",
    0x100: "display_clock",
    0x200: "board_limit",
    0x400: "reliability",
}


def throttle_names(mask: int) -> tuple[str, ...]:
    """Name the set bits of a clock event reasons mask, lowest first; an unknown bit keeps its number.

    Source: ``nvmlClocksEventReason*`` and ``nvmlClocksThrottleReason*`` in nvml.h.
    """
    bits = [1 << i for i in range(mask.bit_length()) if mask >> i & 1]
    return tuple(_THROTTLE_NAMES.get(bit, f"bit_{bit:#x}") for bit in bits)


# Reading one quantity ------------------------------------------------------------------------------------


def _average_power_w(handle: Handle) -> float:
    return _watts(_field(handle, pynvml.NVML_FI_DEV_POWER_AVERAGE))


def _power_usage_w(handle: Handle) -> float:
    return _watts(pynvml.nvmlDeviceGetPowerUsage(handle))


def _watts(power_mw: float) -> float:
    """Convert a power; a GPU that answers draws something, so 0 is a sensor without a reading."""
    if power_mw == 0:
        raise NVMLError(pynvml.NVML_ERROR_NO_DATA)
    return power_mw / 1e3


def _field(handle: Handle, field_id: int) -> float:
    """Read one field value; the call can succeed while the entry it fills has failed."""
    entry = pynvml.nvmlDeviceGetFieldValues(handle, [field_id])[0]
    if entry.nvmlReturn != pynvml.NVML_SUCCESS:
        raise NVMLError(entry.nvmlReturn)
    if entry.valueType not in _FIELD_MEMBERS:
        raise NVMLError(pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH)
    return float(getattr(entry.value, _FIELD_MEMBERS[entry.valueType]))


def _energy_j(handle: Handle) -> float:
    return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3)


def _utilization_ratio(handle: Handle) -> float:
    return float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)


def _memory_used_b(handle: Handle) -> int:
    return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)


def _temperature_c(handle: Handle) -> float:
    return float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))


def _sm_clock_mhz(handle: Handle) -> float:
    return float(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM))


@dataclass(frozen=True)
class _Quantity:
    """A field of ``DeviceSample``, the calls that can read it (best first), and what its absence means."""

    field: str
    ways: dict[str, Call]
    absence: str


# Power and energy come first and side by side: they are set against each other.
_QUANTITIES = (
    _Quantity(
        "power_w",
        {POWER_AVERAGE: _average_power_w, "nvmlDeviceGetPowerUsage": _power_usage_w},
        "no power: energy comes from the counter only",
    ),
    _Quantity(
        "energy_j",
        {"nvmlDeviceGetTotalEnergyConsumption": _energy_j},
        "no energy counter: energy comes from integrated power only",
    ),
    _Quantity("utilization_ratio", {"nvmlDeviceGetUtilizationRates": _utilization_ratio}, "no utilization"),
    _Quantity("memory_used_b", {"nvmlDeviceGetMemoryInfo": _memory_used_b}, "no memory use"),
    _Quantity("temperature_c", {"nvmlDeviceGetTemperature": _temperature_c}, "no temperature"),
    _Quantity("sm_clock_mhz", {"nvmlDeviceGetClockInfo": _sm_clock_mhz}, "no SM clock"),
    _Quantity(
        "throttle_reasons",
        {
            "nvmlDeviceGetCurrentClocksEventReasons": pynvml.nvmlDeviceGetCurrentClocksEventReasons,
            "nvmlDeviceGetCurrentClocksThrottleReasons": pynvml.nvmlDeviceGetCurrentClocksThrottleReasons,
        },
        "no clock event reasons: throttling cannot be told",
    ),
)


def _attempt(call: Call, handle: Handle) -> tuple[float | None, NVMLError | None]:
    try:
        return call(handle), None
    except NVMLError as error:
        return None, error


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

    def read(self) -> DeviceSample:
        """Read the GPU once; a call that fails is named in ``error`` and leaves its field ``None``."""
        values: dict[str, Any] = {}
        errors: list[str] = []
        for field, call in self.calls.items():
            values[field], error = _attempt(call, self.handle)
            if error is not None and error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
                return DeviceSample(self.identity.uuid, error=GPU_LOST)
            if error is not None:
                errors.append(f"{field}: {error_name(error)}")
        return DeviceSample(self.identity.uuid, **values, error="; ".join(errors) or None)


# Opening ------------------------------------------------------------------------------------------------


def open_gpu(gpu: str | int) -> Gpu:
    """Find a GPU by UUID or NVML index and probe what it can tell.

    Raises ``NodeError`` for an unknown GPU, for MIG and when there is neither power nor energy.
    """
    if isinstance(gpu, str) and gpu.startswith("MIG-"):
        raise _mig_refused(gpu)
    handle = find_gpu(gpu)
    identity = identify(handle)
    if _mig_enabled(handle):
        raise _mig_refused(identity.uuid)
    calls: dict[str, Call] = {}
    notes: list[str] = []
    averaged = False
    for quantity in _QUANTITIES:
        way, failures = _first_working(quantity, handle)
        if way is not None:
            calls[quantity.field] = quantity.ways[way]
            averaged = averaged or way == POWER_AVERAGE
        if failures:
            found = quantity.absence if way is None else f"{quantity.field} is from {way}"
            notes.append(f"NVML on {identity.uuid}: {found} ({'; '.join(failures)})")
    if not {"power_w", "energy_j"} & calls.keys():
        raise NodeError(
            f"{identity.uuid} reports neither power nor energy.",
            why="; ".join(notes),
            fix="choose another GPU, or use --power simulated to try the harness without watts",
        )
    return Gpu(identity, handle, calls, averaged, tuple(notes))


def _first_working(quantity: _Quantity, handle: Handle) -> tuple[str | None, list[str]]:
    """Try the ways to read a quantity; name the first that works and say why those before it did not."""
    failures: list[str] = []
    for way, call in quantity.ways.items():
        _, error = _attempt(call, handle)
        if error is None:
            return way, failures
        if error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
            raise error
        failures.append(f"{way}: {error_name(error)}")
    return None, failures


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
    return DeviceIdentity(
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        name=pynvml.nvmlDeviceGetName(handle),
        index=pynvml.nvmlDeviceGetIndex(handle),
        pci_bus_id=pynvml.nvmlDeviceGetPciInfo(handle).busId,
        memory_total_b=value_if_supported(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle).total),
        power_limit_w=value_if_supported(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1e3),
    )


def value_if_supported(call: Callable[[], Any]) -> Any:
    """Call NVML; None when this GPU or driver does not offer the call."""
    try:
        return call()
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound):
        return None


def _mig_enabled(handle: Handle) -> bool:
    modes = value_if_supported(lambda: pynvml.nvmlDeviceGetMigMode(handle))
    return modes is not None and modes[0] == pynvml.NVML_DEVICE_MIG_ENABLE


def _mig_refused(uuid: str) -> NodeError:
    return NodeError(
        f"{uuid} is in MIG mode and cannot be measured.",
        why="NVML reports the power of the whole GPU, which its MIG instances share",
        fix="disable MIG (nvidia-smi -i GPU -mig 0) and use the whole GPU",
    )


def error_name(error: NVMLError) -> str:
    """Name an NVML error as nvml.h does, without its prefix."""
    return _ERROR_NAMES.get(error.value, f"code {error.value}")
