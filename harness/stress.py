"""The main job: launch, wait, idle, search, calibrate, predict, measure, compare, store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import numpy as np

from estimator.lengths import LengthDistribution
from harness.analysis import analyse_run
from harness.cell import Bench, hold_idle, run_cell
from harness.console.run import result_text
from harness.errors import HarnessError, WorkloadError
from harness.exporter import MetricsServer, RunCollector
from harness.instruments import Instruments
from harness.live import LiveState, QueryFigure
from harness.load.closed_loop import Target
from harness.manifest import create_run_folder, new_manifest
from harness.plan import STREAMED_SHARE, Plan
from harness.power.base import PowerSource
from harness.prediction import (
    calibrated_source,
    calibration_lengths,
    find_tps_source,
    make_prediction,
)
from harness.search import SearchResult, search
from harness.sensing import open_source
from harness.server.api import new_session
from harness.serving import Servers, serving
from results.export import cells_csv
from results.schema import CellDefinition, CellResult, Manifest, RunResult, Status, StoredPrediction
from results.store import RunWriter
from workloads.spec import load_workload

Say = Callable[[str], None]


@dataclass(frozen=True)
class CellPlan:
    """A compared cell: its lengths capped to the server's context, and what the search found for it."""

    name: str
    multiplier: float
    lengths: LengthDistribution
    capped_share: float
    uncapped_mean_tok: float
    found: SearchResult


async def run_stress(plan: Plan, say: Say) -> RunResult:
    """Run the whole job and return what it found; cancelling it gives a partial result, marked so.

    Errors are stored in the run and raised again, after every server is gone.
    """
    live = LiveState()
    source, driver, busy = open_source(plan, live)
    run = create_run_folder(plan.config.out, plan.workload.name.replace("/", "-").replace(":", "-"))
    say(f"run folder: {run.folder}")
    manifest = new_manifest(plan, run, source, driver, busy)
    run.write_json("manifest.json", manifest.model_dump(mode="json", by_alias=True))
    status: Status = "failed"
    failure: str | None = "the harness stopped unexpectedly"
    try:
        await _measure_all(plan, run, manifest, live, source, say)
        status, failure = "complete", None
    except asyncio.CancelledError:
        status, failure = "partial", "interrupted"
    except HarnessError as error:
        failure = str(error)
        raise
    finally:
        source.close()
        _close(run, status, failure)
    return analyse_run(run.folder)


def _close(run: RunWriter, status: Status, failure: str | None) -> None:
    """Give the run its final status and its readable files."""
    run.flush()
    path = run.folder / "manifest.json"
    manifest = Manifest.model_validate_json(path.read_text())
    closed = manifest.model_copy(update={"status": status, "failure": failure, "ended_wall_s": time.time()})
    run.write_json("manifest.json", closed.model_dump(mode="json", by_alias=True))
    write_result_files(run)


def write_result_files(run: RunWriter) -> RunResult:
    """Analyse the run as stored so far and write its result, per-cell summaries and readable summary."""
    result = analyse_run(run.folder)
    run.write_json("result.json", result.to_json())
    for cell in (*result.cells, *result.calibration_cells):
        run.write_json(f"cells/{cell.name}.json", cell.model_dump(mode="json"))
    run.write_text("cells.csv", cells_csv(result))
    run.write_text("summary.txt", result_text(result))
    return result


async def _measure_all(
    plan: Plan, run: RunWriter, manifest: Manifest, live: LiveState, source: PowerSource, say: Say
) -> None:
    async with AsyncExitStack() as stack:
        if plan.config.metrics_address != "none":
            collector = RunCollector(live, manifest.id, plan.profile, plan.node_share)
            metrics = MetricsServer(collector, plan.config.metrics_address)
            stack.callback(metrics.close)
            say(f"metrics: {metrics.url}")
        session = await stack.enter_async_context(new_session())
        live.phase = "launch"
        servers = await stack.enter_async_context(serving(plan, run.folder, session, say))
        manifest = _with_servers(run, manifest, servers)
        say(f"serving {servers.info.model} (version {servers.info.version or 'unknown'})")
        instruments = stack.enter_context(Instruments(run, live, source, servers.urls))
        bench = Bench(
            session,
            Target(servers.urls, servers.info.model),
            instruments,
            servers.check_alive,
            np.random.default_rng(plan.config.seed),
            STREAMED_SHARE,
        )
        await _idle(plan, bench, say)
        cells = [await _search(plan, bench, servers, name, factor, say) for name, factor in plan.cells]
        prediction = await _predict(plan, bench, servers, cells, say)
        for cell in cells:
            await _compare_cell(plan, bench, cell, prediction, say)
        instruments.phase("done")
        if plan.config.metrics_address != "none" and plan.timing.linger_s > 0:
            say(f"metrics stay up for {plan.timing.linger_s:g} s for a last scrape (--linger)")
            await asyncio.sleep(plan.timing.linger_s)


def _with_servers(run: RunWriter, manifest: Manifest, servers: Servers) -> Manifest:
    updated = manifest.model_copy(
        update={
            "servers": servers.descriptions,
            "model": servers.info.model,
            "server_version": servers.info.version,
            "context_tok": servers.info.max_model_len_tok,
        }
    )
    run.write_json("manifest.json", updated.model_dump(mode="json", by_alias=True))
    return updated


async def _idle(plan: Plan, bench: Bench, say: Say) -> None:
    """Measure loaded idle: the model resident and warmed up by its readiness request, nothing in flight."""
    say(f"loaded idle for {plan.timing.idle_s:g} s")
    bench.instruments.phase("idle")
    await bench.instruments.wait_quiet()
    await asyncio.sleep(plan.timing.idle_s / 4)
    bench.instruments.run.event("idle_start")
    await hold_idle(bench, plan.timing.idle_s)
    bench.instruments.run.event("idle_end")


async def _search(plan: Plan, bench: Bench, servers: Servers, name: str, multiplier: float, say: Say) -> CellPlan:
    """Fit a cell's lengths to the context and find its saturating concurrency."""
    lengths = plan.workload.lengths(multiplier)
    capped, share = lengths, 0.0
    if servers.info.max_model_len_tok is not None:
        try:
            capped, share = lengths.capped(servers.info.max_model_len_tok)
        except ValueError as error:
            raise WorkloadError(
                f"the workload {plan.workload.name} does not fit the server's context", why=str(error),
                fix="serve a longer context (--server-arg=--max-model-len=N) or choose a shorter workload",
            ) from error  # fmt: skip
    asked = plan.config.concurrency
    if isinstance(asked, int):
        found = SearchResult(asked, None, "what is not known: concurrency was given, not searched", ())
    else:
        bench.instruments.phase("search", name)
        found = await search(bench, name, capped, plan.timing.rung_s)
        ladder = ", ".join(f"{rung.concurrency}: {rung.tps_tok_per_s:,.0f}" for rung in found.rungs)
        say(f"{name} saturates at {found.concurrency} in flight (tok/s by concurrency: {ladder})")
    return CellPlan(name, multiplier, capped, share, lengths.mean_output_tok, found)


async def _predict(plan: Plan, bench: Bench, servers: Servers, cells: list[CellPlan], say: Say) -> StoredPrediction:
    """Store the prediction before the first compared cell, after calibrating if nothing better is known."""
    source = find_tps_source(plan, servers.info.model)
    if source.calibrate:
        source = calibrated_source(plan, servers.info.model, await _calibrate(plan, bench, cells, say))
    bench.instruments.phase("predict")
    prediction = make_prediction(plan, source, {cell.name: cell.lengths for cell in cells})
    bench.instruments.run.write_json("prediction.json", prediction.model_dump(mode="json", by_alias=True))
    bench.instruments.run.event("prediction_stored", tps_source=prediction.tps_source)
    say(f"prediction stored: TPS from {prediction.tps_source}" if prediction.cells else prediction.tps_source)
    return prediction


async def _calibrate(plan: Plan, bench: Bench, cells: list[CellPlan], say: Say) -> tuple[CellResult, ...]:
    """Run a short grid of fixed-length cells, named as calibration, at the concurrencies the search found."""
    found = {cell.name: cell.found.concurrency for cell in cells}
    grid = calibration_lengths({cell.name: cell.lengths for cell in cells})
    say(f"calibrating TPS with {len(grid)} fixed-length cells of {plan.timing.calibration_s:g} s")
    for number, (input_tok, output_tok, cell_name) in enumerate(grid):
        workload = load_workload(f"fixed:{input_tok}x{output_tok}")
        definition = CellDefinition(
            name=f"calibration-{number}",
            role="calibration",
            workload=workload.name,
            multiplier=1.0,
            concurrency=found[cell_name],
            mean_input_tok=input_tok,
            mean_output_tok=output_tok,
            median_output_tok=output_tok,
            capped_share=0.0,
            mean_output_uncapped_tok=output_tok,
            warmup_s=plan.timing.calibration_s / 4,
            budget_s=plan.timing.calibration_s,
            streamed_share=bench.streamed_share,
            drain=False,
            plateau_tps_tok_per_s=None,
            binding="not searched: calibration",
        )
        bench.instruments.phase("calibrate", definition.name)
        await run_cell(bench, definition, workload.lengths())
    return analyse_run(bench.instruments.run.folder).calibration_cells


async def _compare_cell(plan: Plan, bench: Bench, cell: CellPlan, prediction: StoredPrediction, say: Say) -> None:
    """Measure one compared cell, and publish its figures to the metrics as soon as they are known."""
    definition = CellDefinition(
        name=cell.name,
        role="compared",
        workload=plan.workload.name,
        multiplier=cell.multiplier,
        concurrency=cell.found.concurrency,
        mean_input_tok=cell.lengths.mean_input_tok,
        mean_output_tok=cell.lengths.mean_output_tok,
        median_output_tok=cell.lengths.median_output_tok,
        capped_share=cell.capped_share,
        mean_output_uncapped_tok=cell.uncapped_mean_tok,
        warmup_s=plan.timing.warmup_s,
        budget_s=plan.timing.budget_s,
        streamed_share=bench.streamed_share,
        drain=plan.config.drain,
        plateau_tps_tok_per_s=cell.found.plateau_tps_tok_per_s,
        binding=cell.found.binding,
    )
    say(f"measuring {cell.name}: {cell.found.concurrency} in flight for {plan.timing.budget_s:g} s")
    bench.instruments.phase("measure", cell.name)
    await run_cell(bench, definition, cell.lengths)
    bench.instruments.live.figures = query_figures(write_result_files(bench.instruments.run))


def query_figures(result: RunResult) -> tuple[QueryFigure, ...]:
    """Return the energy per query of every compared cell, measured and predicted, for the metrics."""
    figures = []
    for cell in result.cells:
        if cell.wh_per_query:
            energy = cell.wh_per_query
            figures.append(QueryFigure(cell.name, "measured", "mean", energy.mean, cell.power_source, energy.boundary))
        if cell.predicted_wh_per_query and cell.wh_per_query:
            for stat in ("mean", "p5", "p95"):
                wh = getattr(cell.predicted_wh_per_query, stat)
                figures.append(QueryFigure(cell.name, "predicted", stat, wh, "eq1", cell.wh_per_query.boundary))
    return tuple(figures)
