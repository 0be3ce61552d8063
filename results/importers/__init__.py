"""Importers: tables of measurements made by others become cells of our schema, one module per layout."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from estimator.names import unknown_name_error
from results.imported import ImportedCell, ImportedCells
from results.importers import mlenergy, s1
from results.importers.table import Layout, Row, read_rows

_CELL_OF: dict[str, Callable[[Row], ImportedCell]] = {"mlenergy": mlenergy.cell_of, "s1": s1.cell_of}
LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (mlenergy.LAYOUT, s1.LAYOUT)}


def import_table(path: Path, layout_name: str | None = None) -> ImportedCells:
    """Return the cells of a CSV file, its layout told by the header unless named.

    Raises ValueError with the offending row and column, OSError where the file cannot be read.
    """
    content = path.read_bytes()
    try:
        header, rows = read_rows(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"this is not a text file in UTF-8: {error}") from error
    layout = _layout(header, layout_name)
    rows, repeats = _without_repeats(rows)
    ignored = [column for column in header if column not in layout.columns]
    return ImportedCells(
        layout=layout.name,
        source_file=path.name,
        source_sha256=hashlib.sha256(content).hexdigest(),
        source=layout.source,
        licence=layout.licence,
        notes=(*layout.notes, *repeats, *(f"column {column} is not used" for column in ignored)),
        cells=_identified([_CELL_OF[layout.name](row) for row in rows], rows),
    )


def _layout(header: list[str], name: str | None) -> Layout:
    if name is not None and name not in LAYOUTS:
        raise unknown_name_error("layout", name, LAYOUTS)
    known = LAYOUTS.values() if name is None else (LAYOUTS[name],)
    nearest = min(known, key=lambda layout: len(layout.missing(header)) / len(layout.columns))
    wrong, missing = nearest.wrong_units(header), nearest.missing(header)
    if wrong and len(missing) < len(nearest.columns) / 2:
        listed = "; ".join(f"{column}, where layout {nearest.name} has {known}" for column, known in wrong.items())
        raise ValueError(f"the header has a column with an unknown unit: {listed}")
    if missing:
        lacks = "; ".join(f"{layout.name} needs {', '.join(layout.missing(header))}" for layout in known)
        raise ValueError(f"the header matches no layout; columns missing: {lacks}")
    return nearest


def _without_repeats(rows: list[Row]) -> tuple[list[Row], list[str]]:
    """Leave out rows that repeat an earlier one in every value, with a note on each."""
    first: dict[str, Row] = {}
    notes = []
    for row in rows:
        earlier = first.setdefault(json.dumps(dict(row.values)), row)
        if earlier is not row:
            notes.append(f"row {row.number} repeats row {earlier.number} in every value and is left out")
    return list(first.values()), notes


def _identified(cells: list[ImportedCell], rows: list[Row]) -> tuple[ImportedCell, ...]:
    """Give cells that state the same server, model, task and cap an id of their own, from the row's content."""
    count = Counter(cell.id for cell in cells)
    return tuple(
        cell if count[cell.id] == 1 else _told_apart(cell, row, count[cell.id])
        for cell, row in zip(cells, rows, strict=True)
    )


def _told_apart(cell: ImportedCell, row: Row, same: int) -> ImportedCell:
    digest = hashlib.sha256(json.dumps(dict(row.values), sort_keys=True).encode()).hexdigest()[:8]
    note = f"{same} rows state this server, model, task and cap: they differ in a setting that is not published"
    return cell.model_copy(update={"id": f"{cell.id}/{digest}", "notes": (*cell.notes, note)})
