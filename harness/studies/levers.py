"""What one server setting gains: two runs, or two groups of repeated runs, that differ in that setting alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from estimator.levers import ANY, Lever, find_lever, lever_of
from estimator.paired import Z_95, Interval, common_ratio_rel_u, independent_ratio
from estimator.uncertainty import batch_means_ratio, combine_relative
from harness.analysis.boundaries import NodeShare
from harness.analysis.celllog import CellLog, read_cells, sum_over_servers
from harness.analysis.differences import Difference, differences
from harness.analysis.pairs import bounds, combined_window_rel_u
from harness.analysis.run import analyse_run, open_run, power_model
from harness.errors import ConfigError
from harness.repeats import REPEATS_FILE, run_folders
from harness.studies.described import described
from results.schema import CellResult, Manifest

LEVER_SCHEMA = "inference-energy/lever/1"
ALPHA_NOTE = (
    "alpha is B over A for throughput and A over B for energy, so more than 1 is a gain in both; the paper's one alpha "
    "stands for both because it holds the node's power constant"
)
SINGLE_RUN_NOTE = (
    "one run on a side: the interval is of random errors within windows and knows nothing of what a restart changes; "
    "measure with --repeats"
)
MAX_BATCHES = 10


@dataclass(frozen=True)
class Side:
    """One side of the comparison: its runs, which share everything but their start."""

    folder: Path
    manifest: Manifest
    runs: tuple[tuple[CellResult, ...], ...]
    tps_rel_u: dict[str, float | None]
    """Relative error of TPS by cell name, of the first run."""
    labels: tuple[str, ...]

    @property
    def node(self) -> NodeShare:
        """Return how the runs charge the node to their GPUs."""
        return power_model(self.manifest).node


@dataclass(frozen=True)
class Lift:
    """The boundary both sides are set at, and the node through which GPU joules get there."""

    boundary: str
    node: NodeShare
    gain_rel_u: float | None
    note: str = ""

    def joules_per_tok(self, cell: CellResult) -> float | None:
        """Return a cell's J/token at the common boundary."""
        if cell.boundary == self.boundary or cell.joules_per_tok is None:
            return cell.joules_per_tok
        lifted_w = None if cell.gpu_watts is None else self.node.modelled_w(cell.gpu_watts)
        return lifted_w / cell.tps_tok_per_s if lifted_w and cell.tps_tok_per_s else None

    def common_rel_u(self, watts: Sequence[float | None]) -> float | None:
        """Return what gain and node model leave in a ratio of two energies, or ``None`` where that is unknown."""
        first, second = (value or 0.0 for value in watts)
        if self.boundary != "node_modelled" or self.node.profile is None:
            return 0.0
        if self.gain_rel_u is None:
            return None
        node = self.node
        return common_ratio_rel_u((first, second), self.gain_rel_u, node.profile, node.share, node.allocation)


def lever_document(first: Path, second: Path, name: str) -> dict[str, Any]:
    """Return the measured alpha of a lever with its interval beside the paper's range.

    Raises ``ConfigError`` where the runs differ in anything but the lever, or not in it, or cannot be brought to one
    boundary.
    """
    a, b = _side(first), _side(second)
    lever, settings = _pulled(name, a, b)
    lift = common_boundary(a, b)
    cells = [_cell(key, a, b, lift, lever) for key in _shared_cells(a, b)]
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
    results = [analyse_run(each) for each in folders]
    reader, manifest = open_run(folders[0])
    errors = {log.definition.name: _tps_rel_u(log, results[0].cells) for log in read_cells(reader)}
    labels = tuple(label for result in results for label in result.run.labels)
    return Side(folder, manifest, tuple(result.cells for result in results), errors, labels)


def _tps_rel_u(cell_log: CellLog, cells: Sequence[CellResult]) -> float | None:
    """Return the relative error of a cell's TPS as the normal one of its 95% interval, from batches of its window."""
    cell = next((each for each in cells if each.name == cell_log.definition.name), None)
    if cell is None or cell.window is None:
        return None
    t_s, tokens = sum_over_servers(cell_log.server, "generation_tok")
    inside = (t_s >= cell.window.start_mono_s) & (t_s <= cell.window.end_mono_s)
    seconds, new_tok = np.diff(t_s[inside]), np.diff(tokens[inside])
    if seconds.size < 4 or new_tok.sum() <= 0:
        return None
    rate = batch_means_ratio(new_tok, seconds, min(MAX_BATCHES, seconds.size // 2))
    return rate.half_width_95 / Z_95 / rate.ratio


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

    Raises ``ConfigError`` where one side is metered and the other is not, or the node profiles differ.
    """
    here, there, gain = a.manifest.boundary, b.manifest.boundary, a.manifest.power.gain_rel_u
    nodes = [side.node for side in (a, b) if side.node.profile is not None]
    if len(nodes) == 2 and nodes[0] != nodes[1]:
        raise ConfigError(
            "the runs have different node profiles, shares of the node or allocations",
            why="part of a difference in joules would be that of the profiles",
            fix="measure both with one --node-profile",
        )
    if here == there:
        return Lift(here, a.node, gain)
    if {here, there} != {"gpu", "node_modelled"} or not nodes:
        raise ConfigError(
            f"the boundaries differ: {here} and {there}",
            why="joules of different hardware cannot be set beside each other",
            fix="measure both at one --boundary",
        )
    profile = nodes[0].profile
    note = f"joules of the GPUs alone are lifted through the node profile {profile.name if profile else 'unknown'}"
    return Lift("node_modelled", nodes[0], gain, note)


Key = tuple[str, float, str]


def _key(cell: CellResult) -> Key:
    return cell.workload, cell.multiplier, cell.role if cell.role != "ladder" else f"ladder at {cell.concurrency}"


def _shared_cells(a: Side, b: Side) -> list[Key]:
    there = {_key(cell) for run in b.runs for cell in run}
    return list(dict.fromkeys(_key(cell) for run in a.runs for cell in run if _key(cell) in there))


def _cell(key: Key, a: Side, b: Side, lift: Lift, lever: Lever) -> dict[str, Any]:
    before, after = ([[cell for cell in run if _key(cell) == key] for run in side.runs] for side in (a, b))
    all_cells = [cell for run in (*before, *after) for cell in run]
    invalid = sorted({cell.name for cell in all_cells if cell.verdict == "invalid"})
    tps = energy = None
    if not invalid:
        tps = _ratio(_tps_by_run(before), _tps_by_run(after), _tps_random(a, b, before, after), 0.0)
        energy = _energy_alpha(before, after, lift)
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
    cells = [runs[0][0] for runs in (before, after) if runs and runs[0]]
    common = lift.common_rel_u([cell.gpu_watts for cell in cells]) if len(cells) == 2 else None
    alpha = _ratio(sides[0], sides[1], combined_window_rel_u(cells) if len(cells) == 2 else None, common or 0.0)
    if alpha is None or common is not None:
        return alpha
    return replace(alpha, low=None, high=None, basis="unknown")  # a gain of unknown error bounds nothing


def _tps_random(
    a: Side, b: Side, before: Sequence[Sequence[CellResult]], after: Sequence[Sequence[CellResult]]
) -> float | None:
    errors = [side.tps_rel_u.get(runs[0][0].name) for side, runs in ((a, before), (b, after)) if runs and runs[0]]
    known = [value for value in errors if value is not None]
    return combine_relative(*known) if len(known) == 2 else None


def _means(values: Sequence[Sequence[float | None]]) -> list[float]:
    """Return the geometric mean of each run's visits to a cell; runs that lack a value are left out."""
    return [exp(fmean(log(value) for value in run if value)) for run in values if run and all(run)]


def _ratio(before: list[float], after: list[float], random_rel_u: float | None, common: float) -> Interval | None:
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
