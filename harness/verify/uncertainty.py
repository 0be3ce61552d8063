"""Rules on uncertainties: every systematic part, the interval of Wh/query by other draws, and that of the ratio."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student_t

from harness.verify import rederive
from harness.verify.checks import RAW_REL, Check, equal, same
from harness.verify.evidence import Cell, Evidence
from harness.verify.figures import served_tok, tokens_in_window
from harness.verify.series import BATCH_MEMORIES, MAX_BATCHES, in_flight, series_between

COUNTER_STEP_S = 0.1
NOTHING, NOTHING_SCATTERS = 1e-9, 1e-12
Z_95 = float(norm.ppf(0.975))
DRAWS, SEED = 200_000, 20_250
DRAWN_REL = 0.02
"""Two intervals from as many draws differ by up to about 1% of their half width."""
Parts = dict[str, float | None]


@dataclass(frozen=True)
class _Power:
    """Watts that a cell's figures come from: of its GPUs, of all that a node meter covers, and as charged."""

    gpu_w: float | None
    meter_w: float | None
    charged_w: float


def parts(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> list[Check]:
    """Work out every systematic part of the uncertainty of Wh/query; the random one has a rule of its own."""
    energy = cell.reported.get("wh_per_query")
    power = _power(evidence, start_s, end_s)
    if energy is None or power is None:
        return []
    reported = {name: value for name, value in energy["uncertainty_parts_rel"].items() if name != "random"}
    derived = _sensor_parts(evidence, power) | {
        "clock_edges": _clock(evidence, power, start_s, end_s),
        "token_count": _tokens(evidence, cell, start_s, end_s),
    }
    checks = [equal("parts", sorted(reported), sorted(derived))]
    for name, value in derived.items():
        checks += same(name, reported.get(name), value, 2 * RAW_REL, 1e-7)
    return checks


def idle_parts(evidence: Evidence, reported: Mapping[str, Any], start_s: float, end_s: float) -> list[Check]:
    """Work out the uncertainty of an idle phase's watts, and its parts; runs of before it was reported have none."""
    power, told = _power(evidence, start_s, end_s), reported.get("uncertainty_parts_rel")
    if power is None or not told:
        return []
    derived = _sensor_parts(evidence, power) | {"clock_edges": _clock(evidence, power, start_s, end_s)}
    checks = [equal("parts", sorted(told), sorted(derived))]
    for name, value in derived.items():
        checks += same(name, told.get(name), value, 2 * RAW_REL, 1e-7)
    return checks + same("uncertainty", reported["standard_uncertainty_rel"], _hypot(list(told.values())), 1e-6)


def _power(evidence: Evidence, start_s: float, end_s: float) -> _Power | None:
    gpu_w, charged_w = rederive.watts_at_boundary(evidence.power, evidence.manifest, start_s, end_s)
    meter = rederive.node_meter(evidence.manifest) if evidence.manifest["boundary"] == "node" else None
    if not charged_w:
        return None
    if meter is None:
        return _Power(gpu_w, None, charged_w)
    meter_w = rederive.summed_watts(evidence.power, meter["device_uuids"], start_s, end_s, meter)
    return _Power(gpu_w, meter_w, charged_w)


def _sensor_parts(evidence: Evidence, power: _Power) -> Parts:
    manifest = evidence.manifest
    node, share, charged_w = manifest.get("node_profile"), float(manifest["node_share"]), power.charged_w
    allocation = manifest.get("allocation", "share")
    weight = {"share": 0.0, "marginal": share, "whole": 1 - share}[allocation]
    if manifest["boundary"] == "node":
        meter = rederive.node_meter(manifest) or {}
        gain = meter.get("gain_rel_u")
        found: Parts = {"meter_gain": None if gain is None else gain * (power.meter_w or math.nan) / charged_w}
        weight = {"share": 1 - share, "marginal": 1.0, "whole": 0.0}[allocation]  # of the rest taken off the reading
        return found | _idle_part(node, weight, charged_w)
    gain, gpu_w = _gpu_gain(manifest), power.gpu_w or math.nan
    if manifest["boundary"] == "gpu" or node is None:
        return {"sensor_gain": gain}
    model_w = _model_w(node, 1000 * share, gpu_w)
    found = {
        "sensor_gain": None if gain is None else gain * node["slope"] * gpu_w / charged_w,
        "node_model": None if model_w is None else model_w / charged_w,
    }
    return found | _idle_part(node, weight, charged_w)


def _gpu_gain(manifest: Mapping[str, Any]) -> float | None:
    """The slope of a node calibrated against these very sensors holds their gain."""
    calibrated = set((manifest.get("node_profile") or {}).get("calibrated_gpu_uuids", ()))
    used = {device["uuid"] for device in manifest["devices"]}
    if manifest["boundary"] == "node_modelled" and calibrated == used:
        return 0.0
    gain: float | None = manifest["power"]["gain_rel_u"]
    return gain


def _model_w(node: Mapping[str, Any], per_offset_kw: float, per_slope: float) -> float | None:
    """Return the standard uncertainty of what changes so much with offset and slope of a node model (JCGM 100)."""
    if None in (node["u_offset_kw"], node["u_slope"], node["correlation"]):
        return None
    effects = np.array([per_offset_kw * node["u_offset_kw"], per_slope * node["u_slope"]])
    variance = float(effects @ np.array([[1, node["correlation"]], [node["correlation"], 1]]) @ effects)
    return math.sqrt(max(0.0, variance))


def _idle_part(node: Mapping[str, Any] | None, weight: float, charged_w: float) -> Parts:
    if node is None or weight == 0:
        return {}
    u_idle_kw = node.get("u_idle_kw")
    return {"node_idle": None if u_idle_kw is None else 1000 * weight * u_idle_kw / charged_w}


def _clock(evidence: Evidence, power: _Power, start_s: float, end_s: float) -> float:
    """Both edges are rectangular: +-0.1 s of a counter's step, or the lag of power, or the pace of a meter.

    To a meter's comes what its standing readings hide, rectangular too: so many seconds of all that its power moved.
    """
    manifest, half_s = evidence.manifest, COUNTER_STEP_S
    meter = rederive.node_meter(manifest) if manifest["boundary"] == "node" else None
    hidden_j = 0.0
    if meter is not None:
        half_s = max(half_s, float(meter["power_lag_s"]), float(meter["period_s"]))
        hidden_j = sum(_hidden_j(evidence, uuid, start_s, end_s, meter) for uuid in meter["device_uuids"])
    elif not all(_is_counted(evidence, device["uuid"], start_s, end_s) for device in manifest["devices"]):
        half_s = max(half_s, float(manifest["power"]["power_lag_s"]))
    charged_j = power.charged_w * (end_s - start_s)
    return math.sqrt(2 * (half_s / (end_s - start_s)) ** 2 / 3 + (hidden_j / charged_j) ** 2 / 3)


def _hidden_j(evidence: Evidence, uuid: str, start_s: float, end_s: float, meter: Mapping[str, Any]) -> float:
    rows = evidence.readings(uuid)
    if rederive.device_joules(rows, start_s, end_s, meter).counter is not None:
        return 0.0
    inside = rows[rows["t_mono_s"].between(start_s, end_s) & rows["power_w"].notna()]
    if inside.empty:
        return 0.0
    return rederive.standing_s(inside) * float(inside["power_w"].max() - inside["power_w"].min())


def _is_counted(evidence: Evidence, uuid: str, start_s: float, end_s: float) -> bool:
    joules = rederive.device_joules(evidence.readings(uuid), start_s, end_s, evidence.manifest["power"])
    return joules.counter is not None


def _tokens(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> float:
    """A request across an edge has an unknown share inside; a counter steps by a token of each of its requests."""
    told = cell.scrapes.groupby("server")["generation_tok"].count()
    blind = set(told.index[told == 0]) if evidence.blind else set()
    of_usage = cell.requests["server"].isin(blind)
    straddling = rederive.straddling_tok(cell.requests[of_usage], (start_s, end_s))
    counted = replace(cell, requests=cell.requests[~of_usage])
    share = 1.0
    if blind and cell.definition.get("arrival", "closed") == "closed":
        slots = range(int(cell.definition["concurrency"]))
        share = sum(slot % len(told) not in blind for slot in slots) / len(slots)
    squares = sum(tok**2 for tok in straddling) / 12 + (share * in_flight(counted)) ** 2 / 6
    return math.sqrt(squares) / tokens_in_window(evidence, cell, start_s, end_s)


def interval(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> list[Check]:
    """Draw the 95% interval of Wh/query anew, with draws of its own, from the reported parts."""
    energy, power = cell.reported.get("wh_per_query"), _power(evidence, start_s, end_s)
    if energy is None or power is None:
        return []
    known, reported = energy["uncertainty_parts_rel"], energy.get("ci95")
    if None in known.values() or reported is None:
        unknown = [name for name, part in known.items() if part is None]
        told = (reported is None) == bool(unknown)
        return [
            Check(told, f"{'no ' if reported is None else ''}interval; unknown parts: {', '.join(unknown) or 'none'}")
        ]
    drawn = _drawn(evidence.manifest, power, known, int(cell.reported["window"]["batches"]) - 1)
    low, high = (float(value) * energy["mean"] for value in np.quantile(drawn, [0.025, 0.975]))
    slack = max(DRAWN_REL * (high - low) / 2, _scatter(drawn) * energy["mean"])
    return [*same("low", reported[0], low, 0, slack), *same("high", reported[1], high, 0, slack)]


def _scatter(drawn: Any) -> float:
    """Return how far the 2.5% quantiles of two samples of this size may lie apart: with two batches, far."""
    share = 0.025
    spread = 5 * math.sqrt(2 * share * (1 - share) / len(drawn))
    below, above = np.quantile(drawn, [share - spread, share + spread])
    return float(above - below) / 2


def _drawn(manifest: Mapping[str, Any], power: _Power, known: Mapping[str, float], dof: int) -> Any:
    """Return energies over their estimate, each error drawn from its distribution (JCGM 101)."""
    rng, charged_w = np.random.default_rng(SEED), power.charged_w
    edges = [
        np.sqrt(6) * known[name] * (rng.random(DRAWS) - rng.random(DRAWS)) for name in ("clock_edges", "token_count")
    ]
    others = known.get("node_idle", 0.0) * rng.normal(size=DRAWS) + edges[0]
    random = 1 + known["random"] * rng.standard_t(dof, size=DRAWS)
    node = manifest.get("node_profile")
    if manifest["boundary"] != "node_modelled" or node is None or power.gpu_w is None:
        gain = known.get("sensor_gain", known.get("meter_gain", 0.0))
        return (1 + gain * _rectangular(rng) + others) * random / (1 + edges[1])
    offset_w, slope = (1000 * manifest["node_share"] * node["u_offset_kw"], node["u_slope"])
    covariance = node["correlation"] * offset_w * slope
    terms = rng.multivariate_normal([0, 0], [[offset_w**2, covariance], [covariance, slope**2]], DRAWS, method="svd")
    gpu_w = power.gpu_w * (1 + (_gpu_gain(manifest) or 0.0) * _rectangular(rng))
    node_w = charged_w + terms[:, 0] + (node["slope"] + terms[:, 1]) * gpu_w - node["slope"] * power.gpu_w
    return (node_w / charged_w + others) * random / (1 + edges[1])


def _rectangular(rng: np.random.Generator) -> Any:
    return rng.uniform(-math.sqrt(3), math.sqrt(3), DRAWS)


def ratio_interval(evidence: Evidence) -> list[Check]:
    """Work out the error, the interval and the exponent's interval of the energy ratio of a run's pairs."""
    reported, pairs = evidence.result["energy_ratio"], evidence.pairs
    if reported is None or reported["measured"] is None or not pairs:
        return []
    (plain, multiplied), lengths = pairs[0], [served_tok(cell) for cell in pairs[0]]
    logs = [_log_ratio(pair) for pair in pairs]
    common = common_rel_u(evidence, plain, multiplied)
    basis, half = ratio_half_width([logs], pairs)
    if half is None or common is None:
        basis, half = "unknown", None
    checks = [equal("basis", reported["interval_basis"], basis)]
    centre, scale = float(np.mean(logs)), math.log(lengths[1] / lengths[0])
    bounds: list[float | None] = [None, None]
    if half is not None:
        wide = math.hypot(half, Z_95 * (common or 0.0))
        bounds = [centre - wide, centre + wide]
    found = reported["measured_ci95"] or (None, None)
    exponents = reported["exponent_ci95"] or (None, None)
    told = reported.get("exponent") is not None  # that it is told where it should be is the ratio's own rule
    ends = sorted(bounds, key=lambda bound: (bound or 0.0) / scale) if told else [None, None]
    for name, value, log in zip(("low", "high"), found, bounds, strict=True):
        checks += same(name, value, None if log is None else math.exp(log), 1e-4)
    for name, value, log in zip(("exponent's low", "exponent's high"), exponents, ends, strict=True):
        checks += same(name, value, None if log is None else log / scale, 1e-4, 1e-5)
    return checks


def half_width_rel(cell: Cell) -> float | None:
    """Return the half width in ratio of what a cell has by itself: random error, and the edges of its window."""
    interval_j, energy = cell.reported.get("joules_per_tok_ci95"), cell.reported.get("wh_per_query")
    if interval_j is None or energy is None:
        return None
    edges = [energy["uncertainty_parts_rel"].get(name) or 0.0 for name in ("clock_edges", "token_count")]
    random = (interval_j[1] - interval_j[0]) / 2 / cell.reported["joules_per_tok"]
    return _hypot([random, *(Z_95 * edge for edge in edges)])


def _log_ratio(pair: tuple[Cell, Cell]) -> float:
    plain, multiplied = (cell.reported["wh_per_query"]["mean"] for cell in pair)
    return math.log(multiplied / plain)


def _hypot(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.sqrt(sum(value * value for value in known)) if len(known) == len(values) else None


def ratio_half_width(
    logs_by_run: Sequence[Sequence[float]], pairs: Sequence[tuple[Cell, Cell]]
) -> tuple[str, float | None]:
    """Return what the interval of a mean log-ratio covers, and its half width: Student's t over runs or over pairs.

    It is no less than what the pairs' own windows leave, and that alone where nothing scatters; ``None`` is unknown.
    """
    runs = len(logs_by_run)
    squares = [None if half is None else half**2 for pair in pairs for half in map(half_width_rel, pair)]
    known = [square for square in squares if square is not None]
    own = math.sqrt(sum(known) / len(pairs)) if len(known) == len(squares) else None
    values = [sum(logs) / len(logs) for logs in logs_by_run] if runs > 1 else list(logs_by_run[0])
    if max(values) - min(values) < NOTHING_SCATTERS:
        return "within_windows", own
    of_mean = math.sqrt(sum(1 / len(logs) for logs in logs_by_run)) / runs
    return "between_runs" if runs > 1 else "between_pairs", max(_t_half_width(values), of_mean * (own or 0.0))


def _t_half_width(logs: Sequence[float]) -> float:
    spread = math.sqrt(sum((log - float(np.mean(logs))) ** 2 for log in logs) / (len(logs) - 1))
    return float(student_t.ppf(0.975, len(logs) - 1)) * spread / math.sqrt(len(logs))


def common_rel_u(evidence: Evidence, plain: Cell, multiplied: Cell) -> float | None:
    """Return what errors common to two cells leave in the ratio of their powers: each is moved a little by itself."""
    manifest = evidence.manifest
    node, metered = manifest.get("node_profile"), manifest["boundary"] == "node"
    if manifest["boundary"] == "gpu" or node is None:
        return 0.0
    meter = rederive.node_meter(manifest) if metered else None
    sources = [summed_w(evidence, cell, meter) for cell in (plain, multiplied)]
    gain = (meter or {}).get("gain_rel_u") if metered else _gpu_gain(manifest)

    def log_ratio(gain: float = 0.0, **kw: float) -> float:
        moved = {**manifest, "node_profile": {**node, **{name: node[name] + step for name, step in kw.items()}}}
        charge = rederive.metered_watts if metered else rederive.modelled_watts
        watts = [charge(moved, (source_w or math.nan) * (1 + gain)) or math.nan for source_w in sources]
        return math.log(watts[1] / watts[0])

    def effect(name: str) -> float:
        tiny = 1e-5
        return (log_ratio(**{name: tiny}) - log_ratio(**{name: -tiny})) / (2 * tiny)

    by_gain, by_idle = effect("gain"), effect("p_idle_kw")
    model = 0.0 if metered else _model_w(node, effect("offset_kw"), effect("slope"))
    left = [
        0.0 if abs(by_gain) < NOTHING else None if gain is None else by_gain * gain,
        0.0 if abs(by_idle) < NOTHING else None if node.get("u_idle_kw") is None else by_idle * node["u_idle_kw"],
    ]
    return _hypot([*left, model])


def summed_w(evidence: Evidence, cell: Cell, meter: Mapping[str, Any] | None) -> float | None:
    """Return the mean watts of a cell's window of what the figures come from: its GPUs, or a meter."""
    if cell.window_s is None:
        return None
    sensor = evidence.manifest["power"] if meter is None else meter
    uuids = [device["uuid"] for device in evidence.manifest["devices"]] if meter is None else meter["device_uuids"]
    return rederive.summed_watts(evidence.power, uuids, *cell.window_s, sensor)


def throughput_error(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> list[Check]:
    """Work out the error of TPS: batch means of tokens over seconds, and tokens at the window's edges."""
    reported = cell.reported.get("tps_ci95")
    if reported is None:
        return []
    spans, batches = series_between(evidence, cell, start_s, end_s), _batches(cell, start_s, end_s)
    batches = min(batches, len(spans.tokens))
    rate = spans.tokens.sum() / spans.seconds.sum()
    residuals = [part.sum() for part in np.array_split(spans.tokens - rate * spans.seconds, batches)]
    random = math.sqrt(batches / (batches - 1) * sum(r * r for r in residuals)) / spans.tokens.sum()
    edges = _tokens(evidence, cell, start_s, end_s)
    half = rate * math.hypot(float(student_t.ppf(0.975, batches - 1)) * random, Z_95 * edges)
    return [
        *same("relative error", cell.reported["tps_standard_uncertainty_rel"], math.hypot(random, edges), 0.01),
        *same("low", reported[0], rate - half, 0, half / 50),
        *same("high", reported[1], rate + half, 0, half / 50),
    ]


def _batches(cell: Cell, start_s: float, end_s: float) -> int:
    window = cell.reported["window"]
    if window["batches"] is not None:
        return int(window["batches"])
    memories = (end_s - start_s) / (BATCH_MEMORIES * window["autocorrelation_s"])
    return max(2, min(MAX_BATCHES, int(min(window["mean_requests"], memories) + 1e-9)))
