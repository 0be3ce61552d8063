"""Run one cell: quiet servers, load in equilibrium until the window rule ends it, drain or abort, quiet again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp
import numpy as np

from estimator.lengths import LengthDistribution
from harness.analysis.devices import AFTER, BEFORE
from harness.analysis.run import look_at_window
from harness.analysis.steady import look_lengths_s
from harness.errors import ServerError
from harness.instruments import QUIET_TIMEOUT_S, Instruments
from harness.live.course import Hold
from harness.load.arrival import CLOSED, Arrival
from harness.load.health import TickRow
from harness.load.processes import Load, LoadSpec, make_load
from harness.load.request import RequestRow, Target
from harness.load.watch import ClientWatch
from harness.server.api import complete_one_token
from harness.server.monitor import SCRAPE_PERIOD_S
from harness.stalls import STALL_S, StallWatch
from results.schema import CellDefinition
from workloads.prompts import RANDOM, Prompts

_LOOK_S = 1.0
SETTLE_S = 2.0
"""By then a look's last scrape and the power readings around it have arrived."""


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
    prompts: Prompts = RANDOM
    fill_s: float = 0.0
    """Waited at least for every slot's first token."""

    def loop(
        self, cell: str, lengths: LengthDistribution, arrival: Arrival = CLOSED, watch: ClientWatch | None = None
    ) -> Load:
        """Return an idle load for a cell; what its clients tell goes to the instruments and to ``watch``."""
        spec = LoadSpec(self.target, lengths, cell, self.streamed_share, arrival, self.prompts)
        takers = (self.instruments,) if watch is None else (self.instruments, watch)

        def request_ended(row: RequestRow) -> None:
            for taker in takers:
                taker.request_ended(row)

        def client_ticked(rows: Sequence[TickRow]) -> None:
            for taker in takers:
                taker.client_ticked(rows)

        return make_load(spec, self.session, self.rng, request_ended, client_ticked, self.clients)

    async def wait_quiet(self) -> float:
        """Wait until nothing runs or waits at any server; returns the monotonic time of the scrape that says so."""

        async def wake() -> None:
            for url in self.target.urls:
                await complete_one_token(self.session, url, timeout_s=QUIET_TIMEOUT_S)

        return await self.instruments.wait_quiet(wake)

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
    quiet_mono_s = await bench.wait_quiet()
    run.event("cell_start", cell=definition.name, definition=definition.model_dump(), quiet_mono_s=quiet_mono_s)
    bench.instruments.note_devices(BEFORE, definition.name)
    loop, stalls = bench.loop(definition.name, lengths, arrival), StallWatch()
    drain = False
    try:
        complete = await fill(bench, loop, definition.concurrency, stalls, timeout_s=definition.budget_s)
        run.event("filled", cell=definition.name, complete=complete)
        await hold_until_known(bench, loop, definition, stalls)
        drain = definition.drain
    except ServerError as error:
        run.event("server_lost", cell=definition.name, why=error.what)
        raise
    finally:
        run.event("load_stop", cell=definition.name)
        bench.instruments.note_devices(AFTER, definition.name)
        await _stop(bench, loop, definition, drain=drain)
    await bench.wait_quiet()
    run.event("cell_end", cell=definition.name)
    run.flush()


async def _stop(bench: Bench, loop: Load, definition: CellDefinition, *, drain: bool) -> None:
    """End the load. Where tokens are the usage of whole requests, it first outlasts those in flight.

    As a load drains the rest runs faster than before, and the tokens of what was cut off are not known. A server that
    has not answered them within the cell's budget is waited for no longer.
    """
    ended = False
    try:
        ended = drain and (not bench.instruments.blind or await loop.outlast(definition.budget_s))
    finally:
        await loop.stop(drain=ended)


async def fill(bench: Bench, loop: Load, concurrency: int, stalls: StallWatch, *, timeout_s: float) -> bool:
    """Grow the load and wait until each new slot has its first token: prefilling their ages is no steady state.

    Judged by the server's count of first tokens. Gives up waiting after ``timeout_s`` (or the bench's ``fill_s`` if
    that is longer), or at once if the server does not count them: the drift test then has to tell. Returns whether
    every slot has its first token.
    """
    await loop.ready()
    bench.instruments.live.concurrency = concurrency
    added, before = concurrency - loop.concurrency, bench.first_tokens()
    loop.grow_to(concurrency)
    end_s = time.monotonic() + max(timeout_s, bench.fill_s)
    while before is not None and time.monotonic() < end_s:
        now = bench.first_tokens()
        if now is not None and now - before >= added:
            return True
        await hold(bench, loop, SCRAPE_PERIOD_S, stalls)
    return False


async def hold_until_known(bench: Bench, loop: Load, definition: CellDefinition, stalls: StallWatch) -> None:
    """Hold the load until the window rule is content with what is stored so far, or the budget is spent.

    The rule is asked at its own looks alone, a moment after each, so that scrapes and readings around it are stored.
    """
    run, live, start_s = bench.instruments.run, bench.instruments.live, time.monotonic()
    ends_s = start_s + definition.budget_s
    for length_s in look_lengths_s(definition.min_window_s, SCRAPE_PERIOD_S):
        held_s, look_s = time.monotonic() - start_s, definition.warmup_s + length_s + SETTLE_S
        if look_s >= definition.budget_s:
            live.hold_until(Hold(definition.name, start_s, ends_s, None))
            await hold(bench, loop, definition.budget_s - held_s, stalls)
            run.event("hold_end", cell=definition.name, why="budget_spent")
            return
        live.hold_until(Hold(definition.name, start_s, ends_s, start_s + look_s))
        await hold(bench, loop, look_s - held_s, stalls)
        run.flush()
        look = await asyncio.to_thread(look_at_window, run.folder, definition.name)
        live.looked(look)
        if look.ended:
            run.event("hold_end", cell=definition.name, why="precision_reached")
            return


async def hold(bench: Bench, loop: Load, seconds: float, stalls: StallWatch) -> None:
    """Let the load run for ``seconds`` while watching that load, servers and sensor live and tokens flow."""
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0:
        await asyncio.sleep(min(_LOOK_S, left_s))
        bench.check_servers()
        bench.instruments.check()
        loop.check()
        stalled = stalls.stalled(bench.instruments.monitor.latest, time.monotonic())
        if stalled and not bench.instruments.blind:
            raise ServerError(
                f"{_servers_in_words(stalled)} generated no token for {STALL_S:g} s with requests in flight",
                why="the engine may have died while the API still answers",
                fix="read the server's log",
            )


def _servers_in_words(numbers: Sequence[int]) -> str:
    return f"server{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
