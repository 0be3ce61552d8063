"""The energy of the multiplied cell over the plain one: over the pairs of a run and over repeated runs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from estimator.paired import (
    Z_95,
    Interval,
    common_ratio_rel_u,
    energy_exponent,
    lengths_differ,
    metered_ratio_rel_u,
    paired_ratio,
)
from estimator.uncertainty import combine_relative
from harness.analysis.boundaries import NodeShare
from harness.analysis.measured import PowerModel
from results.schema import Boundary, CellResult, EnergyRatio, Verdict

Pair = tuple[CellResult, CellResult]
"""A plain cell and the multiplied one that was measured next to it."""

EDGES = ("clock_edges", "token_count")
"""Parts of the uncertainty that every cell has by itself, beside the random one."""


def pairs_of(cells: Sequence[CellResult]) -> list[Pair]:
    """Return the pairs of a run in order: in A B and in A B B A, the n-th plain with the n-th multiplied cell."""
    plain = [cell for cell in cells if cell.role == "compared" and cell.multiplier == 1]
    multiplied = [cell for cell in cells if cell.role == "compared" and cell.multiplier != 1]
    return list(zip(plain, multiplied, strict=False))


def energy_ratio(runs: Sequence[Sequence[CellResult]], model: PowerModel) -> EnergyRatio | None:
    """Return the paired ratio of one run or of repeated ones, with its interval and the energy exponent.

    Errors common to both cells cancel as far as they are common; each cell's own remain. ``None`` without a pair.
    """
    pairs = [pairs_of(cells) for cells in runs]
    flat = [pair for run in pairs for pair in run]
    if not flat:
        return None
    verdicts = {cell.verdict for pair in flat for cell in pair}
    worst: Verdict = "invalid" if "invalid" in verdicts else "suspect" if "suspect" in verdicts else "valid"
    plain, multiplied = flat[0]
    eq1 = None
    if plain.predicted_wh_per_query and multiplied.predicted_wh_per_query:
        eq1 = multiplied.predicted_wh_per_query.mean / plain.predicted_wh_per_query.mean
    ratio = exponent = None
    if worst != "invalid" and all(cell.wh_per_query for pair in flat for cell in pair):
        energies = [[_energies(pair) for pair in run] for run in pairs]
        common = common_rel_u(flat[0], model.boundary, model.node, model.gain_rel_u)
        ratio = paired_ratio(energies, _pairs_rel_u(flat), common)
        lengths_tok = (plain.served_output_tok, multiplied.served_output_tok)
        if lengths_differ(lengths_tok):
            exponent = energy_exponent(ratio, lengths_tok[1] / lengths_tok[0])
    return EnergyRatio(
        multiplier=multiplied.multiplier,
        measured=ratio.value if ratio else None,
        verdict=worst,
        measured_ci95=bounds(ratio),
        pairs=len(flat),
        interval_basis=ratio.basis if ratio else "unknown",
        exponent=exponent.value if exponent else None,
        exponent_ci95=bounds(exponent),
        eq1=eq1,
    )


def bounds(interval: Interval | None) -> tuple[float, float] | None:
    """Return the bounds of an interval, or ``None`` where it has none."""
    if interval is None or interval.low is None or interval.high is None:
        return None
    return interval.low, interval.high


def _pairs_rel_u(pairs: Sequence[Pair]) -> float | None:
    """Return the error of a pair's ratio that comes from its own windows: the root of the mean square over pairs."""
    errors = [combined_window_rel_u(pair) for pair in pairs]
    known = [error for error in errors if error is not None]
    return combine_relative(*known) / sqrt(len(known)) if len(known) == len(errors) else None


def combined_window_rel_u(cells: Sequence[CellResult]) -> float | None:
    """Return the relative error of a ratio of two cells' J/token that comes from each cell by itself.

    It is random error, and clock and tokens at the window's edges. A window of few batches has an interval wider than
    1.96 standard errors; so must a ratio of it: the random error is the normal one of the same 95% interval. ``None``
    where a cell has no interval.
    """
    errors: list[float] = []
    for cell in cells:
        if cell.joules_per_tok is None or cell.joules_per_tok_ci95 is None or cell.wh_per_query is None:
            return None
        low, high = cell.joules_per_tok_ci95
        edges = [cell.wh_per_query.uncertainty_parts_rel.get(name) for name in EDGES]
        errors += [(high - low) / 2 / cell.joules_per_tok / Z_95, *(part for part in edges if part is not None)]
    return combine_relative(*errors)


def _energies(pair: Pair) -> tuple[float, float]:
    plain, multiplied = (cell.wh_per_query.mean if cell.wh_per_query else 0.0 for cell in pair)
    return plain, multiplied


def common_rel_u(cells: Pair, boundary: Boundary, node: NodeShare, gain_rel_u: float | None) -> float | None:
    """Return what errors common to two cells leave in the ratio of their energies at a boundary.

    ``gain_rel_u`` is that of the sensors behind the watts. Nothing is left where their gain is all there is; ``None``
    is unknown.
    """
    if boundary == "gpu":
        return 0.0
    first_w, second_w = (cell.watts if boundary == "node" else cell.gpu_watts for cell in cells)
    if not first_w or not second_w:
        return None
    left = metered_ratio_rel_u if boundary == "node" else common_ratio_rel_u
    return left((first_w, second_w), gain_rel_u, node.profile, node.share, node.allocation)
