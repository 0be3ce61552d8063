"""Energy per day of a fleet: beta * N * mean(E), and what a single one of its queries costs (section 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from scipy.special import ndtri

from estimator.distributions import LogNormal
from estimator.queries.energies import Energies
from estimator.queries.histogram import LogHistogram, pooled
from estimator.queries.montecarlo import sample

_WH_PER_GWH = 1e9


class MeanEnergies(Energies, Protocol):
    """A distribution of energies whose mean is known."""

    @property
    def mean_wh(self) -> float:
        """Mean energy in Wh."""
        ...


@dataclass(frozen=True)
class QueryClass:
    """One kind of query of a fleet, its share of all queries, and what such queries cost."""

    kind: str
    model: str
    share: float
    energies: MeanEnergies


@dataclass(frozen=True)
class Fleet:
    """Queries of several kinds, served each day; ``beta`` is the energy of the fleet over that of its busy nodes.

    The kinds' log-normal factors (node power as a share of its maximum, PUE, gains) must have one spread, since
    the fleet shares them.

    >>> import numpy as np
    >>> from estimator.queries.energies import QueryEnergies
    >>> half_wh = QueryEnergies(np.log([0.5]), np.array([1.0]), sigma_log=0.0)
    >>> fleet = Fleet(1e9, (QueryClass("traditional", "some model", 1.0, half_wh),), LogNormal.constant(1.33))
    >>> round(fleet.mean_gwh(), 3)
    0.665
    """

    queries_per_day: float
    classes: tuple[QueryClass, ...]
    beta: LogNormal

    def __post_init__(self) -> None:
        """Reject a number of queries, shares or spreads that make no sense."""
        if not 0 < self.queries_per_day < math.inf:
            raise ValueError(f"queries per day must be positive and finite, not {self.queries_per_day:g}")
        if any(not each.share > 0 for each in self.classes) or not math.isclose(sum(c.share for c in self.classes), 1):
            raise ValueError("shares must be positive and sum to 1")
        first = self.classes[0].energies.sigma_log
        if not all(math.isclose(each.energies.sigma_log, first, rel_tol=1e-9) for each in self.classes):
            raise ValueError("kinds of queries with different spreads of their common factor share none")

    @property
    def mean_wh_per_query(self) -> float:
        """Mean energy of a query in Wh, without beta."""
        return sum(each.share * each.energies.mean_wh for each in self.classes)

    def mean_gwh(self, *kinds: str) -> float:
        """Return the mean energy per day in GWh of some kinds of queries, or of all: beta * N * mean(E)."""
        of_kinds = (each for each in self.classes if not kinds or each.kind in kinds)
        wh_per_query = sum(each.share * each.energies.mean_wh for each in of_kinds)
        return self.beta.mean * self.queries_per_day * wh_per_query / _WH_PER_GWH

    @property
    def gwh_per_day(self) -> LogNormal:
        """Energy per day in GWh, with what the whole fleet shares uncertain: the factors of its queries, and beta.

        Lengths are averaged out: over many queries their sum has no spread. What is left is a product of
        log-normal factors, so the result is log-normal in closed form, with the mean of ``mean_gwh``.
        """
        shared = _log_normal(self.classes[0].energies.sigma_log).times(self.beta)
        return shared.scaled(self.mean_gwh() / shared.mean)

    def sample_queries(self, n: int, *, seed: int, workers: int) -> LogHistogram:
        """Draw ``n`` single queries, of each class its share; every query draws its factors anew, without beta."""
        drawn = [
            sample(each.energies, n_of_class, seed=seed, stream=stream, workers=workers)
            for stream, (each, n_of_class) in enumerate(
                zip(self.classes, largest_remainder([each.share for each in self.classes], n), strict=True)
            )
            if n_of_class
        ]
        return pooled(drawn)


def largest_remainder(shares: Sequence[float], n: int) -> list[int]:
    """Return whole numbers that sum to ``n`` and differ from ``shares`` of it by less than 1 each.

    >>> largest_remainder([0.3, 0.3, 0.4], 8)
    [3, 2, 3]
    """
    exact = [share * n for share in shares]
    whole = [math.floor(value) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: whole[i] - exact[i])
    for i in by_remainder[: n - sum(whole)]:
        whole[i] += 1
    return whole


def _log_normal(sigma: float) -> LogNormal:
    spread = math.exp(sigma * float(ndtri(0.95)))
    return LogNormal(1 / spread, spread)
