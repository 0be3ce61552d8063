"""What every measuring command shares: a run folder, servers, instruments, bare idle, and an orderly end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

import aiohttp
import numpy as np

from harness.analysis.devices import BEFORE_LAUNCH
from harness.analysis.run import analyse_run
from harness.cell import Bench
from harness.console.run import result_text
from harness.errors import HarnessError, not_written
from harness.idle import measure_bare_idle
from harness.instruments import Instruments
from harness.live.state import LiveState
from harness.load.processes import share
from harness.load.request import Target
from harness.metrics.exporter import MetricsServer
from harness.metrics.of_run import run_collector
from harness.open_files import make_room, too_many
from harness.plan import Plan
from harness.power.base import PowerSource
from harness.sensing import open_source
from harness.server.abilities import prefix_caching, returns_token_ids, tokenized
from harness.server.api import new_session
from harness.server.monitor import scrape
from harness.serving import Servers, serving
from results.export import cells_csv
from results.schema import Manifest, RunResult, Status
from results.store import RunReader, RunWriteError, RunWriter
from workloads.prompts import RANDOM, PromptText, TextPrompts
from workloads.replayed_tasks import TaskReplay
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
Conclude = Callable[[RunWriter], object]
"""Writes what a run says once it has ended, before it is sealed."""


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


async def run_job(
    plan: Plan,
    run: RunWriter,
    describe: Describe,
    measure: Callable[[Job], Awaitable[None]],
    say: Say,
    live: LiveState | None = None,
    conclude: Conclude | None = None,
) -> RunResult:
    """Do ``measure`` with servers and instruments, and return what the run folder then says.

    Cancelling it gives a partial result, marked so. Errors are stored in the run and raised again, after every
    server is gone; without a power source there is no run. ``conclude`` stands in for ``write_result_files``.
    """
    live = live or LiveState()
    source, manifest = _begun(plan, run, describe, live)
    say(f"run folder: {run.folder}")
    live.labels = manifest.labels
    status: Status = "failed"
    failure: str | None = "the harness stopped unexpectedly"
    try:
        with _refusing_failed_writes(run):
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
    except OSError as error:
        refusal = too_many(error)
        if refusal is None:
            raise
        failure = str(refusal)
        raise refusal from error
    finally:
        source.close()
        with _refusing_failed_writes(run):
            _close(run, status, failure, conclude or write_result_files)
    return analyse_run(run.folder)


def _most_in_flight(plan: Plan) -> int:
    """Return how many requests of a given concurrency fall to one client process; a search finds its own end."""
    concurrency = plan.config.concurrency
    return share(concurrency, 0, plan.config.clients) if isinstance(concurrency, int) else 0


def _begun(plan: Plan, run: RunWriter, describe: Describe, live: LiveState) -> tuple[PowerSource, Manifest]:
    """Open the power source and store the manifest; where that fails, the folder is left as if nothing had begun."""
    try:
        make_room(_most_in_flight(plan))
        source, driver, warnings = open_source(plan, live)
        manifest = describe(source, driver, warnings)
        with _refusing_failed_writes(run):
            run.write_json("manifest.json", manifest.model_dump(mode="json", by_alias=True))
    except BaseException:
        run.abandon()
        raise
    return source, manifest


@contextmanager
def _refusing_failed_writes(run: RunWriter) -> Iterator[None]:
    try:
        yield
    except RunWriteError as error:
        raise too_many(error) or not_written(str(run.folder), error) from error


@asynccontextmanager
async def _opened(
    plan: Plan, run: RunWriter, manifest: Manifest, live: LiveState, source: PowerSource, say: Say
) -> AsyncIterator[Job]:
    async with AsyncExitStack() as stack:
        if plan.config.metrics_address != "none":
            metrics = MetricsServer(run_collector(plan, manifest, live), live, plan.config.metrics_address)
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
        missing_ids = _replays_tasks(plan.workload) and not target.returns_token_ids
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
            plan.timing.fill_s,
        )
        yield Job(plan, bench, servers, say)


async def without_counter(urls: tuple[str, ...]) -> tuple[int, ...]:
    """Return the numbers of the servers that export no token counter on /metrics."""
    rows = [await asyncio.to_thread(scrape, url, number) for number, url in enumerate(urls)]
    return tuple(row.server for row in rows if row.counters.generation_tok is None)


async def _all_return_token_ids(plan: Plan, servers: Servers, session: aiohttp.ClientSession) -> bool:
    """Return whether every server tells what it generated, which only the replay of tasks needs to know."""
    if not _replays_tasks(plan.workload):
        return False
    return all([await returns_token_ids(session, url, servers.info.model) for url in servers.urls])


def _replays_tasks(workload: Workload) -> bool:
    return isinstance(workload.shape, TaskReplay)


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


def _close(run: RunWriter, status: Status, failure: str | None, conclude: Conclude) -> None:
    """Give the run its final status and its readable files; each step is tried whatever became of those before."""
    with ExitStack() as later:
        later.callback(run.seal)
        later.callback(conclude, run)
        try:
            run.flush()
        except RunWriteError as error:
            status, failure = "failed", failure or str(not_written(str(run.folder), error))
            raise
        finally:
            _store_status(run, status, failure)


def _store_status(run: RunWriter, status: Status, failure: str | None) -> None:
    manifest = Manifest.model_validate(RunReader(run.folder).json("manifest.json"))
    closed = manifest.model_copy(update={"status": status, "failure": failure, "ended_wall_s": time.time()})
    run.write_json("manifest.json", closed.model_dump(mode="json", by_alias=True))


def write_result_files(run: RunWriter) -> RunResult:
    """Analyse the run as stored so far and write its result, per-cell summaries and readable summary."""
    result = analyse_run(run.folder)
    run.write_json("result.json", result.to_json())
    for cell in (*result.cells, *result.calibration_cells):
        run.write_json(f"cells/{cell.name}.json", cell.model_dump(mode="json"))
    run.write_text("cells.csv", cells_csv(result))
    run.write_text("summary.txt", result_text(result))
    return result
