"""Turn the raw record of a cell into measured figures: tokens, joules, rates, latencies and their errors. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from estimator.nodes import NodeProfile
from estimator.uncertainty import RatioEstimate, batch_means_ratio, combine_relative
from harness.celllog import CellLog, growth_over_servers, stored_series, sum_over_servers
from harness.energy import DeviceEnergy, DeviceSeries, WindowEnergy, device_energy, total_energy
from harness.steady import Window, choose_window
from results.schema import Boundary, Latency, PowerDescription, RequestCount, TokenCheck

FloatArray = npt.NDArray[np.float64]

MAX_BATCHES = 10


@dataclass(frozen=True)
class PowerModel:
    """How readings become joules at the run's boundary."""

    source: PowerDescription
    boundary: Boundary
    profile: NodeProfile | None
    node_share: float
    device_uuids: tuple[str, ...]

    def lift_w(self, gpu_w: float) -> float:
        """Return watts at the boundary from the summed watts of the GPUs."""
        if self.boundary == "gpu" or self.profile is None:
            return gpu_w
        return self.profile.node_watts(gpu_w, self.node_share)

    def systematic_rel_u(self, gpu_w: float) -> dict[str, float]:
        """Return the relative standard uncertainties at the boundary that more measuring would not reduce."""
        lifted_w = self.lift_w(gpu_w)
        if self.boundary == "gpu" or self.profile is None:
            return {"sensor_gain": self.source.gain_rel_u}
        return {
            "sensor_gain": self.source.gain_rel_u * self.profile.slope * gpu_w / lifted_w,
            "node_model": self.profile.node_watts_std(gpu_w, self.node_share) / lifted_w,
        }


@dataclass(frozen=True)
class WindowFigures:
    """What was measured in a window; power and energy in watts and joules at the model's boundary."""

    window: Window
    tps_tok_per_s: float
    energy: WindowEnergy
    watts: float | None
    joules_per_tok: RatioEstimate | None

    @property
    def duration_s(self) -> float:
        """Length of the window in seconds."""
        return self.window.end_s - self.window.start_s


def window_figures(log: CellLog, model: PowerModel) -> WindowFigures | None:
    """Measure a cell's window, or return ``None`` if there is none."""
    t_s, tokens = sum_over_servers(log.server, "generation_tok")
    earliest_s = log.filled_s + log.definition.warmup_s
    window = choose_window(t_s, tokens, earliest_s, log.load_stop_s)
    if window is None:
        return None
    edges_s, edge_tokens = t_s[window.first : window.last + 1], tokens[window.first : window.last + 1]
    devices = stored_series(log.power, model.device_uuids)
    energy = window_energy(devices, window.start_s, window.end_s, model.source.power_lag_s)
    return WindowFigures(
        window,
        float((edge_tokens[-1] - edge_tokens[0]) / (edges_s[-1] - edges_s[0])),
        energy,
        None if energy.mean_w is None else model.lift_w(energy.mean_w),
        _joules_per_tok(devices, energy, edges_s, edge_tokens, model),
    )


def window_energy(devices: list[DeviceSeries], start_s: float, end_s: float, power_lag_s: float) -> WindowEnergy:
    """Return the energy of all devices over a window."""
    return total_energy([device_energy(device, start_s, end_s, power_lag_s=power_lag_s) for device in devices])


def _joules_per_tok(
    devices: list[DeviceSeries],
    energy: WindowEnergy,
    edges_s: FloatArray,
    tokens: FloatArray,
    model: PowerModel,
) -> RatioEstimate | None:
    """Joules per token with its random error, from batches of scrape intervals."""
    if energy.joules is None or tokens[-1] <= tokens[0]:
        return None
    gpu_j = sum(
        np.diff(_cumulative_joules(series, device, edges_s, model.source.power_lag_s))
        for series, device in zip(devices, energy.devices, strict=True)
    )
    seconds = np.diff(edges_s)
    joules = np.array([model.lift_w(watts) for watts in gpu_j / seconds]) * seconds
    batches = min(MAX_BATCHES, max(2, seconds.size // 2))
    return batch_means_ratio(joules, np.diff(tokens), batches)


def _cumulative_joules(series: DeviceSeries, device: DeviceEnergy, at_s: FloatArray, power_lag_s: float) -> FloatArray:
    values = series.energy_j if device.method == "counter" else series.power_w
    known = np.isfinite(values)
    t_s, values = series.t_s[known], values[known]
    if device.method == "counter":
        return np.asarray(np.interp(at_s, t_s, values))
    steps = np.diff(t_s) * (values[1:] + values[:-1]) / 2
    return np.asarray(np.interp(at_s + power_lag_s, t_s, np.concatenate([[0.0], np.cumsum(steps)])))


def energy_uncertainty(figures: WindowFigures, model: PowerModel) -> tuple[float | None, dict[str, float | None]]:
    """Return the combined relative standard uncertainty of J/token and its parts."""
    if figures.joules_per_tok is None or figures.energy.mean_w is None:
        return None, {}
    random = figures.joules_per_tok.standard_error / figures.joules_per_tok.ratio
    parts = {"random": random, **model.systematic_rel_u(figures.energy.mean_w)}
    return combine_relative(*parts.values()), dict(parts)


def check_tokens(log: CellLog) -> TokenCheck:
    """Compare the server's token counter over the whole cell, quiet to quiet, with the usage of its requests.

    Completed usage <= counter difference <= completed usage plus the tokens unfinished requests asked for;
    with nothing unfinished the two are equal.
    """
    completed = log.requests[log.requests["outcome"] == "completed"]
    unfinished = log.requests[log.requests["outcome"] != "completed"]
    usage, limit = int(completed["output_tok"].sum()), int(unfinished["output_tok_asked"].sum())
    counter = growth_over_servers(log.server, "generation_tok")
    if log.end_s is None or counter is None:
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
    """Return tokens served over tokens asked for, over completed requests: 1 where lengths were forced."""
    completed = log.requests[log.requests["outcome"] == "completed"]
    asked = int(completed["output_tok_asked"].sum())
    return float(completed["output_tok"].sum()) / asked if asked else None


def time_to_first_token(log: CellLog, window: Window) -> Latency:
    """Return TTFT of the streamed probes sent in the window, in seconds."""
    probes = _probes(log, window)
    return _latency(log, window, probes["first_mono_s"] - probes["send_mono_s"], "ttft")


def inter_token_latency(log: CellLog, window: Window) -> Latency:
    """Return the mean time between tokens of each streamed probe (TPOT), in seconds; one-token answers have none."""
    probes = _probes(log, window)
    probes = probes[probes["output_tok"] > 1]
    gaps = (probes["end_mono_s"] - probes["first_mono_s"]) / (probes["output_tok"] - 1)
    return _latency(log, window, gaps, "itl")


def _probes(log: CellLog, window: Window) -> pd.DataFrame:
    rows = log.requests
    sent_inside = (rows["send_mono_s"] >= window.start_s) & (rows["send_mono_s"] <= window.end_s)
    probes: pd.DataFrame = rows[rows["streamed"] & sent_inside & (rows["outcome"] == "completed")]
    return probes


def _latency(log: CellLog, window: Window, values_s: pd.Series[float], histogram: str) -> Latency:
    seconds, count = growth(log, window, f"{histogram}_sum_s"), growth(log, window, f"{histogram}_count")
    return Latency(
        p50_s=float(values_s.median()) if len(values_s) else None,
        probes=len(values_s),
        server_mean_s=seconds / count if seconds is not None and count else None,
    )


def mean_request_s(log: CellLog, tps_tok_per_s: float) -> float:
    """Return the mean duration of a request in seconds, by Little's law: concurrency over request rate."""
    return log.definition.concurrency * log.definition.mean_output_tok / tps_tok_per_s


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
