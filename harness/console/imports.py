"""Imported cells, for a person."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from harness.console.terminal import stdout_console
from results.imported import ImportedCell, ImportedCells


def print_import(document: ImportedCells, path: Path | None) -> None:
    """Print groups, cells and what the table leaves unknown."""
    console = stdout_console()
    groups: dict[tuple[str, str], list[ImportedCell]] = {}
    for cell in document.cells:
        groups.setdefault((cell.group, cell.task), []).append(cell)
    console.print(f"{document.source_file}: layout {document.layout}, {len(document.cells)} cells")
    console.print(f"licence: {document.licence}")
    names = sorted({cell.group for cell in document.cells})
    for number, name in enumerate(names, start=1):
        console.print(f"group {number}: {name}")
    table = Table(header_style="bold")
    table.add_column("group", justify="right")
    table.add_column("task", overflow="fold")
    for name in ("cells", "slots", "TPS (tok/s)", "W (gpu)", "output (tok)", "J/tok (gpu)"):
        table.add_column(name, justify="right")
    for (group, task), cells in sorted(groups.items()):
        table.add_row(
            str(names.index(group) + 1),
            task,
            str(len(cells)),
            _range([cell.concurrency_cap for cell in cells], ",.0f"),
            _range([cell.tps_tok_per_s for cell in cells], ",.0f"),
            _range([cell.watts for cell in cells], ",.0f"),
            _range([cell.mean_output_tok for cell in cells], ",.0f"),
            _range([cell.joules_per_tok for cell in cells], ".3g"),
        )
    console.print(table)
    for note in document.notes:
        console.print(f"note: {note}")
    for note in dict.fromkeys(note for cell in document.cells for note in cell.notes):
        console.print(f"note: {note}: rows {', '.join(str(c.row) for c in document.cells if note in c.notes)}")
    fate = "not written: give --out to keep them" if path is None else f"written to {path}; harness compare {path}"
    console.print(fate, soft_wrap=True)


def _range(values: list[float | None] | list[int | None] | list[float], form: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "unknown"
    low, high = format(min(known), form), format(max(known), form)
    return low if low == high else f"{low} to {high}"
