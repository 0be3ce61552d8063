"""What one server setting gains: two runs, or two groups of repeated runs, that differ in that setting alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from statistics import fmean
from typing import Any

from estimator.levers import ANY, Lever, find_lever, lever_of
from estimator.paired import Z_95, Interval, independent_ratio
from estimator.uncertainty import combine_relative
from harness.analysis.boundaries import NodeShare
from harness.analysis.differences import Difference, differences
from harness.analysis.measured import PowerModel
from harness.analysis.pairs import bounds, combined_window_rel_u, common_rel_u
from harness.analysis.run import analyse_run, open_run, power_model
from harness.errors import ConfigError
from harness.repeats import REPEATS_FILE, run_folders
from harness.studies.described import described
from results.schema import Boundary, CellResult, Manifest, RunResult

LEVER_SCHEMA = "inference-energy/lever/1"
ALPHA_NOTE = (
    "alpha is B over A for throughput and A over B for energy, so more than 1 is a gain in both; the paper's one alpha "
    "stands for both because it holds the node's power constant"
)
SINGLE_RUN_NOTE = (
    "one run on a side: the interval is of errors within windows and knows nothing of what a restart changes, nor of "
    "drift between the runs, which nothing interleaves; measure with --repeats"
)


@dataclass(frozen=True)
class Side:
    """One side of the comparison: its runs, which share everything but their start."""

    folder: Path
    manifest: Manifest
    runs: tuple[tuple[CellResult, ...], ...]
    labels: tuple[str, ...]

    @property
    def model(self) -> PowerModel:
        """Return how the runs' power readings become joules."""
        return power_model(self.manifest)


@dataclass(frozen=True)
class Lift:
    """The boundary both sides are set at, and the node through which GPU joules get there."""

    boundary: Boundary
    node: NodeShare
    gain_rel_u: float | None
    note: str = ""

    def joules_per_tok(self, cell: CellResult) -> float | None:
        """Return a cell's J/token at the common boundary."""
        if cell.boundary == self.boundary or cell.joules_per_tok is None:
            return cell.joules_per_tok
        lifted_w = None if cell.gpu_watts is None else self.node.modelled_w(cell.gpu_watts)
        return lifted_w / cell.tps_tok_per_s if lifted_w and cell.tps_tok_per_s else None

    def common_rel_u(self, cells: tuple[CellResult, CellResult]) -> float | None:
        """Return what gain and node model leave in a ratio of two energies, or ``None`` where that is unknown."""
        return common_rel_u(cells, self.boundary, self.node, self.gain_rel_u)


def lever_document(first: Path, second: Path, name: str) -> dict[str, Any]:
    """Return the measured alpha of a lever with its interval beside the paper's range.

    Raises ``ConfigError`` where the runs differ in anything but the lever, or not in it, or cannot be brought to one
    boundary.
    """
    a, b = _side(first), _side(second)
    lever, settings = _pulled(name, a, b)
    lift = common_boundary(a, b)
    cells = [_cell(key, a, b, lift, lever) for key in shared_cells(a, b)]
    notes = [ALPHA_NOTE, *filter(None, (lever.note, lift.note))]
    if min(len(a.runs), len(b.runs)) < 2:
        notes.append(SINGLE_RUN_NOTE)
    return {
        "schema": LEVER_SCHEMA,
        "lever": lever.name,
        "settings": [vars(setting) for setting in settings],
        "a": {"folder": str(a.folder), "runs": len(a.runs)},
        "b": {"folder": str(b.folder), "runs": len(b.runs)},
        "boundary": lift.boundary,
        "power_source": a.manifest.power.name,
        "labels": list(dict.fromkeys((*a.labels, *b.labels))),
        "paper": None if lever.paper is None else vars(lever.paper),
        "cells": cells,
        "notes": notes,
    }


def _side(folder: Path) -> Side:
    folders = run_folders(folder) if (folder / REPEATS_FILE).is_file() else [folder]
    return side_of(folder, folders, [analyse_run(each) for each in folders])


def side_of(folder: Path, folders: Sequence[Path], results: Sequence[RunResult]) -> Side:
    """Return one side of a comparison from its analysed runs, which share everything but their start."""
    _, manifest = open_run(folders[0])
    labels = tuple(label for result in results for label in result.run.labels)
    return Side(folder, manifest, tuple(result.cells for result in results), labels)


def _pulled(name: str, a: Side, b: Side) -> tuple[Lever, tuple[Difference, ...]]:
    """Return the lever and the settings in which the runs differ, which must be its own and no others."""
    if not all(server.argv for side in (a, b) for server in side.manifest.servers):
        raise ConfigError(
            "a lever cannot be measured on servers that already ran",
            why="with --url their settings are unknown, so nothing shows what differs",
            fix="let the harness launch them, with --server-arg for the setting",
        )
    found = differences(described(a.manifest), described(b.manifest))
    try:
        lever = lever_of(found[0].key) if name == ANY and found else find_lever(name) if name != ANY else None
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if lever is None or not any(lever.allows(difference.key) for difference in found):
        raise ConfigError(
            f"the runs do not differ in {'anything' if lever is None else lever.name}",
            why=f"in all, they differ in: {'; '.join(map(str, found)) or 'nothing'}",
            fix="give two runs between which the one setting was changed",
        )
    others = [difference for difference in found if not lever.allows(difference.key)]
    if others:
        raise ConfigError(
            f"the runs differ in more than {lever.name}: {'; '.join(map(str, others))}",
            why="a gain would be that of all the differences together",
            fix="measure again with everything else the same",
        )
    return lever, found


def common_boundary(a: Side, b: Side) -> Lift:
    """Return the boundary for both: their own, or the modelled node where one side has joules of its GPUs alone.

    Raises ``ConfigError`` where one side is metered and the other is not, or meters or node profiles differ.
    """
    here, there = a.manifest.boundary, b.manifest.boundary
    nodes = [side.model.node for side in (a, b) if side.model.profile is not None]
    if len(nodes) == 2 and nodes[0] != nodes[1]:
        raise ConfigError(
            "the runs have different node profiles, shares of the node or allocations",
            why="part of a difference in joules would be that of the profiles",
            fix="measure both with one --node-profile",
        )
    if here == there == "node" and _metered_by(a) != _metered_by(b):
        raise ConfigError(
            "the runs were metered differently",
            why="part of a difference in joules would be that of the meters",
            fix="measure both with one --node-meter",
        )
    if here == there:
        return Lift(here, a.model.node, a.model.gain_rel_u)
    if {here, there} != {"gpu", "node_modelled"} or not nodes:
        raise ConfigError(
            f"the boundaries differ: {here} and {there}",
            why="joules of different hardware cannot be set beside each other",
            fix="measure both at one --boundary",
        )
    modelled = a.model if here == "node_modelled" else b.model
    name = "unknown" if modelled.profile is None else modelled.profile.name
    note = f"joules of the GPUs alone are lifted through the node profile {name}"
    return Lift("node_modelled", modelled.node, modelled.gain_rel_u, note)


def _metered_by(side: Side) -> tuple[str, tuple[str, ...]] | None:
    meter = side.model.meter
    return None if meter is None else (meter.name, meter.device_uuids)


Key = tuple[str, float, str]


def _key(cell: CellResult) -> Key:
    return cell.workload, cell.multiplier, cell.role if cell.role != "ladder" else f"ladder at {cell.concurrency}"


def shared_cells(a: Side, b: Side) -> list[Key]:
    """Return workload, multiplier and role of the cells that both sides have."""
    there = {_key(cell) for run in b.runs for cell in run}
    return list(dict.fromkeys(_key(cell) for run in a.runs for cell in run if _key(cell) in there))


def alphas(key: Key, a: Side, b: Side, lift: Lift) -> tuple[Interval | None, Interval | None, list[str]]:
    """Return the gains in TPS (B over A) and in J/token (A over B) of one kind of cell, and which cells are invalid."""
    before, after = _cells_of(key, a), _cells_of(key, b)
    all_cells = [cell for run in (*before, *after) for cell in run]
    invalid = sorted({cell.name for cell in all_cells if cell.verdict == "invalid"})
    if invalid:
        return None, None, invalid
    tps = _ratio(_tps_by_run(before), _tps_by_run(after), _tps_rel_u(before, after), 0.0)
    return tps, _energy_alpha(before, after, lift), []


def _cells_of(key: Key, side: Side) -> list[list[CellResult]]:
    return [[cell for cell in run if _key(cell) == key] for run in side.runs]


def _cell(key: Key, a: Side, b: Side, lift: Lift, lever: Lever) -> dict[str, Any]:
    before, after = _cells_of(key, a), _cells_of(key, b)
    tps, energy, invalid = alphas(key, a, b, lift)
    workload, multiplier, role = key
    return {
        "workload": workload if multiplier == 1 else f"{workload} {multiplier:g}x",
        "role": role,
        "alpha_tps": _alpha_json(tps, lever),
        "alpha_energy": _alpha_json(energy, lever),
        "concurrency": [sorted({cell.concurrency for run in runs for cell in run}) for runs in (before, after)],
        "verdicts": [[cell.verdict for run in runs for cell in run] for runs in (before, after)],
        "why_missing": f"invalid: {', '.join(invalid)}" if invalid else None,
    }


def _tps_by_run(runs: Sequence[Sequence[CellResult]]) -> list[float]:
    return _means([[cell.tps_tok_per_s for cell in run] for run in runs])


def _energy_alpha(
    before: Sequence[Sequence[CellResult]], after: Sequence[Sequence[CellResult]], lift: Lift
) -> Interval | None:
    sides = [_means([[lift.joules_per_tok(cell) for cell in run] for run in runs]) for runs in (after, before)]
    cells = _first_cells(before, after)
    if cells is None:
        return _ratio(sides[0], sides[1], None, None)
    return _ratio(sides[0], sides[1], combined_window_rel_u(cells), lift.common_rel_u(cells))


def _tps_rel_u(before: Sequence[Sequence[CellResult]], after: Sequence[Sequence[CellResult]]) -> float | None:
    """Return the relative error of a ratio of two cells' TPS, as the normal one of the same 95% intervals."""
    errors = [
        (cell.tps_ci95[1] - cell.tps_ci95[0]) / 2 / cell.tps_tok_per_s / Z_95
        for cell in _first_cells(before, after) or ()
        if cell.tps_ci95 and cell.tps_tok_per_s
    ]
    return combine_relative(*errors) if len(errors) == 2 else None


def _first_cells(
    before: Sequence[Sequence[CellResult]], after: Sequence[Sequence[CellResult]]
) -> tuple[CellResult, CellResult] | None:
    """Return the cell of the first run on either side, or ``None`` where a side's has none."""
    if not before or not before[0] or not after or not after[0]:
        return None
    return before[0][0], after[0][0]


def _means(values: Sequence[Sequence[float | None]]) -> list[float]:
    """Return the geometric mean of each run's visits to a cell; runs that lack a value are left out."""
    return [exp(fmean(log(value) for value in run if value)) for run in values if run and all(run)]


def _ratio(
    before: list[float], after: list[float], random_rel_u: float | None, common: float | None
) -> Interval | None:
    return independent_ratio(before, after, random_rel_u, common) if before and after else None


def _alpha_json(alpha: Interval | None, lever: Lever) -> dict[str, Any] | None:
    if alpha is None:
        return None
    return {
        "value": alpha.value,
        "ci95": bounds(alpha),
        "interval_basis": alpha.basis,
        "runs": alpha.n,
        "against_paper": None if lever.paper is None else lever.paper.position(alpha.value),
    }
