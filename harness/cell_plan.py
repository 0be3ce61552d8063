"""Plan a cell, its lengths capped to the context and its concurrency found by search or given, and measure it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from estimator.lengths import LengthDistribution
from harness.analysis.saturation import SearchResult
from harness.cell import run_cell
from harness.errors import ConfigError, WorkloadError
from harness.job import NO_COUNTER, Job, write_result_files
from harness.load.arrival import CLOSED, Arrival, parse_arrival
from harness.load.timeline import planned_arrival
from harness.metrics.of_run import measured_figures, predicted_figures
from harness.search import max_num_seqs, search
from results.schema import CellDefinition, Role, RunResult, TaskDefinition
from results.store import RunReader
from workloads.replayed_tasks import TaskLengths
from workloads.spec import Workload


@dataclass(frozen=True)
class CellPlan:
    """A cell to be measured: its lengths capped to the server's context, and what the search found for it."""

    name: str
    role: Role
    workload: Workload
    multiplier: float
    lengths: LengthDistribution
    capped_share: float
    uncapped_mean_tok: float
    found: SearchResult
    arrival: Arrival = CLOSED

    def definition(self, job: Job, budget_s: float, warmup_s: float, *, drain: bool) -> CellDefinition:
        """Return what is fixed of the cell before its load starts."""
        return CellDefinition(
            name=self.name,
            role=self.role,
            workload=self.workload.name,
            multiplier=self.multiplier,
            concurrency=self.found.concurrency,
            mean_input_tok=self.lengths.mean_input_tok,
            mean_output_tok=self.lengths.mean_output_tok,
            median_output_tok=self.lengths.median_output_tok,
            capped_share=self.capped_share,
            mean_output_uncapped_tok=self.uncapped_mean_tok,
            warmup_s=warmup_s,
            budget_s=budget_s,
            precision_rel=job.plan.config.precision,
            min_window_s=job.plan.timing.min_window_s,
            streamed_share=job.bench.streamed_share,
            arrival=self.arrival.name,
            clients=job.bench.clients,
            drain=drain or job.bench.instruments.blind,
            plateau_tps_tok_per_s=self.found.plateau_tps_tok_per_s,
            binding=self.found.binding,
            binds=self.found.binds,
            doubling_gain_rel=self.found.doubling_gain_rel,
            plateau_shown=self.found.plateau_shown,
            prompts=job.bench.prompts.kind,
            tasks=_task_definition(self.lengths),
        )


def _task_definition(lengths: LengthDistribution) -> TaskDefinition | None:
    """Return what is fixed of the tasks that a cell replays, or ``None`` for one that replays none."""
    if not isinstance(lengths, TaskLengths):
        return None
    return TaskDefinition(
        samples_per_step=lengths.shape.samples_per_step,
        mean_steps=lengths.mean_steps,
        mean_requests=lengths.mean_requests,
        mean_output_tok=lengths.mean_task_output_tok,
        cut_share=lengths.cut_share,
    )


def given_concurrency(concurrency: int) -> SearchResult:
    """Return what is known of a concurrency that nobody searched for."""
    return SearchResult(concurrency, None, "what is not known: concurrency was given, not searched", ())


def fit_to_context(job: Job, workload: Workload, multiplier: float) -> tuple[LengthDistribution, float]:
    """Return the workload's lengths capped to the server's context, and the share of queries that were capped."""
    lengths, context_tok = workload.lengths(multiplier), job.servers.info.max_model_len_tok
    if context_tok is None:
        return lengths, 0.0
    try:
        return lengths.capped(context_tok)
    except ValueError as error:
        raise WorkloadError(
            f"the workload {workload.name} does not fit the server's context", why=str(error),
            fix="serve a longer context (--server-arg=--max-model-len=N) or choose a shorter workload",
        ) from error  # fmt: skip


async def plan_cell(job: Job, name: str, role: Role, workload: Workload, multiplier: float = 1.0) -> CellPlan:
    """Find what saturates the server with a cell's lengths, or take the concurrency given, and plan the cell."""
    lengths, _ = fit_to_context(job, workload, multiplier)
    asked, arrival = job.plan.config.concurrency, parse_arrival(job.plan.config.arrival)
    if arrival.saturation_share is not None or (arrival.closed and asked == "auto"):
        found = await _search(job, name, lengths)
    else:
        found = given_concurrency(arrival.max_in_flight if asked == "auto" else asked)
    if not arrival.closed:
        arrival, found = _opened(job, name, arrival, found, lengths.mean_output_tok)
    return fitted_cell(job, name, role, workload, multiplier, found, arrival)


def fitted_cell(
    job: Job,
    name: str,
    role: Role,
    workload: Workload,
    multiplier: float,
    found: SearchResult,
    arrival: Arrival,
) -> CellPlan:
    """Return a cell whose lengths, and those of its trace if it has one, are fitted to the server's context."""
    lengths, share = fit_to_context(job, workload, multiplier)
    config, context_tok = job.plan.config, job.servers.info.max_model_len_tok
    planned = planned_arrival(arrival, config.workload, multiplier, context_tok, config.concurrency)
    if not planned.closed:
        found = replace(found, concurrency=planned.max_in_flight)
    uncapped_tok = workload.lengths(multiplier).mean_output_tok
    return CellPlan(name, role, workload, multiplier, lengths, share, uncapped_tok, found, planned)


async def _search(job: Job, name: str, lengths: LengthDistribution) -> SearchResult:
    if job.bench.instruments.blind:
        raise ConfigError(
            "the search for saturation needs a server that counts its tokens", why=NO_COUNTER,
            fix="give --concurrency N, or the rate of --arrival in requests a second",
        )  # fmt: skip
    job.bench.instruments.phase("search", name)
    argvs = tuple(server.argv for server in job.servers.descriptions)
    found = await search(job.bench, name, lengths, job.plan.timing.rung_s, max_num_seqs(argvs))
    ladder = ", ".join(f"{rung.concurrency}: {rung.tps_tok_per_s:,.0f}" for rung in found.rungs)
    job.say(f"{name} saturates at {found.concurrency} in flight (tok/s by concurrency: {ladder})")
    if found.plateau_shown is False:
        job.say(f"{name}: {found.binding}")
    return found


def _opened(
    job: Job, name: str, arrival: Arrival, found: SearchResult, mean_output_tok: float
) -> tuple[Arrival, SearchResult]:
    """Return an open loop at its rate, and what is then known of its concurrency: what limits it are the arrivals."""
    words, share, plateau = "the arrivals: the load is an open loop", arrival.saturation_share, None
    if share is not None and found.plateau_tps_tok_per_s is not None:
        plateau = found.plateau_tps_tok_per_s
        saturation_per_s = plateau / mean_output_tok
        arrival = arrival.at_saturation(saturation_per_s)
        words += f" at {share:.4g} of the {saturation_per_s:.4g} requests/s that saturate the server"
        job.say(f"{name}: {words}")
    limits = given_concurrency(arrival.max_in_flight)
    return arrival, replace(limits, binding=words, plateau_tps_tok_per_s=plateau)


async def measure_cell(job: Job, cell: CellPlan, budget_s: float, warmup_s: float, *, drain: bool) -> RunResult:
    """Measure one cell, store what the run says now, and publish its figures to the metrics at once."""
    job.say(f"measuring {cell.name}: {cell.found.concurrency} in flight for at most {budget_s:.0f} s")
    live = job.bench.instruments.live
    job.bench.instruments.phase("measure", cell.name)
    live.cell_output_tok = cell.lengths.mean_output_tok
    predicted = predicted_figures(RunReader(job.run.folder), job.plan.boundary)
    live.figures = (*(figure for figure in live.figures if figure.kind == "measured"), *predicted)
    await run_cell(job.bench, cell.definition(job, budget_s, warmup_s, drain=drain), cell.lengths, cell.arrival)
    result = write_result_files(job.run)
    live.figures = (*measured_figures(result), *predicted)
    return result
