"""What a person reads of a cell's budget before its load starts."""

from __future__ import annotations

from math import ceil

from harness.budget import Need
from harness.console.words import duration


def budget_lines(cell: str, need: Need, budget_s: float, precision_rel: float) -> list[str]:
    """Return what a cell's window needs, whether its budget gives that, and how well J/token will be known."""
    lines, window_s = [_of_requests(cell, need, budget_s)], need.window_s(budget_s)
    if need.scatter is not None and window_s > 0:
        reach = need.scatter.half_width_rel(window_s)
        lines.append(_of_scatter(cell, need, budget_s, f"+-{reach:.1%}", f"+-{precision_rel:.1%}"))
    return lines


def _of_requests(cell: str, need: Need, budget_s: float) -> str:
    if need.request_s is None:
        return f"{cell}: how long a mean request takes is not known; budget {budget_s:.0f} s of load"
    needs = (
        f"{cell}: a mean request takes {need.request_s:.3g} s, so a valid window takes about "
        f"{need.seconds:.0f} s of load; budget {budget_s:.0f} s"
    )
    if budget_s >= need.seconds:
        return needs
    return f"{needs}: TOO SHORT, expect window_too_short; --budget {ceil(need.seconds)} gives enough"


def _of_scatter(cell: str, need: Need, budget_s: float, reach: str, target: str) -> str:
    said = (
        f"{cell}: by the scatter that the search measured, throughput will then be known to about {reach} (95%, random "
        f"part); target for J/token {target}"
    )
    if budget_s >= need.seconds_with_scatter:
        return said
    return (
        f"{said}; to show that nothing changes by 2% takes about {duration(need.seconds_with_scatter)}: "
        "expect steadiness_unproven"
    )
