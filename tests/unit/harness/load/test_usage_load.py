"""The tokens of a server without counters, under the real closed loop, against a simulated server that knows them."""

from __future__ import annotations

import asyncio
import heapq
import selectors
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from estimator.lengths import exponential_lengths
from harness.load import closed_loop, request
from harness.load.client import Answer
from harness.load.closed_loop import ClosedLoop
from harness.load.request import RequestRow, Target
from harness.load.usage import tokens_by, usage_is_incomplete, usage_known_until_s

SLOTS, LENGTHS = 256, exponential_lengths(347, 20)
"""A median of 347 tokens is a mean of 500."""
REQUEST_S = 20.0
BEGIN_S, STOP_S = 2 * REQUEST_S, 8 * REQUEST_S


class _Selector(selectors.DefaultSelector):  # type: ignore[valid-type,misc]
    """Never waits: what would have been waited is added to the clock."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now_s += timeout or 0.0
        return super().select(0)


class SimulatedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._simulated = _Selector()
        super().__init__(self._simulated)

    def time(self) -> float:
        return self._simulated.now_s


class SharingServer:
    """Serves n requests in steps of a + b n seconds, one token each a step: as it drains, the rest runs faster.

    ``times_s`` and ``made_tok`` are the truth: when the number of requests changed, and tokens made by then.
    """

    def __init__(self, overhead: float) -> None:
        per_request_s = REQUEST_S / 500 / SLOTS / (1 + overhead)
        self._step = (overhead * per_request_s * SLOTS, per_request_s)
        self._clock_tok = 0.0  # what a request in flight all along would have got
        self._open: list[tuple[float, int, asyncio.Future[None]]] = []
        self._arrived = 0
        self._next: asyncio.TimerHandle | None = None
        self.times_s, self.made_tok = [0.0], [0.0]

    def _tok_per_s(self) -> float:
        fixed_s, per_request_s = self._step
        return 1 / (fixed_s + per_request_s * len(self._open))

    def _advance(self) -> None:
        now_s = asyncio.get_running_loop().time()
        gained_tok = self._tok_per_s() * (now_s - self.times_s[-1]) if self._open else 0.0
        self._clock_tok += gained_tok
        self.times_s.append(now_s)
        self.made_tok.append(self.made_tok[-1] + gained_tok * len(self._open))

    def _schedule(self) -> None:
        if self._next is not None:
            self._next.cancel()
        if self._open:
            wait_s = max(0.0, self._open[0][0] - self._clock_tok) / self._tok_per_s()
            self._next = asyncio.get_running_loop().call_later(wait_s, self._finish)

    def _finish(self) -> None:
        self._advance()
        _, _, answered = heapq.heappop(self._open)
        answered.set_result(None)
        self._schedule()

    async def complete(self, *words: Any, **_: Any) -> Answer:
        """Stand in for ``harness.load.client.complete``."""
        prompt, output_tok = words[-2:]
        self._advance()
        self._arrived += 1
        answered = asyncio.get_running_loop().create_future()
        heapq.heappush(self._open, (self._clock_tok + output_tok, self._arrived, answered))
        self._schedule()
        await answered
        return Answer("completed", asyncio.get_running_loop().time(), None, len(prompt), output_tok)

    def made_between(self, start_s: float, end_s: float) -> float:
        return float(np.diff(np.interp([start_s, end_s], self.times_s, self.made_tok))[0])


def simulate(monkeypatch: pytest.MonkeyPatch, overhead: float, seed: int, *, outlast: bool) -> tuple[float, Any]:
    """Load a simulated server until ``STOP_S``; returns the error of the window's tokens, and the requests."""
    rows: list[RequestRow] = []
    server, loop = SharingServer(overhead), SimulatedLoop()
    monkeypatch.setattr(request, "complete", server.complete)
    monkeypatch.setattr(request, "time", SimpleNamespace(monotonic=loop.time))
    monkeypatch.setattr(closed_loop, "LoopTimer", lambda *_: SimpleNamespace(start=lambda: None, stop=lambda: None))

    async def drive() -> None:
        target, rng = Target(("none",), "none"), np.random.default_rng(seed)
        session: Any = None
        load = ClosedLoop(session, target, LENGTHS, cell="test", streamed_share=0, rng=rng, sink=rows.append)
        load.grow_to(SLOTS)
        await asyncio.sleep(STOP_S)
        if outlast:
            assert await load.outlast(100 * REQUEST_S)
        await load.stop(drain=not outlast)

    loop.run_until_complete(drive())
    loop.close()
    columns = ("slot", "send_mono_s", "scheduled_mono_s")
    table = pd.DataFrame(
        {name: [getattr(row, name) for row in rows] for name in columns}
        | {name: [getattr(row.answer, name) for row in rows] for name in ("outcome", "first_mono_s", "end_mono_s")}
        | {"output_tok": [row.answer.output_tok for row in rows]}
    ).astype({"first_mono_s": float, "output_tok": float})
    counted = float(np.diff(tokens_by(table, [BEGIN_S, STOP_S]))[0])
    return counted / server.made_between(BEGIN_S, STOP_S) - 1, table


@pytest.mark.parametrize("overhead", [0.0, 0.105, 0.5])
def test_the_tokens_of_a_window_are_the_servers_if_the_load_outlasts_it(
    monkeypatch: pytest.MonkeyPatch, overhead: float
) -> None:
    errors = [simulate(monkeypatch, overhead, seed, outlast=True)[0] for seed in range(4)]
    assert abs(np.mean(errors)) < 0.005


def test_draining_instead_would_move_tokens_of_the_tail_into_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    assert simulate(monkeypatch, 0.105, 0, outlast=False)[0] > 0.015


def test_what_is_in_flight_at_the_end_completes_and_only_what_followed_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, table = simulate(monkeypatch, 0.105, 0, outlast=True)
    assert not usage_is_incomplete(table, STOP_S)
    assert usage_is_incomplete(table, table["send_mono_s"].max())
    later = table[table["send_mono_s"] > STOP_S]
    assert set(later["outcome"]) == {"completed", "aborted"}
    assert (later["outcome"] == "aborted").sum() == SLOTS


def test_tokens_are_known_until_the_first_slots_last_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a look sees under load up to then is what any later analysis sees."""
    _, whole = simulate(monkeypatch, 0.105, 0, outlast=True)
    told = whole[whole["end_mono_s"] <= STOP_S]
    known_s = usage_known_until_s(told, SLOTS)
    assert known_s == min(rows["end_mono_s"].max() for _, rows in told.groupby("slot"))
    times_s = np.linspace(0, known_s, 50)
    assert tokens_by(told, times_s) == pytest.approx(tokens_by(whole, times_s), rel=1e-12)
    assert tokens_by(told, [STOP_S])[0] < 0.99 * tokens_by(whole, [STOP_S])[0]
    assert usage_known_until_s(told[told["slot"] != 7], SLOTS) == -np.inf
    assert usage_known_until_s(told.assign(slot=-1), SLOTS) == -np.inf
