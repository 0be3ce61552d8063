"""Standard errors of ratios of correlated series, and the combination of uncertainties, in closed form and by draws."""

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

    @property
    def half_width_rel(self) -> float:
        """Return the half width of the 95% interval relative to the ratio."""
        return self.half_width_95 / abs(self.ratio)


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


@dataclass(frozen=True)
class EnergyErrors:
    """What is uncertain of a measured energy, all relative to it. Energy is fixed_share + gpu_share * (GPU energy).

    ``random`` is a standard error with ``random_dof`` degrees of freedom. ``gain`` is the standard uncertainty of
    the sensor's gain, rectangular. ``offset`` and ``slope`` are those of a node model's two terms, Gaussian, with
    ``correlation``; ``others`` are further Gaussian ones. ``clock`` and ``tokens`` are those of the window's edges
    in time and in tokens, each the difference of two equal rectangular errors, so triangular.
    """

    random: float = 0.0
    random_dof: int = 1
    gain: float = 0.0
    gpu_share: float = 1.0
    fixed_share: float = 0.0
    offset: float = 0.0
    slope: float = 0.0
    correlation: float = 0.0
    clock: float = 0.0
    tokens: float = 0.0
    others: tuple[float, ...] = ()


def relative_interval_95(errors: EnergyErrors, draws: int = 200_000, seed: int = 0) -> tuple[float, float]:
    """Return the 95% interval of energy over its estimate, as two factors around 1, by Monte Carlo (JCGM 101, 7).

    Every error is drawn from its distribution and put through the model of the measurement, and the interval is
    the one with 2.5% of the draws on either side. The seed is fixed: the same errors always give the same interval.

    >>> low, high = relative_interval_95(EnergyErrors(gain=0.05 / 3**0.5))
    >>> round(low, 3), round(high, 3)
    (0.953, 1.047)
    """
    rng = np.random.default_rng(seed)
    gain = errors.gain * math.sqrt(3) * rng.uniform(-1, 1, draws)
    first, second = rng.standard_normal((2, draws))
    offset = errors.offset * first
    slope = errors.slope * (errors.correlation * first + math.sqrt(1 - errors.correlation**2) * second)
    energy = errors.fixed_share + offset + (errors.gpu_share + slope) * (1 + gain)
    energy += errors.clock * math.sqrt(6) * (rng.random(draws) - rng.random(draws))
    for other in errors.others:
        energy += other * rng.standard_normal(draws)
    tokens = 1 + errors.tokens * math.sqrt(6) * (rng.random(draws) - rng.random(draws))
    energy *= (1 + errors.random * rng.standard_t(errors.random_dof, draws)) / tokens
    low, high = np.quantile(energy, [0.025, 0.975])
    return float(low), float(high)
