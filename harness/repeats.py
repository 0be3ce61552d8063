"""Repeat a whole stress run on servers started anew, and say how far the repeats lie apart.

Every repeat is a run folder of its own, complete by itself. The first one searches, calibrates and predicts; the
others measure at the same concurrency against the same prediction. Every second repeat takes the cells in reverse.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from estimator.paired import Repeated, repeated
from estimator.uncertainty import combine_relative
from harness.analysis.pairs import energy_ratio
from harness.analysis.run import analyse_run, open_run, power_model
from harness.analysis.saturation import SearchResult
from harness.errors import ConfigError, StoreError
from harness.job import Say, Watch, unwatched
from harness.live.state import LiveState
from harness.load.arrival import parse_arrival
from harness.manifest import create_group_folder
from harness.plan import Plan
from harness.stress import Settled, folder_name, run_stress
from results.schema import CellResult, RunResult, StoredPrediction
from results.store import RunWriter, write_whole

REPEATS_SCHEMA = "inference-energy/repeats/1"
REPEATS_FILE = "repeats.json"


async def run_repeats(plan: Plan, say: Say, watch: Watch = unwatched) -> dict[str, Any]:
    """Run the job ``plan.config.repeats`` times and return the document of all; it is stored after each repeat."""
    if plan.config.url:
        raise ConfigError(
            "repeats and url exclude each other",
            why="a repeat restarts the servers, and with url they are not ours to restart",
            fix="drop one side",
        )
    group = create_group_folder(plan.config.out, f"{folder_name(plan)}-x{plan.config.repeats}")
    settled: Settled | None = None
    folders: list[Path] = []
    for number in range(1, plan.config.repeats + 1):
        say(f"repeat {number} of {plan.config.repeats}")
        planned = replace(plan, config=plan.config.model_copy(update={"seed": plan.config.seed + number - 1}))
        run = RunWriter(group / f"{group.name}-repeat-{number}")
        watching = partial(_watch_repeat, watch, (number, plan.config.repeats))
        result = await run_stress(planned, say, run, settled, backwards=number % 2 == 0, watch=watching)
        folders.append(run.folder)
        document = repeats_document(folders, plan.config.repeats)
        write_whole(group / REPEATS_FILE, json.dumps(document, indent=2, allow_nan=False) + "\n")
        if result.run.status != "complete":
            break
        settled = settled or _settled_by(run.folder, plan)
    return document


def _watch_repeat(watch: Watch, repeat: tuple[int, int], live: LiveState) -> None:
    live.repeat = repeat
    watch(live)


def read_repeats(folder: Path) -> dict[str, Any]:
    """Return the document of stored repeats, made again from their run folders."""
    folders, asked = _stored(folder)
    return repeats_document(folders, asked)


def run_folders(folder: Path) -> list[Path]:
    """Return the run folders of stored repeats, in order."""
    return _stored(folder)[0]


def _stored(folder: Path) -> tuple[list[Path], int]:
    try:
        stored = json.loads((folder / REPEATS_FILE).read_text(encoding="utf-8"))
        return [folder / str(run["folder"]) for run in stored["runs"]], int(stored["repeats_asked"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"cannot read {folder / REPEATS_FILE}", why=str(error)) from error


def repeats_document(folders: Sequence[Path], asked: int) -> dict[str, Any]:
    """Return mean and spread of every cell over repeated runs, the paired ratio and the energy exponent."""
    results = [analyse_run(folder) for folder in folders]
    ratio = energy_ratio([result.cells for result in results], power_model(open_run(folders[0])[1]))
    names = list(dict.fromkeys(cell.name for result in results for cell in result.cells))
    return {
        "schema": REPEATS_SCHEMA,
        "repeats_asked": asked,
        "runs": [_run_line(folder, result) for folder, result in zip(folders, results, strict=True)],
        "labels": list(dict.fromkeys(label for result in results for label in result.run.labels)),
        "cells": [_cell_over_runs(name, results) for name in names],
        "energy_ratio": None if ratio is None else ratio.model_dump(mode="json"),
    }


def _run_line(folder: Path, result: RunResult) -> dict[str, Any]:
    return {
        "folder": folder.name,
        "id": result.run.id,
        "status": result.run.status,
        "verdicts": {cell.name: cell.verdict for cell in result.cells},
    }


def _cell_over_runs(name: str, results: Sequence[RunResult]) -> dict[str, Any]:
    cells = [cell for result in results for cell in result.cells if cell.name == name and cell.verdict != "invalid"]
    energies = [cell for cell in cells if cell.wh_per_query]
    energy = repeated(
        [cell.wh_per_query.mean for cell in energies if cell.wh_per_query], [_random(cell) or 0.0 for cell in energies]
    )
    tps = [cell.tps_tok_per_s for cell in cells if cell.tps_tok_per_s]
    return {
        "cell": name,
        "n": len(cells),
        "n_invalid": sum(cell.name == name for result in results for cell in result.cells) - len(cells),
        "tps_tok_per_s": _spread(repeated(tps, [0.0] * len(tps)), within_known=False),
        "wh_per_query": _spread(energy, within_known=all(_random(cell) is not None for cell in energies)),
        "boundary": energies[0].wh_per_query.boundary if energies and energies[0].wh_per_query else None,
        "standard_uncertainty_of_one_run_rel": _combined(energies, energy.u_run_rel if energy else None),
        "standard_uncertainty_of_the_mean_rel": _combined(energies, energy.u_mean_rel if energy else None),
        "power_source": cells[0].power_source if cells else None,
    }


def _spread(spread: Repeated | None, *, within_known: bool) -> dict[str, Any] | None:
    """Return a spread as JSON; without the runs' own errors the part between them cannot be told apart."""
    if spread is None:
        return None
    return {**asdict(spread), "u_between_rel": spread.u_between_rel if within_known else None}


def _random(cell: CellResult) -> float | None:
    return cell.wh_per_query.uncertainty_parts_rel.get("random") if cell.wh_per_query else None


def _combined(cells: Sequence[CellResult], u_runs_rel: float | None) -> float | None:
    """Combine the spread over runs with the systematic errors, which no repeat makes smaller."""
    if u_runs_rel is None or not cells or cells[0].wh_per_query is None:
        return None
    parts = cells[0].wh_per_query.uncertainty_parts_rel
    systematic = [value for name, value in parts.items() if name != "random" and value is not None]
    return combine_relative(u_runs_rel, *systematic)


def _settled_by(folder: Path, plan: Plan) -> Settled:
    """Read what the first repeat settled from its folder."""
    reader, _ = open_run(folder)
    starts = [event["definition"] for event in reader.events() if event["event"] == "cell_start"]
    found = {
        definition["name"]: (_found(definition), parse_arrival(definition["arrival"]))
        for definition in starts
        if definition["name"] in dict(plan.cells)
    }
    return Settled(found, StoredPrediction.model_validate(reader.json("prediction.json")))


def _found(definition: dict[str, Any]) -> SearchResult:
    return SearchResult(
        definition["concurrency"],
        definition["plateau_tps_tok_per_s"],
        f"{definition['binding']} (searched in repeat 1)",
        (),
        definition["binds"],
        definition["doubling_gain_rel"],
        definition.get("plateau_shown"),
    )
