"""The table of all claims, for a person."""

from __future__ import annotations

from typing import Any, get_args

from rich.box import SIMPLE_HEAD
from rich.table import Table

from estimator.reproduction.claims import Kind
from harness.console.terminal import stdout_console

_TITLES = {
    "computed": "Computed: figures that follow from others",
    "input": "Inputs: parameters as published and as used",
    "benchmark": "Benchmark: properties of the throughput table S.I",
    "reference": "References: figures of others, each with its own boundary",
    "external": "External: figures from literature, beyond any estimator",
}


def print_reproduction(document: dict[str, Any]) -> None:
    """Print how much is reproduced, then the claims by their kind."""
    console = stdout_console()
    summary = document["summary"]
    console.print(
        f"{summary['computed']} computed claims: {summary['within 10%']} within 10%, {summary['limit holds']} stated "
        f"as limits that hold, {summary['differs']} differ by more, {summary['not computed']} cannot be computed"
    )
    for kind in get_args(Kind):
        entries = [entry for entry in document["claims"] if entry["kind"] == kind]
        console.print()
        console.print(_table(_TITLES[kind], entries))
    console.print(
        f"± is the Monte Carlo standard error of {document['samples_per_model']:,} samples a model; values without it "
        "are exact. Ratio is ours over published. Where the published quantiles are of trimmed samples, so are ours, "
        "and those of all samples stand below. Claims of version 2 are drawn by preset oviedo2026-v2, all others by "
        "oviedo2025-v1."
    )


def _table(title: str, entries: list[dict[str, Any]]) -> Table:
    computed = any(entry["ours"] is not None for entry in entries)
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("claim", width=27)
    table.add_column("published", justify="right", width=15)
    if computed:
        table.add_column("ours", justify="right", width=17)
        table.add_column("ratio", justify="right", width=11)
    table.add_column("note")
    previous = ""
    for entry in entries:
        ours = (_ours(entry), _figures(entry["ratio"], ".2f")) if computed else ()
        note = _note(entry)
        repeated = note and note == previous
        style = "bold" if entry["verdict"] == "differs" and entry["kind"] == "computed" else None
        table.add_row(entry["id"], _published(entry), *ours, "as above" if repeated else note, style=style)
        previous = note
    return table


def _note(entry: dict[str, Any]) -> str:
    note = str(entry["note"])
    return f"Boundary: {entry['boundary']}. {note}" if entry["kind"] == "reference" else note


def _published(entry: dict[str, Any]) -> str:
    limit = {"lower": "> ", "upper": "< ", None: ""}[entry["bound"]]
    unit = "" if entry["unit"] == "1" else f" {entry['unit']}"
    return f"{limit}{_figures(entry['published'], ',.6g')}{unit}"


def _ours(entry: dict[str, Any]) -> str:
    shown = _figures(entry["ours"], ",.4g")
    if entry["ours_se"] is not None:
        pairs = zip(_listed(entry["ours_se"]), _listed(entry["ours"]), strict=True)
        shown += f" ±{max(abs(error / value) for error, value in pairs):.1%}"
    if "ours_untrimmed" in entry:
        shown += f"\n(all: {_figures(entry['ours_untrimmed'], ',.4g')})"
    return shown


def _figures(values: float | list[float] | None, spec: str) -> str:
    """Format one value or a range; whole numbers where there are many digits before the point."""
    if values is None:
        return "–"
    return "–".join(f"{value:,.0f}" if abs(value) >= 1e3 else format(value, spec) for value in _listed(values))


def _listed(values: float | list[float]) -> list[float]:
    return values if isinstance(values, list) else [values]
