"""What happened in a stretch of a cell between evenly spaced times: rates, their memory, and batches. Pure.

Written apart from the analysis: autocorrelations are direct sums over the products of values a lag apart.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from harness.verify import rederive
from harness.verify.evidence import Cell, Evidence
from harness.verify.rederive import FloatArray

BATCH_MEMORIES, MAX_BATCHES = 5, 20
NEGLIGIBLE_REL = 1e-6
"""A series that varies by less than this share of its mean varies by rounding."""
COUNT_REL = 1e-4
"""A number of batches this close to the next whole one may be either."""


class Series(NamedTuple):
    """Seconds, tokens, joules at the boundary and KV usage of equal intervals (``None`` where unknown).

    ``request`` is how many intervals a mean request is long.
    """

    seconds: FloatArray
    tokens: FloatArray
    joules: FloatArray | None
    kv_usage: FloatArray | None
    request: float

    @property
    def known(self) -> bool:
        """Return whether any token was generated."""
        return bool(self.tokens.sum() > 0)

    @property
    def rates(self) -> dict[str, FloatArray]:
        """Return tok/s, W and the KV usage of all servers' capacity, where known and above zero."""
        found = {"throughput": self.tokens / self.seconds}
        if self.joules is not None:
            found["power"] = self.joules / self.seconds
        if self.kv_usage is not None:
            found["kv_usage"] = self.kv_usage
        return {name: values for name, values in found.items() if values.sum() > 0}


def series_between(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> Series:
    """Return what happened between two scrapes, in as many equal intervals as the scrapes make."""
    scraped_s = np.array([t for t in cell.scrapes_s if start_s <= t <= end_s])
    even_s = np.linspace(start_s, end_s, len(scraped_s))
    tokens = np.diff(np.interp(even_s, scraped_s, _counted(evidence, cell, scraped_s)))
    kv = rederive.counted_by(cell.scrapes, "kv_usage_ratio", scraped_s)
    kv_usage = None
    if kv is not None:
        at_edges = np.interp(even_s, scraped_s, kv) / cell.scrapes["server"].nunique()
        kv_usage = (at_edges[1:] + at_edges[:-1]) / 2
    total, request = float(tokens.sum()), 1.0
    if total > 0:
        request = max(1.0, in_flight(cell) * cell.definition["mean_output_tok"] / total * len(tokens))
    joules = rederive.joules_between(evidence.power, evidence.manifest, even_s)
    return Series(np.diff(even_s), tokens, joules, kv_usage, request)


def _counted(evidence: Evidence, cell: Cell, at_s: FloatArray) -> FloatArray:
    """Return all servers' tokens at given times as their own scrapes show them, linear in between."""
    total = np.zeros(len(at_s))
    for _, scrapes in cell.scrapes.groupby("server"):
        own_s = np.sort(scrapes["t_mono_s"].to_numpy(float))
        total += np.interp(at_s, own_s, rederive.generated_tok_by(scrapes, cell.requests, own_s, blind=evidence.blind))
    return total


def in_flight(cell: Cell) -> float:
    """Return the requests in flight: the slots of a closed loop, else the time that all spent in flight over time."""
    if cell.definition.get("arrival", "closed") == "closed":
        return float(cell.definition["concurrency"])
    spent_s = 0.0
    for sent_s, ended_s in zip(cell.requests["send_mono_s"], cell.requests["end_mono_s"], strict=True):
        if not math.isnan(sent_s):
            spent_s += max(0.0, min(ended_s, cell.load_stop_s) - max(sent_s, cell.filled_s))
    return spent_s / (cell.load_stop_s - cell.filled_s)


def less_its_line(values: FloatArray) -> FloatArray:
    """Return a series less the straight line through it; two values or fewer leave nothing."""
    if len(values) < 3:
        return np.zeros(len(values))
    places = np.arange(len(values)) - (len(values) - 1) / 2
    slope, level = np.polyfit(places, values, 1)
    return np.asarray(values - slope * places - level)


def correlation(values: FloatArray, lag: int) -> float:
    """Return the autocorrelation of a series at one lag, by the sum of its products; that of a constant is 0."""
    apart = values - math.fsum(values) / len(values)
    squares = float(apart @ apart)
    return float(apart[: len(values) - lag] @ apart[lag:]) / squares if squares else 0.0


def memory(values: FloatArray) -> float:
    """Return the integrated autocorrelation time of a series relative to its mean, in intervals; at least 1.

    The sum of pairs of autocorrelations ends before the first that is not positive, and no pair counts for more than
    the one before it (Geyer, "Practical Markov Chain Monte Carlo", Statistical Science 7 (1992), section 3.3).
    """
    apart = values - math.fsum(values) / len(values)
    if math.sqrt(float(apart @ apart) / len(values)) <= NEGLIGIBLE_REL:
        return 1.0
    summed, least = 0.0, math.inf
    for lag in range(0, len(values) - 1, 2):
        pair = correlation(values, lag) + correlation(values, lag + 1)
        if pair <= 0:
            break
        least = min(least, pair)
        summed += least
    return max(1.0, 2 * summed - 1)


def rate_memory(values: FloatArray) -> float:
    """Return the memory of a rate about its line, in intervals."""
    return memory(less_its_line(values) / (math.fsum(values) / len(values)))


def autocorrelation(series: Series) -> float:
    """Return the longest memory of throughput, power, and joules beside those of as many tokens, in intervals."""
    if not series.known:
        return 1.0
    found = [rate_memory(values) for name, values in series.rates.items() if name != "kv_usage"]
    if series.joules is not None and series.joules.sum() > 0:
        found.append(memory(series.joules / series.joules.mean() - series.tokens / series.tokens.mean()))
    return max(found)


def batch_counts(series: Series, remembered: float, fewest: int) -> list[int]:
    """Return how many batches no shorter than a request and 5 memories a stretch holds: two numbers where it is close.

    There are at most 20, and at least ``fewest`` even where they are shorter.
    """
    shortest = max(series.request, BATCH_MEMORIES * remembered)
    exact = len(series.tokens) / shortest
    return sorted({max(fewest, min(MAX_BATCHES, int(exact * (1 + near)))) for near in (-COUNT_REL, 0, COUNT_REL)})


def batch_edges(size: int, count: int) -> list[tuple[int, int]]:
    """Return where batches of nearly equal length begin and end."""
    return list(pairwise(int(edge) for edge in np.linspace(0, size, count + 1).round()))
