"""The result of a run, as a table for a person."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.console.terminal import PLAIN_WIDTH
from harness.console.words import number
from harness.power.conditions import NOT_THROTTLING
from results.schema import CellResult, DeviceResult, EnergyRatio, Latency, MeterReading, QueryEnergy, RunResult


def result_text(result: RunResult, width: int = PLAIN_WIDTH) -> str:
    """Return the whole result as plain text."""
    text = io.StringIO()
    print_result(result, Console(width=width, file=text, highlight=False, markup=False))
    return text.getvalue()


def print_result(result: RunResult, console: Console) -> None:
    """Print labels, table, energy ratio and where the run lies."""
    run = result.run
    if run.status != "complete":
        status = "UNFINISHED" if run.status == "running" else run.status.upper()
        console.print(f"{status} RESULT: the run did not reach its end", style="bold")
    for label in run.labels:
        console.print(f"! {label}", style="bold")
    if run.labels:
        console.print()
    console.print(f"{run.model} (server version {run.server_version or 'unknown'}); prediction: {run.prediction}")
    for name, idle in (("bare", result.bare_idle), ("loaded", result.idle)):
        if idle and idle.watts is not None:
            source = f"{idle.boundary}, {idle.power_source}"
            known = idle.standard_uncertainty_rel
            error = "u unknown" if known is None else f"u = {known:.1%}, systematic alone"
            console.print(f"{name} idle: {idle.watts:,.1f} W ({error}; {source}) over {idle.duration_s:.0f} s")
    if result.bare_idle_unknown:
        console.print(f"bare idle: unknown, {result.bare_idle_unknown}")
    if result.cells:
        console.print(_table(result))
    for cell in result.cells:
        console.print(f"{cell.name} is limited by {cell.binding}")
        for reading in cell.meters:
            console.print(f"{cell.name} beside it: {meter_line(reading)}")
    if result.energy_ratio:
        for line in (*ratio_lines(result.energy_ratio), *served_lines(result.cells)):
            console.print(line)
    console.print(f"run folder: {run.path}")


def meter_line(reading: MeterReading) -> str:
    """Return a meter's figures with their boundary, and how far the node model is from them."""
    words = f"{reading.source} covers {reading.boundary}: {number(reading.watts, ',.1f')} W"
    if reading.charged_watts is not None and reading.charged_watts != reading.watts:
        words += f", of which {reading.charged_watts:,.1f} W are charged to this run"
    if reading.difference_rel is not None:
        words += f"; {reading.difference_rel:+.1%} against {reading.modelled_watts:,.1f} W modelled"
    accuracy = "unknown" if reading.gain_rel_u is None else f"{reading.gain_rel_u:.1%} (standard)"
    return f"{words}; accuracy {accuracy}" + (f"; {', '.join(reading.reasons)}" if reading.reasons else "")


def _table(result: RunResult) -> Table:
    table = Table(title=None, header_style="bold")
    table.add_column("")
    for cell in result.cells:
        table.add_column(f"{cell.name} {cell.workload}", justify="right")
    for named in zip(*(_column(cell) for cell in result.cells), strict=True):
        values = [value for _, value in named]
        if any(value is not None for value in values):
            table.add_row(named[0][0], *("n/a" if value is None else value for value in values))
    return table


def _column(cell: CellResult) -> list[tuple[str, str | None]]:
    """Return a cell's rows; one without a value is None, and is left out where no cell has it."""
    energy, predicted, split = cell.wh_per_query, cell.predicted_wh_per_query, cell.split
    return [
        ("verdict", cell.verdict + (f": {', '.join(cell.reasons)}" if cell.reasons else "")),
        ("concurrency", str(cell.concurrency)),
        ("output tokens, mean / median", _output_tok(cell)),
        ("TPS (tok/s)", _tps(cell)),
        (f"watts ({cell.power_source}, {cell.boundary})", number(cell.watts, ",.1f")),
        ("GPU utilisation", number(cell.gpu_utilization_ratio, ".0%")),
        *condition_rows(cell.devices),
        ("TTFT, median of probes (s)", _latency(cell.ttft_s)),
        ("  TTFT p90 / p99 (s)", _tail(cell.ttft_s)),
        ("inter-token latency, median (s)", _latency(cell.itl_s)),
        ("  inter-token latency p90 / p99 (s)", _tail(cell.itl_s)),
        ("goodput (streamed requests within limits)", _goodput(cell.goodput)),
        (f"J/token ({cell.boundary})", _joules(cell)),
        ("Wh/query measured, mean", _measured(cell)),
        ("Wh/query measured, median (allocated)", number(energy.p50 if energy else None, ".4g")),
        ("Wh/query boundary", _query_boundary(energy)),
        ("Wh/query predicted, mean", number(predicted.mean if predicted else None, ".4g")),
        (
            "  P5 to P95 of that mean",
            f"{predicted.p5:.4g} to {predicted.p95:.4g}" if predicted else "no prediction",
        ),
        ("ratio measured / predicted", number(cell.ratio, ".3f")),
        ("  ln ratio = power", number(split.power if split else None, "+.3f")),
        ("            + length", number(split.length if split else None, "+.3f")),
        ("            + TPS", number(split.tps if split else None, "+.3f")),
        ("            + PUE", number(split.pue if split else None, "+.3f")),
        ("window", _window(cell)),
        (
            "KV cache in use / scrapes with a queue",
            _kv_and_queue(cell),
        ),
        ("requests completed / errors", f"{cell.requests.completed:,} / {cell.requests.errors:,}"),
        *task_rows(cell),
        *client_rows(cell.client),
    ]


def task_rows(cell: CellResult) -> list[tuple[str, str | None]]:
    """Return what whole tasks cost, and how much of the prompts the prefix cache held."""
    task, hits = cell.task, cell.prefix_cache_hit_ratio
    return [
        ("output tokens of a task, mean", _task_tok(cell)),
        ("Wh/task measured, mean", None if task is None else f"{number(task.wh_per_task, '.4g')}{_ci95(task.ci95)}"),
        ("Wh/task predicted, mean", None if task is None else number(task.predicted_wh_per_task, ".4g")),
        ("tasks completed / mean steps", None if task is None else f"{task.completed:,} / {task.mean_steps:.3g}"),
        ("prompt tokens held by the prefix cache", None if hits is None else f"{hits:.1%}"),
    ]


def _task_tok(cell: CellResult) -> str | None:
    if cell.task is None:
        return None
    asked = f"{cell.task.mean_output_tok:,.0f}"
    if cell.task.served_output_tok is None or cell.served_output_tok == cell.mean_output_tok:
        return asked
    return f"{cell.task.served_output_tok:,.0f} as served (asked for {asked})"


def condition_rows(devices: Sequence[DeviceResult]) -> list[tuple[str, str | None]]:
    """Return what the GPUs were like: of several the one throttled most, the hottest, and the range of limits."""
    temperatures = [device.temperature_max_c for device in devices if device.temperature_max_c is not None]
    limits = [device.power_limit_w for device in devices if device.power_limit_w is not None]
    ends = {min(limits), max(limits)} if limits else set()
    several = " (worst GPU)" if len(devices) > 1 else ""
    return [
        (f"throttled readings{several}", _throttled(devices)),
        ("highest GPU temperature (°C)", f"{max(temperatures):.0f}" if temperatures else None),
        ("GPU power limit (W)", " to ".join(f"{limit_w:,.0f}" for limit_w in sorted(ends)) or None),
        ("others' processes on the GPUs", _others(devices)),
    ]


def _throttled(devices: Sequence[DeviceResult]) -> str | None:
    known = [device for device in devices if device.throttled_share is not None]
    if not known:
        return None
    worst = max(known, key=lambda device: device.throttled_share or 0.0)
    shares = worst.throttled_by_cause or {}
    causes = [f"{name} {shares[name]:.0%}" for name in shares if name not in NOT_THROTTLING]
    return f"{worst.throttled_share:.0%}" + (f" ({', '.join(causes)})" if causes else "")


def _others(devices: Sequence[DeviceResult]) -> str | None:
    """Return yes where there is one on any GPU, no where there is none on all; what no GPU tells is None."""
    known = {device.foreign_processes for device in devices}
    if known <= {None}:
        return None
    return "yes" if True in known else "unknown" if None in known else "no"


def client_rows(client: dict[str, float | None] | None) -> list[tuple[str, str | None]]:
    """Return how the load clients kept up."""
    known = client or {}
    lag_s, cpu, refill_s = known.get("lag_p99_s"), known.get("cpu_share"), known.get("refill_p99_s")
    return [
        ("client: event-loop lag, p99 (ms)", None if lag_s is None else f"{1000 * lag_s:.1f}"),
        ("client: share of a core", None if cpu is None else f"{cpu:.0%}"),
        ("client: slot refill, p99 (ms)", None if refill_s is None else f"{1000 * refill_s:.1f}"),
    ]


def _tail(latency: Latency | None) -> str | None:
    """Return p90 and p99; which of them exist depends on the number of requests."""
    if latency is None or latency.p90_s is None:
        return None
    return f"{latency.p90_s:.4f} / {number(latency.p99_s, '.4f')}"


def _goodput(goodput: dict[str, Any] | None) -> str | None:
    if goodput is None or goodput["n"] == 0:
        return None
    names = {"TTFT": goodput["ttft_limit_s"], "ITL": goodput["itl_limit_s"]}
    limits = ", ".join(f"{name} <= {limit_s:g} s" for name, limit_s in names.items() if limit_s is not None)
    low, high = goodput["bounds"]
    share = f"{low:.1%}" if goodput["share"] is not None else f"{low:.1%} to {high:.1%}"
    return f"{share} of {goodput['n']:,}{_ci95(goodput['ci95'])}: {limits}"


def _output_tok(cell: CellResult) -> str:
    asked = f"{cell.mean_output_tok:,.0f} / {cell.median_output_tok:,.0f}"
    if cell.served_output_tok == cell.mean_output_tok:
        return asked
    return f"{cell.served_output_tok:,.0f} as served (asked for {asked})"


def served_lines(cells: Sequence[CellResult]) -> list[str]:
    """Return of which lengths the energy ratio is, where the server chose them."""
    compared = [cell for cell in cells if cell.role == "compared"]
    if all(cell.served_output_tok == cell.mean_output_tok for cell in compared):
        return []
    return [f"  of {cell.name}: {_output_tok(cell)} output tokens, mean / median" for cell in compared]


def _latency(latency: Latency | None) -> str:
    if latency is None:
        return "n/a"
    if latency.p50_s is not None:
        return f"{latency.p50_s:.4f} ({latency.probes} probes)"
    return "n/a (no probe ended)" if latency.server_mean_s is None else f"mean {latency.server_mean_s:.4f} (server)"


def _tps(cell: CellResult) -> str:
    if cell.tps_tok_per_s is None or cell.tps_ci95 is None:
        return number(cell.tps_tok_per_s, ",.0f")
    half = (cell.tps_ci95[1] - cell.tps_ci95[0]) / 2
    return f"{cell.tps_tok_per_s:,.0f} ± {half / cell.tps_tok_per_s:.1%} (95%)"


def _joules(cell: CellResult) -> str:
    if cell.joules_per_tok is None or cell.joules_per_tok_ci95 is None:
        return "n/a"
    half = cell.joules_per_tok_ci95[1] - cell.joules_per_tok
    return f"{cell.joules_per_tok:.5g} ± {half / cell.joules_per_tok:.1%} (95%, random)"


def _measured(cell: CellResult) -> str:
    energy = cell.wh_per_query
    if energy is None:
        return "n/a"
    if energy.ci95 is None:
        return f"{energy.mean:.4g} (error unknown)"
    low, high = energy.ci95
    return f"{energy.mean:.4g} (95% {low:#.3g} to {high:#.3g})"


def _query_boundary(energy: QueryEnergy | None) -> str:
    if energy is None:
        return "n/a"
    return energy.boundary if energy.pue == 1 else f"{energy.boundary} {energy.pue:.3f}"


def _kv_and_queue(cell: CellResult) -> str:
    return f"{number(cell.kv_usage_ratio, '.1%')} / {number(cell.queue_share, '.0%')}"


def _window(cell: CellResult) -> str:
    if cell.window is None:
        return "none"
    return f"{cell.window.duration_s:.1f} s, {cell.window.mean_requests:.1f} mean requests"


def _ci95(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f" (95% {bounds[0]:.3g} to {bounds[1]:.3g})"


def ratio_lines(ratio: EnergyRatio) -> list[str]:
    """Return the energy ratio, measured beside Eq. 1's own, and the paper's as a reference."""
    name = f"{ratio.multiplier:g}x/1x"
    measured = number(ratio.measured, ".2f") + _ci95(ratio.measured_ci95)
    measured += "" if ratio.verdict == "valid" else f" [{ratio.verdict}]"
    covers = {
        "between_runs": "what differs between starts of the server included",
        "between_pairs": "of pairs on one start of the server",
        "within_windows": "random errors within the windows alone",
        "unknown": "its error is unknown",
    }[ratio.interval_basis]
    return [
        f"energy ratio {name}: measured {measured}, Eq. 1 for this model and multiplier {number(ratio.eq1, '.2f')}",
        f"  over {ratio.pairs} pair(s): {covers}",
        f"  energy exponent d ln E / d ln L: {number(ratio.exponent, '.3f')}{_ci95(ratio.exponent_ci95)}",
        f"  reference {ratio.paper_reference:g}: {ratio.paper_reference_label}",
    ]
