"""A fitted node model, for a person."""

from __future__ import annotations

import math
from typing import Any

from rich.table import Table

from harness.console.terminal import stdout_console


def print_calibration(document: dict[str, Any]) -> None:
    """Print the levels, the line through them and what to know about it."""
    console = stdout_console()
    console.print(f"{document['gpu_count']} GPUs by {document['gpu_source']}, node by {document['meter']}")
    table = Table(header_style="bold")
    for name in ("level", "GPUs (W)", "node (W)", "std. error (W)", "residual (W)", "leverage"):
        table.add_column(name, justify="right")
    for level in document["levels"]:
        watts = (level[key] for key in ("gpu_w", "node_w", "u_w", "residual_w"))
        first = "idle" if level["level"] == 0 else str(level["level"])
        table.add_row(first, *(f"{value:,.1f}" for value in watts), f"{level['leverage']:.2f}")
    console.print(table)
    console.print(_line(document), soft_wrap=True)
    for note in document["notes"]:
        console.print(f"note: {note}", soft_wrap=True)
    console.print(
        f"profile: {document['profile']} (record: {document['record']}); use it with --node-profile", soft_wrap=True
    )


def _line(document: dict[str, Any]) -> str:
    """Return the line; with a meter of unknown accuracy, the scatter about it is not its uncertainty."""
    (var_offset, _), (_, var_slope) = document["random_cov"]
    known = document["u_offset_w"] is not None
    u_offset_w = document["u_offset_w"] if known else math.sqrt(var_offset)
    u_slope = document["u_slope"] if known else math.sqrt(var_slope)
    errors = (
        f"standard uncertainties, correlation {document['correlation']:.2f}"
        if known
        else "scatter and misfit alone: the standard uncertainties are unknown"
    )
    return (
        f"P_node = ({document['offset_w']:,.0f} +- {u_offset_w:,.0f}) W + ({document['slope']:.3f} +- {u_slope:.3f}) "
        f"x sum of GPU power; {errors}, {document['degrees_of_freedom']} degrees of freedom"
    )
