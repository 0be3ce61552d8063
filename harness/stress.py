"""The main job: launch, wait, idle, search, calibrate, predict, measure, compare, store."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial

from harness.analysis.run import analyse_run
from harness.analysis.saturation import SearchResult
from harness.budget import LAUNCH_S
from harness.cell import run_cell
from harness.cell_budgets import cell_budgets
from harness.cell_plan import CellPlan, fitted_cell, given_concurrency, measure_cell, plan_cell
from harness.idle import measure_loaded_idle
from harness.job import Job, Say, Watch, run_job, unwatched
from harness.live.course import Course
from harness.live.programme import stress_steps
from harness.live.state import LiveState
from harness.load.arrival import Arrival
from harness.manifest import create_run_folder, new_manifest
from harness.plan import Plan
from harness.prediction import calibrated_source, calibration_lengths, find_tps_source, make_prediction
from results.schema import CellResult, RunResult, StoredPrediction
from results.store import RunWriter, sha256_of
from workloads.spec import load_workload

Visits = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Settled:
    """What an earlier repeat of the same job settled: what saturates each cell, its arrivals, and the prediction."""

    found: dict[str, tuple[SearchResult, Arrival]]
    prediction: StoredPrediction


def folder_name(plan: Plan) -> str:
    """Return what a run's folder is called after its time."""
    return plan.workload.name.replace("/", "-").replace(":", "-")


async def run_stress(
    plan: Plan,
    say: Say,
    run: RunWriter | None = None,
    settled: Settled | None = None,
    *,
    backwards: bool = False,
    watch: Watch = unwatched,
) -> RunResult:
    """Run the whole job and return what it found; cancelling it gives a partial result, marked so.

    A repeat of an earlier job has its own ``run`` folder, keeps what that job ``settled``, and may go ``backwards``.
    """
    run = run or create_run_folder(plan.config.out, folder_name(plan))
    visits = plan.visits[::-1] if backwards else plan.visits
    live = LiveState(course=Course(stress_steps(plan, visits, settled=settled is not None)))
    watch(live)
    measure = partial(_measure, visits=visits, settled=settled, asked_s=time.monotonic())
    return await run_job(plan, run, partial(new_manifest, plan, run), measure, say, live)


async def _measure(job: Job, visits: Visits, settled: Settled | None, asked_s: float) -> None:
    began_s = max(asked_s, time.monotonic() - LAUNCH_S)
    await measure_loaded_idle(job.bench, job.plan.timing.idle_s, job.say)
    if settled is None:
        cells = {name: await plan_cell(job, name, "compared", job.plan.workload, x) for name, x in job.plan.cells}
        prediction = await _predict(job, cells)
    else:
        cells = {
            name: fitted_cell(job, name, "compared", job.plan.workload, x, *settled.found[name])
            for name, x in job.plan.cells
        }
        prediction = settled.prediction
    _store(job, prediction)
    budgets = cell_budgets(job, visits, cells, prediction, began_s)
    for name, cell_name in visits:
        warmup_s, drain = job.plan.timing.warmup_s, job.plan.config.drain
        await measure_cell(job, replace(cells[cell_name], name=name), budgets[name], warmup_s, drain=drain)


async def _predict(job: Job, cells: dict[str, CellPlan]) -> StoredPrediction:
    """Make the prediction before the first compared cell, after calibrating if nothing better is known."""
    plan, model = job.plan, job.servers.info.model
    source = find_tps_source(plan, model)
    if source.calibrate:
        source = calibrated_source(plan, model, await _calibrate(job, cells))
    job.bench.instruments.phase("predict")
    return make_prediction(plan, source, {name: cells[cell].lengths for name, cell in plan.visits})


def _store(job: Job, prediction: StoredPrediction) -> None:
    path = job.run.write_json("prediction.json", prediction.model_dump(mode="json", by_alias=True))
    job.run.event("prediction_stored", tps_source=prediction.tps_source, sha256=sha256_of(path))
    job.say(f"prediction stored: TPS from {prediction.tps_source}" if prediction.cells else prediction.tps_source)


async def _calibrate(job: Job, cells: dict[str, CellPlan]) -> tuple[CellResult, ...]:
    """Run a short grid of fixed-length cells, named as calibration, at the concurrencies the search found."""
    grid = calibration_lengths({cell.name: cell.lengths for cell in cells.values()})
    seconds = job.plan.timing.calibration_s
    job.say(f"calibrating TPS with {len(grid)} fixed-length cells of {seconds:g} s")
    job.bench.instruments.live.count_cells("calibrate", len(grid), len(grid) * seconds)
    for number, (input_tok, output_tok, name) in enumerate(grid):
        workload = load_workload(f"fixed:{input_tok}x{output_tok}")
        found = replace(given_concurrency(cells[name].found.concurrency), binding="not searched: calibration")
        cell = CellPlan(
            f"calibration-{number}", "calibration", workload, 1.0, workload.lengths(), 0.0, output_tok, found
        )
        job.bench.instruments.phase("calibrate", cell.name)
        definition = cell.definition(job, seconds, seconds / 4, drain=False)
        shortest = {"min_window_s": min(definition.min_window_s, seconds / 2)}
        await run_cell(job.bench, definition.model_copy(update=shortest), cell.lengths)
    return analyse_run(job.run.folder).calibration_cells
