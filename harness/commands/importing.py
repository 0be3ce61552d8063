"""``harness import``: measurements made by others become cells that ``compare`` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import JsonFlag, print_json


def import_(
    file: Annotated[Path, typer.Argument(help="CSV table whose header names the units.")],
    layout: Annotated[
        str | None, typer.Option(help="Layout of the table: mlenergy or s1. Told by the header if not given.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the cells to this .json file, or into this folder.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check a table of published measurements and turn its rows into cells of our schema."""
    from harness.console.imports import print_import
    from harness.console.terminal import Progress
    from harness.studies.imports import import_document, write_cells

    cells = import_document(file, layout)
    path = None if out is None else write_cells(cells, out)
    if as_json:
        print_json(cells.to_json())
        if path is not None:
            Progress().say(f"written to {path}")
    else:
        print_import(cells, path)
