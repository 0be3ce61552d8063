"""Reduce a long series to what a figure can show: mean, lowest and highest value of each stretch of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

BUCKETS = 400
"""About two points a pixel column of a phone, one of a wide page."""
_GAP_PERIODS = 8.0


@dataclass(frozen=True, eq=False)
class Envelope:
    """Times in seconds with mean, lowest and highest value, each of shape ``(n,)``; NaN breaks a line at a gap."""

    t_s: FloatArray
    mean: FloatArray
    low: FloatArray
    high: FloatArray


def envelope(t_s: npt.ArrayLike, values: npt.ArrayLike, buckets: int = BUCKETS) -> Envelope:
    """Return a series in time order reduced to about ``buckets`` points; values that are not finite are left out.

    Every value lies between ``low`` and ``high`` of its stretch, so no peak is lost. A series of up to twice as
    many points is kept whole.

    >>> reduced = envelope([0, 1, 2, 3, 4, 5], [1, 9, 1, 1, 1, 5], buckets=2)
    >>> reduced.high.tolist(), reduced.low.tolist()
    ([9.0, 5.0], [1.0, 1.0])
    """
    times, series = np.asarray(t_s, dtype=np.float64), np.asarray(values, dtype=np.float64)
    known = np.isfinite(series)
    times, series = times[known], series[known]
    whole = Envelope(times, series, series, series)
    return _broken(_reduced(times, series, buckets) if times.size > 2 * buckets else whole)


def _reduced(times: FloatArray, series: FloatArray, buckets: int) -> Envelope:
    edges = np.linspace(times[0], times[-1], buckets + 1)[:-1]
    first = np.unique(np.searchsorted(times, edges))
    count = np.diff(np.append(first, times.size))
    return Envelope(
        np.add.reduceat(times, first) / count,
        np.add.reduceat(series, first) / count,
        np.minimum.reduceat(series, first),
        np.maximum.reduceat(series, first),
    )


def _broken(reduced: Envelope) -> Envelope:
    """Put a NaN where nothing was read for much longer than usual, so that no line bridges it."""
    if reduced.t_s.size < 3:
        return reduced
    steps = np.diff(reduced.t_s)
    gaps = np.flatnonzero(steps > _GAP_PERIODS * np.median(steps)) + 1
    if not gaps.size:
        return reduced
    middle_s = (reduced.t_s[gaps - 1] + reduced.t_s[gaps]) / 2
    mean, low, high = (np.insert(values, gaps, np.nan) for values in (reduced.mean, reduced.low, reduced.high))
    return Envelope(np.insert(reduced.t_s, gaps, middle_s), mean, low, high)
