"""Estimates of Wh per query, as a table for a person."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from harness.console.terminal import stdout_console


def print_estimates(document: dict[str, Any]) -> None:
    """Print estimates as a table."""
    first = document["estimates"][0]
    table = Table(
        title=f"Wh/query, {first['regime']}, preset {first['preset']}, boundary {first['boundary']}",
        header_style="bold",
    )
    keys = list(first["wh_per_query"])
    table.add_column("model")
    for key in keys:
        table.add_column(key, justify="right")
    for entry in document["estimates"]:
        table.add_row(entry["model"], *(f"{entry['wh_per_query'][key]:.3g}" for key in keys))
    stdout_console().print(table)
