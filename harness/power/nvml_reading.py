"""The quantities NVML can tell of one GPU, and the calls that read them.

NVML's units (mW, mJ, percent) end in this file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pynvml
from pynvml import NVMLError

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


def error_name(error: NVMLError) -> str:
    """Name an NVML error as nvml.h does, without its prefix."""
    return _ERROR_NAMES.get(error.value, f"code {error.value}")


def value_if_supported(call: Callable[[], Any]) -> Any:
    """Call NVML; None when this GPU or driver does not offer the call."""
    try:
        return call()
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound):
        return None


def attempt(call: Call, handle: Handle) -> tuple[float | None, NVMLError | None]:
    """Call NVML; return the value, or the error."""
    try:
        return call(handle), None
    except NVMLError as error:
        return None, error


def field_value(handle: Handle, field_id: int, scope: int = pynvml.NVML_POWER_SCOPE_GPU) -> float:
    """Read one field value of a scope; the call can succeed while the entry it fills has failed."""
    entry = pynvml.nvmlDeviceGetFieldValues(handle, [(field_id, scope)])[0]
    if entry.nvmlReturn != pynvml.NVML_SUCCESS:
        raise NVMLError(entry.nvmlReturn)
    if entry.valueType not in _FIELD_MEMBERS:
        raise NVMLError(pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH)
    return float(getattr(entry.value, _FIELD_MEMBERS[entry.valueType]))


def average_power_w(handle: Handle, scope: int = pynvml.NVML_POWER_SCOPE_GPU) -> float:
    """Read the power of the last second, of the GPU alone or of the module with its CPU."""
    return _watts(field_value(handle, pynvml.NVML_FI_DEV_POWER_AVERAGE, scope))


def _instant_power_w(handle: Handle) -> float:
    return _watts(field_value(handle, pynvml.NVML_FI_DEV_POWER_INSTANT))


def _power_usage_w(handle: Handle) -> float:
    return _watts(pynvml.nvmlDeviceGetPowerUsage(handle))


def _watts(power_mw: float) -> float:
    """Convert a power; a GPU that answers draws something, so 0 is a sensor without a reading."""
    if power_mw == 0:
        raise NVMLError(pynvml.NVML_ERROR_NO_DATA)
    return power_mw / 1e3


def _energy_j(handle: Handle) -> float:
    return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3)


def _field_energy_j(handle: Handle) -> float:
    return field_value(handle, pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION) / 1e3


def _utilization_ratio(handle: Handle) -> float:
    return float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)


def _memory_used_b(handle: Handle) -> int:
    return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)


def _temperature_c(handle: Handle) -> float:
    return float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))


def _temperature_v_c(handle: Handle) -> float:
    return float(pynvml.nvmlDeviceGetTemperatureV(handle, pynvml.NVML_TEMPERATURE_GPU))


def _sm_clock_mhz(handle: Handle) -> float:
    return float(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM))


def _memory_clock_mhz(handle: Handle) -> float:
    return float(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM))


@dataclass(frozen=True)
class Quantity:
    """A field of ``DeviceSample``, the calls that can read it (best first), and what its absence means."""

    field: str
    ways: dict[str, Call]
    absence: str


CARRY_JOULES = ("power_w", "energy_j")

# Those that carry joules come first and side by side: they are set against each other.
QUANTITIES = (
    Quantity(
        "power_w",
        {POWER_AVERAGE: average_power_w, "nvmlDeviceGetPowerUsage": _power_usage_w},
        "no power: energy comes from the counter only",
    ),
    Quantity(
        "energy_j",
        {
            "nvmlDeviceGetTotalEnergyConsumption": _energy_j,
            "field NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION": _field_energy_j,
        },
        "no energy counter: energy comes from integrated power only",
    ),
    Quantity("power_instant_w", {"field NVML_FI_DEV_POWER_INSTANT": _instant_power_w}, "no instantaneous power"),
    Quantity("utilization_ratio", {"nvmlDeviceGetUtilizationRates": _utilization_ratio}, "no utilization"),
    Quantity("memory_used_b", {"nvmlDeviceGetMemoryInfo": _memory_used_b}, "no memory use"),
    Quantity(
        "temperature_c",
        {"nvmlDeviceGetTemperature": _temperature_c, "nvmlDeviceGetTemperatureV": _temperature_v_c},
        "no temperature",
    ),
    Quantity("sm_clock_mhz", {"nvmlDeviceGetClockInfo(SM)": _sm_clock_mhz}, "no SM clock"),
    Quantity("memory_clock_mhz", {"nvmlDeviceGetClockInfo(MEM)": _memory_clock_mhz}, "no memory clock"),
    Quantity(
        "throttle_reasons",
        {
            "nvmlDeviceGetCurrentClocksEventReasons": pynvml.nvmlDeviceGetCurrentClocksEventReasons,
            "nvmlDeviceGetCurrentClocksThrottleReasons": pynvml.nvmlDeviceGetCurrentClocksThrottleReasons,
        },
        "no clock event reasons: throttling cannot be told",
    ),
)
