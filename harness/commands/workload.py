"""``harness workload describe``: what is in a trace or a named workload."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import JsonFlag, print_json

workload = typer.Typer(help="Look at workloads.", no_args_is_help=True)


@workload.callback()
def _workloads() -> None:
    """Look at workloads."""


@workload.command()
def describe(
    name: Annotated[
        str,
        typer.Argument(
            metavar="FILE_OR_NAME",
            help="A trace (FILE, or azure:, mooncake:, burstgpt:, sharegpt: or vllm:FILE) or any other --workload.",
        ),
    ],
    multiplier: Annotated[float, typer.Option("--multiplier", help="Output-length multiplier.")] = 1.0,
    context_tok: Annotated[
        list[int] | None,
        typer.Option("--context-tok", help="Context to tell the share beyond it (repeatable). Default: 8k, 32k, 128k."),
    ] = None,
    figure: Annotated[Path | None, typer.Option("--figure", help="Write it as a figure, PNG or SVG.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what is in a workload: requests, rate over time, lengths, burstiness, beside the paper's two regimes."""
    from harness.console.workload import print_workload
    from harness.studies.workload import CONTEXTS_TOK, study_workload

    contexts_tok = context_tok or CONTEXTS_TOK
    document = study_workload(name, multiplier=multiplier, contexts_tok=contexts_tok, figure=figure).document
    if as_json:
        print_json(document)
    else:
        print_workload(document)
