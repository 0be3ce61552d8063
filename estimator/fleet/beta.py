"""beta: the energy of a whole fleet over that of its saturated nodes, built from its parts (S.V)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from estimator.distributions import LogNormal

LOAD_SHAPE = (0.5, 1.0)
"""Lowest and highest utilisation of the daily sinusoid (S.V)."""
REDUNDANCY = LogNormal.constant(1.10)
"""Energy with redundant nodes over that without (S.V)."""
NETWORK = LogNormal.constant(1.12)
"""Energy with the InfiniBand interconnect over that without (S.V)."""


def load_shape_factor(*, low: float, high: float, idle_kw: float, peak_kw: float) -> float:
    """Return the energy per query under a daily sinusoidal load over that at full load (S.V).

    The load goes from ``low`` to ``high``, as shares of the full one, and power rises linearly with it from
    ``idle_kw`` to ``peak_kw``. So only the mean load f counts: (1/f) (P_idle + (P_peak - P_idle) f) / P_peak.
    Raises ValueError unless 0 < low <= high <= 1 and 0 <= idle_kw <= peak_kw, with a peak above 0.

    >>> round(load_shape_factor(low=0.5, high=1.0, idle_kw=2.7, peak_kw=11.3), 4)
    1.0796
    """
    if not 0 < low <= high <= 1:
        raise ValueError(f"the load needs 0 < low <= high <= 1, not {low:g}-{high:g}")
    if not (0 <= idle_kw <= peak_kw < math.inf and peak_kw > 0):
        raise ValueError(f"power needs 0 <= idle <= peak and a peak above 0, not idle {idle_kw:g}, peak {peak_kw:g} kW")
    mean_load = (low + high) / 2
    return (idle_kw + (peak_kw - idle_kw) * mean_load) / (mean_load * peak_kw)


@dataclass(frozen=True)
class Beta:
    """The parts of beta, each a factor on energy; the uncertain ones are log-normal with a P5 of at least 1.

    Less than 5% of an uncertain part lies below 1, which no redundancy or network can be: what the shape costs.

    >>> load = load_shape_factor(low=0.5, high=1.0, idle_kw=2.7, peak_kw=11.3)
    >>> round(Beta(load, REDUNDANCY, NETWORK).total.mean, 3)
    1.33
    """

    load_shape: float
    redundancy: LogNormal
    network: LogNormal

    def __post_init__(self) -> None:
        """Reject a share given as a factor, such as 0.10 for 1.10."""
        for name, factor in (("redundancy", self.redundancy), ("network", self.network)):
            if factor.p5 < 1:
                raise ValueError(f"{name} is a factor on energy of at least 1, such as 1.10, not {factor.p5:g}")

    @property
    def total(self) -> LogNormal:
        """The product of the parts, which are independent."""
        return self.redundancy.times(self.network).scaled(self.load_shape)
