"""A run by hand that reports every kind of figure: noise, a meter, bare idle, a client's ticks, an objective."""

from __future__ import annotations

import numpy as np

from harness.job import write_result_files
from results.store import RunWriter
from tests.unit.harness.synthetic_run import SyntheticRun

METER = {
    "name": "redfish", "boundary": "node", "gain_rel_u": 0.01, "power_lag_s": 0.0, "period_s": 2.0,
    "device_uuids": ["redfish:0"], "notes": [],
}  # fmt: skip


def full_run() -> SyntheticRun:
    """Return the run before it is written."""
    run, rng = SyntheticRun(), np.random.default_rng(1)
    run.manifest |= {"meters": [METER], "config": {"slo_ttft_s": 0.35, "slo_itl_s": 0.05}}
    first = run.power[0] | {"source": "redfish", "boundary": "node", "uuid": "redfish:0", "energy_j": None}
    run.power += [
        first | {"t_mono_s": 64.0 + 2 * step, "power_w": 3000.0 + (-1) ** step, "utilization_ratio": None}
        for step in range(90)
    ]
    for row in run.power[:-90]:
        row |= {"temperature_c": 60.0, "sm_clock_mhz": 1500.0, "memory_used_b": 2**33, "throttle_reasons": 4}
    for row in run.server:  # noise within each load, none where it begins and ends
        row["generation_tok"] += 6 * rng.normal() if 4 < row["t_mono_s"] % 100 < 31.5 else 0.0
    run.events[:0] = [{"event": "bare_idle_start", "t_mono_s": 66.0}, {"event": "bare_idle_end", "t_mono_s": 69.0}]
    start = next(number for number, event in enumerate(run.events) if event["event"] == "cell_start")
    run.events.insert(start, {"event": "prediction_stored", "t_mono_s": 99.0})
    for event in run.events:
        event.setdefault("t_wall_s", 1.7e9 + event["t_mono_s"])
    return run


def write_full(run, folder):
    """Write a run with its client's ticks, analysed and sealed."""
    run.write(folder)
    writer = RunWriter.reopened(folder)
    writer.add("client", ticks(np.random.default_rng(2)))
    writer.flush()
    write_result_files(writer)
    writer.seal()
    return folder


def ticks(rng):
    """Two clients' timers; now and then a loop comes late, and several deadlines share the CPU time of its waking."""
    rows = []
    for client in (0, 1):
        for step in range(7000):
            late = step % 50 >= 47
            cpu_s = 0.004 * (step // 50 * 50 + 50 if late else step) + 10 * client
            lag_s = 0.02 * (50 - step % 50) if late else float(rng.uniform(0, 0.002))
            rows.append(
                {"t_mono_s": 100 + 0.02 * step + 0.001 * client, "client": client, "lag_s": lag_s, "cpu_s": cpu_s}
            )
    return rows
