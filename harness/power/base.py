"""What every power source looks like to the rest of the harness.

A source reports devices. ``power_w`` is what the sensor says now; ``energy_j`` is a cumulative counter
whose zero is arbitrary. What a source cannot tell is ``None`` with the reason in ``error`` or in the
source's ``notes``: missing is never 0 W.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

GPU_LOST = "gpu_lost"  # the ``error`` of a reading of a device that no longer answers


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """One device whose power a source reports."""

    uuid: str
    name: str
    index: int | None = None
    pci_bus_id: str | None = None
    memory_total_b: int | None = None
    power_limit_w: float | None = None
    persistence_mode: bool | None = None


@dataclass(frozen=True, slots=True)
class DeviceSample:
    """One reading of one device.

    ``error`` names what failed in this reading, if anything did: ``GPU_LOST``, or the fields with their
    causes, as in ``"energy_j: TIMEOUT; temperature_c: UNKNOWN"``. ``power_w`` is what is integrated;
    ``power_instant_w`` is for traces only. ``xid`` is an error that the driver reported since the reading
    before; None means none, or unknown where ``notes`` say so. ``t_mono_s`` is the middle of this device's
    reading of power and energy where the source notes it: reading eight takes a while. ``energy_age_s`` is how
    long before that the counter stepped to ``energy_j``, known to +-``energy_age_bound_s``; None where nobody watched.
    """

    uuid: str
    power_w: float | None = None
    energy_j: float | None = None
    utilization_ratio: float | None = None
    memory_used_b: int | None = None
    temperature_c: float | None = None
    sm_clock_mhz: float | None = None
    throttle_reasons: int | None = None
    error: str | None = None
    power_instant_w: float | None = None
    memory_clock_mhz: float | None = None
    xid: int | None = None
    t_mono_s: float | None = None
    energy_age_s: float | None = None
    energy_age_bound_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerRow(DeviceSample):
    """One reading of one device as it is stored: flat, so that rows are table rows.

    ``t_mono_s`` (monotonic clock) and ``t_wall_s`` (seconds since 1970) are the middle of the device's read;
    ``late_s`` is how long after its deadline the read began.
    """

    t_mono_s: float
    t_wall_s: float
    late_s: float
    source: str
    boundary: str


@dataclass(frozen=True)
class DeviceState:
    """What changes on a device besides its power, at one moment, to be set against a later one. None is unknown.

    ECC counts are those since the driver was loaded; ``pids`` are the host's ids of the processes computing on it;
    ``xids_watched`` tells whether readings would name an XID error.
    """

    uuid: str
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    power_limit_w: float | None = None
    pids: tuple[int, ...] | None = None
    xids_watched: bool | None = None


class PowerSource(Protocol):
    """A sensor, a recording or a simulation of the power of the devices in use.

    ``name`` labels every joule that comes from it; ``boundary`` says which hardware the readings cover;
    ``gain_rel_u`` is the relative standard uncertainty of its gain, shared by all its devices, None where unknown;
    ``power_lag_s`` is how far ``power_w`` trails the present: half the span of a trailing average, else 0;
    ``counter_lag_s`` is how far ``energy_j`` trails it on average where its age is not told: half the time between the
    counter's steps.
    """

    name: str
    boundary: str
    gain_rel_u: float | None
    power_lag_s: float
    counter_lag_s: float
    devices: tuple[DeviceIdentity, ...]
    notes: tuple[str, ...]

    def read(self) -> tuple[DeviceSample, ...]:
        """Read every device once, in the order of ``devices``."""
        ...

    def close(self) -> None:
        """Release the sensor."""
        ...
