"""The measured gain of one setting, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from harness.console.terminal import stdout_console


def print_lever(document: Mapping[str, Any]) -> None:
    """Print what was changed, alpha by cell beside the paper's range, and what a reader must know."""
    console = stdout_console()
    for label in document["labels"]:
        console.print(f"! {label}", style="bold")
    console.print(f"lever {document['lever']}, A to B:", style="bold")
    for setting in document["settings"]:
        console.print(f"  {setting['key']}: {setting['before']!r} to {setting['after']!r}")
    paper = document["paper"]
    stated = "none" if paper is None else f"{_range(paper)}: {paper['says']} ({paper['source']})"
    console.print(f"the paper's range: {stated}", soft_wrap=True)
    source = f"{document['power_source']}, {document['boundary']}"
    table = Table(header_style="bold")
    for name in ("cell", "in flight A / B", "alpha of TPS", f"alpha of energy ({source})", "verdicts A / B"):
        table.add_column(name, justify="left" if name == "cell" else "right")
    for cell in document["cells"]:
        table.add_row(
            cell["workload"] + ("" if cell["role"] == "compared" else f" ({cell['role']})"),
            " / ".join(",".join(map(str, side)) for side in cell["concurrency"]),
            _alpha(cell["alpha_tps"], cell["why_missing"]),
            _alpha(cell["alpha_energy"], cell["why_missing"]),
            " / ".join(", ".join(sorted(set(side))) for side in cell["verdicts"]),
        )
    console.print(table)
    for note in document["notes"]:
        console.print(f"- {note}", soft_wrap=True)


def _range(paper: Mapping[str, Any]) -> str:
    return f"over {paper['low']:g}" if paper["high"] is None else f"{paper['low']:g} to {paper['high']:g}"


def _alpha(alpha: Mapping[str, Any] | None, why: str | None) -> str:
    if alpha is None:
        return why or "not measured"
    interval = "" if alpha["ci95"] is None else f" (95% {alpha['ci95'][0]:.3g} to {alpha['ci95'][1]:.3g})"
    against = "" if alpha["against_paper"] is None else f", {alpha['against_paper']} the paper's range"
    return f"{alpha['value']:.3g}{interval}{against}"
