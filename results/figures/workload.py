"""What is in a workload: requests over time, and how long inputs and outputs are beside the paper's regimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from estimator.lengths import FloatArray, IntArray
from results.figures.style import COLOURS

_STYLES = ("-", "--", ":")
_POINTS = 400
_TIME_UNITS = ((2 * 86_400, 86_400, "days"), (2 * 3_600, 3_600, "h"), (2 * 60, 60, "min"), (0, 1, "s"))


class LengthSpread(Protocol):
    """How one length is distributed."""

    @property
    def tok(self) -> IntArray:
        """Distinct lengths in ascending order."""
        ...

    def share_up_to(self, tok: FloatArray) -> FloatArray:
        """Return the share that is no longer than each of ``tok``."""
        ...


class Rate(NamedTuple):
    """Requests per second in parts of equal length."""

    bin_s: float
    per_s: Sequence[float]


def workload_figure(title: str, rate: Rate | None, panels: Mapping[str, Mapping[str, LengthSpread]]) -> Figure:
    """Draw requests over time, where that is known, and for each panel the share of requests up to a length."""
    number = len(panels) + (rate is not None)
    figure = Figure(figsize=(4.6 * number, 4.0), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    axes: Sequence[Axes] = figure.subplots(1, number, squeeze=False)[0]
    if rate is not None:
        _draw_rate(axes[0], rate)
    for axis, (kind, spreads) in zip(axes[-len(panels) :], panels.items(), strict=True):
        _draw_spreads(axis, spreads)
        axis.set_xlabel(f"{kind} tokens, logarithmic")
    for letter, axis in zip("abc", axes, strict=False):
        axis.set_title(f"{letter})", loc="left", fontsize="medium")
        axis.spines[["right", "top"]].set_visible(False)
    axes[-len(panels)].set_ylabel("share of requests up to this length")
    axes[-1].legend(loc="upper left", fontsize="small", frameon=False)
    return figure


def _draw_rate(axis: Axes, rate: Rate) -> None:
    span_s = rate.bin_s * len(rate.per_s)
    _, unit_s, unit = next(found for found in _TIME_UNITS if span_s >= found[0])
    axis.stairs(rate.per_s, np.linspace(0, span_s / unit_s, len(rate.per_s) + 1), fill=True, color=COLOURS[5])
    axis.axhline(float(np.mean(rate.per_s)), color=COLOURS[0], linewidth=1.2, label="mean")
    axis.set_xlim(0, span_s / unit_s)
    axis.set_ylim(0, None)
    axis.set_xlabel(f"time since the first request ({unit})")
    axis.set_ylabel("requests per second")
    axis.legend(loc="lower right", fontsize="small")


def _draw_spreads(axis: Axes, spreads: Mapping[str, LengthSpread]) -> None:
    longest = max(float(spread.tok[-1]) for spread in spreads.values())
    tok = np.unique(np.rint(np.geomspace(1, longest, _POINTS)))
    for style, colour, (name, spread) in zip(_STYLES, COLOURS, spreads.items(), strict=False):
        axis.step(tok, spread.share_up_to(tok), where="post", color=colour, linestyle=style, label=name)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda each, _: f"{each:,.0f}"))
    axis.set_ylim(0, 1.02)
    axis.grid(alpha=0.25)
