"""The command ``harness exporter``."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.commands.options import finite


def exporter(
    url: Annotated[
        list[str] | None, typer.Option("--url", help="vLLM server on this node, such as http://127.0.0.1:8000.")
    ] = None,
    metrics_address: Annotated[
        str, typer.Option("--metrics-address", help="HOST:PORT to serve the metrics on.")
    ] = "127.0.0.1:9477",
    power: Annotated[
        str, typer.Option("--power", help="GPU power: auto (NVML), nvml, simulated, replay:FILE or none.")
    ] = "auto",
    gpu: Annotated[
        list[str] | None, typer.Option("--gpu", help="GPU to export, by index or UUID. Default: all of the node.")
    ] = None,
    node_meter: Annotated[
        list[str] | None,
        typer.Option("--node-meter", help="Meter beside the GPUs: redfish, ipmi, hwmon, rapl or replay:FILE."),
    ] = None,
    node_profile: Annotated[
        str | None, typer.Option("--node-profile", help="Node profile: a shipped name or a YAML file.")
    ] = None,
    pue: Annotated[
        float | None, typer.Option("--pue", min=1, help="Measured PUE to multiply the energy of the node with.")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", min=0.1, callback=finite, help="End after so long. Default: at Ctrl-C or SIGTERM."),
    ] = None,
) -> None:
    """Export power and energy of a node for Prometheus while somebody else's traffic runs. No load is sent.

    Exit codes: 0 when it ended as asked, whatever was lost meanwhile; 2 bad options or a port in use; 3 nothing to
    measure; 7 when a sensor can no longer be read at all.
    """
    from harness.console.terminal import Progress
    from harness.node_exporter import ExporterOptions, run_exporter
    from harness.runner import run_interruptible

    options = ExporterOptions(
        urls=tuple(address.rstrip("/") for address in url or ()),
        metrics_address=metrics_address,
        power=power,
        gpus=tuple(gpu or ()),
        node_meters=tuple(node_meter or ()),
        node_profile=node_profile,
        pue=pue,
        seconds=seconds,
    )
    run_interruptible(run_exporter(options, Progress().say))
