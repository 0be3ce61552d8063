"""Several power sources sampled side by side, each at its own pace on its own thread.

Their rows share one table; ``source`` and ``boundary`` of a row say whose it is and what it covers. Readings of
different boundaries are never added.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol

from harness.errors import ConfigError
from harness.power.base import DeviceSample, PowerRow, PowerSource
from harness.power.nvml_sampler import sampler_for
from harness.power.sampler import PowerSampler, Sampler, Sink, read_round


class Meter(PowerSource, Protocol):
    """A source that is slow enough to have a pace of its own: one reading every ``period_s`` seconds."""

    period_s: float


class Combined:
    """A GPU source with meters beside it: the source wherever one is expected, with the meters at hand."""

    def __init__(self, source: PowerSource, meters: Sequence[Meter]) -> None:
        """Take over the source and its meters."""
        self.source, self.meters = source, tuple(meters)
        self.name, self.boundary, self.devices, self.notes = source.name, source.boundary, source.devices, source.notes
        self.gain_rel_u: float | None = source.gain_rel_u
        self.power_lag_s, self.counter_lag_s = source.power_lag_s, source.counter_lag_s

    def read(self) -> tuple[DeviceSample, ...]:
        """Read the GPU source; meters have samplers of their own."""
        return self.source.read()

    def close(self) -> None:
        """Release the source and every meter."""
        with ExitStack() as stack:
            for each in (self.source, *self.meters):
                stack.callback(each.close)


def sampler_of(source: PowerSource, sink: Sink) -> Sampler | SideBySide:
    """Return what samples a source, and the meters beside it if there are any."""
    if isinstance(source, Combined):
        return SideBySide(source.source, source.meters, sink)
    return sampler_for(source, sink)


class SideBySide:
    """The samplers of a GPU source and of any meters beside it; ``sink`` is called from every sampler's thread."""

    def __init__(self, source: PowerSource, meters: Sequence[Meter], sink: Sink, *, period_s: float = 0.1) -> None:
        """Prepare to sample; raises ``ConfigError`` where two sources report one device."""
        uuids = [device.uuid for each in (source, *meters) for device in each.devices]
        if len(set(uuids)) < len(uuids):
            raise ConfigError("Two power sources report the same device.", fix="name each meter once")
        self._meters, self._sink = tuple(meters), sink
        self._samplers = (
            sampler_for(source, sink, period_s=period_s),
            *(PowerSampler(meter, sink, period_s=meter.period_s) for meter in meters),
        )

    @property
    def missed(self) -> int:
        """Return how many deadlines were skipped, over all sources."""
        return sum(sampler.missed for sampler in self._samplers)

    @property
    def latest(self) -> tuple[PowerRow, ...]:
        """Return the last round of every source."""
        return tuple(row for sampler in self._samplers for row in sampler.latest)

    def start(self) -> None:
        """Begin sampling now."""
        for sampler in self._samplers:
            sampler.start()

    def check(self) -> None:
        """Raise what ended any sampling early."""
        for sampler in self._samplers:
            sampler.check()

    def stop(self) -> None:
        """End every sampling, read each meter once more, so that the last window is spanned, and ``check``."""
        errors = []
        for sampler in self._samplers:
            try:
                sampler.stop()
            except Exception as error:  # noqa: BLE001  kept until the other samplers have ended, then raised
                errors.append(error)
        if errors:
            raise errors[0]
        for meter in self._meters:
            self._sink(read_round(meter, 0.0))
