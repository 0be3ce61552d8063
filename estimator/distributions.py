"""Log-normal inputs given, as the paper gives them, by their 5th and 95th percentiles."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

FloatArray = npt.NDArray[np.float64]

_Z95 = float(ndtri(0.95))


@dataclass(frozen=True)
class LogNormal:
    """Log-normal distribution with the stated P5 and P95; equal percentiles make it a constant.

    The two percentiles fix the distribution, so its centre cannot be chosen as well: the median is their
    geometric mean. Units are those of the percentiles.

    >>> share = LogNormal(p5=0.4, p95=0.9)
    >>> round(share.median, 3), round(share.mean, 3)
    (0.6, 0.619)
    """

    p5: float
    p95: float

    def __post_init__(self) -> None:
        """Reject percentiles that are not finite, positive and in order."""
        if not (0 < self.p5 <= self.p95 < math.inf):
            raise ValueError(f"a log-normal needs 0 < p5 <= p95 < infinity, not p5={self.p5}, p95={self.p95}")

    @classmethod
    def constant(cls, value: float) -> LogNormal:
        """Return the distribution that always gives ``value``."""
        return cls(value, value)

    @property
    def mu(self) -> float:
        """Mean of the logarithm."""
        return math.log(self.median)

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm."""
        return math.log(self.p95 / self.p5) / (2 * _Z95)

    @property
    def median(self) -> float:
        """Geometric mean of P5 and P95."""
        return math.sqrt(self.p5 * self.p95)

    @property
    def mean(self) -> float:
        """Arithmetic mean."""
        return self.median * math.exp(self.sigma**2 / 2)

    def scaled(self, factor: float) -> LogNormal:
        """Return the distribution of ``factor`` times this variable."""
        return LogNormal(self.p5 * factor, self.p95 * factor)

    def times(self, other: LogNormal) -> LogNormal:
        """Return the distribution of the product with an independent log-normal variable.

        >>> both = LogNormal(1.5, 2.5).times(LogNormal(1.5, 5.0))
        >>> round(both.median, 3), round(both.p5, 3), round(both.p95, 3)
        (5.303, 2.758, 10.199)
        """
        spread = math.exp(_Z95 * math.hypot(self.sigma, other.sigma))
        median = self.median * other.median
        return LogNormal(median / spread, median * spread)

    def plus(self, constant: float) -> LogNormal:
        """Return the log-normal with the mean and variance of this variable plus a constant.

        Its quantiles are those of the sum only about. Raises ValueError unless that mean is positive.

        >>> both = LogNormal(4.0, 9.0).plus(2.0)
        >>> round(both.mean - LogNormal(4.0, 9.0).mean, 9), round(both.p5, 2), round(both.p95, 2)
        (2.0, 5.91, 10.95)
        """
        if constant == 0:
            return self
        mean = self.mean + constant
        if mean <= 0:
            raise ValueError(f"a log-normal needs a positive mean, not {self.mean} + {constant}")
        sigma2 = math.log1p((self.mean / mean) ** 2 * math.expm1(self.sigma**2))
        median, spread = mean * math.exp(-sigma2 / 2), math.exp(_Z95 * math.sqrt(sigma2))
        return LogNormal(median / spread, median * spread)

    def quantile(self, q: npt.ArrayLike) -> FloatArray:
        """Return the quantiles at the probabilities ``q``, in the shape of ``q``."""
        return np.asarray(self.median * np.exp(self.sigma * ndtri(np.asarray(q, dtype=np.float64))))

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Draw ``n`` independent values, shape ``(n,)``."""
        return self.median * np.exp(self.sigma * rng.standard_normal(n))
