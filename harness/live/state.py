"""What is true of the run right now: written by the run, read by the exporter and by the simulated source."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.live.course import Course, Hold, Look
from harness.live.totals import ClientTotals, DeviceTotals, ServerTotals
from harness.live.trail import Moment, Trail
from harness.load.health import TickRow
from harness.power.base import PowerRow
from harness.server.monitor import ServerRow

PHASES = ("plan", "bare_idle", "launch", "idle", "search", "calibrate", "predict", "measure", "done")


@dataclass(frozen=True)
class QueryFigure:
    """One Wh/query figure to export: of a cell, measured or predicted, and which statistic."""

    cell: str
    kind: str
    stat: str
    wh: float
    source: str
    boundary: str


@dataclass
class LiveState:
    """The run's present state; every method may be called from any thread.

    ``concurrency`` is what the load is to keep in flight, ``hold`` how long it is held, ``looks`` what the window rule
    found so far; the three are of the present cell. ``repeat`` is which of how many. ``server_urls`` are the base
    addresses of the servers in use. Times are monotonic seconds.
    """

    phase: str = "plan"
    cell: str = ""
    requests: dict[str, int] = field(default_factory=lambda: {"completed": 0, "error": 0, "aborted": 0})
    figures: tuple[QueryFigure, ...] = ()
    missed_power_samples: int = 0
    devices: dict[str, DeviceTotals] = field(default_factory=dict)
    server_urls: tuple[str, ...] = ()
    servers: dict[int, ServerRow] = field(default_factory=dict)
    server_totals: dict[int, ServerTotals] = field(default_factory=dict)
    clients: dict[int, ClientTotals] = field(default_factory=dict)
    cell_output_tok: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    model: str = ""
    labels: tuple[str, ...] = ()
    repeat: tuple[int, int] | None = None
    concurrency: int | None = None
    course: Course = field(default_factory=Course)
    trail: Trail = field(default_factory=Trail)
    hold: Hold | None = None
    looks: tuple[Look, ...] = ()
    began_s: float = field(default_factory=time.monotonic)

    def enter(self, phase: str, cell: str) -> None:
        """Go on to a phase; what was true of the load before is forgotten."""
        with self.lock:
            self.phase, self.cell = phase, cell
            self.hold, self.looks, self.concurrency, self.cell_output_tok = None, (), None, None
            self.course.enter(phase, cell, time.monotonic())

    def count_cells(self, phase: str, cells: int, seconds: float) -> None:
        """Note how many cells a phase turned out to have, and how many seconds they take together."""
        with self.lock:
            self.course.count_cells(phase, cells, seconds)

    def hold_until(self, hold: Hold) -> None:
        """Note how long a cell's load is held and when it is looked at next."""
        with self.lock:
            self.hold = hold

    def looked(self, look: Look) -> None:
        """Take what the window rule found at a look at the cell under load."""
        with self.lock:
            self.looks = (*self.looks, look)

    def client_ticked(self, rows: Sequence[TickRow]) -> None:
        """Take what a load client's timer noted."""
        with self.lock:
            self.trail.client_ticked(rows)
            for row in rows:
                self.clients.setdefault(row.client, ClientTotals()).add(row)

    def power_read(self, rows: Sequence[PowerRow]) -> None:
        """Take a round of power readings."""
        with self.lock:
            for row in rows:
                if row.uuid in self.devices:
                    self.devices[row.uuid].advance(row)
                else:
                    self.devices[row.uuid] = DeviceTotals(row)

    def servers_scraped(self, rows: Sequence[ServerRow]) -> None:
        """Take a round of server scrapes; counters start from the first one seen."""
        with self.lock:
            for row in rows:
                self.servers[row.server] = row
                self.server_totals.setdefault(row.server, ServerTotals()).advance(row)
            if rows:
                self.trail.add(self._moment(rows))

    def _moment(self, rows: Sequence[ServerRow]) -> Moment:
        counters = [row.counters for row in rows]
        gpus = [device for device in self.devices.values() if device.row.boundary == "gpu"]
        kv_usage = _sum([counter.kv_usage_ratio for counter in counters])
        return Moment(
            sum(row.t_mono_s for row in rows) / len(rows),
            _sum([counter.generation_tok for counter in counters]),
            _sum([counter.running for counter in counters]),
            _sum([counter.waiting for counter in counters]),
            None if kv_usage is None else kv_usage / len(counters),
            None if not all(gpu.answers for gpu in gpus) else tuple((gpu.row.t_mono_s, gpu.joules) for gpu in gpus),
        )

    def grown(self, server: int, name: str) -> float | None:
        """Return what a server's counter grew by since the run began, or ``None`` if it does not tell it now."""
        told = getattr(self.servers[server].counters, name) is not None
        return self.server_totals[server].grown[name] if told else None

    def running_requests(self) -> float:
        """Return how many requests the servers run, as of their last scrapes."""
        with self.lock:
            return sum(row.counters.running or 0.0 for row in self.servers.values())

    def request_ended(self, outcome: str) -> None:
        """Count a request that ended."""
        with self.lock:
            self.requests[outcome] += 1


def _sum(values: Sequence[float | None]) -> float | None:
    """Return the sum, or ``None`` if one is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
