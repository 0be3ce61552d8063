"""Energy of a window from power readings and energy counters.

Pure functions over stored readings, so that any window can be cut again. The cumulative counter comes
first; integrated power is its check, or stands in where there is no counter. Both usually come from one
sensor, so that they agree says nothing about its gain.
"""

from __future__ import annotations

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
STUCK_S = 2.0  # any powered device adds to its counter every 0.1 s or so, idle or not


class Cut(NamedTuple):
    """Joules of one window, or None and the reason."""

    joules: float | None
    reason: str | None = None


@dataclass(frozen=True)
class DeviceSeries:
    """One device's readings in time order: arrays of equal length, NaN where missing.

    ``errors`` holds each reading's error text, as in ``DeviceSample``, or None.
    """

    uuid: str
    t_s: Array
    power_w: Array
    energy_j: Array
    errors: tuple[str | None, ...]


@dataclass(frozen=True)
class DeviceEnergy:
    """Energy of one device over one window.

    ``joules`` is the counter's where there is one, else the integral's, and None where there is neither;
    ``method`` says which. ``peak_w`` is the highest power reading, itself a mean where the sensor averages.
    """

    uuid: str
    counter_j: float | None
    integral_j: float | None
    joules: float | None
    method: Literal["counter", "integral"] | None
    mean_w: float | None
    peak_w: float | None
    reasons: tuple[str, ...]


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
            np.array([np.nan if row.power_w is None else row.power_w for row in own]),
            np.array([np.nan if row.energy_j is None else row.energy_j for row in own]),
            tuple(row.error for row in own),
        )
        for uuid, own in by_device.items()
    )


def counter_joules(t_s: Array, energy_j: Array, start_s: float, end_s: float) -> Cut:
    """Difference a cumulative counter over [start_s, end_s], linear between readings at the edges.

    ``t_s`` increases; NaN readings are skipped. Reasons: the readings do not span the window, a step is
    negative, or the counter stands still for over 2 s (or for the whole of a shorter window).
    The edges are known to about one update of the counter (0.1 s in NVML).
    """
    t_s, energy_j = _around(t_s, energy_j, start_s, end_s)
    if not _spans(t_s, start_s, end_s):
        return Cut(None, WINDOW_NOT_COVERED)
    if np.any(np.diff(energy_j) < 0):
        return Cut(None, COUNTER_RESET)
    first_j, last_j = np.interp([start_s, end_s], t_s, energy_j)
    if last_j == first_j or _longest_standstill_s(t_s, energy_j) > STUCK_S:
        return Cut(None, SENSOR_STUCK)
    return Cut(float(last_j - first_j))


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


def device_energy(series: DeviceSeries, start_s: float, end_s: float, *, power_lag_s: float = 0.0) -> DeviceEnergy:
    """Reconcile one device's counter and power over [start_s, end_s] (``end_s`` > ``start_s``)."""
    has_power, has_counter = np.isfinite(series.power_w).any(), np.isfinite(series.energy_j).any()
    counter = integral = Cut(None)
    if has_counter:
        counter = counter_joules(series.t_s, series.energy_j, start_s, end_s)
    if has_power:
        integral = integral_joules(series.t_s, series.power_w, start_s, end_s, power_lag_s=power_lag_s)
    joules = counter.joules if counter.joules is not None else integral.joules
    inside = (series.t_s >= start_s) & (series.t_s <= end_s)
    power_w = series.power_w[inside & np.isfinite(series.power_w)]
    reasons = _reading_reasons(series, inside)
    if counter.reason is not None:
        reasons.append(counter.reason)
    if joules is None:  # an integral that is missing beside a good counter is only a check not made
        reasons.append(integral.reason or WINDOW_NOT_COVERED)
    if _has_gap(series, start_s, end_s):
        reasons.append(POWER_GAP)
    if _disagree(counter.joules, integral.joules):
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
    )


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


def _around(t_s: Array, values: Array, start_s: float, end_s: float) -> tuple[Array, Array]:
    """Keep the readings inside the window and the nearest one on either side, without NaN."""
    known = np.isfinite(values)
    t_s, values = t_s[known], values[known]
    first = max(0, int(np.searchsorted(t_s, start_s, side="right")) - 1)
    last = int(np.searchsorted(t_s, end_s, side="left")) + 1
    return t_s[first:last], values[first:last]


def _spans(t_s: Array, start_s: float, end_s: float) -> bool:
    return t_s.size > 1 and bool(t_s[0] <= start_s and t_s[-1] >= end_s)


def _longest_standstill_s(t_s: Array, energy_j: Array) -> float:
    """Longest time between the first and the last of a run of equal readings."""
    moved = np.flatnonzero(np.diff(energy_j) > 0)
    first, last = np.append(0, moved + 1), np.append(moved, t_s.size - 1)
    return float(np.max(t_s[last] - t_s[first]))


def _reading_reasons(series: DeviceSeries, inside: NDArray[np.bool_]) -> list[str]:
    """Name lost devices and failed readings of power or energy; other readings do not carry joules."""
    blank = np.isnan(series.power_w) & np.isnan(series.energy_j)
    errors = [(series.errors[i], blank[i]) for i in np.flatnonzero(inside)]
    lost = any(error == GPU_LOST for error, _ in errors)
    failed = any(
        error and error != GPU_LOST and (empty or "power_w" in error or "energy_j" in error) for error, empty in errors
    )
    return [GPU_LOST] * lost + [SENSOR_ERROR] * failed


def _has_gap(series: DeviceSeries, start_s: float, end_s: float) -> bool:
    """Tell whether readings that carry joules are over a second apart within the window."""
    known = np.isfinite(series.power_w) | np.isfinite(series.energy_j)
    t_s, _ = _around(series.t_s[known], series.t_s[known], start_s, end_s)
    return bool(t_s.size > 1 and np.max(np.diff(t_s)) > MAX_GAP_S)


def _disagree(counter_j: float | None, integral_j: float | None) -> bool:
    if counter_j is None or integral_j is None:
        return False
    return abs(integral_j - counter_j) > MAX_DISAGREEMENT * counter_j


def _once(reasons: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(reasons))
