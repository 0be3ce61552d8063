"""``harness estimate``: Wh per query by Eq. 1 with the paper's distributions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import JsonFlag, print_json


def estimate(
    model: Annotated[
        str | None,
        typer.Option("--model", help="A model of Supplemental I, or 'baseline' for the pool above 200B."),
    ] = None,
    tps_model: Annotated[
        Path | None, typer.Option("--tps-model", help="TPS model file instead of a named model.")
    ] = None,
    regime: Annotated[str, typer.Option("--regime", help="traditional or test-time.")] = "traditional",
    preset: Annotated[str, typer.Option("--preset", help="oviedo2025-v1, oviedo2026-v2 or corrected.")] = "corrected",
    node_profile: Annotated[str, typer.Option("--node-profile", help="Node of a --tps-model.")] = "hgx-h100",
    samples: Annotated[int, typer.Option("--samples", min=100, help="Monte Carlo samples a model.")] = 1_000_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the draws.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Estimate Wh per query by Eq. 1 with the paper's distributions."""
    from harness.console.estimates import print_estimates
    from harness.studies.estimates import estimate_document

    document = estimate_document(model, tps_model, regime, preset, node_profile, samples, seed)
    if as_json:
        print_json(document)
    else:
        print_estimates(document)
