"""Which measured cells become rows of a throughput fit, and what a reader of the fit must know of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from estimator.throughput.s1 import TpsRow
from harness.analysis.judge import SATURATION_UNPROVEN
from harness.analysis.objections import DRIFT, LEVEL_SHIFT
from harness.analysis.steady import RAMP_NOT_OVER
from results.schema import CellResult

STILL_CHANGING = {RAMP_NOT_OVER, DRIFT, LEVEL_SHIFT}
PROVEN_CHANGE, LARGEST_CHANGE = 0.10, 1.00
"""Of the mean, across a window: where a drift is proven, and where a few requests may explain what was seen."""


def tps_rows(model: str, gpus: int, cells: Sequence[CellResult], source: str) -> tuple[TpsRow, ...]:
    """Return the fixed-length cells that tell throughput at their concurrency as rows of a fit, with their errors."""
    return tuple(
        TpsRow(
            model=model,
            gpus=gpus,
            quantization="as served",
            tps_tok_per_s=cell.tps_tok_per_s or 0.0,
            input_tok=round(cell.mean_input_tok),
            output_tok=round(cell.served_output_tok),
            source=source,
            tps_sd_log=cell.tps_standard_uncertainty_rel or None,
        )
        for cell in _fixed_lengths(cells)
        if not _why_left_out(cell)
    )


def row_notes(cells: Sequence[CellResult]) -> tuple[str, ...]:
    """Return which cells are no rows though they are not invalid, and which rows may not be of a saturated server."""
    fixed = _fixed_lengths(cells)
    left_out = [f"{cell.name} is left out: {why}" for cell in fixed if (why := _why_left_out(cell))]
    kept = [cell for cell in fixed if not _why_left_out(cell)]
    unproven_at = {cell.concurrency for cell in cells if SATURATION_UNPROVEN in cell.reasons}
    unproven = [cell for cell in kept if _unproven(cell, unproven_at)]
    if not unproven:
        return tuple(left_out)
    named = ", ".join(f"{cell.name} at {cell.concurrency} in flight" for cell in unproven)
    return (
        f"saturation is not proven for {len(unproven)} of {len(kept)} cells ({named}): a saturated server may have "
        "more throughput than this model says, and need less energy a query",
        *left_out,
    )


def _fixed_lengths(cells: Sequence[CellResult]) -> list[CellResult]:
    return [
        cell
        for cell in cells
        if cell.verdict != "invalid"
        and cell.role != "ladder"
        and cell.tps_tok_per_s
        and cell.workload.startswith("fixed:")
    ]


def _why_left_out(cell: CellResult) -> str:
    if cell.arrival != "closed":
        return f"its load is an open loop ({cell.arrival}), so its throughput is what was asked of the server"
    if not STILL_CHANGING & set(cell.reasons):
        return ""
    change = None if cell.window is None else cell.window.changes.get("throughput")
    if change is None:
        return "its throughput was not yet steady"
    if abs(change.change) <= (PROVEN_CHANGE if DRIFT in cell.reasons else LARGEST_CHANGE):
        return ""
    return f"its throughput was not yet steady: it changed by {change.change:+.0%} across the window"


def _unproven(cell: CellResult, unproven_at: set[int]) -> bool:
    """A calibration cell runs at the concurrency of a compared one, and is as saturated as that."""
    return SATURATION_UNPROVEN in cell.reasons or (cell.role == "calibration" and cell.concurrency in unproven_at)
