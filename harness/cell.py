"""Run one cell: quiet servers, load in equilibrium until the window rule ends it, drain or abort, quiet again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
import numpy as np

from estimator.lengths import LengthDistribution
from harness.analysis.run import window_has_ended
from harness.analysis.steady import look_lengths_s
from harness.errors import ServerError
from harness.instruments import Instruments
from harness.load.arrival import CLOSED, Arrival
from harness.load.processes import Load, LoadSpec, make_load
from harness.load.request import Target
from harness.server.monitor import SCRAPE_PERIOD_S
from results.schema import CellDefinition

_LOOK_S = 1.0
SETTLE_S = 2.0
"""By then a look's last scrape and the power readings around it have arrived."""
STALL_S = 120.0
"""A server with requests in flight that generates nothing for this long is taken for dead."""


@dataclass(frozen=True)
class Bench:
    """What every cell of a run shares."""

    session: aiohttp.ClientSession
    target: Target
    instruments: Instruments
    check_servers: Callable[[], None]
    rng: np.random.Generator
    streamed_share: float
    clients: int = 1

    def loop(self, cell: str, lengths: LengthDistribution, arrival: Arrival = CLOSED) -> Load:
        """Return an idle load for a cell."""
        spec = LoadSpec(self.target, lengths, cell, self.streamed_share, arrival)
        sink, ticks = self.instruments.request_ended, self.instruments.client_ticked
        return make_load(spec, self.session, self.rng, sink, ticks, self.clients)

    def generated_tok(self) -> float:
        """Return the tokens all servers have generated, as of their last scrapes."""
        return sum(row.counters.generation_tok or 0.0 for row in self.instruments.monitor.latest)

    def first_tokens(self) -> float | None:
        """Return how many requests got their first token so far, or ``None`` if a server does not tell."""
        counts = [row.counters.ttft_count for row in self.instruments.monitor.latest]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None


async def run_cell(
    bench: Bench, definition: CellDefinition, lengths: LengthDistribution, arrival: Arrival = CLOSED
) -> None:
    """Load the servers for the cell's budget and log what happened; the figures are made from the log.

    A server that dies ends the cell early: that is logged, and raised as ``ServerError`` after the clean-up.
    """
    run = bench.instruments.run
    quiet_mono_s = await bench.instruments.wait_quiet()
    run.event("cell_start", cell=definition.name, definition=definition.model_dump(), quiet_mono_s=quiet_mono_s)
    loop = bench.loop(definition.name, lengths, arrival)
    drain = False
    try:
        await fill(bench, loop, definition.concurrency, timeout_s=definition.budget_s)
        run.event("filled", cell=definition.name)
        await hold_until_known(bench, loop, definition)
        drain = definition.drain
    except ServerError as error:
        run.event("server_lost", cell=definition.name, why=error.what)
        raise
    finally:
        run.event("load_stop", cell=definition.name)
        await loop.stop(drain=drain)
    await bench.instruments.wait_quiet()
    run.event("cell_end", cell=definition.name)
    run.flush()


async def fill(bench: Bench, loop: Load, concurrency: int, *, timeout_s: float) -> None:
    """Grow the load and wait until each new slot has its first token: prefilling their ages is no steady state.

    Judged by the server's count of first tokens. Gives up waiting after ``timeout_s``, or at once if the server
    does not count them: the drift test then has to tell.
    """
    await loop.ready()
    added, before = concurrency - loop.concurrency, bench.first_tokens()
    loop.grow_to(concurrency)
    end_s = time.monotonic() + timeout_s
    while before is not None and time.monotonic() < end_s:
        now = bench.first_tokens()
        if now is not None and now - before >= added:
            return
        await hold(bench, loop, SCRAPE_PERIOD_S)


async def hold_until_known(bench: Bench, loop: Load, definition: CellDefinition) -> None:
    """Hold the load until the window rule is content with what is stored so far, or the budget is spent.

    The rule is asked at its own looks alone, a moment after each, so that scrapes and readings around it are stored.
    """
    run, start_s = bench.instruments.run, time.monotonic()
    for length_s in look_lengths_s(definition.min_window_s, SCRAPE_PERIOD_S):
        held_s, look_s = time.monotonic() - start_s, definition.warmup_s + length_s + SETTLE_S
        if look_s >= definition.budget_s:
            await hold(bench, loop, definition.budget_s - held_s)
            run.event("hold_end", cell=definition.name, why="budget_spent")
            return
        await hold(bench, loop, look_s - held_s)
        run.flush()
        if await asyncio.to_thread(window_has_ended, run.folder, definition.name):
            run.event("hold_end", cell=definition.name, why="precision_reached")
            return


async def hold(bench: Bench, loop: Load, seconds: float) -> None:
    """Let the load run for ``seconds`` while watching that load, servers and sensor live and tokens flow."""
    end_s = time.monotonic() + seconds
    last_tok, moved_s = bench.generated_tok(), time.monotonic()
    while (left_s := end_s - time.monotonic()) > 0:
        await asyncio.sleep(min(_LOOK_S, left_s))
        bench.check_servers()
        bench.instruments.check()
        loop.check()
        now_tok = bench.generated_tok()
        if now_tok != last_tok:
            last_tok, moved_s = now_tok, time.monotonic()
        elif not bench.instruments.blind and time.monotonic() - moved_s > STALL_S:
            raise ServerError(
                f"the servers generated no token for {STALL_S:g} s with requests in flight",
                why="the engine may have died while the API still answers",
                fix="read the server's log",
            )


async def hold_idle(bench: Bench, seconds: float) -> None:
    """Let time pass without load while watching that servers and sensor live."""
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0:
        await asyncio.sleep(min(_LOOK_S, left_s))
        bench.check_servers()
        bench.instruments.check()
