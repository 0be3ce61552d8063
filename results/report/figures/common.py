"""What the report's figures share: their sizes, axes of plain numbers, and marks by role and verdict."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log10
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from results.report.svg import BLUE, GREEN, MUTED, NARROW_IN, ORANGE, PINK, WIDE_IN
from results.report.words import sig
from results.schema import CellResult

MOST_COLUMNS = 3

ROLES = {
    "compared": (BLUE, "o", "measured, compared"),
    "grid": (GREEN, "s", "measured, grid of fixed lengths"),
    "calibration": (ORANGE, "^", "measured, calibration"),
    "ladder": (PINK, "D", "measured, ladder"),
}
"""Colour, marker and words by what a cell is for."""


def new_figure(narrow: bool, height_in: float) -> Figure:
    """Return an empty figure for a wide page, or for a phone."""
    figure = Figure(figsize=(NARROW_IN if narrow else WIDE_IN, height_in), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)  # type: ignore[union-attr, call-arg]
    return figure


def panels(narrow: bool, count: int, wide_height_in: float, narrow_height_in: float) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels, up to three side by side, or one below the other on a phone."""
    columns = 1 if narrow else min(count, MOST_COLUMNS)
    rows = ceil(count / columns)
    figure = new_figure(narrow, rows * (narrow_height_in if narrow else wide_height_in))
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes[:count]


def log_axis(axes: Axes, which: Literal["x", "y"], values: Sequence[float]) -> None:
    """Make an axis logarithmic, with plain numbers at as many of 1, 2 and 5 times the powers of ten as have room."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log"})
    decades = max(log10(max(values) / min(values)), 0.1) if values else 1.0
    subs = _steps(_length_in(axes, which) / decades, _NUMBER_IN[which])
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axis.set_minor_formatter(NullFormatter())
    if len(subs) > 1:
        axis.set_minor_locator(NullLocator())


_NUMBER_IN = {"x": 0.45, "y": 0.2}
"""Room that a number takes along its axis, in inches."""


def _steps(decade_in: float, number_in: float) -> tuple[float, ...]:
    """Return the multiples of powers of ten to write, for a decade of this length."""
    if log10(2) * decade_in >= number_in:
        return (1.0, 2.0, 5.0)
    return (1.0, 3.0) if log10(3) * decade_in >= number_in else (1.0,)


def _length_in(axes: Axes, which: Literal["x", "y"]) -> float:
    """Return about how long an axis will be: layout comes later, and texts take a third."""
    spec, figure = axes.get_subplotspec(), axes.get_figure(root=True)
    if spec is None or figure is None:
        return 1.0
    grid, (width, height) = spec.get_gridspec(), figure.get_size_inches()
    return float(width / grid.ncols if which == "x" else height / grid.nrows) * 0.62


def grouped(axis: Axis) -> None:
    """Group the thousands of an axis's numbers."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def plain(value: float) -> str:
    """Return a tick's number without superfluous zeros.

    >>> plain(2000.0), plain(0.005), plain(1.5), plain(0.00005)
    ('2,000', '0.005', '1.5', '5×10⁻⁵')
    """
    mantissa, times, power = sig(float(f"{value:.12g}"), 4).partition("×")
    return (mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa) + times + power


def legend_above(figure: Figure, axes: Axes, narrow: bool, columns: int = 3) -> None:
    """Put one legend above all panels."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        unique = dict(zip(labels, handles, strict=True))
        figure.legend(unique.values(), unique.keys(), loc="outside upper left", ncols=1 if narrow else columns)


def scatter_cells(
    axes: Axes, cells: Sequence[CellResult], values: Sequence[tuple[float, tuple[float, float] | None]]
) -> None:
    """Draw a value with its interval for each cell over its output length; an invalid cell is a grey cross."""
    for cell, (value, bounds) in zip(cells, values, strict=True):
        colour, marker, words = ROLES[cell.role]
        if cell.verdict == "invalid":
            colour, marker, words = MUTED, "x", "invalid: not to be used"
        if bounds is not None:
            axes.plot([cell.served_output_tok] * 2, bounds, color=colour, linewidth=2, solid_capstyle="butt")
        face = colour if cell.workload.startswith("fixed:") or marker == "x" else "none"
        mixed = "" if cell.workload.startswith("fixed:") or marker == "x" else ", mixed lengths (at the mean)"
        axes.plot(
            [cell.served_output_tok], [value], marker, color=colour, markerfacecolor=face, markersize=6,
            markeredgewidth=1.5, label=words + mixed,
        )  # fmt: skip
