"""``harness refit``: a TPS model from measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import JsonFlag, print_json


def refit(
    runs: Annotated[list[Path] | None, typer.Argument(help="Run folders with fixed-length cells.")] = None,
    table: Annotated[
        Path | None, typer.Option("--table", help="CSV table in the layout of the paper's Supplemental I.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Model to fit, where the rows are of several.")] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Keep only rows with this text in their source, such as an engine.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--form",
            help="oviedo (the paper's), total_length, hinged or roofline. Default: the smallest leave-one-out error.",
        ),
    ] = None,
    pooled: Annotated[
        bool, typer.Option("--pooled", help="Draw each model to the shape that the models of the table share.")
    ] = False,
    cap: Annotated[bool, typer.Option("--cap/--no-cap", help="Cap predictions at the largest observed TPS.")] = False,
    out: Annotated[Path, typer.Option("--out", help="TPS model file to write; one that is there is replaced.")] = Path(
        "tps-model.json"
    ),
    power_out: Annotated[
        Path | None, typer.Option("--power-out", help="Also write the line through TPS and node power.")
    ] = None,
    simulated_power: Annotated[
        bool, typer.Option("--simulated-power", help="Fit watts and joules of runs with simulated power too.")
    ] = False,
    figure: Annotated[Path | None, typer.Option("--figure", help="Write diagnostics as PNG or SVG.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Fit a TPS model to measured runs or a table, and write it for --tps-model."""
    from harness.console.refit import print_refit
    from harness.studies.refit import RefitOptions, refit

    options = RefitOptions(
        runs=tuple(runs or ()),
        table=table,
        model=model,
        source=source,
        form=form,
        pooled=pooled,
        cap=cap,
        out=out,
        power_out=power_out,
        figure=figure,
        simulated_power=simulated_power,
    )
    document = refit(options)
    if as_json:
        print_json(document)
    else:
        print_refit(document)
