"""A fine histogram of the logarithm of energy: quantiles and means of any number of samples in fixed memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

BINS_PER_E_FOLD = 4096
RESOLUTION_REL = 1 / BINS_PER_E_FOLD
"""Largest relative error that the bins add to a quantile: one bin, 0.024%; to the mean it is half of that."""

_LOG_RANGE = 21
_ORIGIN = _LOG_RANGE * BINS_PER_E_FOLD
N_BINS = 2 * _ORIGIN
_LOG_CENTRES = (np.arange(N_BINS) + 0.5 - _ORIGIN) / BINS_PER_E_FOLD


def bin_counts(log_wh: FloatArray) -> FloatArray:
    """Return how many of the energies ``exp(log_wh)`` fall into each bin, shape ``(N_BINS,)``.

    ``log_wh`` has shape ``(n,)`` and is overwritten. Raises ValueError outside e^-21 to e^21 Wh.
    """
    log_wh *= BINS_PER_E_FOLD
    log_wh += _ORIGIN
    if not (log_wh.min() >= 0 and log_wh.max() < N_BINS):
        raise ValueError("an energy lies outside 1e-9 to 1e9 Wh: check the lengths and the throughput model")
    return np.bincount(log_wh.astype(np.intp), minlength=N_BINS).astype(np.float64)


@dataclass(frozen=True, eq=False)
class LogHistogram:
    """Energies of ``n_drawn`` independent samples in Wh, of which a middle part may have been kept.

    ``counts`` has shape ``(N_BINS,)``. ``strata`` are the samples pooled in it, each of a number set beforehand.

    >>> wh = LogHistogram(bin_counts(np.log([1.0, 2.0, 3.0, 4.0])), n_drawn=4)
    >>> round(wh.mean_wh, 3), round(wh.quantile_wh(0.5), 3)
    (2.5, 2.0)
    """

    counts: FloatArray
    n_drawn: int
    trimmed_below: float = 0.0
    """Share of the samples trimmed away below those kept."""
    kept: float = 1.0
    strata: tuple[LogHistogram, ...] = ()

    def quantile_wh(self, probability: float) -> float:
        """Return the energy that a share ``probability`` of the samples does not exceed."""
        cumulative = np.cumsum(self.counts)
        rank = min(max(probability, 0.0), 1.0) * cumulative[-1]
        i = int(np.searchsorted(cumulative, rank))
        i = min(max(i, int(np.flatnonzero(self.counts)[0])), int(np.flatnonzero(self.counts)[-1]))
        inside = (rank - (cumulative[i] - self.counts[i])) / self.counts[i]
        return math.exp((i + min(max(inside, 0.0), 1.0) - _ORIGIN) / BINS_PER_E_FOLD)

    def quantile_se_wh(self, probability: float) -> float:
        """Return the Monte Carlo standard error of ``quantile_wh``: half the spread of +-1 s.e. of its rank.

        The rank's error is that of a stratified sample: the root of sum_k w_k^2 F_k (1 - F_k) / n_k, with F_k the
        share of stratum k below the quantile before trimming.
        """
        energy_wh = self.quantile_wh(probability)
        rank_se = math.sqrt(sum(w**2 * stratum._rank_variance(energy_wh) for w, stratum in self._weighted_strata()))
        return (self.quantile_wh(probability + rank_se) - self.quantile_wh(probability - rank_se)) / 2

    def _weighted_strata(self) -> list[tuple[float, LogHistogram]]:
        total = self.counts.sum()
        return [(float(stratum.counts.sum() / total), stratum) for stratum in self.strata or (self,)]

    def _rank_variance(self, energy_wh: float) -> float:
        """Return the variance of the share of the kept samples that lies below a given energy."""
        position = math.log(energy_wh) * BINS_PER_E_FOLD + _ORIGIN
        i = min(max(int(position), 0), N_BINS - 1)
        share = float((self.counts[:i].sum() + (position - i) * self.counts[i]) / self.counts.sum())
        if not 0 < share < 1:
            return 0.0
        of_all = self.trimmed_below + self.kept * share
        return of_all * (1 - of_all) / (self.n_drawn * self.kept**2)

    @property
    def mean_wh(self) -> float:
        """Mean energy in Wh."""
        return float(self.counts @ np.exp(_LOG_CENTRES) / self.counts.sum())

    @property
    def mean_se_wh(self) -> float:
        """Monte Carlo standard error of the mean in Wh: of each stratum, by weight, in quadrature."""
        return math.sqrt(sum(w**2 * stratum._mean_variance() for w, stratum in self._weighted_strata()))

    def _mean_variance(self) -> float:
        """Return the variance of a trimmed mean: that of the winsorized samples over n kept^2 (Tukey, McLaughlin 1963).

        Winsorized samples count each one trimmed away as the outermost one kept. Nothing trimmed leaves variance / n.
        """
        ends_wh = np.array([self.quantile_wh(0), self.quantile_wh(1)])
        ends_share = np.array([self.trimmed_below, max(0.0, 1 - self.trimmed_below - self.kept)])
        inner_wh, inner_share = np.exp(_LOG_CENTRES), self.kept * self.counts / self.counts.sum()
        first = inner_share @ inner_wh + ends_share @ ends_wh
        second = inner_share @ inner_wh**2 + ends_share @ ends_wh**2
        return max(float(second - first**2), 0.0) / (self.n_drawn * self.kept**2)

    def trimmed(self, low: float, high: float) -> LogHistogram:
        """Return the samples between the quantiles ``low`` and ``high`` alone; of pooled ones, without their strata."""
        cumulative = np.cumsum(self.counts)
        total = cumulative[-1]
        kept = np.diff(np.clip(np.concatenate([[0.0], cumulative]), low * total, high * total))
        return LogHistogram(kept, self.n_drawn, self.trimmed_below + low * self.kept, self.kept * (high - low))


def pooled(histograms: Sequence[LogHistogram]) -> LogHistogram:
    """Return all samples together, as strata of one; raises ValueError where they were not trimmed alike."""
    first = histograms[0]
    if any((h.trimmed_below, h.kept) != (first.trimmed_below, first.kept) for h in histograms):
        raise ValueError("samples that were trimmed differently cannot be pooled")
    counts = np.sum([h.counts for h in histograms], axis=0)
    strata = tuple(stratum for h in histograms for stratum in h.strata or (h,))
    return LogHistogram(counts, sum(h.n_drawn for h in histograms), first.trimmed_below, first.kept, strata)
