"""How many seconds of load a cell needs for a valid window, and how many of them a job can give. Pure.

A mean request takes C * L / TPS seconds: concurrency, mean output and throughput. The window rule
(``harness.analysis.steady``) asks for six of them after the ramp, and for an interval of the change across the window
inside +-2%, which the scatter of throughput decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

from estimator.paired import Z_95
from harness.analysis.objections import MAX_CHANGE
from harness.analysis.saturation import SearchResult
from harness.analysis.steady import MIN_BATCHES, MIN_INTERVALS

JOB_S = 3600.0
"""What a job on GPUs may take in all where no budget is given: an hour of the node."""
LAUNCH_S = 600.0
"""What counts of a launch as part of the job at most: weights that are downloaded first must not cost the cells."""
CPU_JOB_S = 300.0
"""The same without a GPU, where a run is there to be tried."""
RAMP_REQUESTS = 1.0
"""Mean requests left for the ramp: a cell starts in equilibrium, and what is cut as ramp is twice its length."""
MARGIN = 1.25
"""Throughput under measurement may be lower than the search saw, and requests then longer."""
CHANGE_OVER_MEAN = sqrt(12)
"""The error of a linear change across a window over that of the mean, for the same uncorrelated scatter."""
Z_ONE_SIDED_90 = 1.2816
ERRORS_IN_MAX_CHANGE = CHANGE_OVER_MEAN * (Z_95 + Z_ONE_SIDED_90)
"""How many errors of the mean +-2% must hold: the change's 95% interval, and what in four of five windows it is off."""


class Scatter(NamedTuple):
    """The relative standard error that a mean over ``seconds`` of throughput had."""

    u_rel: float
    seconds: float

    def half_width_rel(self, window_s: float) -> float:
        """Return the 95% half width of a mean over a window, by what was seen over other seconds.

        >>> round(Scatter(0.01, 40.0).half_width_rel(160.0), 4)
        0.0098
        """
        return Z_95 * self.u_rel * sqrt(self.seconds / window_s)

    def seconds_to_show_steady(self) -> float:
        """Return how long windows without any change must be for +-2% to be shown in four of five of them."""
        return self.seconds * (ERRORS_IN_MAX_CHANGE * self.u_rel / MAX_CHANGE) ** 2


@dataclass(frozen=True)
class Need:
    """What a cell's window needs. ``request_s`` is the length of a mean request, None where TPS is not known."""

    request_s: float | None
    warmup_s: float
    min_window_s: float
    scatter: Scatter | None = None

    @property
    def seconds(self) -> float:
        """Return the seconds of load after which a window can be valid, as far as the lengths of requests tell."""
        request_s = self.request_s or 0.0
        return self.warmup_s + RAMP_REQUESTS * request_s + max(self.min_window_s, MARGIN * MIN_BATCHES * request_s)

    @property
    def seconds_with_scatter(self) -> float:
        """Return the seconds of load after which it can also be shown to be steady."""
        shown_s = 0.0 if self.scatter is None else MARGIN * self.scatter.seconds_to_show_steady()
        return max(self.seconds, self.seconds + shown_s - self.window_s(self.seconds))

    def longest_request_s(self, budget_s: float) -> float:
        """Return how long a mean request may take for a budget to suffice.

        >>> need = Need(None, warmup_s=10.0, min_window_s=60.0)
        >>> round(need.longest_request_s(Need(34.0, 10.0, 60.0).seconds), 9)
        34.0
        """
        return max(0.0, budget_s - self.warmup_s) / (RAMP_REQUESTS + MARGIN * MIN_BATCHES)

    def window_s(self, budget_s: float) -> float:
        """Return what a budget leaves for the window once warm-up and ramp are over."""
        return max(0.0, budget_s - self.warmup_s - RAMP_REQUESTS * (self.request_s or 0.0))


def mean_request_s(concurrency: int, mean_output_tok: float, tps_tok_per_s: float | None) -> float | None:
    """Return how long a mean request takes among ``concurrency`` of them, or None where throughput is not known.

    >>> mean_request_s(64, 500.0, 1_000.0)
    32.0
    """
    return concurrency * mean_output_tok / tps_tok_per_s if tps_tok_per_s else None


def largest_concurrency(request_s: float, mean_output_tok: float, tps_tok_per_s: float) -> int:
    """Return how many requests may be in flight for a mean one to take no longer than ``request_s``.

    >>> largest_concurrency(32.0, 500.0, 1_000.0)
    64
    """
    return int(request_s * tps_tok_per_s / mean_output_tok)


def tps_of(found: SearchResult) -> float | None:
    """Return the throughput that the search saw at the concurrency it chose, or else the ladder's best."""
    at = [rung.tps_tok_per_s for rung in found.rungs if rung.concurrency == found.concurrency]
    return at[0] if at else found.plateau_tps_tok_per_s


def scatter_of(found: SearchResult) -> Scatter | None:
    """Return the scatter of throughput that the search measured at the concurrency it chose, if it could."""
    rung = next((rung for rung in found.rungs if rung.concurrency == found.concurrency), None)
    if rung is None or rung.tps_u_tok_per_s is None or not rung.seconds or rung.tps_tok_per_s <= 0:
        return None
    return Scatter(rung.tps_u_tok_per_s / rung.tps_tok_per_s, rung.seconds)


def shortest_window_s(min_window_s: float, scrape_period_s: float) -> float:
    """Return how long a window must be at the least: as asked for, and 40 scrapes."""
    return max(min_window_s, MIN_INTERVALS * scrape_period_s)


def granted(needs: Mapping[str, Need], least_s: float, left_s: float) -> dict[str, float]:
    """Return each cell's budget, at least ``least_s``, as far as ``left_s`` seconds go for all of them.

    First come the requests that a window needs, then what showing that it is steady takes. Cells of which that is not
    known share what is then left.
    """
    least = dict.fromkeys(needs, least_s)
    for_requests = _shared_out({name: need.seconds for name, need in needs.items()}, least, left_s)
    budgets = _shared_out({name: need.seconds_with_scatter for name, need in needs.items()}, for_requests, left_s)
    unknown = [name for name, need in needs.items() if need.scatter is None]
    spare_s = max(0.0, left_s - sum(budgets.values()))
    return budgets | {name: budgets[name] + spare_s / len(unknown) for name in unknown}


def _shared_out(wanted_s: Mapping[str, float], least_s: Mapping[str, float], left_s: float) -> dict[str, float]:
    """Return what is wanted as far as the seconds go, the smallest wishes first: half a window is no good to any."""
    more_s = max(0.0, left_s - sum(least_s.values()))
    budgets = dict(least_s)
    for name in sorted(wanted_s, key=lambda name: wanted_s[name] - least_s[name]):
        given_s = min(more_s, max(0.0, wanted_s[name] - least_s[name]))
        budgets[name] += given_s
        more_s -= given_s
    return budgets
