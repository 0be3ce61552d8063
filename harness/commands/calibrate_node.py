"""``harness calibrate-node``: fit a node's power model to a meter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import JsonFlag, finite, print_json


def calibrate_node(
    out: Annotated[Path, typer.Option("--out", help="YAML file that receives the node profile.")],
    command: Annotated[
        list[str] | None,
        typer.Argument(help="After --: command that loads the node; {level} and $HARNESS_LEVEL are 1, 2, ..."),
    ] = None,
    meter: Annotated[
        str | None, typer.Option("--meter", help="redfish, redfish:URL, ipmi, hwmon, hwmon:NAME/LABEL or replay:FILE.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option("--from", help="CSV with t_s, gpu_w, node_w, level, instead of measuring.")
    ] = None,
    levels: Annotated[int, typer.Option("--levels", min=1, help="Loads beside idle.")] = 3,
    seconds: Annotated[
        float, typer.Option("--seconds", min=1, callback=finite, help="Seconds to measure at each level.")
    ] = 60.0,
    settle: Annotated[
        float, typer.Option("--settle", min=0, callback=finite, help="Seconds at the start of each level to leave out.")
    ] = 20.0,
    gpu_power: Annotated[str, typer.Option("--gpu-power", help="nvml or replay:FILE.")] = "nvml",
    gpu_name: Annotated[str | None, typer.Option("--gpu-name", help="NVML name of the GPUs, if not read now.")] = None,
    gpu_count: Annotated[
        int | None, typer.Option("--gpu-count", min=1, help="GPUs of the whole node, if not read now.")
    ] = None,
    gpu_limit: Annotated[
        float | None, typer.Option("--gpu-limit", min=1, help="Power limit of one GPU in W, if not read now.")
    ] = None,
    p_max: Annotated[
        float | None, typer.Option("--p-max", min=0.001, help="Maximum power of the node in kW, if known.")
    ] = None,
    meter_accuracy: Annotated[
        float | None, typer.Option("--meter-accuracy", min=0, help="Accuracy of the meter as +-PERCENT of its reading.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the profile. Default: the file's.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Fit P_node = a + b x GPU power to a node's own meter, at idle and under a few loads, with uncertainties."""
    from harness.console.calibrate_node import print_calibration
    from harness.console.terminal import Progress
    from harness.studies import calibrate_node as study

    options = study.CalibrationOptions(
        meter=meter,
        record=record,
        levels=levels,
        seconds=seconds,
        settle=settle,
        command=tuple(command or ()),
        gpu_power=gpu_power,
        gpu_name=gpu_name,
        gpu_count=gpu_count,
        gpu_limit_w=gpu_limit,
        p_max_kw=p_max,
        meter_accuracy_pct=meter_accuracy,
        name=name,
        out=out,
    )
    document = study.calibrate_node(options, Progress().say)
    if as_json:
        print_json(document)
    else:
        print_calibration(document)
