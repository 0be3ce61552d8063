"""Records of a cell made from known processes, so that the true J/token and the true ramp are known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from harness.analysis.steady import Record, Rule, Window, choose_window

PERIOD_S = 0.5
TOK, JOULES, KV = 400.0, 300.0, 0.5  # per scrape interval, and mean usage
TRUE_JOULES_PER_TOK = JOULES / TOK


def record_of(tokens, joules=None, kv_usage=None, period_s=PERIOD_S):
    """Return the record of a cell that made these tokens and joules in each scrape interval."""
    edges_s = period_s * np.arange(tokens.size + 1)
    energy_j = None if joules is None else np.concatenate([[0.0], np.cumsum(joules)])

    def interval_joules(at_s):
        return None if energy_j is None else np.diff(np.interp(at_s, edges_s, energy_j))

    kv = None if kv_usage is None else np.concatenate([kv_usage[:1], kv_usage])
    return Record(edges_s, 1e6 + np.concatenate([[0.0], np.cumsum(tokens)]), kv, interval_joules)


def rule(request_s=2.0, *, precision_rel=0.02, min_window_s=20.0, earliest_s=0.0, latest_s=math.inf):
    """Return a rule for requests that take ``request_s`` at the mean rate."""
    return Rule(earliest_s, latest_s, precision_rel, min_window_s, request_s * TOK / PERIOD_S)


@dataclass(frozen=True)
class Condition:
    """First-order autoregressive throughput, power and KV usage, with or without an exponential ramp before."""

    phi: float
    ramp: bool
    sd_rel: float
    autocorrelation_times: int

    RAMP_INTERVALS = 10

    @property
    def intervals(self) -> int:
        """Length of the series: that many autocorrelation times, after ten time constants of the ramp."""
        steady = math.ceil(self.autocorrelation_times * (1 + self.phi) / (1 - self.phi))
        return steady + 10 * self.RAMP_INTERVALS * self.ramp

    def record(self, rng: np.random.Generator) -> Record:
        """Draw one run. Power follows throughput in part, as on real devices."""
        size = self.intervals
        rate, power, kv = (self._noise(rng, size) for _ in range(3))
        left = np.exp(-np.arange(size) / self.RAMP_INTERVALS) * self.ramp
        return record_of(
            TOK * (1 + self.sd_rel * rate) * (1 - 0.6 * left),
            JOULES * (1 + self.sd_rel * (0.5 * power + 0.2 * rate)) * (1 - 0.3 * left),
            KV * (1 + self.sd_rel * kv) * (1 - 0.6 * left),
        )

    def _noise(self, rng: np.random.Generator, size: int):
        shocks = rng.normal(size=size) * math.sqrt(1 - self.phi**2)
        shocks[0] = rng.normal()
        return lfilter([1.0], [1.0, -self.phi], shocks)


@dataclass(frozen=True)
class Outcome:
    """What the whole procedure, stopping included, did over many runs of one condition; shares of runs."""

    answered: float
    covered: float
    valid: float
    stopped_early: float
    half_width_rel: float
    intervals: float


def study(condition: Condition, runs: int, seed: int) -> Outcome:
    """Let the rule end many runs. A run is answered unless it is refused; coverage is that of the answers."""
    rng = np.random.default_rng([seed, int(100 * condition.phi), condition.ramp, int(1e4 * condition.sd_rel)])
    windows = [choose_window(condition.record(rng), rule()) for _ in range(runs)]
    answers = [window for window in windows if "no_steady_state" not in window.reasons]
    return Outcome(
        answered=len(answers) / runs,
        covered=float(np.mean([covers(window) for window in answers])),
        valid=float(np.mean([not window.reasons for window in windows])),
        stopped_early=float(np.mean([window.ended == "precision_reached" for window in windows])),
        half_width_rel=float(np.mean([window.joules_per_tok.half_width_rel for window in answers])),
        intervals=float(np.mean([window.last for window in windows])),
    )


def covers(window: Window) -> bool:
    """Return whether the interval holds the true J/token."""
    estimate = window.joules_per_tok
    return bool(abs(estimate.ratio - TRUE_JOULES_PER_TOK) <= estimate.half_width_95)
