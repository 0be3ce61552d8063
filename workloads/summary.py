"""What is in a trace, exactly and in memory that does not grow with it: lengths are tallied, times are read twice."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from estimator.lengths import FloatArray, IntArray, LengthDistribution
from workloads.traces import Trace, WorkloadFileError

RATE_BINS = 60


@dataclass(frozen=True, eq=False)
class Spread:
    """How one length is distributed: distinct lengths in ascending order and the share of each, shape ``(n,)``."""

    tok: IntArray
    share: FloatArray

    @classmethod
    def of(cls, tok: IntArray, weight: FloatArray) -> Spread:
        """Return the spread of lengths in any order; weights need not sum to 1."""
        distinct, place = np.unique(tok, return_inverse=True)
        share = np.bincount(place, weights=weight)
        return cls(distinct, share / share.sum())

    @property
    def mean_tok(self) -> float:
        """Mean length."""
        return float(self.share @ self.tok)

    def quantile_tok(self, q: float) -> int:
        """Return the smallest length that at least a share ``q`` does not exceed.

        >>> Spread.of(np.array([1, 2, 3, 4]), np.ones(4)).quantile_tok(0.5)
        2
        """
        place = int(np.searchsorted(np.cumsum(self.share), q - 1e-12))
        return int(self.tok[min(place, self.tok.size - 1)])

    def share_over(self, limit_tok: int) -> float:
        """Return the share that is longer than ``limit_tok``."""
        return float(self.share[self.tok > limit_tok].sum())

    def share_up_to(self, tok: FloatArray) -> FloatArray:
        """Return the share that is no longer than each of ``tok``, same shape."""
        cumulative = np.concatenate([[0.0], np.cumsum(self.share)])
        share: FloatArray = cumulative[np.searchsorted(self.tok, tok, side="right")]
        return share


@dataclass(frozen=True, eq=False)
class LengthSummary:
    """Input, output, and both together, of the same requests."""

    input: Spread
    output: Spread
    total: Spread

    @classmethod
    def of(cls, lengths: LengthDistribution) -> LengthSummary:
        """Return the summary of a distribution."""
        columns = (lengths.input_tok, lengths.output_tok, lengths.input_tok + lengths.output_tok)
        return cls(*(Spread.of(column, lengths.weight) for column in columns))


@dataclass(frozen=True, eq=False)
class ArrivalSummary:
    """When the requests of a trace came.

    ``requests_by_bin`` of shape ``(RATE_BINS,)`` counts them in equal parts of ``span_s``. ``interarrival_cv`` is the
    coefficient of variation of the time between one and the next: 1 for a Poisson process, 0 for a metronome;
    ``None`` with fewer than three requests, at one time, or where a row is earlier than the one above it.
    """

    span_s: float
    rate_per_s: float | None
    interarrival_cv: float | None
    same_time_share: float | None
    out_of_order: int
    requests_by_bin: IntArray


@dataclass(frozen=True, eq=False)
class TraceSummary:
    """Everything told about a trace: its usable requests, and the rows that are none, by reason."""

    requests: int
    unusable: Mapping[str, int]
    lengths: LengthSummary
    arrivals: ArrivalSummary | None


def summarise(trace: Trace, multiplier: float = 1.0) -> TraceSummary:
    """Read a whole trace, twice where it has times; outputs are multiplied and rounded, never below 1.

    Raises ``WorkloadFileError`` for a malformed row and for a trace without a usable request.
    """
    tallies = (Counter[int](), Counter[int](), Counter[int]())
    unusable, requests, earliest_s, latest_s = Counter[str](), 0, math.inf, -math.inf
    for chunk in trace.chunks(times=trace.has_times):
        output_tok = np.maximum(1, np.rint(chunk.output_tok * multiplier)).astype(np.int64)
        for tally, column in zip(tallies, (chunk.input_tok, output_tok, chunk.input_tok + output_tok), strict=True):
            _count(tally, column)
        unusable.update(chunk.unusable)
        requests += output_tok.size
        if chunk.time_s is not None and chunk.time_s.size:
            earliest_s = min(earliest_s, float(chunk.time_s.min()))
            latest_s = max(latest_s, float(chunk.time_s.max()))
    if not requests:
        raise WorkloadFileError(f"{trace.path} has no usable requests")
    lengths = LengthSummary(*map(_spread, tallies))
    arrivals = _arrivals(trace, requests, earliest_s, latest_s) if trace.has_times else None
    return TraceSummary(requests, unusable, lengths, arrivals)


def _count(tally: Counter[int], column: IntArray) -> None:
    distinct, times = np.unique(column, return_counts=True)
    tally.update(dict(zip(distinct.tolist(), times.tolist(), strict=True)))


def _spread(tally: Counter[int]) -> Spread:
    return Spread.of(np.array(list(tally), dtype=np.int64), np.array(list(tally.values()), dtype=np.float64))


def _arrivals(trace: Trace, requests: int, earliest_s: float, latest_s: float) -> ArrivalSummary:
    """Read the times once more, now that their range is known."""
    span_s = latest_s - earliest_s
    mean_gap_s = span_s / max(1, requests - 1)
    by_bin, squares, same, backwards, last_s = np.zeros(RATE_BINS, dtype=np.int64), 0.0, 0, 0, math.nan
    for chunk in trace.chunks(times=True):
        if chunk.time_s is None or not chunk.time_s.size:
            continue
        place = (chunk.time_s - earliest_s) / (span_s or 1.0) * RATE_BINS
        by_bin += np.bincount(np.minimum(place.astype(np.int64), RATE_BINS - 1), minlength=RATE_BINS)
        gaps_s = np.diff(chunk.time_s, prepend=last_s)
        gaps_s = gaps_s[~np.isnan(gaps_s)]
        squares += float(((gaps_s - mean_gap_s) ** 2).sum())
        same += int((gaps_s == 0).sum())
        backwards += int((gaps_s < 0).sum())
        last_s = float(chunk.time_s[-1])
    known = requests > 2 and span_s > 0 and not backwards
    return ArrivalSummary(
        span_s=span_s,
        rate_per_s=1 / mean_gap_s if mean_gap_s > 0 else None,
        interarrival_cv=math.sqrt(squares / (requests - 1)) / mean_gap_s if known else None,
        same_time_share=same / (requests - 1) if requests > 1 and not backwards else None,
        out_of_order=backwards,
        requests_by_bin=by_bin,
    )
