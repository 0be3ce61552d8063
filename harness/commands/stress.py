"""``harness stress``: measure a workload at saturation beside its prediction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.options import JsonFlag, QuietFlag, print_json
from harness.stress_options import STRESS_OPTIONS

if TYPE_CHECKING:
    from harness.console.terminal import Progress
    from harness.plan import Plan

INVALID_RESULT_EXIT = 8
INTERRUPTED_EXIT = 130


def _help(name: str) -> str:
    option = STRESS_OPTIONS[name]
    if option.default is False or option.default in (None, ()):
        return option.description
    return f"{option.description} Default: {option.default}."


def _option(name: str, *names: str) -> Any:
    return typer.Option(*names, help=_help(name), show_default=False)


def stress(
    model: Annotated[str | None, _option("model")] = None,
    tensor_parallel: Annotated[int | None, _option("tensor_parallel")] = None,
    replicas: Annotated[int | None, _option("replicas")] = None,
    gpu: Annotated[list[str] | None, _option("gpu")] = None,
    server_arg: Annotated[list[str] | None, _option("server_arg")] = None,
    url: Annotated[list[str] | None, _option("url")] = None,
    workload: Annotated[str | None, _option("workload")] = None,
    prompts: Annotated[str | None, _option("prompts")] = None,
    multiplier: Annotated[float | None, _option("multiplier")] = None,
    concurrency: Annotated[str | None, _option("concurrency")] = None,
    budget: Annotated[float | None, _option("budget")] = None,
    order: Annotated[str | None, _option("order")] = None,
    repeats: Annotated[int | None, _option("repeats")] = None,
    stream_share: Annotated[float | None, _option("stream_share")] = None,
    arrival: Annotated[str | None, _option("arrival")] = None,
    clients: Annotated[int | None, _option("clients")] = None,
    slo_ttft_s: Annotated[float | None, _option("slo_ttft_s")] = None,
    slo_itl_s: Annotated[float | None, _option("slo_itl_s")] = None,
    precision: Annotated[float | None, _option("precision")] = None,
    min_window: Annotated[float | None, _option("min_window")] = None,
    idle: Annotated[float | None, _option("idle")] = None,
    ready_timeout: Annotated[float | None, _option("ready_timeout")] = None,
    keep_server: Annotated[bool | None, _option("keep_server", "--keep-server/--no-keep-server")] = None,
    power: Annotated[str | None, _option("power")] = None,
    node_meter: Annotated[list[str] | None, _option("node_meter")] = None,
    boundary: Annotated[str | None, _option("boundary")] = None,
    allocation: Annotated[str | None, _option("allocation")] = None,
    node_profile: Annotated[str | None, _option("node_profile")] = None,
    pue: Annotated[float | None, _option("pue")] = None,
    tps_model: Annotated[Path | None, _option("tps_model")] = None,
    metrics_address: Annotated[str | None, _option("metrics_address")] = None,
    linger: Annotated[float | None, _option("linger")] = None,
    drain: Annotated[bool | None, _option("drain", "--drain/--no-drain")] = None,
    out: Annotated[Path | None, _option("out")] = None,
    seed: Annotated[int | None, _option("seed")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="YAML file with any of these options.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure a workload at 1x and at a multiple of its output lengths, at saturation, beside the prediction."""
    flags = {key: value for key, value in locals().items() if key in STRESS_OPTIONS and value is not None}
    from harness.config import load_config
    from harness.console.plan import plan_lines
    from harness.console.run import print_result
    from harness.console.snapshot import facts_of
    from harness.console.terminal import Progress, stdout_console
    from harness.plan import make_plan
    from harness.runner import run_interruptible
    from harness.stress import run_stress

    plan = make_plan(load_config(flags, config))
    progress = Progress(quiet=quiet)
    for line in plan_lines(plan):
        progress.say(line)
    if dry_run:
        return
    if plan.config.repeats > 1:
        _repeats(plan, progress, as_json=as_json)
        return
    with progress.showing(lambda: facts_of(plan, "stress")) as watch:
        result = run_interruptible(run_stress(plan, progress.say, watch=watch))
    if as_json:
        print_json(result.to_json())
    else:
        print_result(result, stdout_console())
    if result.run.status != "complete":
        raise typer.Exit(INTERRUPTED_EXIT)
    if any(cell.verdict == "invalid" for cell in result.cells):
        raise typer.Exit(INVALID_RESULT_EXIT)


def _repeats(plan: Plan, progress: Progress, *, as_json: bool) -> None:
    from harness.console.repeats import print_repeats
    from harness.console.snapshot import facts_of
    from harness.repeats import run_repeats
    from harness.runner import run_interruptible

    with progress.showing(lambda: facts_of(plan, "stress")) as watch:
        document = run_interruptible(run_repeats(plan, progress.say, watch))
    if as_json:
        print_json(document)
    else:
        print_repeats(document)
    if any(run["status"] != "complete" for run in document["runs"]):
        raise typer.Exit(INTERRUPTED_EXIT)
    if any(verdict == "invalid" for run in document["runs"] for verdict in run["verdicts"].values()):
        raise typer.Exit(INVALID_RESULT_EXIT)
