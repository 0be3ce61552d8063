"""Measure with the real NVML source, sampler and energy functions, and print what was found as JSON.

Run as ``python -m tests.ground_truth.measure_scenario REQUEST`` with the library to measure first in LD_LIBRARY_PATH;
REQUEST is the JSON of ``Request``. All seconds but those of ``lateness`` and around the window are the stand-in's,
whose time may run faster than the clock's.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, replace

import numpy as np

from harness.analysis.energy import (
    FATAL_REASONS,
    SUSPECT_REASONS,
    DeviceSeries,
    WindowEnergy,
    device_energy,
    device_series,
    total_energy,
)
from harness.errors import NodeError
from harness.power.base import PowerRow
from harness.power.nvml import NvmlSource, open_nvml
from harness.power.nvml_sampler import sampler_for
from harness.power.sampler import PowerSampler

BEFORE_S, AFTER_S = 0.3, 0.8  # of the clock, for readings around the window; after it, more than power lags behind
SCALE = float(os.environ.get("FAKE_NVML_TIME_SCALE", "1"))


@dataclass(frozen=True)
class Request:
    """What to measure: so many seconds of some GPUs (empty: all), and these parts of them as (start, length)."""

    seconds: float
    gpus: tuple[str, ...] = ()
    parts: tuple[tuple[float, float], ...] = ()
    own_process: bool = False


def measure(request: Request) -> dict[str, object]:
    source = open_nvml(list(request.gpus) or None)
    rows: list[PowerRow] = []
    make = sampler_for if request.own_process else PowerSampler
    before = source.state()
    with make(source, rows.extend, period_s=0.1 / SCALE) as sampler:
        time.sleep(BEFORE_S)
        start_s = now_s()
        time.sleep(request.seconds / SCALE)
        end_s = now_s()
        time.sleep(AFTER_S)
    series = [in_its_time(one) for one in device_series(rows)]
    window = energy_of(source, series, start_s, end_s)
    after = source.state()
    pids = {device.uuid: source.compute_process_pids(device.uuid) for device in source.devices}
    source.close()
    return {
        "start_s": start_s,
        "end_s": end_s,
        "window": asdict(window),
        "parts": [part(source, series, start_s + offset_s, length_s) for offset_s, length_s in request.parts],
        "fatal": sorted(FATAL_REASONS & set(window.reasons)),
        "suspect": sorted(SUSPECT_REASONS & set(window.reasons)),
        "devices": [asdict(device) for device in source.devices],
        "states": [[asdict(state) for state in states] for states in (before, after)],
        "first_rows": [asdict(row) for row in rows[: len(source.devices)]],
        "errors": sorted({row.error for row in rows if row.error}),
        "xids": [[row.uuid, row.xid, (row.t_mono_s - zero_s()) * SCALE] for row in rows if row.xid is not None],
        "values_beside_errors": [row.power_w for row in rows if row.error and "power_w" in row.error],
        "driver": source.driver,
        "notes": source.notes,
        "power_lag_s": source.power_lag_s,
        "pids": pids,
        "rounds": sampler.lateness.rounds,
        "missed": sampler.missed,
        "lateness": asdict(sampler.lateness),
    }


def in_its_time(series: DeviceSeries) -> DeviceSeries:
    """Put a series into the stand-in's time."""
    return replace(
        series,
        t_s=(series.t_s - zero_s()) * SCALE,
        energy_age_s=series.energy_age_s * SCALE,
        energy_age_bound_s=series.energy_age_bound_s * SCALE,
    )


def energy_of(source: NvmlSource, series: list[DeviceSeries], start_s: float, end_s: float) -> WindowEnergy:
    lags = {"power_lag_s": source.power_lag_s, "counter_lag_s": source.counter_lag_s}
    return total_energy([device_energy(one, start_s, end_s, **lags) for one in series])


def part(source: NvmlSource, series: list[DeviceSeries], start_s: float, length_s: float) -> dict[str, object]:
    """Measure a part; ``pause_s`` and ``step_bound_s`` say how well the sampling kept its pace around its edges."""
    end_s = start_s + length_s
    steps_s, after = np.diff(series[0].t_s), np.searchsorted(series[0].t_s, [start_s, end_s])
    around = [slice(max(0, edge - 2), edge + 2) for edge in after]
    pause_s = max(float(steps_s[near].max()) for near in around)
    step_bound_s = max(float(np.nan_to_num(series[0].energy_age_bound_s[near]).max()) for near in around)
    return {
        "start_s": start_s,
        "end_s": end_s,
        "pause_s": pause_s,
        "step_bound_s": step_bound_s,
        "window": asdict(energy_of(source, series, start_s, end_s)),
    }


def now_s() -> float:
    """Return the stand-in's time."""
    return (time.monotonic() - zero_s()) * SCALE


def zero_s() -> float:
    """Return when the stand-in's closed form began, on the monotonic clock."""
    call = ctypes.CDLL("libnvidia-ml.so.1").fake_nvml_zero_s
    call.restype = ctypes.c_double
    return float(call())


if __name__ == "__main__":
    try:
        print(json.dumps(measure(Request(**json.loads(sys.argv[1])))))
    except NodeError as error:
        print(json.dumps({"what": error.what, "why": error.why, "fix": error.fix}))
        sys.exit(error.exit_code)
