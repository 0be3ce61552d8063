"""Poll a power source on its own thread, on deadlines that do not drift, and hand rows to a sink."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType

from harness.errors import MeasurementError
from harness.pace import Pace
from harness.power.base import PowerRow, PowerSource

Sink = Callable[[Sequence[PowerRow]], None]

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


class PowerSampler:
    """Read ``source`` every ``period_s`` and pass each round's rows to ``sink`` on the sampler's thread.

    A round that overruns loses the deadlines it ran past and counts them in ``missed``. ``latest`` holds the last
    round's rows. What the source or the sink raises ends the sampling, and ``check`` and ``stop`` raise it again.
    """

    def __init__(self, source: PowerSource, sink: Sink, *, period_s: float = 0.1) -> None:
        """Prepare to sample; ``start`` (or ``with``) begins."""
        self._source, self._sink = source, sink
        self._pace = Pace(period_s)
        self._thread = threading.Thread(target=self._run, name=f"power-sampler-{source.name}", daemon=True)
        self._error: BaseException | None = None
        self.latest: tuple[PowerRow, ...] = ()
        self.lateness = Lateness()

    @property
    def missed(self) -> int:
        """Return how many deadlines were skipped."""
        return self._pace.missed

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

    def __enter__(self) -> PowerSampler:
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
        self._pace.stop()
        self._thread.join(_JOIN_S)
        if self._thread.is_alive() and self._error is None:
            self._error = MeasurementError(
                f"Reading power from {self._source.name} hangs.",
                why=f"a read has not returned for {_JOIN_S:g} s",
                fix="see dmesg for errors of the device or its driver",
            )

    def _run(self) -> None:
        try:
            self._poll()
        except BaseException as error:  # noqa: BLE001  kept for the owner's thread, where check() raises it
            self._error = error

    def _poll(self) -> None:
        for late_s in self._pace:
            self._round(late_s)

    def _round(self, late_s: float) -> None:
        began_s = time.monotonic()
        samples = self._source.read()
        half_s = (time.monotonic() - began_s) / 2
        wall_s = time.time() - half_s
        self.latest = tuple(
            PowerRow(
                **asdict(sample),
                t_mono_s=began_s + half_s,
                t_wall_s=wall_s,
                late_s=late_s,
                source=self._source.name,
                boundary=self._source.boundary,
            )
            for sample in samples
        )
        self.lateness = self.lateness.with_round(late_s)
        self._sink(self.latest)
