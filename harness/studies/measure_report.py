"""The document of ``harness measure``: energy, conditions, uncertainty and verdict of one stretch. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from estimator.nodes import NodeProfile, profile_for_gpu
from harness.analysis.energy import FATAL_REASONS, MAX_GAP_S, WindowEnergy, device_energy, device_series, total_energy
from harness.power.base import DeviceIdentity, DeviceState, PowerRow, PowerSource
from harness.power.conditions import FOREIGN_PROCESSES, Conditions, OtherUse, conditions, other_use
from harness.power.sampler import Sampler
from harness.stretch import Stretch

STOPPED_EARLY = "stopped_early"
SIMULATED = "simulated"


@dataclass(frozen=True)
class Reading:
    """A power source, the period it was read with, and its sampler, stopped."""

    source: PowerSource
    period_s: float
    sampler: Sampler


def measure_document(
    readings: Sequence[Reading],
    rows: Sequence[PowerRow],
    stretch: Stretch,
    states: dict[str, tuple[DeviceState, DeviceState]],
    command: Sequence[str],
    seconds: float | None,
    *,
    host_pids: bool,
) -> dict[str, Any]:
    """Turn what was read into the document; ``rows`` hold every source's, also from around the stretch."""
    sources = [_source_block(reading, rows, stretch, states) for reading in readings]
    headline = next((block for block in sources if block["boundary"] == "gpu"), sources[0])
    gpu_reading = next((reading for reading in readings if reading.source.boundary == "gpu"), None)
    use = {uuid: _use(pair, bool(command), host_pids) for uuid, pair in states.items()}
    gpus = headline["devices"] if headline["boundary"] == "gpu" else []
    for gpu in gpus:
        gpu["processes"] = asdict(use[gpu["uuid"]])
    stopped = _stopped_early(stretch, command, seconds)
    reasons = list(
        dict.fromkeys(
            [
                *(reason for block in sources for reason in block.pop("reasons")),
                *([FOREIGN_PROCESSES] if any(use[gpu["uuid"]].foreign for gpu in gpus) else []),
                *([STOPPED_EARLY] if stopped else []),
            ]
        )
    )
    node, node_why = _node(gpu_reading, headline) if gpu_reading else (None, "no GPU power was read")
    return {
        "schema": "inference-energy/measure/1",
        "command": list(command) or None,
        "exit_code": stretch.exit_code,
        "interrupted_by": stretch.interrupted_by,
        "start_wall_s": stretch.start_wall_s,
        "window_s": stretch.end_s - stretch.start_s,
        "source": headline["source"],
        "boundary": headline["boundary"],
        "simulated": any(reading.source.name == SIMULATED for reading in readings),
        "joules": headline["joules"],
        "mean_w": headline["mean_w"],
        "peak_w": headline["peak_w"],
        "uncertainty": headline["uncertainty"],
        "gpus": gpus,
        "node": node,
        "node_why": node_why,
        "meters": [block for block in sources if block is not headline or block["boundary"] != "gpu"],
        "sampling": [_sampling(reading, rows, stretch) for reading in readings],
        "notes": [note for reading in readings for note in reading.source.notes],
        "verdict": "invalid" if FATAL_REASONS & set(reasons) else "suspect" if reasons else "valid",
        "reasons": reasons,
    }


def _stopped_early(stretch: Stretch, command: Sequence[str], seconds: float | None) -> bool:
    """Tell whether a signal ended what should have gone on; waiting for one is how an open stretch ends."""
    return stretch.interrupted_by is not None and (bool(command) or seconds is not None)


def _use(pair: tuple[DeviceState, DeviceState], has_command: bool, host_pids: bool) -> OtherUse:
    before, after = pair
    if not has_command:
        return OtherUse(None, "there is no command: whatever ran on the device was measured")
    return other_use(before.pids, after.pids, (), host_pids=host_pids)


def _source_block(
    reading: Reading,
    rows: Sequence[PowerRow],
    stretch: Stretch,
    states: dict[str, tuple[DeviceState, DeviceState]],
) -> dict[str, Any]:
    source = reading.source
    own = [row for row in rows if row.source == source.name]
    energy = total_energy(
        [
            device_energy(
                series,
                stretch.start_s,
                stretch.end_s,
                power_lag_s=source.power_lag_s,
                counter_lag_s=source.counter_lag_s,
                max_gap_s=max(MAX_GAP_S, 3 * reading.period_s),
            )
            for series in device_series(own)
        ]
    )
    inside = [row for row in own if stretch.start_s <= row.t_mono_s <= stretch.end_s]
    seen = {
        device.uuid: conditions([row for row in inside if row.uuid == device.uuid], *states[device.uuid])
        for device in source.devices
    }
    return {
        "source": source.name,
        "boundary": source.boundary,
        "joules": energy.joules,
        "mean_w": energy.mean_w,
        "peak_w": _peak_w(inside, len(source.devices)),
        "uncertainty": _uncertainty(source, energy),
        "devices": _devices(source.devices, energy, seen),
        "reasons": [*energy.reasons, *(reason for one in seen.values() for reason in one.reasons)],
    }


def _devices(
    identities: Sequence[DeviceIdentity], energy: WindowEnergy, seen: dict[str, Conditions]
) -> list[dict[str, Any]]:
    by_uuid = {device.uuid: device for device in energy.devices}
    return [
        {
            **asdict(identity),
            "joules": device.joules,
            "method": device.method,
            "joules_counter": device.counter_j,
            "joules_integral": device.integral_j,
            "mean_w": device.mean_w,
            "peak_w": device.peak_w,
            "edge_bound_j": device.edge_bound_j,
            "readings": device.readings,
            "failed_readings": device.failed_readings,
            **asdict(seen[identity.uuid]),
            "reasons": [*device.reasons, *seen[identity.uuid].reasons],
        }
        for identity in identities
        if (device := by_uuid.get(identity.uuid)) is not None
    ]


def _peak_w(rows: Sequence[PowerRow], devices: int) -> float | None:
    """Return the highest power of all devices together: of the rounds that read every one of them."""
    rounds: dict[float, list[float]] = defaultdict(list)
    ordered = sorted(rows, key=lambda row: row.t_mono_s)
    for start in range(0, len(ordered) - devices + 1, devices):
        powers = [row.power_w for row in ordered[start : start + devices]]
        rounds[ordered[start].t_mono_s] = [power for power in powers if power is not None]
    return max((sum(powers) for powers in rounds.values() if len(powers) == devices), default=None)


def _uncertainty(source: PowerSource, energy: WindowEnergy) -> dict[str, float | None]:
    """Return relative standard uncertainties: of the sensor's gain, of the counter's steps at the edges, and of both.

    The edges' bounds are added over devices, whose counters may step together, and taken as rectangular.
    """
    gain, bounds = source.gain_rel_u, [device.edge_bound_j for device in energy.devices]
    edges = None
    if energy.joules and None not in bounds:
        edges = sum(bound for bound in bounds if bound is not None) / math.sqrt(3) / energy.joules
    both = None if gain is None or edges is None else math.hypot(gain, edges)
    return {"sensor_gain_rel_u": gain, "edges_rel_u": edges, "combined_rel_u": both}


def _node(reading: Reading, headline: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """Lift GPU watts to the node through the profile of nodes with these GPUs, where one is known."""
    names = {device.name for device in reading.source.devices}
    profiles = [profile_for_gpu(name) for name in names]
    if len(names) > 1 or profiles[0] is None:
        return None, f"no node profile is known for {', '.join(sorted(names))}"
    if headline["mean_w"] is None:
        return None, "the GPUs' energy is unknown"
    profile, count = profiles[0], len(reading.source.devices)
    if count > profile.gpu_count:
        return None, f"profile {profile.name} is of {profile.gpu_count} GPUs, {count} were measured"
    share = 1.0 if profile.simulated else profile.share(count)
    return _node_block(profile, share, headline), ""


def _node_block(profile: NodeProfile, share: float, headline: dict[str, Any]) -> dict[str, Any]:
    gpu_w = headline["mean_w"]
    gain, edges = (headline["uncertainty"][name] for name in ("sensor_gain_rel_u", "edges_rel_u"))
    watts, seconds = profile.node_watts(gpu_w, share), headline["joules"] / gpu_w
    model_w, gpu_part = profile.node_watts_std(gpu_w, share), profile.slope * gpu_w / watts
    gain = profile.gpu_gain_rel_u(gain, [gpu["uuid"] for gpu in headline["devices"]])
    parts = {
        "node_model_rel_u": None if model_w is None else model_w / watts,
        "sensor_gain_rel_u": None if gain is None else gain * gpu_part,
        "edges_rel_u": None if edges is None else edges * gpu_part,
    }
    known = [part for part in parts.values() if part is not None]
    return {
        "boundary": "node_modelled",
        "profile": profile.name,
        "profile_source": profile.source,
        "node_share": share,
        "joules": watts * seconds,
        "mean_w": watts,
        "uncertainty": parts | {"combined_rel_u": math.hypot(*known) if len(known) == len(parts) else None},
    }


def _sampling(reading: Reading, rows: Sequence[PowerRow], stretch: Stretch) -> dict[str, Any]:
    """Return how the readings kept their deadlines within the stretch, and what the sampling cost."""
    first_uuid = reading.source.devices[0].uuid
    inside = [row for row in rows if row.uuid == first_uuid and stretch.start_s <= row.t_mono_s <= stretch.end_s]
    late_s = np.array([row.late_s for row in inside])
    own = [row.t_mono_s for row in rows if row.uuid == first_uuid]
    elapsed_s = own[-1] - own[0] if len(own) > 1 else None
    return {
        "source": reading.source.name,
        "period_s": reading.period_s,
        "rounds": len(inside),
        "missed": reading.sampler.missed,
        "lateness_p50_s": float(np.median(late_s)) if late_s.size else None,
        "lateness_p99_s": float(np.quantile(late_s, 0.99)) if late_s.size else None,
        "lateness_max_s": float(late_s.max()) if late_s.size else None,
        "cpu_share": reading.sampler.cpu_s / elapsed_s if elapsed_s else None,
    }
