"""Figure 3 of the paper from our fleets: energy per day of several scenarios, with references on the same axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.figures.style import COLOURS

Total = Mapping[str, float]
"""Energy per day in GWh: ``mean``, and the quantiles ``p5`` and ``p95`` of what the fleet shares."""

_BAR_WIDTH = 0.6
_HEADROOM = 1.2
"""Height of the axis over its highest whisker: room for the legend."""


def fleet_figure(
    panels: Mapping[str, Mapping[str, Total]], references: Mapping[str, float], *, title: str, boundary: str
) -> Figure:
    """Draw one panel a regime: a bar a scenario up to its mean, whiskers from P5 to P95, a line a reference."""
    widths = [0.7 + 1.35 * len(bars) for bars in panels.values()]
    figure = Figure(figsize=(1.5 + sum(widths), 5.0), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    axes: Sequence[Axes] = figure.subplots(1, len(panels), squeeze=False, sharey=True, width_ratios=widths)[0]
    for letter, axis, (name, bars) in zip("abcdef", axes, panels.items(), strict=False):
        _draw_bars(axis, bars)
        _draw_references(axis, references)
        axis.set_title(f"{letter}) {name}", loc="left", fontsize="medium")
    highest = max(gwh["p95"] for bars in panels.values() for gwh in bars.values())
    axes[0].set_ylim(0, _HEADROOM * max(highest, *references.values()))
    axes[0].set_ylabel("GWh per day")
    figure.supxlabel(
        f"{boundary}\nbar: mean; whiskers: P5 to P95 of what the fleet shares, lengths averaged out", fontsize="x-small"
    )
    axes[0].legend(loc="upper left", fontsize="x-small", frameon=False)
    return figure


def _draw_bars(axis: Axes, bars: Mapping[str, Total]) -> None:
    for x, gwh in enumerate(bars.values()):
        axis.bar(x, gwh["mean"], width=_BAR_WIDTH, color=COLOURS[5], zorder=1)
        axis.plot([x, x], [gwh["p5"], gwh["p95"]], color=COLOURS[-1], linewidth=1.2, marker="_", zorder=3)
        axis.annotate(f"{gwh['mean']:.2g}", (x, gwh["mean"]), xytext=(4, 2), textcoords="offset points", zorder=4)
    axis.set_xticks(range(len(bars)), list(bars), fontsize="small")
    axis.set_xlim(-0.6, len(bars) - 0.4)
    axis.spines[["right", "top"]].set_visible(False)


def _draw_references(axis: Axes, references: Mapping[str, float]) -> None:
    for style, colour, (name, gwh) in zip(("--", ":"), COLOURS[1:3], references.items(), strict=True):
        axis.axhline(gwh, color=colour, linestyle=style, linewidth=1.5, zorder=2, label=f"{name}: {gwh:.2g} GWh")
