"""What both kinds of load share: where requests go, what each asks for, and the row each leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import aiohttp
import numpy as np

from estimator.lengths import IntArray
from harness.load.client import Answer, complete, new_streams, with_arrivals
from harness.load.http_stream import Arrived
from workloads.prompts import RANDOM, Prompts


@dataclass(frozen=True, slots=True)
class TaskPosition:
    """Which task a request belongs to, and where in it: its step and sample, from 0, and if the step is its last."""

    number: int
    step: int
    sample: int
    last_step: bool


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One request: where and what was sent, when (monotonic seconds), and how it ended.

    In open loop ``slot`` is -1, ``scheduled_mono_s`` is when the request was due, and ``held_back`` says that the
    limit of requests in flight delayed it; ``send_mono_s`` is ``None`` if the load ended before it was sent.
    ``task`` to ``task_last_step`` say which request of a task it is, ``None`` for one that belongs to none;
    ``token_ids_tok`` counts the generated ids that the server returned, ``None`` where not asked for.
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
    task: int | None = None
    task_step: int | None = None
    task_sample: int | None = None
    task_last_step: bool | None = None
    token_ids_tok: int | None = None


@dataclass(frozen=True)
class Target:
    """The servers to load, the model they serve, and whether they return the ids of generated tokens."""

    urls: tuple[str, ...]
    model: str
    returns_token_ids: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """What one request asks for and, in open loop, when it is due. A request of a task brings its prompt."""

    input_tok: int
    output_tok: int
    first_fill: bool = False
    scheduled_mono_s: float | None = None
    held_back: bool = False
    prompt: IntArray | None = field(default=None, compare=False)
    task: TaskPosition | None = None


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
        prompts: Prompts = RANDOM,
    ) -> None:
        """Send to ``target``; ``client`` numbers the process this is."""
        self._prompts = prompts
        self._session, self._streams, self._target = session, new_streams(), target
        self._cell, self._streamed_share, self._rng, self._sink = cell, streamed_share, rng, sink
        self._client = client
        self._under_way: set[asyncio.Future[None]] = set()
        self.errors = 0

    async def send(self, query: Query, slot: int, server: int) -> Answer:
        """Send ``query`` once; cancelling it leaves a row too."""
        prompt = self._prompts.draw(self._rng, query.input_tok) if query.prompt is None else query.prompt
        want_ids = query.task is not None and self._target.returns_token_ids
        streamed = self.streams(query)
        arrived, ended = Arrived(), asyncio.get_running_loop().create_future()
        self._under_way.add(ended)
        send_mono_s = time.monotonic()
        url, model = self._target.urls[server], self._target.model
        try:
            answer = await complete(
                self._session, self._streams, url, model, prompt.tolist(), query.output_tok, stream=streamed,
                arrived=arrived, want_ids=want_ids,
            )  # fmt: skip
            if answer.outcome == "error":
                self.errors += 1
            self.record(query, slot, server, answer, send_mono_s=send_mono_s, streamed=streamed)
        except asyncio.CancelledError:
            aborted = with_arrivals(Answer("aborted", time.monotonic()), arrived)
            self.record(query, slot, server, aborted, send_mono_s=send_mono_s, streamed=streamed)
            raise
        finally:
            self._under_way.remove(ended)
            ended.set_result(None)
        return answer

    async def outlast(self, timeout_s: float) -> bool:
        """Wait until every request now under way has ended, however many follow; whether they did in ``timeout_s``."""
        if not self._under_way:
            return True
        _, left = await asyncio.wait(self._under_way.copy(), timeout=timeout_s)
        return not left

    def record(
        self, query: Query, slot: int, server: int, answer: Answer, *, send_mono_s: float | None, streamed: bool
    ) -> None:
        """Hand over the row of a request that ended, or that was never sent; of generated ids only their number."""
        ids, task = answer.token_ids, query.task
        self._sink(
            RequestRow(
                self._cell, server, slot, query.first_fill, streamed, query.input_tok, query.output_tok, send_mono_s,
                answer if ids is None else replace(answer, token_ids=None), self._client, query.scheduled_mono_s,
                query.held_back,
                task=None if task is None else task.number,
                task_step=None if task is None else task.step,
                task_sample=None if task is None else task.sample,
                task_last_step=None if task is None else task.last_step,
                token_ids_tok=None if ids is None else len(ids),
            )
        )  # fmt: skip

    def close(self) -> None:
        """Drop idle connections."""
        self._streams.close()

    def streams(self, query: Query) -> bool:
        """Draw whether a request streams. First fills are in no statistics: they stream only if all do."""
        if query.first_fill:
            return self._streamed_share >= 1
        return bool(self._rng.random() < self._streamed_share)
