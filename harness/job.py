"""What every measuring command shares: a run folder, servers, instruments, idle, search, and an orderly end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import aiohttp
import numpy as np

from estimator.lengths import LengthDistribution
from harness.analysis.devices import AFTER, BEFORE, BEFORE_LAUNCH
from harness.analysis.run import analyse_run
from harness.analysis.saturation import SearchResult
from harness.cell import Bench, hold_idle, run_cell
from harness.console.run import result_text
from harness.errors import ConfigError, HarnessError, WorkloadError
from harness.exporter import MetricsServer
from harness.instruments import Instruments
from harness.live import LiveState
from harness.load.arrival import CLOSED, Arrival
from harness.load.request import Target
from harness.load.timeline import planned_arrival
from harness.metrics.of_run import measured_figures, predicted_figures, run_collector
from harness.plan import Plan
from harness.power.base import PowerSource
from harness.search import max_num_seqs, search
from harness.sensing import open_source
from harness.server.abilities import prefix_caching, returns_token_ids, tokenized
from harness.server.api import new_session
from harness.server.monitor import scrape
from harness.serving import Servers, serving
from results.export import cells_csv
from results.schema import CellDefinition, Manifest, Role, RunResult, Status, TaskDefinition
from results.store import RunReader, RunWriter
from workloads.prompts import RANDOM, PromptText, TextPrompts
from workloads.replayed_tasks import TaskLengths, TaskReplay
from workloads.spec import Workload

Say = Callable[[str], None]
Watch = Callable[[LiveState], None]
"""Takes the live state of a run about to start, to show it."""


def unwatched(_: LiveState) -> None:
    """Show nothing."""


NO_COUNTER = (
    "a server exports no token counter (no vLLM /metrics): tokens are the usage of completed requests, spread over the "
    "time each took; its queue, KV usage and other clients' requests are not known"
)
IDS_NOT_RETURNED = (
    "a server does not return the ids of the tokens it generates: in the context of later steps random tokens stand in "
    "their place, so that a prefix cache holds the prompts of earlier steps but not their outputs"
)
Describe = Callable[[PowerSource, str | None, tuple[str, ...]], Manifest]
"""From a power source, its driver and warnings to the manifest of the run about to start."""


@dataclass(frozen=True)
class Job:
    """A run under way: what was planned, and what measures it."""

    plan: Plan
    bench: Bench
    servers: Servers
    say: Say

    @property
    def run(self) -> RunWriter:
        """Return the run folder."""
        return self.bench.instruments.run


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
            prompts=job.bench.prompts.kind,
            tasks=task_definition(self.lengths),
        )


async def run_job(
    plan: Plan,
    run: RunWriter,
    describe: Describe,
    measure: Callable[[Job], Awaitable[None]],
    say: Say,
    live: LiveState | None = None,
) -> RunResult:
    """Do ``measure`` with servers and instruments, and return what the run folder then says.

    Cancelling it gives a partial result, marked so. Errors are stored in the run and raised again, after every
    server is gone.
    """
    live = live or LiveState()
    source, driver, warnings = open_source(plan, live)
    say(f"run folder: {run.folder}")
    manifest = describe(source, driver, warnings)
    run.write_json("manifest.json", manifest.model_dump(mode="json", by_alias=True))
    live.labels = manifest.labels
    status: Status = "failed"
    failure: str | None = "the harness stopped unexpectedly"
    try:
        async with _opened(plan, run, manifest, live, source, say) as job:
            await measure(job)
            job.bench.instruments.phase("done")
            if plan.config.metrics_address != "none" and plan.timing.linger_s > 0:
                say(f"metrics stay up for {plan.timing.linger_s:g} s for a last scrape (--linger)")
                await asyncio.sleep(plan.timing.linger_s)
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


@asynccontextmanager
async def _opened(
    plan: Plan, run: RunWriter, manifest: Manifest, live: LiveState, source: PowerSource, say: Say
) -> AsyncIterator[Job]:
    async with AsyncExitStack() as stack:
        if plan.config.metrics_address != "none":
            metrics = MetricsServer(run_collector(plan, manifest, live), plan.config.metrics_address)
            stack.callback(metrics.close)
            say(f"metrics: {metrics.url}")
        session = await stack.enter_async_context(new_session())
        instruments = stack.enter_context(Instruments(run, live, source))
        await measure_bare_idle(plan, instruments, say)
        instruments.phase("launch")
        if not plan.config.url:
            instruments.note_devices(BEFORE_LAUNCH)
        servers = await stack.enter_async_context(serving(plan, run.folder, session, say))
        blind = await without_counter(servers.urls) if plan.config.url else ()
        target = Target(servers.urls, servers.info.model, await _all_return_token_ids(plan, servers, session))
        missing_ids = is_task(plan.workload) and not target.returns_token_ids
        labels = (*([NO_COUNTER] if blind else ()), *([IDS_NOT_RETURNED] if missing_ids else ()))
        await _store_servers(run, manifest, servers, labels)
        live.model, live.labels = servers.info.model, (*manifest.labels, *labels)
        say(f"serving {servers.info.model} (version {servers.info.version or 'unknown'})")
        instruments.own_pids = servers.pids
        stack.enter_context(instruments.watching(servers.urls))
        if blind:
            instruments.go_blind(blind)
            say(NO_COUNTER)
        if missing_ids:
            say(IDS_NOT_RETURNED)
        bench = Bench(
            session,
            target,
            instruments,
            servers.check_alive,
            np.random.default_rng(plan.config.seed),
            plan.config.stream_share,
            plan.config.clients,
            RANDOM if plan.text is None else await _text_prompts(run, servers, session, plan.text),
        )
        yield Job(plan, bench, servers, say)


async def without_counter(urls: tuple[str, ...]) -> tuple[int, ...]:
    """Return the numbers of the servers that export no token counter on /metrics."""
    rows = [await asyncio.to_thread(scrape, url, number) for number, url in enumerate(urls)]
    return tuple(row.server for row in rows if row.counters.generation_tok is None)


async def _all_return_token_ids(plan: Plan, servers: Servers, session: aiohttp.ClientSession) -> bool:
    """Return whether every server tells what it generated, which only the replay of tasks needs to know."""
    if not is_task(plan.workload):
        return False
    return all([await returns_token_ids(session, url, servers.info.model) for url in servers.urls])


async def _text_prompts(
    run: RunWriter, servers: Servers, session: aiohttp.ClientSession, text: PromptText
) -> TextPrompts:
    prompts = await tokenized(session, servers.urls[0], servers.info.model, text)
    run.event("text_tokenized", text=text.name, sha256=text.sha256, tokens=prompts.ids.size)
    return prompts


async def _store_servers(run: RunWriter, manifest: Manifest, servers: Servers, labels: tuple[str, ...]) -> None:
    descriptions = [
        server.model_copy(update={"prefix_caching": await prefix_caching(server.url)})
        for server in servers.descriptions
    ]
    updated = manifest.model_copy(
        update={
            "servers": tuple(descriptions),
            "model": servers.info.model,
            "server_version": servers.info.version,
            "context_tok": servers.info.max_model_len_tok,
            "labels": (*manifest.labels, *labels),
        }
    )
    run.write_json("manifest.json", updated.model_dump(mode="json", by_alias=True))


def _close(run: RunWriter, status: Status, failure: str | None) -> None:
    """Give the run its final status and its readable files."""
    run.flush()
    path = run.folder / "manifest.json"
    manifest = Manifest.model_validate_json(path.read_text())
    closed = manifest.model_copy(update={"status": status, "failure": failure, "ended_wall_s": time.time()})
    run.write_json("manifest.json", closed.model_dump(mode="json", by_alias=True))
    write_result_files(run)
    run.seal()


def write_result_files(run: RunWriter) -> RunResult:
    """Analyse the run as stored so far and write its result, per-cell summaries and readable summary."""
    result = analyse_run(run.folder)
    run.write_json("result.json", result.to_json())
    for cell in (*result.cells, *result.calibration_cells):
        run.write_json(f"cells/{cell.name}.json", cell.model_dump(mode="json"))
    run.write_text("cells.csv", cells_csv(result))
    run.write_text("summary.txt", result_text(result))
    return result


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


async def measure_idle(job: Job) -> None:
    """Measure loaded idle: the model resident and warmed up by its readiness request, nothing in flight."""
    idle_s, instruments = job.plan.timing.idle_s, job.bench.instruments
    job.say(f"loaded idle for {idle_s:g} s")
    instruments.phase("idle")
    await instruments.wait_quiet()
    await _settle_and_hold(instruments, "idle", idle_s, job.bench.check_servers)


async def measure_bare_idle(plan: Plan, instruments: Instruments, say: Say) -> None:
    """Measure bare idle, before any server is launched, once a run; or note why it is not known."""
    if plan.no_bare_idle is not None:
        instruments.run.event("bare_idle_unknown", why=plan.no_bare_idle)
        say(f"bare idle is unknown: {plan.no_bare_idle}")
        return
    if "bare_idle_end" in {event["event"] for event in RunReader(instruments.run.folder).events()}:
        return
    say(f"bare idle for {plan.timing.idle_s:g} s")
    instruments.phase("bare_idle")
    await _settle_and_hold(instruments, "bare_idle", plan.timing.idle_s)


async def _settle_and_hold(instruments: Instruments, name: str, idle_s: float, *checks: Callable[[], None]) -> None:
    await asyncio.sleep(idle_s / 4)
    instruments.run.event(f"{name}_start")
    instruments.note_devices(BEFORE)
    await hold_idle(idle_s, instruments.check, *checks)
    instruments.note_devices(AFTER)
    instruments.run.event(f"{name}_end")


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
    """Fit a cell's lengths to the context and find its saturating concurrency, or take the one given."""
    capped, share = fit_to_context(job, workload, multiplier)
    config = job.plan.config
    asked, context_tok = config.concurrency, job.servers.info.max_model_len_tok
    arrival = planned_arrival(config.arrival, config.workload, multiplier, context_tok, asked)
    if not arrival.closed:
        found = replace(given_concurrency(arrival.max_in_flight), binding="the arrivals: the load is an open loop")
    elif isinstance(asked, int):
        found = given_concurrency(asked)
    elif job.bench.instruments.blind:
        raise ConfigError(
            "concurrency = auto needs a server that counts its tokens", why=NO_COUNTER, fix="give --concurrency N"
        )
    else:
        job.bench.instruments.phase("search", name)
        argvs = tuple(server.argv for server in job.servers.descriptions)
        found = await search(job.bench, name, capped, job.plan.timing.rung_s, max_num_seqs(argvs))
        ladder = ", ".join(f"{rung.concurrency}: {rung.tps_tok_per_s:,.0f}" for rung in found.rungs)
        job.say(f"{name} saturates at {found.concurrency} in flight (tok/s by concurrency: {ladder})")
    uncapped_tok = workload.lengths(multiplier).mean_output_tok
    return CellPlan(name, role, workload, multiplier, capped, share, uncapped_tok, found, arrival)


def is_task(workload: Workload) -> bool:
    """Return whether a workload replays tasks."""
    return isinstance(workload.shape, TaskReplay)


def task_definition(lengths: LengthDistribution) -> TaskDefinition | None:
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
