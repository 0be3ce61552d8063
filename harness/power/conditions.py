"""What a device was like over a window besides its power: throttling, errors, and who else used it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from harness.power.base import DeviceState, PowerRow

HARDWARE_THROTTLED = "hardware_throttled"
ECC_UNCORRECTED = "ecc_uncorrected"
XID_ERROR = "xid_error"
POWER_LIMIT_CHANGED = "power_limit_changed"
FOREIGN_PROCESSES = "foreign_processes"

MAX_HARDWARE_THROTTLED_SHARE = 0.05

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
_NOT_THROTTLING = 0x001 | 0x002 | 0x100  # idle, or clocks that somebody chose
_FAULTS = 0x008 | 0x020 | 0x040 | 0x080  # heat or a slowdown from outside; a power cap is how a saturated GPU runs


def throttle_names(mask: int) -> tuple[str, ...]:
    """Name the set bits of a clock event reasons mask, lowest first; an unknown bit keeps its number.

    Source: ``nvmlClocksEventReason*`` and ``nvmlClocksThrottleReason*`` in nvml.h.
    """
    return tuple(_THROTTLE_NAMES.get(bit, f"bit_{bit:#x}") for bit in _bits(mask))


@dataclass(frozen=True)
class Throttling:
    """Shares of a window's readings: with any throttling, and by cause. None where the device does not tell.

    ``by_cause`` also holds ``gpu_idle`` and clocks that somebody chose, which are no throttling.
    """

    share: float | None
    by_cause: dict[str, float]
    hardware_share: float | None


def throttling(masks: Iterable[int | None]) -> Throttling:
    """Return the shares of readings with each clock event reason; readings without a mask are left out.

    >>> throttling([0x4, 0x4, 0x1, None, 0x44]).by_cause
    {'gpu_idle': 0.25, 'sw_power_cap': 0.75, 'hw_thermal_slowdown': 0.25}
    """
    known = [mask for mask in masks if mask is not None]
    if not known:
        return Throttling(None, {}, None)
    every = 0
    for mask in known:
        every |= mask
    return Throttling(
        share=_share(known, every & ~_NOT_THROTTLING),
        by_cause={throttle_names(bit)[0]: _share(known, bit) for bit in _bits(every)},
        hardware_share=_share(known, _FAULTS),
    )


@dataclass(frozen=True)
class Conditions:
    """What one device was like over a window. None is unknown."""

    uuid: str
    throttling: Throttling
    temperature_max_c: float | None
    sm_clock_mean_mhz: float | None
    memory_clock_mean_mhz: float | None
    utilization_mean_ratio: float | None
    memory_max_b: int | None
    ecc_corrected: int | None
    ecc_uncorrected: int | None
    power_limit_end_w: float | None
    xids: tuple[int, ...]
    reasons: tuple[str, ...]


def conditions(rows: Sequence[PowerRow], before: DeviceState, after: DeviceState) -> Conditions:
    """Sum up one device's rows over a window, and what its state grew by around it."""
    throttled = throttling(row.throttle_reasons for row in rows)
    uncorrected = _growth(before.ecc_uncorrected, after.ecc_uncorrected)
    xids = tuple(row.xid for row in rows if row.xid is not None)
    limits = {before.power_limit_w, after.power_limit_w} - {None}
    reasons = {
        HARDWARE_THROTTLED: (throttled.hardware_share or 0.0) > MAX_HARDWARE_THROTTLED_SHARE,
        ECC_UNCORRECTED: bool(uncorrected),
        XID_ERROR: bool(xids),
        POWER_LIMIT_CHANGED: len(limits) > 1,
    }
    return Conditions(
        uuid=before.uuid,
        throttling=throttled,
        temperature_max_c=_largest(row.temperature_c for row in rows),
        sm_clock_mean_mhz=_mean(row.sm_clock_mhz for row in rows),
        memory_clock_mean_mhz=_mean(row.memory_clock_mhz for row in rows),
        utilization_mean_ratio=_mean(row.utilization_ratio for row in rows),
        memory_max_b=max((row.memory_used_b for row in rows if row.memory_used_b is not None), default=None),
        ecc_corrected=_growth(before.ecc_corrected, after.ecc_corrected),
        ecc_uncorrected=uncorrected,
        power_limit_end_w=after.power_limit_w,
        xids=xids,
        reasons=tuple(reason for reason, holds in reasons.items() if holds),
    )


@dataclass(frozen=True)
class OtherUse:
    """Whether processes that are not ours computed on a device; None is unknown, and ``why`` says what is known."""

    foreign: bool | None
    why: str


def other_use(
    before: Sequence[int] | None, after: Sequence[int] | None, own: Collection[int], *, host_pids: bool
) -> OtherUse:
    """Judge from the processes on a device before and after ours ran, and the ids of ours.

    Whoever was there before is not ours. Who came later is told apart by process id, which works only where ours are
    the host's (``host_pids``): a container has ids of its own.
    """
    if before is None or after is None:
        return OtherUse(None, "the driver does not list processes")
    if before:
        return OtherUse(True, f"there before: {_listed(before)}")
    if not after:
        return OtherUse(False, "none before or after; one that came and went between is not seen")
    if not host_pids:
        return OtherUse(None, f"came meanwhile: {_listed(after)}; these are the host's ids, ours are a container's")
    others = [pid for pid in after if pid not in own]
    if others:
        return OtherUse(True, f"came meanwhile: {_listed(others)}")
    return OtherUse(False, "only ours")


def _listed(pids: Iterable[int]) -> str:
    return ", ".join(map(str, pids))


def _bits(mask: int) -> list[int]:
    return [1 << i for i in range(mask.bit_length()) if mask >> i & 1]


def _share(masks: Sequence[int], wanted: int) -> float:
    return sum(bool(mask & wanted) for mask in masks) / len(masks)


def _growth(before: int | None, after: int | None) -> int | None:
    """How much a count grew; one that fell was reset, so what it missed is unknown."""
    if before is None or after is None or after < before:
        return None
    return after - before


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Iterable[float | None]) -> float | None:
    known = _known(values)
    return sum(known) / len(known) if known else None


def _largest(values: Iterable[float | None]) -> float | None:
    return max(_known(values), default=None)
