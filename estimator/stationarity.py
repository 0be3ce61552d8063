"""What a correlated series says of itself: how long it remembers, where its ramp ends, how much it changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

FloatArray = npt.NDArray[np.float64]

RAMP_BLOCKS = 100
_SCALE_FLOOR_REL = 1e-4


@dataclass(frozen=True)
class Change:
    """The change of a series from the start to the end of a window, and its error in the same unit.

    ``standard_error`` has ``dof`` degrees of freedom (Student-t).
    """

    change: float
    standard_error: float
    dof: int

    def half_width(self, confidence: float = 0.95) -> float:
        """Return the half width of the two-sided interval of the change."""
        return float(stdtrit(self.dof, (1 + confidence) / 2)) * self.standard_error

    def inside(self, bound: float) -> bool:
        """Return whether the 95% interval lies inside +-``bound``: the two are then shown to be equivalent."""
        return abs(self.change) + self.half_width() < bound

    def outside(self, bound: float, confidence: float) -> bool:
        """Return whether the interval lies wholly outside +-``bound``: the series is then shown to change."""
        return abs(self.change) - self.half_width(confidence) > bound


def integrated_autocorrelation_time(values: npt.ArrayLike) -> float:
    """Return 1 + 2 * (sum of autocorrelations) of a series of shape ``(n,)``, in values; at least 1.

    The sum ends where the sum of two neighbouring autocorrelations is no longer positive, and these pair sums are
    not let rise: the initial monotone sequence of Geyer, "Practical Markov Chain Monte Carlo", Statistical Science
    7 (1992), section 3.3. A constant series has 1. White noise has about 1, a first-order autoregression with
    coefficient phi has (1 + phi) / (1 - phi). Raises ValueError for fewer than two values.

    >>> integrated_autocorrelation_time([5.0, 5.0, 5.0])
    1.0
    >>> slow = np.sin(np.arange(400) / 100)
    >>> integrated_autocorrelation_time(slow) > 50
    True
    """
    series = np.asarray(values, dtype=np.float64)
    if series.ndim != 1 or series.size < 2:
        raise ValueError(f"an autocorrelation time needs a series of two values or more, not shape {series.shape}")
    correlations = autocorrelations(series)
    if correlations is None:
        return 1.0
    pairs = correlations[: correlations.size // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0)
    positive = pairs[: negative[0]] if negative.size else pairs
    return max(1.0, 2.0 * float(np.minimum.accumulate(positive).sum()) - 1.0)


def autocorrelations(series: FloatArray) -> FloatArray | None:
    """Return the sample autocorrelations at lags 0 to n - 1, or ``None`` if the series is constant."""
    centred = series - series.mean()
    if np.abs(centred).max() <= 1e-12 * max(float(np.abs(series).max()), 1e-300):
        return None
    spectrum = np.fft.rfft(centred, 2 * series.size)
    covariances = np.fft.irfft(spectrum * spectrum.conj(), 2 * series.size)[: series.size]
    return np.asarray(covariances / covariances[0])


def ramp_end(series: Sequence[FloatArray]) -> int:
    """Return how many leading values to leave out so that what is left is best known: the end of a common ramp.

    Each series has shape ``(n,)``. MSER (White, "An effective truncation heuristic for bias reduction in simulation
    output", Simulation 69 (1997)) leaves out as many blocks as make variance over number of the rest smallest, and
    never more than half. Here one cut serves all series: their statistics are added, each in the scale of its own
    second half, which a ramp at the start does not touch.

    >>> ramp = np.minimum(np.arange(200) / 50, 1.0) + 0.01 * np.sin(np.arange(200))
    >>> 44 <= ramp_end([ramp]) <= 56
    True
    >>> ramp_end([np.ones(200)])
    0
    """
    size = series[0].size
    block = max(1, size // RAMP_BLOCKS)
    count = size // block
    if count < 4:
        return 0
    statistic = sum(_mser(values[size - count * block :].reshape(count, block).mean(axis=1)) for values in series)
    cut = int(np.argmin(np.asarray(statistic)[: count // 2 + 1]))
    return cut * block + (size - count * block if cut else 0)


def _mser(blocks: FloatArray) -> FloatArray:
    """Return the mean squared deviation over the number of blocks, when the first 0, 1, ... blocks are left out."""
    left = np.arange(blocks.size, 0, -1)
    centred = blocks - blocks[blocks.size // 2 :].mean()
    sums, squares = (np.cumsum(values[::-1])[::-1] for values in (centred, centred**2))
    deviation = np.maximum(squares / left - (sums / left) ** 2, 0.0)
    scale = max(float(deviation[blocks.size // 2]), (_SCALE_FLOOR_REL * float(np.abs(blocks).mean())) ** 2, 1e-300)
    return np.asarray(deviation / scale / left)


def relative_change(values: FloatArray, n_batches: int) -> Change:
    """Return ``linear_change`` relative to the mean of the series; raises ValueError where that is not positive.

    >>> rising = relative_change(np.linspace(99, 101, 1000), 10)
    >>> round(rising.change, 3), rising.inside(0.02), rising.inside(0.03)
    (0.02, False, True)
    """
    mean = float(values.mean())
    if mean <= 0:
        raise ValueError(f"a relative change needs a positive mean, not {mean}")
    change = linear_change(values, n_batches)
    return Change(change.change / mean, change.standard_error / mean, change.dof)


def linear_change(values: FloatArray, n_batches: int) -> Change:
    """Return the change across a series of shape ``(n,)`` by a straight line, in the unit of its values.

    The line goes through the means of ``n_batches`` contiguous batches of nearly equal size; its error is that of
    least squares with ``n_batches - 2`` degrees of freedom, and holds for batches much longer than the
    autocorrelation time. Raises ValueError for fewer than 3 batches.

    >>> round(linear_change(np.linspace(99, 101, 1000), 10).change, 3)
    2.002
    """
    if n_batches < 3:
        raise ValueError(f"a change needs 3 batches, not {n_batches}")
    edges = np.linspace(0, values.size, n_batches + 1).round().astype(int)
    means = np.add.reduceat(values, edges[:-1]) / np.diff(edges)
    middle = (edges[1:] + edges[:-1]) / 2
    centred = middle - middle.mean()
    spread = float(centred @ centred)
    slope = float(centred @ means) / spread
    residual = means - means.mean() - slope * centred
    error = np.sqrt(float(residual @ residual) / (n_batches - 2) / spread)
    return Change(slope * values.size, float(error) * values.size, n_batches - 2)


def detrended(values: FloatArray) -> FloatArray:
    """Return a series of shape ``(n,)`` less its least-squares line."""
    centred = np.arange(values.size) - (values.size - 1) / 2
    return np.asarray(values - values.mean() - (centred @ values) / (centred @ centred) * centred)
