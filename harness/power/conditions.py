"""What a device was like over a window besides its power: throttling, errors, and who else used it. Pure.

What each reason code means for figures taken meanwhile:

- ``ecc_uncorrected``: memory was wrong and what was computed may be too; a cell is invalid.
- ``xid_error``: the driver reported a fault, which may be another program's. Joules and tokens were still counted, but
  at what cost the fault was overcome is unknown: suspect. Errors that end a measurement have codes of their own
  (``gpu_lost``, ``server_lost``, ``ecc_uncorrected``), all of them invalid.
- ``hardware_throttled``: heat or a slowdown from outside held the clocks down in over 5% of the readings: suspect, the
  figures are of a machine in a state that others will not have. A power cap is no fault: saturated GPUs run at theirs.
- ``power_limit_changed``: the figures mix two settings: suspect.
- ``foreign_processes``: the joules cover work of others: suspect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
FAULTS = 0x008 | 0x020 | 0x040 | 0x080  # heat or a slowdown from outside; a power cap is how a saturated GPU runs
NOT_THROTTLING = frozenset(name for bit, name in _THROTTLE_NAMES.items() if bit & _NOT_THROTTLING)
"""Names of the clock event reasons that are no throttling."""
THROTTLE_CAUSES = {bit: name for bit, name in _THROTTLE_NAMES.items() if name not in NOT_THROTTLING}
"""Names of those that are, by bit."""


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
    readings = Counter(mask for mask in masks if mask is not None)
    if not readings:
        return Throttling(None, {}, None)
    every = 0
    for mask in readings:
        every |= mask
    return Throttling(
        share=_share(readings, every & ~_NOT_THROTTLING),
        by_cause={throttle_names(bit)[0]: _share(readings, bit) for bit in _bits(every)},
        hardware_share=_share(readings, FAULTS),
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


READ_COLUMNS = (
    "throttle_reasons", "temperature_c", "sm_clock_mhz", "memory_clock_mhz", "utilization_ratio", "memory_used_b",
    "xid",
)  # fmt: skip
"""What ``conditions`` takes from the readings of a device."""


def conditions(rows: Sequence[PowerRow], before: DeviceState, after: DeviceState) -> Conditions:
    """Sum up one device's rows over a window, and what its state grew by around it."""
    return conditions_of({name: [getattr(row, name) for row in rows] for name in READ_COLUMNS}, before, after)


def conditions_of(columns: Mapping[str, Sequence[Any]], before: DeviceState, after: DeviceState) -> Conditions:
    """Do as ``conditions`` with each of ``READ_COLUMNS`` as a column of its own; they need not be of one length."""
    throttled = throttling(columns["throttle_reasons"])
    uncorrected = _growth(before.ecc_uncorrected, after.ecc_uncorrected)
    xids = tuple(xid for xid in columns["xid"] if xid is not None)
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
        temperature_max_c=_largest(columns["temperature_c"]),
        sm_clock_mean_mhz=_mean(columns["sm_clock_mhz"]),
        memory_clock_mean_mhz=_mean(columns["memory_clock_mhz"]),
        utilization_mean_ratio=_mean(columns["utilization_ratio"]),
        memory_max_b=max((used_b for used_b in columns["memory_used_b"] if used_b is not None), default=None),
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


def use_beside_servers(
    before_launch: Collection[int] | None,
    seen: Collection[int] | None,
    own: Collection[int] | None,
    *,
    host_pids: bool,
) -> OtherUse:
    """Judge from the processes seen on a device while servers of ours held it, and the ids of the servers' processes.

    ``own`` is None for servers that this run did not launch. Where ours are the host's ids (``host_pids``) everyone
    else is foreign. In a container only those are known for foreign that were there before the launch and stayed.
    Before any server was launched ``own`` is empty.
    """
    if own is None:
        return OtherUse(None, "the servers already ran: which processes are theirs is not known")
    if seen is None:
        return OtherUse(None, "the driver does not list processes")
    if not own:
        return OtherUse(bool(seen), f"no server ran, listed: {_listed(sorted(seen)) or 'none'}")
    if not seen:
        return OtherUse(None, "the driver lists no process here, not even the server's")
    foreign = set(seen) - set(own) if host_pids else set(seen) & set(before_launch or ())
    if foreign:
        stayed = foreign & set(before_launch or ())
        words = [("there before launch and still", stayed), ("came after launch", foreign - stayed)]
        return OtherUse(True, "; ".join(f"{when}: {_listed(sorted(pids))}" for when, pids in words if pids))
    if not host_pids:
        earlier = "is not known" if before_launch is None else "has gone"
        return OtherUse(
            None, f"who was there before launch {earlier}; those listed are the host's ids, ours are a container's"
        )
    return OtherUse(False, "only the servers', at the beginning and the end of the load")


def _listed(pids: Iterable[int]) -> str:
    return ", ".join(map(str, pids))


def _bits(mask: int) -> list[int]:
    return [1 << i for i in range(mask.bit_length()) if mask >> i & 1]


def _share(readings: Counter[int], wanted: int) -> float:
    return sum(count for mask, count in readings.items() if mask & wanted) / sum(readings.values())


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
