"""How much power a node draws while it serves at some throughput: three models of P_node in Eq. 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

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
    """Power as fitted to measured pairs of throughput and node power: the line is the mean, not the median.

    >>> from estimator.power.power_fit import fit_power
    >>> fit = fit_power([1000, 2000, 3000], [4.0, 4.7, 5.2], model="m", gpus=8, boundary="node", source="made up")
    >>> round(MeasuredPower(fit).sigma_log, 3)
    0.083
    """

    fit: PowerFit

    @property
    def sigma_log(self) -> float:
        """Spread whose P5-P95 is about the 90% prediction interval of the fit, relative to its power at mid-range.

        The prediction variance, of residual and line, is averaged over the range of measured throughput; Student-t
        widens it for few pairs. Beyond that range it is too small. 0 where the fit's error is unknown, as the
        fit's ``notes`` then say.
        """
        fit = self.fit
        if fit.cov is None or fit.residual_sd_kw is None:
            return 0.0
        tps = np.linspace(*fit.tps_range_tok_per_s, num=101)
        line = np.column_stack([np.ones_like(tps), tps])
        variance = fit.residual_sd_kw**2 + np.mean(np.einsum("ni,ij,nj->n", line, np.array(fit.cov), line))
        middle_kw = float(fit.predict_kw(sum(fit.tps_range_tok_per_s) / 2))
        return float(stdtrit(fit.dof, 0.95) / ndtri(0.95)) * math.sqrt(variance) / middle_kw

    def median_kw(self, tps_tok_per_s: FloatArray) -> FloatArray:
        """Return the median of the log-normal whose mean is the fitted power; ValueError where that is not positive."""
        return self.fit.predict_kw(tps_tok_per_s) * math.exp(-(self.sigma_log**2) / 2)
