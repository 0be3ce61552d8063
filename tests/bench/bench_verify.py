"""How long ``harness verify`` takes for a long run: two hours, eight GPUs at 10 Hz, 100,000 requests."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import numpy as np

from harness.job import write_result_files
from harness.studies.verify import verification_document
from results.store import RunWriter
from tests.bench.record import record
from tests.unit.harness import synthetic_run
from tests.unit.harness.synthetic_run import Cell, SyntheticRun

CELL_S, GPUS, REQUESTS, TOK = 3_550.0, 8, 50_000, 200
LIMIT_S = 60.0
TICK_S = 0.02


class LongCell(Cell):
    """A cell of nearly an hour on one server; all that happens in it comes from arithmetic."""

    def definition(self):
        return super().definition() | {"concurrency": 64, "budget_s": CELL_S - 50, "min_window_s": 60.0}

    def events(self):
        start = {"cell": self.name, "definition": self.definition(), "quiet_mono_s": self.start_s}
        times = (
            ("cell_start", 0.2, start),
            ("filled", 2.0, {}),
            ("load_stop", CELL_S - 20, {}),
            ("cell_end", CELL_S, {}),
        )
        return [{"event": name, "t_mono_s": self.start_s + after_s, **fields} for name, after_s, fields in times]

    def server_rows(self, base_tok):
        rng, tok = np.random.default_rng(int(self.start_s)), REQUESTS * TOK
        rows = []
        for step in range(round(2 * CELL_S) + 1):
            loaded = min(max((0.5 * step - 1) / (CELL_S - 21), 0.0), 1.0)
            noise = 300 * rng.normal() if 0.01 < loaded < 0.99 else 0.0
            row = self._server_row(self.start_s + 0.5 * step, 0, base_tok)
            rows.append(row | {"generation_tok": base_tok + tok * loaded + noise, "kv_usage_ratio": 0.5})
        return rows

    def request_rows(self):
        each_s = 64 * (CELL_S - 21) / REQUESTS
        rows = []
        for number in range(REQUESTS):
            send_s = self.start_s + 1 + number // 64 * each_s
            rows.append(
                self._request_row(0)
                | {"slot": number % 64, "server": 0, "first_fill": number < 64, "streamed": number % 20 == 0,
                   "send_mono_s": send_s, "first_mono_s": send_s + 0.1 if number % 20 == 0 else None,
                   "end_mono_s": send_s + each_s - 0.002}
            )  # fmt: skip
        return rows


def long_run(folder: Path) -> Path:
    """Write two such cells with their power, requests and ticks, analysed and sealed."""
    uuids = [f"gpu-{number}" for number in range(GPUS)]
    cells = (LongCell("1x", start_s=100.0, output_tok=TOK, median_tok=TOK),
             LongCell("8x", start_s=150 + CELL_S, output_tok=TOK, median_tok=TOK, multiplier=8.0))  # fmt: skip
    manifest = synthetic_run.manifest()
    manifest |= {"devices": [{"uuid": uuid, "name": "Test GPU"} for uuid in uuids], "node_share": 1.0,
                 "servers": [synthetic_run.server(uuids)]}  # fmt: skip
    devices, synthetic_run.DEVICES = synthetic_run.DEVICES, tuple(uuids)
    try:
        run = SyntheticRun(cells, manifest)
        run.power = synthetic_run.power_rows(until_s=200 + 2 * CELL_S)
    finally:
        synthetic_run.DEVICES = devices
    for event in run.events:
        event["t_wall_s"] = 1.7e9 + event["t_mono_s"]
    run.events.insert(2, {"event": "prediction_stored", "t_mono_s": 99.0, "t_wall_s": 1.7e9 + 99})
    run.write(folder)
    writer = RunWriter.reopened(folder)
    ticks = range(round((100 + 2 * CELL_S) / TICK_S))
    writer.add("client", [
        {"t_mono_s": 100 + TICK_S * tick, "client": client, "lag_s": 0.0005, "cpu_s": 0.005 * tick}
        for tick in ticks for client in (0, 1)
    ])  # fmt: skip
    writer.flush()
    write_result_files(writer)
    writer.seal()
    return folder


def test_a_long_run_is_verified_in_reasonable_time(tmp_path: Path) -> None:
    start_s = time.perf_counter()
    folder = long_run(tmp_path / "run")
    written_s = time.perf_counter() - start_s
    start_s = time.perf_counter()
    document = verification_document(folder)
    seconds = time.perf_counter() - start_s
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lines = [
        f"{2 * CELL_S / 3600:.1f} h, {GPUS} GPUs at 10 Hz, {2 * REQUESTS:,} requests: verified in {seconds:.1f} s "
        f"(limit {LIMIT_S:g} s), written and analysed before in {written_s:.1f} s",
        f"{document['passed']} rules passed, {document['failed']} failed; peak of the whole bench {peak_mb:.0f} MB",
    ]
    failures = [f"FAIL {rule['id']}: {rule['detail'][:200]}" for rule in document["rules"] if rule["status"] == "fail"]
    print("", *lines, *failures, sep="\n")
    assert document["failed"] == 0
    assert seconds <= LIMIT_S
    record("Verify: a long run", lines)
