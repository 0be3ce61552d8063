"""Ratios of measurements made in pairs, what they say of the energy exponent, and the spread between repeated runs.

A pair is measured close together on one server, so that drift and whatever both share cancel in its log-ratio. In the
order A B B A a linear drift cancels over two pairs. Pairs on one start of a server share that start: only the spread
over starts says what another start would give.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from estimator.nodes import Allocation, NodeProfile

Z_95 = 1.959963984540054
CANCELS = 1e-9
NO_SCATTER = 1e-12
"""Logarithms that differ by no more are the same value, but for rounding."""
SAME_LENGTH_REL = 0.01
"""Lengths closer than this have no exponent: a server that ends its answers itself may give both alike."""

Basis = Literal["between_runs", "between_pairs", "within_windows", "unknown"]
"""Where an interval comes from: runs on servers started anew, pairs on one start, or the windows of one pair."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95% interval; both bounds are ``None`` where nothing tells the error."""

    value: float
    low: float | None
    high: float | None
    n: int
    basis: Basis


def paired_ratio(
    pairs_by_run: Sequence[Sequence[tuple[float, float]]],
    random_rel_u: float | None = None,
    common_rel_u: float | None = 0.0,
) -> Interval:
    """Return the ratio B / A of pairs (A, B) with its 95% interval.

    The estimate is the geometric mean over runs of the geometric mean over a run's pairs. With several runs the
    interval is Student's t over the runs' log-ratios, with one run of several pairs over its pairs; two or three of
    them may agree by chance, so it is no narrower than the errors within the windows make it. With a single pair, or
    with log-ratios that do not differ at all, it is these errors alone, and knows nothing of what differs between runs.
    ``random_rel_u`` is the relative standard uncertainty within the two windows of a pair (of several pairs, the root
    of the mean square). ``common_rel_u`` is what the errors that all pairs share leave in the ratio; it is added in
    quadrature, and without it (``None``) no scatter bounds the ratio. Raises ValueError without a pair, or for a value
    that is not positive.

    >>> paired = paired_ratio([[(1.0, 10.0)], [(2.0, 20.2)], [(1.5, 14.9)]])
    >>> round(paired.value, 2), round(paired.low, 2), round(paired.high, 2), paired.basis
    (10.01, 9.8, 10.22, 'between_runs')
    """
    logs = [[_log_ratio(pair) for pair in pairs] for pairs in pairs_by_run if pairs]
    if not logs:
        raise ValueError("a ratio needs at least one pair")
    values = [float(np.mean(run)) for run in logs] if len(logs) > 1 else logs[0]
    one_pair = _normal_interval(float(np.mean(values)), random_rel_u, len(values))
    if len(values) < 2 or np.ptp(values) < NO_SCATTER:
        return _exponentiated(one_pair, common_rel_u)
    scatter = _t_interval(values, "between_runs" if len(logs) > 1 else "between_pairs")
    of_mean = math.sqrt(sum(1 / len(run) for run in logs)) / len(logs)
    return _exponentiated(_no_narrower(scatter, of_mean, random_rel_u), common_rel_u)


def independent_ratio(
    before: Sequence[float],
    after: Sequence[float],
    random_rel_u: float | None = None,
    common_rel_u: float | None = 0.0,
) -> Interval:
    """Return the ratio after / before of repeated runs that no pairing ties together, with its 95% interval.

    With two or more runs on both sides it is Welch's interval of the difference of mean logarithms, no narrower than
    the errors within the windows make it; with a single run on either side, or runs that do not differ at all, it is
    these errors alone, and knows nothing of what differs between runs. ``random_rel_u`` is theirs for one run of each
    side. ``common_rel_u`` is as in ``paired_ratio``. Raises ValueError for an empty side or a value that is not
    positive.

    >>> ratio = independent_ratio([100.0, 102.0], [200.0, 202.0])
    >>> round(ratio.value, 3), ratio.basis
    (1.99, 'between_runs')
    """
    if not before or not after:
        raise ValueError("a ratio needs at least one run on each side")
    if min(*before, *after) <= 0:
        raise ValueError("a ratio needs positive values")
    first, second = np.log(np.asarray(before)), np.log(np.asarray(after))
    difference = float(second.mean() - first.mean())
    fewest = min(first.size, second.size)
    if fewest < 2 or max(np.ptp(first), np.ptp(second)) < NO_SCATTER:
        return _exponentiated(_normal_interval(difference, random_rel_u, 1), common_rel_u)
    parts = np.array([first.var(ddof=1) / first.size, second.var(ddof=1) / second.size])
    total = float(parts.sum())
    dof = total**2 / float(np.sum(parts**2 / np.array([first.size - 1, second.size - 1])))
    half = float(stdtrit(dof, 0.975)) * math.sqrt(total)
    interval = Interval(difference, difference - half, difference + half, first.size + second.size, "between_runs")
    return _exponentiated(_no_narrower(interval, 1 / math.sqrt(fewest), random_rel_u), common_rel_u)


def lengths_differ(lengths_tok: Sequence[float]) -> bool:
    """Return whether lengths are far enough apart for an exponent: the longest by more than 1% from the shortest.

    >>> lengths_differ([100.0, 100.4]), lengths_differ([100.0, 100.4, 200.0]), lengths_differ([])
    (False, True, False)
    """
    return bool(lengths_tok) and max(lengths_tok) > (1 + SAME_LENGTH_REL) * min(lengths_tok)


def energy_exponent(ratio: Interval, length_ratio: float) -> Interval:
    """Return d ln E / d ln L between two mean output lengths from the ratio of their energies.

    Exactly 1 means that a token costs the same at both lengths. Raises ValueError for equal lengths.

    >>> energy_exponent(Interval(16.0, 15.0, 17.0, 2, "between_pairs"), 16.0).value
    1.0
    """
    if length_ratio <= 0 or length_ratio == 1:
        raise ValueError(f"an exponent needs two different lengths, not a ratio of {length_ratio:g}")
    scale = math.log(length_ratio)
    bounds = [None if bound is None else math.log(bound) / scale for bound in (ratio.low, ratio.high)]
    if scale < 0:
        bounds.reverse()
    return Interval(math.log(ratio.value) / scale, bounds[0], bounds[1], ratio.n, ratio.basis)


def fitted_exponent(length_tok: npt.ArrayLike, energy: npt.ArrayLike) -> Interval:
    """Return the slope of ln(energy) over ln(length) by least squares, with Student's t interval on n - 2 degrees.

    Both have shape ``(n,)``. The interval is of scatter about a straight line, so curvature widens it; two points have
    none. Raises ValueError for fewer than two different lengths or values that are not positive.

    >>> fit = fitted_exponent([100, 200, 400], [1.0, 2.2, 4.84])
    >>> round(fit.value, 4), round(fit.high - fit.low, 6)
    (1.1375, 0.0)
    """
    lengths, energies = np.asarray(length_tok, dtype=np.float64), np.asarray(energy, dtype=np.float64)
    if lengths.shape != energies.shape or np.unique(lengths).size < 2:
        raise ValueError("an exponent needs energies at two or more different lengths")
    if lengths.min() <= 0 or energies.min() <= 0:
        raise ValueError("an exponent needs positive lengths and energies")
    x, y = np.log(lengths), np.log(energies)
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    dof = x.size - 2
    if dof == 0:
        return Interval(slope, None, None, 2, "unknown")
    residual = y - y.mean() - slope * x
    half = float(stdtrit(dof, 0.975)) * math.sqrt(float(residual @ residual) / dof / float(x @ x))
    return Interval(slope, slope - half, slope + half, x.size, "between_pairs")


@dataclass(frozen=True)
class Repeated:
    """Results of runs on servers started anew; every uncertainty is relative and standard."""

    mean: float
    n: int
    u_run_rel: float
    """Standard deviation over runs: how far one run lies from another, with what varies within a run."""
    u_between_rel: float
    """The part of it that what varies within runs does not explain."""
    u_mean_rel: float
    """Of the mean over the runs."""


def repeated(values: Sequence[float], within_rel_u: Sequence[float]) -> Repeated | None:
    """Return mean and spread of repeated runs, or ``None`` for fewer than two.

    ``within_rel_u`` is each run's own random relative standard uncertainty. The variance over runs is that within
    plus that between them; the latter is the difference, not below 0 (method of moments, as in a one-way layout).
    Raises ValueError for unequal numbers or values that are not positive.

    >>> spread = repeated([1.00, 1.02, 0.98], [0.01, 0.01, 0.01])
    >>> round(spread.u_run_rel, 4), round(spread.u_between_rel, 4), round(spread.u_mean_rel, 4)
    (0.02, 0.0173, 0.0115)
    """
    if len(values) != len(within_rel_u):
        raise ValueError(f"{len(values)} values and {len(within_rel_u)} uncertainties")
    if len(values) < 2:
        return None
    if min(values) <= 0:
        raise ValueError("repeated values must be positive")
    mean = float(np.mean(values))
    u_run = float(np.std(values, ddof=1)) / mean
    between = u_run**2 - float(np.mean(np.square(within_rel_u)))
    return Repeated(mean, len(values), u_run, math.sqrt(max(0.0, between)), u_run / math.sqrt(len(values)))


def common_ratio_rel_u(
    gpu_w: tuple[float, float],
    gain_rel_u: float | None,
    profile: NodeProfile | None = None,
    share: float = 1.0,
    allocation: Allocation = "share",
) -> float | None:
    """Return what sensor gain and node model leave in the ratio of two powers at the node, relative and standard.

    Both powers share gain, offset, slope and idle power. At the GPU boundary (no ``profile``) the gain cancels whole;
    at the node ln(P_2 / P_1) keeps the difference of the sensitivities (JCGM 100, eq. 16). ``None`` where the
    uncertainty of one that does not cancel is unknown.

    >>> common_ratio_rel_u((500.0, 900.0), 0.03)
    0.0
    """
    if profile is None:
        return 0.0
    first_w, second_w = (profile.node_watts(watts, share, allocation) for watts in gpu_w)
    inverse, per_slope = 1 / second_w - 1 / first_w, gpu_w[1] / second_w - gpu_w[0] / first_w
    model = profile.model_std(share * 1000 * inverse, per_slope)
    idle_w = profile.allocated_idle_std_w(share, allocation)
    return _combined(model, _left(inverse, idle_w), _left(profile.slope * per_slope, gain_rel_u))


def metered_ratio_rel_u(
    charged_w: tuple[float, float],
    gain_rel_u: float | None,
    profile: NodeProfile | None = None,
    share: float = 1.0,
    allocation: Allocation = "share",
) -> float | None:
    """Return what a node meter's gain and idle power leave in the ratio of two charged powers, relative and standard.

    What is charged is the reading less idle power that an allocation leaves to others: P = M - w * P_idle. Where
    nothing is taken off (w = 0) the gain cancels whole, known or not. ``None`` where what does not cancel is unknown.

    >>> metered_ratio_rel_u((3000.0, 5000.0), None)
    0.0
    """
    taken_w = 0.0 if profile is None else -profile.metered_watts(0.0, share, allocation)
    if profile is None or taken_w == 0:
        return 0.0
    inverse, idle_w = 1 / charged_w[1] - 1 / charged_w[0], profile.metered_idle_std_w(share, allocation)
    return _combined(_left(inverse, idle_w), _left(inverse * taken_w, gain_rel_u))


def _left(sensitivity: float, u: float | None) -> float | None:
    """Return what an error leaves in a ratio: nothing where it cancels, known or not."""
    if abs(sensitivity) < CANCELS:
        return 0.0
    return None if u is None else sensitivity * u


def _combined(*parts: float | None) -> float | None:
    known = [part for part in parts if part is not None]
    return math.hypot(*known) if len(known) == len(parts) else None


def _log_ratio(pair: tuple[float, float]) -> float:
    if min(pair) <= 0:
        raise ValueError(f"a pair must be positive, not {pair}")
    return math.log(pair[1] / pair[0])


def _t_interval(logs: Sequence[float], basis: Basis) -> Interval:
    mean, n = float(np.mean(logs)), len(logs)
    half = float(stdtrit(n - 1, 0.975)) * float(np.std(logs, ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n, basis)


def _normal_interval(log_value: float, random_rel_u: float | None, n: int) -> Interval:
    if random_rel_u is None:
        return Interval(log_value, None, None, n, "unknown")
    half = Z_95 * random_rel_u
    return Interval(log_value, log_value - half, log_value + half, n, "within_windows")


def _no_narrower(scatter: Interval, share: float, random_rel_u: float | None) -> Interval:
    """Return an interval of scatter, widened to what so large a share of the windows' own errors makes it."""
    own = _normal_interval(scatter.value, share * (random_rel_u or 0.0), scatter.n)
    wider = own.low is not None and scatter.low is not None and own.low < scatter.low
    return replace(scatter, low=own.low, high=own.high) if wider else scatter


def _exponentiated(log: Interval, common_rel_u: float | None) -> Interval:
    if log.low is None or log.high is None or common_rel_u is None:
        return Interval(math.exp(log.value), None, None, log.n, "unknown")
    half = math.hypot((log.high - log.low) / 2, Z_95 * common_rel_u)
    return Interval(math.exp(log.value), math.exp(log.value - half), math.exp(log.value + half), log.n, log.basis)
