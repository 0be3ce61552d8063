"""The three kinds of length shapes a workload can have, each giving a distribution at a multiplier.

A multiplier scales output lengths only, as test-time scaling does; the input stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from estimator.lengths import (
    IntArray,
    LengthDistribution,
    empirical_lengths,
    exponential_lengths,
    fixed_lengths,
)


class Shape(Protocol):
    """Lengths of a workload before any multiplier."""

    def lengths(self, multiplier: float) -> LengthDistribution:
        """Return the joint length distribution with output lengths multiplied."""
        ...

    def definition(self) -> dict[str, Any]:
        """Return what identifies the shape in a run's manifest."""
        ...


@dataclass(frozen=True)
class ExponentialShape:
    """Exponential output lengths at a fixed input length (paper, section 2)."""

    input_tok: int
    median_output_tok: float

    def lengths(self, multiplier: float) -> LengthDistribution:
        """Return the distribution whose median output is multiplied."""
        return exponential_lengths(self.median_output_tok * multiplier, self.input_tok)

    def definition(self) -> dict[str, Any]:
        """Return input length and median output length before any multiplier."""
        return {"input_tok": self.input_tok, "median_output_tok": self.median_output_tok}


@dataclass(frozen=True)
class FixedShape:
    """Every query has the same lengths."""

    input_tok: int
    output_tok: int

    def lengths(self, multiplier: float) -> LengthDistribution:
        """Return the single length, multiplied and rounded."""
        return fixed_lengths(self.input_tok, max(1, round(self.output_tok * multiplier)))

    def definition(self) -> dict[str, Any]:
        """Return both lengths before any multiplier."""
        return {"input_tok": self.input_tok, "output_tok": self.output_tok}


@dataclass(frozen=True, eq=False)
class RecordedShape:
    """Queries of a recorded trace, input and output lengths kept together; arrays of shape ``(n,)``.

    ``origin`` says which trace, and how many of its requests these are and why.
    """

    input_tok: IntArray
    output_tok: IntArray
    origin: Mapping[str, Any]

    def lengths(self, multiplier: float) -> LengthDistribution:
        """Return the recorded queries, each equally likely, with outputs multiplied and rounded."""
        scaled = np.maximum(1, np.rint(self.output_tok * multiplier)).astype(np.int64)
        return empirical_lengths(self.input_tok, scaled)

    def definition(self) -> dict[str, Any]:
        """Return where the queries come from."""
        return dict(self.origin)
