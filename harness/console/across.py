"""The agreement of predictions and measurements across cells, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.console.terminal import stdout_console
from harness.console.words import number

SETS = {
    "largest_tps": "the largest TPS of each ladder",
    "saturation_proven": "only where saturation is proven",
}
TERM_NAMES = {"power": "power", "tps": "TPS", "length": "length", "pue": "PUE", "total": "total"}


def print_agreement(document: Mapping[str, Any]) -> None:
    """Print the summary first, then the ladders."""
    console = stdout_console()
    if not document["summaries"]:
        console.print("no cell can enter a summary")
    for summary in document["summaries"]:
        console.print(f"Boundary {summary['boundary']}", style="bold")
        for key, name in SETS.items():
            _print_tally(console, name, summary[key])
    _print_smallest_cap(console, document["energy_at_smallest_cap"])
    groups = sorted({ladder["group"] for ladder in document["ladders"]})
    for place, group in enumerate(groups, start=1):
        console.print(f"group {place}: {group}")
    console.print(_ladder_table(document["ladders"], groups))
    left_out = [cell for cell in document["cells"] if cell["left_out"]]
    for cell in left_out:
        console.print(f"left out: {cell['cell']}: {cell['left_out']}")
    assumed = document["assumed_input_tok"]
    console.print(f"input lengths that are not published are taken as {assumed} tok; --json has every cell and note")
    for place, rule in enumerate(document["rules"], start=1):
        console.print(f"[{place}] {rule}", soft_wrap=True)


def _print_tally(console: Console, name: str, tally: Mapping[str, Any]) -> None:
    coverage = tally["coverage"]
    console.print(f"  over {name}: {tally['n_groups']} (server, model) groups, {tally['n_ladders']} ladders")
    width = coverage["median_p95_over_p5"]
    console.print(
        f"    {coverage['interval']} covers {_proportion(coverage)}; nominal {coverage['nominal']:.0%}"
        + ("" if width is None else f"; P95 is {width:.3g} times P5 (median)"),
        soft_wrap=True,
    )
    console.print("    ln(measured / predicted) over groups:")
    for term, title in TERM_NAMES.items():
        console.print(f"      {title:<7}{_moments(tally['ln_ratio'][term])}", soft_wrap=True)
    shares = tally["gpu_power_share_of_limit"]
    if shares["quantiles"]:
        prior, quantiles = shares["prior"], shares["quantiles"]
        console.print(
            f"    GPU power as a share of its limit: median {quantiles['p50']:.2f}, P5-P95 {quantiles['p5']:.2f} to "
            f"{quantiles['p95']:.2f}; {_proportion(shares['inside_prior_p5_p95'])} inside the prior's "
            f"{prior['p5']:g} to {prior['p95']:g}; ln over its median {_moments(shares['ln_over_prior_median'])}",
            soft_wrap=True,
        )


def _print_smallest_cap(console: Console, ratios: Mapping[str, Any]) -> None:
    if not ratios["n_ladders"]:
        return
    claim = ratios["claim"]
    console.print("J/token at the smallest cap over that at the largest TPS", style="bold")
    console.print(
        f"  {ratios['smallest']:.2f} to {ratios['largest']:.2f}, median {ratios['median']:.2f}, over "
        f"{ratios['n_ladders']} ladders: {ratios['below_claim']} below, {ratios['inside_claim']['k']} inside and "
        f"{ratios['above_claim']} above {claim['low']:g} to {claim['high']:g}",
        soft_wrap=True,
    )
    console.print(f"  {claim['note']}", soft_wrap=True)


def _ladder_table(ladders: list[Mapping[str, Any]], groups: list[str]) -> Table:
    table = Table(
        title="the largest TPS of each ladder: ln(measured / predicted) by term; J/token at the smallest cap over here",
        header_style="bold",
    )
    table.add_column("group", justify="right")
    table.add_column("task", overflow="fold")
    for name in ("slots", "saturation", "tok/s", "W/limit", "power", "TPS", "length", "total", "P5-P95", "J/J"):
        table.add_column(name, justify="right", overflow="fold")
    for ladder in ladders:
        terms = ladder["ln_ratio"]
        table.add_row(
            str(groups.index(ladder["group"]) + 1),
            ladder["task"],
            number(ladder["concurrency_cap"], "d"),
            ladder["saturation"],
            number(ladder["tps_tok_per_s"], ",.0f"),
            number(ladder["gpu_power_share_of_limit"], ".2f"),
            *(number(terms[term], "+.2f") for term in ("power", "tps", "length", "total")),
            {True: "inside", False: "outside", None: "n/a"}[ladder["inside_p5_p95"]],
            number(ladder["smallest_cap_over_saturation"], ".2f"),
        )
    return table


def _moments(figures: Mapping[str, Any]) -> str:
    if figures["n"] == 0:
        text = "unknown, n = 0"
    elif figures["sd"] is None:
        text = f"bias {figures['mean']:+.3f}, n = 1: no spread"
    else:
        text = (
            f"bias {figures['mean']:+.3f} ± {figures['standard_error']:.3f}, spread {figures['sd']:.3f} ± "
            f"{figures['sd_standard_error']:.3f} (standard errors), n = {figures['n']}"
        )
    reasons = [f"{count}x {reason}" for reason, count in figures.get("ladders_left_out", {}).items()]
    notes = [note for note in (figures.get("note"), *reasons) if note]
    return text + (f"; {'; '.join(notes)}" if notes else "")


def _proportion(figures: Mapping[str, Any]) -> str:
    return (
        f"{figures['k']} of {figures['n']} groups (exact {figures['level']:.0%} interval {figures['low']:.0%} to "
        f"{figures['high']:.0%})"
    )
