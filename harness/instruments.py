"""The measuring side of a run: sampler, server monitor, live state and run folder, wired together."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from harness.errors import MeasurementError, not_written
from harness.live.state import LiveState
from harness.load.health import TickRow
from harness.load.request import RequestRow
from harness.open_files import too_many
from harness.pace import Pace
from harness.power.base import PowerRow, PowerSource
from harness.power.combined import Combined, sampler_of
from harness.power.nvml import NvmlSource
from harness.power.nvml_state import sees_host_pids
from harness.server.monitor import ServerMonitor, ServerRow
from results.store import RunWriter

FLUSH_PERIOD_S = 10.0
QUIET_TIMEOUT_S = 120.0
STALE_S = 5.0
"""Some versions of vLLM tell the queue of their last step until they take another: after an abort of all, for ever."""

OwnPids = Callable[[], Collection[int] | None]
"""Returns the ids of the servers' processes (none before launch), or ``None`` for servers not launched here."""


class Instruments:
    """Samples power while entered, and servers while ``watching``; all goes to the run folder and the live state."""

    def __init__(self, run: RunWriter, live: LiveState, source: PowerSource) -> None:
        """Wire the instruments; nothing runs before ``with``."""
        self.run, self.live, self._source = run, live, source
        self.own_pids: OwnPids = frozenset
        self.sampler = sampler_of(source, self._power_read)
        self.monitor = ServerMonitor((), self._servers_scraped)
        self.blind = False
        self._flush_pace = Pace(FLUSH_PERIOD_S)
        self._write_error: OSError | None = None
        self._flusher = threading.Thread(target=self._flush_steadily, name="run-writer", daemon=True)

    def __enter__(self) -> Instruments:
        """Start sampling power."""
        self.sampler.start()
        self._flusher.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop sampling and write what is left."""
        self._flush_pace.stop()
        self._flusher.join()
        try:
            self.sampler.stop()
        finally:
            self.run.flush()

    @contextmanager
    def watching(self, urls: Sequence[str]) -> Iterator[None]:
        """Scrape the servers at ``urls`` meanwhile."""
        self.monitor = ServerMonitor(urls, self._servers_scraped)
        self.monitor.start()
        self.live.server_urls = tuple(urls)
        try:
            yield
        finally:
            self.live.server_urls = ()
            self.monitor.stop()

    def go_blind(self, servers: Sequence[int]) -> None:
        """Note that ``servers`` export no token counter: their tokens are usage, their queue is not known."""
        self.blind = True
        self.run.event("no_token_counter", servers=list(servers))

    def phase(self, name: str, cell: str = "") -> None:
        """Note the phase the run is in."""
        self.live.enter(name, cell)
        self.run.event("phase", phase=name, cell=cell)

    def note_devices(self, event: str, cell: str = "") -> None:
        """Store ECC counts, power limits and processes of the devices as an event, where the source can tell them."""
        gpus = self._source.source if isinstance(self._source, Combined) else self._source
        if isinstance(gpus, NvmlSource):
            own = self.own_pids()
            self.run.event(
                event,
                cell=cell,
                devices=[asdict(state) for state in gpus.state()],
                own_pids=None if own is None else sorted(own),
                host_pids=sees_host_pids(),
            )

    def request_ended(self, row: RequestRow) -> None:
        """Take a request that ended."""
        fields = asdict(row)
        self.run.add("requests", [{**fields, **fields.pop("answer")}])
        self.live.request_ended(row.answer.outcome)

    def client_ticked(self, rows: Sequence[TickRow]) -> None:
        """Take what a load client's timer noted."""
        self.run.add("client", [asdict(row) for row in rows])
        self.live.client_ticked(rows)

    async def wait_quiet(self, wake: Callable[[], Awaitable[None]]) -> float:
        """Wait until every server was scraped with nothing running or waiting; returns the time of that scrape.

        ``wake`` makes every server take a step. It is called where servers tell of requests but generate nothing.
        """
        since_s = moved_s = time.monotonic()
        if self.blind:  # the harness's own requests have ended, and of others nothing can be known
            return since_s
        generated: list[float | None] = []
        while time.monotonic() - since_s < QUIET_TIMEOUT_S:
            self.check()
            rows = self.monitor.latest
            if rows and all(row.t_mono_s > since_s and _is_quiet(row) for row in rows):
                return min(row.t_mono_s for row in rows)
            if generated != (generated := [row.counters.generation_tok for row in rows]):
                moved_s = time.monotonic()
            elif rows and time.monotonic() - moved_s > STALE_S:
                await wake()
                moved_s = time.monotonic()
            await asyncio.sleep(0.05)
        raise MeasurementError(
            f"the servers did not become quiet within {QUIET_TIMEOUT_S:g} s",
            why="requests still run or wait that this harness did not send, or /metrics does not answer",
            fix="make sure that nothing else uses the servers",
        )

    def _power_read(self, rows: Sequence[PowerRow]) -> None:
        self.run.add("power", [asdict(row) for row in rows])
        self.live.power_read(rows)
        self.live.missed_power_samples = self.sampler.missed

    def _servers_scraped(self, rows: Sequence[ServerRow]) -> None:
        self.run.add("server", [_server_fields(row) for row in rows])
        self.live.servers_scraped(rows)

    def check(self) -> None:
        """Raise what went wrong on a thread: a sensor or the scraping that failed, or a disk that cannot be written."""
        self.sampler.check()
        self.monitor.check()
        if self._write_error is not None:
            raise too_many(self._write_error) or not_written(str(self.run.folder), self._write_error)

    def _flush_steadily(self) -> None:
        try:
            for _ in self._flush_pace:
                self.run.flush()
        except OSError as error:
            self._write_error = error


def _server_fields(row: ServerRow) -> dict[str, Any]:
    fields = asdict(row)
    return {**fields, **fields.pop("counters")}


def _is_quiet(row: ServerRow) -> bool:
    return row.counters.running == 0 and row.counters.waiting == 0
