"""A run of two hours on eight GPUs, read at 10 Hz, with 100,000 requests: the size that a report must cope with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from results.store import RunWriter
from results.tables import TABLES
from tests.unit.harness.synthetic_run import Cell, manifest, prediction, server

HOURS, GPUS, POWER_HZ, SCRAPE_HZ = 2.0, 8, 10, 2
REQUESTS = {"1x": 93_000, "15x": 7_000}
UUIDS = tuple(f"GPU-{number:08x}" for number in range(GPUS))
LOAD_S = 3_400.0


class LongCell(Cell):
    """A cell whose load lasts most of an hour."""

    def definition(self):
        return super().definition() | {"budget_s": LOAD_S - 60, "warmup_s": 60.0, "min_window_s": 600.0}

    def events(self):
        start = {"cell": self.name, "definition": self.definition(), "quiet_mono_s": self.start_s}
        return [
            {"event": "cell_start", "t_mono_s": self.start_s + 0.2, **start},
            {"event": "filled", "t_mono_s": self.start_s + 30},
            {"event": "load_stop", "t_mono_s": self.start_s + LOAD_S},
            {"event": "cell_end", "t_mono_s": self.start_s + LOAD_S + 20},
        ]


CELLS = (
    LongCell(start_s=100.0, output_tok=420, median_tok=300.0),
    LongCell("15x", start_s=3_650.0, output_tok=6_300, median_tok=4_500.0, multiplier=15.0),
)


def write_long_run(folder: Path, seed: int = 0) -> Path:
    """Write the run folder and return it."""
    rng = np.random.default_rng(seed)
    writer = RunWriter(folder)
    used = manifest() | {
        "devices": [{"uuid": uuid, "name": "Test GPU", "index": n} for n, uuid in enumerate(UUIDS)],
        "servers": [server(UUIDS)],
        "node_share": 1.0,
    }
    writer.write_text("manifest.json", json.dumps(used))
    writer.write_text("prediction.json", json.dumps(prediction(*(cell.name for cell in CELLS))))
    requests = _requests(rng)
    for name, frame in (("power", _power(rng)), ("server", _server(rng, requests)), ("requests", requests)):
        columns = TABLES[name].names
        table = pa.Table.from_pandas(frame.reindex(columns=columns), schema=TABLES[name], preserve_index=False)
        pq.write_table(table, folder / name / "part-00000.parquet")
    writer.event("idle_start", t_mono_s=30.0)
    writer.event("idle_end", t_mono_s=90.0)
    for cell in CELLS:
        for event in cell.events():
            writer.event(event["event"], **{key: value for key, value in event.items() if key != "event"})
    writer.seal()
    return folder


def _loaded(t_s):
    return sum(((t_s > cell.start_s + 1) & (t_s < cell.start_s + LOAD_S)).astype(float) for cell in CELLS)


def _power(rng):
    t_s = np.arange(0, HOURS * 3600, 1 / POWER_HZ)
    frames = []
    for number, uuid in enumerate(UUIDS):
        watts = 75 + _loaded(t_s) * (520 + 8 * number) + rng.normal(0, 12, t_s.size)
        frames.append(
            pd.DataFrame(
                {
                    "t_mono_s": t_s, "t_wall_s": 1.7e9 + t_s, "late_s": 0.0, "source": "nvml", "boundary": "gpu",
                    "uuid": uuid, "power_w": watts, "energy_j": 1e6 + np.cumsum(watts) / POWER_HZ,
                    "utilization_ratio": 0.95 * _loaded(t_s), "temperature_c": 45 + 20 * _loaded(t_s),
                    "memory_used_b": 70 * 2**30, "sm_clock_mhz": 1_700.0, "throttle_reasons": 0,
                }
            )
        )  # fmt: skip
    return pd.concat(frames).sort_values("t_mono_s", kind="stable")


def _server(rng, requests):
    """Return scrapes whose counter grows, in each cell, by just the tokens of its requests."""
    t_s = np.arange(0, HOURS * 3600, 1 / SCRAPE_HZ)
    counted = np.zeros(t_s.size)
    for cell, output_tok in requests.groupby("cell")["output_tok"].sum().items():
        start_s = next(each.start_s for each in CELLS if each.name == cell)
        pace = ((t_s > start_s + 1) & (t_s < start_s + LOAD_S)) * (1 + rng.normal(0, 0.02, t_s.size))
        counted += np.round(output_tok * np.cumsum(pace) / pace.sum())
    return pd.DataFrame(
        {
            "t_mono_s": t_s, "t_wall_s": 1.7e9 + t_s, "server": 0, "running": 256 * _loaded(t_s),
            "waiting": 8 * _loaded(t_s), "kv_usage_ratio": 0.9 * _loaded(t_s), "generation_tok": counted,
            "prompt_tok": 0.0, "preemptions": 0.0,
        }
    )  # fmt: skip


def _requests(rng):
    frames = []
    for cell in CELLS:
        share = REQUESTS[cell.name]
        send_s = np.sort(rng.uniform(cell.start_s + 1, cell.start_s + LOAD_S - 120, share))
        output_tok = 10 + rng.geometric(1 / cell.output_tok, share)
        frames.append(
            pd.DataFrame(
                {
                    "cell": cell.name, "server": 0, "slot": np.arange(share) % 256,
                    "first_fill": np.arange(share) < 256,
                    "streamed": rng.random(share) < 0.05, "input_tok_sent": 500, "output_tok_asked": output_tok,
                    "send_mono_s": send_s, "first_mono_s": send_s + 0.3, "end_mono_s": send_s + 0.3 + 0.02 * output_tok,
                    "prompt_tok": 500, "output_tok": output_tok, "outcome": "completed",
                }
            )
        )  # fmt: skip
    return pd.concat(frames)
