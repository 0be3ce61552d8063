"""What a live look of the window rule costs late in a long run: it reads the present cell's stretch alone."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.analysis.run import look_at_window
from results.store import RunWriter
from results.tables import TABLES
from tests.bench.record import record
from tests.unit.harness.synthetic_run import Cell, manifest

GPUS, SLOTS, RATE = 8, 256, 5_000.0
EARLIER_S, CELL_S, FLUSH_S = 3_600.0, 7_200.0, 10.0
REQUESTS_PER_S = 14.0  # 100,000 in the two hours of the cell
UUIDS = [f"GPU-{number}" for number in range(GPUS)]
LIMIT_CPU_S = 10.0


def columns(table: str, rows: int, **known: object) -> pa.Table:
    """Return a table of so many rows in which only the given columns are not null."""
    schema = TABLES[table]
    values = {name: pa.array(known[name], schema.field(name).type) for name in known}
    return pa.table(
        {name: values.get(name, pa.nulls(rows, schema.field(name).type)) for name in schema.names}, schema=schema
    )


def power(start_s: float, rng: np.random.Generator) -> pa.Table:
    t_s = np.repeat(np.arange(start_s, start_s + FLUSH_S - 1e-6, 0.1), GPUS)
    watts = rng.normal(600.0, 20.0, t_s.size)
    return columns(
        "power", t_s.size, t_mono_s=t_s, uuid=UUIDS * (t_s.size // GPUS), power_w=watts, energy_j=600.0 * t_s,
        source=["nvml"] * t_s.size,
    )  # fmt: skip


def server(start_s: float, rng: np.random.Generator) -> pa.Table:
    t_s = np.arange(start_s, start_s + FLUSH_S - 1e-6, 0.5)
    tokens = RATE * t_s + rng.normal(0.0, 200.0, t_s.size)
    kv = rng.normal(0.5, 0.005, t_s.size)
    return columns(
        "server", t_s.size, t_mono_s=t_s, server=[0] * t_s.size, generation_tok=tokens, kv_usage_ratio=kv,
        waiting=np.zeros(t_s.size), running=np.full(t_s.size, float(SLOTS)),
    )  # fmt: skip


def requests(start_s: float, cell: str) -> pa.Table:
    end_s = np.arange(start_s, start_s + FLUSH_S - 1e-6, 1 / REQUESTS_PER_S)
    n = end_s.size
    return columns(
        "requests", n, cell=[cell] * n, end_mono_s=end_s, send_mono_s=end_s - 18, outcome=["completed"] * n,
        output_tok=[357] * n, output_tok_asked=[357] * n, slot=np.arange(n) % SLOTS, server=[0] * n,
    )  # fmt: skip


def client(start_s: float) -> pa.Table:
    t_s = np.arange(start_s, start_s + FLUSH_S - 1e-6, 0.02)
    return columns("client", t_s.size, t_mono_s=t_s, client=[0] * t_s.size, lag_s=np.zeros(t_s.size), cpu_s=0.1 * t_s)


def long_run(folder: Path) -> Path:
    """Write a run as it lies on disk two hours into its second cell, after one of an hour."""
    writer, rng = RunWriter(folder), np.random.default_rng(1)
    document = manifest() | {"devices": [{"uuid": uuid, "name": "Test GPU"} for uuid in UUIDS], "node_share": 1.0}
    writer.write_text("manifest.json", json.dumps(document))
    for part, start_s in enumerate(np.arange(0.0, EARLIER_S + CELL_S, FLUSH_S)):
        cell = "1x" if start_s < EARLIER_S else "15x"
        made = {
            "power": power(start_s, rng), "server": server(start_s, rng), "requests": requests(start_s, cell),
            "client": client(start_s),
        }  # fmt: skip
        for name, rows in made.items():
            pq.write_table(rows, folder / name / f"part-{part:05d}.parquet")
    for name, start_s in (("1x", 0.0), ("15x", EARLIER_S)):
        definition = Cell(name, start_s, RATE, 357).definition() | {
            "concurrency": SLOTS, "budget_s": CELL_S, "warmup_s": 60.0, "min_window_s": 60.0, "precision_rel": 1e-6,
        }  # fmt: skip
        writer.event("cell_start", t_mono_s=start_s, cell=name, definition=definition, quiet_mono_s=start_s)
        writer.event("filled", t_mono_s=start_s + 30, cell=name)
        if name == "1x":
            writer.event("load_stop", t_mono_s=EARLIER_S - 20, cell=name)
            writer.event("cell_end", t_mono_s=EARLIER_S - 10, cell=name)
    return folder


def test_a_look_two_hours_into_a_cell_takes_seconds_of_one_core(tmp_path: Path) -> None:
    folder = long_run(tmp_path / "run")
    began_s, cpu_s = time.monotonic(), time.process_time()
    ended = look_at_window(folder, "15x").ended
    took_s, used_s = time.monotonic() - began_s, time.process_time() - cpu_s
    line = (
        f"a look {CELL_S / 3600:g} h into a cell, {EARLIER_S / 3600:g} h into the run, {GPUS} GPUs, "
        f"{REQUESTS_PER_S * CELL_S:,.0f} requests: {took_s:.1f} s, {used_s:.1f} s of CPU (limit {LIMIT_CPU_S:g} s)"
    )
    print("", line, sep="\n")
    assert not ended
    assert used_s < LIMIT_CPU_S
    record("Window rule: a look at a long run", [line])
