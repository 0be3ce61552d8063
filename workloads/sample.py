"""What of a trace is used as load: all of it, or a stated part of one too long to keep in memory.

Lengths alone come from a uniform sample of the whole file, so that they are its lengths. Requests with their times
come from its beginning without gaps, so that bursts stay as they were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from estimator.lengths import FloatArray, IntArray
from workloads.traces import Trace, WorkloadFileError
from workloads.traces.stream import sha256_of

MOST_REQUESTS = 200_000
SEED = 0

ALL = "all usable requests"
UNIFORM = "a uniform sample without replacement of the usable requests of the whole file"
BEGINNING = "the first usable requests of the file, by time; from the start again at their end"


@dataclass(frozen=True, eq=False)
class LengthSample:
    """The lengths kept of a trace, arrays of shape ``(n,)`` in the order of the file, and what was not kept.

    ``usable`` counts the requests they stand for, ``unusable`` the rows that are no load, by reason.
    """

    input_tok: IntArray
    output_tok: IntArray
    usable: int
    unusable: Mapping[str, int]
    seed: int

    def definition(self) -> dict[str, Any]:
        """Return how many were kept of how many, by which rule, and the rows left out."""
        kept = int(self.input_tok.size)
        whole = kept == self.usable
        return {
            "trace_requests": self.usable,
            "trace_unusable": dict(self.unusable),
            "trace_sample": {
                "requests": kept,
                "of": self.usable,
                "rule": ALL if whole else UNIFORM,
                "seed": None if whole else self.seed,
            },
        }


def sample_lengths(trace: Trace, *, most: int = MOST_REQUESTS, seed: int = SEED) -> LengthSample:
    """Return the lengths of a trace, at most ``most`` of them, in memory that does not grow with the file.

    Each subset of the file's usable requests is equally likely (reservoir sampling, Vitter's algorithm R).
    Raises ``WorkloadFileError`` for a malformed row and for a trace without a usable request.
    """
    rng = np.random.default_rng(seed)
    kept = np.zeros((3, most), dtype=np.int64)
    usable, unusable = 0, Counter[str]()
    for chunk in trace.chunks():
        number = np.arange(usable, usable + chunk.input_tok.size)
        place = np.where(number < most, number, (rng.random(number.size) * (number + 1)).astype(np.int64))
        stays = place < most
        kept[:, place[stays]] = np.stack([number, chunk.input_tok, chunk.output_tok])[:, stays]
        usable += number.size
        unusable.update(chunk.unusable)
    if not usable:
        raise _without_requests(trace, unusable)
    in_order = np.argsort(kept[0, :usable])
    return LengthSample(kept[1, in_order], kept[2, in_order], usable, unusable, seed)


@dataclass(frozen=True, eq=False)
class Stretch:
    """Requests of a trace in the order they came; arrays of shape ``(n,)``, times in seconds after the first."""

    time_s: FloatArray
    input_tok: IntArray
    output_tok: IntArray

    @property
    def rate_per_s(self) -> float | None:
        """Mean rate: intervals over their sum; ``None`` where all requests have one time."""
        span_s = float(self.time_s[-1])
        return (self.time_s.size - 1) / span_s if span_s > 0 else None

    def at_rate(self, rate_per_s: float) -> Stretch:
        """Return the same requests at times scaled to a mean rate; raises ``ValueError`` where they have one time."""
        if self.rate_per_s is None:
            raise ValueError("all its requests have the same time, so there is no rate to scale")
        return Stretch(self.time_s * (self.rate_per_s / rate_per_s), self.input_tok, self.output_tok)


def read_stretch(trace: Trace, *, most: int = MOST_REQUESTS) -> Stretch:
    """Return the first ``most`` usable requests of a trace with their times; no more of the file is read.

    Raises ``WorkloadFileError`` for a malformed row and for a trace without times or usable requests.
    """
    if not trace.has_times:
        raise WorkloadFileError(f"{trace.path} does not say when its requests came")
    parts: list[tuple[FloatArray, IntArray, IntArray]] = []
    missing, unusable = most, Counter[str]()
    for chunk in trace.chunks(times=True):
        if chunk.time_s is not None and chunk.time_s.size:
            parts.append((chunk.time_s[:missing], chunk.input_tok[:missing], chunk.output_tok[:missing]))
            missing -= parts[-1][0].size
        unusable.update(chunk.unusable)
        if not missing:
            break
    if not parts:
        raise _without_requests(trace, unusable)
    time_s, input_tok, output_tok = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(time_s, kind="stable")
    return Stretch(time_s[order] - time_s.min(), input_tok[order], output_tok[order])


def _without_requests(trace: Trace, unusable: Mapping[str, int]) -> WorkloadFileError:
    left_out = ", ".join(f"{n} with {reason}" for reason, n in unusable.items())
    return WorkloadFileError(f"{trace.path} has no usable requests" + (f" ({left_out})" if left_out else ""))


def read_recorded(trace: Trace) -> tuple[LengthSample, dict[str, Any]]:
    """Return the lengths of a trace, and what identifies them in a run's manifest."""
    lengths = sample_lengths(trace)
    identity = {"trace_sha256": sha256_of(trace.path), "token_counts": trace.token_counts}
    return lengths, lengths.definition() | identity
