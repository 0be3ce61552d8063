"""Say what speaks against a stretch of a cell's log as the window of its figures. Pure.

Throughput and power must be shown to change by less than 2% of their mean across it: "no trend was found" is what
every short window says. KV usage must not be shown to change by more than 2 percentage points of the cache's capacity.
The proof is not asked the other way round for KV usage, because it wanders with the ages of the requests in flight: at
256 requests of mixed lengths in half a cache it would take some 250 mean requests, while what a wandering KV usage
does to the figures is in throughput and power already.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
import numpy.typing as npt

from estimator.stationarity import (
    Change,
    autocorrelations,
    detrended,
    integrated_autocorrelation_time,
    linear_change,
    relative_change,
)
from results.schema import ChangeUnit

FloatArray = npt.NDArray[np.float64]

DRIFT = "drift"
LEVEL_SHIFT = "level_shift"
STEADINESS_UNPROVEN = "steadiness_unproven"
COHORTS_IN_STEP = "cohorts_in_step"
RATE_COLLAPSES = "rate_collapses"

MAX_CHANGE = 0.02
"""Of the mean of throughput and power, and of the capacity of the KV cache."""
CHANGE_UNITS: dict[str, ChangeUnit] = {"throughput": "of_mean", "power": "of_mean", "kv_usage": "of_capacity"}
PROVEN = ("throughput", "power")
"""What must be shown not to change."""
DRIFT_CONFIDENCE = 0.995
"""A drift is called proven at this confidence: three quantities are tested, and a refusal must not be chance."""
MAX_BATCHES = 20
BATCH_AUTOCORRELATION_TIMES = 5
NEGLIGIBLE_REL = 1e-6
SHIFT_BLOCKS, SHIFT_EXPLAINS = 20, 0.9
IN_STEP_CORRELATION, IN_STEP_VARIATION, IN_STEP_KV_VARIATION = 0.5, 0.05, 0.25
CHANCE_DEVIATIONS = 3.3
"""Of white noise a correlation exceeds this many of its standard deviations, 1 / sqrt(n) each, once in 2,000 times."""
COLLAPSE_S, COLLAPSED_RATE, COLLAPSED_KV, COLLAPSED_SHARE = 2.0, 0.5, 0.75, 0.01


@dataclass(frozen=True)
class Stretch:
    """Scrape intervals of a window: tokens, and joules and KV usage where known.

    ``kv_usage`` is a share of the capacity; ``request`` is the length of a mean request in scrape intervals.
    """

    seconds: FloatArray
    tokens: FloatArray
    joules: FloatArray | None
    kv_usage: FloatArray | None
    request: float

    @property
    def interval_s(self) -> float:
        """Return the mean scrape interval."""
        return float(self.seconds.mean())

    def rates(self) -> dict[str, FloatArray]:
        """Return what must not change, by name: tok/s, W and KV usage, where known and not zero throughout."""
        power_w = None if self.joules is None else self.joules / self.seconds
        named = {"throughput": self.tokens / self.seconds, "power": power_w, "kv_usage": self.kv_usage}
        return {name: values for name, values in named.items() if values is not None and values.mean() > 0}

    def residual(self) -> FloatArray:
        """Return joules less the mean joules of as many tokens, relative to mean joules: what J/token varies with."""
        if self.joules is None or self.joules.sum() <= 0:
            return np.zeros(self.tokens.size)
        return np.asarray(self.joules / self.joules.mean() - self.tokens / self.tokens.mean())

    def batches(self, autocorrelation: float) -> int:
        """Return how many batches there are of at least a mean request and five autocorrelation times."""
        shortest = max(self.request, BATCH_AUTOCORRELATION_TIMES * autocorrelation)
        return min(MAX_BATCHES, int(self.tokens.size / shortest))


def autocorrelation_time(stretch: Stretch) -> float:
    """Return the longest integrated autocorrelation time of J/token, throughput and power, in scrape intervals."""
    rates = stretch.rates()
    relative = [detrended(rates[name]) / rates[name].mean() for name in ("throughput", "power") if name in rates]
    return max(_memory(values) for values in (stretch.residual(), *relative))


def changes_across(stretch: Stretch) -> dict[str, Change]:
    """Return the change of each rate across the stretch, in ``CHANGE_UNITS``, by batches for its own memory."""
    if stretch.tokens.size < 3:
        return {}
    changes = {}
    for name, values in stretch.rates().items():
        batches = max(3, stretch.batches(_memory(detrended(values) / values.mean())))
        change = relative_change if CHANGE_UNITS[name] == "of_mean" else linear_change
        changes[name] = change(values, batches)
    return changes


def unsteady(stretch: Stretch, changes: dict[str, Change]) -> list[str]:
    """Return the reason codes of what is not steady in a stretch that has these changes."""
    reasons = []
    if any(change.outside(MAX_CHANGE, DRIFT_CONFIDENCE) for change in changes.values()):
        reasons.append(DRIFT)
    elif not changes or not all(changes[name].inside(MAX_CHANGE) for name in PROVEN if name in changes):
        reasons.append(STEADINESS_UNPROVEN)
    rates = stretch.rates()
    if any(_has_shifted(values, _whole(name, values)) for name, values in rates.items()):
        reasons.append(LEVEL_SHIFT)
    if any(_in_step(values, stretch.request) for name, values in rates.items() if _swings(name, values)):
        reasons.append(COHORTS_IN_STEP)
    if _collapses(stretch):
        reasons.append(RATE_COLLAPSES)
    return reasons


def _whole(name: str, values: FloatArray) -> float:
    """Return what a change of a rate is a share of."""
    return float(values.mean()) if CHANGE_UNITS[name] == "of_mean" else 1.0


def _has_shifted(values: FloatArray, whole: float) -> bool:
    """Return whether one step explains nearly all of how a rate varies: a straight line explains 3/4 by a step."""
    if values.size < SHIFT_BLOCKS:
        return False
    means = np.array([block.mean() for block in np.array_split(values, SHIFT_BLOCKS)])
    before = np.arange(2, SHIFT_BLOCKS - 1)
    sums = np.cumsum(means)[before - 1]
    steps = (means.sum() - sums) / (SHIFT_BLOCKS - before) - sums / before
    explained = before * (SHIFT_BLOCKS - before) / SHIFT_BLOCKS * steps**2
    best = int(np.argmax(explained))
    total = float(((means - means.mean()) ** 2).sum())
    return bool(explained[best] > SHIFT_EXPLAINS * total and abs(steps[best]) > MAX_CHANGE * whole)


def _swings(name: str, values: FloatArray) -> bool:
    """Return whether a rate varies as much as requests that march in step would make it.

    KV usage is a sawtooth over a request's life, with a standard deviation of up to 58% of its mean; requests of random
    ages make it vary by that over the square root of their number. A nearly empty cache is not judged.
    """
    relative = values.std() / values.mean()
    if name == "kv_usage":
        return bool(relative > IN_STEP_KV_VARIATION and values.std() > IN_STEP_VARIATION)
    return bool(name == "throughput" and relative > IN_STEP_VARIATION)


def _in_step(values: FloatArray, request: float) -> bool:
    """Return whether a rate swings with the period of a mean request: requests began together and march in step."""
    shortest, longest = ceil(request / 2), ceil(1.5 * request)
    if shortest < 2 or values.size < 3 * request:
        return False
    correlations = autocorrelations(detrended(values))
    if correlations is None:
        return False
    peak = shortest + int(np.argmax(correlations[shortest : longest + 1]))
    trough = float(correlations[:peak].min())
    chance = CHANCE_DEVIATIONS / sqrt(values.size)
    return bool(correlations[peak] > max(IN_STEP_CORRELATION, trough + IN_STEP_CORRELATION, chance))


def _collapses(stretch: Stretch) -> bool:
    """Return whether throughput and KV usage fall away together, for seconds at a time: preemption storms."""
    if stretch.kv_usage is None:
        return False
    block = max(1, ceil(COLLAPSE_S / stretch.interval_s))
    count = stretch.tokens.size // block
    if count < 3:
        return False
    tokens, kv = (
        values[: count * block].reshape(count, block).mean(axis=1) for values in (stretch.tokens, stretch.kv_usage)
    )
    collapsed = (tokens < COLLAPSED_RATE * np.median(tokens)) & (kv < COLLAPSED_KV * np.median(kv))
    return bool(collapsed.mean() > COLLAPSED_SHARE)


def _memory(relative: FloatArray) -> float:
    """Return the autocorrelation time of a relative series; rounding errors have no memory worth telling."""
    return integrated_autocorrelation_time(relative) if relative.std() > NEGLIGIBLE_REL else 1.0
