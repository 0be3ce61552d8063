"""How much power a node draws while it serves at some throughput: three models of P_node in Eq. 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from estimator.distributions import LogNormal
from estimator.power.power_fit import PowerFit

FloatArray = npt.NDArray[np.float64]


class NodePower(Protocol):
    """Node power given throughput: a median for each throughput, and one log-normal spread about it."""

    @property
    def sigma_log(self) -> float:
        """Standard deviation of the logarithm of power about its median."""
        ...

    def median_kw(self, tps_tok_per_s: FloatArray) -> FloatArray:
        """Return the median power in kW at each throughput, in the shape of ``tps_tok_per_s``."""
        ...


@dataclass(frozen=True)
class IndependentPower:
    """Power that does not follow throughput (section 2, main analysis)."""

    kw: LogNormal

    @property
    def sigma_log(self) -> float:
        """Standard deviation of the logarithm of power."""
        return self.kw.sigma

    def median_kw(self, tps_tok_per_s: FloatArray) -> FloatArray:
        """Return the same median power for every throughput."""
        return np.full_like(tps_tok_per_s, self.kw.median)


@dataclass(frozen=True)
class ProportionalPower:
    """Power that rises linearly from idle at no throughput to ``top_kw`` at ``top_tok_per_s`` (S.IV).

    >>> power = ProportionalPower(idle_kw=2.7, top_kw=0.9 * 11.3, top_tok_per_s=4000.0)
    >>> power.median_kw(np.array([0.0, 2000.0, 8000.0])).round(3).tolist()
    [2.7, 6.435, 10.17]
    """

    idle_kw: float
    top_kw: float
    top_tok_per_s: float
    sigma_log: float = 0.0

    def median_kw(self, tps_tok_per_s: FloatArray) -> FloatArray:
        """Return the power at each throughput; above ``top_tok_per_s`` it stays at ``top_kw``."""
        load = np.clip(tps_tok_per_s / self.top_tok_per_s, 0.0, 1.0)
        return np.asarray(self.idle_kw + (self.top_kw - self.idle_kw) * load)


@dataclass(frozen=True)
class MeasuredPower:
    """Power as fitted to measured pairs of throughput and node power."""

    fit: PowerFit

    @property
    def sigma_log(self) -> float:
        """Residual standard deviation relative to the power at mid-range; 0 where the fit's error is unknown."""
        middle_tok_per_s = sum(self.fit.tps_range_tok_per_s) / 2
        return (self.fit.residual_sd_kw or 0.0) / float(self.fit.predict_kw(middle_tok_per_s))

    def median_kw(self, tps_tok_per_s: FloatArray) -> FloatArray:
        """Return the fitted power at each throughput; raises ValueError where the line is not positive."""
        return self.fit.predict_kw(tps_tok_per_s)
