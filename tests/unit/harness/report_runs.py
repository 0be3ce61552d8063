"""Run folders for tests of the report: a pair with a prediction, and a sweep with ladder and grid."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from harness.studies.sweeps import SWEEP_FILE
from tests.unit.harness.synthetic_run import Cell, SyntheticRun

HOSTILE = '<script>window.pwned=1</script><img src=x onerror="window.pwned=1">\'"&$\\frac{1}{'
"""A text that breaks out of a page which does not escape, and out of a figure that reads mathematics."""


GRID = tuple((input_tok, output_tok) for input_tok in (50, 200) for output_tok in (40, 100, 250))


@dataclass(frozen=True)
class SweptCell(Cell):
    """A cell with a concurrency of its own."""

    concurrency: int = 16

    def definition(self):
        return super().definition() | {"concurrency": self.concurrency}


def pair(folder: Path, *, hostile: bool = False, simulated: bool = False, rate: float = 400.0) -> Path:
    """Write a run of a plain and an eightfold cell, 1x at ``rate`` tokens a second and server."""
    longer = Cell("8x", start_s=200.0, rate=rate / 2, output_tok=800, median_tok=640.0, multiplier=8.0)
    run = SyntheticRun(cells=(Cell(rate=rate), longer))
    if simulated:
        run.manifest["power"] |= {"name": "simulated"}
    if hostile:
        run.manifest |= {"model": HOSTILE, "labels": [HOSTILE], "server_version": HOSTILE}
        run.manifest["servers"][0]["argv"] = ["vllm", "--name", HOSTILE, "--api-key", "s3cret", "--hf-token=s3cret"]
        run.manifest["config"] = {"model": HOSTILE, "api_key": "s3cret", "url": ["http://me:s3cret@127.0.0.1:8000"]}
        run.prediction["tps_source"] = HOSTILE
    return run.write(folder)


def cell_less(folder: Path, *, sweep: bool = False) -> Path:
    """Write a run of simulated power that failed after its idle, before any load and any prediction."""
    run = SyntheticRun()
    run.manifest |= {"status": "failed", "failure": "the server died", "labels": ["simulated power: all of it"]}
    run.manifest["power"] |= {"name": "simulated"}
    run.manifest["config"] = {"grid": []} if sweep else {}
    run.prediction, run.server, run.requests = None, [], []
    run.power = [row | {"source": "simulated"} for row in run.power if row["t_mono_s"] < 95]
    run.events = [event | {"t_wall_s": 1.7e9 + event["t_mono_s"]} for event in run.events[:2]]
    return run.write(folder)


def _grid_cell(start_s: float, input_tok: int, output_tok: int) -> SweptCell:
    rate = 400.0 * (100 / output_tok) ** 0.1 * (50 / input_tok) ** 0.2 * (1.01 if output_tok == 100 else 0.99)
    return SweptCell(
        f"grid-{input_tok}x{output_tok}", start_s, rate, output_tok, output_tok, role="grid",
        workload=f"fixed:{input_tok}x{output_tok}", input_tok=input_tok,
    )  # fmt: skip


def sweep(folder: Path) -> Path:
    """Write a sweep: a ladder of three concurrencies, and a grid of two input by three output lengths."""
    ladder = [
        SweptCell(f"ladder-{n}", 100.0 + 100 * k, 50.0 * n**0.5, role="ladder", workload="fixed:50x100", concurrency=n)
        for k, n in enumerate((1, 4, 16))
    ]
    grid = [_grid_cell(400.0 + 100 * k, *lengths) for k, lengths in enumerate(GRID)]
    run = SyntheticRun(cells=(*ladder, *grid))
    run.prediction = None
    run.write(folder)
    (folder / SWEEP_FILE).write_text(json.dumps({}))
    return folder
