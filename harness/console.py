"""Everything a person reads on the terminal: the plan, progress and the result table."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from estimator.tps import TpsModel
from harness.plan import Plan
from results.schema import CellResult, EnergyRatio, Latency, QueryEnergy, RunResult

PLAIN_WIDTH = 120


class Progress:
    """Plain progress lines on standard error, each with the seconds since the start."""

    def __init__(self) -> None:
        """Start the clock."""
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._start_s = time.monotonic()

    def say(self, text: str) -> None:
        """Print one line."""
        self._console.print(f"{time.monotonic() - self._start_s:6.1f} s  {text}", soft_wrap=True)


def stdout_console() -> Console:
    """Return a console for results: as wide as the terminal, or a fixed width where output is not one."""
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=PLAIN_WIDTH)


def plan_lines(plan: Plan) -> list[str]:
    """Return the resolved plan, a line per decision."""
    config, timing = plan.config, plan.timing
    if plan.model is None:
        server = f"running server(s): {', '.join(config.url)}"
    else:
        width = f" on {plan.model.tensor_parallel} GPU(s) each" if plan.devices else " on the CPU"
        server = f"{plan.replicas} x vLLM{width}; model {plan.model.model} ({plan.model.why})"
    power = f"{plan.power} ({plan.power_why})"
    if plan.power == "simulated":
        power += " - NOT a measurement: every joule of this run will be simulated"
    profile = f"{plan.profile.name}, {plan.node_share:.3g} of it" if plan.profile else "none"
    concurrency = "searched for each cell" if config.concurrency == "auto" else str(config.concurrency)
    return [
        f"server        {server}",
        f"workload      {plan.workload.name}: {plan.workload.description}",
        f"cells         {', '.join(name for name, _ in plan.cells)}; concurrency {concurrency}",
        f"power         {power}",
        f"boundary      {plan.boundary}; node profile {profile}",
        f"load          {timing.budget_s:g} s a cell, the first {timing.warmup_s:g} s of it warm-up",
        f"precision     {_expected_precision(plan)}",
        f"results       {config.out}",
    ]


def _expected_precision(plan: Plan) -> str:
    """What is known beforehand of the error: the systematic part, at 0.6 of the node's maximum power."""
    random = "random part from the batches of each window, measured"
    if plan.power == "simulated":
        return f"{random}; simulated joules have no sensor error and prove nothing about real ones"
    if plan.profile is None or plan.boundary == "gpu":
        return f"sensor gain 2.9% (standard), {random}"
    node_w = 600 * plan.profile.p_max_share_kw(plan.node_share)
    gpu_w = (node_w - plan.profile.node_watts(0.0, plan.node_share)) / plan.profile.slope
    model = plan.profile.node_watts_std(gpu_w, plan.node_share) / node_w
    return f"sensor gain 2.9%, node model {model:.1%} (standard, at 0.6 P_max), {random}"


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
    if result.energy_ratio:
        for line in ratio_lines(result.energy_ratio):
            console.print(line)
    console.print(f"run folder: {run.path}")


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


def ratio_lines(ratio: EnergyRatio) -> list[str]:
    """Return the energy ratio, measured beside Eq. 1's own, and the paper's as a reference."""
    name = f"{ratio.multiplier:g}x/1x"
    uncertainty = ratio.measured_standard_uncertainty_rel
    measured = _number(ratio.measured, ".2f") + ("" if uncertainty is None else f" (u = {uncertainty:.1%}, random)")
    measured += "" if ratio.verdict == "valid" else f" [{ratio.verdict}]"
    return [
        f"energy ratio {name}: measured {measured}, Eq. 1 for this model and multiplier {_number(ratio.eq1, '.2f')}",
        f"  reference {ratio.paper_reference:g}: {ratio.paper_reference_label}",
    ]


def print_tps_model(model: TpsModel, path: Path) -> None:
    """Print what a fitted model is, where it holds and how well it is known."""
    error = "unknown (no degrees of freedom)" if model.residual_sd_log is None else f"{model.residual_sd_log:.1%}"
    for line in (
        f"TPS model of {model.model} on {model.gpus} device(s): form {model.form}, {model.n_rows} cells",
        f"  {_formula(model)}",
        f"  residual standard deviation of log TPS: {error}, {model.dof} degrees of freedom",
        f"  holds for inputs of {_range(model.input_range_tok)} and outputs of {_range(model.output_range_tok)} tokens",
        *(f"  note: {note}" for note in model.notes),
        f"written to {path}; use it with --tps-model {path}",
    ):
        stdout_console().print(line)


def _formula(model: TpsModel) -> str:
    b0, b1, b2 = model.coef
    if model.form == "constant":
        return f"log TPS = {b0:.4g}"
    first = "L_in" if model.form == "oviedo" else "(L_in + L_out)"
    return f"log TPS = {b0:.4g} {b1:+.4g} log {first} {b2:+.4g} log L_out"


def _range(limits: tuple[int, int]) -> str:
    return f"{limits[0]:,}" if limits[0] == limits[1] else f"{limits[0]:,} to {limits[1]:,}"


def print_estimates(document: dict[str, Any]) -> None:
    """Print estimates as a table."""
    first = document["estimates"][0]
    table = Table(
        title=f"Wh/query, {first['regime']}, preset {first['preset']}, boundary {first['boundary']}",
        header_style="bold",
    )
    keys = list(first["wh_per_query"])
    table.add_column("model")
    for key in keys:
        table.add_column(key, justify="right")
    for entry in document["estimates"]:
        table.add_row(entry["model"], *(f"{entry['wh_per_query'][key]:.3g}" for key in keys))
    stdout_console().print(table)
