import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from math import sqrt

import numpy as np
import pytest

from estimator.lengths import fixed_lengths
from harness.load.arrival import Arrival, Timeline, parse_arrival
from harness.load.open_loop import NEVER_SENT, Arrivals, OpenLoop, poisson_arrivals, trace_arrivals
from harness.load.request import RequestRow, Target
from harness.server.api import new_session
from tests.fakes.scripted_engine import Script
from tests.fakes.scripted_server import ScriptedServer, scripted_server
from tests.fakes.waiting import in_loop, until_in_loop

pytestmark = pytest.mark.timeout(60)

LENGTHS = fixed_lengths(10, 20)


class Load:
    """An open loop on a scripted server, and the rows it has left."""

    def __init__(self, server: ScriptedServer, loop: OpenLoop, rows: list[RequestRow]) -> None:
        self.server, self.loop, self.rows = server, loop, rows


@asynccontextmanager
async def loading(
    script: Script, arrivals: Arrivals, *, max_in_flight: int = 1_000, streamed_share: float = 1.0
) -> AsyncIterator[Load]:
    rows: list[RequestRow] = []
    async with scripted_server(script) as server, new_session() as session:
        loop = OpenLoop(
            session,
            Target((server.url,), "scripted"),
            arrivals,
            cell="test",
            streamed_share=streamed_share,
            rng=np.random.default_rng(3),
            sink=rows.append,
            max_in_flight=max_in_flight,
        )
        yield Load(server, loop, rows)


def burst(count: int, apart_s: float = 0.0) -> Arrivals:
    return trace_arrivals([apart_s * number for number in range(count)], [10] * count, [20] * count)


def test_poisson_intervals_are_exponential_at_the_asked_rate() -> None:
    due_s = np.array(
        [query.scheduled_mono_s for query in islice(poisson_arrivals(np.random.default_rng(1), 40.0, LENGTHS), 20_000)]
    )
    gaps_s = np.diff(due_s)
    assert gaps_s.mean() == pytest.approx(1 / 40, rel=4 / sqrt(gaps_s.size))
    assert gaps_s.std() == pytest.approx(1 / 40, rel=4 * sqrt(2 / gaps_s.size))
    for quantile in (0.1, 0.5, 0.9):
        below = (gaps_s < -np.log(1 - quantile) / 40).mean()
        assert abs(below - quantile) < 4 * sqrt(quantile * (1 - quantile) / gaps_s.size)


def test_the_clients_share_a_poisson_stream_out_by_rate() -> None:
    whole = parse_arrival("poisson:30")
    counts = []
    for client in range(3):
        queries = whole.queries(np.random.default_rng(client), LENGTHS, client, 3)
        counts.append(sum((query.scheduled_mono_s or 0) < 300 for query in islice(queries, 6_000)))
    assert counts == pytest.approx([3_000] * 3, abs=4 * sqrt(3_000))


def test_a_trace_is_replayed_at_its_times_with_its_lengths_and_starts_again_at_its_end() -> None:
    queries = list(islice(trace_arrivals([7.0, 8.0, 10.0], [1, 2, 3], [4, 5, 6]), 7))
    assert [query.scheduled_mono_s for query in queries] == [0.0, 1.0, 3.0, 4.5, 5.5, 7.5, 9.0]
    assert [(query.input_tok, query.output_tok) for query in queries] == [(1, 4), (2, 5), (3, 6)] * 2 + [(1, 4)]


def test_the_clients_deal_a_trace_out_and_nothing_is_lost() -> None:
    trace = Arrival("trace", timeline=Timeline((0.0, 1.0, 2.0, 3.0, 4.0), (1, 2, 3, 4, 5), (9,) * 5))
    dealt = [list(islice(trace.queries(np.random.default_rng(), LENGTHS, client, 2), 5)) for client in range(2)]
    assert [query.input_tok for query in dealt[0]] == [1, 3, 5, 2, 4]
    assert [query.input_tok for query in dealt[1]] == [2, 4, 1, 3, 5]


@pytest.mark.parametrize(
    "text",
    [
        "poisson",
        "poisson:0",
        "poisson:-1",
        "poisson:x",
        "uniform:3",
        "",
        "trace:0",
        "trace:",
        "closed:2",
        "closed:5%",
        "poisson:0%",
        "poisson:%",
    ],
)
def test_what_is_no_arrival_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no arrival"):
        parse_arrival(text)


@in_loop
async def test_requests_leave_when_due_though_none_has_been_answered() -> None:
    async with loading(Script(answer_delay_s=30), burst(40, 0.01)) as load:
        before_s = time.monotonic()
        load.loop.grow_to(1)
        await asyncio.sleep(0)  # lets the arrivals begin
        begun_s = time.monotonic()
        await until_in_loop(lambda: load.server.most_open >= 40, "forty requests at once")
        await load.loop.stop(drain=False)
    due_s = sorted(row.scheduled_mono_s or 0 for row in load.rows)
    assert before_s <= due_s[0] <= begun_s
    assert np.diff(due_s[:40]) == pytest.approx([0.01] * 39, abs=1e-6)
    late_s = [(row.send_mono_s or 0) - (row.scheduled_mono_s or 0) for row in load.rows]
    assert min(late_s) >= 0
    assert np.median(late_s) < 0.5
    assert max(late_s) < 10
    assert {(row.slot, row.held_back, row.answer.outcome) for row in load.rows} == {(-1, False, "aborted")}


@in_loop
async def test_at_the_limit_requests_wait_are_marked_and_keep_their_due_time() -> None:
    async with loading(Script(tok_per_s=200), burst(12), max_in_flight=4) as load:
        load.loop.grow_to(4)
        await until_in_loop(lambda: len(load.rows) == 12, "twelve answers")
        await load.loop.stop(drain=True)
        assert load.server.most_open == 4
    assert len({row.scheduled_mono_s for row in load.rows}) == 1
    held = [row for row in load.rows if row.held_back]
    assert len(held) == load.loop.held_back == 8
    assert {row.answer.outcome for row in load.rows} == {"completed"}
    waits_s = sorted((row.send_mono_s or 0) - (row.scheduled_mono_s or 0) for row in held)
    assert waits_s[0] > 0.08
    assert waits_s[-1] > 0.18


@in_loop
async def test_what_was_never_sent_is_counted_and_not_dropped() -> None:
    async with loading(Script(answer_delay_s=30), burst(10), max_in_flight=3) as load:
        load.loop.grow_to(3)
        await until_in_loop(lambda: load.server.open == 3 and load.loop.held_back == 7, "the limit")
        await load.loop.stop(drain=False)
    unsent = [row for row in load.rows if row.send_mono_s is None]
    assert len(load.rows) == 10
    assert len(unsent) == 7
    assert {(row.answer.outcome, row.answer.error, row.streamed) for row in unsent} == {("aborted", NEVER_SENT, True)}
    assert len(load.server.asked) == 3


@in_loop
async def test_as_large_a_share_of_what_was_never_sent_counts_as_probes() -> None:
    async with loading(Script(answer_delay_s=30), burst(2_000), max_in_flight=3, streamed_share=0.3) as load:
        load.loop.grow_to(3)
        await until_in_loop(lambda: load.loop.held_back == 1_997, "the limit")
        await load.loop.stop(drain=False)
    probes = sum(row.streamed for row in load.rows if row.send_mono_s is None)
    assert probes == pytest.approx(600, abs=4 * sqrt(2_000 * 0.3 * 0.7))


@in_loop
async def test_a_drained_stop_finishes_what_is_in_flight() -> None:
    async with loading(Script(tok_per_s=100), burst(5)) as load:
        load.loop.grow_to(1)
        await until_in_loop(lambda: load.server.open == 5, "five requests")
        await load.loop.stop(drain=True)
        assert sum(row.answer.output_tok or 0 for row in load.rows) == load.server.engine.generated_tok == 100


@in_loop
async def test_what_a_request_dies_of_is_raised() -> None:
    async with loading(Script(fault="http_500"), burst(1)) as load:

        def full(_: RequestRow) -> None:
            raise OSError("no space left on device")

        load.loop._requester._sink = full
        load.loop.grow_to(1)
        await until_in_loop(lambda: load.loop._failure, "the failure")
        with pytest.raises(OSError, match="no space left"):
            load.loop.check()
        with pytest.raises(OSError, match="no space left"):
            await load.loop.stop(drain=True)


def test_an_endless_overload_does_not_keep_the_event_loop_from_answering() -> None:
    async def overload() -> int:
        async with loading(
            Script(tok_per_s=5_000), poisson_arrivals(np.random.default_rng(2), 1e6, LENGTHS), max_in_flight=8
        ) as load:
            load.loop.grow_to(8)
            await until_in_loop(lambda: len(load.rows) >= 20, "answers in the middle of the overload")
            await load.loop.stop(drain=False)
            return load.loop.held_back

    assert asyncio.run(overload()) > 0
