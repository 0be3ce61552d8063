"""Figure: energy per query against output length on logarithmic axes, with its slope."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from estimator.paired import Interval, fitted_exponent, lengths_differ
from results.report.figures.common import legend_above, log_axis, new_figure, scatter_cells
from results.report.svg import INK, MUTED
from results.report.view import Drawing, LeftOut, RunView
from results.report.words import interval, query_boundary_and_source, sig, tokens
from results.schema import CellResult

_MOST_BELOW = 10.0
"""An interval that reaches further below the smallest energy, or below 0, leaves the figure at its lower edge."""

TITLE = "Energy against output length"
SCATTER = "the interval is of their scatter about it, so curvature widens it"
BASES = {
    "between_runs": "it covers what differs between starts of the server",
    "between_pairs": "it covers the scatter of pairs on one start of the server",
    "within_windows": "it covers random errors within the windows alone",
    "unknown": "its error is unknown",
}


def exponent_figure(view: RunView) -> Drawing | LeftOut:
    """Return the figure, or why there is none."""
    cells = [cell for cell in view.cells if cell.role != "ladder" and cell.wh_per_query]
    if not lengths_differ([cell.served_output_tok for cell in cells if cell.verdict != "invalid"]):
        return LeftOut(TITLE, "it takes energies of two output lengths that are not invalid")
    slope, source = _slope(view, cells)
    bounds = None if slope.low is None or slope.high is None else (slope.low, slope.high)
    known = f"d ln E / d ln L = {sig(slope.value)}" + (
        f" (95% {interval(bounds)})" if bounds else " (interval unknown)"
    )
    return Drawing(
        key="exponent",
        title=TITLE,
        finding=f"{known}, from {source}. At exactly 1 a token costs the same at every length.",
        caption=(
            f"Points: measured mean Wh per query with 95% intervals (all errors). Line: the slope {known}, from "
            f"{source}. Grey: slope 1 through the first point, where a token costs the same at every length. "
            f"{view_note(view)}"
        ).rstrip(),
        draw=lambda narrow: _draw(view, cells, slope, narrow),
    )


def view_note(view: RunView) -> str:
    """Return what a reader must know of the joules, or nothing."""
    return "The joules are simulated." if view.simulated else ""


def _slope(view: RunView, cells: list[CellResult]) -> tuple[Interval, str]:
    """Return the exponent of the compared pairs where there is one, else of a line through all usable cells."""
    ratio = view.result.energy_ratio
    if ratio is not None and ratio.exponent is not None:
        low, high = ratio.exponent_ci95 or (None, None)
        found = Interval(ratio.exponent, low, high, ratio.pairs, ratio.interval_basis)
        lengths = f"{ratio.multiplier:g}x" + (" (lengths as served)" if _as_served(view.compared) else "")
        return found, f"{ratio.pairs} pair(s) of 1x and {lengths}; {BASES[ratio.interval_basis]}"
    usable = _usable(cells)
    fit = fitted_exponent([cell.served_output_tok for cell in usable], [_wh(cell) for cell in usable])
    return fit, f"a line through {fit.n} cells of {_inputs(usable)} input tokens; {SCATTER}"


def _as_served(cells: Sequence[CellResult]) -> bool:
    return any(cell.served_output_tok != cell.mean_output_tok for cell in cells)


def _usable(cells: list[CellResult]) -> list[CellResult]:
    """Return cells that are not invalid, of the input length that most of them have."""
    usable = [cell for cell in cells if cell.verdict != "invalid"]
    inputs = [cell.mean_input_tok for cell in usable]
    common = max(
        dict.fromkeys(inputs), key=lambda tok: len({c.served_output_tok for c in usable if c.mean_input_tok == tok})
    )
    same = [cell for cell in usable if cell.mean_input_tok == common]
    return same if lengths_differ([cell.served_output_tok for cell in same]) else usable


def _inputs(cells: list[CellResult]) -> str:
    return " and ".join(tokens(tok) for tok in sorted({cell.mean_input_tok for cell in cells}))


def _wh(cell: CellResult) -> float:
    return cell.wh_per_query.mean if cell.wh_per_query else math.nan


def _draw(view: RunView, cells: list[CellResult], slope: Interval, narrow: bool) -> Figure:
    figure = new_figure(narrow, 3.4 if narrow else 3.2)
    axis = figure.subplots()
    ratio = view.result.energy_ratio
    on_line = [cell for cell in view.compared if cell.wh_per_query] if ratio and ratio.exponent else _usable(cells)
    x = np.log([cell.served_output_tok for cell in on_line])
    y = np.log([_wh(cell) for cell in on_line])
    ends = np.log(
        [min(cell.served_output_tok for cell in cells) / 1.3, max(cell.served_output_tok for cell in cells) * 1.3]
    )
    first = int(np.argmin(x))
    axis.plot(
        np.exp(ends), np.exp(y[first] + ends - x[first]), color=MUTED, linewidth=1, linestyle=":", label="slope 1"
    )
    axis.plot(np.exp(ends), np.exp(y.mean() + slope.value * (ends - x.mean())), color=INK, linewidth=1.2,
              label=f"slope {sig(slope.value)}")  # fmt: skip
    scatter_cells(axis, cells, [(_wh(cell), cell.wh_per_query.ci95 if cell.wh_per_query else None) for cell in cells])
    log_axis(axis, "x", np.exp(ends).tolist())
    reach = [_wh(cell) for cell in cells]
    reach += [bound for cell in cells if cell.wh_per_query for bound in cell.wh_per_query.ci95 or () if bound > 0]
    reach = [value for value in reach if value > min(_wh(cell) for cell in cells) / _MOST_BELOW]
    log_axis(axis, "y", reach)
    axis.set_ylim(min(reach) / 1.4, max(reach) * 1.4)
    axis.set_xlabel(f"mean output length{' as served' if _as_served(cells) else ''} (tokens), logarithmic")
    axis.set_ylabel(f"Wh per query\n({query_boundary_and_source(cells[0])})")
    legend_above(figure, axis, narrow, columns=2)
    return figure
