"""Closed-loop load: a number of slots, each refilled the moment it frees, started in equilibrium.

Requests that start together march in step for many request lengths. So the first request of every slot is one
that a stationary process would have in flight (``harness.load.queries``). These first fills are excluded from request
statistics.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
import numpy as np

from estimator.lengths import LengthDistribution
from harness.load.health import LoopTimer, TickSink, no_ticks
from harness.load.queries import IndependentQueries, Queries, TaskQueries
from harness.load.request import Query, Requester, RequestRow, Target
from workloads.prompts import RANDOM, Prompts
from workloads.replayed_tasks import TaskLengths

_PAUSE_AFTER_ERROR_S = 0.5


class ClosedLoop:
    """Keeps a number of requests in flight until stopped; every request ends as one row in ``sink``."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        target: Target,
        lengths: LengthDistribution,
        *,
        cell: str,
        streamed_share: float,
        rng: np.random.Generator,
        sink: Callable[[RequestRow], None],
        ticks: TickSink = no_ticks,
        client: int = 0,
        clients: int = 1,
        prompts: Prompts = RANDOM,
    ) -> None:
        """Prepare the load; nothing is sent before ``grow_to``. Of several clients this is number ``client``."""
        self._servers, self._client, self._clients = len(target.urls), client, clients
        self._queries: Queries = (
            TaskQueries(lengths, prompts, rng, client, clients)
            if isinstance(lengths, TaskLengths)
            else IndependentQueries(lengths, rng)
        )
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
        self._slots: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def concurrency(self) -> int:
        """Slots that are kept full."""
        return len(self._slots)

    @property
    def errors(self) -> int:
        """Requests that failed so far."""
        return self._requester.errors

    async def ready(self) -> None:
        """Return at once: this process needs no preparation."""

    def grow_to(self, concurrency: int) -> None:
        """Add slots up to ``concurrency``, each starting as a request already under way."""
        added = concurrency - len(self._slots)
        if added <= 0:
            return
        self._timer.start()
        for _ in range(added):
            slot = self._client + self._clients * len(self._slots)
            first = self._queries.first_fill(slot % self._servers)
            self._slots.append(asyncio.create_task(self._run_slot(slot, first), name=f"slot-{slot}"))

    def check(self) -> None:
        """Raise what a slot died of, if one did: slots end only when told to."""
        for task in self._slots:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def outlast(self, timeout_s: float) -> bool:
        """Keep the load up until what is in flight now has ended; returns whether it has within ``timeout_s``."""
        return await self._requester.outlast(timeout_s)

    async def stop(self, *, drain: bool) -> None:
        """End the load: finish what is in flight if ``drain``, else abort it; raises what a slot died of."""
        self._stopping = True
        if not drain:
            for task in self._slots:
                task.cancel()
        results = await asyncio.gather(*self._slots, return_exceptions=True)
        self._timer.stop()
        self._requester.close()
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result

    async def _run_slot(self, slot: int, first: Query) -> None:
        server = slot % self._servers
        query = first
        while not self._stopping:
            answer = await self._requester.send(query, slot, server)
            self._queries.ended(query, answer)
            if answer.outcome == "error":
                await asyncio.sleep(_PAUSE_AFTER_ERROR_S)
            query = self._queries.next(server)
