"""Figure: what a billion queries a day would use, from the measured cells and as the paper has it."""

from __future__ import annotations

from matplotlib.figure import Figure

from estimator.fleet.references import daily_references
from results.report.figures.common import legend_above, log_axis, new_figure
from results.report.fleet import QUERIES_PER_DAY, FleetTotal, measured_totals, paper_totals, stated_beta
from results.report.svg import AMBER, BLUE, GREEN, INK, PINK
from results.report.view import Drawing, LeftOut, RunView
from results.report.words import sig

_MOST_BELOW = 10.0
"""An interval that reaches further below the smallest total, or below 0, leaves the figure at its edge."""

TITLE = "A billion queries a day"


def fleet_figure(view: RunView) -> Drawing | LeftOut:
    """Return the figure, or why there is none."""
    measured = measured_totals(view.compared)
    if not measured:
        return LeftOut(TITLE, _why_none(view))
    paper = paper_totals()
    beta = stated_beta()
    simulated = "Simulated power: these totals show that the parts fit together and say nothing of any fleet. "
    return Drawing(
        key="fleet",
        title=TITLE,
        finding="; ".join(f"{total.name}: {sig(total.gwh_per_day)} GWh a day" for total in (*measured, *paper)) + ".",
        caption=(
            f"{simulated if view.simulated else ''}Mean Wh per query × beta × 10⁹ queries; boundary: node × PUE × "
            f"beta. Beta = {sig(beta.total.mean)} as the paper states it: load shape {sig(beta.load_shape)}, "
            f"redundancy {sig(beta.redundancy.mean)}, network {sig(beta.network.mean)}. It assumes that every query "
            f"is like the measured workload on {view.result.run.model}, served as saturated as here. Measured: 95% "
            "interval of the mean, beta taken as exact. The paper: its three models above 200B by Eq. 1, P5 to P95 "
            "of the day's total."
        ),
        draw=lambda narrow: _draw((*measured, *paper), simulated=view.simulated, narrow=narrow),
    )


def _why_none(view: RunView) -> str:
    if not view.cells:
        return "no cell was measured"
    if not view.compared:
        return "a sweep's cells are points of a curve, not a workload that a fleet would serve"
    if view.result.run.boundary == "gpu":
        return "the joules are of the GPUs alone, and a fleet's boundary is the node × PUE × beta"
    return "no compared cell has an energy per query that is not invalid"


def _draw(totals: tuple[FleetTotal, ...], *, simulated: bool, narrow: bool) -> Figure:
    figure = new_figure(narrow, (1.35 if not narrow else 1.9) + len(totals) * (0.34 if not narrow else 0.5))
    axis = figure.subplots()
    for y, total in enumerate(totals):
        colour = BLUE if total.measured else AMBER
        if total.interval is not None:
            axis.plot(total.interval, [y, y], color=colour, linewidth=3, solid_capstyle="butt")
        words = (
            f"from measured cells{' (SIMULATED power)' if simulated else ''}" if total.measured else "the paper, Eq. 1"
        )
        axis.plot([total.gwh_per_day], [y], "o" if total.measured else "s", color=colour, markersize=7, label=words)
        axis.annotate(f"{sig(total.gwh_per_day)} GWh", (total.gwh_per_day, y), xytext=(0, 6),
                      textcoords="offset points", ha="center", fontsize=8.5, color=INK)  # fmt: skip
    references = daily_references(QUERIES_PER_DAY)
    for reference, colour, style in zip(references, (GREEN, PINK), ("--", ":"), strict=True):
        axis.axvline(
            reference.gwh_per_day,
            color=colour,
            linestyle=style,
            label=f"{reference.name}: {sig(reference.gwh_per_day)} GWh",
        )
    reach = [total.gwh_per_day for total in totals] + [each.gwh_per_day for each in references]
    lowest = min(reach) / _MOST_BELOW
    reach += [max(bound, lowest) for total in totals for bound in total.interval or ()]
    log_axis(axis, "x", reach)
    room = 4 if narrow else 2  # for the figures' texts, which are centred on the points
    axis.set_xlim(min(reach) / room, max(reach) * room)
    axis.set_ylim(len(totals) - 0.5, -0.7)
    axis.set_yticks(range(len(totals)), [_wrapped(total.name, narrow) for total in totals])
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.set_xlabel("GWh per day, logarithmic")
    legend_above(figure, axis, narrow, columns=2)
    return figure


def _wrapped(name: str, narrow: bool) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(name, 16 if narrow else 34))
