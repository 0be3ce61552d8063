"""Figure: energy per query of several runs on one axis, each beside its own prediction."""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure

from results.report.figures.common import legend_above, log_axis, new_figure
from results.report.svg import AMBER, BLUE, MUTED
from results.report.view import Drawing, LeftOut, RunView
from results.report.words import query_boundary, sig, source_words
from results.schema import CellResult

TITLE = "Energy per query, side by side"


def side_by_side_figure(runs: tuple[RunView, ...]) -> Drawing | LeftOut:
    """Return the figure of all compared cells, or why they cannot share an axis."""
    rows = [(view, cell) for view in runs for cell in view.compared if cell.wh_per_query]
    if len(rows) < 2:
        return LeftOut(TITLE, "fewer than two compared cells have an energy per query")
    boundaries = {cell.boundary for _, cell in rows}
    if len(boundaries) > 1:
        return LeftOut(
            TITLE,
            f"the runs are of different boundaries ({', '.join(sorted(boundaries))}): joules of different hardware do "
            "not share an axis",
        )
    if len({view.simulated for view, _ in rows}) > 1:
        return LeftOut(TITLE, "some of the runs have simulated power and some measured, which do not share an axis")
    covered = "; ".join(dict.fromkeys(query_boundary(cell) for _, cell in rows))
    words = [f"{view.short} {cell.name}: {sig(cell.wh_per_query.mean)} Wh" for view, cell in rows if cell.wh_per_query]
    return Drawing(
        key="side-by-side",
        title=TITLE,
        finding="; ".join(words) + ".",
        caption=(
            f"Boundary: {covered}. Points: measured means with 95% intervals (all errors; those that runs share do not "
            "tell them apart, so see the differences). Band: predicted P5 to P95 of the mean."
        ),
        draw=lambda narrow: _draw(rows, narrow),
    )


def _draw(rows: list[tuple[RunView, CellResult]], narrow: bool) -> Figure:
    figure = new_figure(narrow, 1.3 + len(rows) * (0.5 if narrow else 0.34))
    axis = figure.subplots()
    reach: list[float] = []
    for y, (_, cell) in enumerate(rows):
        energy, predicted = cell.wh_per_query, cell.predicted_wh_per_query
        if energy is None:
            continue
        colour = MUTED if cell.verdict == "invalid" else BLUE
        if predicted is not None:
            axis.plot([predicted.p5, predicted.p95], [y, y], color=AMBER, alpha=0.45, linewidth=9,
                      solid_capstyle="butt", label="predicted P5 to P95 of the mean")  # fmt: skip
            axis.plot([predicted.mean], [y], "|", color=AMBER, markersize=12, markeredgewidth=2, label="predicted mean")
            reach += [predicted.p5, predicted.p95]
        if energy.ci95 is not None:
            axis.plot(energy.ci95, [y, y], color=colour, linewidth=2.5, solid_capstyle="butt")
        mark = "x" if cell.verdict == "invalid" else "o"
        axis.plot(
            [energy.mean],
            [y],
            mark,
            color=colour,
            markersize=6.5,
            label="invalid" if mark == "x" else "measured mean, 95% interval",
        )
        reach.append(energy.mean)
    reach += [cell.wh_per_query.ci95[1] for _, cell in rows if cell.wh_per_query and cell.wh_per_query.ci95]
    log_axis(axis, "x", reach)
    axis.set_xlim(min(reach) / 1.3, max(reach) * 1.3)
    names = [f"{view.short}: {cell.name} {cell.workload}" for view, cell in rows]
    axis.set_yticks(range(len(rows)), ["\n".join(textwrap.wrap(name, 20 if narrow else 40)) for name in names])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    sources = ", ".join(dict.fromkeys(source_words(cell.power_source) for _, cell in rows))
    axis.set_xlabel(f"Wh per query, logarithmic ({sources})")
    legend_above(figure, axis, narrow, columns=3)
    return figure
