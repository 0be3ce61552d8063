"""Joules of a stretch so far, for each power source. Pure."""

from __future__ import annotations

from typing import NamedTuple

from harness.live.state import LiveState
from harness.live.totals import DeviceTotals


class Spent(NamedTuple):
    """What the devices of a source drew together, and their mean power; ``None`` while one of them is not known."""

    source: str
    boundary: str
    joules: float | None
    mean_w: float | None


def spent(live: LiveState) -> list[Spent]:
    """Return joules and mean watts by source, from each device's first reading to its latest one."""
    with live.lock:
        sources: dict[tuple[str, str], list[DeviceTotals]] = {}
        for device in live.devices.values():
            sources.setdefault((device.row.source, device.row.boundary), []).append(device)
        return [_of_source(*name, devices) for name, devices in sources.items()]


def _of_source(source: str, boundary: str, devices: list[DeviceTotals]) -> Spent:
    if not all(device.answers and device.known_s > 0 for device in devices):
        return Spent(source, boundary, None, None)
    watts = [device.joules / device.known_s for device in devices]
    return Spent(source, boundary, sum(device.joules for device in devices), sum(watts))
