"""Closed-loop load: a number of slots, each refilled the moment it frees, started in equilibrium.

Requests that start together march in step for many request lengths. So the first request of every slot is one
that a stationary process would have in flight: its length is drawn length-biased, its age uniform within it; the
age becomes extra prompt and only the rest is generated. These first fills are excluded from request statistics.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
import numpy as np

from estimator.lengths import LengthDistribution
from harness.load.client import Answer, complete
from workloads.prompts import random_prompt

_PAUSE_AFTER_ERROR_S = 0.5


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One request: where and what was sent, when (monotonic seconds), and how it ended."""

    cell: str
    server: int
    slot: int
    first_fill: bool
    streamed: bool
    input_tok_sent: int
    output_tok_asked: int
    send_mono_s: float
    answer: Answer


@dataclass(frozen=True)
class Target:
    """The servers to load and the model they serve."""

    urls: tuple[str, ...]
    model: str


@dataclass(frozen=True, slots=True)
class _Query:
    input_tok: int
    output_tok: int
    first_fill: bool


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
    ) -> None:
        """Prepare the load; nothing is sent before ``grow_to``."""
        self._session, self._target, self._lengths = session, target, lengths
        self._cell, self._streamed_share, self._rng, self._sink = cell, streamed_share, rng, sink
        self._slots: list[asyncio.Task[None]] = []
        self._stopping = False
        self.errors = 0

    @property
    def concurrency(self) -> int:
        """Slots that are kept full."""
        return len(self._slots)

    def grow_to(self, concurrency: int) -> None:
        """Add slots up to ``concurrency``, each starting as a request already under way."""
        added = concurrency - len(self._slots)
        if added <= 0:
            return
        inputs, outputs = self._lengths.sample_length_biased(self._rng, added)
        ages = (self._rng.random(added) * outputs).astype(np.int64)
        for input_tok, output_tok, age_tok in zip(inputs, outputs, ages, strict=True):
            first = _Query(int(input_tok + age_tok), int(output_tok - age_tok), first_fill=True)
            slot = len(self._slots)
            self._slots.append(asyncio.create_task(self._run_slot(slot, first), name=f"slot-{slot}"))

    def check(self) -> None:
        """Raise what a slot died of, if one did: slots end only when told to."""
        for task in self._slots:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def stop(self, *, drain: bool) -> None:
        """End the load: finish what is in flight if ``drain``, else abort it; raises what a slot died of."""
        self._stopping = True
        if not drain:
            for task in self._slots:
                task.cancel()
        results = await asyncio.gather(*self._slots, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result

    async def _run_slot(self, slot: int, first: _Query) -> None:
        server = slot % len(self._target.urls)
        query = first
        while not self._stopping:
            await self._send(slot, server, query)
            inputs, outputs = self._lengths.sample(self._rng, 1)
            query = _Query(int(inputs[0]), int(outputs[0]), first_fill=False)

    async def _send(self, slot: int, server: int, query: _Query) -> None:
        prompt = random_prompt(self._rng, query.input_tok)
        streamed = not query.first_fill and self._rng.random() < self._streamed_share
        url, model = self._target.urls[server], self._target.model
        send_mono_s = time.monotonic()

        def record(answer: Answer) -> None:
            lengths = (query.input_tok, query.output_tok)
            self._sink(RequestRow(self._cell, server, slot, query.first_fill, streamed, *lengths, send_mono_s, answer))

        try:
            answer = await complete(self._session, url, model, prompt, query.output_tok, stream=streamed)
        except asyncio.CancelledError:
            record(Answer("aborted", time.monotonic()))
            raise
        record(answer)
        if answer.outcome == "error":
            self.errors += 1
            await asyncio.sleep(_PAUSE_AFTER_ERROR_S)
