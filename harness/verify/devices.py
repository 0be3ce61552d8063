"""Rules on each device of a cell or idle phase: its energy, throttling and use, and its states before and after."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from harness.verify import rederive
from harness.verify.checks import RAW_REL, Check, equal, same
from harness.verify.evidence import Cell, Evidence

Json = Mapping[str, Any]

CAUSES = {
    "gpu_idle": 0x1, "application_clocks": 0x2, "sw_power_cap": 0x4, "hw_slowdown": 0x8, "sync_boost": 0x10,
    "sw_thermal_slowdown": 0x20, "hw_thermal_slowdown": 0x40, "hw_power_brake": 0x80, "display_clock": 0x100,
    "board_limit": 0x200, "reliability": 0x400,
}  # fmt: skip
"""Bits of NVML's clock event reasons (nvml.h)."""
CHOSEN = ("gpu_idle", "application_clocks", "display_clock")
"""Reasons that are no throttling: there is nothing to do, or somebody chose the clocks."""
FAULTS = ("hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake")
MAX_FAULT_SHARE = 0.05
CODES = {"hardware_throttled", "ecc_uncorrected", "xid_error", "power_limit_changed", "foreign_processes", "gpu_unused"}


IDLE = ("bare_idle", "idle")


class Stretch(NamedTuple):
    """A load or an idle phase: what was reported of it, its times in s, and the events that hold device states.

    From ``begun_s`` to ``over_s`` the servers were kept from anything else: until they were quiet again.
    """

    name: str
    reported: Json
    window_s: tuple[float, float] | None
    start_s: float
    end_s: float
    events: dict[str, Json]
    begun_s: float
    over_s: float

    @property
    def devices(self) -> tuple[Json, ...]:
        """Return what was reported of each device."""
        return tuple(self.reported.get("devices", ()))


def by_stretch(check: Callable[[Evidence, Stretch], Iterator[Check]]) -> Callable[[Evidence], list[Check]]:
    """Return a check of every reported load and idle phase, its name before each text."""

    def checks(evidence: Evidence) -> list[Check]:
        return [
            Check(found.ok, f"{stretch.name}: {found.text}")
            for stretch in stretches(evidence)
            for found in check(evidence, stretch)
        ]

    return checks


def stretches(evidence: Evidence) -> Iterator[Stretch]:
    """Yield every reported idle phase and load."""
    yield from _idle_phases(evidence)
    for cell in evidence.cells:
        if cell.reported:
            yield load_of(evidence, cell)


def load_of(evidence: Evidence, cell: Cell) -> Stretch:
    """Return the load of a cell."""
    first = cell.event_number
    later = (number for number, event in enumerate(evidence.events) if event["event"] == "cell_start")
    until = next((number for number in later if number > first), len(evidence.events))
    events = _states(evidence.events[:first], evidence.events[first:until])
    return Stretch(
        cell.name, cell.reported, cell.window_s, cell.quiet_s, cell.load_stop_s, events, cell.start_s, cell.end_s
    )


def _idle_phases(evidence: Evidence) -> Iterator[Stretch]:
    times = {event["event"]: float(event["t_mono_s"]) for event in evidence.events}
    for name in IDLE:
        reported, start_s, end_s = evidence.result.get(name), times.get(f"{name}_start"), times.get(f"{name}_end")
        if reported is not None and start_s is not None and end_s is not None:
            earlier = [event for event in evidence.events if float(event["t_mono_s"]) < start_s]
            inside = [event for event in evidence.events if start_s <= float(event["t_mono_s"]) <= end_s]
            yield Stretch(name, reported, (start_s, end_s), start_s, end_s, _states(earlier, inside), start_s, end_s)


def _states(earlier: list[dict[str, Any]], inside: list[dict[str, Any]]) -> dict[str, Json]:
    """Return the states before and after a stretch, and the last that were stored before a launch of servers."""
    launch = {event["event"]: event for event in earlier if event["event"] == "devices_before_launch"}
    return launch | {e["event"]: e for e in inside if e["event"] in ("devices_before", "devices_after")}


def in_window(evidence: Evidence, cell: Cell) -> Iterator[Check]:
    """Work out each device's figures over the window of a cell."""
    return figures_between(evidence, cell.reported, cell.window_s)


def figures_between(evidence: Evidence, reported: Json, window_s: tuple[float, float] | None) -> Iterator[Check]:
    """Work out each device's joules by counter and by integral, its throttling, temperature, clock, memory and use."""
    for device in reported.get("devices", ()):
        name, rows = str(device["uuid"]), evidence.readings(device["uuid"])
        joules, seconds = rederive.Joules(None, None), math.nan
        inside = rows.iloc[:0]
        if window_s is not None:
            start_s, end_s = window_s
            seconds = end_s - start_s
            joules = rederive.device_joules(rows, start_s, end_s, evidence.manifest["power"])
            inside = rows[(rows["t_mono_s"] >= start_s) & (rows["t_mono_s"] <= end_s)]
        yield from same(f"{name} J by counter", device["joules_counter"], joules.counter, RAW_REL)
        yield from same(f"{name} J by integral", device["joules_integral"], joules.integral, RAW_REL)
        mean_w = None if joules.best is None else joules.best / seconds
        yield from same(f"{name} W", device["mean_w"], mean_w, RAW_REL)
        apart = joules.integral / joules.counter - 1 if joules.counter and joules.integral is not None else None
        yield from same(f"{name} integral over counter, less 1", device["integral_difference_rel"], apart, 0, RAW_REL)
        yield from _throttling(device, name, inside)
        temperatures, memory = _known(inside, "temperature_c"), _known(inside, "memory_used_b")
        yield from same(f"{name} °C at most", device["temperature_max_c"], max(temperatures, default=None))
        yield from same(f"{name} bytes at most", device["memory_max_b"], max(memory, default=None))
        yield from same(f"{name} MHz", device["sm_clock_mean_mhz"], _mean(_known(inside, "sm_clock_mhz")))
        yield from same(f"{name} busy", device["utilization_mean_ratio"], _mean(_known(inside, "utilization_ratio")))


def _throttling(device: Json, name: str, inside: pd.DataFrame) -> Iterator[Check]:
    masks = [int(mask) for mask in _known(inside, "throttle_reasons")]
    reported = device["throttled_by_cause"]
    if not masks:
        yield from same(f"{name} throttled", device["throttled_share"], None)
        if reported is not None:
            yield Check(False, f"{name} has causes of throttling, but no reading tells of any")
        return
    chosen = sum(CAUSES[cause] for cause in CHOSEN)
    throttled = sum(1 for mask in masks if mask & ~chosen)
    yield from same(f"{name} throttled", device["throttled_share"], throttled / len(masks))
    for cause, bit in CAUSES.items():
        share = sum(1 for mask in masks if mask & bit) / len(masks)
        if share or cause in (reported or {}):
            yield from same(f"{name} {cause}", (reported or {}).get(cause), share)


def around_load(evidence: Evidence, stretch: Stretch) -> Iterator[Check]:
    """Work out new ECC errors, the power limit, XID errors and others' processes from the states around the load."""
    before, after = stretch.events.get("devices_before"), stretch.events.get("devices_after")
    for device in stretch.devices:
        name = device["uuid"]
        first, last = _state(before, device["uuid"]), _state(after, device["uuid"])
        for kind in ("ecc_corrected", "ecc_uncorrected"):
            yield from same(f"{name} {kind}", device[kind], _growth(first.get(kind), last.get(kind)))
        limit_w = first.get("power_limit_w") if last.get("power_limit_w") is None else last["power_limit_w"]
        yield from same(f"{name} W allowed", device["power_limit_w"], limit_w)
        xids = _xids(evidence, stretch, name)
        yield equal(f"{name} XIDs", device["xids"], xids if xids or first.get("xids_watched") else None)
        yield equal(f"{name} others'", device["foreign_processes"], _foreign(stretch, name))


def reasons(evidence: Evidence, stretch: Stretch) -> Iterator[Check]:
    """See that every device has the reasons that its figures call for, and the cell those of its devices."""
    for device in stretch.devices:
        wanted = sorted(_called(evidence, stretch, device))
        yield equal(f"reasons of {device['uuid']}", sorted(CODES & set(device["reasons"])), wanted)
    if stretch.devices:
        called = sorted(called_for(evidence, stretch))
        yield equal("reasons from devices", sorted(CODES & set(stretch.reported["reasons"])), called)


def called_for(evidence: Evidence, stretch: Stretch) -> set[str]:
    """Return the reasons that the figures of all devices of a stretch call for."""
    return {code for device in stretch.devices for code in _called(evidence, stretch, device)}


def _called(evidence: Evidence, stretch: Stretch, device: Json) -> set[str]:
    uuid = device["uuid"]
    around = [stretch.events.get(kind) for kind in ("devices_before", "devices_after")]
    limits = {_state(event, uuid).get("power_limit_w") for event in around}
    facts = {
        "hardware_throttled": _fault_share(evidence, stretch, uuid) > MAX_FAULT_SHARE,
        "ecc_uncorrected": bool(device["ecc_uncorrected"]),
        "xid_error": bool(device["xids"]),
        "power_limit_changed": len(limits - {None}) > 1,
        "foreign_processes": device["foreign_processes"] is True,
        "gpu_unused": _unused(evidence, stretch, uuid),
    }
    return {code for code, holds in facts.items() if holds}


def every_device(evidence: Evidence, stretch: Stretch) -> Iterator[Check]:
    """See that the devices reported are those of the manifest; runs of before they were reported have none."""
    if "devices" in stretch.reported:
        wanted = [device["uuid"] for device in evidence.manifest["devices"]]
        yield equal("devices", [device["uuid"] for device in stretch.devices], wanted)


def _fault_share(evidence: Evidence, stretch: Stretch, uuid: str) -> float:
    if stretch.window_s is None:
        return 0.0
    start_s, end_s = stretch.window_s
    rows = evidence.readings(uuid)
    masks = _known(rows[(rows["t_mono_s"] >= start_s) & (rows["t_mono_s"] <= end_s)], "throttle_reasons")
    faults = sum(CAUSES[cause] for cause in FAULTS)
    return sum(1 for mask in masks if int(mask) & faults) / len(masks) if masks else 0.0


def _state(event: Json | None, uuid: str) -> Json:
    for state in () if event is None else event["devices"]:
        if state["uuid"] == uuid:
            return state  # type: ignore[no-any-return]
    return {}


def _foreign(stretch: Stretch, uuid: str) -> bool | None:
    """Tell whether a process listed during the load is not ours; None where ours cannot be told from others."""
    events = stretch.events
    around = [events[kind] for kind in ("devices_before", "devices_after") if kind in events]
    lists = [pids for event in around if (pids := _state(event, uuid).get("pids")) is not None]
    seen = {pid for pids in lists for pid in pids}
    if not lists or any(event["own_pids"] is None for event in around):
        return None
    own = {pid for event in around for pid in event["own_pids"]}
    if not own:  # before any server was launched
        return bool(seen)
    if not seen:
        return None
    if around[0]["host_pids"]:
        return bool(seen - own)
    earlier = _state(events.get("devices_before_launch"), uuid).get("pids") or []
    return True if seen & set(earlier) else None


def _unused(evidence: Evidence, stretch: Stretch, uuid: str) -> bool:
    """Tell whether a GPU did nothing throughout the window.

    No process around the window shows that where use is not told, and must, too, where the run launched the servers.
    """
    around = [stretch.events.get(kind) for kind in ("devices_before", "devices_after")]
    told = [event for event in around if event is not None]
    if stretch.name in IDLE or not told:
        return False
    start_s, end_s = stretch.window_s or (0.0, -1.0)
    rows = evidence.readings(uuid)
    busy = _known(rows[(rows["t_mono_s"] >= start_s) & (rows["t_mono_s"] <= end_s)], "utilization_ratio")
    if busy and max(busy) > 0:
        return False
    if busy and all(event["own_pids"] is None for event in told):
        return True
    lists = [_state(event, uuid).get("pids") for event in told]
    return bool(told[0]["host_pids"]) and lists == [[], []]


def _xids(evidence: Evidence, stretch: Stretch, uuid: str) -> list[int]:
    rows = evidence.readings(uuid)
    during = rows[(rows["t_mono_s"] >= stretch.start_s) & (rows["t_mono_s"] <= stretch.end_s)]
    return [int(xid) for xid in _known(during, "xid")]


def _growth(first: int | None, last: int | None) -> int | None:
    return None if first is None or last is None or last < first else last - first


def _known(rows: pd.DataFrame, column: str) -> list[float]:
    values: list[float] = rows[column].dropna().tolist()
    return values


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
