"""Figures 1 and 2 of the paper from our samples: energy per query by model, and by efficiency gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from results.figures.style import COLOURS

Spread = Mapping[str, float]
"""Quantiles ``p5 p25 p50 p75 p95`` of energy per query in Wh."""

_BOX_HEIGHT = 0.55


def energy_figure(panels: Mapping[str, Mapping[str, Spread]], *, title: str, boundary: str, remark: str = "") -> Figure:
    """Draw one panel a regime: per row a box from P25 to P75 with the median, and whiskers from P5 to P95."""
    figure = Figure(figsize=(5.5 * len(panels), 1.6 + 0.5 * max(map(len, panels.values()))), layout="constrained")
    figure.suptitle(title)
    axes: Sequence[Axes] = figure.subplots(1, len(panels), squeeze=False)[0]
    for letter, axis, (regime, rows) in zip("abcdef", axes, panels.items(), strict=False):
        _draw_rows(axis, rows)
        axis.set_title(f"{letter}) {regime}", loc="left", fontsize="medium")
        axis.set_xlabel(f"Wh per query ({boundary}), logarithmic")
    figure.supxlabel(f"box: P25 to P75 with median; whiskers: P5 to P95; of single queries{remark}", fontsize="small")
    return figure


def _draw_rows(axis: Axes, rows: Mapping[str, Spread]) -> None:
    for y, (name, wh) in enumerate(rows.items()):
        axis.plot([wh["p5"], wh["p95"]], [y, y], color=COLOURS[-1], linewidth=1.2, zorder=1)
        axis.barh(y, wh["p75"] - wh["p25"], left=wh["p25"], height=_BOX_HEIGHT, color=COLOURS[5], zorder=2)
        axis.plot(
            [wh["p50"]] * 2, [y - _BOX_HEIGHT / 2, y + _BOX_HEIGHT / 2], color=COLOURS[0], linewidth=2.5, zorder=3
        )
        axis.annotate(
            f"{name}: {wh['p50']:.2g} Wh", (wh["p50"], y - _BOX_HEIGHT / 2), xytext=(0, 2),
            textcoords="offset points", ha="center", va="bottom", fontsize="small",
        )  # fmt: skip
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda wh, _: f"{wh:g}"))
    axis.set_ylim(len(rows) - 0.4, -0.8)
    axis.set_yticks([])
    axis.grid(axis="x", which="both", alpha=0.25)
    axis.spines[["left", "right", "top"]].set_visible(False)
