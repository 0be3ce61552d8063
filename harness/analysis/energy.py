"""Energy of a window from power readings and energy counters.

Pure functions over stored readings, so that any window can be cut again. The cumulative counter comes
first; integrated power is its check, or stands in where there is no counter. Both usually come from one
sensor, so that they agree says nothing about its gain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.power.base import GPU_LOST, PowerRow

Array = NDArray[np.float64]

COUNTER_RESET = "counter_reset"
SENSOR_STUCK = "sensor_stuck"
SENSOR_ERROR = "sensor_error"
WINDOW_NOT_COVERED = "window_not_covered"
POWER_GAP = "power_gap"
COUNTER_INTEGRAL_DISAGREE = "counter_integral_disagree"

FATAL_REASONS = frozenset({GPU_LOST, COUNTER_RESET, SENSOR_STUCK, SENSOR_ERROR, WINDOW_NOT_COVERED})
SUSPECT_REASONS = frozenset({POWER_GAP, COUNTER_INTEGRAL_DISAGREE})

MAX_GAP_S = 1.0
MAX_DISAGREEMENT = 0.03
MAX_FAILED_SHARE = 0.05
STUCK_S = 2.0  # any powered device adds to its counter every 0.1 s or so, idle or not
STUCK_POWER_S = 10.0
"""Power of a loaded GPU that is the same to the mW for longer than this is a stuck sensor's.

NVML tells milliwatts and updates them every 0.1 s or so, and under load no two of these readings in a row are alike but
by chance, so 10 s are a hundred of them. It holds for NVML under load alone: an idle GPU may repeat itself, and meters
that tell 1 to 4 W do so rightly (``meter_stale`` is theirs, of half a window).
"""


class Cut(NamedTuple):
    """Joules of one window, or None and the reason."""

    joules: float | None
    reason: str | None = None


@dataclass(frozen=True)
class DeviceSeries:
    """One device's readings in time order: arrays of equal length, NaN where missing.

    ``errors`` holds each reading's error text, as in ``DeviceSample``, or None; the last two are NaN, or missing
    altogether, where nobody watched the counter step.
    """

    uuid: str
    t_s: Array
    power_w: Array
    energy_j: Array
    errors: tuple[str | None, ...]
    energy_age_s: Array | None = None
    energy_age_bound_s: Array | None = None


@dataclass(frozen=True)
class DeviceEnergy:
    """Energy of one device over one window.

    ``joules`` is the counter's where there is one, else the integral's, and None where there is neither;
    ``method`` says which. ``peak_w`` is the highest power reading, itself a mean where the sensor averages.
    ``edge_bound_j`` bounds what the counter's steps leave open at the two edges, None without a counter.
    ``failed_readings`` of the window's ``readings`` lacked power or energy. ``repeat_s`` is the longest time that power
    was read without a change, ``swing_w`` its highest reading less its lowest.
    """

    uuid: str
    counter_j: float | None
    integral_j: float | None
    joules: float | None
    method: Literal["counter", "integral"] | None
    mean_w: float | None
    peak_w: float | None
    reasons: tuple[str, ...]
    edge_bound_j: float | None = None
    readings: int = 0
    failed_readings: int = 0
    repeat_s: float = 0.0
    swing_w: float = 0.0


@dataclass(frozen=True)
class WindowEnergy:
    """Energy of all devices over one window; ``joules`` is None when any device's is."""

    joules: float | None
    mean_w: float | None
    devices: tuple[DeviceEnergy, ...]
    reasons: tuple[str, ...]


def device_series(rows: Iterable[PowerRow]) -> tuple[DeviceSeries, ...]:
    """Gather rows by device, in order of first appearance; rows of one device come in time order."""
    by_device: dict[str, list[PowerRow]] = {}
    for row in rows:
        by_device.setdefault(row.uuid, []).append(row)
    return tuple(
        DeviceSeries(
            uuid,
            np.array([row.t_mono_s for row in own]),
            _column(row.power_w for row in own),
            _column(row.energy_j for row in own),
            tuple(row.error for row in own),
            _column(row.energy_age_s for row in own),
            _column(row.energy_age_bound_s for row in own),
        )
        for uuid, own in by_device.items()
    )


def _column(values: Iterable[float | None]) -> Array:
    return np.array([np.nan if value is None else value for value in values])


def counter_times_s(series: DeviceSeries, counter_lag_s: float) -> Array:
    """Return the times that the counter's readings describe: when it stepped, or on average did where unwatched."""
    return series.t_s - _or_else(series.energy_age_s, counter_lag_s, series.t_s)


def counter_joules(t_s: Array, energy_j: Array, start_s: float, end_s: float, *, age_s: Array | float = 0.0) -> Cut:
    """Difference a cumulative counter over [start_s, end_s], linear between its steps at the edges.

    ``t_s`` increases; NaN readings are skipped. A reading tells the energy ``age_s`` before it was taken, when the
    counter stepped to it. Reasons: the readings do not span the window, a step is negative, or the counter stands
    still for over 2 s (or for the whole of a shorter window).
    """
    known = np.isfinite(energy_j)
    t_s, stepped_s, energy_j = t_s[known], (t_s - age_s)[known], energy_j[known]
    around = _reaching_around(stepped_s, start_s, end_s)
    t_s, stepped_s, energy_j = t_s[around], stepped_s[around], energy_j[around]
    if t_s.size < 2 or stepped_s[0] > start_s or t_s[-1] < end_s:
        return Cut(None, WINDOW_NOT_COVERED)
    if np.any(np.diff(energy_j) < 0):
        return Cut(None, COUNTER_RESET)
    first_j, last_j = np.interp([start_s, end_s], stepped_s, energy_j)
    if last_j == first_j or _longest_standstill_s(t_s, energy_j) > STUCK_S:
        return Cut(None, SENSOR_STUCK)
    return Cut(float(last_j - first_j))


def counter_edge_bound_j(stepped_s: Array, energy_j: Array, start_s: float, end_s: float, *, bound_s: Array) -> float:
    """Bound the error that a counter's steps leave in ``counter_joules``, in joules, over both edges.

    An edge lies between two steps, the times of which are known to +-``bound_s``; power may change between them. With
    the highest and lowest power of the steps around, P and p, and g seconds between the two, an edge is known to
    bound_s * P + g * (P - p) / 4, and to g * P where the last step comes before the edge.
    """
    known = np.isfinite(energy_j)
    stepped_s, first = np.unique(stepped_s[known], return_index=True)
    energy_j, bound_s = energy_j[known][first], bound_s[known][first]
    total_j = 0.0
    for edge_s in (start_s, end_s):
        after = int(np.searchsorted(stepped_s, edge_s))
        near = slice(max(0, after - 3), after + 3)
        rise_w = np.diff(energy_j[near]) / np.diff(stepped_s[near])
        if after == stepped_s.size:
            total_j += (edge_s - stepped_s[-1]) * float(rise_w.max())
        else:
            gap_s = stepped_s[after] - stepped_s[max(0, after - 1)]
            total_j += float(bound_s[near].max() * rise_w.max() + gap_s * np.ptp(rise_w) / 4)
    return total_j


def integral_joules(t_s: Array, power_w: Array, start_s: float, end_s: float, *, power_lag_s: float = 0.0) -> Cut:
    """Integrate power over [start_s, end_s] by the trapezoid rule, linear between readings at the edges.

    ``t_s`` increases and may be irregular; NaN readings are skipped. Readings describe the time
    ``power_lag_s`` before they were taken; where they stop less than the lag after the window, the last
    one is held. Reason: the readings do not span the window.
    """
    t_s, power_w = _around(t_s, power_w, start_s, end_s + power_lag_s)
    if not _spans(t_s, start_s, end_s):
        return Cut(None, WINDOW_NOT_COVERED)
    described_s = t_s - power_lag_s
    inside = (described_s > start_s) & (described_s < end_s)
    knots_s = np.concatenate([[start_s], described_s[inside], [end_s]])
    knots_w = np.interp(knots_s, described_s, power_w)
    return Cut(float(np.sum(np.diff(knots_s) * (knots_w[1:] + knots_w[:-1]) / 2)))


def device_energy(
    series: DeviceSeries,
    start_s: float,
    end_s: float,
    *,
    power_lag_s: float = 0.0,
    counter_lag_s: float = 0.0,
    max_gap_s: float = MAX_GAP_S,
    stuck_power_s: float = math.inf,
) -> DeviceEnergy:
    """Reconcile one device's counter and power over [start_s, end_s] (``end_s`` > ``start_s``).

    A failed reading only leaves a hole: the counter goes on, and power is integrated across it. A hole of over
    ``max_gap_s`` is ``power_gap``; more than one failure and more than 5% of the readings is ``sensor_error``. Power
    that stands in for a counter and does not change for over ``stuck_power_s`` is ``sensor_stuck``.
    """
    counter, bound_j, integral = Cut(None), None, Cut(None)
    age_s = series.t_s - counter_times_s(series, counter_lag_s)
    if np.isfinite(series.energy_j).any():
        counter = counter_joules(series.t_s, series.energy_j, start_s, end_s, age_s=age_s)
    if counter.joules is not None:
        age_bound_s = _or_else(series.energy_age_bound_s, counter_lag_s, series.t_s)
        bound_j = counter_edge_bound_j(series.t_s - age_s, series.energy_j, start_s, end_s, bound_s=age_bound_s)
    if np.isfinite(series.power_w).any():
        integral = integral_joules(series.t_s, series.power_w, start_s, end_s, power_lag_s=power_lag_s)
    joules = counter.joules if counter.joules is not None else integral.joules
    inside = (series.t_s >= start_s) & (series.t_s <= end_s)
    power_w = series.power_w[inside & np.isfinite(series.power_w)]
    readings, failed = int(inside.sum()), _failed_readings(series, inside)
    repeat_s = longest_repeat_s(series, start_s, end_s)
    reasons = _reading_reasons(series, inside, failed / max(1, readings) if failed > 1 else 0.0)
    if counter.reason is not None:
        reasons.append(counter.reason)
    if counter.joules is None and repeat_s > stuck_power_s:
        reasons.append(SENSOR_STUCK)
    if joules is None:  # an integral that is missing beside a good counter is only a check not made
        reasons.append(integral.reason or WINDOW_NOT_COVERED)
    if _longest_gap_s(series, start_s, end_s) > max_gap_s:
        reasons.append(POWER_GAP)
    if _disagree(counter.joules, integral.joules, bound_j or 0.0):
        reasons.append(COUNTER_INTEGRAL_DISAGREE)
    return DeviceEnergy(
        uuid=series.uuid,
        counter_j=counter.joules,
        integral_j=integral.joules,
        joules=joules,
        method=None if joules is None else "integral" if counter.joules is None else "counter",
        mean_w=None if joules is None else joules / (end_s - start_s),
        peak_w=float(power_w.max()) if power_w.size else None,
        reasons=_once(reasons),
        edge_bound_j=bound_j,
        readings=readings,
        failed_readings=failed,
        repeat_s=repeat_s,
        swing_w=float(np.ptp(power_w)) if power_w.size else 0.0,
    )


def longest_repeat_s(series: DeviceSeries, start_s: float, end_s: float) -> float:
    """Return how long power was read without a change within a window, in seconds; 0 without power.

    A repeated value is not a new reading: a meter is known no better than it changes.
    """
    inside = (series.t_s >= start_s) & (series.t_s <= end_s) & np.isfinite(series.power_w)
    t_s, power_w = series.t_s[inside], series.power_w[inside]
    if t_s.size == 0:
        return 0.0
    changed = np.flatnonzero(np.diff(power_w) != 0) + 1
    begins, ends = np.append(0, changed), np.append(changed, t_s.size) - 1
    return float(np.max(t_s[ends] - t_s[begins]))


def total_energy(devices: Sequence[DeviceEnergy]) -> WindowEnergy:
    """Add up devices; a total without one of them would be a smaller machine's, so it is None."""
    joules = [device.joules for device in devices if device.joules is not None]
    mean_w = [device.mean_w for device in devices if device.mean_w is not None]
    complete = 0 < len(devices) == len(joules)
    return WindowEnergy(
        joules=sum(joules) if complete else None,
        mean_w=sum(mean_w) if complete else None,
        devices=tuple(devices),
        reasons=_once(reason for device in devices for reason in device.reasons),
    )


def _or_else(values: Array | None, otherwise: float, t_s: Array) -> Array:
    """Return ``values`` with ``otherwise`` in place of what is missing, as many as ``t_s``."""
    return np.full(t_s.size, otherwise) if values is None else np.where(np.isnan(values), otherwise, values)


def _around(t_s: Array, values: Array, start_s: float, end_s: float) -> tuple[Array, Array]:
    """Keep the readings inside the window and the nearest one on either side, without NaN."""
    known = np.isfinite(values)
    t_s, values = t_s[known], values[known]
    around = _reaching_around(t_s, start_s, end_s)
    return t_s[around], values[around]


def _reaching_around(t_s: Array, start_s: float, end_s: float) -> slice:
    """Select the times inside the window and the nearest one on either side."""
    first = max(0, int(np.searchsorted(t_s, start_s, side="right")) - 1)
    return slice(first, int(np.searchsorted(t_s, end_s, side="left")) + 1)


def _spans(t_s: Array, start_s: float, end_s: float) -> bool:
    return t_s.size > 1 and bool(t_s[0] <= start_s and t_s[-1] >= end_s)


def _longest_standstill_s(t_s: Array, energy_j: Array) -> float:
    """Longest time between the first and the last of a run of equal readings."""
    moved = np.flatnonzero(np.diff(energy_j) > 0)
    first, last = np.append(0, moved + 1), np.append(moved, t_s.size - 1)
    return float(np.max(t_s[last] - t_s[first]))


def _failed_readings(series: DeviceSeries, inside: NDArray[np.bool_]) -> int:
    """Count the readings that failed to give power or energy; other failures do not touch joules."""
    if not any(series.errors):
        return 0
    blank = np.isnan(series.power_w) & np.isnan(series.energy_j)
    failed = ((number, error) for number, error in enumerate(series.errors) if error and inside[number])
    return sum(bool(blank[number]) or "power_w" in error or "energy_j" in error for number, error in failed)


def _reading_reasons(series: DeviceSeries, inside: NDArray[np.bool_], failed_share: float) -> list[str]:
    """Name a lost device, or else a sensor that failed too often."""
    if GPU_LOST in series.errors and any(series.errors[i] == GPU_LOST for i in np.flatnonzero(inside)):
        return [GPU_LOST]
    return [SENSOR_ERROR] if failed_share > MAX_FAILED_SHARE else []


def _longest_gap_s(series: DeviceSeries, start_s: float, end_s: float) -> float:
    """Longest time within the window between readings that carry joules, in seconds."""
    known = np.isfinite(series.power_w) | np.isfinite(series.energy_j)
    t_s, _ = _around(series.t_s[known], series.t_s[known], start_s, end_s)
    return float(np.max(np.diff(t_s))) if t_s.size > 1 else 0.0


def _disagree(counter_j: float | None, integral_j: float | None, edge_bound_j: float) -> bool:
    """Tell whether counter and integral are over 3% apart, and further than the counter's steps leave open."""
    if counter_j is None or integral_j is None:
        return False
    return abs(integral_j - counter_j) > max(MAX_DISAGREEMENT * counter_j, edge_bound_j)


def _once(reasons: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(reasons))
