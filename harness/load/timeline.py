"""Turn what was asked of the arrivals into an arrival that can be replayed: a trace needs its file and its lengths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from estimator.lengths import LengthDistribution
from harness.errors import ConfigError, WorkloadError
from harness.load.arrival import Arrival, Timeline, parse_arrival
from workloads.sample import ALL, BEGINNING, Stretch, read_stretch
from workloads.shapes import RecordedShape
from workloads.traces import WorkloadFileError, find_trace
from workloads.traces.formats import TIMED


def planned_arrival(
    arrival: Arrival,
    workload: str | None,
    multiplier: float,
    context_tok: int | None,
    in_flight: int | Literal["auto"],
) -> Arrival:
    """Return the arrival of one cell, with its times and lengths; a number of ``in_flight`` limits an open loop."""
    if arrival.kind == "trace":
        stretch = _stretch(workload or "", arrival.rate_per_s)
        lengths = _lengths(stretch, multiplier, context_tok)
        columns = (stretch.time_s, lengths.input_tok, lengths.output_tok)
        arrival = replace(arrival, timeline=Timeline(*(tuple(column.tolist()) for column in columns)))
    return arrival if in_flight == "auto" else replace(arrival, max_in_flight=in_flight)


def arrivals_definition(text: str, workload: str | None, usable: int | None) -> dict[str, Any] | None:
    """Return what of a trace of ``usable`` requests is replayed at its times, and how fast; ``None`` if nothing is.

    Raises ``ConfigError`` for a workload without recorded times, ``WorkloadError`` for a trace without usable ones.
    """
    arrival = parse_arrival(text)
    if arrival.kind != "trace":
        return None
    recorded = _stretch(workload or "", None)
    requests = int(recorded.time_s.size)
    return {
        "requests": requests,
        "of": usable,
        "rule": f"{ALL}, by time; from the start again at their end" if requests == usable else BEGINNING,
        "recorded_rate_per_s": recorded.rate_per_s,
        "rate_per_s": None if arrival.saturation_share is not None else arrival.rate_per_s or recorded.rate_per_s,
        "saturation_share": arrival.saturation_share,
    }


def _stretch(workload: str, rate_per_s: float | None) -> Stretch:
    """Read the requests of a trace in the order of their times, scaled to a rate where one is given."""
    try:
        trace = find_trace(workload)
        if trace is None or not trace.has_times:
            raise ConfigError(
                "arrival = trace needs a workload with recorded times",
                why=f"the workload is {workload or 'the default'}",
                fix=f"use --workload {', '.join(f'{kind}:FILE' for kind in TIMED)}, or --arrival poisson:RATE",
            )
        stretch = read_stretch(trace)
        return stretch if rate_per_s is None else stretch.at_rate(rate_per_s)
    except WorkloadFileError as error:
        raise WorkloadError(str(error)) from error
    except ValueError as error:
        raise WorkloadError(f"{workload}: {error}") from error


def _lengths(stretch: Stretch, multiplier: float, context_tok: int | None) -> LengthDistribution:
    """Return the lengths in the same order, outputs multiplied and capped to the context as the cell's are."""
    lengths = RecordedShape(stretch.input_tok, stretch.output_tok, {}).lengths(multiplier)
    if context_tok is None:
        return lengths
    try:
        return lengths.capped(context_tok)[0]
    except ValueError as error:
        raise WorkloadError(
            "the requests of the trace do not fit the server's context", why=str(error),
            fix="serve a longer context (--server-arg=--max-model-len=N) or choose a shorter workload",
        ) from error  # fmt: skip
