"""Figure of ln(measured / predicted) by term of Eq. 1, one row per (server, model) group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from matplotlib.figure import Figure

from results.figures.style import COLOURS

TERMS = {"power": ("power", "o"), "tps": ("TPS", "s"), "length": ("length", "^"), "pue": ("PUE", "v")}
NAME_WIDTH = 80
"""Characters of a line of a group's name."""


def agreement_figure(summaries: Sequence[Mapping[str, Any]]) -> Figure:
    """Return the figure of the summaries of an agreement document, over the largest TPS of each ladder.

    Markers are the terms, the black bar is their total, the grey band is P5-P95 of the predicted mean. A term
    that is not known has no marker.
    """
    rows = [(summary["boundary"], group) for summary in summaries for group in summary["largest_tps"]["groups"]]
    figure = Figure(figsize=(9, 1.6 + 0.32 * max(1, len(rows))), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0.0, color="0.6", linewidth=0.8)
    for y, (_, group) in enumerate(rows):
        if group["ln_p5"] is not None:
            axes.plot([group["ln_p5"], group["ln_p95"]], [y, y], color="0.85", linewidth=9, zorder=0)
        if group["ln_terms"]["total"] is not None:
            axes.plot([group["ln_terms"]["total"]], [y], marker="|", markersize=14, markeredgewidth=2.5, color="black")
    for (term, (name, marker)), colour in zip(TERMS.items(), COLOURS, strict=False):
        known = [
            (group["ln_terms"][term], y) for y, (_, group) in enumerate(rows) if group["ln_terms"][term] is not None
        ]
        axes.plot([x for x, _ in known], [y for _, y in known], marker, color=colour, label=name)
    axes.plot([], [], "|", color="black", markersize=14, markeredgewidth=2.5, label="total")
    axes.plot([], [], color="0.85", linewidth=9, label="P5-P95 of the predicted mean")
    names = [fill(f"{group['group']} ({boundary})", width=NAME_WIDTH) for boundary, group in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("ln(measured / predicted) Wh per query, by term of Eq. 1 (1)")
    figure.legend(loc="outside upper center", ncols=6, fontsize=8, frameon=False)
    return figure
