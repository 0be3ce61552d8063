"""Split the difference of two energies into the terms of Equation 1."""

from __future__ import annotations

import math
from dataclasses import dataclass

from estimator.eq1 import Eq1Terms


@dataclass(frozen=True)
class Split:
    """Log ratio of measured to predicted energy by term; a positive term makes the measured energy larger."""

    power: float
    length: float
    tps: float
    """Minus the log ratio of the throughputs: a faster server uses less energy."""
    pue: float

    @property
    def total(self) -> float:
        """Sum of the four terms, ln(measured / predicted)."""
        return self.power + self.length + self.tps + self.pue


def split_log_ratio(measured: Eq1Terms, predicted: Eq1Terms) -> Split:
    """Return ln(measured / predicted) as its four terms, so that two errors that cancel become visible.

    >>> predicted = Eq1Terms(pue=1.2, node_power_kw=6.0, output_tok=300, tps_tok_per_s=1500)
    >>> measured = Eq1Terms(pue=1.2, node_power_kw=3.0, output_tok=300, tps_tok_per_s=750)
    >>> split = split_log_ratio(measured, predicted)
    >>> round(split.power, 3), round(split.tps, 3), split.total
    (-0.693, 0.693, 0.0)
    """
    return Split(
        power=math.log(measured.node_power_kw / predicted.node_power_kw),
        length=math.log(measured.output_tok / predicted.output_tok),
        tps=math.log(predicted.tps_tok_per_s / measured.tps_tok_per_s),
        pue=math.log(measured.pue / predicted.pue),
    )
