"""Running totals of a device, a server and a load client: what only grows while a run or an exporter goes on."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from harness.load.health import TICK_S, TickRow
from harness.power.base import PowerRow
from harness.power.conditions import THROTTLE_CAUSES
from harness.server.monitor import ServerRow


@dataclass
class DeviceTotals:
    """Latest reading of a device and its totals since the run began.

    ``joules`` are by counter or else by integration; ``counter_j`` and ``integral_j`` are by one alone, ``None`` until
    the device has told twice. ``throttled_s`` has the seconds by cause that throttled clocks, as of the reading that
    ended each; it is empty while the device has told of no clocks at all.
    """

    row: PowerRow
    joules: float = 0.0
    counter_j: float | None = None
    integral_j: float | None = None
    readings: int = 1
    failed_readings: int = 0
    throttled_s: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Count from the first reading."""
        self._first = self._last_known = self._last_counter = self._last_power = self.row
        self.failed_readings = int(self.row.error is not None)
        self._add_throttling(self.row, 0.0)

    @property
    def known_s(self) -> float:
        """Return the seconds that ``joules`` cover: from the first reading to the last that carried any."""
        return self._last_known.t_mono_s - self._first.t_mono_s

    @property
    def answers(self) -> bool:
        """Return whether the latest reading carried power or energy."""
        return self.row.energy_j is not None or self.row.power_w is not None

    def advance(self, row: PowerRow) -> None:
        """Add the energy since the last reading that carried any; a failed reading in between loses nothing."""
        self._add_throttling(row, row.t_mono_s - self.row.t_mono_s)
        self._add_counted(row)
        self._add_integrated(row)
        self.readings += 1
        self.failed_readings += row.error is not None
        last, self.row = self._last_known, row
        if row.energy_j is not None and last.energy_j is not None:
            self.joules += max(0.0, row.energy_j - last.energy_j)
        elif row.power_w is not None and last.power_w is not None:
            self.joules += _trapezoid_j(last, row)
        if self.answers:
            self._last_known = row

    def _add_counted(self, row: PowerRow) -> None:
        if row.energy_j is not None:
            if self._last_counter.energy_j is not None:
                self.counter_j = (self.counter_j or 0.0) + max(0.0, row.energy_j - self._last_counter.energy_j)
            self._last_counter = row

    def _add_integrated(self, row: PowerRow) -> None:
        if row.power_w is not None:
            if self._last_power.power_w is not None:
                self.integral_j = (self.integral_j or 0.0) + _trapezoid_j(self._last_power, row)
            self._last_power = row

    def _add_throttling(self, row: PowerRow, seconds: float) -> None:
        if row.throttle_reasons is not None:
            for bit, cause in THROTTLE_CAUSES.items():
                held_s = seconds if row.throttle_reasons & bit else 0.0
                self.throttled_s[cause] = self.throttled_s.get(cause, 0.0) + held_s


def _trapezoid_j(before: PowerRow, after: PowerRow) -> float:
    assert before.power_w is not None and after.power_w is not None  # noqa: S101  the callers looked
    return (after.t_mono_s - before.t_mono_s) * (after.power_w + before.power_w) / 2


COUNTERS = (
    "generation_tok", "prompt_tok", "preemptions", "finished_requests",
    "ttft_sum_s", "ttft_count", "itl_sum_s", "itl_count",
)  # fmt: skip
"""What of a server's scrape only grows."""


@dataclass
class ServerTotals:
    """What a server's counters grew by since its first scrape; one that restarted counts from zero again."""

    grown: dict[str, float] = field(default_factory=dict)
    restarts: int = 0
    _last: dict[str, float] = field(default_factory=dict)

    def advance(self, row: ServerRow) -> None:
        """Add what the counters grew by since the last scrape that told them.

        Where one of them fell the server has restarted, and all of them began again from zero.
        """
        seen = {name: value for name in COUNTERS if (value := getattr(row.counters, name)) is not None}
        if any(value < self._last.get(name, value) for name, value in seen.items()):
            self.restarts += 1
            self._last = dict.fromkeys(self._last, 0.0)
        for name, value in seen.items():
            self.grown[name] = self.grown.get(name, 0.0) + value - self._last.get(name, value)
        self._last |= seen


LAG_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Upper bounds of the buckets that the lag of an event loop is counted in; longer ones have a bucket of their own."""


@dataclass
class ClientTotals:
    """How late a load client's event loop came to its timer, by bucket, and the processor time it took meanwhile."""

    lags: list[int] = field(default_factory=lambda: [0] * (len(LAG_BOUNDS_S) + 1))
    lag_sum_s: float = 0.0
    cpu_s: float = 0.0
    _last: TickRow | None = None

    def add(self, tick: TickRow) -> None:
        """Add a tick; processor time counts between neighbouring ticks alone, so that only time under load does."""
        self.lags[bisect_left(LAG_BOUNDS_S, tick.lag_s)] += 1
        self.lag_sum_s += tick.lag_s
        last, self._last = self._last, tick
        if last is not None and 0 < tick.t_mono_s - last.t_mono_s < 2 * TICK_S:
            self.cpu_s += max(0.0, tick.cpu_s - last.cpu_s)
