"""The rule on the sensors behind the joules, by their raw readings: lost, stuck, reset, failing, stale, with holes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import pandas as pd

from harness.verify import rederive
from harness.verify.checks import Check
from harness.verify.devices import IDLE, Stretch
from harness.verify.evidence import Evidence
from harness.verify.steady import NO, YES, Answers, any_of, wrong

Json = Mapping[str, Any]

GPU_LOST = "gpu_lost"
OF_COUNTERS = ("window_not_covered", "counter_reset", "sensor_stuck")
OF_METERS = ("meter_silent", "meter_stale")
CODES = (GPU_LOST, "sensor_error", *OF_COUNTERS, "power_gap", "counter_integral_disagree", *OF_METERS)
STUCK_COUNTER_S, STUCK_POWER_S = 2.0, 10.0
MAX_GAP_S, MAX_GAP_PERIODS = 1.0, 5.0
MAX_FAILED_SHARE, STALE_SHARE = 0.05, 0.5
DISAGREE_REL, COUNTER_STEP_S = 0.03, 0.1
MARGIN_S = 10.0
"""Readings further from a load than this are not looked at."""
EITHER = YES | NO


class Reading(NamedTuple):
    """One reading: when, watts and counted joules (NaN where missing), when the counter had stepped there, an error."""

    t_s: float
    power_w: float
    energy_j: float
    stepped_s: float
    error: str | None


def sensor_reasons(evidence: Evidence, stretch: Stretch) -> Iterator[Check]:
    """See that devices, meters and the cell or idle phase have the reasons that the sensors' readings call for."""
    for device in stretch.devices if stretch.window_s is not None else ():
        answers = _of_gpu(evidence, stretch, device["uuid"])
        yield _compared(device["uuid"], answers, device["reasons"])
    for meter in _reported_meters(evidence, stretch):
        answers = _of_meter(evidence, stretch, meter)
        reported = next(found for found in stretch.reported["meters"] if found["source"] == meter["name"])
        yield _compared(meter["name"], answers, reported["reasons"])
    if stretch.devices:
        yield _compared("whole", answers_of(evidence, stretch), stretch.reported["reasons"])


def answers_of(evidence: Evidence, stretch: Stretch) -> Answers:
    """Return what the sensors call for of a cell or an idle phase: its devices', and those of the meter it is by."""
    if stretch.window_s is None:
        return dict.fromkeys(CODES, NO)
    found = [_of_gpu(evidence, stretch, device["uuid"]) for device in evidence.manifest["devices"]]
    meter = rederive.node_meter(evidence.manifest)
    if meter is not None and evidence.manifest["boundary"] == "node":
        found.append(_of_meter(evidence, stretch, meter))
    return {code: any_of(answers.get(code, NO) for answers in found) for code in CODES}


def _compared(name: str, answers: Answers, reported: list[str]) -> Check:
    missed = list(wrong(answers, reported))
    told = [code for code in reported if code in CODES]
    return Check(not missed, f"{name}: {', '.join(missed or told) or 'nothing wrong with the sensor'}")


def _reported_meters(evidence: Evidence, stretch: Stretch) -> list[Json]:
    sources = {reading["source"] for reading in stretch.reported.get("meters", ())}
    return [meter for meter in evidence.manifest.get("meters", ()) if meter["name"] in sources]


def _of_gpu(evidence: Evidence, stretch: Stretch, uuid: str) -> Answers:
    sensor = evidence.manifest["power"]
    loaded = stretch.name not in IDLE
    stuck_power_s = STUCK_POWER_S if loaded and sensor["name"] == "nvml" else math.inf
    return _of_device(evidence, stretch, uuid, sensor, MAX_GAP_S, stuck_power_s)


def _of_meter(evidence: Evidence, stretch: Stretch, meter: Json) -> Answers:
    """Return what a meter's devices call for, by its own pace, and whether it was silent or read stale values."""
    start_s, end_s = _window(stretch)
    gap_s = MAX_GAP_PERIODS * float(meter["period_s"])
    found = [_of_device(evidence, stretch, uuid, meter, gap_s, math.inf) for uuid in meter["device_uuids"]]
    silent = rederive.summed_watts(evidence.power, meter["device_uuids"], start_s, end_s, meter) is None
    rows = evidence.power[evidence.power["t_mono_s"].between(start_s, end_s)]
    standing_s = max(
        (rederive.standing_s(rows[rows["uuid"] == uuid]) for uuid in meter["device_uuids"]),
        default=0.0,
    )
    stale = not silent and standing_s > STALE_SHARE * (end_s - start_s)
    answers = {code: any_of(answers[code] for answers in found) for code in CODES if code not in OF_METERS}
    return answers | {"meter_silent": YES if silent else NO, "meter_stale": YES if stale else NO}


def _of_device(
    evidence: Evidence, stretch: Stretch, uuid: str, sensor: Json, max_gap_s: float, stuck_power_s: float
) -> Answers:
    """Return what is wrong with one device's readings over a window."""
    start_s, end_s = _window(stretch)
    readings = _readings(evidence.readings(uuid), stretch, sensor)
    inside = [reading for reading in readings if start_s <= reading.t_s <= end_s]
    codes = set(_failures(inside))
    counted = [reading for reading in readings if not math.isnan(reading.energy_j)]
    powered = [reading for reading in readings if not math.isnan(reading.power_w)]
    counter_fault = _counter_fault(counted, start_s, end_s) if counted else None
    spanned = len(powered) > 1 and powered[0].t_s <= start_s and powered[-1].t_s >= end_s
    is_counted = bool(counted) and counter_fault is None
    if counter_fault is not None:
        codes.add(counter_fault)
    if not is_counted and not spanned:
        codes.add("window_not_covered")
    if not is_counted and _longest_standing_s(inside) > stuck_power_s:
        codes.add("sensor_stuck")
    known = [r for r in readings if not (math.isnan(r.power_w) and math.isnan(r.energy_j))]
    times_s = [r.t_s for r in _around([(r.t_s, r) for r in known], start_s, end_s)]
    if max((later - earlier for earlier, later in pairwise(times_s)), default=0.0) > max_gap_s:
        codes.add("power_gap")
    answers = {code: YES if code in codes else NO for code in CODES}
    if is_counted:
        joules = rederive.device_joules(evidence.readings(uuid), start_s, end_s, sensor)
        answers["counter_integral_disagree"] = _disagree(joules, counted, start_s, end_s)
    return answers


def _window(stretch: Stretch) -> tuple[float, float]:
    if stretch.window_s is None:
        raise ValueError(f"{stretch.name} has no window")
    return stretch.window_s


def _readings(rows: pd.DataFrame, stretch: Stretch, sensor: Json) -> list[Reading]:
    """Return a device's readings around a load or idle phase, in order of time."""
    near = rows[rows["t_mono_s"].between(stretch.begun_s - MARGIN_S, stretch.over_s + MARGIN_S)]
    lag_s = float(sensor.get("counter_lag_s", 0.0))
    columns = near[["t_mono_s", "power_w", "energy_j", "energy_age_s"]].to_numpy(float, na_value=math.nan).tolist()
    found = [
        Reading(t_s, power_w, energy_j, t_s - (lag_s if math.isnan(age_s) else age_s), error or None)
        for (t_s, power_w, energy_j, age_s), error in zip(columns, near["error"].fillna("").tolist(), strict=True)
    ]
    return sorted(found, key=lambda reading: reading.t_s)


def _failures(inside: list[Reading]) -> Iterator[str]:
    """Yield that a GPU was lost, or else that over 5% of the readings, and more than one, lacked power or energy."""
    if any(reading.error == GPU_LOST for reading in inside):
        yield GPU_LOST
        return
    failed = sum(
        (math.isnan(r.power_w) and math.isnan(r.energy_j)) or "power_w" in r.error or "energy_j" in r.error
        for r in inside
        if r.error is not None
    )
    if failed > 1 and failed / len(inside) > MAX_FAILED_SHARE:
        yield "sensor_error"


def _counter_fault(counted: list[Reading], start_s: float, end_s: float) -> str | None:
    """Return what is wrong with a counter: it does not span the window, falls, or stands still for over 2 s."""
    near = _around([(reading.stepped_s, reading) for reading in counted], start_s, end_s)
    if len(near) < 2 or near[0].stepped_s > start_s or near[-1].t_s < end_s:
        return "window_not_covered"
    if any(later.energy_j < earlier.energy_j for earlier, later in pairwise(near)):
        return "counter_reset"
    stood_s = 0.0
    for _, equal_readings in groupby(near, key=lambda reading: reading.energy_j):
        standing = list(equal_readings)
        stood_s = max(stood_s, standing[-1].t_s - standing[0].t_s)
    return "sensor_stuck" if near[0].energy_j == near[-1].energy_j or stood_s > STUCK_COUNTER_S else None


def _around(timed: list[tuple[float, Reading]], start_s: float, end_s: float) -> list[Reading]:
    """Return the readings in a window, and the nearest one on either side."""
    first = max((n for n, (t_s, _) in enumerate(timed) if t_s <= start_s), default=0)
    last = min((n for n, (t_s, _) in enumerate(timed) if t_s >= end_s), default=len(timed) - 1)
    return [reading for _, reading in timed[first : last + 1]]


def _longest_standing_s(inside: list[Reading]) -> float:
    powered = [reading for reading in inside if not math.isnan(reading.power_w)]
    longest_s = 0.0
    for _, equal_readings in groupby(powered, key=lambda reading: reading.power_w):
        standing = list(equal_readings)
        longest_s = max(longest_s, standing[-1].t_s - standing[0].t_s)
    return longest_s


def _disagree(joules: rederive.Joules, counted: list[Reading], start_s: float, end_s: float) -> frozenset[bool]:
    """Say whether counter and integral are over 3% apart; either is right within what the steps at the edges hold."""
    if not joules.counter or joules.integral is None:
        return NO
    apart, open_s = abs(joules.integral - joules.counter) / joules.counter, 2 * COUNTER_STEP_S
    for edge_s in (start_s, end_s):
        near = _around([(reading.stepped_s, reading) for reading in counted], edge_s, edge_s)
        open_s += near[-1].stepped_s - near[0].stepped_s
    if apart <= DISAGREE_REL:
        return NO
    return YES if apart > DISAGREE_REL + open_s / (end_s - start_s) else EITHER
