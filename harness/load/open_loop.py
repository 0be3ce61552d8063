"""Open-loop load: requests leave when they are due, however slow the answers are.

Latency counts from when a request was due, not from when it was sent: a client that waits for a slow server would
otherwise leave out the very requests that suffered (coordinated omission).

The number in flight is limited, so that a server that cannot keep up does not exhaust this machine. A request that
is due while the limit is reached waits here, first come first served, and leaves as soon as one ends; it is marked
``held_back`` and its latency still counts from when it was due. What still waits when the load ends is recorded as
aborted, without a time of sending.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import aiohttp
import numpy as np

from estimator.lengths import LengthDistribution
from harness.load.client import Answer
from harness.load.health import LoopTimer, TickSink, no_ticks
from harness.load.request import Query, Requester, RequestRow, Target
from workloads.prompts import RANDOM, Prompts

MAX_IN_FLIGHT = 1_024
NO_SLOT = -1
NEVER_SENT = "never sent: the limit of requests in flight held it back until the load ended"

Arrivals = Iterator[Query]
"""Queries in the order they are due; ``scheduled_mono_s`` counts from the start of the load."""


def poisson_arrivals(rng: np.random.Generator, rate_per_s: float, lengths: LengthDistribution) -> Arrivals:
    """Yield queries at independent exponential intervals of mean ``1 / rate_per_s`` seconds, without end."""
    due_s = 0.0
    while True:
        due_s += float(rng.exponential(1 / rate_per_s))
        inputs, outputs = lengths.sample(rng, 1)
        yield Query(int(inputs[0]), int(outputs[0]), scheduled_mono_s=due_s)


def trace_arrivals(due_s: Sequence[float], input_tok: Sequence[int], output_tok: Sequence[int]) -> Arrivals:
    """Yield the queries of a recorded trace at their own times, from the first on; a trace that ends starts again.

    Its first query is then due one mean interval after its last.
    """
    first_s = due_s[0]
    lap_s = (due_s[-1] - first_s) * len(due_s) / max(1, len(due_s) - 1)
    lap = 0
    while True:
        for at_s, inputs, outputs in zip(due_s, input_tok, output_tok, strict=True):
            yield Query(int(inputs), int(outputs), scheduled_mono_s=at_s - first_s + lap * lap_s)
        if lap_s <= 0:
            return
        lap += 1


class OpenLoop:
    """Sends queries when they are due until stopped; every one ends as a row in ``sink``."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        target: Target,
        arrivals: Arrivals,
        *,
        cell: str,
        streamed_share: float,
        rng: np.random.Generator,
        sink: Callable[[RequestRow], None],
        ticks: TickSink = no_ticks,
        client: int = 0,
        max_in_flight: int = MAX_IN_FLIGHT,
        prompts: Prompts = RANDOM,
    ) -> None:
        """Prepare the load; nothing is sent before ``grow_to``."""
        self._arrivals, self._servers, self._limit = arrivals, len(target.urls), max_in_flight
        self._requester = Requester(
            session,
            target,
            cell=cell,
            streamed_share=streamed_share,
            rng=rng,
            sink=sink,
            client=client,
            prompts=prompts,
        )
        self._timer = LoopTimer(client, ticks)
        self._in_flight: set[asyncio.Task[Answer]] = set()
        self._waiting: deque[tuple[Query, int]] = deque()
        self._arriving: asyncio.Task[None] | None = None
        self._stopping = False
        self._failure: BaseException | None = None
        self.held_back = 0

    @property
    def concurrency(self) -> int:
        """The most requests that may be in flight: nothing has to fill up to it."""
        return self._limit

    @property
    def errors(self) -> int:
        """Requests that failed so far."""
        return self._requester.errors

    async def ready(self) -> None:
        """Return at once: this process needs no preparation."""

    def grow_to(self, _: int) -> None:
        """Let requests arrive from now on, if they do not yet."""
        if self._arriving is None:
            self._timer.start()
            self._arriving = asyncio.create_task(self._arrive(), name="arrivals")

    def check(self) -> None:
        """Raise what a request or the arrivals died of, if they did."""
        if self._failure is not None:
            raise self._failure
        if self._arriving is not None and self._arriving.done() and not self._arriving.cancelled():
            self._arriving.result()

    async def outlast(self, timeout_s: float) -> bool:
        """Keep the load up until what is in flight now has ended; returns whether it has within ``timeout_s``."""
        return await self._requester.outlast(timeout_s)

    async def stop(self, *, drain: bool) -> None:
        """End the arrivals; finish what is in flight if ``drain``, else abort it; raises what the load died of."""
        self._stopping = True
        if self._arriving is not None:
            self._arriving.cancel()
            await asyncio.gather(self._arriving, return_exceptions=True)
        for query, server in self._waiting:
            aborted = Answer("aborted", time.monotonic(), error=NEVER_SENT)
            streamed = self._requester.streams(query)  # else probes would be those alone that got through
            self._requester.record(query, NO_SLOT, server, aborted, send_mono_s=None, streamed=streamed)
        self._waiting.clear()
        if not drain:
            for task in self._in_flight:
                task.cancel()
        await asyncio.gather(*self._in_flight, return_exceptions=True)
        self._timer.stop()
        self._requester.close()
        self.check()

    async def _arrive(self) -> None:
        began_s = time.monotonic()
        for number, query in enumerate(self._arrivals):
            due_s = began_s + (query.scheduled_mono_s or 0.0)
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            self._admit(replace(query, scheduled_mono_s=due_s), number % self._servers)

    def _admit(self, query: Query, server: int) -> None:
        if len(self._in_flight) < self._limit:
            self._launch(query, server)
        else:
            self.held_back += 1
            self._waiting.append((replace(query, held_back=True), server))

    def _launch(self, query: Query, server: int) -> None:
        task = asyncio.create_task(self._requester.send(query, NO_SLOT, server))
        self._in_flight.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Answer]) -> None:
        self._in_flight.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
        if self._waiting and not self._stopping:
            self._launch(*self._waiting.popleft())
