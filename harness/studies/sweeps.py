"""What a sweep says: the curve from one request to saturation, the grid of lengths, and energy over length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from estimator.paired import Interval, fitted_exponent, independent_ratio, lengths_differ
from harness.analysis.measured import PowerModel
from harness.analysis.pairs import bounds, combined_window_rel_u, common_rel_u
from harness.analysis.run import analyse_run, open_run, power_model
from harness.analysis.saturation import PLATEAU_SHARE, in_words, plateau_shown, plateau_words, rung_of, what_binds
from harness.studies.across import CLAIM, CLAIM_NOTE
from results.schema import CellResult, Manifest

SWEEP_SCHEMA = "inference-energy/sweep/1"
SWEEP_FILE = "sweep.json"
SCATTER_NOTE = "the interval is of scatter about a straight line in logarithms: what a restart changes is not in it"


def is_sweep(manifest: Manifest) -> bool:
    """Return whether a run is a sweep."""
    return "grid" in manifest.config


def sweep_document(folder: Path) -> dict[str, Any]:
    """Return everything a sweep says, made again from its run folder."""
    reader, manifest = open_run(folder)
    result = analyse_run(folder)
    ladder = _last_attempts([cell for cell in result.cells if cell.role == "ladder"])
    grid = _last_attempts([cell for cell in result.cells if cell.role == "grid"])
    skipped = {event["cell"]: event["why"] for event in reader.events() if event["event"] == "cell_skipped"}
    return {
        "schema": SWEEP_SCHEMA,
        "run": result.run.model_dump(mode="json"),
        "config": manifest.config,
        "ladder": _ladder(sorted(ladder, key=lambda cell: cell.concurrency), power_model(manifest)),
        "grid": {
            "cells": [_line(cell) for cell in grid],
            "skipped": [{"cell": cell, "why": why} for cell, why in skipped.items()],
            "energy_exponents": _exponents(grid),
        },
        "server_starts": sum(event["event"] == "resumed" for event in reader.events()) + 1,
        "cut_short": [cell.name for cell in result.cells if "interrupted" in cell.reasons],
    }


def _last_attempts(cells: Sequence[CellResult]) -> list[CellResult]:
    """Return the last measurement of each cell, in order; attempts that were cut short give way."""
    kept: dict[tuple[str, int], CellResult] = {}
    for cell in cells:
        key = (cell.workload, cell.concurrency if cell.role == "ladder" else 0)
        if "interrupted" not in cell.reasons:
            kept[key] = cell
    return list(kept.values())


def _line(cell: CellResult) -> dict[str, Any]:
    energy = cell.wh_per_query
    return {
        "cell": cell.name,
        "workload": cell.workload,
        "concurrency": cell.concurrency,
        "mean_input_tok": cell.mean_input_tok,
        "mean_output_tok": cell.mean_output_tok,
        "served_output_tok": energy.output_tok if energy else None,
        "tps_tok_per_s": cell.tps_tok_per_s,
        "tps_ci95": cell.tps_ci95,
        "watts": cell.watts,
        "gpu_watts": cell.gpu_watts,
        "power_source": cell.power_source,
        "boundary": cell.boundary,
        "joules_per_tok": cell.joules_per_tok,
        "joules_per_tok_ci95": cell.joules_per_tok_ci95,
        "wh_per_query": energy.mean if energy else None,
        "wh_per_query_boundary": energy.boundary if energy else None,
        "standard_uncertainty_rel": energy.standard_uncertainty_rel if energy else None,
        "binding": cell.binding,
        "queue_share": cell.queue_share,
        "kv_usage_ratio": cell.kv_usage_ratio,
        "preemptions": cell.preemptions,
        "verdict": cell.verdict,
        "reasons": list(cell.reasons),
    }


def _ladder(cells: list[CellResult], model: PowerModel) -> dict[str, Any] | None:
    if not cells:
        return None
    usable = [cell for cell in cells if cell.verdict != "invalid" and cell.tps_tok_per_s]
    return {
        "workload": cells[0].workload,
        "multiplier": cells[0].multiplier,
        "cells": [_line(cell) for cell in cells],
        "knee": _knee(usable),
        "unsaturated_cost": _unsaturated_cost(usable, model),
    }


def _knee(cells: Sequence[CellResult]) -> dict[str, Any] | None:
    """Return the smallest concurrency within 3% of the best throughput, and what ended the ladder of two or more."""
    if len(cells) < 2:
        return None
    best = max(cell.tps_tok_per_s or 0.0 for cell in cells)
    knee = next(cell for cell in cells if (cell.tps_tok_per_s or 0.0) >= PLATEAU_SHARE * best)
    rungs = [rung_of(cell) for cell in cells]
    binds = what_binds(rungs, last_concurrency=cells[-1].concurrency)
    return {
        "concurrency": knee.concurrency,
        "plateau_tps_tok_per_s": best,
        "binds": binds,
        "binding": in_words(binds, rungs[-1]) + plateau_words(rungs, binds),
        "plateau_shown": plateau_shown(rungs, binds),
    }


def _unsaturated_cost(cells: Sequence[CellResult], model: PowerModel) -> dict[str, Any] | None:
    """Return J/token with the fewest requests in flight over that at the best throughput."""
    known = [cell for cell in cells if cell.joules_per_tok]
    if len(known) < 2:
        return None
    fewest = known[0]
    best = max(known, key=lambda cell: cell.tps_tok_per_s or 0.0)
    pair = (best, fewest)
    common = common_rel_u(pair, model.boundary, model.node, model.gain_rel_u)
    ratio = independent_ratio(
        [best.joules_per_tok or 0.0], [fewest.joules_per_tok or 0.0], combined_window_rel_u(pair), common
    )
    return {
        "concurrency": fewest.concurrency,
        "saturated_concurrency": best.concurrency,
        "joules_per_tok_ratio": ratio.value,
        "ci95": bounds(ratio),
        "interval": "errors within the two windows, and what sensor gain and node model leave in a ratio of them",
        "boundary": best.boundary,
        "power_source": best.power_source,
        "reference": {"low": CLAIM[0], "high": CLAIM[1], "note": CLAIM_NOTE},
    }


def _exponents(cells: Sequence[CellResult]) -> list[dict[str, Any]]:
    """Return d ln E / d ln L over the outputs at each input length that has two or more that differ by over 1%."""
    exponents = []
    usable = [cell for cell in cells if cell.verdict != "invalid" and cell.wh_per_query]
    for input_tok in sorted({cell.mean_input_tok for cell in usable}):
        row = [cell for cell in usable if cell.mean_input_tok == input_tok]
        lengths_tok = [cell.served_output_tok for cell in row]
        if not lengths_differ(lengths_tok):
            continue
        fit = fitted_exponent(lengths_tok, [cell.wh_per_query.mean for cell in row if cell.wh_per_query])
        exponents.append(_exponent_line(input_tok, row, fit))
    return exponents


def _exponent_line(input_tok: float, row: Sequence[CellResult], fit: Interval) -> dict[str, Any]:
    return {
        "input_tok": input_tok,
        "output_tok": sorted(cell.served_output_tok for cell in row),
        "exponent": fit.value,
        "ci95": bounds(fit),
        "n": fit.n,
        "power_source": row[0].power_source,
        "note": SCATTER_NOTE if fit.low is not None else "two lengths have no scatter to take an interval from",
    }
