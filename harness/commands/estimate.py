"""``harness estimate``: Wh per query by Eq. 1 with the paper's distributions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import (
    AlphaOption,
    InterventionOption,
    JsonFlag,
    PresetOption,
    SamplesOption,
    SeedOption,
    WorkersOption,
    print_json,
)


def estimate(
    model: Annotated[
        str | None,
        typer.Option("--model", help="A model of Supplemental I, or 'baseline' for the pool above 200B. Default: all."),
    ] = None,
    tps_model: Annotated[
        Path | None, typer.Option("--tps-model", help="TPS model file instead of a named model.")
    ] = None,
    regime: Annotated[
        str | None, typer.Option("--regime", help="traditional or test-time. Default: traditional.")
    ] = None,
    workload: Annotated[
        str | None, typer.Option("--workload", help="Workload instead of a regime, as for harness stress.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", help="Tasks of several steps instead: agentic-coding, hard-problem, FILE.yaml."),
    ] = None,
    multiplier: Annotated[float, typer.Option("--multiplier", help="Factor on the output lengths.")] = 1.0,
    preset: PresetOption = "corrected",
    boundary: Annotated[
        str, typer.Option("--boundary", help="gpu, node, or node-pue (the node times PUE).")
    ] = "node-pue",
    power_model: Annotated[
        str,
        typer.Option(
            "--power-model",
            help="independent of TPS, proportional to it (S.IV), or a FILE.json of measured pairs from refit.",
        ),
    ] = "independent",
    intervention: InterventionOption = None,
    alpha: AlphaOption = None,
    node_profile: Annotated[
        str, typer.Option("--node-profile", help="Node of a --tps-model, and GPU limits of --boundary gpu.")
    ] = "hgx-h100",
    samples: SamplesOption = 1e6,
    seed: SeedOption = 0,
    workers: WorkersOption = None,
    figure_1: Annotated[
        Path | None, typer.Option("--figure-1", help="Write the paper's Figure 1 (all models) as PNG or SVG.")
    ] = None,
    figure_2: Annotated[
        Path | None, typer.Option("--figure-2", help="Write the paper's Figure 2 (gains of the pool) as PNG or SVG.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Estimate Wh per query by Eq. 1 with the paper's distributions."""
    from harness.console.estimates import print_estimates
    from harness.studies.estimates import EstimateOptions, estimate_document

    options = EstimateOptions(
        model=model,
        tps_model=tps_model,
        regime=regime,
        workload=workload,
        task=task,
        multiplier=multiplier,
        preset=preset,
        boundary=boundary,
        power_model=power_model,
        gains=(*(intervention or ()), *(alpha or ())),
        node_profile=node_profile,
        samples=samples,
        seed=seed,
        workers=workers,
    )
    if figure_1 or figure_2:
        from harness.studies.estimate_figures import check_figures, write_figure_1, write_figure_2

        check_figures(options, {"--figure-1": figure_1, "--figure-2": figure_2})
    document = estimate_document(options)
    if figure_1 or figure_2:
        for path, write in ((figure_1, write_figure_1), (figure_2, write_figure_2)):
            if path is not None:
                write(options, path)
    if as_json:
        print_json(document)
    else:
        print_estimates(document)
