"""The command ``harness measure``."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.commands.options import JsonFlag, QuietFlag, finite, print_json


def measure(
    command: Annotated[
        list[str] | None, typer.Argument(help="Command to measure, after --. It runs without a shell.")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            min=0.1,
            callback=finite,
            help="Measure so long; with a command, its first seconds. Default: to its end.",
        ),
    ] = None,
    power: Annotated[
        list[str] | None,
        typer.Option("--power", help="auto (NVML), nvml, simulated, redfish, ipmi, hwmon, rapl; several can be given."),
    ] = None,
    gpu: Annotated[
        list[str] | None,
        typer.Option(
            "--gpu", help="GPU to measure, by index or UUID. Default: those of CUDA_VISIBLE_DEVICES, else all."
        ),
    ] = None,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure the energy of a command, of a stretch of time, or until Ctrl-C.

    The command's exit code is passed on, and signals are passed on to it. With --json its output goes to stderr.
    """
    from harness.console.measure import print_measure
    from harness.console.measure_line import watch
    from harness.errors import MeasurementError
    from harness.studies.measure import MeasureOptions
    from harness.studies.measure import measure as run

    document = run(
        MeasureOptions(
            seconds=seconds,
            power=tuple(power or ("auto",)),
            gpu=tuple(gpu or ()),
            command=tuple(command or ()),
            stdout_to_stderr=as_json,
        ),
        watch(quiet=quiet, alone=not command),
    )
    if as_json:
        print_json(document)
    else:
        print_measure(document)
    if document["exit_code"] is not None:
        raise typer.Exit(document["exit_code"])
    if "stopped_early" in document["reasons"]:
        raise typer.Exit(128 + document["interrupted_by"])
    if document["verdict"] == "invalid":
        raise typer.Exit(MeasurementError.exit_code)
