"""Figure: what the difference between measured and predicted comes from, term by term of Eq. 1."""

from __future__ import annotations

from itertools import accumulate
from math import exp

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.report.figures.common import MOST_COLUMNS, panels
from results.report.svg import BLUE, INK, MUTED, ORANGE
from results.report.view import Drawing, LeftOut, RunView
from results.report.words import sig, signed
from results.schema import CellResult, SplitResult

TITLE = "Where the difference comes from"
TERMS = {"power": "node power", "length": "output length", "tps": "throughput", "pue": "PUE"}


def split_figure(view: RunView) -> Drawing | LeftOut:
    """Return the figure, or why there is none."""
    cells = [cell for cell in view.compared if cell.split is not None]
    if not cells:
        return LeftOut(TITLE, "there is no measured ratio to a prediction to split")
    return Drawing(
        key="split",
        title=TITLE,
        finding=". ".join(_finding(cell) for cell in cells) + ".",
        caption=(
            "ln(measured / predicted) by term of Eq. 1; each bar begins where the one before ended, and all add up to "
            "the total. Right of the bar: the factor that the term alone would make. Terms of opposite sign hide each "
            "other in the ratio. A throughput below the predicted one raises energy, so its bar points right. PUE is "
            "not measured unless it was given: both sides share it and its term is 0."
        ),
        draw=lambda narrow: _draw(view, cells, narrow),
    )


def _finding(cell: CellResult) -> str:
    split = cell.split
    if split is None:
        return f"{cell.name}: no split"
    terms = ", ".join(f"{words} {signed(getattr(split, term))}" for term, words in TERMS.items())
    return f"{cell.name}: ln ratio {signed(split.total)} = {terms}"


def _draw(view: RunView, cells: list[CellResult], narrow: bool) -> Figure:
    figure, axes = panels(narrow, len(cells), 2.3, 2.1)
    reach = [end for cell in cells if cell.split for end in _ends(cell.split)]
    room = 0.28 * (max(reach) - min(reach) or 0.1)
    for number, (axis, cell) in enumerate(zip(axes, cells, strict=True)):
        axis.set_xlim(min(reach) - room / 4, max(reach) + room)
        if cell.split is not None:
            _waterfall(axis, cell.split)
        axis.set_title(f"{cell.name}: × {sig(cell.ratio)}" + (", SIMULATED" if view.simulated else ""))
        if number % MOST_COLUMNS and not narrow:
            axis.set_yticklabels([])
        axis.set_xlabel("ln(measured / predicted)")
    return figure


def _ends(split: SplitResult) -> list[float]:
    return [0.0, split.total, *accumulate(getattr(split, term) for term in TERMS)]


def _waterfall(axis: Axes, split: SplitResult) -> None:
    at = 0.0
    for y, term in enumerate(TERMS):
        step = getattr(split, term)
        axis.barh(y, step, left=at, height=0.6, color=ORANGE if step > 0 else BLUE)
        axis.plot([at + step] * 2, [y + 0.3, y + 0.7], color=MUTED, linewidth=0.8)
        _factor(axis, max(at, at + step), y, step)
        at += step
    axis.barh(len(TERMS), split.total, height=0.6, color=INK)
    _factor(axis, max(0.0, split.total), len(TERMS), split.total)
    axis.axvline(0, color=MUTED, linewidth=0.8)
    axis.set_yticks(range(len(TERMS) + 1), [*TERMS.values(), "total"])
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)


def _factor(axis: Axes, x: float, y: int, step: float) -> None:
    axis.annotate(
        f"× {sig(exp(step))}" if step else "× 1", (x, y), xytext=(4, 0), textcoords="offset points", va="center",
        fontsize=8.5, color=INK,
    )  # fmt: skip
