"""``harness compare``: a stored run or sweep again, or many cells beside their predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import JsonFlag, print_json


def compare(
    inputs: Annotated[
        list[Path], typer.Argument(help="Run folders of harness stress or sweep, and files of harness import.")
    ],
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
    lever: Annotated[
        str | None,
        typer.Option(
            help="Two runs A B: what this setting gains from A to B. weights, kv-dtype, speculation, batch-limit, "
            "prefix-cache, power-cap, a --SERVER-ARGUMENT, or 'any' for whichever one differs."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Repeat the comparison of one stored run, sweep or repeats; compare many cells with predictions; or two runs."""
    if lever is not None:
        _lever(inputs, lever, as_json)
        return
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


def _lever(inputs: list[Path], lever: str, as_json: bool) -> None:
    from harness.console.levers import print_lever
    from harness.errors import ConfigError
    from harness.studies.levers import lever_document

    if len(inputs) != 2:
        raise ConfigError(f"--lever compares two runs, not {len(inputs)}", fix="give A and B, the one before first")
    document = lever_document(inputs[0], inputs[1], lever)
    if as_json:
        print_json(document)
    else:
        print_lever(document)


def _one_run(folder: Path, as_json: bool) -> None:
    from harness.repeats import REPEATS_FILE, read_repeats

    if (folder / REPEATS_FILE).is_file():
        from harness.console.repeats import print_repeats

        document = read_repeats(folder)
        if as_json:
            print_json(document)
        else:
            print_repeats(document)
        return
    from harness.analysis.run import analyse_run, open_run
    from harness.console.run import print_result
    from harness.console.terminal import stdout_console
    from harness.studies.sweeps import is_sweep

    if is_sweep(open_run(folder)[1]):
        _one_sweep(folder, as_json)
        return
    result = analyse_run(folder)
    if as_json:
        print_json(result.to_json())
    else:
        print_result(result, stdout_console())


def _one_sweep(folder: Path, as_json: bool) -> None:
    from harness.console.sweep import print_sweep
    from harness.studies.sweeps import sweep_document

    document = sweep_document(folder)
    if as_json:
        print_json(document)
    else:
        print_sweep(document)
