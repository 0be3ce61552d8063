import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from estimator.lengths import fixed_lengths
from harness.errors import MeasurementError
from harness.load.arrival import CLOSED, Arrival, parse_arrival
from harness.load.closed_loop import ClosedLoop
from harness.load.health import TickRow
from harness.load.open_loop import OpenLoop
from harness.load.processes import ClientProcesses, LoadSpec, make_load, share
from harness.load.request import RequestRow, Target
from harness.server.api import new_session
from tests.fakes.scripted_engine import Script
from tests.fakes.scripted_server import ScriptedServer, scripted_server
from tests.fakes.waiting import in_loop, until_in_loop

pytestmark = pytest.mark.timeout(120)


@dataclass
class Load:
    servers: list[ScriptedServer]
    processes: ClientProcesses
    rows: list[RequestRow]
    ticks: list[TickRow]


@asynccontextmanager
async def loading(arrival: Arrival = CLOSED, clients: int = 2, tok_per_s: float = 400) -> AsyncIterator[Load]:
    rows: list[RequestRow] = []
    ticks: list[TickRow] = []
    script = Script(tok_per_s=tok_per_s)
    async with scripted_server(script) as one, scripted_server(script) as other:
        spec = LoadSpec(Target((one.url, other.url), "scripted"), fixed_lengths(10, 40), "test", 0.5, arrival)
        yield Load(
            [one, other],
            ClientProcesses(spec, np.random.default_rng(5), rows.append, ticks.extend, clients),
            rows,
            ticks,
        )


@in_loop
async def test_the_clients_together_keep_the_slots_full_and_account_for_every_token() -> None:
    async with loading() as load:
        load.processes.grow_to(5)
        await until_in_loop(lambda: sum(server.open for server in load.servers) == 5, "five requests at once", 60)
        load.processes.grow_to(8)
        await until_in_loop(lambda: len(load.rows) >= 60, "60 requests")
        assert load.processes.concurrency == 8
        load.processes.check()
        await load.processes.stop(drain=True)
        assert sum(server.most_open for server in load.servers) == 8
        assert [server.most_open for server in load.servers] == [4, 4]
        assert sum(row.answer.output_tok or 0 for row in load.rows) == sum(s.engine.generated_tok for s in load.servers)
        assert len(load.rows) == sum(len(server.asked) for server in load.servers)
    assert {row.slot for row in load.rows} == set(range(8))
    assert {row.client for row in load.rows} == {0, 1}
    assert all(row.slot % 2 == row.client for row in load.rows)
    assert sum(row.first_fill for row in load.rows) == 8
    assert {tick.client for tick in load.ticks} == {0, 1}
    assert load.processes.errors == 0


@in_loop
async def test_clients_do_not_send_the_same_prompts() -> None:
    async with loading(tok_per_s=4_000) as load:
        load.processes.grow_to(8)
        await until_in_loop(lambda: len(load.rows) >= 100, "100 requests", 60)
        await load.processes.stop(drain=True)
        prompts = [tuple(asked["prompt"]) for server in load.servers for asked in server.asked]
    assert len(set(prompts)) == len(prompts)


@in_loop
async def test_an_aborted_stop_leaves_a_row_for_every_request_and_no_process() -> None:
    async with loading(tok_per_s=1) as load:
        load.processes.grow_to(6)
        await until_in_loop(lambda: sum(server.open for server in load.servers) == 6, "six requests", 60)
        await load.processes.stop(drain=False)
        assert [row.answer.outcome for row in load.rows] == ["aborted"] * 6
        assert not any(client.process.is_alive() for client in load.processes._clients)


@in_loop
async def test_a_client_that_dies_is_an_error_and_the_others_still_end() -> None:
    async with loading() as load:
        load.processes.grow_to(4)
        await until_in_loop(lambda: sum(server.open for server in load.servers) == 4, "four requests", 60)
        victim = load.processes._clients[1].process.pid
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        await until_in_loop(lambda: load.processes._clients[1].failure, "the loss")
        with pytest.raises(MeasurementError, match="load client 1 died"):
            load.processes.check()
        with pytest.raises(MeasurementError, match="load client 1 died"):
            await load.processes.stop(drain=False)
        assert not any(client.process.is_alive() for client in load.processes._clients)


@in_loop
async def test_what_a_client_dies_of_is_told() -> None:
    async with loading(Arrival("trace")) as load:
        load.processes.grow_to(1)
        await until_in_loop(lambda: all(client.failure for client in load.processes._clients), "the failures", 60)
        with pytest.raises(MeasurementError, match="has no times of its own"):
            await load.processes.stop(drain=False)


@in_loop
async def test_every_client_keeps_its_load_up_until_the_last_has_outlasted_its_requests() -> None:
    async with loading() as load:
        load.processes.grow_to(6)
        await until_in_loop(lambda: sum(server.open for server in load.servers) == 6, "six requests", 60)
        before_s = time.monotonic()
        assert await load.processes.outlast(30)
        await until_in_loop(lambda: sum(server.open for server in load.servers) == 6, "six requests at once, still")
        await load.processes.stop(drain=False)
    early = [row for row in load.rows if row.send_mono_s is not None and row.send_mono_s < before_s]
    assert len(early) >= 6
    assert {row.answer.outcome for row in early} == {"completed"}


@in_loop
async def test_an_open_loop_is_shared_out_too() -> None:
    async with loading(parse_arrival("poisson:200")) as load:
        load.processes.grow_to(1)
        await until_in_loop(lambda: {row.client for row in load.rows} == {0, 1}, "rows of both clients", 60)
        await load.processes.stop(drain=True)
    assert all(row.scheduled_mono_s is not None and row.slot == -1 for row in load.rows)


@pytest.mark.parametrize(("arrival", "kind"), [(CLOSED, ClosedLoop), (parse_arrival("poisson:1"), OpenLoop)])
@in_loop
async def test_one_client_needs_no_process(arrival: Arrival, kind: type) -> None:
    spec = LoadSpec(Target(("http://127.0.0.1:1",), "none"), fixed_lengths(1, 1), "test", 0.0, arrival)
    async with new_session() as session:
        load = make_load(spec, session, np.random.default_rng(), lambda _: None, lambda _: None)
        assert isinstance(load, kind)
        await load.stop(drain=False)


@pytest.mark.parametrize("total", [0, 1, 5, 64])
@pytest.mark.parametrize("clients", [1, 2, 3, 7])
def test_shares_add_up_and_differ_by_one_at_most(total: int, clients: int) -> None:
    shares = [share(total, client, clients) for client in range(clients)]
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1
