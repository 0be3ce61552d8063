"""Rules on judgements: that verdicts and reasons are what the figures call for."""

from __future__ import annotations

from harness.verify import rederive
from harness.verify.checks import Check, equal, same
from harness.verify.evidence import Cell, Evidence
from harness.verify.figures import tokens_in_window

FATAL = frozenset({
    "gpu_lost", "counter_reset", "sensor_stuck", "sensor_error", "window_not_covered", "no_tokens", "no_window",
    "no_steady_state", "too_many_errors", "lengths_not_forced", "token_count_mismatch", "interrupted", "server_lost",
    "ecc_uncorrected", "usage_incomplete",
})  # fmt: skip
"""Reasons that make a cell invalid."""

DOUBTFUL = frozenset({
    "power_gap", "counter_integral_disagree", "window_too_short", "autocorrelation_too_long", "ramp_not_over",
    "drift", "level_shift", "steadiness_unproven", "precision_not_reached", "cohorts_in_step", "rate_collapses",
    "saturation_unproven", "config_limited", "client_bound", "meter_silent", "meter_stale",
    "hardware_throttled", "xid_error", "power_limit_changed", "foreign_processes", "gpu_unused",
    "lengths_as_served",
})  # fmt: skip
"""Reasons that make a cell suspect."""

MAX_ERROR_SHARE, SATURATED, KV_FULL, GAIN = 0.01, 0.95, 0.90, 0.05
MAX_CHANGE = 0.02
"""Of the mean of throughput and power, and of the capacity of the KV cache."""
PROVEN = ("throughput", "power")
"""What must be shown not to change; KV usage must only not be shown to change (at a confidence beyond 95%)."""
PRECISION_REL = 0.02
CLIENT_LIMITS = {"lag_p99_s": 0.05, "cpu_share": 0.8, "empty_slot_share": 0.02, "send_late_p99_s": 0.05}


def known_reasons(evidence: Evidence) -> list[Check]:
    """See that every reason code is one that this version knows."""
    codes = {code for cell in evidence.cells if cell.reported for code in cell.reported["reasons"]}
    for idle in filter(None, map(evidence.result.get, ("idle", "bare_idle"))):
        codes |= set(idle["reasons"])
    unknown = sorted(codes - FATAL - DOUBTFUL)
    return [Check(not unknown, f"unknown: {', '.join(unknown)}" if unknown else f"{len(codes)} codes, all known")]


def verdict(_: Evidence, cell: Cell) -> list[Check]:
    """Work out the verdict from the reasons."""
    reasons = set(cell.reported["reasons"])
    derived = "invalid" if reasons & FATAL else "suspect" if reasons else "valid"
    return [equal("verdict", cell.reported["verdict"], derived)]


def ratio_verdict(evidence: Evidence) -> list[Check]:
    """See that the energy ratio carries the worst verdict of its cells."""
    ratio = evidence.result["energy_ratio"]
    if ratio is None:
        return []
    found = {cell.reported["verdict"] for pair in evidence.pairs for cell in pair}
    worst = next((name for name in ("invalid", "suspect", "valid") if name in found), None)
    return [equal("verdict of the ratio", ratio["verdict"], worst)]


def token_check(evidence: Evidence, cell: Cell) -> list[Check]:
    """Compare the server's counter over the whole cell with the usage of its requests."""
    reported = cell.reported["tokens"]
    usage, limit = _usage(cell)
    counter = _whole_cell_counter(evidence, cell)
    checks = [
        equal("usage of completed requests", reported["usage_completed_tok"], usage),
        equal("tokens others asked for", reported["unfinished_limit_tok"], limit),
        *same("counter", reported["counter_tok"], counter),
    ]
    if counter is not None:
        holds = usage <= round(counter) <= usage + limit
        said = "token_count_mismatch" in cell.reported["reasons"]
        text = f"{usage} <= {round(counter)} <= {usage + limit}"
        checks.append(Check(holds != said, text if holds else f"{text} does not hold"))
        checks.append(equal("consistent", reported["consistent"], holds))
    return checks


def _usage(cell: Cell) -> tuple[int, int]:
    done = cell.requests["outcome"] == "completed"
    return int(cell.requests.loc[done, "output_tok"].sum()), int(cell.requests.loc[~done, "output_tok_asked"].sum())


def _whole_cell_counter(evidence: Evidence, cell: Cell) -> float | None:
    uncounted = cell.scrapes.groupby("server")["generation_tok"].apply(lambda values: values.notna().sum() == 0).any()
    if not cell.ended or cell.scrapes.empty or (evidence.blind and uncounted):
        return None
    return rederive.growth(
        cell.scrapes, "generation_tok", cell.scrapes["t_mono_s"].min(), cell.scrapes["t_mono_s"].max()
    )


def saturation(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> list[Check]:
    """See whether saturation was shown: within 5% of the ladder's best, or a queue in 95% of scrapes.

    A ladder that the client ended, or that still rose at its end, has no plateau.
    """
    definition, tps = cell.definition, tokens_in_window(evidence, cell, start_s, end_s) / (end_s - start_s)
    if definition["role"] not in ("compared", "grid") or tps <= 0:
        return []
    plateau, waiting = definition["plateau_tps_tok_per_s"], rederive.gauge(cell.scrapes, "waiting", start_s, end_s)
    plateau = None if definition.get("binds") in ("client", "not_found") else plateau
    queued = sum(value > 0 for value in waiting) / len(waiting) if waiting else 0.0
    shown = (plateau is not None and tps >= SATURATED * plateau) or queued >= SATURATED
    best = "no plateau" if plateau is None else f"{tps / plateau:.1%} of the ladder's best"
    return [
        Check(
            shown != ("saturation_unproven" in cell.reported["reasons"]),
            f"{best}, a queue in {queued:.0%} of scrapes: {'' if shown else 'not '}saturated",
        )
    ]


def config_limited(_: Evidence, cell: Cell, start_s: float, end_s: float) -> list[Check]:
    """See whether a batch limit of the server held throughput down while KV memory was free."""
    definition = cell.definition
    if definition["role"] not in ("compared", "grid") or definition.get("binds") != "max_num_seqs":
        return []
    kv, gain = rederive.gauge(cell.scrapes, "kv_usage_ratio", start_s, end_s), definition.get("doubling_gain_rel")
    usage = sum(kv) / len(kv) if kv else 0.0
    limited = usage < KV_FULL and gain is not None and gain >= GAIN
    text = f"KV cache {usage:.0%} full, expected gain {'unknown' if gain is None else f'{gain:+.0%}'}"
    return [Check(limited == ("config_limited" in cell.reported["reasons"]), text)]


def steadiness(_: Evidence, cell: Cell) -> list[Check]:
    """See that the intervals of the changes across the window, and of J/token, have the reasons they call for."""
    window, reasons = cell.reported.get("window"), set(cell.reported["reasons"])
    if window is None or "changes" not in window:
        return []
    changes = {name: (abs(c["change"]), c["half_width_95"]) for name, c in window["changes"].items()}
    widest = max((size + half for name, (size, half) in changes.items() if name in PROVEN), default=float("inf"))
    moved = any(size - half > MAX_CHANGE for size, half in changes.values())
    objected = bool(reasons & {"drift", "steadiness_unproven"})
    ok = objected if widest > MAX_CHANGE else moved or not objected
    checks = [Check(ok, f"throughput and power change by at most {widest:.2%} within 95%")]
    checks.append(Check(moved or "drift" not in reasons, f"{'some' if moved else 'no'} change beyond 2% at 95%"))
    ratio, interval = cell.reported.get("joules_per_tok"), cell.reported.get("joules_per_tok_ci95")
    if ratio and interval:
        half = (interval[1] - interval[0]) / 2 / ratio
        wanted = cell.definition.get("precision_rel", PRECISION_REL)
        missed = half > wanted
        text = f"J/token known to {half:.2%} of {wanted:.2%} asked for"
        checks.append(Check(missed == ("precision_not_reached" in reasons), text))
    return checks


def reasons_of_facts(_: Evidence, cell: Cell) -> list[Check]:
    """See that what the raw record shows to be wrong is among the reasons, and only that."""
    outcomes = cell.requests["outcome"].tolist()
    served, reported = rederive.served_ratio(cell.requests), cell.reported
    client = reported.get("client") or {}
    cut_off = cell.requests.loc[cell.requests["outcome"] == "aborted", "send_mono_s"].tolist()
    over = [name for name, limit in CLIENT_LIMITS.items() if client.get(name) is not None and client[name] > limit]
    facts = {
        "interrupted": not cell.ended,
        "server_lost": cell.server_lost,
        "too_many_errors": bool(outcomes) and outcomes.count("error") / len(outcomes) > MAX_ERROR_SHARE,
        "lengths_not_forced": served not in (None, 1) and not cell.usage_only,
        "lengths_as_served": served not in (None, 1) and cell.usage_only,
        "usage_incomplete": cell.usage_only and any(sent_s <= cell.load_stop_s for sent_s in cut_off),
        "token_count_mismatch": reported["tokens"]["consistent"] is False,
        "no_window": cell.window_s is None,
        "no_tokens": cell.window_s is not None and reported["tps_tok_per_s"] <= 0,
        "client_bound": bool(over),
    }
    named = set(reported["reasons"])
    wrong = [code for code, holds in facts.items() if holds != (code in named)]
    text = ", ".join(f"{code} {'is missing' if facts[code] else 'is not so'}" for code in wrong)
    return [Check(not wrong, text or "as the record shows")]
