"""Energies of the paper's pool and models, drawn by the recipe of one preset."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from estimator.presets import Preset, Regime
from estimator.queries.energies import QueryEnergies
from estimator.queries.histogram import LogHistogram, pooled
from estimator.queries.interventions import INTERVENTIONS, combined
from estimator.queries.montecarlo import sample
from estimator.queries.served import BASELINE_MODELS, ServedModel, s1_model, trimmed_twice

Stat = Literal["mean", "p5", "p25", "p50", "p75", "p95"]

_SAME_REL = 1e-6
"""Below this relative difference trimming changed nothing."""


@dataclass(frozen=True)
class Estimate:
    """A value of ours with its Monte Carlo standard error, None where nothing was sampled.

    ``untrimmed`` is the same value of all samples, None where trimming does not change it.
    """

    value: float
    se: float | None = None
    untrimmed: float | None = None

    def times(self, factor: float) -> Estimate:
        """Return the estimate in another unit."""
        se = None if self.se is None else self.se * abs(factor)
        return Estimate(self.value * factor, se, None if self.untrimmed is None else self.untrimmed * factor)

    def over(self, other: Estimate) -> Estimate:
        """Return the ratio to an independent estimate, its error to first order.

        >>> ratio = Estimate(2.0, se=0.06).over(Estimate(1.0, se=0.04))
        >>> ratio.value, round(ratio.se, 3)
        (2.0, 0.1)
        """
        value = self.value / other.value
        se = None
        if self.se is not None or other.se is not None:
            se = abs(value) * math.hypot((self.se or 0.0) / self.value, (other.se or 0.0) / other.value)
        untrimmed = None
        if self.untrimmed is not None or other.untrimmed is not None:
            untrimmed = (self.untrimmed or self.value) / (other.untrimmed or other.value)
        return Estimate(value, se, untrimmed)

    def plus(self, constant: float) -> Estimate:
        """Return the estimate shifted by a constant."""
        return Estimate(self.value + constant, self.se, None if self.untrimmed is None else self.untrimmed + constant)

    def change_percent(self, other: Estimate) -> Estimate:
        """Return by how much this exceeds an independent estimate, in % of that one."""
        return self.over(other).times(100).plus(-100)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Samples of one case: those that the recipe keeps, and all of them."""

    kept: LogHistogram
    every: LogHistogram

    def stat(self, stat: Stat) -> Estimate:
        """Return a quantile or the mean of what the recipe keeps, in Wh."""
        value, se = _stat(self.kept, stat)
        untrimmed, _ = _stat(self.every, stat)
        return Estimate(value, se, None if math.isclose(untrimmed, value, rel_tol=_SAME_REL) else untrimmed)

    @property
    def median(self) -> Estimate:
        """Median in Wh."""
        return self.stat("p50")


@dataclass(frozen=True, eq=False)
class Recipe:
    """A preset with what it is drawn by; every case is drawn once, from a stream of its own.

    So the cases are independent, and their values depend on the seed but not on which others are asked for.

    >>> from estimator.presets import get_preset
    >>> recipe = Recipe(get_preset("oviedo2026-v2"), samples=100_000, seed=0, workers=1)
    >>> round(recipe.baseline("traditional").median.value, 1)
    0.3
    """

    preset: Preset
    samples: int
    """Samples of every model."""
    seed: int
    workers: int
    _drawn: dict[str, Drawn] = field(default_factory=dict, init=False, repr=False)

    def model(self, name: str, regime: Regime) -> Drawn:
        """Draw the queries of one model; single models are never trimmed."""
        case = f"{name}, {regime}"
        if case not in self._drawn:
            every = self._sample(case, self.energies(s1_model(name, self.preset), regime))
            self._drawn[case] = Drawn(every, every)
        return self._drawn[case]

    def baseline(self, regime: Regime, *levers: str) -> Drawn:
        """Draw the pool of the three largest models, its energies divided by the gains of ``levers``."""
        return self.pool(
            f"{regime} with {' and '.join(levers) or 'no lever'}", lambda model: self.energies(model, regime, *levers)
        )

    def pool(self, case: str, energies_of: Callable[[ServedModel], QueryEnergies]) -> Drawn:
        """Draw ``energies_of`` each model of the pool, in equal shares; ``case`` names them and their stream."""
        if case not in self._drawn:
            each = [self._sample(f"{model.name}, {case}", energies_of(model)) for model in self.pool_models()]
            kept = [trimmed_twice(samples) for samples in each] if self.preset.trimmed.value else each
            self._drawn[case] = Drawn(pooled(kept), pooled(each))
        return self._drawn[case]

    def pool_models(self) -> Sequence[ServedModel]:
        """Return the models of the pool."""
        return [s1_model(name, self.preset) for name in BASELINE_MODELS]

    def energies(self, model: ServedModel, regime: Regime, *levers: str) -> QueryEnergies:
        """Return the energies of a model by Eq. 1 as in the main analysis, divided by the gains of ``levers``."""
        gain = combined(INTERVENTIONS[lever] for lever in levers)
        return model.energies(self.preset.lengths(regime), model.node_power(self.preset), self.preset.pue(), gain)

    def _sample(self, case: str, energies: QueryEnergies) -> LogHistogram:
        stream = zlib.crc32(f"{self.preset.name}, {case}".encode())
        return sample(energies, self.samples, seed=self.seed, stream=stream, workers=self.workers)


def _stat(samples: LogHistogram, stat: Stat) -> tuple[float, float]:
    if stat == "mean":
        return samples.mean_wh, samples.mean_se_wh
    probability = int(stat.removeprefix("p")) / 100
    return samples.quantile_wh(probability), samples.quantile_se_wh(probability)
