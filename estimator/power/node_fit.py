"""Fit the linear power model of a node, P_node = offset + slope * sum of GPU power, to a meter's readings.

The points of the regression are the means of stretches at steady load, not single readings: a meter that lags or
averages distorts readings, and leaves the mean of a settled stretch alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

from estimator.nodes import NodeProfile

FloatArray = npt.NDArray[np.float64]

MIN_LEVELS = 3
MIN_SPREAD = 0.25
MAX_LEVERAGE = 0.95
MIN_REACTION = 0.5
BATCHES = 10
MIN_BATCHES = 4
READINGS_A_BATCH = 2


@dataclass(frozen=True)
class Stretch:
    """Readings at one steady load, settling time left out: times in s, powers in W.

    The meter has times of its own, because it is read at a pace of its own. ``level`` is 0 without load.
    """

    level: int
    gpu_t_s: FloatArray
    gpu_w: FloatArray
    node_t_s: FloatArray
    node_w: FloatArray


@dataclass(frozen=True)
class LevelMean:
    """One point of the regression.

    ``u_w`` is the standard error of ``node_w`` - slope * ``gpu_w``, and ``drift_w`` how much higher that is in the
    second half of the stretch than in the first.
    """

    level: int
    gpu_w: float
    node_w: float
    u_w: float
    drift_w: float
    residual_w: float
    leverage: float


@dataclass(frozen=True)
class NodeFit:
    """A fitted node model. Covariances are of (offset in W, slope), shape (2, 2).

    ``random_cov`` comes from the scatter of the readings or, where it is larger, from the points' distance to the
    line, ``misfit_w``, widened for its few degrees of freedom; ``meter_cov`` from the meter's gain, and is None where
    that is unknown. What follows from both is then unknown too.
    """

    offset_w: float
    slope: float
    random_cov: FloatArray
    meter_cov: FloatArray | None
    degrees_of_freedom: int
    misfit_w: float
    levels: tuple[LevelMean, ...]

    @property
    def u_offset_w(self) -> float | None:
        """Standard uncertainty of the offset in W, None where the meter's accuracy is unknown."""
        return None if self.meter_cov is None else math.sqrt(self.random_cov[0, 0] + self.meter_cov[0, 0])

    @property
    def u_slope(self) -> float | None:
        """Standard uncertainty of the slope, None where the meter's accuracy is unknown."""
        return None if self.meter_cov is None else math.sqrt(self.random_cov[1, 1] + self.meter_cov[1, 1])

    @property
    def correlation(self) -> float | None:
        """Correlation of offset and slope, None where the meter's accuracy is unknown."""
        if self.meter_cov is None:
            return None
        cov = self.random_cov + self.meter_cov
        return float(np.clip(cov[0, 1] / math.sqrt(cov[0, 0] * cov[1, 1]), -1, 1))

    @property
    def u_idle_w(self) -> float | None:
        """Standard uncertainty of ``idle_w``, None where the meter's accuracy is unknown."""
        if self.meter_cov is None:
            return None
        gain_rel_u = math.sqrt(self.meter_cov[1, 1]) / self.slope
        return math.hypot(max(level.u_w for level in self.levels if level.level == 0), gain_rel_u * self.idle_w)

    @property
    def idle_w(self) -> float:
        """Metered power of the node without load in W: the mean of the level 0 stretches."""
        return float(np.mean([level.node_w for level in self.levels if level.level == 0]))


def fit_node(stretches: Sequence[Stretch], meter_gain_rel_u: float | None = None) -> NodeFit:
    """Fit offset and slope by least squares through the means of the stretches.

    The standard error of a mean is that of batch means, widened for what correlation is left between batches and
    never less than the meter's step allows. Points further from the line than that have the error of ordinary least
    squares, as the Gaussian one with the same 95% interval as Student's t. ``meter_gain_rel_u``, a relative standard
    uncertainty, scales offset and slope together (JCGM 100, F.2.4.5). Raises ValueError where the readings cannot give
    a line: too few levels or readings, no idle, levels that lie too close or leave one point to decide, a meter that
    does not follow.

    >>> t = np.arange(60.0)
    >>> loads = [(0, 500.0), (1, 2000.0), (2, 3500.0), (3, 5000.0)]
    >>> fit = fit_node([Stretch(i, t, t * 0 + w, t, 1600 + 1.2 * w + t % 2) for i, w in loads])
    >>> round(fit.offset_w, 1), round(fit.slope, 6), fit.meter_cov
    (1600.5, 1.2, None)
    """
    _refuse_bad_levels(stretches)
    means = np.array([(stretch.gpu_w.mean(), stretch.node_w.mean()) for stretch in stretches])
    gpu_w, node_w = means[:, 0], means[:, 1]
    _refuse_bad_spread(gpu_w, node_w)
    design = np.column_stack([np.ones_like(gpu_w), gpu_w])
    solve = np.linalg.pinv(design)  # rows turn the points into offset and slope
    offset_w, slope = solve @ node_w
    leverage = np.einsum("ij,ji->i", design, solve)
    _refuse_leverage(stretches, leverage)
    residual_w = node_w - design @ (offset_w, slope)
    freedom = gpu_w.size - 2
    misfit_w = math.sqrt(float(residual_w @ residual_w) / freedom)
    u_w = np.array([mean_error_w(stretch, slope) for stretch in stretches])
    random_cov = (solve * np.maximum(u_w, misfit_w * _as_gaussian(freedom)) ** 2) @ solve.T
    beta = np.array([offset_w, slope])
    drift_w = [_drift_w(stretch, slope) for stretch in stretches]
    columns = (gpu_w, node_w, u_w, drift_w, residual_w, leverage)
    return NodeFit(
        offset_w=float(offset_w),
        slope=float(slope),
        random_cov=random_cov,
        meter_cov=None if meter_gain_rel_u is None else meter_gain_rel_u**2 * np.outer(beta, beta),
        degrees_of_freedom=freedom,
        misfit_w=misfit_w,
        levels=tuple(
            LevelMean(stretch.level, *map(float, point))
            for stretch, point in zip(stretches, np.column_stack(columns), strict=True)
        ),
    )


def mean_error_w(stretch: Stretch, slope: float) -> float:
    """Return the standard error in W of mean(node) - slope * mean(GPUs) over a stretch.

    Batches of equal time hold at least two meter readings; their number falls to 4 before the stretch is refused
    with ValueError. Correlation between neighbouring batches widens the error as for an AR(1) series.
    """
    count = min(BATCHES, stretch.node_w.size // READINGS_A_BATCH)
    if count < MIN_BATCHES or stretch.gpu_w.size < count:
        need = MIN_BATCHES * READINGS_A_BATCH
        raise ValueError(
            f"level {stretch.level} has {stretch.node_w.size} settled meter and {stretch.gpu_w.size} GPU readings, "
            f"fewer than the {need} and {MIN_BATCHES} that its error needs"
        )
    node = np.array_split(stretch.node_w, count)
    times_s = [part[0] for part in np.array_split(stretch.node_t_s, count)][1:]
    gpu = np.split(stretch.gpu_w, np.searchsorted(stretch.gpu_t_s, times_s))
    if any(part.size == 0 for part in gpu):
        raise ValueError(f"level {stretch.level}: the GPU readings leave out a part of the meter's")
    deviation = np.array([n.mean() - slope * g.mean() for n, g in zip(node, gpu, strict=True)])
    deviation -= deviation.mean()
    variance = float(deviation @ deviation) / (count - 1) / count
    rho = 0.0 if variance == 0 else float(deviation[1:] @ deviation[:-1]) / float(deviation @ deviation)
    rho = min(max(rho, 0.0), 0.9)
    return math.hypot(math.sqrt(variance * (1 + rho) / (1 - rho)), _step_w(stretch.node_w) / math.sqrt(12))


def _as_gaussian(degrees_of_freedom: int) -> float:
    """Return by how much Student's 95% interval is wider than the Gaussian one."""
    return float(stdtrit(degrees_of_freedom, 0.975) / ndtri(0.975))


def _drift_w(stretch: Stretch, slope: float) -> float:
    half_s = (stretch.node_t_s[0] + stretch.node_t_s[-1]) / 2
    node, gpu = stretch.node_t_s > half_s, stretch.gpu_t_s > half_s
    if gpu.all() or not gpu.any():
        raise ValueError(f"level {stretch.level}: the GPU readings leave out a half of the meter's")
    node_rise_w = stretch.node_w[node].mean() - stretch.node_w[~node].mean()
    return float(node_rise_w - slope * (stretch.gpu_w[gpu].mean() - stretch.gpu_w[~gpu].mean()))


def _step_w(node_w: FloatArray) -> float:
    """Return the smallest step between different readings, or 1 W where they are all equal."""
    steps = np.diff(np.unique(node_w))
    return float(steps.min()) if steps.size else 1.0


def _refuse_bad_levels(stretches: Sequence[Stretch]) -> None:
    levels = sorted({stretch.level for stretch in stretches})
    if 0 not in levels:
        raise ValueError("there is no idle stretch (level 0)")
    if len(levels) < MIN_LEVELS:
        raise ValueError(f"{len(levels)} levels: a line that can be doubted needs idle and at least 2 loads")
    for stretch in stretches:
        for name, t_s, values in (
            ("GPU", stretch.gpu_t_s, stretch.gpu_w),
            ("meter", stretch.node_t_s, stretch.node_w),
        ):
            if values.size == 0 or not np.isfinite(values).all() or np.any(np.diff(t_s) < 0):
                raise ValueError(f"level {stretch.level}: its {name} readings are missing, not finite or out of order")


def _refuse_bad_spread(gpu_w: FloatArray, node_w: FloatArray) -> None:
    low, high = int(np.argmin(gpu_w)), int(np.argmax(gpu_w))
    rise_w, reaction_w = gpu_w[high] - gpu_w[low], node_w[high] - node_w[low]
    if rise_w < MIN_SPREAD * gpu_w[high]:
        raise ValueError(
            f"the levels do not spread: GPU power goes from {gpu_w[low]:.0f} to {gpu_w[high]:.0f} W, "
            f"less than {MIN_SPREAD:.0%} of the highest"
        )
    if reaction_w < MIN_REACTION * rise_w:
        raise ValueError(
            f"the meter does not react: GPU power rose by {rise_w:.0f} W and the meter by {reaction_w:.0f} W, though "
            "every watt of a GPU passes through a meter of its node"
        )


def _refuse_leverage(stretches: Sequence[Stretch], leverage: FloatArray) -> None:
    if leverage.max() > MAX_LEVERAGE:
        alone = stretches[int(np.argmax(leverage))].level
        raise ValueError(
            f"the levels do not spread: all but level {alone} lie together, so that it alone decides the line "
            f"(leverage {leverage.max():.2f})"
        )


def fitted_profile(
    fit: NodeFit, *, name: str, gpu_name: str, gpu_count: int, gpu_limit_w: float | None, p_max_kw: float | None,
    source: str, calibrated_gpu_uuids: Sequence[str] = (),
) -> NodeProfile:  # fmt: skip
    """Return a node profile with the fitted line, for nodes whose GPUs have exactly this NVML name.

    Without ``p_max_kw`` it is the line at ``gpu_limit_w`` on every GPU. ``calibrated_gpu_uuids`` are the GPUs whose
    own sensors gave the GPU power. Raises ValueError where the maximum power is not known and for a negative offset.
    """
    if fit.offset_w < 0:
        raise ValueError(
            f"the fitted offset is negative ({fit.offset_w:.0f} W): the meter reads less than the GPUs' share"
        )
    if p_max_kw is None:
        if gpu_limit_w is None:
            raise ValueError("the node's maximum power is unknown: neither P_max nor the GPUs' power limit is given")
        p_max_kw = round((fit.offset_w + fit.slope * gpu_count * gpu_limit_w) / 1000, 4)
    return NodeProfile(
        name=name,
        simulated=False,
        gpu_name_patterns=(f"^{re.escape(gpu_name)}$",),
        gpu_count=gpu_count,
        gpu_limit_w=gpu_limit_w,
        p_max_kw=p_max_kw,
        p_idle_kw=fit.idle_w / 1000,
        offset_kw=fit.offset_w / 1000,
        slope=fit.slope,
        u_offset_kw=None if fit.u_offset_w is None else fit.u_offset_w / 1000,
        u_slope=fit.u_slope,
        u_idle_kw=None if fit.u_idle_w is None else fit.u_idle_w / 1000,
        correlation=fit.correlation,
        calibrated_gpu_uuids=tuple(calibrated_gpu_uuids),
        source=source,
    )
