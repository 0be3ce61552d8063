"""Say what is in a trace or a named workload, beside the paper's two regimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from estimator.presets import Regime, get_preset
from harness.errors import ConfigError, WorkloadError
from harness.prediction import PRESET
from harness.studies.checks import check_multiplier
from harness.studies.figure_file import write_figure
from results.figures.style import check_figure_path
from results.figures.workload import Rate, workload_figure
from workloads.replayed_tasks import TaskLengths, TaskReplay
from workloads.sample import BEGINNING, MOST_REQUESTS, UNIFORM
from workloads.shapes import ExponentialShape
from workloads.spec import Workload, WorkloadNameError, load_workload
from workloads.summary import RATE_BINS, ArrivalSummary, LengthSummary, Spread, TraceSummary, summarise
from workloads.traces import Trace, WorkloadFileError, find_trace, recognised
from workloads.traces.formats import DESCRIPTIONS
from workloads.traces.sharegpt import ONE_TURN
from workloads.traces.stream import NO_INPUT, NO_OUTPUT, sha256_of

WORKLOAD_SCHEMA = "inference-energy/workload/1"
CONTEXTS_TOK = (8_192, 32_768, 131_072)
QUANTILES = {"p5": 0.05, "p25": 0.25, "p50": 0.50, "p75": 0.75, "p95": 0.95, "p99": 0.99, "max": 1.0}
REGIMES: tuple[Regime, ...] = ("traditional", "test-time")
EXPONENTIAL = "exponential"
COARSE_SHARE = 0.05
"""From so many requests at the time of the one before, recorded times are called coarse."""

_UNUSABLE = {
    NO_OUTPUT: "without output tokens (in BurstGPT: failed requests)",
    NO_INPUT: "without input tokens",
    ONE_TURN: "of fewer than two turns",
}


@dataclass(frozen=True)
class WorkloadStudy:
    """A workload that was read: the document about it, and its lengths beside those of the regimes."""

    document: dict[str, Any]
    lengths: Mapping[str, LengthSummary]

    def write_figure(self, path: Path) -> None:
        """Draw the rate over time and the lengths; raises ``StoreError`` where the file cannot be written."""
        arrivals = self.document["arrivals"]
        known = arrivals is not None and arrivals["rate_per_s_by_bin"] is not None
        rate = Rate(arrivals["bin_s"], arrivals["rate_per_s_by_bin"]) if known else None
        panels = {
            "input": {name: each.input for name, each in self.lengths.items()},
            "output": {name: each.output for name, each in self.lengths.items()},
        }
        times = "" if self.document["multiplier"] == 1 else f", outputs x {self.document['multiplier']:g}"
        write_figure(workload_figure(f"{self.document['name']}{times}", rate, panels), path)


def study_workload(
    text: str, *, multiplier: float = 1.0, contexts_tok: Sequence[int] = CONTEXTS_TOK, figure: Path | None = None
) -> WorkloadStudy:
    """Read the workload or the file that ``text`` names, and draw it to ``figure`` if one is given.

    Raises ``ConfigError`` for an unknown name or an option out of range, ``WorkloadError`` for a bad file.
    """
    _check(multiplier, contexts_tok, figure)
    try:
        trace = _trace(text)
        entry, lengths = _of_name(text, multiplier) if trace is None else _of_trace(trace, multiplier)
    except WorkloadFileError as error:
        raise WorkloadError(str(error)) from error
    except WorkloadNameError as error:
        raise ConfigError(str(error)) from error
    preset = get_preset(PRESET)
    regimes: dict[str, LengthSummary] = {name: LengthSummary.of(preset.lengths(name)) for name in REGIMES}
    document = {
        "schema": WORKLOAD_SCHEMA,
        **entry,
        "multiplier": multiplier,
        "lengths": _lengths_entry(lengths, contexts_tok, bounded=entry["kind"] != EXPONENTIAL),
        "regimes": {name: _lengths_entry(each, contexts_tok, bounded=False) for name, each in regimes.items()},
    }
    study = WorkloadStudy(document, {"this workload": lengths, **regimes})
    if figure is not None:
        study.write_figure(figure)
    return study


def _check(multiplier: float, contexts_tok: Sequence[int], figure: Path | None) -> None:
    check_multiplier(multiplier)
    if min(contexts_tok) < 1:
        raise ConfigError(f"context-tok = {min(contexts_tok)}: a context has at least 1 token")
    try:
        if figure is not None:
            check_figure_path(figure)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _trace(text: str) -> Trace | None:
    trace = find_trace(text)
    if trace is None and Path(text).is_file() and not text.endswith((".yaml", ".yml")):
        return recognised(Path(text))
    return trace


def _of_trace(trace: Trace, multiplier: float) -> tuple[dict[str, Any], LengthSummary]:
    summary = summarise(trace, multiplier)
    entry = {
        "name": trace.name,
        "kind": "trace",
        "description": DESCRIPTIONS[trace.kind],
        "source": str(trace.path),
        "sha256": sha256_of(trace.path),
        "token_counts": trace.token_counts,
        "rows": summary.requests + sum(summary.unusable.values()),
        "requests": summary.requests,
        "unusable": dict(summary.unusable),
        "arrivals": None if summary.arrivals is None else _arrivals_entry(summary.arrivals),
        "notes": _trace_notes(trace, summary),
    }
    return entry, summary.lengths


def _of_name(text: str, multiplier: float) -> tuple[dict[str, Any], LengthSummary]:
    workload = load_workload(text)
    lengths = workload.lengths(multiplier)
    notes = ["the workload is of lengths alone: it does not say when requests come"]
    if isinstance(lengths, TaskLengths):
        notes.append(
            f"lengths are of single requests of {lengths.tasks:,} simulated tasks; a task has "
            f"{lengths.mean_requests:g} of them and {lengths.mean_task_output_tok:,.0f} output tokens on average"
        )
    unknown: dict[str, Any] = dict.fromkeys(("sha256", "token_counts", "rows", "requests", "unusable", "arrivals"))
    entry = {
        "name": workload.name,
        "kind": _kind(workload),
        "description": workload.description,
        "source": workload.source,
        **unknown,
        "notes": notes,
    }
    return entry, LengthSummary.of(lengths)


def _kind(workload: Workload) -> str:
    if isinstance(workload.shape, TaskReplay):
        return "tasks"
    return EXPONENTIAL if isinstance(workload.shape, ExponentialShape) else "fixed"


def _trace_notes(trace: Trace, summary: TraceSummary) -> list[str]:
    notes = [f"left out: {n:,} rows {_UNUSABLE[reason]}" for reason, n in summary.unusable.items()]
    if summary.requests > MOST_REQUESTS:
        notes.append(f"as load: {MOST_REQUESTS:,} requests, {UNIFORM}; at recorded times, {BEGINNING}")
    arrivals = summary.arrivals
    if arrivals is None:
        return [*notes, f"token counts are {trace.token_counts}", "the file does not say when requests came"]
    if arrivals.out_of_order:
        notes.append(f"{arrivals.out_of_order:,} rows are earlier than the one above, so burstiness is not known")
    if arrivals.same_time_share is not None and arrivals.same_time_share > COARSE_SHARE:
        notes.append(
            f"{arrivals.same_time_share:.0%} of the requests have the time of the one before: times are recorded "
            "coarsely, and part of the burstiness is that step"
        )
    return notes


def _arrivals_entry(arrivals: ArrivalSummary) -> dict[str, Any]:
    bin_s = arrivals.span_s / RATE_BINS
    return {
        "span_s": arrivals.span_s,
        "rate_per_s": arrivals.rate_per_s,
        "interarrival_cv": arrivals.interarrival_cv,
        "same_time_share": arrivals.same_time_share,
        "out_of_order": arrivals.out_of_order,
        "bin_s": bin_s,
        "rate_per_s_by_bin": (arrivals.requests_by_bin / bin_s).tolist() if bin_s > 0 else None,
    }


def _lengths_entry(lengths: LengthSummary, contexts_tok: Sequence[int], *, bounded: bool) -> dict[str, Any]:
    """Return both lengths; the longest output of an exponential distribution is where its tail is cut, hence none."""
    output = _spread_entry(lengths.output)
    return {
        "input_tok": _spread_entry(lengths.input),
        "output_tok": output if bounded else output | {"max": None},
        "output_per_input_tok": lengths.output.mean_tok / lengths.input.mean_tok,
        "over_context": [
            {"context_tok": limit, "share": lengths.total.share_over(limit)} for limit in sorted(set(contexts_tok))
        ],
    }


def _spread_entry(spread: Spread) -> dict[str, Any]:
    return {
        "mean": spread.mean_tok,
        **{name: spread.quantile_tok(q) for name, q in QUANTILES.items()},
        "histogram": _histogram(spread),
    }


def _histogram(spread: Spread) -> list[dict[str, Any]]:
    """Return the share in each octave (from a power of two to the next), from the shortest to the longest."""
    octave = np.frexp(spread.tok.astype(np.float64))[1] - 1
    shares = np.bincount(octave, weights=spread.share)
    return [
        {"from_tok": 2**power, "below_tok": 2 ** (power + 1), "share": float(shares[power])}
        for power in range(int(octave.min()), shares.size)
    ]
