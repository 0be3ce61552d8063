"""Equation 1: the energy of a query from node power, output length and output throughput.

Every Wh/query in the project, predicted or measured, comes out of this one function.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

KILOWATT_SECONDS_PER_WH = 3.6


def energy_per_query_wh(
    *,
    pue: npt.ArrayLike,
    node_power_kw: npt.ArrayLike,
    output_tok: npt.ArrayLike,
    tps_tok_per_s: npt.ArrayLike,
) -> FloatArray:
    """Return the energy of a query in Wh: Eq. 1 of Oviedo et al., PUE / 3.6 * P_node * L_out / TPS.

    The arguments broadcast against each other and the result has their common shape. The length is that of
    the output alone: the output TPS of a saturated node already pays for prefill. Raises ValueError unless
    every argument is positive and finite.

    >>> energy_wh = energy_per_query_wh(pue=1.2, node_power_kw=6.0, output_tok=300, tps_tok_per_s=1500)
    >>> round(float(energy_wh), 6)
    0.4
    >>> energy_per_query_wh(pue=1.2, node_power_kw=6.0, output_tok=[300, 600], tps_tok_per_s=1500).tolist()
    [0.4, 0.8]
    """
    checked_pue = _positive("pue", pue)
    power_kw = _positive("node_power_kw", node_power_kw)
    length_tok = _positive("output_tok", output_tok)
    tps = _positive("tps_tok_per_s", tps_tok_per_s)
    return np.asarray(checked_pue / KILOWATT_SECONDS_PER_WH * power_kw * length_tok / tps)


def _positive(name: str, values: npt.ArrayLike) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if not np.all((array > 0) & np.isfinite(array)):
        raise ValueError(f"{name} must be positive and finite everywhere")
    return array


@dataclass(frozen=True)
class Eq1Terms:
    """The four scalar terms of Eq. 1 for one prediction or one measurement.

    >>> round(Eq1Terms(pue=1.2, node_power_kw=6.0, output_tok=300, tps_tok_per_s=1500).energy_wh, 6)
    0.4
    """

    pue: float
    node_power_kw: float
    output_tok: float
    tps_tok_per_s: float

    def __post_init__(self) -> None:
        """Reject terms that are not positive and finite, so that the energy always exists."""
        _ = self.energy_wh

    @property
    def energy_wh(self) -> float:
        """Energy per query in Wh by Eq. 1."""
        return float(
            energy_per_query_wh(
                pue=self.pue,
                node_power_kw=self.node_power_kw,
                output_tok=self.output_tok,
                tps_tok_per_s=self.tps_tok_per_s,
            )
        )
