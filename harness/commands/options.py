"""What several commands share: common options, and the printing of a JSON document."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

import typer


def finite(number: float | None) -> float | None:
    """Return an option's number, or none; raises ``BadParameter`` for one that is not finite."""
    if number is not None and not math.isfinite(number):
        raise typer.BadParameter("give a finite number")
    return number


JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
QuietFlag = Annotated[
    bool, typer.Option("--quiet", help="No live view and no progress lines; errors and the result are still printed.")
]
PresetOption = Annotated[str, typer.Option("--preset", help="oviedo2025-v1, oviedo2026-v2 or corrected.")]
InterventionOption = Annotated[
    list[str] | None,
    typer.Option("--intervention", help="model, serving, hardware or line-of-sight; several multiply."),
]
AlphaOption = Annotated[
    list[str] | None, typer.Option("--alpha", help="Efficiency gain as P5-P95, such as 1.5-3; several multiply.")
]
SamplesOption = Annotated[
    float, typer.Option("--samples", help="Monte Carlo samples a model (of each case); a whole number, such as 1e6.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of the draws.")]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Threads; the answer does not depend on them. Default: all cores."),
]


def print_json(document: Any) -> None:
    """Print exactly one JSON document on standard output."""
    typer.echo(json.dumps(document, indent=2, allow_nan=False))
