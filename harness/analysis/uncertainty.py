"""How well a cell's energy per token is known: random and systematic errors, together and by part. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import hypot, sqrt

from estimator.uncertainty import EnergyErrors, combine_relative, relative_interval_95
from harness.analysis.celllog import CellLog
from harness.analysis.energy import WindowEnergy
from harness.analysis.measured import PowerModel, WindowFigures, in_flight_counted
from harness.load.usage import edge_u_tok

COUNTER_STEP_S = 0.1
"""An energy counter of NVML grows in steps about this long."""


def energy_uncertainty(
    log: CellLog, figures: WindowFigures, model: PowerModel
) -> tuple[float | None, dict[str, float | None]]:
    """Return the combined relative standard uncertainty of J/token and its parts (JCGM 100); None where unknown."""
    if figures.joules_per_tok is None:
        return None, {}
    parts: dict[str, float | None] = {
        "random": figures.joules_per_tok.standard_error / figures.joules_per_tok.ratio,
        **_systematic_rel_u(figures.energy, figures.metered, figures.watts, model),
        "clock_edges": _clock_rel_u(figures.energy, figures.metered, figures.watts, model, figures.duration_s),
        "token_count": token_rel_u(log, figures),
    }
    return _combined(parts), parts


def idle_uncertainty(
    gpus: WindowEnergy, metered: WindowEnergy | None, watts: float | None, model: PowerModel, duration_s: float
) -> tuple[float | None, dict[str, float | None]]:
    """Return the combined relative standard uncertainty of an idle phase's mean watts and its parts; None if unknown.

    It is of the mean over this very phase: what another one would differ by is not in it.
    """
    if not watts:
        return None, {}
    clock = _clock_rel_u(gpus, metered, watts, model, duration_s)
    parts = _systematic_rel_u(gpus, metered, watts, model) | {"clock_edges": clock}
    return _combined(parts), parts


def _combined(parts: Mapping[str, float | None]) -> float | None:
    known = [part for part in parts.values() if part is not None]
    return combine_relative(*known) if len(known) == len(parts) else None


def energy_interval_rel(log: CellLog, figures: WindowFigures, model: PowerModel) -> tuple[float, float] | None:
    """Return the 95% interval of energy over its estimate, all errors together, or ``None`` if one is unknown."""
    estimate = figures.joules_per_tok
    _, parts = energy_uncertainty(log, figures, model)
    known = {name: part for name, part in parts.items() if part is not None}
    if estimate is None or len(known) < len(parts) or not figures.watts:
        return None
    errors = EnergyErrors(
        random=known["random"],
        random_dof=estimate.n_batches - 1,
        clock=known["clock_edges"],
        tokens=known["token_count"],
        others=(known.get("node_idle", 0.0),),
    )
    if model.boundary != "node_modelled" or model.profile is None or figures.energy.mean_w is None:
        return relative_interval_95(replace(errors, gain=known.get("sensor_gain", known.get("meter_gain", 0.0))))
    profile, gpu_rel = model.profile, figures.energy.mean_w / figures.watts
    if profile.u_offset_kw is None or profile.u_slope is None or profile.correlation is None:
        return None
    slope_share = profile.slope * gpu_rel
    return relative_interval_95(
        replace(
            errors,
            gain=known["sensor_gain"] / slope_share,
            gpu_share=slope_share,
            fixed_share=1 - slope_share,
            offset=model.node_share * profile.u_offset_kw * 1000 / figures.watts,
            slope=profile.u_slope * gpu_rel,
            correlation=profile.correlation,
        )
    )


def _clock_rel_u(
    gpus: WindowEnergy, metered: WindowEnergy | None, watts: float | None, model: PowerModel, duration_s: float
) -> float:
    """Return the effect of edges in time: each is rectangular, +-0.1 s (a counter's step), or what is longer.

    Longer may be the lag of the power, or the pace of a meter: between two of its readings power is a guess. When a
    meter refreshes what it reads is not told, so its readings may be as old as the longest time R for which they stood
    still: joules are then those of a window R earlier, which differ by at most R times the swing of the power.
    """
    meter = model.meter
    if meter is not None:
        half_s = max(COUNTER_STEP_S, meter.power_lag_s, meter.period_s)
    elif all(device.method == "counter" for device in gpus.devices):
        half_s = COUNTER_STEP_S
    else:
        half_s = max(COUNTER_STEP_S, model.source.power_lag_s)
    edges = half_s * sqrt(2 / 3) / duration_s
    if metered is None or not watts:
        return edges
    stale_j = sum(device.repeat_s * device.swing_w for device in metered.devices if device.method == "integral")
    return hypot(edges, stale_j / sqrt(3) / (watts * duration_s))


def token_rel_u(log: CellLog, figures: WindowFigures) -> float:
    """Return the effect of edges in tokens, relative to the window's tokens of all servers.

    Between scrapes a counter grows by a token of every slot at a time; without a counter tokens are spread usage.
    """
    usage = log.requests["server"].isin(log.usage_servers)
    of_usage_tok = edge_u_tok(log.requests[usage], figures.window.start_s, figures.window.end_s)
    of_counters_tok = in_flight_counted(log) / sqrt(6)
    return hypot(of_usage_tok, of_counters_tok) / (figures.tps_tok_per_s * figures.duration_s)


def _systematic_rel_u(
    gpus: WindowEnergy, metered: WindowEnergy | None, watts: float | None, model: PowerModel
) -> dict[str, float | None]:
    """Return the systematic parts at the run's boundary; a meter's, where the figures come from one."""
    if model.boundary != "node":
        return {} if gpus.mean_w is None else model.systematic_rel_u(gpus.mean_w)
    if metered is None or metered.mean_w is None or not watts:
        return {}
    gain = model.gain_rel_u
    parts = {"meter_gain": None if gain is None else gain * metered.mean_w / watts}
    idle_w = 0.0 if model.profile is None else model.profile.metered_idle_std_w(model.node_share, model.allocation)
    return parts if idle_w == 0 else parts | {"node_idle": None if idle_w is None else idle_w / watts}
