"""Whether two runs of the same cell agree within what their uncertainties say. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from estimator.paired import Z_95, repeated


@dataclass(frozen=True)
class Measured:
    """What one run says of a quantity, with the relative standard uncertainty of chance within its window."""

    value: float
    random_rel_u: float


@dataclass(frozen=True)
class Agreement:
    """A pair of runs, by their numbers: how far they differ, and how far they may; relative, ``limit`` at 95%."""

    first: int
    second: int
    difference: float
    random_rel_u: float
    between_rel_u: float
    limit: float

    @property
    def inside(self) -> bool:
        """Return whether the two differ by less than 1.96 times their combined standard uncertainty."""
        return abs(self.difference) < self.limit

    @property
    def inside_by_chance_alone(self) -> bool:
        """Return whether they would without the spread between runs."""
        return abs(self.difference) < Z_95 * self.random_rel_u


def agreements(runs: Sequence[Measured]) -> list[Agreement]:
    """Pair run i of the first half with run i of the second half and judge each pair.

    Of ln(second / first) the variance is u1^2 + u2^2 + 2 b^2, where b, the spread between runs that chance within
    windows does not explain, is taken from all the other runs: what is judged does not set its own limit.
    """
    half = len(runs) // 2
    return [_agreement(runs, first, first + half) for first in range(half)]


def _agreement(runs: Sequence[Measured], first: int, second: int) -> Agreement:
    others = [run for number, run in enumerate(runs) if number not in (first, second)]
    spread = repeated([run.value for run in others], [run.random_rel_u for run in others])
    assert spread is not None, "a pair is judged by the spread of two or more other runs"
    one, other = runs[first], runs[second]
    random = math.hypot(one.random_rel_u, other.random_rel_u)
    limit = Z_95 * math.hypot(random, math.sqrt(2) * spread.u_between_rel)
    difference = math.log(other.value / one.value)
    return Agreement(first, second, difference, random, spread.u_between_rel, limit)
