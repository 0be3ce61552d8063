"""From a run folder to what its report shows: analysed figures, traces reduced for the eye, rungs, fits and hashes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from estimator.throughput.fit import fit_tps
from estimator.throughput.s1 import TpsRow, match_s1_model, rows_for
from estimator.throughput.selection import nested_leave_one_out, rank_forms
from estimator.throughput.tps import TpsModel
from harness.analysis.celllog import stored_series, sum_over_servers
from harness.analysis.energy import DeviceSeries
from harness.analysis.measured import PowerModel
from harness.analysis.run import analyse_run, open_run, power_model
from harness.studies.refit_report import Fitted, report
from harness.studies.sweeps import SWEEP_FILE, sweep_document
from harness.tps_rows import row_notes, tps_rows
from results.report.envelope import Envelope, envelope
from results.report.view import NamedModel, Refit, RunView, SearchRung, Span, Timeline, Trace
from results.schema import CellResult, Manifest, RunResult, StoredPrediction
from results.store import HASHES_FILE, RunReader, sha256_of

FloatArray = npt.NDArray[np.float64]

HASHED_FILES = ("manifest.json", "prediction.json", "result.json", HASHES_FILE)
TPS_STEP_S = 1.0
"""Two scrapes: between single ones the jitter of a scrape's own time would show as throughput."""
NO_JOULES = "a report shows throughput alone: harness refit fits joules"


def run_view(folder: Path, letter: str = "", given: Sequence[NamedModel] = ()) -> RunView:
    """Return everything the report shows of a run; raises ``StoreError`` if the folder is not a run of this version."""
    reader, manifest = open_run(folder)
    result = analyse_run(folder)
    prediction = (
        StoredPrediction.model_validate(reader.json("prediction.json")) if reader.has("prediction.json") else None
    )
    cells = (*result.calibration_cells, *result.cells)
    rows = tps_rows(result.run.model, max(1, len(manifest.devices)), cells, f"run {manifest.id}")
    refit = _refit(rows, row_notes(cells))
    s1_name = match_s1_model(result.run.model)
    return RunView(
        name=folder.resolve().name,
        letter=letter,
        result=result,
        manifest=manifest,
        prediction=prediction,
        timeline=_timeline(reader, manifest, result),
        rungs=_rungs(reader.events()),
        models=(*_models(prediction, refit), *given),
        s1_rows=rows_for(s1_name) if s1_name else (),
        refit=refit,
        sweep=sweep_document(folder) if reader.has(SWEEP_FILE) or "grid" in manifest.config else None,
        hashes={file: sha256_of(folder / file) for file in HASHED_FILES if reader.has(file)},
    )


def _refit(rows: tuple[TpsRow, ...], notes: tuple[str, ...]) -> Refit:
    """Return the best form fitted to the run's fixed-length cells, where they are enough to test one."""
    if not rows:
        none = "the run has no usable cell of fixed lengths (harness sweep --grid measures some)"
        return Refit(None, "; ".join((none, *notes)))
    scores = rank_forms(rows, cap=False)
    if scores[0].error is None:
        few = f"{len(rows)} fixed-length cell(s) are too few for a throughput model with an error"
        return Refit(None, "; ".join((few, *notes)))
    model = fit_tps(rows, scores[0].name, cap=False).noting(notes)
    fitted = Fitted(scores[0].name, model, scores, nested_leave_one_out(rows, cap=False))
    return Refit(report(fitted, rows, (None, NO_JOULES, ()), cap=False))


def _models(prediction: StoredPrediction | None, refit: Refit) -> list[NamedModel]:
    found = []
    if prediction is not None and prediction.tps_model is not None:
        model = TpsModel.from_json(json.dumps(prediction.tps_model))
        found.append(NamedModel(f"predicted: {prediction.tps_source}", model))
    if refit.document is not None:
        model = TpsModel.from_json(json.dumps(refit.document["model"]))
        found.append(NamedModel(f"our fit to this run: {model.form}", model))
    return found


def _rungs(events: Sequence[dict[str, Any]]) -> tuple[SearchRung, ...]:
    return tuple(
        SearchRung(
            str(event["cell"]), int(event["concurrency"]), float(event["tps_tok_per_s"]), event.get("tps_u_tok_per_s")
        )
        for event in events
        if event["event"] == "rung"
    )


def _timeline(reader: RunReader, manifest: Manifest, result: RunResult) -> Timeline:
    events, power, server = reader.events(), reader.table("power"), reader.table("server")
    known_s = [float(event["t_mono_s"]) for event in events]
    known_s += [
        float(edge) for table in (power, server) if len(table) for edge in table["t_mono_s"].agg(["min", "max"])
    ]
    if not known_s:
        return Timeline(0.0)
    start_s = min(known_s)
    model = power_model(manifest)
    throughput = _throughput(server, start_s)
    return Timeline(
        duration_s=max(known_s) - start_s,
        totals=_totals(power, manifest, model, start_s),
        devices=_devices(power, manifest, model, start_s),
        throughput=throughput,
        spans=_spans(events, result.cells + result.calibration_cells, start_s, max(known_s)),
    )


def _totals(power: pd.DataFrame, manifest: Manifest, model: PowerModel, start_s: float) -> tuple[Trace, ...]:
    """Return the summed power of the devices used, of the modelled node where that is the boundary, and of meters."""
    summed = _summed(stored_series(power, model.device_uuids), start_s)
    traces = []
    if summed is not None:
        number = len(model.device_uuids)
        traces.append(Trace(f"sum of {number} GPUs" if number > 1 else "the GPU", summed))
        if manifest.boundary == "node_modelled":
            traces.append(Trace("the node, modelled", _lifted(summed, model)))
    for meter in manifest.meters:
        metered = _summed(stored_series(power, meter.device_uuids), start_s)
        if metered is not None:
            traces.append(Trace(f"{meter.name} ({meter.boundary})", metered))
    return tuple(traces)


def _lifted(summed: Envelope, model: PowerModel) -> Envelope:
    mean, low, high = (
        np.array([model.lift_w(watts) for watts in values.tolist()])
        for values in (summed.mean, summed.low, summed.high)
    )
    return Envelope(summed.t_s, mean, low, high)


def _summed(devices: Sequence[DeviceSeries], start_s: float) -> Envelope | None:
    """Return the sum over devices at the times of the first, only while each of them is being read."""
    known = [(device.t_s[ok], device.power_w[ok]) for device in devices for ok in [np.isfinite(device.power_w)]]
    if not known or any(t_s.size == 0 for t_s, _ in known):
        return None
    t_s = known[0][0]
    total = sum((np.interp(t_s, times, watts, left=np.nan, right=np.nan) for times, watts in known), np.zeros(t_s.size))
    return envelope(t_s - start_s, total)


def _devices(power: pd.DataFrame, manifest: Manifest, model: PowerModel, start_s: float) -> tuple[Trace, ...]:
    numbers = {str(device["uuid"]): device.get("index") for device in manifest.devices}
    named = []
    for position, series in enumerate(stored_series(power, model.device_uuids)):
        index = numbers.get(series.uuid)
        reduced = envelope(series.t_s - start_s, series.power_w)
        if reduced.t_s.size:
            named.append(Trace(f"GPU {position if index is None else index}", reduced))
    return tuple(named)


def _throughput(server: pd.DataFrame, start_s: float) -> Trace | None:
    """Return tok/s of all servers by the second; where a counter began again, between two starts, it is not known."""
    if not len(server):
        return None
    t_s, tokens = sum_over_servers(server, "generation_tok")
    if t_s.size < 2:
        return None
    at_s = np.arange(t_s[0], t_s[-1], TPS_STEP_S)
    rate = np.diff(np.interp(at_s, t_s, tokens)) / TPS_STEP_S
    rate[rate < 0] = np.nan
    return Trace("TPS", envelope(at_s[1:] - TPS_STEP_S / 2 - start_s, rate))


def _spans(
    events: Sequence[dict[str, Any]], cells: Sequence[CellResult], start_s: float, end_s: float
) -> tuple[Span, ...]:
    spans, since = [], {}
    for event in events:
        kind, at_s = str(event["event"]), float(event["t_mono_s"]) - start_s
        if kind in ("bare_idle_start", "idle_start"):
            since[kind.removesuffix("_start")] = at_s
        elif kind in ("bare_idle_end", "idle_end") and kind.removesuffix("_end") in since:
            name = kind.removesuffix("_end")
            spans.append(Span("idle", name.replace("_", " "), since.pop(name), at_s))
    return (*spans, *_searches(events, start_s, end_s), *_loads(events, cells, start_s, end_s))


def _searches(events: Sequence[dict[str, Any]], start_s: float, end_s: float) -> list[Span]:
    phases = [event for event in events if event["event"] == "phase"]
    closed = [*phases, {"t_mono_s": end_s, "phase": ""}]
    return [
        Span("search", "search", float(phase["t_mono_s"]) - start_s, float(after["t_mono_s"]) - start_s)
        for phase, after in pairwise(closed)
        if phase["phase"] == "search"
    ]


def _loads(events: Sequence[dict[str, Any]], cells: Sequence[CellResult], start_s: float, end_s: float) -> list[Span]:
    starts = [event for event in events if event["event"] in ("cell_start", "load_stop")]
    by_name = {cell.name: cell for cell in cells}
    spans = []
    for event, after in pairwise([*starts, {"t_mono_s": end_s, "event": "end"}]):
        if event["event"] != "cell_start":
            continue
        name = str(event["cell"])
        window = by_name[name].window if name in by_name else None
        edges_s = None if window is None else (window.start_mono_s - start_s, window.end_mono_s - start_s)
        spans.append(
            Span("cell", name, float(event["t_mono_s"]) - start_s, float(after["t_mono_s"]) - start_s, edges_s)
        )
    return spans
