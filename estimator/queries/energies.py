"""What one kind of query costs: the energies of Eq. 1 over its lengths, and a log-normal factor about them.

Node power, PUE and efficiency gains are independent log-normal factors of a query's energy, so their product is
one log-normal factor. A query's energy is then ``exp(log_wh + sigma_log * z)`` with ``z`` standard normal, where
``log_wh`` is Eq. 1 at the medians of those factors and at the query's lengths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from estimator.distributions import LogNormal
from estimator.eq1 import energy_per_query_wh
from estimator.lengths import LengthDistribution
from estimator.power.node_power import NodePower
from estimator.throughput.tps import TpsModel

FloatArray = npt.NDArray[np.float64]

NO_GAIN = LogNormal.constant(1.0)


class Energies(Protocol):
    """A distribution of energies to draw from."""

    @property
    def sigma_log(self) -> float:
        """Standard deviation of the logarithm of the factor common to all lengths."""
        ...

    def draw_log_wh(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Draw ``n`` logarithms of energies in Wh at the medians of the log-normal factors, shape ``(n,)``."""
        ...


@dataclass(frozen=True, eq=False)
class QueryEnergies:
    """Energies of single queries; ``log_wh`` and ``weight`` have the shape ``(n_lengths,)``, weights sum to 1."""

    log_wh: FloatArray
    weight: FloatArray
    sigma_log: float

    def draw_log_wh(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Draw ``n`` queries by how often each length occurs; the result is ordered by length."""
        return np.repeat(self.log_wh, rng.multinomial(n, self.weight))

    @property
    def mean_wh(self) -> float:
        """Exact mean energy in Wh."""
        return float(self.weight @ np.exp(self.log_wh)) * math.exp(self.sigma_log**2 / 2)

    def share_below(self, energy_wh: float) -> float:
        """Return the exact share of queries below ``energy_wh``; the log-normal factor must not be constant."""
        return float(self.weight @ ndtr((math.log(energy_wh) - self.log_wh) / self.sigma_log))


def query_energies(
    *,
    lengths: LengthDistribution,
    tps: TpsModel,
    node_power: NodePower,
    pue: LogNormal,
    gain: LogNormal = NO_GAIN,
) -> QueryEnergies:
    """Return the energies of queries by Eq. 1 with TPS at each query's lengths, without error (section 2).

    ``gain`` is the factor alpha of section 3 that divides energy. Only output tokens are counted: the
    throughput model already depends on the input length, so its output TPS pays for prefill.

    >>> from estimator.throughput.fit import fit_oviedo_preset
    >>> from estimator.lengths import fixed_lengths
    >>> from estimator.power.node_power import IndependentPower
    >>> from estimator.throughput.s1 import rows_for
    >>> energies = query_energies(
    ...     lengths=fixed_lengths(500, 300),
    ...     tps=fit_oviedo_preset(rows_for("Llama-3.1 Nemotron Ultra 253B")),
    ...     node_power=IndependentPower(LogNormal.constant(6.0)),
    ...     pue=LogNormal.constant(1.2),
    ... )
    >>> round(energies.mean_wh, 4)
    0.1154
    """
    tps_tok_per_s = tps.predict_tok_per_s(lengths.input_tok, lengths.output_tok)
    at_medians_wh = energy_per_query_wh(
        pue=pue.median,
        node_power_kw=node_power.median_kw(tps_tok_per_s),
        output_tok=lengths.output_tok,
        tps_tok_per_s=tps_tok_per_s,
    )
    sigma_log = math.hypot(pue.sigma, node_power.sigma_log, gain.sigma)
    return QueryEnergies(np.log(at_medians_wh / gain.median), lengths.weight, sigma_log)
