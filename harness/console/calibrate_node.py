"""A fitted node model, for a person."""

from __future__ import annotations

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
    console.print(
        f"P_node = ({document['offset_w']:,.0f} +- {document['u_offset_w']:,.0f}) W + "
        f"({document['slope']:.3f} +- {document['u_slope']:.3f}) x sum of GPU power; standard uncertainties, "
        f"correlation {document['correlation']:.2f}, {document['degrees_of_freedom']} degrees of freedom",
        soft_wrap=True,
    )
    for note in document["notes"]:
        console.print(f"note: {note}", soft_wrap=True)
    console.print(
        f"profile: {document['profile']} (record: {document['record']}); use it with --node-profile", soft_wrap=True
    )
