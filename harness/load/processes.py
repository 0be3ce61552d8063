"""The load of a cell, in this process or spread over several, behind one interface.

One event loop can be too slow for a large server. Each client process drives its share of the slots, or of the
arrivals, in an event loop of its own and sends back its rows in batches. Monotonic time is one clock for all
processes of a machine, so their rows need no alignment.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import traceback
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, TypeVar

import aiohttp
import numpy as np
import uvloop

from estimator.lengths import LengthDistribution
from harness.errors import HarnessError, MeasurementError
from harness.load.arrival import CLOSED, Arrival
from harness.load.closed_loop import ClosedLoop
from harness.load.health import TickRow, TickSink
from harness.load.open_loop import OpenLoop
from harness.load.request import RequestRow, Target
from harness.server.api import new_session
from harness.signals import ignore_ending
from workloads.prompts import RANDOM, Prompts

BATCH_S = 0.25
_JOIN_S = 10.0

RowSink = Callable[[RequestRow], None]
T = TypeVar("T")


class Load(Protocol):
    """A load that can be grown, watched and ended."""

    @property
    def concurrency(self) -> int:
        """Slots kept full, or in open loop the most requests in flight."""
        ...

    @property
    def errors(self) -> int:
        """Requests that failed so far."""
        ...

    async def ready(self) -> None:
        """Return when the load can begin."""
        ...

    def grow_to(self, concurrency: int) -> None:
        """Add slots up to ``concurrency``; in open loop, begin."""
        ...

    def check(self) -> None:
        """Raise what the load died of, if it did."""
        ...

    async def outlast(self, timeout_s: float) -> bool:
        """Keep the load up until what is in flight now has ended; returns whether it has within ``timeout_s``."""
        ...

    async def stop(self, *, drain: bool) -> None:
        """End the load, finishing what is in flight if ``drain``."""
        ...


@dataclass(frozen=True)
class LoadSpec:
    """What load to drive: everything a client process needs to know."""

    target: Target
    lengths: LengthDistribution
    cell: str
    streamed_share: float
    arrival: Arrival = CLOSED
    prompts: Prompts = RANDOM

    def build(
        self,
        session: aiohttp.ClientSession,
        rng: np.random.Generator,
        sink: RowSink,
        ticks: TickSink,
        client: int = 0,
        clients: int = 1,
    ) -> Load:
        """Return the load that client number ``client`` of ``clients`` drives."""
        common: dict[str, Any] = {
            "cell": self.cell, "streamed_share": self.streamed_share, "rng": rng, "sink": sink, "ticks": ticks,
            "client": client, "prompts": self.prompts,
        }  # fmt: skip
        if self.arrival.closed:
            return ClosedLoop(session, self.target, self.lengths, clients=clients, **common)
        arrivals = self.arrival.queries(rng, self.lengths, client, clients)
        limit = share(self.arrival.max_in_flight, client, clients)
        return OpenLoop(session, self.target, arrivals, max_in_flight=limit, **common)


def make_load(
    spec: LoadSpec,
    session: aiohttp.ClientSession,
    rng: np.random.Generator,
    sink: RowSink,
    ticks: TickSink,
    clients: int = 1,
) -> Load:
    """Return the load in this process, or for several ``clients`` in a process each."""
    if clients == 1:
        return spec.build(session, rng, sink, ticks)
    return ClientProcesses(spec, rng, sink, ticks, clients)


def share(total: int, client: int, clients: int) -> int:
    """Return how many of ``total`` fall to a client when they are dealt out in turn.

    >>> [share(7, client, 3) for client in range(3)]
    [3, 2, 2]
    """
    return (total - client + clients - 1) // clients


@dataclass(frozen=True)
class _Batch:
    """What a client has to tell since its last batch; ``done`` with the last one, ``failure`` if it died.

    ``outlasted`` says whether what was in flight ended in the time given, once that is known.
    """

    rows: list[RequestRow] = field(default_factory=list)
    ticks: list[TickRow] = field(default_factory=list)
    errors: int = 0
    done: bool = False
    failure: str | None = None
    outlasted: bool | None = None


@dataclass(eq=False)
class _Client:
    """A client process as its parent sees it."""

    process: BaseProcess
    pipe: Connection
    loop: InitVar[asyncio.AbstractEventLoop]
    errors: int = 0
    failure: str | None = None

    def __post_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.heard: asyncio.Future[None] = loop.create_future()
        self.outlasted: asyncio.Future[bool] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()


class ClientProcesses:
    """Drives a load from several processes."""

    def __init__(self, spec: LoadSpec, rng: np.random.Generator, sink: RowSink, ticks: TickSink, clients: int) -> None:
        """Start the client processes; nothing is sent before ``grow_to``."""
        self._sink, self._ticks = sink, ticks
        self._concurrency = 0 if spec.arrival.closed else spec.arrival.max_in_flight
        self._loop = asyncio.get_running_loop()
        context = multiprocessing.get_context("spawn")
        self._clients: list[_Client] = []
        for number, child_rng in enumerate(rng.spawn(clients)):
            ours, theirs = context.Pipe()
            process = context.Process(target=_client_main, args=(theirs, spec, child_rng, number, clients), daemon=True)
            process.start()
            theirs.close()
            client = _Client(process, ours, self._loop)
            self._clients.append(client)
            self._loop.add_reader(ours.fileno(), self._read, client)

    @property
    def concurrency(self) -> int:
        """Slots kept full by all clients together, or in open loop the most requests in flight."""
        return self._concurrency

    @property
    def errors(self) -> int:
        """Requests that failed so far."""
        return sum(client.errors for client in self._clients)

    async def ready(self) -> None:
        """Wait until every client has started, or died; raises ``MeasurementError`` if one did."""
        await asyncio.gather(*(client.heard for client in self._clients))
        self.check()

    def grow_to(self, concurrency: int) -> None:
        """Share out the slots up to ``concurrency``."""
        self._concurrency = max(self._concurrency, concurrency)
        for number, client in enumerate(self._clients):
            self._tell(client, ("grow_to", share(concurrency, number, len(self._clients))))

    def check(self) -> None:
        """Raise ``MeasurementError`` if a client process died."""
        for number, client in enumerate(self._clients):
            if client.failure is not None:
                raise MeasurementError(f"load client {number} died", why=client.failure, fix="run again")

    async def outlast(self, timeout_s: float) -> bool:
        """Keep every client's load up until what all have in flight now has ended; whether it has in ``timeout_s``."""
        for client in self._clients:
            self._tell(client, ("outlast", timeout_s))
        return all(await asyncio.gather(*(client.outlasted for client in self._clients)))

    async def stop(self, *, drain: bool) -> None:
        """End the load of every client and its process; raises if one died."""
        for client in self._clients:
            self._tell(client, ("stop", drain))
        await asyncio.gather(*(client.ended for client in self._clients))
        for client in self._clients:
            await asyncio.to_thread(client.process.join, _JOIN_S)
            if client.process.is_alive():
                client.process.kill()
            client.pipe.close()
        self.check()

    def _tell(self, client: _Client, command: tuple[str, Any]) -> None:
        try:
            client.pipe.send(command)
        except OSError as error:
            client.failure = client.failure or f"its pipe is closed: {error}"

    def _read(self, client: _Client) -> None:
        try:
            while client.pipe.poll():
                self._take(client, client.pipe.recv())
                if client.ended.done():
                    return
        except (EOFError, OSError):
            client.failure = client.failure or "the process ended unexpectedly"
            self._end(client)

    def _take(self, client: _Client, batch: _Batch) -> None:
        for row in batch.rows:
            self._sink(row)
        if batch.ticks:
            self._ticks(batch.ticks)
        client.errors = batch.errors
        client.failure = batch.failure
        _resolve(client.heard, None)
        if batch.outlasted is not None:
            _resolve(client.outlasted, batch.outlasted)
        if batch.done:
            self._end(client)

    def _end(self, client: _Client) -> None:
        self._loop.remove_reader(client.pipe.fileno())
        _resolve(client.heard, None)
        _resolve(client.outlasted, False)
        _resolve(client.ended, None)


def _resolve(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _client_main(pipe: Connection, spec: LoadSpec, rng: np.random.Generator, client: int, clients: int) -> None:
    """Be a client process: the parent says when to stop, so an interrupt from the terminal is left to it."""
    ignore_ending()
    try:
        uvloop.run(_drive(pipe, spec, rng, client, clients))
    except (EOFError, BrokenPipeError):
        return  # the parent is gone: nobody is left to measure for
    except HarnessError as error:
        pipe.send(_Batch(done=True, failure=str(error)))
    except Exception:  # noqa: BLE001 - whatever it is, the parent raises it
        pipe.send(_Batch(done=True, failure=traceback.format_exc()))


async def _drive(pipe: Connection, spec: LoadSpec, rng: np.random.Generator, client: int, clients: int) -> None:
    rows: list[RequestRow] = []
    ticks: list[TickRow] = []
    async with new_session() as session:
        load = spec.build(session, rng, rows.append, ticks.extend, client, clients)

        def tell(*, done: bool = False, outlasted: bool | None = None) -> None:
            pipe.send(_Batch(rows.copy(), ticks.copy(), load.errors, done, outlasted=outlasted))
            rows.clear()
            ticks.clear()

        async def outlast(timeout_s: float) -> None:
            tell(outlasted=await load.outlast(timeout_s))

        outlasting: asyncio.Task[None] | None = None
        tell()
        while True:
            load.check()
            if rows or ticks:
                tell()
            if not pipe.poll():
                await asyncio.sleep(BATCH_S)
                continue
            command, value = pipe.recv()
            if command == "grow_to":
                load.grow_to(value)
            elif command == "outlast":
                outlasting = asyncio.create_task(outlast(value))
            else:
                if outlasting is not None:
                    outlasting.cancel()
                await load.stop(drain=value)
                tell(done=True)
                return
