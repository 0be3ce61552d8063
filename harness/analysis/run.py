"""Analyse a stored run: the same code serves the end of ``stress`` and every later ``compare``.

Nothing but the run folder is read, so whoever has the folder gets the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from estimator.nodes import NodeProfile
from harness.analysis import judge, measured
from harness.analysis.cell_result import cell_result
from harness.analysis.celllog import read_cells, read_idle, read_last_cell
from harness.analysis.idle_result import idle_result
from harness.analysis.measured import PowerModel
from harness.analysis.pairs import energy_ratio
from harness.analysis.steady import window_so_far
from harness.errors import StoreError
from harness.live.course import Look
from results.schema import Manifest, RunResult, RunSummary, StoredPrediction
from results.store import RunReader, StoredRunError


def analyse_run(folder: Path) -> RunResult:
    """Return everything a stored run says; raises ``StoreError`` if it is not a run of this version."""
    reader, manifest = open_run(folder)
    with _refusing_damage(folder):
        prediction, logs, idle = _read_prediction(reader), read_cells(reader), read_idle(reader)
        bare_idle = read_idle(reader, "bare_idle")
        bare_idle_unknown = None if bare_idle else _why_no_bare_idle(reader)
    model = power_model(manifest)
    results = [cell_result(log, model, manifest, prediction) for log in logs]
    cells = tuple(cell for cell in results if cell.role != "calibration")
    return RunResult(
        run=_summary(folder, manifest, prediction),
        idle=None if idle is None else idle_result(idle, model),
        bare_idle=None if bare_idle is None else idle_result(bare_idle, model),
        bare_idle_unknown=bare_idle_unknown,
        cells=cells,
        calibration_cells=tuple(cell for cell in results if cell.role == "calibration"),
        energy_ratio=energy_ratio([cells], model),
    )


def look_at_window(folder: Path, cell: str) -> Look:
    """Look at a cell under load by the window rule, from what its run has stored so far."""
    reader, manifest = open_run(folder)
    with _refusing_damage(folder):
        log = read_last_cell(reader, cell)
    figures = measured.window_figures(log, power_model(manifest), window_so_far)
    if figures is None:
        return Look(False, 0.0, None, None, (judge.NO_WINDOW,))
    estimate, reasons = figures.joules_per_tok, figures.window.reasons
    return Look(
        not reasons,
        figures.duration_s,
        None if estimate is None else estimate.ratio,
        None if estimate is None else estimate.half_width_rel,
        reasons,
    )


def open_run(folder: Path) -> tuple[RunReader, Manifest]:
    """Open a run folder; raises ``StoreError`` if it holds no run, or one this version cannot read."""
    with _refusing_damage(folder):
        reader = RunReader(folder)
        return reader, Manifest.model_validate(reader.json("manifest.json"))


@contextmanager
def _refusing_damage(folder: Path) -> Iterator[None]:
    try:
        yield
    except (StoredRunError, ValidationError) as error:
        raise StoreError(
            f"cannot read the run {folder}", why=str(error), fix="give a folder that harness stress left"
        ) from error


def power_model(manifest: Manifest) -> PowerModel:
    """Return how the run's power readings become joules at its boundary."""
    profile = None if manifest.node_profile is None else NodeProfile.model_validate(manifest.node_profile)
    uuids = tuple(str(device["uuid"]) for device in manifest.devices)
    return PowerModel(
        manifest.power, manifest.boundary, profile, manifest.node_share, uuids, manifest.allocation, manifest.meters
    )


def _read_prediction(reader: RunReader) -> StoredPrediction:
    if not reader.has("prediction.json"):
        return StoredPrediction(created_wall_s=0, tps_source="none", label="the run ended before its prediction")
    return StoredPrediction.model_validate(reader.json("prediction.json"))


def _why_no_bare_idle(reader: RunReader) -> str:
    said = [str(event["why"]) for event in reader.events() if event["event"] == "bare_idle_unknown"]
    return said[-1] if said else "the run has no record of it"


def _summary(folder: Path, manifest: Manifest, prediction: StoredPrediction) -> RunSummary:
    labels = (*manifest.labels, *([prediction.label] if prediction.label else []))
    return RunSummary(
        id=manifest.id,
        path=str(folder),
        status=manifest.status,
        started_wall_s=manifest.started_wall_s,
        model=manifest.model or "unknown",
        server_version=manifest.server_version,
        power_source=power_model(manifest).source_name,
        boundary=manifest.boundary,
        node_profile=manifest.node_profile["name"] if manifest.node_profile else None,
        prediction=prediction.tps_source,
        labels=labels,
    )
