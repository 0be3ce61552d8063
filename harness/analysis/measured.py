"""Turn the raw record of a cell into measured figures: tokens, joules, rates and latencies. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from estimator.nodes import Allocation, NodeProfile
from estimator.uncertainty import RatioEstimate
from harness.analysis.boundaries import NodeShare, choose_node_meter, meter_energy, meter_reading
from harness.analysis.celllog import CellLog, growth_over_servers, stored_series, sum_over_servers
from harness.analysis.energy import (
    STUCK_POWER_S,
    DeviceEnergy,
    DeviceSeries,
    WindowEnergy,
    counter_times_s,
    device_energy,
    total_energy,
)
from harness.analysis.steady import Record, Rule, Window, choose_window
from harness.load.report import LatencyStatistics, inter_token_s, latency_statistics, mean_in_flight, streamed_requests
from results.schema import (
    Boundary,
    Latency,
    MeterDescription,
    MeterReading,
    PowerDescription,
    RequestCount,
    TokenCheck,
)

FloatArray = npt.NDArray[np.float64]

LOOK_MARGIN = 1.05
"""What servers hold is scraped now and then, and until the load has ended the mean still moves."""

Sensor = PowerDescription | MeterDescription


@dataclass(frozen=True)
class PowerModel:
    """How readings become joules at the run's boundary."""

    source: PowerDescription
    boundary: Boundary
    profile: NodeProfile | None
    node_share: float
    device_uuids: tuple[str, ...]
    allocation: Allocation = "share"
    meters: tuple[MeterDescription, ...] = ()

    @property
    def node(self) -> NodeShare:
        """Return how the node is charged to the GPUs of the run."""
        return NodeShare(self.profile, self.node_share, self.allocation)

    @property
    def meter(self) -> MeterDescription | None:
        """Return the meter that watts at the boundary ``node`` come from; other boundaries have none."""
        return choose_node_meter(self.meters) if self.boundary == "node" else None

    @property
    def source_name(self) -> str:
        """Return what the watts at the run's boundary come from."""
        return self.source.name if self.meter is None else self.meter.name

    @property
    def gain_rel_u(self) -> float | None:
        """Return what is unknown of the gain of the sensors behind the watts, as far as no node model holds it."""
        if self.boundary == "node":
            return None if self.meter is None else self.meter.gain_rel_u
        sensor_rel_u = self.source.gain_rel_u
        if self.boundary == "gpu" or self.profile is None:
            return sensor_rel_u
        return self.profile.gpu_gain_rel_u(sensor_rel_u, self.device_uuids)

    def lift_w(self, gpu_w: float) -> float:
        """Return watts at a boundary without a meter from the summed watts of the GPUs."""
        if self.boundary == "gpu" or self.profile is None:
            return gpu_w
        return self.profile.node_watts(gpu_w, self.node_share, self.allocation)

    def systematic_rel_u(self, gpu_w: float) -> dict[str, float | None]:
        """Return the relative standard uncertainties that more measuring would not reduce; None where unknown."""
        lifted_w, gain = self.lift_w(gpu_w), self.gain_rel_u
        if self.boundary == "gpu" or self.profile is None:
            return {"sensor_gain": gain}
        model_w = self.profile.node_watts_std(gpu_w, self.node_share)
        parts: dict[str, float | None] = {
            "sensor_gain": None if gain is None else gain * self.profile.slope * gpu_w / lifted_w,
            "node_model": None if model_w is None else model_w / lifted_w,
        }
        idle_w = self.profile.allocated_idle_std_w(self.node_share, self.allocation)
        return parts if idle_w == 0 else parts | {"node_idle": None if idle_w is None else idle_w / lifted_w}


@dataclass(frozen=True)
class WindowFigures:
    """What was measured in a window; power and energy in watts and joules at the model's boundary."""

    window: Window
    tps_tok_per_s: float
    energy: WindowEnergy
    watts: float | None
    joules_per_tok: RatioEstimate | None
    metered: WindowEnergy | None = None
    """Energy of everything that the run's node meter covers, where the boundary is ``node``."""

    @property
    def duration_s(self) -> float:
        """Length of the window in seconds."""
        return self.window.end_s - self.window.start_s


def window_figures(
    log: CellLog, model: PowerModel, choose: Callable[[Record, Rule], Window | None] = choose_window
) -> WindowFigures | None:
    """Measure a cell's window, or return ``None`` if there is none."""
    t_s, tokens = sum_over_servers(log.server, "generation_tok")
    devices = stored_series(log.power, model.device_uuids)
    of_meter = [] if model.meter is None else stored_series(log.power, model.meter.device_uuids)
    sensed = devices if model.meter is None else of_meter
    record = Record(t_s, tokens, _kv_usage(log, t_s), lambda edges_s: _interval_joules(sensed, model, edges_s))
    window = choose(record, _rule(log))
    if window is None:
        return None
    energy = window_energy(devices, window.start_s, window.end_s, model.source, loaded=True)
    tps = float((tokens[window.last] - tokens[window.first]) / (window.end_s - window.start_s))
    watts, metered = None if energy.mean_w is None else model.lift_w(energy.mean_w), None
    if model.boundary == "node":
        metered = None if model.meter is None else meter_energy(model.meter, of_meter, window.start_s, window.end_s)
        watts = None if metered is None or metered.mean_w is None else model.node.metered_w(metered.mean_w)
    return WindowFigures(window, tps, energy, watts, window.joules_per_tok, metered)


def _rule(log: CellLog) -> Rule:
    definition = log.definition
    return Rule(
        earliest_s=log.filled_s + definition.warmup_s,
        latest_s=log.load_stop_s,
        precision_rel=definition.precision_rel,
        min_window_s=definition.min_window_s,
        request_tok=in_flight(log) * definition.mean_output_tok,
    )


def in_flight(log: CellLog) -> float:
    """Return the requests in flight: the slots of a closed loop, the mean number under load in an open one.

    While an open loop lasts only requests that have ended are logged, and those are the short ones: it is then at least
    what the servers hold.
    """
    if log.definition.arrival == "closed":
        return log.definition.concurrency
    ended = mean_in_flight(log.requests, log.filled_s, log.load_stop_s)
    return max(ended, LOOK_MARGIN * _held(log)) if log.under_load else ended


def in_flight_counted(log: CellLog) -> float:
    """Return the requests in flight on the servers that export a token counter; slots go to the servers in turn."""
    servers = int(log.server["server"].nunique())
    counted = [number for number in range(servers) if number not in log.usage_servers]
    if log.definition.arrival == "closed":
        return sum(len(range(number, log.definition.concurrency, servers)) for number in counted)
    return mean_in_flight(log.requests[log.requests["server"].isin(counted)], log.filled_s, log.load_stop_s)


def _held(log: CellLog) -> float:
    """Return how many requests all servers together ran or queued on average under load, or the limit if unknown."""
    held = log.server.assign(held=log.server["running"] + log.server["waiting"])
    t_s, total = sum_over_servers(held, "held")
    loaded = (t_s >= log.filled_s) & (t_s <= log.load_stop_s)
    return float(total[loaded].mean()) if loaded.any() else log.definition.concurrency


def _kv_usage(log: CellLog, t_s: FloatArray) -> FloatArray | None:
    """Return KV usage of all servers together at the given times, or ``None`` if not every server tells."""
    known_s, usage = sum_over_servers(log.server, "kv_usage_ratio")
    return np.asarray(np.interp(t_s, known_s, usage / log.server["server"].nunique())) if known_s.size else None


def meter_readings(
    power: pd.DataFrame, start_s: float, end_s: float, model: PowerModel, gpu_w: float | None
) -> tuple[MeterReading, ...]:
    """Return what every meter beside the run's power source says over a window."""
    return tuple(
        meter_reading(meter, stored_series(power, meter.device_uuids), (start_s, end_s), model.node, gpu_w)
        for meter in model.meters
    )


def window_energy(
    devices: list[DeviceSeries], start_s: float, end_s: float, sensor: Sensor, *, loaded: bool = False
) -> WindowEnergy:
    """Return the energy of all devices over a window; power of a GPU ``loaded`` throughout must not stand still."""
    stuck_power_s = STUCK_POWER_S if loaded and sensor.name == "nvml" else math.inf
    return total_energy(
        [
            device_energy(
                device,
                start_s,
                end_s,
                power_lag_s=sensor.power_lag_s,
                counter_lag_s=sensor.counter_lag_s,
                stuck_power_s=stuck_power_s,
            )
            for device in devices
        ]
    )


def _interval_joules(devices: list[DeviceSeries], model: PowerModel, edges_s: FloatArray) -> FloatArray | None:
    """Return the joules at the run's boundary between the given times, or ``None`` where they are not known.

    ``devices`` are those of the run's node meter where its boundary is ``node``, else the GPUs.
    """
    start_s, end_s = float(edges_s[0]), float(edges_s[-1])
    sensor: Sensor
    lift: Callable[[float], float | None]
    if model.boundary == "node":
        if model.meter is None:
            return None
        sensor, lift = model.meter, model.node.metered_w
        energy = meter_energy(model.meter, devices, start_s, end_s)
    else:
        sensor, lift = model.source, model.lift_w
        energy = window_energy(devices, start_s, end_s, sensor)
    if energy.joules is None:
        return None
    sensed_j = sum(
        np.diff(_cumulative_joules(series, device, edges_s, sensor))
        for series, device in zip(devices, energy.devices, strict=True)
    )
    seconds = np.diff(edges_s)
    watts = [lift(float(watts)) for watts in sensed_j / seconds]
    known = [value for value in watts if value is not None]
    return np.array(known) * seconds if len(known) == len(watts) else None


def _cumulative_joules(series: DeviceSeries, device: DeviceEnergy, at_s: FloatArray, sensor: Sensor) -> FloatArray:
    if device.method == "counter":
        known = np.isfinite(series.energy_j)
        stepped_s = counter_times_s(series, sensor.counter_lag_s)
        return np.asarray(np.interp(at_s, stepped_s[known], series.energy_j[known]))
    known = np.isfinite(series.power_w)
    t_s, power_w = series.t_s[known], series.power_w[known]
    steps = np.diff(t_s) * (power_w[1:] + power_w[:-1]) / 2
    return np.asarray(np.interp(at_s + sensor.power_lag_s, t_s, np.concatenate([[0.0], np.cumsum(steps)])))


def check_tokens(log: CellLog) -> TokenCheck:
    """Compare the server's token counter over the whole cell, quiet to quiet, with the usage of its requests.

    Completed usage <= counter difference <= completed usage plus the tokens unfinished requests asked for;
    with nothing unfinished the two are equal.
    """
    completed = log.requests[log.requests["outcome"] == "completed"]
    unfinished = log.requests[log.requests["outcome"] != "completed"]
    usage, limit = int(completed["output_tok"].sum()), int(unfinished["output_tok_asked"].sum())
    counter = growth_over_servers(log.server, "generation_tok")
    if log.end_s is None or counter is None or log.tokens_from_usage:  # usage cannot check itself
        return TokenCheck(counter_tok=None, usage_completed_tok=usage, unfinished_limit_tok=limit, consistent=None)
    return TokenCheck(
        counter_tok=counter,
        usage_completed_tok=usage,
        unfinished_limit_tok=limit,
        consistent=usage <= round(counter) <= usage + limit,
    )


def count_requests(log: CellLog) -> RequestCount:
    """Count the requests of a cell by outcome, first fills left out."""
    outcomes = log.requests.loc[~log.requests["first_fill"], "outcome"].value_counts()
    return RequestCount(
        completed=int(outcomes.get("completed", 0)),
        aborted=int(outcomes.get("aborted", 0)),
        errors=int(outcomes.get("error", 0)),
    )


def served_length_ratio(log: CellLog) -> float | None:
    """Return tokens served over tokens asked for, over completed requests: 1 where lengths were forced.

    First fills, which ask for a rest only, are left out unless nothing else completed. Servers without counters need
    not take ``ignore_eos`` and ``min_tokens``: the length of their queries is then the mean length asked for times
    this. That mean is not biased towards short answers, because such a cell outlasts what it has sent.
    """
    completed = log.requests[log.requests["outcome"] == "completed"]
    whole = completed[~completed["first_fill"].eq(True)]
    completed = whole if len(whole) else completed
    asked = int(completed["output_tok_asked"].sum())
    return float(completed["output_tok"].sum()) / asked if asked else None


def time_to_first_token(log: CellLog, window: Window) -> Latency:
    """Return TTFT of the streamed requests due in the window, in seconds; those cut off while waiting are counted."""
    probes = streamed_requests(log.requests, window.start_s, window.end_s)
    return _latency(log, window, latency_statistics(probes["ttft_s"], probes["waited_s"]), "ttft")


def inter_token_latency(log: CellLog, window: Window) -> Latency:
    """Return the mean time between tokens of each streamed request that ended in the window (TPOT), in seconds."""
    return _latency(log, window, latency_statistics(inter_token_s(log.requests, window.start_s, window.end_s)), "itl")


def _latency(log: CellLog, window: Window, seen: LatencyStatistics, histogram: str) -> Latency:
    seconds, count = growth(log, window, f"{histogram}_sum_s"), growth(log, window, f"{histogram}_count")
    return Latency(
        p50_s=seen.p50_s,
        p90_s=seen.p90_s,
        p99_s=seen.p99_s,
        mean_s=seen.mean_s,
        probes=seen.n,
        server_mean_s=seconds / count if seconds is not None and count else None,
    )


def gauge_mean(log: CellLog, window: Window, column: str) -> float | None:
    """Return the mean of a gauge over all scrapes in the window, or ``None`` if the server does not tell."""
    values = log.server.loc[log.server["t_mono_s"].between(window.start_s, window.end_s), column].dropna()
    return float(values.mean()) if len(values) else None


def growth(log: CellLog, window: Window, column: str) -> float | None:
    """Return how much a counter grew over the window, summed over servers, or ``None`` if it is not exported."""
    t_s, totals = sum_over_servers(log.server, column)
    if not totals.size:
        return None
    at_start, at_end = np.interp([window.start_s, window.end_s], t_s, totals)
    return float(at_end - at_start)


def queue_share(log: CellLog, window: Window) -> float | None:
    """Return the share of scrapes in the window in which some request was waiting."""
    values = log.server.loc[log.server["t_mono_s"].between(window.start_s, window.end_s), "waiting"].dropna()
    return float((values > 0).mean()) if len(values) else None


def utilization_ratio(log: CellLog, window: Window) -> float | None:
    """Return the mean GPU utilisation over devices and window, or ``None`` where the source does not tell."""
    values = log.power.loc[log.power["t_mono_s"].between(window.start_s, window.end_s), "utilization_ratio"].dropna()
    return float(values.mean()) if len(values) else None
