"""How well a cell's throughput is known: random errors and tokens at the window's edges. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot

import numpy as np

from estimator.paired import Z_95
from estimator.uncertainty import batch_means_ratio
from harness.analysis.celllog import CellLog, sum_over_servers
from harness.analysis.objections import BATCH_AUTOCORRELATION_TIMES, MAX_BATCHES
from harness.analysis.steady import Window


@dataclass(frozen=True)
class Throughput:
    """Output tokens per second over a window, with its 95% interval and relative standard uncertainty."""

    tps_tok_per_s: float
    ci95: tuple[float, float]
    standard_uncertainty_rel: float


def throughput(log: CellLog, window: Window, token_rel_u: float) -> Throughput | None:
    """Return a window's throughput, or ``None`` without tokens. ``token_rel_u`` is that of tokens at its edges.

    Its random error is that of batch means over the batches of J/token, Student-t: each is at least a mean request
    and five integrated autocorrelation times of throughput, power and J/token.
    """
    t_s, tokens = (values[window.first : window.last + 1] for values in sum_over_servers(log.server, "generation_tok"))
    edges_s = np.linspace(t_s[0], t_s[-1], t_s.size)
    seconds, new_tok = np.diff(edges_s), np.diff(np.interp(edges_s, t_s, tokens))
    if new_tok.sum() <= 0:
        return None
    rate = batch_means_ratio(new_tok, seconds, min(batches_of(window), new_tok.size))
    half = hypot(rate.half_width_95, Z_95 * token_rel_u * rate.ratio)
    return Throughput(
        rate.ratio, (rate.ratio - half, rate.ratio + half), hypot(rate.standard_error / rate.ratio, token_rel_u)
    )


def batches_of(window: Window) -> int:
    """Return how many batches a window has, at least 2: those of its J/token, where it has one."""
    if window.joules_per_tok is not None:
        return window.joules_per_tok.n_batches
    memories = (window.end_s - window.start_s) / (BATCH_AUTOCORRELATION_TIMES * window.autocorrelation_s)
    return max(2, min(MAX_BATCHES, int(min(window.mean_requests, memories) + 1e-9)))
