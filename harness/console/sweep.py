"""A sweep, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.console.terminal import stdout_console
from harness.console.words import number
from harness.sweep_config import SweepConfig

_LONGEST_CODE = len("counter_integral_disagree,")
"""Room for every reason code in one piece, because people look them up."""


def cells_line(config: SweepConfig) -> str:
    """Return which cells a sweep measures."""
    ladder = "1, 2, 4 ... to saturation" if config.ladder == "auto" else ", ".join(map(str, config.ladder))
    parts = [f"ladder of {ladder} in flight"] if config.ladder else []
    if config.grid:
        parts.append(f"grid of {len(config.grid)}: {', '.join(f'{i}x{o}' for i, o in config.grid)}")
    return "; ".join(parts)


def print_sweep(document: Mapping[str, Any]) -> None:
    """Print the ladder's curve, what unsaturated serving costs, the grid, and the energy exponents."""
    console, run = stdout_console(), document["run"]
    if run["status"] != "complete":
        told = f"{run['status'].upper()} RESULT: go on with harness sweep --resume {run['path']}"
        console.print(told, style="bold", soft_wrap=True)
    for label in run["labels"]:
        console.print(f"! {label}", style="bold")
    console.print(f"{run['model']} (server version {run['server_version'] or 'unknown'})")
    if document["ladder"]:
        _print_ladder(console, document["ladder"])
    _print_grid(console, document["grid"])
    if document["server_starts"] > 1:
        console.print(f"measured on {document['server_starts']} starts of the servers: the sweep was resumed")
    if document["cut_short"]:
        console.print(f"cut short: {', '.join(document['cut_short'])}")
    console.print(f"run folder: {run['path']}", soft_wrap=True)


def _print_ladder(console: Console, ladder: Mapping[str, Any]) -> None:
    times = "" if ladder["multiplier"] == 1 else f" {ladder['multiplier']:g}x"
    console.print(_table(f"concurrency ladder, {ladder['workload']}{times}", ladder["cells"]))
    knee, cost = ladder["knee"], ladder["unsaturated_cost"]
    if knee:
        console.print(
            f"within 3% of {knee['plateau_tps_tok_per_s']:,.0f} tok/s from {knee['concurrency']} in flight; "
            f"what ends the ladder: {knee['binding']}",
            soft_wrap=True,
        )
    if cost:
        bounds = "" if cost["ci95"] is None else f" (95% {cost['ci95'][0]:.3g} to {cost['ci95'][1]:.3g}, random)"
        console.print(
            f"J/token at {cost['concurrency']} in flight is {cost['joules_per_tok_ratio']:.2f}{bounds} times that at "
            f"{cost['saturated_concurrency']} ({cost['power_source']}, {cost['boundary']})",
            soft_wrap=True,
        )
        reference = cost["reference"]
        console.print(
            f"  not the paper's {reference['low']:g} to {reference['high']:g}: {reference['note']}", soft_wrap=True
        )


def _print_grid(console: Console, grid: Mapping[str, Any]) -> None:
    if grid["cells"]:
        console.print(_table("grid of fixed lengths", grid["cells"]))
    for skipped in grid["skipped"]:
        console.print(f"skipped: {skipped['cell']}: {skipped['why']}")
    for fit in grid["energy_exponents"]:
        bounds = "" if fit["ci95"] is None else f" (95% {fit['ci95'][0]:.3f} to {fit['ci95'][1]:.3f})"
        console.print(
            f"d ln E / d ln L at {fit['input_tok']:,.0f} input tokens, {fit['n']} lengths: "
            f"{fit['exponent']:.3f}{bounds}; {fit['note']}",
            soft_wrap=True,
        )


def _table(title: str, lines: list[Mapping[str, Any]]) -> Table:
    first = lines[0]
    source = f"watts: {first['power_source']}, {first['boundary']}"
    table = Table(title=f"{title} ({source})", header_style="bold")
    names = ("cell", "in flight", "TPS (tok/s)", "watts", "J/token ± 95%", "Wh/query", "queue", "verdict")
    for name in names[:-1]:
        table.add_column(name, justify="left" if name == "cell" else "right", overflow="fold")
    table.add_column(names[-1], overflow="fold", min_width=_LONGEST_CODE)
    for line in lines:
        table.add_row(
            line["cell"],
            str(line["concurrency"]),
            number(line["tps_tok_per_s"], ",.0f"),
            number(line["watts"], ",.1f"),
            _joules(line),
            _wh(line),
            number(line["queue_share"], ".0%"),
            line["verdict"] + (f": {', '.join(line['reasons'])}" if line["reasons"] else ""),
        )
    return table


def _wh(line: Mapping[str, Any]) -> str:
    """Return Wh/query, and of how many output tokens where the server chose them."""
    said, served_tok = number(line["wh_per_query"], ".4g"), line["served_output_tok"]
    return said if served_tok in (None, line["mean_output_tok"]) else f"{said} (of {served_tok:,.0f} tokens, as served)"


def _joules(line: Mapping[str, Any]) -> str:
    value, interval = line["joules_per_tok"], line["joules_per_tok_ci95"]
    return "n/a" if value is None or interval is None else f"{value:.4g} ± {(interval[1] - value) / value:.1%}"
