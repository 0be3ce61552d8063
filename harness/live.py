"""What is true of the run right now: written by the run, read by the exporter and by the simulated source."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.power.base import PowerRow
from harness.server.monitor import ServerRow

PHASES = ("plan", "launch", "idle", "search", "calibrate", "predict", "measure", "done")


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
class DeviceTotals:
    """Latest reading of a device and its joules since the run began, by counter or else by integration."""

    row: PowerRow
    joules: float = 0.0

    def __post_init__(self) -> None:
        """Count from the first reading."""
        self._last_known = self.row

    def advance(self, row: PowerRow) -> None:
        """Add the energy since the last reading that carried any; a failed reading in between loses nothing."""
        last, self.row = self._last_known, row
        if row.energy_j is not None and last.energy_j is not None:
            self.joules += max(0.0, row.energy_j - last.energy_j)
        elif row.power_w is not None and last.power_w is not None:
            self.joules += (row.t_mono_s - last.t_mono_s) * (row.power_w + last.power_w) / 2
        if row.energy_j is not None or row.power_w is not None:
            self._last_known = row


@dataclass
class LiveState:
    """The run's present state; every method may be called from any thread."""

    phase: str = "plan"
    cell: str = ""
    requests: dict[str, int] = field(default_factory=lambda: {"completed": 0, "error": 0, "aborted": 0})
    figures: tuple[QueryFigure, ...] = ()
    missed_power_samples: int = 0
    devices: dict[str, DeviceTotals] = field(default_factory=dict)
    servers: dict[int, ServerRow] = field(default_factory=dict)
    base_tok: dict[tuple[int, str], float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def power_read(self, rows: Sequence[PowerRow]) -> None:
        """Take a round of power readings."""
        with self.lock:
            for row in rows:
                if row.uuid in self.devices:
                    self.devices[row.uuid].advance(row)
                else:
                    self.devices[row.uuid] = DeviceTotals(row)

    def servers_scraped(self, rows: Sequence[ServerRow]) -> None:
        """Take a round of server scrapes; token counters start from the first one seen."""
        with self.lock:
            for row in rows:
                self.servers[row.server] = row
                for name in ("generation_tok", "prompt_tok"):
                    value = getattr(row.counters, name)
                    if value is not None:
                        self.base_tok.setdefault((row.server, name), value)

    def tokens(self, server: int, name: str) -> float | None:
        """Return the tokens a server counted since the run began, or ``None`` if it does not tell."""
        value: float | None = getattr(self.servers[server].counters, name)
        return None if value is None else value - self.base_tok[server, name]

    def running_requests(self) -> float:
        """Return how many requests the servers run, as of their last scrapes."""
        with self.lock:
            return sum(row.counters.running or 0.0 for row in self.servers.values())

    def request_ended(self, outcome: str) -> None:
        """Count a request that ended."""
        with self.lock:
            self.requests[outcome] += 1
