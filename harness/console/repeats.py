"""Repeated runs, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from harness.console.run import ratio_lines
from harness.console.terminal import stdout_console
from results.schema import EnergyRatio


def print_repeats(document: Mapping[str, Any]) -> None:
    """Print labels, mean and spread of every cell, the energy ratio, and the runs."""
    console = stdout_console()
    runs = document["runs"]
    for label in document["labels"]:
        console.print(f"! {label}", style="bold")
    if len(runs) < document["repeats_asked"]:
        console.print(f"UNFINISHED: {len(runs)} of {document['repeats_asked']} repeats", style="bold")
    table = Table(title="over runs on servers started anew (u: relative standard uncertainty)", header_style="bold")
    for name in ("cell", "runs", "TPS (tok/s)", "u of one run", "Wh/query", "u of one run", "between runs", "of mean"):
        table.add_column(name, justify="left" if name == "cell" else "right", overflow="fold")
    for cell in document["cells"]:
        table.add_row(*_row(cell))
    console.print(table)
    console.print("the last four are of spread alone; --json has them combined with the systematic errors")
    if document["energy_ratio"]:
        for line in ratio_lines(EnergyRatio.model_validate(document["energy_ratio"])):
            console.print(line)
    for run in runs:
        verdicts = ", ".join(f"{name} {verdict}" for name, verdict in run["verdicts"].items())
        console.print(f"{run['folder']}: {run['status']}; {verdicts}", soft_wrap=True)


def _row(cell: Mapping[str, Any]) -> tuple[str, ...]:
    tps, energy = cell["tps_tok_per_s"], cell["wh_per_query"]
    return (
        cell["cell"],
        str(cell["n"]),
        *_figures(tps, ",.0f", ("u_run_rel",)),
        *_figures(energy, ".4g", ("u_run_rel", "u_between_rel", "u_mean_rel")),
    )


def _figures(spread: Mapping[str, Any] | None, form: str, names: tuple[str, ...]) -> tuple[str, ...]:
    if spread is None:
        return ("n/a",) * (1 + len(names))
    errors = ["unknown" if spread[name] is None else f"{spread[name]:.1%}" for name in names]
    return (format(spread["mean"], form), *errors)
