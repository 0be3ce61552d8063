"""Set the figures of several power sources side by side, each at its own boundary. Pure.

A node meter holds the GPUs' power already and a processor's counters are held in the node's, so nothing of one
boundary is added to anything of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from estimator.nodes import Allocation, NodeProfile
from harness.analysis.energy import DeviceSeries, WindowEnergy, device_energy, total_energy
from results.schema import MeterDescription, MeterReading

NODE_METERS = ("redfish", "ipmi", "hwmon")
"""Meters of a whole node, best first; a replayed one comes last."""

NO_READING = "meter_silent"
STALE = "meter_stale"
MAX_GAP_PERIODS = 5.0
STALE_SHARE = 0.5


@dataclass(frozen=True)
class NodeShare:
    """How a node is charged to the GPUs of a run: the model of the node, their share of it, and the rule."""

    profile: NodeProfile | None
    share: float
    allocation: Allocation

    def modelled_w(self, gpu_w: float) -> float | None:
        """Return the modelled node watts charged to GPUs that draw ``gpu_w``, or None without a profile."""
        return None if self.profile is None else self.profile.node_watts(gpu_w, self.share, self.allocation)

    def metered_w(self, meter_w: float) -> float | None:
        """Return what the run is charged of a reading in W, or None where that takes a profile that is missing."""
        if self.profile is not None:
            return self.profile.metered_watts(meter_w, self.share, self.allocation)
        is_whole = self.allocation == "whole" or (self.allocation == "share" and self.share == 1)
        return meter_w if is_whole else None


def choose_node_meter(meters: Sequence[MeterDescription]) -> MeterDescription | None:
    """Return the meter that the node figure comes from: Redfish, then IPMI DCMI, then hwmon, then a replayed one."""
    of_node = [meter for meter in meters if meter.boundary == "node"]
    rank = {name: number for number, name in enumerate(NODE_METERS)}
    return min(of_node, key=lambda meter: rank.get(meter.name, len(rank)), default=None)


def meter_energy(
    meter: MeterDescription, devices: Sequence[DeviceSeries], start_s: float, end_s: float
) -> WindowEnergy:
    """Return the energy of a meter's devices over a window, its gaps judged by the meter's own pace."""
    return total_energy(
        [
            device_energy(
                series,
                start_s,
                end_s,
                power_lag_s=meter.power_lag_s,
                counter_lag_s=meter.counter_lag_s,
                max_gap_s=MAX_GAP_PERIODS * meter.period_s,
            )
            for series in devices
        ]
    )


def meter_reading(
    meter: MeterDescription,
    devices: Sequence[DeviceSeries],
    window_s: tuple[float, float],
    node: NodeShare,
    gpu_w: float | None,
) -> MeterReading:
    """Return a meter's figures over a window, beside the model of the same hardware where there is one.

    ``watts`` is the whole of what the meter covers; ``charged_watts`` is the run's part of a node, and
    ``difference_rel`` is charged over modelled, less 1.
    """
    energy = meter_energy(meter, devices, *window_s)
    charged_w = modelled_w = None
    if meter.boundary == "node":
        charged_w = None if energy.mean_w is None else node.metered_w(energy.mean_w)
        modelled_w = None if gpu_w is None else node.modelled_w(gpu_w)
    reasons = energy.reasons if energy.joules is not None else (*energy.reasons, NO_READING)
    stale_s = max((device.repeat_s for device in energy.devices), default=0.0)
    if energy.joules is not None and stale_s > STALE_SHARE * (window_s[1] - window_s[0]):
        reasons = (*reasons, STALE)
    return MeterReading(
        source=meter.name,
        boundary=meter.boundary,
        watts=energy.mean_w,
        joules=energy.joules,
        charged_watts=charged_w,
        modelled_watts=modelled_w,
        difference_rel=None if charged_w is None or not modelled_w else charged_w / modelled_w - 1,
        gain_rel_u=meter.gain_rel_u,
        readings=sum(device.readings for device in energy.devices),
        longest_repeat_s=stale_s,
        reasons=tuple(dict.fromkeys(reasons)),
    )
