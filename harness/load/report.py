"""Latencies of streamed requests, and the share of requests that met a service-level objective. Pure.

Chunks are not tokens, so the time between tokens is a mean per request: (end - first) / (tokens - 1), with tokens
from the server's usage. Times count from when a request was due (open loop) or else from when it was sent.

The end of the load cuts requests off, and those that a slow server kept waiting most of all: to leave them out would
leave out the very requests that suffered. So the time to the first token is taken over all requests due in a window
but those that failed without one; of one still waiting it is known that it waited so long. The time between tokens is
known of whole answers alone: it is taken over those that ended in the window, of which none was cut off.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

MIN_BEYOND = 3
"""A percentile is given only where at least so many requests lie beyond it: p99 needs 300."""

_Z_95 = 1.959964
_ENDS: tuple[Literal["lower", "higher"], ...] = ("lower", "higher")
"""The two latencies between which a percentile is interpolated."""


@dataclass(frozen=True)
class LatencyStatistics:
    """Seconds over ``n`` requests, those without a known latency included.

    A percentile is ``None`` where too few requests lie beyond it, or where it depends on those that still waited when
    the load ended; the mean where any did.
    """

    n: int
    mean_s: float | None
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None


@dataclass(frozen=True)
class Goodput:
    """The share of the ``n`` streamed requests due in a window that were within both limits, with its 95% interval.

    Failed requests count as outside, and so does one whose first token came, or was still waited for, beyond its limit.
    ``unfinished`` were cut off by the end of the load before it was known. With any such the share is ``None`` and
    known to lie within ``bounds``, and the interval reaches from the lower bound's to the upper one's (Wilson).
    ``None`` throughout without requests.
    """

    share: float | None
    bounds: tuple[float, float] | None
    ci95: tuple[float, float] | None
    n: int
    met: int
    failed: int
    unfinished: int
    ttft_limit_s: float | None
    itl_limit_s: float | None


def streamed_requests(requests: pd.DataFrame, start_s: float, end_s: float) -> pd.DataFrame:
    """Return the streamed requests due in a window, with ``ttft_s`` and ``itl_s`` in seconds where known.

    ``waited_s`` is how long one waited whose first token had not come when it was cut off. First fills are left out.
    """
    due_s = requests["scheduled_mono_s"].fillna(requests["send_mono_s"])
    rows: pd.DataFrame = requests[_is_probe(requests) & due_s.between(start_s, end_s)].copy()
    rows["ttft_s"] = rows["first_mono_s"] - due_s[rows.index]
    waits = (rows["outcome"] == "aborted") & rows["first_mono_s"].isna()
    rows["waited_s"] = (rows["end_mono_s"] - due_s[rows.index]).where(waits)
    rows["itl_s"] = _between_tokens_s(rows)
    return rows


def inter_token_s(requests: pd.DataFrame, start_s: float, end_s: float) -> pd.Series[float]:
    """Return the mean seconds between tokens of the streamed requests whose answers ended in a window; no first fills.

    One-token answers have none.
    """
    chosen = _is_probe(requests) & requests["end_mono_s"].between(start_s, end_s)
    return _between_tokens_s(requests[chosen]).dropna()


def _is_probe(requests: pd.DataFrame) -> pd.Series[bool]:
    probes: pd.Series[bool] = requests["streamed"].eq(True) & ~requests["first_fill"].eq(True)
    return probes


def _between_tokens_s(rows: pd.DataFrame) -> pd.Series[float]:
    several = (rows["outcome"] == "completed") & (rows["output_tok"] > 1)
    between_s: pd.Series[float] = (rows["end_mono_s"] - rows["first_mono_s"]) / (rows["output_tok"] - 1)
    known: pd.Series[float] = between_s.where(several)
    return known


def mean_in_flight(requests: pd.DataFrame, start_s: float, end_s: float) -> float:
    """Return how many requests were in flight on average between two times."""
    sent = requests[requests["send_mono_s"].notna()]
    inside_s = sent["end_mono_s"].clip(upper=end_s) - sent["send_mono_s"].clip(lower=start_s)
    return float(inside_s.clip(lower=0).sum()) / (end_s - start_s)


def latency_statistics(values_s: npt.ArrayLike, waited_s: npt.ArrayLike = ()) -> LatencyStatistics:
    """Summarise latencies in seconds; NaN stands for requests that have none and is left out.

    ``waited_s`` is how long those had waited whose latency was not known when the load ended: it is at least that.
    A percentile is known if it is the same with all of them as short as that and with all of them endless.

    >>> [latency_statistics([0.1] * n).p99_s for n in (299, 300)]
    [None, 0.1]
    >>> [latency_statistics([1, 2, 3, 4], waited_s=[waited]).p50_s for waited in (0.5, 3.5)]
    [None, 3.0]
    """
    values, waited = (_finite(seconds) for seconds in (values_s, waited_s))
    n = values.size + waited.size
    if not n:
        return LatencyStatistics(0, None, None, None, None)
    shortest, longest = np.concatenate([values, waited]), np.concatenate([values, np.full(waited.size, np.inf)])

    def percentile(percent: int) -> float | None:
        if percent > 50 and n * (100 - percent) < 100 * MIN_BEYOND:
            return None
        known = {tuple(np.percentile(all_s, percent, method=end) for end in _ENDS) for all_s in (shortest, longest)}
        return float(np.percentile(shortest, percent)) if len(known) == 1 else None

    mean_s = None if waited.size else float(values.mean())
    return LatencyStatistics(n, mean_s, percentile(50), percentile(90), percentile(99))


def _finite(values_s: npt.ArrayLike) -> npt.NDArray[np.float64]:
    values = np.asarray(values_s, dtype=float)
    finite: npt.NDArray[np.float64] = values[np.isfinite(values)]
    return finite


def goodput(
    requests: pd.DataFrame, start_s: float, end_s: float, *, ttft_limit_s: float | None, itl_limit_s: float | None
) -> Goodput:
    """Return the share of streamed requests due in the window that met every limit given, in seconds."""
    rows = streamed_requests(requests, start_s, end_s)
    failed, cut_off = rows["outcome"] == "error", rows["outcome"] == "aborted"
    missed, undecided = failed.copy(), cut_off
    if ttft_limit_s is not None:
        missed |= rows["ttft_s"].fillna(rows["waited_s"]) > ttft_limit_s
    if itl_limit_s is None:
        undecided = cut_off & rows["ttft_s"].isna()
    else:
        missed |= rows["itl_s"] > itl_limit_s
    n, met, unfinished = len(rows), int((~undecided & ~missed).sum()), int((undecided & ~missed).sum())
    shares = (met / n, (met + unfinished) / n) if n else None
    return Goodput(
        share=shares[0] if shares and not unfinished else None,
        bounds=shares,
        ci95=(wilson_interval(met, n)[0], wilson_interval(met + unfinished, n)[1]) if n else None,
        n=n,
        met=met,
        failed=int(failed.sum()),
        unfinished=unfinished,
        ttft_limit_s=ttft_limit_s,
        itl_limit_s=itl_limit_s,
    )


def wilson_interval(met: int, n: int) -> tuple[float, float]:
    """Return the 95% Wilson score interval of a share (Wilson 1927, J. Am. Stat. Assoc. 22, 209)."""
    share, z2 = met / n, _Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z_95 / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
