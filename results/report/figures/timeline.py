"""Figure: power and throughput over the time of a run, with its cells and their windows."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.figures.style import COLOURS
from results.report.figures.common import grouped, legend_above, new_figure
from results.report.svg import BLUE, CELL, GREEN, IDLE, INK, MUTED, WINDOW
from results.report.view import Drawing, LeftOut, RunView, Span, Trace
from results.report.words import SHORT_BOUNDARIES, duration, sig, source_words
from results.schema import CellResult

TITLE = "Power and throughput over time"
FEW_DEVICES = 4
MOST_TOLD = 4
"""Cells whose windows the finding tells one by one."""
_LABEL_IN, _UPRIGHT_IN = 0.062, 0.11
"""Width of a letter of a span's label in inches, and of a whole label that stands upright."""


def timeline_figure(view: RunView) -> Drawing | LeftOut:
    """Return the figure, or why there is none."""
    timeline = view.timeline
    if not timeline.totals and timeline.throughput is None:
        return LeftOut(TITLE, "the run has neither power readings nor server scrapes")
    return Drawing(
        key="timeline",
        title=TITLE,
        finding=_finding(view),
        caption=_caption(view),
        draw=lambda narrow: _draw(view, narrow),
    )


def _finding(view: RunView) -> str:
    cells = [cell for cell in view.result.cells if cell.window]
    return f"Over {duration(view.timeline.duration_s)}. {_windows(cells)}.{_simulated(view)}"


def _simulated(view: RunView) -> str:
    """Say which of the watts drawn are simulated: all, or all but those of the meters."""
    if not view.simulated_gpus:
        return ""
    return f" The power is simulated, but for {view.metered}." if view.metered else " The power is simulated."


def _windows(cells: list[CellResult]) -> str:
    """Return what the windows hold: each for a few, the range of all for many."""
    if not cells:
        return "No cell has a window"
    if len(cells) <= MOST_TOLD:
        return "; ".join(
            f"{cell.name}: {sig(cell.watts)} W ({SHORT_BOUNDARIES[cell.boundary]}) and {sig(cell.tps_tok_per_s)} tok/s "
            f"over a window of {duration(cell.window.duration_s)}"
            for cell in cells
            if cell.window
        )
    tps = [cell.tps_tok_per_s for cell in cells if cell.tps_tok_per_s is not None]
    watts = [cell.watts for cell in cells if cell.watts is not None]
    ranges = [f"{sig(min(tps))} to {sig(max(tps))} tok/s"] if tps else []
    ranges += [f"{sig(min(watts))} to {sig(max(watts))} W ({SHORT_BOUNDARIES[cells[0].boundary]})"] if watts else []
    return f"{len(cells)} windows: {', '.join(ranges) or 'nothing known'}"


def _caption(view: RunView) -> str:
    number = len(view.timeline.devices)
    devices = (
        f" Single devices: mean over all {number}, band from the lowest to the highest." if number > FEW_DEVICES else ""
    )
    source = "simulated" if view.simulated_gpus else f"read from {view.manifest.power.name}"
    if view.metered:
        source += f" or read from {view.metered}" if view.simulated_gpus else f" and {view.metered}"
    return (
        f"Line: mean; band: lowest to highest reading of each stretch of time.{devices} Light grey: idle or search; "
        f"tinted: a cell under load; darker: the window that its figures come from. Watts are {source}, without PUE."
    )


def _draw(view: RunView, narrow: bool) -> Figure:
    timeline = view.timeline
    drawers = [
        (height, draw)
        for known, height, draw in (
            (bool(timeline.totals), 1.6, _draw_totals),
            (len(timeline.devices) > 1, 1.1, _draw_devices),
            (timeline.throughput is not None, 1.4, _draw_throughput),
        )
        if known
    ]
    heights = [height for height, _ in drawers]
    figure = new_figure(narrow, 1.3 + sum(heights))
    axes = list(figure.subplots(len(drawers), 1, sharex=True, squeeze=False, height_ratios=heights).flat)
    scale_s, unit = _time_unit(timeline.duration_s)
    for axis, (_, draw) in zip(axes, drawers, strict=True):
        _shade(axis, timeline.spans, scale_s)
        draw(axis, view, scale_s)
        axis.grid(axis="x", visible=False)
        grouped(axis.yaxis)
    axes[-1].set_xlabel(f"time since the run began ({unit})")
    axes[-1].set_xlim(0, timeline.duration_s / scale_s)
    _name_spans(axes[0], timeline.spans, timeline.duration_s, scale_s, figure.get_figwidth() - 0.7)
    legend_above(figure, axes[0], narrow, columns=2)
    return figure


def _draw_totals(axis: Axes, view: RunView, scale_s: float) -> None:
    for trace, colour in zip(view.timeline.totals, COLOURS[:6], strict=False):
        _line(axis, trace, colour, scale_s)
    axis.set_ylabel(f"total W\n({_source(view)})")
    axis.set_ylim(bottom=0)


def _draw_devices(axis: Axes, view: RunView, scale_s: float) -> None:
    devices = view.timeline.devices
    if len(devices) <= FEW_DEVICES:
        for trace, colour in zip(devices, COLOURS[1:6], strict=False):
            seen = trace.envelope
            axis.plot(seen.t_s / scale_s, seen.mean, color=colour, linewidth=0.9, label=trace.name)
        axis.legend(loc="lower right", ncols=2)
    else:
        _band_of_devices(axis, devices, scale_s)
    axis.set_ylabel(f"W a device\n({_source(view)})")
    axis.set_ylim(bottom=0)


def _draw_throughput(axis: Axes, view: RunView, scale_s: float) -> None:
    if view.timeline.throughput is not None:
        _line(axis, view.timeline.throughput, GREEN, scale_s)
    axis.set_ylabel("TPS (tok/s)")
    axis.set_ylim(bottom=0)


def _source(view: RunView) -> str:
    return source_words(view.manifest.power.name)


def _line(axis: Axes, trace: Trace, colour: str, scale_s: float) -> None:
    seen = trace.envelope
    if (seen.high > seen.low).any():
        axis.fill_between(seen.t_s / scale_s, seen.low, seen.high, color=colour, alpha=0.25, linewidth=0)
    axis.plot(seen.t_s / scale_s, seen.mean, color=colour, linewidth=1.1, label=trace.name)


def _band_of_devices(axis: Axes, devices: tuple[Trace, ...], scale_s: float) -> None:
    t_s = devices[0].envelope.t_s
    means = np.array([np.interp(t_s, trace.envelope.t_s, trace.envelope.mean) for trace in devices])
    axis.fill_between(t_s / scale_s, means.min(axis=0), means.max(axis=0), color=BLUE, alpha=0.3, linewidth=0)
    axis.plot(t_s / scale_s, means.mean(axis=0), color=BLUE, linewidth=1.1)


def _time_unit(duration_s: float) -> tuple[float, str]:
    if duration_s < 300:
        return 1.0, "s"
    return (60.0, "min") if duration_s < 4 * 3600 else (3600.0, "h")


def _shade(axis: Axes, spans: tuple[Span, ...], scale_s: float) -> None:
    for span in spans:
        colour = CELL if span.kind == "cell" else IDLE
        axis.axvspan(span.start_s / scale_s, span.end_s / scale_s, color=colour, linewidth=0, zorder=0)
        if span.window_s is not None:
            axis.axvspan(span.window_s[0] / scale_s, span.window_s[1] / scale_s, color=WINDOW, linewidth=0, zorder=0.5)


def _name_spans(axis: Axes, spans: tuple[Span, ...], duration_s: float, scale_s: float, width_in: float) -> None:
    """Write the names above the spans: level where all cells' names fit, else upright; what has no room has no name."""
    widths = [width_in * (span.end_s - span.start_s) / duration_s for span in spans]
    fits = [_LABEL_IN * len(span.name) < width for span, width in zip(spans, widths, strict=True)]
    level = all(fit for fit, span in zip(fits, spans, strict=True) if span.kind == "cell")
    for span, width, fit in zip(spans, widths, fits, strict=True):
        if fit or (not level and width > _UPRIGHT_IN):
            axis.annotate(
                span.name, ((span.start_s + span.end_s) / 2 / scale_s, 1.0), xycoords=("data", "axes fraction"),
                xytext=(0, 3), textcoords="offset points", ha="center", va="bottom", fontsize=8,
                rotation=0 if level else 90, color=INK if span.kind == "cell" else MUTED,
            )  # fmt: skip
