"""Latencies of streamed requests, and the share of requests that met a service-level objective. Pure.

Chunks are not tokens, so the time between tokens is a mean per request: (end - first) / (tokens - 1), with tokens
from the server's usage. Times count from when a request was due (open loop) or else from when it was sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt
import pandas as pd

MIN_BEYOND = 3
"""A percentile is given only where at least so many requests lie beyond it: p99 needs 300."""

_Z_95 = 1.959964


@dataclass(frozen=True)
class LatencyStatistics:
    """Seconds over ``n`` requests; a percentile is ``None`` where too few requests lie beyond it."""

    n: int
    mean_s: float | None
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None


@dataclass(frozen=True)
class Goodput:
    """The share of ``n`` streamed requests within both limits, with its 95% interval (Wilson).

    Failed requests count as outside. ``unfinished`` were still running when the load ended: nothing is known of them,
    and they are longer than most, so they are left out and counted. ``None`` where no request could be judged.
    """

    share: float | None
    ci95: tuple[float, float] | None
    n: int
    met: int
    failed: int
    unfinished: int
    ttft_limit_s: float | None
    itl_limit_s: float | None


def streamed_requests(requests: pd.DataFrame, start_s: float, end_s: float) -> pd.DataFrame:
    """Return the streamed requests due in a window, with ``ttft_s``, ``itl_s`` and ``e2e_s`` where they completed.

    First fills are left out. One-token answers have no time between tokens.
    """
    due_s = requests["scheduled_mono_s"].fillna(requests["send_mono_s"])
    chosen = requests["streamed"].eq(True) & ~requests["first_fill"].eq(True) & due_s.between(start_s, end_s)
    rows: pd.DataFrame = requests[chosen].copy()
    completed = rows["outcome"] == "completed"
    rows["ttft_s"] = (rows["first_mono_s"] - due_s[chosen]).where(completed)
    rows["e2e_s"] = (rows["end_mono_s"] - due_s[chosen]).where(completed)
    several = completed & (rows["output_tok"] > 1)
    rows["itl_s"] = ((rows["end_mono_s"] - rows["first_mono_s"]) / (rows["output_tok"] - 1)).where(several)
    return rows


def mean_in_flight(requests: pd.DataFrame, start_s: float, end_s: float) -> float:
    """Return how many requests were in flight on average between two times."""
    sent = requests[requests["send_mono_s"].notna()]
    inside_s = sent["end_mono_s"].clip(upper=end_s) - sent["send_mono_s"].clip(lower=start_s)
    return float(inside_s.clip(lower=0).sum()) / (end_s - start_s)


def latency_statistics(values_s: npt.ArrayLike) -> LatencyStatistics:
    """Summarise latencies in seconds; NaN stands for requests that have none and is left out.

    >>> [latency_statistics([0.1] * n).p99_s for n in (299, 300)]
    [None, 0.1]
    """
    values = np.asarray(values_s, dtype=float)
    values = values[np.isfinite(values)]
    if not values.size:
        return LatencyStatistics(0, None, None, None, None)

    def percentile(percent: int) -> float | None:
        enough = values.size * (100 - percent) >= 100 * MIN_BEYOND
        return float(np.percentile(values, percent)) if enough or percent == 50 else None

    return LatencyStatistics(values.size, float(values.mean()), percentile(50), percentile(90), percentile(99))


def goodput(
    requests: pd.DataFrame, start_s: float, end_s: float, *, ttft_limit_s: float | None, itl_limit_s: float | None
) -> Goodput:
    """Return the share of streamed requests due in the window that met every limit given, in seconds."""
    rows = streamed_requests(requests, start_s, end_s)
    unfinished = int((rows["outcome"] == "aborted").sum())
    judged = rows[rows["outcome"] != "aborted"]
    met = judged["outcome"] == "completed"
    if ttft_limit_s is not None:
        met = met & (judged["ttft_s"] <= ttft_limit_s)
    if itl_limit_s is not None:
        met = met & ((judged["itl_s"] <= itl_limit_s) | (judged["output_tok"] == 1))
    n, count = len(judged), int(met.sum())
    failed = int((judged["outcome"] == "error").sum())
    share = count / n if n else None
    interval = wilson_interval(count, n) if n else None
    return Goodput(share, interval, n, count, failed, unfinished, ttft_limit_s, itl_limit_s)


def wilson_interval(met: int, n: int) -> tuple[float, float]:
    """Return the 95% Wilson score interval of a share (Wilson 1927, J. Am. Stat. Assoc. 22, 209)."""
    share, z2 = met / n, _Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z_95 / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
