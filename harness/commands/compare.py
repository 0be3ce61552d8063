"""``harness compare``: a stored run again, or many cells beside their predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import JsonFlag, print_json


def compare(
    inputs: Annotated[list[Path], typer.Argument(help="Run folders of harness stress, and files of harness import.")],
    assume_input_tok: Annotated[
        int, typer.Option(help="Input length taken where imported cells do not publish one (the paper's by default).")
    ] = 500,
    regime: Annotated[
        list[str] | None,
        typer.Option(help="[TASK=]traditional or test-time: predict imported cells at the paper's lengths."),
    ] = None,
    tps_model: Annotated[
        Path | None, typer.Option(help="TPS model file for imported cells, as left by harness refit.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Draw ln(measured / predicted) by term and group to a .png or .svg file.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Repeat the comparison of one stored run; or compare many runs and imported cells with their predictions."""
    from harness.studies.across import agreement_document, compares_across, draw_agreement

    if not compares_across(inputs) and figure is None:
        _one_run(inputs[0], as_json)
        return
    from harness.console.across import print_agreement
    from harness.studies.checks import check_figure

    if figure is not None:
        check_figure(figure, "--figure")
    document = agreement_document(inputs, assume_input_tok=assume_input_tok, regimes=regime or (), tps_model=tps_model)
    if figure is not None:
        draw_agreement(document, figure)
    if as_json:
        print_json(document)
    else:
        print_agreement(document)


def _one_run(folder: Path, as_json: bool) -> None:
    from harness.analysis import analyse_run
    from harness.console.run import print_result
    from harness.console.terminal import stdout_console

    result = analyse_run(folder)
    if as_json:
        print_json(result.to_json())
    else:
        print_result(result, stdout_console())
