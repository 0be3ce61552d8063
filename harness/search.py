"""Find the concurrency that saturates the servers for one workload: a ladder that doubles until TPS stops rising."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from estimator.lengths import LengthDistribution
from harness.cell import Bench, fill, hold
from harness.server.monitor import SCRAPE_PERIOD_S

FIRST_CONCURRENCY = 16
LAST_CONCURRENCY = 4_096
GAIN_TO_GO_ON = 1.05
PLATEAU_SHARE = 0.97
QUEUED_SHARE = 0.95


@dataclass(frozen=True)
class Rung:
    """Throughput at one concurrency: TPS over all servers, and how often requests queued there."""

    concurrency: int
    tps_tok_per_s: float
    queue_share: float


@dataclass(frozen=True)
class SearchResult:
    """The concurrency to measure at, the ladder's best TPS, and what ended the ladder."""

    concurrency: int
    plateau_tps_tok_per_s: float | None
    binding: str
    rungs: tuple[Rung, ...]


def choose(rungs: tuple[Rung, ...]) -> SearchResult:
    """Return the smallest concurrency within 3% of the best rung, and name what binds. Pure."""
    best = max(rung.tps_tok_per_s for rung in rungs)
    chosen = next(rung for rung in rungs if rung.tps_tok_per_s >= PLATEAU_SHARE * best)
    last = rungs[-1]
    if last.queue_share >= QUEUED_SHARE:
        binding = f"the server's queue: at {last.concurrency} in flight it never empties (max_num_seqs or KV cache)"
    elif last.concurrency >= LAST_CONCURRENCY:
        binding = f"nothing found: TPS still rose at {last.concurrency} in flight, where the ladder ends"
    else:
        binding = f"compute or memory bandwidth: {last.concurrency} in flight gained less than 5%"
    return SearchResult(chosen.concurrency, best, binding, rungs)


def goes_on(rungs: tuple[Rung, ...]) -> bool:
    """Return whether another doubling can still raise throughput. Pure."""
    last = rungs[-1]
    if last.queue_share >= QUEUED_SHARE or 2 * last.concurrency > LAST_CONCURRENCY:
        return False
    return len(rungs) < 2 or last.tps_tok_per_s >= GAIN_TO_GO_ON * rungs[-2].tps_tok_per_s


async def search(bench: Bench, cell: str, lengths: LengthDistribution, rung_s: float) -> SearchResult:
    """Climb the ladder on live servers: concurrency grows without a pause, each rung is measured for ``rung_s``."""
    await bench.instruments.wait_quiet()
    loop = bench.loop(f"search {cell}", lengths)
    rungs: tuple[Rung, ...] = ()
    try:
        while not rungs or goes_on(rungs):
            concurrency = 2 * rungs[-1].concurrency if rungs else FIRST_CONCURRENCY
            await fill(bench, loop, concurrency, timeout_s=2 * rung_s)
            await hold(bench, loop, rung_s / 5)
            rungs += (await _measure_rung(bench, concurrency, rung_s),)
            bench.instruments.run.event("rung", cell=cell, **vars(rungs[-1]))
    finally:
        await loop.stop(drain=False)
    result = choose(rungs)
    bench.instruments.run.event("search_end", cell=cell, concurrency=result.concurrency, binding=result.binding)
    return result


async def _measure_rung(bench: Bench, concurrency: int, seconds: float) -> Rung:
    monitor = bench.instruments.monitor
    start_s, start_tok = monitor.latest[0].t_mono_s, bench.generated_tok()
    end_s, queued, looks = time.monotonic() + seconds, 0.0, 0
    while time.monotonic() < end_s:
        await asyncio.sleep(SCRAPE_PERIOD_S)
        looks += 1
        queued += sum((row.counters.waiting or 0) > 0 for row in monitor.latest) / len(monitor.latest)
    elapsed_s, generated = monitor.latest[0].t_mono_s - start_s, bench.generated_tok() - start_tok
    return Rung(concurrency, generated / elapsed_s, queued / looks)
