"""A simulated accelerator driven by a live load, for machines without a power sensor.

It is a feature to try the harness with, not a measurement: every joule it yields is labelled ``simulated``.
Power follows the load (in a run, the requests the servers run), with diminishing returns like a batch that fills:

    P = idle + (peak - idle) * load / (load + half_load)

and the energy counter is the exact integral of that power, held from one reading to the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from harness.power.base import DeviceIdentity, DeviceSample

IDLE_W = 30.0
PEAK_W = 200.0
HALF_LOAD_REQUESTS = 16.0
DEVICE_NAME = "Simulated accelerator"


@dataclass(frozen=True)
class Driver:
    """What drives the simulation, in words, and the load at which power is midway between idle and peak."""

    words: str
    half_load: float
    unit: str


REQUESTS = Driver("the requests the server runs", HALF_LOAD_REQUESTS, "requests")


def simulated_power_w(load: float, half_load: float = HALF_LOAD_REQUESTS) -> float:
    """Return the power in watts at a load, by default a number of running requests.

    >>> simulated_power_w(0), simulated_power_w(16)
    (30.0, 115.0)
    """
    return IDLE_W + (PEAK_W - IDLE_W) * load / (load + half_load)


class SimulatedSource:
    """The power of one imagined accelerator; ``load`` tells how much of what ``driver`` says there is now."""

    name = "simulated"
    boundary = "gpu"
    gain_rel_u: float | None = 0.0
    power_lag_s = 0.0
    counter_lag_s = 0.0

    def __init__(
        self, load: Callable[[], float], clock: Callable[[], float] = time.monotonic, *, driver: Driver = REQUESTS
    ) -> None:
        """Start at zero joules now."""
        self.devices: tuple[DeviceIdentity, ...] = (
            DeviceIdentity(uuid="simulated-0", name=DEVICE_NAME, index=0, power_limit_w=PEAK_W),
        )
        self.notes: tuple[str, ...] = (
            f"power is simulated from {driver.words}; joules are not measured"
            + (", tokens are" if driver is REQUESTS else ""),
            f"simulation: idle {IDLE_W:g} W, peak {PEAK_W:g} W, half load at {driver.half_load:g} {driver.unit}",
        )
        self._load, self._half_load, self._clock = load, driver.half_load, clock
        self._last_s = clock()
        self._power_w = simulated_power_w(load(), driver.half_load)
        self._energy_j = 0.0

    def read(self) -> tuple[DeviceSample, ...]:
        """Advance the counter by the power held since the last reading, then take the load anew."""
        now_s = self._clock()
        self._energy_j += self._power_w * (now_s - self._last_s)
        self._last_s = now_s
        self._power_w = simulated_power_w(self._load(), self._half_load)
        return (DeviceSample("simulated-0", power_w=self._power_w, energy_j=self._energy_j),)

    def close(self) -> None:
        """Nothing to release."""
