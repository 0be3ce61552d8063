"""Standard errors of ratios of correlated series, and the combination of independent uncertainties."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit


@dataclass(frozen=True)
class RatioEstimate:
    """A ratio of sums with its random error, in the unit of numerator over denominator."""

    ratio: float
    standard_error: float
    half_width_95: float
    """Half width of the 95% interval, Student-t with ``n_batches - 1`` degrees of freedom."""
    n_batches: int


def batch_means_ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike, n_batches: int) -> RatioEstimate:
    """Return sum(numerator) / sum(denominator), such as joules per token, with its batch-means error.

    Both series have shape ``(n,)``, in time order, and are cut into ``n_batches`` contiguous batches of
    nearly equal size. The ratio is linearised about its estimate, so the error is that of the batch totals of
    numerator - ratio * denominator. It holds for stationary series and batches much longer than their
    autocorrelation. Raises ValueError for unequal shapes, fewer than 2 batches, fewer values than batches,
    values that are not finite, or a denominator whose sum is not positive.
    """
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    if top.ndim != 1 or top.shape != bottom.shape:
        raise ValueError(f"both series must have one shape (n,), not {top.shape} and {bottom.shape}")
    if not 2 <= n_batches <= top.size:
        raise ValueError(f"{n_batches} batches of {top.size} values: there must be at least 2, and a value in each")
    if not (np.isfinite(top).all() and np.isfinite(bottom).all() and bottom.sum() > 0):
        raise ValueError("the series must be finite and the denominator must sum to more than 0")
    ratio = float(top.sum() / bottom.sum())
    residual = np.array([batch.sum() for batch in np.array_split(top - ratio * bottom, n_batches)])
    variance = n_batches / (n_batches - 1) * float(np.sum(residual**2)) / float(bottom.sum()) ** 2
    standard_error = math.sqrt(variance)
    return RatioEstimate(ratio, standard_error, float(stdtrit(n_batches - 1, 0.975)) * standard_error, n_batches)


def combine_relative(*relative_standard_uncertainties: float) -> float:
    """Return the root sum of squares of relative standard uncertainties (JCGM 100, section 5.1.6).

    It holds for a product or quotient of uncorrelated quantities whose uncertainties are small beside them.

    >>> round(combine_relative(0.03, 0.04), 12)
    0.05
    """
    return math.hypot(*relative_standard_uncertainties)
