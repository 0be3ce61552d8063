"""What is reported of each device of a cell: its energy by counter and integral, and its conditions. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.analysis.energy import DeviceEnergy
from harness.power.base import DeviceState
from harness.power.conditions import FOREIGN_PROCESSES, READ_COLUMNS, OtherUse, conditions_of, use_beside_servers
from results.schema import DeviceResult

BEFORE_LAUNCH, BEFORE, AFTER = "devices_before_launch", "devices_before", "devices_after"
"""The events that hold the states of all devices: before servers start, and around each load and the idle stretch."""

GPU_UNUSED = "gpu_unused"
"""Reason code: a GPU that did nothing under the load, while its joules are counted; ``--gpu`` leaves it out."""

NOT_TOLD = OtherUse(None, "the power source does not list processes")


@dataclass(frozen=True)
class StoredStates:
    """The devices' states around a load, by UUID, and the ids of the servers' processes.

    ``own_pids`` is None for servers that the run did not launch and empty before the launch; ``host_pids`` says that
    they are the host's ids, as those of the states are. ``after`` is empty where the load was cut short, ``launch``
    where nothing was launched.
    """

    launch: dict[str, DeviceState]
    before: dict[str, DeviceState]
    after: dict[str, DeviceState]
    own_pids: frozenset[int] | None
    host_pids: bool

    def use(self, uuid: str) -> OtherUse:
        """Judge whether others used a device during the load."""
        launch, before, after = (
            None if (state := states.get(uuid)) is None else state.pids
            for states in (self.launch, self.before, self.after)
        )
        seen = None if before is None and after is None else {*(before or ()), *(after or ())}
        return use_beside_servers(launch, seen, self.own_pids, host_pids=self.host_pids)

    def unused(self, uuid: str, utilization_ratio: float | None) -> bool:
        """Tell whether a device certainly did nothing for the servers.

        ``utilization_ratio`` is the mean over the window. Where it is not told, no process may be listed around the
        load, by the host's ids: a container may see none of them. A device of servers that the run launched needs
        both, as one of several replicas may wait for a request while few are in flight.
        """
        if utilization_ratio:
            return False
        if utilization_ratio is not None and self.own_pids is None:
            return True
        pids = [state.pids for states in (self.before, self.after) if (state := states.get(uuid)) is not None]
        return self.host_pids and len(pids) > 1 and all(listed == () for listed in pids)


@dataclass(frozen=True)
class Stretch:
    """The times (monotonic s) of a load or of idling: from state to state, and the window that figures come from."""

    start_s: float
    end_s: float
    window_s: tuple[float, float] | None
    loaded: bool = True


def states_around(
    launch: Mapping[str, Any] | None, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> StoredStates | None:
    """Gather the states around a load from the run's events, or return ``None`` where none were stored."""
    if before is None:
        return None
    own = [event["own_pids"] for event in (before, after) if event is not None]
    return StoredStates(
        launch=_states(launch),
        before=_states(before),
        after=_states(after),
        own_pids=None if None in own else frozenset(pid for pids in own for pid in pids),
        host_pids=bool(before["host_pids"]),
    )


def _states(event: Mapping[str, Any] | None) -> dict[str, DeviceState]:
    stored = () if event is None else event["devices"]
    return {
        state["uuid"]: DeviceState(**{**state, "pids": None if state["pids"] is None else tuple(state["pids"])})
        for state in stored
    }


def device_results(
    energies: Sequence[DeviceEnergy],
    uuids: Sequence[str],
    source: str,
    power: pd.DataFrame,
    stretch: Stretch,
    states: StoredStates | None,
) -> tuple[DeviceResult, ...]:
    """Return what is known of each device. ``power`` are the readings around the load, of other devices as well.

    Energy, throttling, temperature, clocks and use are over the window; ECC, XID, limit and processes over the load.
    """
    energy_by_uuid = {energy.uuid: energy for energy in energies}
    rows_by_uuid = {str(uuid): rows for uuid, rows in power[["uuid", "t_mono_s", *READ_COLUMNS]].groupby("uuid")}
    none = power.iloc[:0]
    return tuple(
        _result(uuid, energy_by_uuid.get(uuid), source, rows_by_uuid.get(uuid, none), stretch, states) for uuid in uuids
    )


def _result(
    uuid: str,
    energy: DeviceEnergy | None,
    source: str,
    rows: pd.DataFrame,
    stretch: Stretch,
    states: StoredStates | None,
) -> DeviceResult:
    unknown = DeviceState(uuid)
    before = unknown if states is None else states.before.get(uuid, unknown)
    after = unknown if states is None else states.after.get(uuid, unknown)
    seen = conditions_of(_columns(rows, stretch), before, after)
    use = NOT_TOLD if states is None else states.use(uuid)
    throttled = seen.throttling
    foreign = (FOREIGN_PROCESSES,) if use.foreign else ()
    idle = stretch.loaded and states is not None and states.unused(uuid, seen.utilization_mean_ratio)
    unused = (GPU_UNUSED,) if idle else ()
    return DeviceResult(
        uuid=uuid,
        source=source,
        mean_w=None if energy is None else energy.mean_w,
        joules_counter=None if energy is None else energy.counter_j,
        joules_integral=None if energy is None else energy.integral_j,
        integral_difference_rel=None if energy is None else _difference_rel(energy),
        throttled_share=throttled.share,
        throttled_by_cause=None if throttled.share is None else throttled.by_cause,
        temperature_max_c=seen.temperature_max_c,
        sm_clock_mean_mhz=seen.sm_clock_mean_mhz,
        utilization_mean_ratio=seen.utilization_mean_ratio,
        memory_max_b=seen.memory_max_b,
        power_limit_w=after.power_limit_w if after.power_limit_w is not None else before.power_limit_w,
        ecc_corrected=seen.ecc_corrected,
        ecc_uncorrected=seen.ecc_uncorrected,
        xids=seen.xids if before.xids_watched or seen.xids else None,
        foreign_processes=use.foreign,
        foreign_processes_why=use.why,
        reasons=tuple(dict.fromkeys((*(() if energy is None else energy.reasons), *seen.reasons, *foreign, *unused))),
    )


def _columns(rows: pd.DataFrame, stretch: Stretch) -> dict[str, list[Any]]:
    during = rows[rows["t_mono_s"].between(stretch.start_s, stretch.end_s)]
    inside = rows.iloc[:0] if stretch.window_s is None else rows[rows["t_mono_s"].between(*stretch.window_s)]
    frames = {name: during if name == "xid" else inside for name in READ_COLUMNS}
    whole = ("throttle_reasons", "memory_used_b", "xid")
    return {
        name: frame[name].dropna().astype("int64" if name in whole else "float64").tolist()
        for name, frame in frames.items()
    }


def _difference_rel(energy: DeviceEnergy) -> float | None:
    if energy.integral_j is None or not energy.counter_j:
        return None
    return energy.integral_j / energy.counter_j - 1
