"""Find the concurrency that saturates the servers for one workload: a ladder that doubles until TPS stops rising."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from estimator.lengths import LengthDistribution
from harness.analysis.rung_error import rung_error
from harness.analysis.saturation import (
    LAST_CONCURRENCY,
    Rung,
    SearchResult,
    choose,
    gain_fields,
    next_step,
)
from harness.cell import Bench, fill, hold
from harness.load.watch import ClientWatch
from harness.server.monitor import SCRAPE_PERIOD_S, ServerRow
from harness.stalls import StallWatch

FloatArray = npt.NDArray[np.float64]

FIRST_CONCURRENCY = 16


@dataclass
class Scrapes:
    """The scrapes of one rung, a tuple over servers each."""

    rounds: list[tuple[ServerRow, ...]] = field(default_factory=list)

    def add(self, rows: tuple[ServerRow, ...]) -> None:
        """Take a round unless it is the last one again, or a server did not answer."""
        if rows and all(row.error is None for row in rows) and (not self.rounds or rows != self.rounds[-1]):
            self.rounds.append(rows)

    def rung(
        self,
        concurrency: int,
        watch: ClientWatch | None = None,
        mean_output_tok: float = 0.0,
        least_memory_s: float | None = None,
    ) -> Rung:
        """Return what scrapes and clients say of so many slots with requests of ``mean_output_tok`` on average.

        ``least_memory_s`` is the autocorrelation time of the rung below, if there is one.
        """
        rounds = self.rounds
        times_s, tokens = self._tokens()
        seconds = [float(later - earlier) for earlier, later in pairwise(times_s)]
        new_tok = [float(later - earlier) for earlier, later in pairwise(tokens)]
        error = rung_error(new_tok, seconds, concurrency * mean_output_tok, least_memory_s or 0.0)
        queued = [sum((row.counters.waiting or 0) > 0 for row in rows) / len(rows) for rows in rounds]
        kv = [row.counters.kv_usage_ratio for rows in rounds for row in rows]
        return Rung(
            concurrency,
            tps_tok_per_s=sum(new_tok) / sum(seconds) if seconds else 0.0,
            queue_share=sum(queued) / len(queued) if queued else 0.0,
            tps_u_tok_per_s=error.u_tok_per_s,
            running=self._mean_sum("running"),
            held=self._mean_held(),
            kv_usage_ratio=max((value for value in kv if value is not None), default=None),
            preemptions=self._growth("preemptions"),
            client=watch.health(float(times_s[0]), float(times_s[-1]), concurrency) if watch and seconds else None,
            tps_dof=error.dof,
            seconds=sum(seconds),
            seconds_to_know=error.seconds_to_know,
            memory_s=error.memory_s,
        )

    def _tokens(self) -> tuple[FloatArray, FloatArray]:
        """Return evenly spaced times in s at which every server's counter is known, and their sum by then.

        Servers are scraped one after the other, and a round may hold an older scrape of some: each counter is
        interpolated between the times at which it was read. There are as many times as the fewest scrapes of a server.
        """
        counters = [
            {row.t_mono_s: row.counters.generation_tok for row in rows if row.counters.generation_tok is not None}
            for rows in zip(*self.rounds, strict=True)
        ]
        count = min((len(counter) for counter in counters), default=0)
        if count < 2:
            return np.empty(0), np.empty(0)
        times_s = np.linspace(max(map(min, counters)), min(map(max, counters)), count)
        return times_s, np.sum([np.interp(times_s, list(read), list(read.values())) for read in counters], axis=0)

    def _sums(self, name: str) -> list[float] | None:
        values = [[getattr(row.counters, name) for row in rows] for rows in self.rounds]
        if not values or any(value is None for row in values for value in row):
            return None
        return [sum(row) for row in values]

    def _mean_sum(self, name: str) -> float | None:
        sums = self._sums(name)
        return None if sums is None else sum(sums) / len(sums)

    def _mean_held(self) -> float | None:
        running, waiting = self._mean_sum("running"), self._mean_sum("waiting")
        return None if running is None or waiting is None else running + waiting

    def _growth(self, name: str) -> float | None:
        sums = self._sums(name)
        return None if sums is None else sums[-1] - sums[0]


async def search(
    bench: Bench, cell: str, lengths: LengthDistribution, rung_s: float, max_num_seqs: int | None = None
) -> SearchResult:
    """Climb the ladder on live servers: concurrency grows without a pause, each rung is measured for ``rung_s``.

    A rung whose gain its error leaves undecided is measured longer before the ladder goes on or stops.
    """
    await bench.wait_quiet()
    watch = ClientWatch()
    loop = bench.loop(f"search {cell}", lengths, watch=watch)
    stalls = StallWatch()
    rungs: list[Rung] = []
    concurrency, last_concurrency = FIRST_CONCURRENCY, LAST_CONCURRENCY * len(bench.target.urls)
    try:
        while True:
            filled = await fill(bench, loop, concurrency, stalls, timeout_s=2 * rung_s)
            watch.begin()
            await hold(bench, loop, rung_s / 5, stalls)
            scrapes = Scrapes()
            await _watch(bench, scrapes, rung_s)
            least_memory_s = rungs[-1].memory_s if rungs else None
            rungs.append(scrapes.rung(concurrency, watch, lengths.mean_output_tok, least_memory_s))
            while (step := next_step(rungs, last_concurrency)) == "extend":
                await _watch(bench, scrapes, rung_s)
                longer = scrapes.rung(concurrency, watch, lengths.mean_output_tok, least_memory_s)
                rungs[-1] = replace(longer, extensions=rungs[-1].extensions + 1)
            bench.instruments.run.event("rung", cell=cell, filled=filled, **asdict(rungs[-1]), **gain_fields(rungs))
            if step == "stop":
                break
            concurrency *= 2
    finally:
        await loop.stop(drain=False)
    result = choose(rungs, max_num_seqs, last_concurrency)
    bench.instruments.run.event(
        "search_end",
        cell=cell,
        concurrency=result.concurrency,
        binds=result.binds,
        binding=result.binding,
        doubling_gain_rel=result.doubling_gain_rel,
        plateau_shown=result.plateau_shown,
    )
    return result


async def _watch(bench: Bench, scrapes: Scrapes, seconds: float) -> None:
    end_s = time.monotonic() + seconds
    scrapes.add(bench.instruments.monitor.latest)
    while time.monotonic() < end_s:
        await asyncio.sleep(SCRAPE_PERIOD_S / 2)
        scrapes.add(bench.instruments.monitor.latest)


def max_num_seqs(argvs: tuple[tuple[str, ...], ...]) -> int | None:
    """Return the largest batch of all servers together as their command lines give it, or ``None`` if one does not.

    >>> max_num_seqs((("vllm", "--max-num-seqs", "32"), ("vllm", "--max-num-seqs=64")))
    96
    """
    limits = [_option(argv, "--max-num-seqs") for argv in argvs]
    if not limits or any(limit is None or not limit.isdigit() for limit in limits):
        return None
    return sum(int(limit) for limit in limits if limit is not None)


def _option(argv: tuple[str, ...], name: str) -> str | None:
    """Return the last value that an option has on a command line: later ones win."""
    words = [part for word in argv for part in (word.split("=", 1) if word.startswith(f"{name}=") else [word])]
    values = [later for earlier, later in pairwise(words) if earlier == name]
    return values[-1] if values else None
