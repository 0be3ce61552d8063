"""Rules on the load: how its clients kept up, and which requests met the objective. From ticks and requests alone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from harness.verify.checks import Check, equal, same
from harness.verify.evidence import Cell, Evidence

Z_95 = 1.959963984540054
SHARE_REL = 1e-5
"""Wilson's interval is computed with more or fewer digits of z."""


def client_health(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> Iterator[Check]:
    """Work out lag and CPU share of the load clients, and how long slots stood empty."""
    reported = cell.reported.get("client")
    ticks = evidence.client
    known = bool(((ticks["t_mono_s"] >= cell.start_s) & (ticks["t_mono_s"] <= cell.end_s)).any())
    if reported is None or not known:
        if known or reported is not None:
            yield Check(False, "the clients' record and their reported figures are not both there")
        return
    derived = _timers(ticks, start_s, end_s) | _slots(cell.requests, start_s, end_s)
    derived |= _schedule(cell.requests, start_s, end_s)
    yield equal("figures of the client", sorted(reported), sorted(derived))
    for name, value in derived.items():
        yield from same(name, reported[name], value)


def _timers(ticks: pd.DataFrame, start_s: float, end_s: float) -> dict[str, float | None]:
    inside = ticks[(ticks["t_mono_s"] >= start_s) & (ticks["t_mono_s"] <= end_s)].sort_values("t_mono_s")
    lags: dict[int, list[float]] = defaultdict(list)
    wakes: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for t_s, client, lag_s, cpu_s in inside[["t_mono_s", "client", "lag_s", "cpu_s"]].itertuples(index=False):
        lags[client].append(lag_s)
        if not wakes[client] or wakes[client][-1][1] != cpu_s:  # ticks of one late wake share its CPU time
            wakes[client].append((t_s + lag_s, cpu_s))
    spans = [(own[0], own[-1]) for own in wakes.values() if len(own) > 1]
    shares = [(last_cpu_s - cpu_s) / (last_s - first_s) for (first_s, cpu_s), (last_s, last_cpu_s) in spans]
    return {
        "clients": len(lags),
        "ticks": len(inside),
        "lag_p99_s": max((_quantile(own, 0.99) for own in lags.values()), default=None),
        "lag_max_s": max((max(own) for own in lags.values()), default=None),
        "cpu_share": max(shares, default=None),
    }


def _slots(requests: pd.DataFrame, start_s: float, end_s: float) -> dict[str, float | None]:
    by_slot: dict[int, list[tuple[float, float, str]]] = defaultdict(list)
    columns = requests[["slot", "send_mono_s", "end_mono_s", "outcome"]]
    for slot, sent_s, ended_s, outcome in columns.itertuples(index=False):
        if slot >= 0:
            by_slot[slot].append((sent_s, ended_s, outcome))
    waits_s = []
    for sent in by_slot.values():
        sent.sort(key=lambda request: request[0])
        for (_, ended_s, outcome), (next_s, _, _) in pairwise(sent):
            if outcome == "completed" and start_s <= ended_s <= end_s and not math.isnan(next_s):
                waits_s.append(next_s - ended_s)
    return {
        "refills": len(waits_s),
        "refill_p50_s": _quantile(waits_s, 0.5) if waits_s else None,
        "refill_p99_s": _quantile(waits_s, 0.99) if waits_s else None,
        "empty_slot_share": sum(waits_s) / len(by_slot) / (end_s - start_s) if by_slot else None,
    }


def _schedule(requests: pd.DataFrame, start_s: float, end_s: float) -> dict[str, float | None]:
    late_s, held_back = [], 0
    held = requests["held_back"].eq(True)
    for due_s, sent_s, waited in zip(requests["scheduled_mono_s"], requests["send_mono_s"], held, strict=True):
        if not start_s <= due_s <= end_s:  # also where nothing was scheduled
            continue
        if waited:
            held_back += 1
        elif not math.isnan(sent_s):
            late_s.append(sent_s - due_s)
    return {"send_late_p99_s": _quantile(late_s, 0.99) if late_s else None, "held_back": held_back}


def _quantile(values: list[float], share: float) -> float:
    """Return a quantile, linear between the order statistics."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def goodput(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> Iterator[Check]:
    """Count the streamed requests within the objective, and work out the share, its bounds and interval (Wilson)."""
    config, reported = evidence.manifest["config"], cell.reported.get("goodput")
    limits = {"ttft_limit_s": config.get("slo_ttft_s"), "itl_limit_s": config.get("slo_itl_s")}
    if limits == {"ttft_limit_s": None, "itl_limit_s": None} or reported is None:
        if reported is not None or any(limits.values()):
            yield Check(False, "objective and reported goodput do not match")
        return
    met, n, failed, unfinished = _judged(cell.requests, (start_s, end_s), limits)
    for name, value in {"met": met, "n": n, "failed": failed, "unfinished": unfinished, **limits}.items():
        yield equal(name, reported[name], value)
    yield from same("share", reported["share"], met / n if n and not unfinished else None)
    smallest, largest = reported["bounds"] or (None, None)
    yield from same("smallest share", smallest, met / n if n else None)
    yield from same("largest share", largest, (met + unfinished) / n if n else None)
    low, high = reported["ci95"] or (None, None)
    yield from same("low bound", low, min(_wilson(met, n)) if n else None, SHARE_REL, 1e-6)
    yield from same("high bound", high, max(_wilson(met + unfinished, n)) if n else None, SHARE_REL, 1e-6)


def _wilson(met: int, n: int) -> list[float]:
    """Return where the normal test of a share just fails: (p - share)^2 = z^2 p (1 - p) / n."""
    share, wide = met / n, Z_95**2 / n
    roots: list[float] = np.roots([1 + wide, -(2 * share + wide), share**2]).real.tolist()
    return roots


def _judged(
    requests: pd.DataFrame, window_s: tuple[float, float], limits: Mapping[str, float | None]
) -> tuple[int, int, int, int]:
    """Count the requests due in the window: met, all, failed, and cut off before it was known."""
    met = n = failed = unfinished = 0
    streamed = requests[requests["streamed"].eq(True) & ~requests["first_fill"].eq(True)]
    for row in streamed.to_dict("records"):
        due_s = row["send_mono_s"] if math.isnan(row["scheduled_mono_s"]) else row["scheduled_mono_s"]
        if not window_s[0] <= due_s <= window_s[1]:
            continue
        n += 1
        failed += row["outcome"] == "error"
        if row["outcome"] == "aborted":
            known = _known_of_cut_off(row, due_s, limits)
            met += known is True
            unfinished += known is None
        else:
            met += row["outcome"] == "completed" and _within(row, due_s, limits)
    return met, n, failed, unfinished


def _known_of_cut_off(row: Mapping[Any, Any], due_s: float, limits: Mapping[str, float | None]) -> bool | None:
    """Return whether a request that the end of the load cut off was within the objective, None where open."""
    begun = not math.isnan(row["first_mono_s"])
    took_s = (row["first_mono_s"] if begun else row["end_mono_s"]) - due_s
    if limits["ttft_limit_s"] is not None and took_s > limits["ttft_limit_s"]:
        return False
    return True if begun and limits["itl_limit_s"] is None else None


def _within(row: Mapping[Any, Any], due_s: float, limits: Mapping[str, float | None]) -> bool:
    ttft_s, itl_s = limits["ttft_limit_s"], limits["itl_limit_s"]
    if ttft_s is not None and not row["first_mono_s"] - due_s <= ttft_s:
        return False
    if itl_s is None or row["output_tok"] == 1:
        return True
    return bool((row["end_mono_s"] - row["first_mono_s"]) / (row["output_tok"] - 1) <= itl_s)
