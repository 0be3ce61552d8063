"""Compare many measured cells, of runs and of imported tables, with their predictions: one document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, cast, get_args

from estimator.agreement import (
    TERMS,
    Ladder,
    Moments,
    PowerShares,
    agreement,
    by_group,
    exact_proportion,
    judge_ladder,
)
from estimator.names import unknown_name_error
from estimator.presets import Regime, get_preset
from estimator.throughput.tps import TpsModel
from harness.errors import ConfigError, WorkloadError
from harness.prediction import PRESET
from harness.studies.compared import ComparedCell, cells_of_run
from harness.studies.imported_prediction import Assumptions, compared_cells
from results.imported import load_cells

AGREEMENT_SCHEMA = "inference-energy/agreement/1"
PREDICTED_INTERVAL = "P5-P95 of the predicted mean"
NOMINAL_COVERAGE = 0.90
CLAIM = (4.0, 20.0)
CLAIM_NOTE = (
    "a different comparison: the paper's 4-20x sets published estimates of non-production serving against its own "
    "figures; here one server's J/token at its smallest cap is set against its own at the largest TPS"
)
RULES = (
    "a ladder is one server, model, task and boundary; its cell with the largest TPS stands for saturation, all others "
    "enter no summary",
    "a group is one server with its arguments and one model, and counts once: logs of ratios and of interval bounds "
    "are averaged over the group's ladders, since the errors of power and TPS are common to them",
    "a ladder with a single cap says nothing about saturation and enters no summary, unless its source states that "
    "the server is saturated",
    "groups of one source share hardware, software and the population behind their predicted TPS: the binomial "
    "interval takes them as independent all the same",
    "at the gpu boundary the prediction is Eq. 1 with PUE 1 and the power prior on the summed limit of the GPUs; the "
    "paper states that prior for the whole node",
)

Ladders = dict[tuple[str, str, str], tuple[Ladder, ComparedCell]]
"""By group, task and boundary: joules of different boundaries cannot be set beside each other."""


def compares_across(paths: Sequence[Path]) -> bool:
    """Return whether the paths ask for a comparison across cells: anything but one run folder."""
    return len(paths) != 1 or paths[0].is_file()


def agreement_document(
    paths: Sequence[Path],
    *,
    assume_input_tok: int,
    regimes: Sequence[str] = (),
    tps_model: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Return measured beside predicted for every cell, and coverage, bias and spread over groups."""
    if assume_input_tok < 1:
        raise ConfigError(f"assume-input-tok = {assume_input_tok}: an input has at least 1 token")
    _check_inputs(paths)
    given = Assumptions(assume_input_tok, _regimes(regimes), _load_tps_model(tps_model), seed)
    inputs, cells = _read(paths, given)
    _check_tasks(given.regimes, cells)
    ladders = _ladders(cell for cell in cells if not cell.left_out)
    boundaries = sorted({cell.boundary for _, cell in ladders.values()})
    standing = {id(cell) for _, cell in ladders.values()}
    return {
        "schema": AGREEMENT_SCHEMA,
        "inputs": inputs,
        "preset": PRESET,
        "seed": seed,
        "assumed_input_tok": assume_input_tok,
        "regimes": dict(given.regimes),
        "tps_model_file": None if tps_model is None else str(tps_model),
        "rules": list(RULES),
        "summaries": [_summary(boundary, ladders) for boundary in boundaries],
        "energy_at_smallest_cap": _smallest_cap(ladders),
        "ladders": [_ladder_json(group, task, *entry) for (group, task, _), entry in sorted(ladders.items())],
        "cells": [cell.to_json(saturated=id(cell) in standing) for cell in cells],
    }


def draw_agreement(document: dict[str, Any], path: Path) -> None:
    """Draw the terms by group to ``path``; raises ``ConfigError`` for another suffix, ``StoreError`` if unwritable."""
    from harness.studies.checks import check_figure
    from harness.studies.figure_file import write_figure
    from results.figures.agreement import agreement_figure

    check_figure(path, "--figure")
    write_figure(agreement_figure(document["summaries"]), path)


def _check_inputs(paths: Sequence[Path]) -> None:
    """Refuse what is not there, or there twice, before the first is read: each may take a while."""
    for path in paths:
        if not path.exists():
            raise WorkloadError(f"there is no {path}", fix="give run folders, and files of harness import")
        if sum(path.resolve() == other.resolve() for other in paths) > 1:
            raise ConfigError(f"{path} is given twice", why="its cells would count twice", fix="give it once")


def _check_tasks(regimes: Iterable[str], cells: Sequence[ComparedCell]) -> None:
    tasks = {cell.task for cell in cells}
    for task in regimes:
        if task and task not in tasks:
            raise ConfigError(str(unknown_name_error("task", task, tasks)), fix="--regime [TASK=]REGIME")


def _regimes(texts: Sequence[str]) -> dict[str, Regime]:
    regimes: dict[str, Regime] = {}
    for text in texts:
        task, _, regime = text.rpartition("=")
        if text.startswith("="):
            raise ConfigError(f"--regime {text} names no task before its =", fix="--regime [TASK=]REGIME")
        if regime not in get_args(Regime):
            raise ConfigError(str(unknown_name_error("regime", regime, get_args(Regime))), fix="--regime [TASK=]REGIME")
        regimes[task] = cast(Regime, regime)
    return regimes


def _load_tps_model(path: Path | None) -> TpsModel | None:
    try:
        return None if path is None else TpsModel.load(path)
    except (OSError, ValueError) as error:
        raise WorkloadError(
            f"cannot read the TPS model {path}", why=str(error), fix="give a file of harness refit"
        ) from error


def _read(paths: Sequence[Path], given: Assumptions) -> tuple[list[dict[str, Any]], list[ComparedCell]]:
    inputs: list[dict[str, Any]] = []
    cells: list[ComparedCell] = []
    for path in paths:
        if path.is_file():
            entry, read = _read_imported(path, given)
        else:
            read = cells_of_run(path)
            entry = {"path": str(path), "kind": "run", "cells": len(read)}
        inputs.append(entry)
        cells += read
    return inputs, cells


def _read_imported(path: Path, given: Assumptions) -> tuple[dict[str, Any], tuple[ComparedCell, ...]]:
    try:
        document = load_cells(path)
        cells = compared_cells(document, path.name, given)
    except (OSError, ValueError) as error:
        raise WorkloadError(
            f"cannot compare {path}", why=str(error), fix="import a table first: harness import TABLE --out FILE.json"
        ) from error
    entry = {
        "path": str(path),
        "kind": "cells",
        "cells": len(cells),
        **document.model_dump(
            mode="json", include={"layout", "source_file", "source_sha256", "source", "licence", "notes"}
        ),
    }
    return entry, cells


def _ladders(cells: Iterable[ComparedCell]) -> Ladders:
    """Return each ladder with the cell that stands for its saturation."""
    gathered: dict[tuple[str, str, str], list[ComparedCell]] = {}
    for cell in cells:
        gathered.setdefault((cell.group, cell.task, cell.boundary), []).append(cell)
    ladders: Ladders = {}
    for key, members in gathered.items():
        ladder = judge_ladder([cell.rung for cell in members])
        ladders[key] = ladder, next(cell for cell in members if cell.rung == ladder.top)
    return ladders


def _summary(boundary: str, ladders: Ladders) -> dict[str, Any]:
    """Summarise one boundary twice: over the largest TPS of each ladder, and where saturation is proven."""
    here = [(ladder, cell) for ladder, cell in ladders.values() if cell.boundary == boundary]
    unknown = {cell.rung.cell: ladder.evidence for ladder, cell in here if ladder.saturation == "unknown"}
    return {
        "boundary": boundary,
        "largest_tps": _tally([cell for ladder, cell in here if ladder.saturation != "unknown"]),
        "saturation_proven": _tally([cell for ladder, cell in here if ladder.saturation == "proven"]),
        "ladders_left_out": unknown,
    }


def _tally(cells: Sequence[ComparedCell]) -> dict[str, Any]:
    groups = by_group(cell.comparison() for cell in cells)
    result = agreement(groups, get_preset(PRESET).power_share())
    return {
        "n_groups": len(groups),
        "n_ladders": len(cells),
        "coverage": {
            "interval": PREDICTED_INTERVAL,
            "nominal": NOMINAL_COVERAGE,
            **asdict(result.coverage),
            "median_p95_over_p5": result.median_p95_over_p5,
        },
        "ln_ratio": {term: _term(term, result.ln_ratio[term], cells) for term in TERMS},
        "gpu_power_share_of_limit": _shares(result.power_shares),
        "groups": [asdict(group) for group in groups],
    }


def _term(term: str, figures: Moments, cells: Sequence[ComparedCell]) -> dict[str, Any]:
    reasons = Counter(cell.predicted.why_missing[term] for cell in cells if term in cell.predicted.why_missing)
    notes = {cell.predicted.by_construction[term] for cell in cells if term in cell.predicted.by_construction}
    return {
        **asdict(figures),
        "note": "; ".join(sorted(notes)) or None,
        "ladders_left_out": dict(sorted(reasons.items())),
        "tps_sources": dict(Counter(cell.predicted.tps_source for cell in cells)) if term == "tps" else None,
    }


def _shares(shares: PowerShares) -> dict[str, Any]:
    prior = shares.prior
    return {
        "prior": {"p5": prior.p5, "p95": prior.p95, "median": prior.median, "mean": prior.mean},
        "inside_prior_p5_p95": asdict(shares.inside),
        "quantiles": dict(shares.quantiles),
        "ln_over_prior_median": asdict(shares.ln_over_prior_median),
        "ln_over_prior_mean": asdict(shares.ln_over_prior_mean),
    }


def _smallest_cap(ladders: Ladders) -> dict[str, Any]:
    """Return J/token at each ladder's smallest cap over that at its largest TPS, beside the paper's claim."""
    ratios = sorted(ladder.energy_ratio for ladder, _ in ladders.values() if ladder.energy_ratio is not None)
    low, high = CLAIM
    return {
        "claim": {"low": low, "high": high, "note": CLAIM_NOTE},
        "n_ladders": len(ratios),
        "below_claim": sum(ratio < low for ratio in ratios),
        "inside_claim": asdict(exact_proportion(sum(low <= ratio <= high for ratio in ratios), len(ratios))),
        "above_claim": sum(ratio > high for ratio in ratios),
        "smallest": ratios[0] if ratios else None,
        "median": median(ratios) if ratios else None,
        "largest": ratios[-1] if ratios else None,
    }


def _ladder_json(group: str, task: str, ladder: Ladder, cell: ComparedCell) -> dict[str, Any]:
    top, bottom = ladder.top, ladder.bottom
    filled = top.mean_concurrency / top.concurrency_cap if top.mean_concurrency and top.concurrency_cap else None
    return {
        "group": group,
        "task": task,
        "boundary": cell.boundary,
        "cell": top.cell,
        "concurrency_cap": top.concurrency_cap,
        "mean_concurrency": top.mean_concurrency,
        "cap_filled_ratio": filled,
        "saturation": ladder.saturation,
        "saturation_evidence": ladder.evidence,
        "tps_tok_per_s": top.tps_tok_per_s,
        "joules_per_tok": top.joules_per_tok,
        "smallest_cap": bottom.concurrency_cap if bottom else None,
        "joules_per_tok_at_smallest_cap": bottom.joules_per_tok if bottom else None,
        "smallest_cap_over_saturation": ladder.energy_ratio,
        "ln_ratio": cell.ln_terms,
        "inside_p5_p95": cell.inside,
        "gpu_power_share_of_limit": cell.power_share,
        "tps_source": cell.predicted.tps_source,
    }
