"""Poll a power source on deadlines that do not drift, on a thread of its own, and hand rows to a sink.

NVML is polled by ``harness.power.nvml_sampler`` instead, in a process of its own.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType

from harness.errors import MeasurementError
from harness.pace import Pace
from harness.power.base import PowerRow, PowerSource

Sink = Callable[[Sequence[PowerRow]], None]

PERIOD_S = 0.1
_JOIN_S = 10.0  # far beyond any read; a driver that takes longer has hung


@dataclass(frozen=True, slots=True)
class Lateness:
    """How late the reads began after their deadlines, over ``rounds`` reads."""

    rounds: int = 0
    mean_s: float = 0.0
    max_s: float = 0.0

    def with_round(self, late_s: float) -> Lateness:
        """Add one read."""
        rounds = self.rounds + 1
        return Lateness(rounds, self.mean_s + (late_s - self.mean_s) / rounds, max(self.max_s, late_s))


class Sampler(ABC):
    """What every sampler offers: rows to a sink, their lateness, and the error that ended them.

    A round that overruns loses the deadlines it ran past and counts them in ``missed``. ``latest`` holds the last
    round's rows; ``cpu_s`` is the processor time the sampling has taken. What the source or the sink raises ends
    the sampling, and ``check`` and ``stop`` raise it again.
    """

    missed: int = 0
    cpu_s: float = 0.0

    def __init__(self, sink: Sink, name: str) -> None:
        """Prepare to sample; ``start`` (or ``with``) begins."""
        self._sink, self._name = sink, name
        self._thread = threading.Thread(target=self._run, name=f"power-sampler-{name}", daemon=True)
        self._error: BaseException | None = None
        self.latest: tuple[PowerRow, ...] = ()
        self.lateness = Lateness()

    @abstractmethod
    def _sample(self) -> None:
        """Sample until told to end, on the sampler's thread."""

    @abstractmethod
    def _end(self) -> None:
        """Tell ``_sample`` to end after the round under way."""

    def start(self) -> None:
        """Begin sampling now."""
        self._thread.start()

    def check(self) -> None:
        """Raise what ended the sampling early, if anything did."""
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End sampling after the round under way, then ``check``. Stopping twice is harmless."""
        self._halt()
        self.check()

    def __enter__(self) -> Sampler:
        """Start sampling."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop sampling; an error of the ``with`` block is not replaced by one of the sampler."""
        self._halt()
        if error is None:
            self.check()

    def _halt(self) -> None:
        self._end()
        self._thread.join(_JOIN_S)
        if self._thread.is_alive() and self._error is None:
            self._error = MeasurementError(
                f"Reading power from {self._name} hangs.",
                why=f"a read has not returned for {_JOIN_S:g} s",
                fix="see dmesg for errors of the device or its driver",
            )

    def _run(self) -> None:
        try:
            self._sample()
        except BaseException as error:  # noqa: BLE001  kept for the owner's thread, where check() raises it
            self._error = error

    def _take(self, rows: tuple[PowerRow, ...], late_s: float) -> None:
        self.latest = rows
        self.lateness = self.lateness.with_round(late_s)
        self._sink(rows)


class PowerSampler(Sampler):
    """Read ``source`` every ``period_s`` and pass each round's rows to ``sink`` on the sampler's thread.

    A source with a ``look`` is given one now and then between the rounds.
    """

    def __init__(self, source: PowerSource, sink: Sink, *, period_s: float = PERIOD_S) -> None:
        """Prepare to sample; ``start`` (or ``with``) begins."""
        super().__init__(sink, source.name)
        self._source = source
        self._pace = Pace(period_s, getattr(source, "look", None))

    def _sample(self) -> None:
        began_s = time.thread_time()
        for late_s in self._pace:
            rows = read_round(self._source, late_s)
            self._take(rows, late_s)
            self.missed, self.cpu_s = self._pace.missed, time.thread_time() - began_s

    def _end(self) -> None:
        self._pace.stop()


def read_round(source: PowerSource, late_s: float) -> tuple[PowerRow, ...]:
    """Read every device once; a device that does not note its own time gets the middle of the round."""
    began_s = time.monotonic()
    samples = source.read()
    ended_s, wall_s = time.monotonic(), time.time()
    rows = []
    for sample in samples:
        at_s = (began_s + ended_s) / 2 if sample.t_mono_s is None else sample.t_mono_s
        fields = asdict(sample) | {"t_mono_s": at_s, "t_wall_s": wall_s - (ended_s - at_s), "late_s": late_s}
        rows.append(PowerRow(**fields, source=source.name, boundary=source.boundary))
    return tuple(rows)
