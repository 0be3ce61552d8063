"""Sweep one server: a concurrency ladder from 1 to saturation, and a grid of fixed lengths that feeds a refit.

Every finished cell is kept. A sweep that was cut short goes on where it stopped, on servers started anew.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness.analysis.differences import differences
from harness.analysis.run import analyse_run, open_run
from harness.analysis.saturation import LAST_CONCURRENCY, next_step, rung_of
from harness.cell_budgets import cell_need
from harness.cell_plan import CellPlan, fit_to_context, given_concurrency, measure_cell, plan_cell
from harness.console.budget import budget_lines
from harness.errors import ConfigError
from harness.idle import measure_loaded_idle
from harness.job import Job, Say, Watch, run_job, unwatched, write_result_files
from harness.live.course import Course
from harness.live.programme import sweep_steps
from harness.live.state import LiveState
from harness.manifest import create_run_folder, new_manifest
from harness.plan import Plan
from harness.power.base import PowerSource
from harness.prediction import find_tps_source, make_prediction
from harness.studies.sweeps import SWEEP_FILE, is_sweep, sweep_document
from harness.sweep_config import SweepConfig, refuse
from results.schema import CellResult, Manifest, StoredPrediction
from results.store import RunReader, RunWriter, sha256_of
from workloads.spec import load_workload

NO_PREDICTION = "no prediction: a sweep calibrates nothing; harness refit makes a TPS model of its grid"
_SAME_NODE = ("workload", "versions", "host", "devices", "power", "boundary", "node_profile", "node_share", "pue")
_SAME_SERVERS = ("model", "server_version", "context_tok")


@dataclass(frozen=True)
class Sweep:
    """A sweep about to run: what to measure, where, and what was measured already."""

    config: SweepConfig
    plan: Plan
    run: RunWriter
    before: Manifest | None = None
    done: tuple[CellResult, ...] = ()

    def finished(self, role: str, **which: Any) -> CellResult | None:
        """Return the finished cell of a role with these fields, if there is one."""
        cells = (cell for cell in self.done if cell.role == role)
        return next((cell for cell in cells if all(getattr(cell, key) == value for key, value in which.items())), None)

    def free_name(self, name: str, taken: Iterable[str]) -> str:
        """Return ``name``, or with a number where an attempt of that name was cut short."""
        names = set(taken)
        return next(n for n in (name, *(f"{name}-{number}" for number in range(2, 1000))) if n not in names)


def new_sweep(config: SweepConfig, plan: Plan) -> Sweep:
    """Create the folder of a sweep."""
    return Sweep(config, plan, create_run_folder(plan.config.out, "sweep"))


def resumed_sweep(config: SweepConfig, plan: Plan, folder: Path) -> Sweep:
    """Open the folder of a sweep that was cut short, with the cells it has finished."""
    reader, manifest = open_run(folder)
    result = analyse_run(folder)
    newest_s = max((float(event["t_mono_s"]) for event in reader.events()), default=0.0)
    if newest_s > time.monotonic():
        raise ConfigError(
            f"the sweep {folder} cannot be resumed",
            why="this machine's monotonic clock began again since, so the times of old and new cells would mix",
            fix="begin a new sweep; harness refit takes several run folders",
        )
    done = tuple(cell for cell in result.cells if "interrupted" not in cell.reasons)
    return Sweep(config, plan, RunWriter.reopened(folder), manifest, done)


def stored_sweep_config(folder: Path) -> dict[str, Any]:
    """Return the configuration that a sweep was begun with; raises ``ConfigError`` for a run that is no sweep."""
    _, manifest = open_run(folder)
    if not is_sweep(manifest):
        raise ConfigError(f"{folder} is not a sweep", fix="give a folder that harness sweep left")
    return manifest.config


async def run_sweep(sweep: Sweep, say: Say, watch: Watch = unwatched) -> dict[str, Any]:
    """Measure what is not yet finished and return the document of the whole sweep, which is stored too."""
    live = LiveState(course=Course(sweep_steps(sweep.config, sweep.plan)))
    watch(live)
    describe, measure = partial(_describe, sweep), partial(_measure, sweep=sweep)
    await run_job(sweep.plan, sweep.run, describe, measure, say, live, _write_files)
    document: dict[str, Any] = RunReader(sweep.run.folder).json(SWEEP_FILE)
    return document


def _write_files(run: RunWriter) -> None:
    write_result_files(run)
    run.write_json(SWEEP_FILE, sweep_document(run.folder))


def _describe(sweep: Sweep, source: PowerSource, driver: str | None, warnings: tuple[str, ...]) -> Manifest:
    """Return the manifest; a resumed sweep must find the node as it was."""
    manifest = new_manifest(sweep.plan, sweep.run, source, driver, warnings)
    manifest = manifest.model_copy(update={"config": sweep.config.document()})
    if sweep.before is None:
        return manifest
    before, after = (each.model_dump(mode="json", include=set(_SAME_NODE)) for each in (sweep.before, manifest))
    refuse(differences(before, after))
    labels = tuple(dict.fromkeys((*sweep.before.labels, *manifest.labels)))
    return manifest.model_copy(update={"started_wall_s": sweep.before.started_wall_s, "labels": labels})


async def _measure(job: Job, sweep: Sweep) -> None:
    if sweep.before is not None:
        _refuse_other_servers(job, sweep.before)
        job.run.event("resumed", finished=[cell.name for cell in sweep.done])
        job.say(f"resumed: {len(sweep.done)} finished cell(s) are kept")
    if "idle_end" not in {event["event"] for event in RunReader(job.run.folder).events()}:
        await measure_loaded_idle(job.bench, job.plan.timing.idle_s, job.say)
    grid = _fitting(job, sweep)
    if not RunReader(job.run.folder).has("prediction.json"):
        _predict(job, grid)
    if sweep.config.ladder:
        await _climb(job, sweep)
    for input_tok, output_tok in grid:
        await _measure_lengths(job, sweep, input_tok, output_tok)


def _refuse_other_servers(job: Job, before: Manifest) -> None:
    info = job.servers.info
    now = {"model": info.model, "server_version": info.version, "context_tok": info.max_model_len_tok}
    then = {name: getattr(before, name) for name in _SAME_SERVERS if getattr(before, name) is not None}
    refuse(differences(then, {name: now[name] for name in then}))


def _fitting(job: Job, sweep: Sweep) -> list[tuple[int, int]]:
    """Return the lengths that fit the server's context; the others are logged with the reason."""
    context_tok, fitting = job.servers.info.max_model_len_tok, []
    for input_tok, output_tok in sweep.config.grid:
        if context_tok is None or input_tok + output_tok <= context_tok:
            fitting.append((input_tok, output_tok))
            continue
        why = f"{input_tok} + {output_tok} tokens exceed the server's context of {context_tok}"
        job.run.event("cell_skipped", cell=f"grid-{input_tok}x{output_tok}", why=why)
        job.say(f"grid-{input_tok}x{output_tok} is skipped: {why}")
    return fitting


def _predict(job: Job, grid: list[tuple[int, int]]) -> None:
    """Store the prediction of the grid's cells where a TPS source is known without measuring."""
    source = find_tps_source(job.plan, job.servers.info.model)
    lengths = {f"grid-{i}x{o}": load_workload(f"fixed:{i}x{o}").lengths() for i, o in grid}
    prediction = (
        StoredPrediction(created_wall_s=time.time(), tps_source=NO_PREDICTION, label="")
        if source.calibrate
        else make_prediction(job.plan, source, lengths)
    )
    path = job.run.write_json("prediction.json", prediction.model_dump(mode="json", by_alias=True))
    job.run.event("prediction_stored", tps_source=prediction.tps_source, sha256=sha256_of(path))


async def _climb(job: Job, sweep: Sweep) -> None:
    """Measure the ladder's cells: as given, or doubling from 1 until throughput rises no more."""
    given = None if sweep.config.ladder == "auto" else iter(sweep.config.ladder)
    last_concurrency = LAST_CONCURRENCY * len(job.servers.urls)
    concurrency, rungs = (next(given) if given else 1), []
    while concurrency:
        cell = sweep.finished("ladder", concurrency=concurrency) or await _measure_rung(job, sweep, concurrency)
        rungs.append(rung_of(cell))
        if given:
            concurrency = next(given, 0)
        else:
            climbs = next_step(rungs, last_concurrency) == "climb" and rungs[-1].tps_tok_per_s
            concurrency = 2 * concurrency if climbs else 0


async def _measure_rung(job: Job, sweep: Sweep, concurrency: int) -> CellResult:
    workload, multiplier = job.plan.workload, job.plan.config.multiplier
    lengths, share = fit_to_context(job, workload, multiplier)
    name = sweep.free_name(f"ladder-{concurrency}", _names(job))
    found, uncapped_tok = given_concurrency(concurrency), workload.lengths(multiplier).mean_output_tok
    return await _measured(job, CellPlan(name, "ladder", workload, multiplier, lengths, share, uncapped_tok, found))


async def _measure_lengths(job: Job, sweep: Sweep, input_tok: int, output_tok: int) -> None:
    workload = load_workload(f"fixed:{input_tok}x{output_tok}")
    if sweep.finished("grid", workload=workload.name):
        return
    name = sweep.free_name(f"grid-{input_tok}x{output_tok}", _names(job))
    await _measured(job, await plan_cell(job, name, "grid", workload))


async def _measured(job: Job, cell: CellPlan) -> CellResult:
    timing = job.plan.timing
    need = cell_need(cell, timing, None)
    if need.request_s is not None:
        for line in budget_lines(cell.name, need, timing.budget_s, job.plan.config.precision):
            job.say(line)
    result = await measure_cell(job, cell, timing.budget_s, timing.warmup_s, drain=job.plan.config.drain)
    return next(found for found in result.cells if found.name == cell.name)


def _names(job: Job) -> set[str]:
    events = RunReader(job.run.folder).events()
    return {str(event["cell"]) for event in events if event["event"] == "cell_start"}
