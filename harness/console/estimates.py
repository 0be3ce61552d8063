"""Estimates of Wh per query, as a table for a person."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from harness.console.terminal import stdout_console


def print_estimates(document: dict[str, Any]) -> None:
    """Print estimates as a table, the Monte Carlo standard error behind each figure's last digits, and the notes."""
    console = stdout_console()
    estimates = document["estimates"]
    first = estimates[0]
    table = Table(title=_title(first), header_style="bold")
    table.add_column("model")
    for key in first["wh_per_query"]:
        table.add_column(key, justify="right")
    for entry in estimates:
        errors = entry["monte_carlo_se_wh"]
        table.add_row(
            entry["model"],
            *(_with_error(value, errors[key]) for key, value in entry["wh_per_query"].items()),
        )
    console.print(table)
    console.print(f"± is the Monte Carlo standard error of {document['samples_per_model']:,} samples a model")
    for note in dict.fromkeys(note for entry in estimates for note in entry["notes"]):
        console.print(f"note: {note}")
    for entry in estimates:
        if entry["extrapolated_share"] > 0 and not entry["task"]:
            console.print(
                f"extrapolated: {entry['extrapolated_share']:.1%} of the queries of {entry['model']} have a length "
                "outside its throughput data"
            )


def _title(entry: dict[str, Any]) -> str:
    lengths = f"task {entry['task']['name']}" if entry["task"] else entry["regime"] or entry["workload"]
    if entry["multiplier"] != 1:
        lengths += f" x {entry['multiplier']:g}"
    per = "task" if entry["task"] else "query"
    title = f"Wh/{per}, {lengths}, preset {entry['preset']}, boundary {entry['boundary']}"
    if entry["power_model"] != "independent":
        title += f", power {entry['power_model']}"
    if entry["interventions"]:
        alpha = entry["alpha"]
        title += f", {' and '.join(entry['interventions'])} (alpha {alpha['p5']:.3g} to {alpha['p95']:.3g})"
    return title


def _with_error(value: float, error: float | None) -> str:
    if error is None:
        return f"{value:#.3g} ±?"
    return f"{value:#.3g} ±{100 * error / value:.1g}%"
