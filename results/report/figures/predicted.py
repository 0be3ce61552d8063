"""Figure: the predicted distribution of the mean energy per query, with the measurement on it."""

from __future__ import annotations

from math import log

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import stdtrit

from estimator.distributions import LogNormal
from results.report.figures.common import legend_above, log_axis, new_figure
from results.report.svg import AMBER, BLUE, INK, MUTED
from results.report.view import Drawing, LeftOut, RunView
from results.report.words import query_boundary, query_boundary_and_source, sig
from results.schema import CellResult, StoredPrediction

FloatArray = npt.NDArray[np.float64]
TITLE = "Measured beside the predicted mean"
_STEPS = 200


def predicted_figure(view: RunView) -> Drawing | LeftOut:
    """Return the figure, or why there is none."""
    cells = [cell for cell in view.compared if cell.predicted_wh_per_query and cell.wh_per_query]
    if not cells or view.prediction is None:
        return LeftOut(TITLE, _why_none(view))
    return Drawing(
        key="predicted",
        title=TITLE,
        finding=". ".join(_finding(cell) for cell in cells) + f". Boundary: {query_boundary(cells[0])}.",
        caption=(
            "Hill and bar: predicted distribution of the mean over the workload's lengths (Eq. 1; uncertain in node "
            "power, PUE and throughput), with its mean and P5 to P95. Point: the measured mean with its 95% interval "
            "(all errors, PUE taken as exact). Thin line: predicted P5 to P95 of single queries, for context only: it "
            "is no interval of the mean."
        ),
        draw=lambda narrow: _draw(view, cells, narrow),
    )


def _why_none(view: RunView) -> str:
    if not view.compared:
        return "a sweep compares no cell with a prediction" if view.sweep else "the run has no compared cell"
    if not any(cell.wh_per_query for cell in view.compared):
        return "no compared cell has a measured energy per query"
    return view.result.run.prediction


def _finding(cell: CellResult) -> str:
    predicted, measured = cell.predicted_wh_per_query, cell.wh_per_query
    if predicted is None or measured is None:
        return f"{cell.name}: no comparison"
    inside = predicted.p5 <= measured.mean <= predicted.p95
    return (
        f"{cell.name}: {_how(cell)} {sig(measured.mean)} Wh per query lies {'inside' if inside else 'outside'} the "
        f"predicted P5 to P95 of the mean, {sig(predicted.p5)} to {sig(predicted.p95)} Wh"
    )


def _how(cell: CellResult) -> str:
    return "SIMULATED" if "simulated" in cell.power_source else "measured"


def mean_density(stored: StoredPrediction, cell: str, ln_wh: FloatArray) -> FloatArray | None:
    """Return the density of ln(mean Wh) as predicted, at the given logarithms, or None where its inputs are not stored.

    Node power and PUE are log-normal; the error of throughput is Student's t in its logarithm (``predict_mean``).
    """
    inputs = stored.cells.get(cell, {})
    if not {"node_power_kw", "pue", "reference", "tps_sd_log"} <= inputs.keys():
        return None
    reference = inputs["reference"]
    power, pue = (LogNormal(inputs[name]["p5"], inputs[name]["p95"]) for name in ("node_power_kw", "pue"))
    power = power.plus(inputs.get("constant_power_kw", 0.0))
    centre = log(power.median * pue.median * reference["output_tok"] / reference["tps_tok_per_s"] / 3.6)
    sigma, tps_sd_log, dof = np.hypot(power.sigma, pue.sigma), inputs["tps_sd_log"], (stored.tps_model or {}).get("dof")
    shifts = np.zeros(1)
    if tps_sd_log and dof:
        shifts = tps_sd_log * stdtrit(dof, (np.arange(_STEPS) + 0.5) / _STEPS)
    z = (ln_wh[:, None] - centre - shifts) / sigma
    return np.asarray(np.exp(-(z**2) / 2).mean(axis=1) / (sigma * np.sqrt(2 * np.pi)))


def _draw(view: RunView, cells: list[CellResult], narrow: bool) -> Figure:
    figure = new_figure(narrow, 0.9 + len(cells) * (1.5 if narrow else 1.25))
    for axis, cell in zip(figure.subplots(len(cells), 1, squeeze=False).flat, cells, strict=True):
        _draw_cell(axis, view, cell)
        axis.set_title(f"{cell.name} {cell.workload}: measured / predicted = {sig(cell.ratio)}")
    quantity = "Wh per query" if narrow else "Wh per query, logarithmic"
    axis.set_xlabel(f"{quantity} ({query_boundary_and_source(cells[0])})")
    legend_above(figure, figure.axes[0], narrow, columns=2)
    return figure


def _draw_cell(axis: Axes, view: RunView, cell: CellResult) -> None:
    predicted, measured = cell.predicted_wh_per_query, cell.wh_per_query
    if predicted is None or measured is None or view.prediction is None:
        return
    shown = [predicted.per_query_p5, predicted.per_query_p95, predicted.p5, predicted.p95, measured.mean]
    shown.append(min(measured.ci95[1], 10 * max(shown)) if measured.ci95 else measured.mean)
    low, high = min(shown) / 1.3, max(shown) * 1.3
    wh = np.geomspace(low, high, 300)
    density = mean_density(view.prediction, cell.name, np.log(wh))
    if density is not None:
        height = density / density.max()
        axis.fill_between(
            wh, 0, height, color=AMBER, alpha=0.35, linewidth=0, label="predicted, mean over the workload"
        )
        inside = (wh >= predicted.p5) & (wh <= predicted.p95)
        axis.fill_between(wh[inside], 0, height[inside], color=AMBER, alpha=0.35, linewidth=0)
    axis.plot([predicted.p5, predicted.p95], [0, 0], color=AMBER, linewidth=5, solid_capstyle="butt",
              label="predicted P5 to P95 of that mean")  # fmt: skip
    axis.plot([predicted.mean] * 2, [0, 1.0], color=INK, linewidth=1, linestyle="--", label="predicted mean")
    axis.plot([predicted.per_query_p5, predicted.per_query_p95], [-0.22] * 2, color=MUTED, linewidth=1, marker="|",
              label="single queries P5 to P95: context only")  # fmt: skip
    if measured.ci95 is not None:
        axis.plot(np.clip(measured.ci95, low, high), [0.45] * 2, color=BLUE, linewidth=3, solid_capstyle="butt")
        if measured.ci95[0] < low:
            axis.plot([low], [0.45], "<", color=BLUE, markersize=7, clip_on=False)
    axis.plot([measured.mean], [0.45], "o", color=BLUE, markersize=7, label=_measured_label(cell))
    log_axis(axis, "x", [low, high])
    axis.set_xlim(low, high)
    axis.set_ylim(-0.42, 1.12)
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)


def _measured_label(cell: CellResult) -> str:
    known = cell.wh_per_query is not None and cell.wh_per_query.ci95 is not None
    return "measured mean with 95% interval" if known else "measured mean (interval unknown)"
