"""The command ``harness report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import JsonFlag, print_json


def report(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Folders of harness stress, sweep or repeats; files of harness refit are drawn beside them.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="HTML file to write; one that is there is replaced.")] = Path(
        "report.html"
    ),
    as_json: JsonFlag = False,
) -> None:
    """Write one self-contained HTML page of one or several stored runs."""
    from harness.console.report import print_report
    from harness.studies.report import write_report

    document = write_report(inputs, out)
    if as_json:
        print_json(document)
    else:
        print_report(document)
