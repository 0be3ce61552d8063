"""Measure one window with the real NVML source, sampler and energy functions, and print it as JSON.

Run as ``python -m tests.ground_truth.measure_scenario SECONDS [GPU ...]`` with the library to measure first
in LD_LIBRARY_PATH.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from dataclasses import asdict

from harness.energy import FATAL_REASONS, SUSPECT_REASONS, device_energy, device_series, total_energy
from harness.errors import NodeError
from harness.power.base import PowerRow
from harness.power.nvml import open_nvml
from harness.power.sampler import PowerSampler

BEFORE_S, AFTER_S = 0.3, 0.8  # readings around the window; after it, more than the lag of averaged power


def measure(seconds: float, gpus: list[str] | None) -> dict[str, object]:
    source = open_nvml(gpus)
    rows: list[PowerRow] = []
    with PowerSampler(source, rows.extend) as sampler:
        time.sleep(BEFORE_S)
        start_s = time.monotonic()
        time.sleep(seconds)
        end_s = time.monotonic()
        time.sleep(AFTER_S)
    window = total_energy(
        [device_energy(one, start_s, end_s, power_lag_s=source.power_lag_s) for one in device_series(rows)]
    )
    pids = {device.uuid: source.compute_process_pids(device.uuid) for device in source.devices}
    source.close()
    return {
        "start_s": start_s - zero_s(),
        "end_s": end_s - zero_s(),
        "window": asdict(window),
        "fatal": sorted(FATAL_REASONS & set(window.reasons)),
        "suspect": sorted(SUSPECT_REASONS & set(window.reasons)),
        "devices": [asdict(device) for device in source.devices],
        "first_rows": [asdict(row) for row in rows[: len(source.devices)]],
        "errors": sorted({row.error for row in rows if row.error}),
        "values_beside_errors": [row.power_w for row in rows if row.error and "power_w" in row.error],
        "driver": source.driver,
        "notes": source.notes,
        "power_lag_s": source.power_lag_s,
        "pids": pids,
        "rounds": sampler.lateness.rounds,
        "missed": sampler.missed,
        "lateness": asdict(sampler.lateness),
    }


def zero_s() -> float:
    """Return when the stand-in's closed form began, on the monotonic clock."""
    call = ctypes.CDLL("libnvidia-ml.so.1").fake_nvml_zero_s
    call.restype = ctypes.c_double
    return float(call())


if __name__ == "__main__":
    try:
        print(json.dumps(measure(float(sys.argv[1]), sys.argv[2:] or None)))
    except NodeError as error:
        print(json.dumps({"what": error.what, "why": error.why, "fix": error.fix}))
        sys.exit(error.exit_code)
