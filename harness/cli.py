"""The command line: parse, call one function, turn errors into messages and exit codes. No logic."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from harness import __version__
from harness.config import StressConfig, load_config
from harness.errors import HarnessError

app = typer.Typer(
    name="harness",
    help="Run an LLM server to saturation, measure tokens and watts, and compare measured with predicted Wh per query.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

INVALID_RESULT_EXIT = 8
INTERRUPTED_EXIT = 130
INTERNAL_ERROR_EXIT = 70


def _help(field: str) -> str:
    described = StressConfig.model_fields[field]
    default = described.default
    if default in (None, (), False):
        return described.description or ""
    return f"{described.description} Default: {default}."


def _option(field: str, *names: str) -> Any:
    return typer.Option(*names, help=_help(field), show_default=False)


JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def stress(
    model: Annotated[str | None, _option("model")] = None,
    tensor_parallel: Annotated[int | None, _option("tensor_parallel")] = None,
    replicas: Annotated[int | None, _option("replicas")] = None,
    gpu: Annotated[list[str] | None, _option("gpu")] = None,
    server_arg: Annotated[list[str] | None, _option("server_arg")] = None,
    url: Annotated[list[str] | None, _option("url")] = None,
    workload: Annotated[str | None, _option("workload")] = None,
    multiplier: Annotated[float | None, _option("multiplier")] = None,
    concurrency: Annotated[str | None, _option("concurrency")] = None,
    budget: Annotated[float | None, _option("budget")] = None,
    idle: Annotated[float | None, _option("idle")] = None,
    ready_timeout: Annotated[float | None, _option("ready_timeout")] = None,
    keep_server: Annotated[bool | None, _option("keep_server", "--keep-server/--no-keep-server")] = None,
    power: Annotated[str | None, _option("power")] = None,
    boundary: Annotated[str | None, _option("boundary")] = None,
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
    as_json: JsonFlag = False,
) -> None:
    """Measure a workload at 1x and at a multiple of its output lengths, at saturation, beside the prediction."""
    flags = {key: value for key, value in locals().items() if key in StressConfig.model_fields and value is not None}
    from harness.console import Progress, plan_lines
    from harness.plan import make_plan
    from harness.runner import run_interruptible
    from harness.stress import run_stress

    plan = make_plan(load_config(flags, config))
    progress = Progress()
    for line in plan_lines(plan):
        progress.say(line)
    if dry_run:
        return
    result = run_interruptible(run_stress(plan, progress.say))
    _print_result(result, as_json=as_json)
    if result.run.status != "complete":
        raise typer.Exit(INTERRUPTED_EXIT)
    if any(cell.verdict == "invalid" for cell in result.cells):
        raise typer.Exit(INVALID_RESULT_EXIT)


@app.command()
def compare(
    run: Annotated[Path, typer.Argument(help="Run folder, as left by harness stress.")],
    as_json: JsonFlag = False,
) -> None:
    """Repeat the comparison of a stored run from its folder alone."""
    from harness.analysis import analyse_run

    _print_result(analyse_run(run), as_json=as_json)


@app.command()
def refit(
    runs: Annotated[list[Path], typer.Argument(help="Run folders with fixed-length cells.")],
    out: Annotated[Path, typer.Option("--out", help="Model file to write.")] = Path("tps-model.json"),
    form: Annotated[str, typer.Option("--form", help="oviedo (the paper's) or total_length.")] = "oviedo",
    as_json: JsonFlag = False,
) -> None:
    """Fit a TPS model to measured runs and write it for --tps-model."""
    from harness.console import print_tps_model
    from harness.refit import refit_to_file

    model = refit_to_file(runs, form, out)
    if as_json:
        typer.echo(model.to_json())
    else:
        print_tps_model(model, out)


@app.command()
def estimate(
    model: Annotated[
        str | None,
        typer.Option("--model", help="A model of Supplemental I, or 'baseline' for the pool above 200B."),
    ] = None,
    tps_model: Annotated[
        Path | None, typer.Option("--tps-model", help="TPS model file instead of a named model.")
    ] = None,
    regime: Annotated[str, typer.Option("--regime", help="traditional or test-time.")] = "traditional",
    preset: Annotated[str, typer.Option("--preset", help="oviedo2025-v1, oviedo2026-v2 or corrected.")] = "corrected",
    node_profile: Annotated[str, typer.Option("--node-profile", help="Node of a --tps-model.")] = "hgx-h100",
    samples: Annotated[int, typer.Option("--samples", min=100, help="Monte Carlo samples a model.")] = 1_000_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the draws.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Estimate Wh per query by Eq. 1 with the paper's distributions."""
    from harness.console import print_estimates
    from harness.estimates import estimate_document

    document = estimate_document(model, tps_model, regime, preset, node_profile, samples, seed)
    if as_json:
        typer.echo(json.dumps(document, indent=2, allow_nan=False))
    else:
        print_estimates(document)


def _print_result(result: Any, *, as_json: bool) -> None:
    from harness.console import print_result, stdout_console

    if as_json:
        typer.echo(json.dumps(result.to_json(), indent=2, allow_nan=False))
    else:
        print_result(result, stdout_console())


def main() -> None:
    """Run the command line; every error becomes one message on standard error and an exit code."""
    try:
        app()
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last boundary: a bug is kept for its report, not thrown at the user
        print(f"error: {_keep_bug(error)}", file=sys.stderr)
        sys.exit(INTERNAL_ERROR_EXIT)


def _keep_bug(error: Exception) -> HarnessError:
    """Write the traceback of an error nobody foresaw to a file, and say where it is."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="harness-bug-", suffix=".log", delete=False) as log:
        log.write("".join(traceback.format_exception(error)))
    return HarnessError(
        f"the harness has a bug: {type(error).__name__}: {error}",
        why="nothing in it foresaw this",
        fix=f"report it with {log.name}; what was measured until now is in the run folder",
    )


if __name__ == "__main__":
    main()
