"""Rules on judgements: that verdicts and reasons are what the figures call for."""

from __future__ import annotations

from harness.verify import rederive, steady
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

SATURATED_ROLES = ("compared", "grid")
MAX_ERROR_SHARE, SATURATED, KV_FULL, GAIN = 0.01, 0.95, 0.90, 0.05
FEWEST_SCRAPES = 3
CLIENT_LIMITS = {"lag_p99_s": 0.05, "cpu_share": 0.8, "empty_slot_share": 0.02, "send_late_p99_s": 0.05}


def known_reasons(evidence: Evidence) -> list[Check]:
    """See that every reason code is one that this version knows."""
    codes = {code for cell in evidence.cells if cell.reported for code in cell.reported["reasons"]}
    for idle in filter(None, map(evidence.result.get, ("idle", "bare_idle"))):
        codes |= set(idle["reasons"])
    unknown = sorted(codes - FATAL - DOUBTFUL)
    return [Check(not unknown, f"unknown: {', '.join(unknown)}" if unknown else f"{len(codes)} codes, all known")]


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
    found = _saturated(evidence, cell, start_s, end_s)
    if found is None:
        return []
    shown, text = found
    said = "saturation_unproven" in cell.reported["reasons"]
    return [Check(shown != said, f"{text}: {'' if shown else 'not '}saturated")]


def _saturated(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> Check | None:
    definition, tps = cell.definition, tokens_in_window(evidence, cell, start_s, end_s) / (end_s - start_s)
    if definition["role"] not in SATURATED_ROLES or tps <= 0:
        return None
    plateau, waiting = definition["plateau_tps_tok_per_s"], rederive.gauge(cell.scrapes, "waiting", start_s, end_s)
    plateau = None if definition.get("binds") in ("client", "not_found") else plateau
    queued = sum(value > 0 for value in waiting) / len(waiting) if waiting else 0.0
    shown = (plateau is not None and tps >= SATURATED * plateau) or queued >= SATURATED
    best = "no plateau" if plateau is None else f"{tps / plateau:.1%} of the ladder's best"
    return Check(shown, f"{best}, a queue in {queued:.0%} of scrapes")


def config_limited(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> list[Check]:
    """See whether a batch limit of the server held throughput down while KV memory was free."""
    found = _limited(evidence, cell, start_s, end_s)
    if found is None:
        return []
    limited, text = found
    return [Check(limited == ("config_limited" in cell.reported["reasons"]), text)]


def _limited(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> Check | None:
    definition, tokens = cell.definition, tokens_in_window(evidence, cell, start_s, end_s)
    if definition["role"] not in SATURATED_ROLES or definition.get("binds") != "max_num_seqs" or tokens <= 0:
        return None
    kv, gain = rederive.gauge(cell.scrapes, "kv_usage_ratio", start_s, end_s), definition.get("doubling_gain_rel")
    usage = sum(kv) / len(kv) if kv else 0.0
    limited = usage < KV_FULL and gain is not None and gain >= GAIN
    return Check(limited, f"KV cache {usage:.0%} full, expected gain {'unknown' if gain is None else f'{gain:+.0%}'}")


def load_reasons(evidence: Evidence, cell: Cell) -> dict[str, bool]:
    """Return whether a cell's load calls for being named unsaturated, or held down by a limit of the server."""
    window_s = cell.window_s
    saturated = None if window_s is None else _saturated(evidence, cell, *window_s)
    limited = None if window_s is None else _limited(evidence, cell, *window_s)
    return {
        "saturation_unproven": saturated is not None and not saturated.ok,
        "config_limited": limited is not None and limited.ok,
    }


def steadiness(evidence: Evidence, cell: Cell) -> list[Check]:
    """See that a window has the reasons that its raw record calls for."""
    answers, named = steady.reasons(evidence, cell), set(cell.reported["reasons"])
    if not answers:
        return []
    told = sorted(named & answers.keys())
    wrong = list(steady.wrong(answers, named))
    return [Check(not wrong, ", ".join(wrong) or f"{', '.join(told) or 'nothing'} speaks against it")]


def reasons_of_facts(_: Evidence, cell: Cell) -> list[Check]:
    """See that what the raw record shows to be wrong is among the reasons, and only that."""
    named, called = set(cell.reported["reasons"]), facts(cell)
    wrong = [code for code, holds in called.items() if holds != (code in named)]
    text = ", ".join(f"{code} {'is missing' if called[code] else 'is not so'}" for code in wrong)
    return [Check(not wrong, text or "as the record shows")]


def facts(cell: Cell) -> dict[str, bool]:
    """Return whether each reason that stands in the raw record holds."""
    outcomes = cell.requests["outcome"].tolist()
    served, reported = rederive.served_ratio(cell.requests), cell.reported
    client = reported.get("client") or {}
    cut_off = cell.requests.loc[cell.requests["outcome"] == "aborted", "send_mono_s"].tolist()
    over = [name for name, limit in CLIENT_LIMITS.items() if client.get(name) is not None and client[name] > limit]
    return {
        "interrupted": not cell.ended,
        "server_lost": cell.server_lost,
        "too_many_errors": bool(outcomes) and outcomes.count("error") / len(outcomes) > MAX_ERROR_SHARE,
        "lengths_not_forced": served not in (None, 1) and not cell.usage_only,
        "lengths_as_served": served not in (None, 1) and cell.usage_only,
        "usage_incomplete": cell.usage_only and any(sent_s <= cell.load_stop_s for sent_s in cut_off),
        "token_count_mismatch": reported["tokens"]["consistent"] is False,
        "no_window": len(steady.scraped_under_load(cell)) < FEWEST_SCRAPES,
        "no_tokens": cell.window_s is not None and reported["tps_tok_per_s"] <= 0,
        "client_bound": bool(over),
    }
