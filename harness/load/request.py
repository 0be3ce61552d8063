"""What both kinds of load share: where requests go, what each asks for, and the row each leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
import numpy as np

from harness.load.client import Answer, complete, new_streams
from workloads.prompts import random_prompt


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One request: where and what was sent, when (monotonic seconds), and how it ended.

    In open loop ``slot`` is -1, ``scheduled_mono_s`` is when the request was due, and ``held_back`` says that the
    limit of requests in flight delayed it; ``send_mono_s`` is ``None`` if the load ended before it was sent.
    """

    cell: str
    server: int
    slot: int
    first_fill: bool
    streamed: bool
    input_tok_sent: int
    output_tok_asked: int
    send_mono_s: float | None
    answer: Answer
    client: int = 0
    scheduled_mono_s: float | None = None
    held_back: bool = False


@dataclass(frozen=True)
class Target:
    """The servers to load and the model they serve."""

    urls: tuple[str, ...]
    model: str


@dataclass(frozen=True, slots=True)
class Query:
    """What one request asks for and, in open loop, when it is due."""

    input_tok: int
    output_tok: int
    first_fill: bool = False
    scheduled_mono_s: float | None = None
    held_back: bool = False


class Requester:
    """Sends the requests of one cell and makes each a row in ``sink``, however it ends."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        target: Target,
        *,
        cell: str,
        streamed_share: float,
        rng: np.random.Generator,
        sink: Callable[[RequestRow], None],
        client: int,
    ) -> None:
        """Send to ``target``; ``client`` numbers the process this is."""
        self._session, self._streams, self._target = session, new_streams(), target
        self._cell, self._streamed_share, self._rng, self._sink = cell, streamed_share, rng, sink
        self._client = client
        self.errors = 0

    async def send(self, query: Query, slot: int, server: int) -> Answer:
        """Send ``query`` once; cancelling it leaves a row too."""
        prompt = random_prompt(self._rng, query.input_tok)
        streamed = self._streams_one(query)
        send_mono_s = time.monotonic()
        url, model = self._target.urls[server], self._target.model
        try:
            answer = await complete(self._session, self._streams, url, model, prompt, query.output_tok, stream=streamed)
        except asyncio.CancelledError:
            aborted = Answer("aborted", time.monotonic())
            self.record(query, slot, server, aborted, send_mono_s=send_mono_s, streamed=streamed)
            raise
        if answer.outcome == "error":
            self.errors += 1
        self.record(query, slot, server, answer, send_mono_s=send_mono_s, streamed=streamed)
        return answer

    def record(
        self, query: Query, slot: int, server: int, answer: Answer, *, send_mono_s: float | None, streamed: bool
    ) -> None:
        """Hand over the row of a request that ended, or that was never sent."""
        self._sink(
            RequestRow(
                self._cell, server, slot, query.first_fill, streamed, query.input_tok, query.output_tok, send_mono_s,
                answer, self._client, query.scheduled_mono_s, query.held_back,
            )
        )  # fmt: skip

    def close(self) -> None:
        """Drop idle connections."""
        self._streams.close()

    def _streams_one(self, query: Query) -> bool:
        """Draw whether a request streams. First fills are in no statistics: they stream only if all do."""
        if query.first_fill:
            return self._streamed_share >= 1
        return bool(self._rng.random() < self._streamed_share)
