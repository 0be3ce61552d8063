"""Turn a table of measurements made by others into a file of cells."""

from __future__ import annotations

import json
from pathlib import Path

from harness.errors import StoreError, WorkloadError
from results.imported import ImportedCells
from results.importers import LAYOUTS, import_table

CELLS_SUFFIX = ".cells.json"


def import_document(file: Path, layout: str | None) -> ImportedCells:
    """Return the cells of a table; raises ``WorkloadError`` with the offending row, column or layout."""
    try:
        return import_table(file, layout)
    except OSError as error:
        raise WorkloadError(f"cannot read {file}", why=error.strerror or str(error)) from error
    except ValueError as error:
        raise WorkloadError(
            f"cannot import {file}",
            why=str(error),
            fix=f"the layouts are {', '.join(LAYOUTS)}; units stand in the header",
        ) from error


def write_cells(cells: ImportedCells, out: Path) -> Path:
    """Write the cells to a .json file, or to a file named after the table in the folder ``out``; returns its path."""
    path = out if out.suffix == ".json" else out / f"{Path(cells.source_file).stem}{CELLS_SUFFIX}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(cells.to_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"cannot write {path}", why=error.strerror or str(error), fix="choose another --out"
        ) from error
    return path
