"""A simulated accelerator driven by the server's live load, for machines without a power sensor.

It is a feature to try the harness with, not a measurement: every joule it yields is labelled ``simulated``.
Power follows the requests the server is running, with diminishing returns like a batch that fills:

    P = idle + (peak - idle) * running / (running + half_load)

and the energy counter is the exact integral of that power, held from one reading to the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from harness.power.base import DeviceIdentity, DeviceSample

IDLE_W = 30.0
PEAK_W = 200.0
HALF_LOAD_REQUESTS = 16.0
DEVICE_NAME = "Simulated accelerator"


def simulated_power_w(running_requests: float) -> float:
    """Return the power in watts at a number of running requests.

    >>> simulated_power_w(0), simulated_power_w(16)
    (30.0, 115.0)
    """
    return IDLE_W + (PEAK_W - IDLE_W) * running_requests / (running_requests + HALF_LOAD_REQUESTS)


class SimulatedSource:
    """The power of one imagined accelerator; ``running`` tells how many requests the servers run now."""

    name = "simulated"
    boundary = "gpu"
    gain_rel_u = 0.0
    power_lag_s = 0.0

    def __init__(self, running: Callable[[], float], clock: Callable[[], float] = time.monotonic) -> None:
        """Start at zero joules now."""
        self.devices: tuple[DeviceIdentity, ...] = (
            DeviceIdentity(uuid="simulated-0", name=DEVICE_NAME, index=0, power_limit_w=PEAK_W),
        )
        self.notes: tuple[str, ...] = (
            "power is simulated from the requests the server runs; joules are not measured, tokens are",
            f"simulation: idle {IDLE_W:g} W, peak {PEAK_W:g} W, half load at {HALF_LOAD_REQUESTS:g} requests",
        )
        self._running, self._clock = running, clock
        self._last_s = clock()
        self._power_w = simulated_power_w(running())
        self._energy_j = 0.0

    def read(self) -> tuple[DeviceSample, ...]:
        """Advance the counter by the power held since the last reading, then take the load anew."""
        now_s = self._clock()
        self._energy_j += self._power_w * (now_s - self._last_s)
        self._last_s = now_s
        self._power_w = simulated_power_w(self._running())
        return (DeviceSample("simulated-0", power_w=self._power_w, energy_j=self._energy_j),)

    def close(self) -> None:
        """Nothing to release."""
