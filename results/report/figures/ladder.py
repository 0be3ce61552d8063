"""Figure: what concurrency does to throughput, power and the energy of a token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.figures.style import COLOURS
from results.report.figures.common import grouped, legend_above, log_axis, panels
from results.report.svg import BLUE, INK, MUTED, ORANGE
from results.report.view import Drawing, LeftOut, RunView, SearchRung
from results.report.words import SHORT_BOUNDARIES, interval, sig, source_words
from results.schema import CellResult

TITLE = "Concurrency ladder"
_Z_95 = 1.96


def ladder_figure(view: RunView) -> Drawing | LeftOut:
    """Return the figure of a sweep's ladder, or of the rungs of the searches, or why there is neither."""
    cells = [cell for cell in view.result.cells if cell.role == "ladder" and cell.tps_tok_per_s]
    if len({cell.concurrency for cell in cells}) > 1:
        return _of_sweep(view, sorted(cells, key=lambda cell: cell.concurrency))
    if view.rungs:
        return _of_search(view)
    if not view.cells:
        return LeftOut(TITLE, "no cell was measured")
    return LeftOut(TITLE, "concurrency was given, and one concurrency makes no ladder: harness sweep measures one")


def _of_sweep(view: RunView, cells: list[CellResult]) -> Drawing:
    ladder = (view.sweep or {}).get("ladder") or {}
    knee, cost = ladder.get("knee"), ladder.get("unsaturated_cost")
    words = []
    if knee:
        words.append(
            f"From {knee['concurrency']} in flight throughput is within 3% of "
            f"{sig(knee['plateau_tps_tok_per_s'])} tok/s"
        )
    if cost:
        bounds = "" if cost["ci95"] is None else f" (95% {interval(tuple(cost['ci95']))}, random)"
        words.append(
            f"J/token at {cost['concurrency']} in flight is {sig(cost['joules_per_tok_ratio'])}{bounds} times that at "
            f"{cost['saturated_concurrency']} ({cost['boundary']}, {cost['power_source']})"
        )
    reference = cost["reference"] if cost else None
    return Drawing(
        key="ladder",
        title=TITLE,
        finding=(". ".join(words) or f"{len(cells)} rungs were measured") + ".",
        caption=(
            f"Boundary: {SHORT_BOUNDARIES[cells[0].boundary]}, without PUE. Bars: 95% intervals, random errors of the "
            "window alone; crosses: invalid cells; dashed: the chosen point. This is the cost of "
            "unsaturated serving on one server"
            + (
                "."
                if reference is None
                else f", not the paper's {reference['low']:g} to {reference['high']:g} times: {reference['note']}."
            )
        ),
        draw=lambda narrow: _draw_sweep(cells, knee, narrow),
    )


def _draw_sweep(cells: list[CellResult], knee: dict[str, Any] | None, narrow: bool) -> Figure:
    has_joules, source = any(cell.joules_per_tok for cell in cells), source_words(cells[0].power_source)
    figure, axes = panels(narrow, 3 if has_joules else 1, 2.6, 2.0)
    _points(axes[0], cells, [cell.tps_tok_per_s for cell in cells], "TPS (tok/s)")
    if has_joules:
        _points(axes[1], cells, [cell.watts for cell in cells], f"W ({source})")
        _points(axes[2], cells, [cell.joules_per_tok for cell in cells], f"J/token ({source})")
        for cell in cells:
            if cell.joules_per_tok_ci95 is not None:
                axes[2].plot([cell.concurrency] * 2, cell.joules_per_tok_ci95, color=BLUE, linewidth=2)
    for axis in axes:
        if knee:
            axis.axvline(knee["concurrency"], color=ORANGE, linestyle="--", linewidth=1.2,
                         label=f"within 3% of the best TPS from {knee['concurrency']} in flight")  # fmt: skip
    legend_above(figure, axes[0], narrow)
    return figure


def _points(axis: Axes, cells: list[CellResult], values: list[float | None], label: str) -> None:
    known = [(cell, value) for cell, value in zip(cells, values, strict=True) if value is not None]
    usable = [(cell.concurrency, value) for cell, value in known if cell.verdict != "invalid"]
    invalid = [(cell.concurrency, value) for cell, value in known if cell.verdict == "invalid"]
    axis.plot([x for x, _ in usable], [y for _, y in usable], "o-", color=BLUE, markersize=5)
    axis.plot([x for x, _ in invalid], [y for _, y in invalid], "x", color=MUTED, markersize=6)
    _concurrency_axis(axis, [cell.concurrency for cell in cells])
    axis.set_ylabel(label)


def _concurrency_axis(axis: Axes, concurrencies: Sequence[int]) -> None:
    log_axis(axis, "x", concurrencies)
    shown = sorted(set(concurrencies))
    while len(shown) > 8:
        shown = shown[::-1][::2][::-1]
    axis.set_xticks(shown, [f"{value:,}" for value in shown])
    axis.set_xlabel("requests in flight")
    axis.set_ylim(bottom=0)
    grouped(axis.yaxis)


def _of_search(view: RunView) -> Drawing:
    chosen = {cell.name: cell.concurrency for cell in view.result.cells}
    names = list(dict.fromkeys(rung.cell for rung in view.rungs))
    words = [f"{name}: {_best(view.rungs, name)}, chosen {chosen.get(name, 'none')} in flight" for name in names]
    return Drawing(
        key="ladder",
        title=f"{TITLE}: the search for saturation",
        finding=". ".join(words) + ".",
        caption=(
            "Throughput of short rungs of the search, with 95% intervals; the larger ring is the concurrency that the "
            "cell was measured at. Watts and J/token belong to whole cells: harness sweep measures them along a "
            "ladder."
        ),
        draw=lambda narrow: _draw_search(view, names, chosen, narrow),
    )


def _best(rungs: Sequence[SearchRung], name: str) -> str:
    best = max((rung for rung in rungs if rung.cell == name), key=lambda rung: rung.tps_tok_per_s)
    return f"the highest rung is {sig(best.tps_tok_per_s)} tok/s at {best.concurrency} in flight"


def _draw_search(view: RunView, names: list[str], chosen: dict[str, int], narrow: bool) -> Figure:
    figure, (axis,) = panels(narrow, 1, 2.8, 2.8)
    for name, colour, marker in zip(names, COLOURS * 3, "osD^v" * 3, strict=False):
        rungs = sorted((rung for rung in view.rungs if rung.cell == name), key=lambda rung: rung.concurrency)
        x, y = [rung.concurrency for rung in rungs], [rung.tps_tok_per_s for rung in rungs]
        axis.plot(x, y, f"{marker}-", color=colour, markersize=5, label=name)
        for rung in rungs:
            half = _Z_95 * (rung.tps_u_tok_per_s or 0.0)
            axis.plot([rung.concurrency] * 2, [rung.tps_tok_per_s - half, rung.tps_tok_per_s + half], color=colour)
        if chosen.get(name) in x:
            at = x.index(chosen[name])
            axis.plot(x[at], y[at], "o", markersize=12, markerfacecolor="none", markeredgecolor=INK)
    axis.plot([], [], "o", markersize=9, markerfacecolor="none", markeredgecolor=INK, label="measured at")
    _concurrency_axis(axis, [rung.concurrency for rung in view.rungs])
    axis.set_ylabel("TPS (tok/s)")
    legend_above(figure, axis, narrow, columns=4)
    return figure
