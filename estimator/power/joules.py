"""Split measured joules per query into prefill, decode and attention by their dependence on the two lengths.

    J = a L_in + b L_out + c L_out (L_in + L_out / 2),    a, b, c >= 0

with a the joules of an input token (prefill), b those of an output token (decode: weights and all that does not
depend on context) and c those of an output token per token of its context (attention).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from scipy.special import stdtrit

FloatArray = npt.NDArray[np.float64]

MAX_CONDITION = 30.0
"""Condition index of the scaled regressors above which they count as collinear (Belsley, Kuh and Welsch 1980)."""

_RANK_CONDITION = 1e8


@dataclass(frozen=True)
class EnergyCell:
    """One fixed-length cell: lengths in tokens, mean joules per query at the boundary of its measurement."""

    input_tok: float
    output_tok: float
    joules_per_query: float


@dataclass(frozen=True)
class JouleTerm:
    """One cost with its 95% interval, which starts at 0 where the cost itself came out as 0."""

    value: float
    low_95: float
    high_95: float
    unit: str


@dataclass(frozen=True)
class JouleSplit:
    """The three costs, how well they fit, and what a reader must know; terms are None where they cannot be had."""

    prefill: JouleTerm | None
    decode: JouleTerm | None
    attention: JouleTerm | None
    residual_sd_rel: float | None
    dof: int | None
    condition_index: float | None
    n_cells: int
    reason: str | None
    """Why there are no terms; None where there are."""
    notes: tuple[str, ...] = ()


def split_joules(cells: Sequence[EnergyCell]) -> JouleSplit:
    """Return the three costs by nonnegative least squares on relative errors, with Student-t 95% intervals.

    The intervals of positive costs hold the others at their bound; the upper limit of a cost at its bound of 0 is the
    half width of its interval in the unconstrained fit. Where the cells are fewer than four, or the three terms vary
    together over them, the terms are None and ``reason`` says what is missing; where they nearly do, ``notes`` says
    so. Raises ValueError naming the cell, from 1, whose lengths or joules are not positive.

    >>> grid = [(i, o) for i in (200, 1000, 4000) for o in (100, 800, 3000)]
    >>> cells = [EnergyCell(i, o, 0.02 * i + 0.5 * o + 1e-4 * o * (i + o / 2)) for i, o in grid]
    >>> terms = split_joules(cells)
    >>> [round(term.value, 9) for term in (terms.prefill, terms.decode, terms.attention)]
    [0.02, 0.5, 0.0001]
    """
    inputs, outputs, joules = _columns(cells)
    design = np.column_stack([inputs, outputs, outputs * (inputs + outputs / 2)]) / joules[:, None]
    if len(cells) < 4:
        return _none(cells, None, f"{len(cells)} cell(s): three costs with an error need at least four")
    scale = np.linalg.norm(design, axis=0)
    condition = float(np.linalg.cond(design / scale))
    if condition > _RANK_CONDITION:
        return _none(cells, None, "the lengths vary together: measure a grid that changes each length alone")
    scaled, _ = nnls(design / scale, np.ones(len(cells)))
    low, high, residual_sd = _intervals(design / scale, scaled)
    prefill, decode, attention = (
        JouleTerm(float(value), float(max(0.0, below)), float(max(0.0, above)), unit)
        for value, below, above, unit in zip(
            scaled / scale, low / scale, high / scale,
            ("J per input token", "J per output token", "J per output token and token of context"),
            strict=True,
        )
    )  # fmt: skip
    return JouleSplit(
        prefill, decode, attention, residual_sd, len(cells) - 3, condition, len(cells), None, _notes(scaled, condition)
    )


def _columns(cells: Sequence[EnergyCell]) -> tuple[FloatArray, FloatArray, FloatArray]:
    for number, cell in enumerate(cells, start=1):
        values = (cell.input_tok, cell.output_tok, cell.joules_per_query)
        if not all(0 < value < np.inf for value in values):
            raise ValueError(f"cell {number}: lengths and joules per query must be positive, got {values}")
    table = np.array([(cell.input_tok, cell.output_tok, cell.joules_per_query) for cell in cells], dtype=np.float64)
    inputs, outputs, joules = table.reshape(-1, 3).T
    return inputs, outputs, joules


def _intervals(design: FloatArray, coef: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """Return the 95% bounds of the costs and the relative residual standard deviation."""
    dof = len(design) - 3
    quantile = float(stdtrit(dof, 0.975))
    free = np.flatnonzero(coef)
    sd = _residual_sd(design, coef, dof)
    width = np.zeros(3)
    width[free] = quantile * sd * np.sqrt(np.diag(np.linalg.inv(design[:, free].T @ design[:, free])))
    low, high = coef - width, coef + width
    at_bound = np.flatnonzero(coef == 0)
    unbounded = np.asarray(np.linalg.lstsq(design, np.ones(len(design)), rcond=None)[0], np.float64)
    unbounded_se = _residual_sd(design, unbounded, dof) * np.sqrt(np.diag(np.linalg.inv(design.T @ design)))
    high[at_bound] = quantile * unbounded_se[at_bound]
    return low, high, sd


def _residual_sd(design: FloatArray, coef: FloatArray, dof: int) -> float:
    return float(np.sqrt(np.sum((1 - design @ coef) ** 2) / dof))


def _notes(coef: FloatArray, condition: float) -> tuple[str, ...]:
    names = ("prefill", "decode", "attention")
    notes = [
        f"the {name} cost is at its bound of 0: its upper limit is the half width of the unbounded fit"
        for name, value in zip(names, coef, strict=True)
        if value == 0
    ]
    if condition > MAX_CONDITION:
        notes.append(
            f"the costs can hardly be told apart on these lengths (condition index {condition:.0f}, above "
            f"{MAX_CONDITION:.0f}): their sum is known better than each; measure a wider grid of both lengths"
        )
    return tuple(notes)


def _none(cells: Sequence[EnergyCell], condition: float | None, reason: str) -> JouleSplit:
    return JouleSplit(None, None, None, None, None, condition, len(cells), reason)
