"""Rules on figures: each takes a reported figure and works it out again from raw rows."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from scipy.stats import t as student_t

from harness.verify import rederive
from harness.verify.checks import EXACT_REL, RAW_REL, Check, equal, same
from harness.verify.evidence import Cell, Evidence
from harness.verify.series import series_between
from harness.verify.steady import random_rel

MIN_BEYOND = 3
"""A percentile is reported only where as many requests lie beyond it."""
COUNTER_INTEGRAL_REL = 0.03
COUNTER_STEP_S = 0.1


def tokens_in_window(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> float:
    """Return the tokens generated in a window."""
    edges_s = np.array([start_s, end_s])
    return float(np.diff(rederive.generated_tok_by(cell.scrapes, cell.requests, edges_s, blind=evidence.blind))[0])


def joules_per_tok(evidence: Evidence, cell: Cell) -> float | None:
    """Return J/token at the run's boundary, or ``None`` where joules or tokens are not known."""
    if cell.window_s is None or rederive.served_ratio(cell.requests) == 0:
        return None
    tokens = tokens_in_window(evidence, cell, *cell.window_s)
    _, watts = rederive.watts_at_boundary(evidence.power, evidence.manifest, *cell.window_s)
    return watts * (cell.window_s[1] - cell.window_s[0]) / tokens if watts and tokens > 0 else None


def query_wh(evidence: Evidence, cell: Cell) -> float | None:
    """Return the measured Wh/query by Eq. 1."""
    energy_j = joules_per_tok(evidence, cell)
    return None if energy_j is None else pue_of(evidence) * energy_j * served_tok(cell) / rederive.JOULES_PER_WH


def pue_of(evidence: Evidence) -> float:
    """Return the PUE of measured energies: none at the boundary of the GPUs alone."""
    return 1.0 if evidence.manifest["boundary"] == "gpu" else float(evidence.manifest["pue"]["mean"])


def served_tok(cell: Cell) -> float:
    """Return the workload's mean output length as served."""
    served = rederive.served_ratio(cell.requests)
    return float(cell.definition["mean_output_tok"]) * (1.0 if served is None else served)


def throughput(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> list[Check]:
    """Work out TPS: tokens over time."""
    derived = tokens_in_window(evidence, cell, start_s, end_s) / (end_s - start_s)
    rel = RAW_REL if evidence.blind else EXACT_REL
    return same("tok/s", cell.reported["tps_tok_per_s"], derived, rel)


def watts(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> list[Check]:
    """Work out watts of the GPUs and at the boundary."""
    gpu_w, charged_w = rederive.watts_at_boundary(evidence.power, evidence.manifest, start_s, end_s)
    return [
        *same("W of the GPUs", cell.reported["gpu_watts"], gpu_w, RAW_REL),
        *same(f"W at {evidence.manifest['boundary']}", cell.reported["watts"], charged_w, RAW_REL),
    ]


def counter_and_integral(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> Iterable[Check]:
    """Compare each GPU's counter with its integrated power; over 3% apart must be said."""
    apart = []
    for device in evidence.manifest["devices"]:
        joules = rederive.device_joules(evidence.readings(device["uuid"]), start_s, end_s, evidence.manifest["power"])
        if joules.counter is None or joules.integral is None:
            continue
        apart.append((abs(joules.integral - joules.counter), joules.counter))
    if not apart:
        return
    worst = max(difference / counter for difference, counter in apart)
    # the counter's steps leave up to a step open at each edge: there either answer is right
    open_rel = COUNTER_INTEGRAL_REL + 2 * COUNTER_STEP_S / (end_s - start_s)
    said = "counter_integral_disagree" in cell.reported["reasons"]
    ok = not said if worst <= COUNTER_INTEGRAL_REL else said if worst > open_rel else True
    yield Check(ok, f"at most {worst:.2%} apart, {'reported' if said else 'not reported'} as a disagreement")


def energy_per_token(evidence: Evidence, cell: Cell) -> list[Check]:
    """Work out J/token and see that it lies in its interval."""
    reported, interval = cell.reported.get("joules_per_tok"), cell.reported.get("joules_per_tok_ci95")
    checks = same("J/token", reported, joules_per_tok(evidence, cell), RAW_REL)
    if reported is not None and interval is not None:
        checks.append(Check(interval[0] <= reported <= interval[1], f"its 95% interval {interval[0]:.6g} to "
                                                                    f"{interval[1]:.6g}"))  # fmt: skip
    return checks


def random_error(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> list[Check]:
    """Work out the random error of J/token, and its interval, by batch means over the reported number of batches."""
    reported, batches = cell.reported.get("wh_per_query"), cell.reported["window"].get("batches")
    if reported is None or batches is None:
        return []
    spans = series_between(evidence, cell, start_s, end_s)
    if spans.joules is None:
        return [Check(False, "joules between scrapes are not known")]
    derived, ratio = random_rel(spans, batches), float(spans.joules.sum() / spans.tokens.sum())
    low, high = cell.reported["joules_per_tok_ci95"]
    half_width = float(student_t.ppf(0.975, batches - 1)) * derived
    return [
        *same("random relative error", reported["uncertainty_parts_rel"]["random"], derived, RAW_REL, 1e-7),
        *same("half width of J/token", (high - low) / 2 / ratio, half_width, RAW_REL, 1e-7),
    ]


def combined_error(_: Evidence, cell: Cell) -> list[Check]:
    """Add up the parts of the uncertainty in quadrature, and see that the mean lies in its interval."""
    energy = cell.reported.get("wh_per_query")
    if energy is None:
        return []
    parts = list(energy["uncertainty_parts_rel"].values())
    total = None if None in parts else math.sqrt(sum(part * part for part in parts))
    checks = same("relative standard uncertainty", energy["standard_uncertainty_rel"], total)
    interval = energy.get("ci95")
    if interval is not None:
        inside = interval[0] <= energy["mean"] <= interval[1]
        checks.append(Check(inside, f"mean {energy['mean']:.6g} Wh, its 95% interval {interval[0]:.6g} to "
                                    f"{interval[1]:.6g}"))  # fmt: skip
    return checks


def measured_eq1(evidence: Evidence, cell: Cell) -> list[Check]:
    """Work out the measured Wh/query, its allocated median and its value without PUE."""
    energy, mean_wh = cell.reported.get("wh_per_query"), query_wh(evidence, cell)
    if energy is None or mean_wh is None:
        return same("Wh/query", None if energy is None else energy["mean"], mean_wh)
    definition = cell.definition
    median_wh = mean_wh * definition["median_output_tok"] / definition["mean_output_tok"]
    return [
        *same("Wh/query", energy["mean"], mean_wh, RAW_REL, 0),
        *same("allocated median", energy["p50"], median_wh, RAW_REL, 0),
        *same("without PUE", energy["mean_without_pue"], mean_wh / pue_of(evidence), RAW_REL, 0),
        *same("PUE", energy["pue"], pue_of(evidence)),
        *(same("tokens", energy["output_tok"], served_tok(cell), EXACT_REL) if energy.get("output_tok") else ()),
    ]


def latencies(_: Evidence, cell: Cell, start_s: float, end_s: float) -> list[Check]:
    """Work out the latencies of streamed requests, and the server's own means."""
    checks: list[Check] = []
    seen = rederive.latencies_s(cell.requests, start_s, end_s)
    for name, values, waited in (("ttft", seen.first_s, seen.waited_s), ("itl", seen.between_s, [])):
        reported, n = cell.reported[f"{name}_s"], len(values) + len(waited)
        checks.append(equal(f"{name} requests", reported["probes"], n))
        checks += same(f"{name} median s", reported["p50_s"], rederive.quantile_s(values, waited, 0.5))
        if "mean_s" in reported:
            mean_s = math.fsum(values) / n if values and not waited else None
            checks += same(f"{name} mean s", reported["mean_s"], mean_s)
        for percent in (percent for percent in (90, 99) if f"p{percent}_s" in reported):
            enough = n * (100 - percent) / 100 >= MIN_BEYOND
            derived = rederive.quantile_s(values, waited, percent / 100) if enough else None
            checks += same(f"{name} p{percent} s", reported[f"p{percent}_s"], derived)
        seconds = rederive.growth(cell.scrapes, f"{name}_sum_s", start_s, end_s)
        count = rederive.growth(cell.scrapes, f"{name}_count", start_s, end_s)
        mean_s = seconds / count if seconds is not None and count else None
        checks += same(f"{name} mean s of the server", reported["server_mean_s"], mean_s)
    return checks


def gauges(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> list[Check]:
    """Work out queue share, KV usage, preemptions and GPU utilisation."""
    waiting = rederive.gauge(cell.scrapes, "waiting", start_s, end_s)
    kv = rederive.gauge(cell.scrapes, "kv_usage_ratio", start_s, end_s)
    busy = rederive.gauge(evidence.power, "utilization_ratio", start_s, end_s)
    preempted = rederive.growth(cell.scrapes, "preemptions", start_s, end_s)
    queued = sum(value > 0 for value in waiting) / len(waiting) if waiting else None
    reported = cell.reported
    return [
        *same("queue share", reported["queue_share"], queued),
        *same("KV usage", reported["kv_usage_ratio"], sum(kv) / len(kv) if kv else None),
        *same("preemptions", reported["preemptions"], preempted),
        *same("GPU utilisation", reported["gpu_utilization_ratio"], sum(busy) / len(busy) if busy else None),
    ]


def request_counts(_: Evidence, cell: Cell) -> list[Check]:
    """Count requests by outcome, first fills left out."""
    outcomes = [row.outcome for row in cell.requests.itertuples() if not row.first_fill]
    named = {"completed": "completed", "aborted": "aborted", "errors": "error"}
    return [equal(name, cell.reported["requests"][name], outcomes.count(code)) for name, code in named.items()]
