"""Turn what was asked of the arrivals into an arrival that can be replayed: a trace needs its file and its lengths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from harness.errors import ConfigError, WorkloadError
from harness.load.arrival import Arrival, Timeline, parse_arrival
from workloads.traces import WorkloadFileError, read_azure, read_azure_times


def planned_arrival(
    text: str, workload: str | None, multiplier: float, context_tok: int | None, in_flight: int | Literal["auto"]
) -> Arrival:
    """Return the arrival that ``text`` names, for one cell; a number of ``in_flight`` limits an open loop."""
    arrival = parse_arrival(text)
    if arrival.kind == "trace":
        arrival = replace(arrival, timeline=_timeline(workload or "", multiplier, context_tok))
    return arrival if in_flight == "auto" else replace(arrival, max_in_flight=in_flight)


def _timeline(workload: str, multiplier: float, context_tok: int | None) -> Timeline:
    """Read a trace in the order of its times; outputs are multiplied and capped as in the cell's lengths."""
    kind, _, file = workload.partition(":")
    if kind != "azure" or not file:
        raise ConfigError(
            "arrival = trace needs a workload with recorded times", why=f"the workload is {workload or 'the default'}",
            fix="use --workload azure:FILE, or --arrival poisson:RATE",
        )  # fmt: skip
    try:
        shape, times_s = read_azure(Path(file)), read_azure_times(Path(file))
    except WorkloadFileError as error:
        raise WorkloadError(str(error)) from error
    output_tok = np.maximum(1, np.rint(shape.output_tok * multiplier)).astype(np.int64)
    if context_tok is not None:
        output_tok = np.minimum(output_tok, context_tok - shape.input_tok)
    order = np.argsort(times_s, kind="stable")
    columns = (times_s[order], shape.input_tok[order], output_tok[order])
    return Timeline(*(tuple(column.tolist()) for column in columns))
