"""The result of a run, as a table for a person."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

from harness.console.terminal import PLAIN_WIDTH
from results.schema import CellResult, EnergyRatio, Latency, MeterReading, QueryEnergy, RunResult


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
    if result.idle and result.idle.watts is not None:
        idle = result.idle
        console.print(
            f"loaded idle: {idle.watts:,.1f} W ({idle.boundary}, {idle.power_source}) over {idle.duration_s:.0f} s"
        )
    if result.cells:
        console.print(_table(result))
    for cell in result.cells:
        console.print(f"{cell.name} is limited by {cell.binding}")
        for reading in cell.meters:
            console.print(f"{cell.name} beside it: {meter_line(reading)}")
    if result.energy_ratio:
        for line in ratio_lines(result.energy_ratio):
            console.print(line)
    console.print(f"run folder: {run.path}")


def meter_line(reading: MeterReading) -> str:
    """Return a meter's figures with their boundary, and how far the node model is from them."""
    words = f"{reading.source} covers {reading.boundary}: {_number(reading.watts, ',.1f')} W"
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
    columns = [_column(cell) for cell in result.cells]
    for number, (name, _) in enumerate(columns[0]):
        table.add_row(name, *(column[number][1] for column in columns))
    return table


def _column(cell: CellResult) -> list[tuple[str, str]]:
    energy, predicted, split = cell.wh_per_query, cell.predicted_wh_per_query, cell.split
    return [
        ("verdict", cell.verdict + (f": {', '.join(cell.reasons)}" if cell.reasons else "")),
        ("concurrency", str(cell.concurrency)),
        ("output tokens, mean / median", f"{cell.mean_output_tok:,.0f} / {cell.median_output_tok:,.0f}"),
        ("TPS (tok/s)", _number(cell.tps_tok_per_s, ",.0f")),
        (f"watts ({cell.power_source}, {cell.boundary})", _number(cell.watts, ",.1f")),
        ("GPU utilisation", _number(cell.gpu_utilization_ratio, ".0%")),
        ("TTFT, median of probes (s)", _latency(cell.ttft_s)),
        ("inter-token latency, median (s)", _latency(cell.itl_s)),
        (f"J/token ({cell.boundary})", _joules(cell)),
        ("Wh/query measured, mean", _measured(cell)),
        ("Wh/query measured, median (allocated)", _number(energy.p50 if energy else None, ".4g")),
        ("Wh/query boundary", _query_boundary(energy)),
        ("Wh/query predicted, mean", _number(predicted.mean if predicted else None, ".4g")),
        (
            "  P5 to P95 of that mean",
            f"{predicted.p5:.4g} to {predicted.p95:.4g}" if predicted else "no prediction",
        ),
        ("ratio measured / predicted", _number(cell.ratio, ".3f")),
        ("  ln ratio = power", _number(split.power if split else None, "+.3f")),
        ("            + length", _number(split.length if split else None, "+.3f")),
        ("            + TPS", _number(split.tps if split else None, "+.3f")),
        ("            + PUE", _number(split.pue if split else None, "+.3f")),
        ("window", _window(cell)),
        (
            "KV cache in use / scrapes with a queue",
            _kv_and_queue(cell),
        ),
        ("requests completed / errors", f"{cell.requests.completed:,} / {cell.requests.errors:,}"),
    ]


def _number(value: float | None, form: str) -> str:
    return "n/a" if value is None else format(value, form)


def _latency(latency: Latency | None) -> str:
    if latency is None:
        return "n/a"
    if latency.p50_s is not None:
        return f"{latency.p50_s:.4f} ({latency.probes} probes)"
    return "n/a (no probe ended)" if latency.server_mean_s is None else f"mean {latency.server_mean_s:.4f} (server)"


def _joules(cell: CellResult) -> str:
    if cell.joules_per_tok is None or cell.joules_per_tok_ci95 is None:
        return "n/a"
    half = cell.joules_per_tok_ci95[1] - cell.joules_per_tok
    return f"{cell.joules_per_tok:.5g} ± {half / cell.joules_per_tok:.1%} (95%, random)"


def _measured(cell: CellResult) -> str:
    energy = cell.wh_per_query
    if energy is None:
        return "n/a"
    uncertainty = energy.standard_uncertainty_rel
    return f"{energy.mean:.4g}" + ("" if uncertainty is None else f" (u = {uncertainty:.1%})")


def _query_boundary(energy: QueryEnergy | None) -> str:
    if energy is None:
        return "n/a"
    return energy.boundary if energy.pue == 1 else f"{energy.boundary} {energy.pue:.3f}"


def _kv_and_queue(cell: CellResult) -> str:
    return f"{_number(cell.kv_usage_ratio, '.1%')} / {_number(cell.queue_share, '.0%')}"


def _window(cell: CellResult) -> str:
    if cell.window is None:
        return "none"
    return f"{cell.window.duration_s:.1f} s, {cell.window.mean_requests:.1f} mean requests"


def _ci95(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f" (95% {bounds[0]:.3g} to {bounds[1]:.3g})"


def ratio_lines(ratio: EnergyRatio) -> list[str]:
    """Return the energy ratio, measured beside Eq. 1's own, and the paper's as a reference."""
    name = f"{ratio.multiplier:g}x/1x"
    measured = _number(ratio.measured, ".2f") + _ci95(ratio.measured_ci95)
    measured += "" if ratio.verdict == "valid" else f" [{ratio.verdict}]"
    covers = {
        "between_runs": "what differs between starts of the server included",
        "between_pairs": "of pairs on one start of the server",
        "within_windows": "random errors within the windows alone",
        "unknown": "its error is unknown",
    }[ratio.interval_basis]
    return [
        f"energy ratio {name}: measured {measured}, Eq. 1 for this model and multiplier {_number(ratio.eq1, '.2f')}",
        f"  over {ratio.pairs} pair(s): {covers}",
        f"  energy exponent d ln E / d ln L: {_number(ratio.exponent, '.3f')}{_ci95(ratio.exponent_ci95)}",
        f"  reference {ratio.paper_reference:g}: {ratio.paper_reference_label}",
    ]
