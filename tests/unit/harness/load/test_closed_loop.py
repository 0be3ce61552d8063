import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from statistics import median
from typing import Any

import aiohttp
import numpy as np
import pytest

from estimator.lengths import LengthDistribution, empirical_lengths, exponential_lengths, fixed_lengths
from harness.load import closed_loop, request
from harness.load.client import Answer
from harness.load.closed_loop import ClosedLoop
from harness.load.queries import IndependentQueries
from harness.load.request import RequestRow, Target
from harness.server.api import new_session
from tests.fakes.scripted_engine import Script
from tests.fakes.scripted_server import ScriptedServer, scripted_server
from tests.fakes.waiting import in_loop, until_in_loop

pytestmark = pytest.mark.timeout(60)

INPUT_TOK = 20
SHORT_TOK, LONG_TOK = 10, 500
TWO_POINT = empirical_lengths([INPUT_TOK, INPUT_TOK], [SHORT_TOK, LONG_TOK])
EXPONENTIAL = exponential_lengths(100, INPUT_TOK)


class Load:
    """A closed loop on scripted servers, and the rows it has left."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        servers: list[ScriptedServer],
        lengths: LengthDistribution,
        streamed_share: float,
    ) -> None:
        self.rows: list[RequestRow] = []
        self.servers = servers
        target = Target(tuple(server.url for server in servers), "scripted")
        rng = np.random.default_rng(7)
        self.loop = ClosedLoop(
            session, target, lengths, cell="test", streamed_share=streamed_share, rng=rng, sink=self.rows.append
        )

    @property
    def generated_tok(self) -> int:
        return sum(server.engine.generated_tok for server in self.servers)

    @property
    def asked(self) -> int:
        return sum(len(server.asked) for server in self.servers)

    def with_outcome(self, outcome: str) -> list[RequestRow]:
        return [row for row in self.rows if row.answer.outcome == outcome]

    def completed_tok(self) -> int:
        return sum(row.answer.output_tok or 0 for row in self.with_outcome("completed"))


@asynccontextmanager
async def loading(
    *scripts: Script, lengths: LengthDistribution = TWO_POINT, streamed_share: float = 0.3
) -> AsyncIterator[Load]:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(scripted_server(script)) for script in scripts]
        yield Load(await stack.enter_async_context(new_session()), servers, lengths, streamed_share)


@in_loop
async def test_the_concurrency_asked_for_is_in_flight_and_never_more() -> None:
    async with loading(Script(tok_per_s=8_000)) as load:
        load.loop.grow_to(12)
        await until_in_loop(lambda: len(load.rows) >= 120, "120 requests")
        await load.loop.stop(drain=True)
    assert load.servers[0].most_open == 12
    assert {row.slot for row in load.rows} == set(range(12))
    assert load.loop.concurrency == 12


@in_loop
async def test_a_slot_is_refilled_the_moment_it_frees() -> None:
    async with loading(Script(tok_per_s=8_000)) as load:
        load.loop.grow_to(8)
        await until_in_loop(lambda: len(load.rows) >= 120, "120 requests")
        await load.loop.stop(drain=True)
    by_slot = defaultdict(list)
    for row in sorted(load.rows, key=lambda row: row.send_mono_s):
        by_slot[row.slot].append(row)
    gaps_s = [
        after.send_mono_s - before.answer.end_mono_s for rows in by_slot.values() for before, after in pairwise(rows)
    ]
    assert min(gaps_s) >= 0
    assert median(gaps_s) < 0.01


@in_loop
async def test_growing_keeps_what_is_in_flight() -> None:
    async with loading(Script(tok_per_s=100)) as load:
        for concurrency in (4, 16, 8):
            load.loop.grow_to(concurrency)
            most = load.loop.concurrency
            await until_in_loop(lambda most=most: load.servers[0].open == most, f"{most} requests at once")
        assert load.loop.concurrency == 16
        await load.loop.stop(drain=False)


@pytest.mark.parametrize(("concurrency", "expected"), [(8, [4, 4]), (7, [4, 3])])
@in_loop
async def test_replicas_are_loaded_evenly(concurrency: int, expected: list[int]) -> None:
    async with loading(Script(tok_per_s=1_000), Script(tok_per_s=8_000)) as load:
        load.loop.grow_to(concurrency)
        await until_in_loop(lambda: len(load.rows) >= 40, "40 requests")
        await load.loop.stop(drain=True)
        assert [server.most_open for server in load.servers] == expected
        for number, server in enumerate(load.servers):
            sent = [row for row in load.rows if row.server == number]
            assert len(sent) == len(server.asked)
            assert sum(row.answer.output_tok or 0 for row in sent) == server.engine.generated_tok


@in_loop
async def test_a_share_of_the_requests_streams_but_no_first_fill_does() -> None:
    async with loading(Script(tok_per_s=20_000), lengths=fixed_lengths(INPUT_TOK, 20), streamed_share=0.5) as load:
        load.loop.grow_to(16)
        await until_in_loop(lambda: len(load.rows) >= 416, "416 requests")
        await load.loop.stop(drain=True)
    later = [row for row in load.rows if not row.first_fill]
    assert not any(row.streamed for row in load.rows if row.first_fill)
    assert all((row.answer.first_mono_s is not None) == row.streamed for row in load.rows)
    assert abs(sum(row.streamed for row in later) / len(later) - 0.5) < 4 * 0.5 / len(later) ** 0.5


@in_loop
async def test_a_drained_stop_leaves_nothing_unfinished_and_every_token_accounted_for() -> None:
    async with loading(Script(tok_per_s=8_000), Script(tok_per_s=8_000, packet_bytes=16, tok_per_chunk=40)) as load:
        load.loop.grow_to(16)
        await until_in_loop(lambda: len(load.rows) >= 60, "60 requests")
        await load.loop.stop(drain=True)
        assert sum(server.open for server in load.servers) == 0
        assert load.completed_tok() == load.generated_tok
    assert {row.answer.outcome for row in load.rows} == {"completed"}
    assert len(load.rows) == load.asked


@in_loop
async def test_an_aborted_stop_brackets_the_servers_count() -> None:
    async with loading(Script(tok_per_s=400)) as load:
        load.loop.grow_to(16)
        await until_in_loop(lambda: len(load.with_outcome("completed")) >= 20, "20 requests")
        await load.loop.stop(drain=False)
        await until_in_loop(lambda: load.servers[0].open == 0, "the server to notice")
        aborted = load.with_outcome("aborted")
        assert len(aborted) == 16
        assert load.completed_tok() <= load.generated_tok
        assert load.generated_tok <= load.completed_tok() + sum(row.output_tok_asked for row in aborted)
        assert len(load.rows) >= load.asked  # the last may be cut off on their way


@in_loop
async def test_what_is_cut_off_keeps_when_its_first_token_and_its_packets_came() -> None:
    async with loading(Script(tok_per_s=200), lengths=fixed_lengths(INPUT_TOK, 100_000), streamed_share=1) as load:
        load.loop.grow_to(3)
        await until_in_loop(lambda: load.servers[0].open == 3 and load.generated_tok >= 300, "300 tokens")
        await load.loop.stop(drain=False)
    for row in load.with_outcome("aborted"):
        assert row.send_mono_s is not None
        assert row.answer.first_mono_s is not None
        assert row.send_mono_s < row.answer.first_mono_s < row.answer.end_mono_s
        assert (row.answer.packets or 0) >= 2
        assert (row.answer.gap_max_s or 0) > 0
        assert row.answer.output_tok is None


@in_loop
async def test_a_request_cut_off_before_its_first_token_has_no_time_of_one() -> None:
    async with loading(Script(answer_delay_s=30), streamed_share=1) as load:
        load.loop.grow_to(3)
        await until_in_loop(lambda: load.servers[0].open == 3, "three requests")
        await load.loop.stop(drain=False)
    assert [(row.answer.outcome, row.answer.first_mono_s) for row in load.rows] == [("aborted", None)] * 3


@in_loop
async def test_a_load_is_outlasted_at_its_whole_concurrency_but_not_for_ever() -> None:
    async with loading(Script(tok_per_s=1_000)) as load:
        load.loop.grow_to(8)
        await until_in_loop(lambda: len(load.rows) >= 20, "20 requests")
        assert load.servers[0].open == 8
        before_s = time.monotonic()
        assert await load.loop.outlast(30)
        await until_in_loop(lambda: load.servers[0].open == 8, "eight requests at once, still")
        await load.loop.stop(drain=False)
    for row in load.with_outcome("aborted"):
        assert row.send_mono_s is not None
        assert row.send_mono_s > before_s
    async with loading(Script(answer_delay_s=30)) as load:
        load.loop.grow_to(2)
        await until_in_loop(lambda: load.servers[0].open == 2, "two requests")
        assert not await load.loop.outlast(0.1)
        await load.loop.stop(drain=False)


@in_loop
async def test_failing_requests_do_not_make_a_slot_spin() -> None:
    async with loading(Script(fault="http_500")) as load:
        began_s = time.monotonic()
        load.loop.grow_to(4)
        await until_in_loop(lambda: load.asked >= 12, "every slot's third try")
        rounds = 1 + (time.monotonic() - began_s) / closed_loop._PAUSE_AFTER_ERROR_S
        assert load.asked <= 4 * rounds
        await load.loop.stop(drain=True)
    assert load.loop.errors == len(load.with_outcome("error")) == len(load.rows) == load.asked
    assert all(row.answer.output_tok is None for row in load.rows)


@in_loop
async def test_what_a_slot_dies_of_is_raised_by_stop() -> None:
    async with loading(Script(fault="http_500")) as load:

        def full(_: RequestRow) -> None:
            raise OSError("no space left on device")

        load.loop._requester._sink = full
        load.loop.grow_to(2)
        await until_in_loop(lambda: load.asked == 2, "both requests")
        with pytest.raises(OSError, match="no space left"):
            await load.loop.stop(drain=True)


async def _first_fills(monkeypatch: pytest.MonkeyPatch, lengths: LengthDistribution, count: int) -> list[RequestRow]:
    """Start ``count`` slots against a server that never answers, so that only first fills are sent."""
    started = 0

    async def never(*_: Any, **__: Any) -> Answer:
        nonlocal started
        started += 1
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(request, "complete", never)
    async with loading(Script(), lengths=lengths) as load:
        load.loop.grow_to(count)
        await until_in_loop(lambda: started == count, "every slot to start")
        await load.loop.stop(drain=False)
    assert all(row.first_fill for row in load.rows)
    return load.rows


def first_fills(monkeypatch: pytest.MonkeyPatch, lengths: LengthDistribution, count: int) -> list[RequestRow]:
    return asyncio.run(_first_fills(monkeypatch, lengths, count))


def test_age_and_rest_of_a_first_fill_are_one_drawn_length(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = first_fills(monkeypatch, TWO_POINT, 500)
    ages = [row.input_tok_sent - INPUT_TOK for row in rows]
    assert min(ages) >= 0
    assert min(row.output_tok_asked for row in rows) >= 1
    whole = {age + row.output_tok_asked for age, row in zip(ages, rows, strict=True)}
    assert whole == {SHORT_TOK, LONG_TOK}


def exponential_by_hand() -> tuple[float, float]:
    """Return E[L] and E[L^2] of a continuous exponential with a median of 100 tokens."""
    mean_tok = 100 / np.log(2)
    return mean_tok, 2 * mean_tok**2


@pytest.mark.parametrize(
    ("lengths", "mean_tok", "mean_square_tok2"),
    [
        (EXPONENTIAL, *exponential_by_hand()),
        (TWO_POINT, (SHORT_TOK + LONG_TOK) / 2, (SHORT_TOK**2 + LONG_TOK**2) / 2),
        (fixed_lengths(INPUT_TOK, 200), 200, 200**2),
    ],
    ids=["exponential", "two lengths", "one length"],
)
def test_first_fills_are_what_a_stationary_process_has_in_flight(
    monkeypatch: pytest.MonkeyPatch, lengths: LengthDistribution, mean_tok: float, mean_square_tok2: float
) -> None:
    """Renewal theory: residual and age both have the mean E[L^2] / 2E[L]; whole tokens shift them by a half."""
    rows = first_fills(monkeypatch, lengths, 8_000)
    expected_tok = mean_square_tok2 / (2 * mean_tok)
    rests = np.array([row.output_tok_asked for row in rows])
    ages = np.array([row.input_tok_sent - INPUT_TOK for row in rows])
    assert abs(rests.mean() - (expected_tok + 0.5)) < 4 * rests.std() / len(rests) ** 0.5
    assert abs(ages.mean() - (expected_tok - 0.5)) < 4 * ages.std() / len(ages) ** 0.5


def test_requests_after_the_first_have_the_workloads_own_lengths() -> None:
    async def load_shortly() -> list[RequestRow]:
        async with loading(Script(tok_per_s=50_000)) as load:
            load.loop.grow_to(32)
            await until_in_loop(lambda: len(load.rows) >= 632, "632 requests")
            await load.loop.stop(drain=True)
            return load.rows

    later = [row for row in asyncio.run(load_shortly()) if not row.first_fill]
    assert {row.input_tok_sent for row in later} == {INPUT_TOK}
    share = sum(row.output_tok_asked == LONG_TOK for row in later) / len(later)
    assert abs(share - 0.5) < 4 * 0.5 / len(later) ** 0.5


@in_loop
async def test_every_first_fill_is_marked_and_one_a_slot() -> None:
    async with loading(Script(tok_per_s=20_000)) as load:
        load.loop.grow_to(8)
        await until_in_loop(lambda: len(load.rows) >= 60, "60 requests")
        await load.loop.stop(drain=True)
    firsts = [row.slot for row in load.rows if row.first_fill]
    assert sorted(firsts) == list(range(8))
    sent_first = {row.slot: row for row in sorted(load.rows, key=lambda row: -row.send_mono_s)}
    assert all(row.first_fill for row in sent_first.values())


@in_loop
async def test_inputs_of_20_000_tokens_are_sent_whole_and_streamed_ones_too() -> None:
    async with loading(Script(tok_per_s=8_000), lengths=fixed_lengths(20_000, 20), streamed_share=0.5) as load:
        load.loop.grow_to(4)
        await until_in_loop(lambda: len(load.rows) >= 24, "24 requests")
        await load.loop.stop(drain=True)
        (server,) = load.servers
        later = [row for row in load.rows if not row.first_fill]
        assert {row.answer.prompt_tok for row in later} == {20_000}
        assert sum(len(body["prompt"]) for body in server.asked) == sum(row.input_tok_sent for row in load.rows)
        assert {row.answer.outcome for row in load.rows} == {"completed"}


@pytest.mark.parametrize(
    "lengths", [fixed_lengths(20_000, 5_000), exponential_lengths(3_000, 20_000)], ids=["fixed", "exponential"]
)
def test_the_age_of_a_first_fill_never_takes_a_request_beyond_the_context(lengths: LengthDistribution) -> None:
    capped, share = lengths.capped(22_000)
    assert share > 0.1
    queries = IndependentQueries(capped, np.random.default_rng(1))
    firsts = [queries.first_fill(0) for _ in range(2_000)]
    assert max(first.input_tok for first in firsts) > 21_000  # some are old
    assert all(first.output_tok >= 1 and first.input_tok + first.output_tok <= 22_000 for first in firsts)
