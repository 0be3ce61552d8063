"""Measure one window with zeus and with the harness at once, and print both as JSON.

Run as ``python -m tests.ground_truth.zeus_scenario SECONDS`` with the library to measure first in LD_LIBRARY_PATH.
"""

from __future__ import annotations

import json
import sys
import time

from zeus.monitor import ZeusMonitor

from harness.power.nvml import open_nvml
from harness.power.sampler import PowerSampler
from tests.ground_truth.measure_scenario import AFTER_S, BEFORE_S, SCALE, device_series, energy_of, in_its_time, now_s


def measure(seconds: float) -> dict[str, object]:
    source, rows = open_nvml(), []
    zeus = ZeusMonitor(gpu_indices=[device.index for device in source.devices], cpu_indices=[])
    with PowerSampler(source, rows.extend, period_s=0.1 / SCALE):
        time.sleep(BEFORE_S)
        before_s = now_s()
        zeus.begin_window("window", sync_execution=False)
        start_s = now_s()
        time.sleep(seconds / SCALE)
        end_s = now_s()
        measured = zeus.end_window("window", sync_execution=False)
        after_s = now_s()
        time.sleep(AFTER_S)
    energy = energy_of(source, [in_its_time(one) for one in device_series(rows)], start_s, end_s)
    source.close()
    return {
        "seconds": end_s - start_s,
        "apart_s": start_s - before_s + after_s - end_s,
        "zeus_j": [measured.gpu_energy[device.index] for device in source.devices],
        "harness_j": [device.joules for device in energy.devices],
    }


if __name__ == "__main__":
    print(json.dumps(measure(float(sys.argv[1]))))
