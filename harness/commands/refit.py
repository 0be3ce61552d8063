"""``harness refit``: a TPS model from measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import JsonFlag


def refit(
    runs: Annotated[list[Path], typer.Argument(help="Run folders with fixed-length cells.")],
    out: Annotated[Path, typer.Option("--out", help="Model file to write.")] = Path("tps-model.json"),
    form: Annotated[str, typer.Option("--form", help="oviedo (the paper's) or total_length.")] = "oviedo",
    as_json: JsonFlag = False,
) -> None:
    """Fit a TPS model to measured runs and write it for --tps-model."""
    from harness.console.refit import print_tps_model
    from harness.studies.refit import refit_to_file

    model = refit_to_file(runs, form, out)
    if as_json:
        typer.echo(model.to_json())
    else:
        print_tps_model(model, out)
