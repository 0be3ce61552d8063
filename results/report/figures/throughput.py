"""Figure: throughput over output length: measured cells, the prediction's curve with its plateau, and our own fit."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from estimator.throughput.tps import TpsModel
from results.report.figures.common import grouped, legend_above, log_axis, new_figure, scatter_cells
from results.report.svg import AMBER, INK, MUTED, SKY
from results.report.view import Drawing, LeftOut, NamedModel, RunView
from results.report.words import sig
from results.schema import CellResult

TITLE = "Throughput against output length"
MOST_CURVES = 3
"""Input lengths that a model is drawn at."""
_STYLES = ((AMBER, "-"), (SKY, "--"), (INK, ":"))


def throughput_figure(view: RunView) -> Drawing | LeftOut:
    """Return the figure, or why there is none."""
    cells = [cell for cell in view.cells if cell.role != "ladder" and cell.tps_tok_per_s]
    if not cells or (len({cell.served_output_tok for cell in cells}) < 2 and not view.models and not view.s1_rows):
        return LeftOut(TITLE, "it takes cells of two output lengths, or a throughput model to hold one against")
    plateaus = [each.model.cap_tok_per_s for each in view.models if each.model.cap_tok_per_s]
    return Drawing(
        key="throughput",
        title=TITLE,
        finding=_finding(cells, view.models),
        caption=(
            "Curves are at the cells' input lengths, or at their median where they are many. Band, where there is one "
            "curve: 90% prediction interval of a single measurement. "
            + ("Where a curve is flat it is at its plateau: as in the paper, the model is capped at the largest "
               "throughput that it was fitted to. " if plateaus else "")
            + ("Grey: the paper's Supplemental I of this model, measured with TensorRT-LLM. " if view.s1_rows else "")
            + "A hollow mark is a mix of lengths, drawn at its mean; it need not lie on a curve for fixed lengths."
        ),
        draw=lambda narrow: _draw(view, cells, narrow),
    )  # fmt: skip


def _finding(cells: list[CellResult], models: tuple[NamedModel, ...]) -> str:
    low, high = (pick(cells, key=lambda cell: cell.served_output_tok) for pick in (min, max))
    found = (
        f"{sig(low.tps_tok_per_s)} tok/s at {low.served_output_tok:,.0f} output tokens ({low.name}), "
        f"{sig(high.tps_tok_per_s)} tok/s at {high.served_output_tok:,.0f} ({high.name})"
    )
    plateaus = [
        f"{each.name} levels at {sig(each.model.cap_tok_per_s)} tok/s" for each in models if each.model.cap_tok_per_s
    ]
    return "; ".join([found, *plateaus]) + "."


def _draw(view: RunView, cells: list[CellResult], narrow: bool) -> Figure:
    figure = new_figure(narrow, 3.6 if narrow else 3.4)
    axis = figure.subplots()
    outputs = [cell.served_output_tok for cell in cells] + [float(row.output_tok) for row in view.s1_rows]
    ends = (max(1.0, min(outputs) / 1.4), max(outputs) * 1.4)
    heights = [cell.tps_tok_per_s or 1.0 for cell in cells]
    for number, (named, (colour, style)) in enumerate(zip(view.models, _STYLES, strict=False)):
        inputs = _inputs_tok(cells)
        for input_tok in inputs:
            alone = len(inputs) == 1
            banded = number == 0 and alone
            heights += _curve(axis, named, input_tok, ends, colour, style, banded=banded, named=not alone)
    if view.s1_rows:
        axis.plot([row.output_tok for row in view.s1_rows], [row.tps_tok_per_s for row in view.s1_rows], "P",
                  color=MUTED, markersize=4, label="the paper's Supplemental I (TensorRT-LLM)")  # fmt: skip
        heights += [row.tps_tok_per_s for row in view.s1_rows]
    scatter_cells(axis, cells, [(cell.tps_tok_per_s or 0.0, None) for cell in cells])
    log_axis(axis, "x", ends)
    axis.set_xlim(ends)
    if max(heights) > 4 * min(heights):
        log_axis(axis, "y", heights)
    else:
        axis.set_ylim(bottom=0)
        grouped(axis.yaxis)
    axis.set_xlabel("mean output length (tokens), logarithmic")
    axis.set_ylabel("TPS (tok/s)")
    legend_above(figure, axis, narrow, columns=2)
    return figure


def _inputs_tok(cells: list[CellResult]) -> list[float]:
    """Return the input lengths to draw curves at: those that differ by more than a tenth, or their median if many."""
    apart: list[float] = []
    for input_tok in sorted(cell.mean_input_tok for cell in cells):
        if not apart or input_tok > 1.1 * apart[-1]:
            apart.append(input_tok)
    return apart if len(apart) <= MOST_CURVES else [float(np.median([cell.mean_input_tok for cell in cells]))]


def _curve(
    axis: Axes,
    drawn: NamedModel,
    input_tok: float,
    ends: tuple[float, float],
    colour: str,
    style: str,
    *,
    banded: bool,
    named: bool,
) -> list[float]:
    model: TpsModel = drawn.model
    output_tok = np.geomspace(*ends, 120)
    tps = model.predict_tok_per_s(input_tok, output_tok)
    low, high = model.interval_tok_per_s(input_tok, output_tok)
    known = np.isfinite(low) & np.isfinite(high) & (high < 20 * tps)
    if banded and known.any():
        axis.fill_between(output_tok, low, high, where=known, color=colour, alpha=0.18, linewidth=0)
    axis.plot(output_tok, tps, style, color=colour, label=drawn.name)
    if named:
        axis.annotate(f"{input_tok:,.0f} in", (output_tok[0], tps[0]), xytext=(2, 3), textcoords="offset points",
                      fontsize=8, color=INK)  # fmt: skip
    if not named and model.cap_tok_per_s is not None and tps[-1] >= model.cap_tok_per_s:
        axis.annotate("plateau", (output_tok[-1], tps[-1]), xytext=(-3, -10), textcoords="offset points", ha="right",
                      fontsize=8, color=INK)  # fmt: skip
    return [float(tps.min()), float(tps.max())]
