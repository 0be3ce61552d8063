"""Fit a TPS model from the fixed-length cells of stored runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

from estimator.fit import InsufficientRowsError, fit_tps
from estimator.s1 import TpsRow
from estimator.tps import Form, TpsModel
from harness.analysis import analyse_run, open_run
from harness.errors import ConfigError, StoreError, WorkloadError
from harness.prediction import tps_rows


def rows_from_runs(folders: Sequence[Path]) -> tuple[TpsRow, ...]:
    """Return one row per usable fixed-length cell; raises ``WorkloadError`` if runs are of different models or GPUs."""
    rows: list[TpsRow] = []
    for folder in folders:
        (_, manifest), result = open_run(folder), analyse_run(folder)
        gpus = max(1, len({uuid for server in manifest.servers for uuid in server.device_uuids}))
        cells = (*result.calibration_cells, *result.cells)
        rows += tps_rows(result.run.model, gpus, cells, f"run {result.run.id}")
    kinds = {(row.model, row.gpus) for row in rows}
    if len(kinds) > 1:
        listed = "; ".join(f"{model} on {gpus} device(s)" for model, gpus in sorted(kinds))
        raise WorkloadError(
            "the runs cannot share one TPS model", why=listed, fix="refit one model and node size at a time"
        )
    return tuple(rows)


def refit(folders: Sequence[Path], form: Form) -> TpsModel:
    """Fit ``form`` to the runs, uncapped; ``WorkloadError`` says what is missing if there are too few cells."""
    rows = rows_from_runs(folders)
    try:
        return fit_tps(rows, form, cap=False)
    except InsufficientRowsError as error:
        raise WorkloadError(
            f"{len(rows)} usable fixed-length cell(s) in {len(folders)} run(s) are too few",
            why=str(error),
            fix="measure more lengths, e.g. harness stress --workload fixed:500x2000, or a run that calibrates",
        ) from error


def refit_to_file(folders: Sequence[Path], form: str, out: Path) -> TpsModel:
    """Fit and write the model; raises ``ConfigError`` for an unknown form, ``StoreError`` if it cannot be written."""
    forms = get_args(Form)
    if form not in forms:
        raise ConfigError(f"unknown form {form!r}", fix=f"choose one of {', '.join(forms)}")
    model = refit(folders, cast(Form, form))
    try:
        model.save(out)
    except OSError as error:
        raise StoreError(f"cannot write {out}", why=error.strerror or str(error), fix="choose another --out") from error
    return model
