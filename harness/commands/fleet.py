"""``harness fleet``: energy per day of a fleet, beta * N * mean(E), with its parts and references."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import (
    AlphaOption,
    InterventionOption,
    JsonFlag,
    PresetOption,
    SeedOption,
    WorkersOption,
    print_json,
)


def fleet(
    queries: Annotated[float, typer.Option("--queries", help="Queries a day.")] = 1e9,
    long_share: Annotated[
        float, typer.Option("--long-share", help="Share of them that are long (test-time, or --task), 0 to 1.")
    ] = 0.0,
    model: Annotated[
        str, typer.Option("--model", help="A model of Supplemental I, or 'baseline': those above 200B in equal shares.")
    ] = "baseline",
    task: Annotated[
        str | None,
        typer.Option("--task", help="Long queries are such tasks: agentic-coding, hard-problem, FILE.yaml."),
    ] = None,
    preset: PresetOption = "corrected",
    load_shape: Annotated[
        str | None,
        typer.Option("--load-shape", help="LOW-HIGH utilisation of the daily sinusoid. Default: 0.5-1.0."),
    ] = None,
    idle_kw: Annotated[
        float | None, typer.Option("--idle-kw", help="Node without load in beta. Default: the preset's.")
    ] = None,
    peak_kw: Annotated[
        float | None, typer.Option("--peak-kw", help="Node at full load in beta. Default: the preset's P_max.")
    ] = None,
    redundancy: Annotated[
        str | None,
        typer.Option("--redundancy", help="Factor for redundant nodes, or its P5-P95. Default: 1.10."),
    ] = None,
    network: Annotated[
        str | None, typer.Option("--network", help="Factor for the interconnect, or its P5-P95. Default: 1.12.")
    ] = None,
    intervention: InterventionOption = None,
    alpha: AlphaOption = None,
    water_l_per_kwh: Annotated[
        str | None,
        typer.Option("--water-l-per-kwh", help="Litres per kWh at the facility's meter, or their P5-P95."),
    ] = None,
    carbon_g_per_kwh: Annotated[
        str | None,
        typer.Option("--carbon-g-per-kwh", help="Grams CO2e per kWh there, or their P5-P95."),
    ] = None,
    samples: Annotated[
        float, typer.Option("--samples", help="Monte Carlo samples of single queries, in all; such as 1e9.")
    ] = 1e7,
    seed: SeedOption = 0,
    workers: WorkersOption = None,
    figure: Annotated[
        Path | None, typer.Option("--figure", help="Write the paper's Figure 3 of this fleet as PNG or SVG.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Estimate the energy per day of a fleet: beta * N * mean(E), with its parts and references."""
    from harness.console.fleet import print_fleet
    from harness.studies.fleet import fleet_document, write_figure_3
    from harness.studies.fleet_options import FleetOptions

    options = FleetOptions(
        queries=queries,
        long_share=long_share,
        model=model,
        task=task,
        preset=preset,
        load_shape=load_shape,
        idle_kw=idle_kw,
        peak_kw=peak_kw,
        redundancy=redundancy,
        network=network,
        gains=(*(intervention or ()), *(alpha or ())),
        water_l_per_kwh=water_l_per_kwh,
        carbon_g_per_kwh=carbon_g_per_kwh,
        samples=samples,
        seed=seed,
        workers=workers,
    )
    if figure is not None:
        write_figure_3(options, figure)
    document = fleet_document(options)
    if as_json:
        print_json(document)
    else:
        print_fleet(document)
