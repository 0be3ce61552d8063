"""Token lengths of a workload as one discrete joint distribution of (input, output) lengths.

Every workload, whether a formula, a fixed size or a recorded trace, becomes this one type, so that
expectations over lengths are exact sums and sampling is one indexed draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_TAIL = 1e-9
"""Probability left beyond the longest output length of a discretised exponential."""
_EVERY_TOK = 2**18
_BINS_AN_OCTAVE = 1024
"""Lengths above ``_EVERY_TOK`` share bins this fine, so that memory does not grow with the length."""


@dataclass(frozen=True, eq=False)
class LengthDistribution:
    """Joint distribution of input and output lengths in tokens.

    ``input_tok``, ``output_tok`` and ``weight`` have one shared shape ``(n,)``; weights sum to 1.
    """

    input_tok: IntArray
    output_tok: IntArray
    weight: FloatArray

    def __post_init__(self) -> None:
        """Reject shapes, lengths and weights that make no sense."""
        if not (self.input_tok.shape == self.output_tok.shape == self.weight.shape) or self.weight.ndim != 1:
            raise ValueError("input_tok, output_tok and weight must be one-dimensional and of equal length")
        if self.weight.size == 0:
            raise ValueError("a length distribution needs at least one length")
        if self.input_tok.min() < 1 or self.output_tok.min() < 1:
            raise ValueError("lengths must be at least 1 token")
        if self.weight.min() < 0 or not np.isclose(self.weight.sum(), 1.0):
            raise ValueError("weights must be non-negative and sum to 1")

    @property
    def mean_output_tok(self) -> float:
        """Mean output length in tokens."""
        return float(self.weight @ self.output_tok)

    @property
    def mean_input_tok(self) -> float:
        """Mean input length in tokens."""
        return float(self.weight @ self.input_tok)

    @property
    def median_output_tok(self) -> float:
        """Smallest output length that at least half of all queries do not exceed."""
        order = np.argsort(self.output_tok, kind="stable")
        cumulative = np.cumsum(self.weight[order])
        return float(self.output_tok[order][np.searchsorted(cumulative, 0.5 - 1e-12)])

    def sample(self, rng: np.random.Generator, n: int) -> tuple[IntArray, IntArray]:
        """Draw ``n`` queries; returns input and output lengths, each of shape ``(n,)``."""
        return self._draw(rng, n, self._cumulative)

    def sample_length_biased(self, rng: np.random.Generator, n: int) -> tuple[IntArray, IntArray]:
        """Draw the queries in flight at an instant: each with a chance proportional to its output length."""
        return self._draw(rng, n, self._cumulative_length_biased)

    @cached_property
    def _cumulative(self) -> FloatArray:
        return np.cumsum(self.weight)

    @cached_property
    def _cumulative_length_biased(self) -> FloatArray:
        return np.cumsum(self.weight * self.output_tok)

    def _draw(self, rng: np.random.Generator, n: int, cumulative: FloatArray) -> tuple[IntArray, IntArray]:
        rows = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
        rows = np.minimum(rows, self.weight.size - 1)
        return self.input_tok[rows], self.output_tok[rows]

    def capped(self, context_tok: int) -> tuple[LengthDistribution, float]:
        """Cap outputs so that input plus output fits ``context_tok``; returns the capped share too."""
        room = context_tok - self.input_tok
        if room.min() < 1:
            raise ValueError(f"an input of {int(self.input_tok.max())} tokens leaves no room in {context_tok}")
        share = float(self.weight[self.output_tok > room].sum())
        return LengthDistribution(self.input_tok, np.minimum(self.output_tok, room), self.weight), share


def exponential_lengths(median_output_tok: float, input_tok: int) -> LengthDistribution:
    """Exponential output lengths at a fixed input length, rounded, at least 1 (paper, section 2).

    The probability of ``k`` is that of the interval ``(k - 1/2, k + 1/2]``; 1 also takes everything below. Above
    262,144 tokens, lengths within 0.07% of each other share the one in their middle.
    """
    if median_output_tok <= 0:
        raise ValueError(f"median_output_tok must be positive, not {median_output_tok}")
    mean_tok = median_output_tok / np.log(2.0)
    longest = max(1, int(np.ceil(-mean_tok * np.log(_TAIL))))
    last_tok = _last_of_bins(longest)
    first_tok = np.concatenate(([1], last_tok[:-1] + 1))
    survival = np.concatenate(([1.0], np.exp(-(last_tok[:-1] + 0.5) / mean_tok), [0.0]))
    output_tok = (first_tok + last_tok) // 2
    return LengthDistribution(np.full(output_tok.size, input_tok, dtype=np.int64), output_tok, -np.diff(survival))


def _last_of_bins(longest: int) -> IntArray:
    """Return the last length of each bin: every length, and above ``_EVERY_TOK`` ``_BINS_AN_OCTAVE`` to a doubling."""
    every = np.arange(1, min(longest, _EVERY_TOK) + 1, dtype=np.int64)
    if longest <= _EVERY_TOK:
        return every
    bins = np.arange(1, _BINS_AN_OCTAVE * np.log2(longest / _EVERY_TOK))
    return np.concatenate((every, np.rint(_EVERY_TOK * 2 ** (bins / _BINS_AN_OCTAVE)).astype(np.int64), [longest]))


def fixed_lengths(input_tok: int, output_tok: int) -> LengthDistribution:
    """Return the distribution in which every query has the same lengths."""
    return LengthDistribution(np.array([input_tok]), np.array([output_tok]), np.array([1.0]))


def empirical_lengths(input_tok: npt.ArrayLike, output_tok: npt.ArrayLike) -> LengthDistribution:
    """Return the recorded queries themselves, each equally likely; both arrays have shape ``(n,)``."""
    inputs = np.asarray(input_tok, dtype=np.int64)
    return LengthDistribution(inputs, np.asarray(output_tok, dtype=np.int64), np.full(inputs.shape, 1.0 / inputs.size))
