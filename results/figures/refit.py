"""The figure of a refit: how well its model meets the rows, and which rows it leans on."""

from __future__ import annotations

from math import log
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from results.figures.style import COLOURS, save_figure


def refit_figure(document: dict[str, Any]) -> Figure:
    """Return four panels of a ``refit`` document: observed and fitted TPS, residuals by each length, influence."""
    model, diagnostics = document["model"], document["diagnostics"]
    rows = diagnostics["rows"]
    figure = Figure(figsize=(10, 8), layout="constrained")
    (fitted, by_input), (by_output, influence) = figure.subplots(2, 2)
    _draw_fitted(fitted, rows)
    _draw_residuals(by_input, rows, "input_tok", "input length (tokens)")
    _draw_residuals(by_output, rows, "output_tok", "output length (tokens)")
    _draw_influence(influence, diagnostics)
    figure.suptitle(f"TPS model of {model['model']} on {model['gpus']} device(s): {model['form']}, {len(rows)} rows")
    return figure


def save_refit_figure(document: dict[str, Any], path: Path) -> None:
    """Write the figure of a ``refit`` document as PNG or SVG by the file's suffix."""
    save_figure(refit_figure(document), path)


def _draw_fitted(axes: Axes, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        low, high = row["interval_low_tok_per_s"], row["interval_high_tok_per_s"]
        if low is not None:
            axes.plot([row["observed_tok_per_s"]] * 2, [low, high], color=COLOURS[5], zorder=1)
    axes.scatter(
        [row["observed_tok_per_s"] for row in rows],
        [row["predicted_tok_per_s"] for row in rows],
        color=COLOURS[0],
        zorder=2,
        label="fitted, with 90% prediction interval",
    )
    ends = [min(row["observed_tok_per_s"] for row in rows), max(row["observed_tok_per_s"] for row in rows)]
    axes.plot(ends, ends, color=COLOURS[6], linestyle="--", linewidth=1, label="equal")
    axes.set(xscale="log", yscale="log", xlabel="observed TPS (tok/s)", ylabel="fitted TPS (tok/s)")
    _plain_ticks(axes.xaxis)
    _plain_ticks(axes.yaxis)
    axes.legend(fontsize="small")


def _draw_residuals(axes: Axes, rows: list[dict[str, Any]], length: str, label: str) -> None:
    for row in rows:
        flagged = bool(row["flags"])
        axes.scatter(
            row[length],
            _residual(row),
            color=COLOURS[1] if flagged else COLOURS[0],
            marker="D" if flagged else "o",
        )
    axes.axhline(0, color=COLOURS[6], linestyle="--", linewidth=1)
    axes.set(xscale="log", xlabel=label, ylabel="log observed - log fitted TPS")
    _plain_ticks(axes.xaxis)
    axes.set_title("diamonds: flagged rows", fontsize="small")


def _plain_ticks(axis: Axis) -> None:
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axis.set_minor_formatter(NullFormatter())


def _residual(row: dict[str, Any]) -> float:
    return log(row["observed_tok_per_s"] / row["predicted_tok_per_s"])


def _draw_influence(axes: Axes, diagnostics: dict[str, Any]) -> None:
    axes.set(xlabel="leverage", ylabel="Cook's distance")
    rows = [row for row in diagnostics["rows"] if row["cooks_distance"] is not None]
    if not rows:
        reason = diagnostics["reason"] or "no row has a finite influence"
        axes.text(0.5, 0.5, reason, ha="center", va="center", wrap=True, transform=axes.transAxes)
        return
    axes.scatter([row["leverage"] for row in rows], [row["cooks_distance"] for row in rows], color=COLOURS[0])
    axes.axvline(diagnostics["leverage_limit"], color=COLOURS[1], linestyle="--", linewidth=1, label="2 k / n")
    axes.axhline(diagnostics["cooks_limit"], color=COLOURS[2], linestyle=":", linewidth=1, label="4 / n")
    for row in rows:
        if row["flags"]:
            place = (row["leverage"], row["cooks_distance"])
            axes.annotate(f"{row['input_tok']}x{row['output_tok']}", place, fontsize="small")
    axes.legend(fontsize="small")
