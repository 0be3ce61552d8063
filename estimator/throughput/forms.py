"""The named forms of a throughput model: how output tokens per second depend on the two lengths.

=================  ====================================================================================  ============
name               formula (natural logarithms; lengths in tokens, TPS in tok/s of the whole node)       coefficients
=================  ====================================================================================  ============
``oviedo``         log TPS = b0 + b1 log L_in + b2 log L_out (S.II)                                      3
``total_length``   log TPS = b0 + b1 log(L_in + L_out) + b2 log L_out                                    3
``hinged``         log TPS = b0 + b1 log L_in + b2 log L_out + b3 max(0, log(L_out / L_in) - k)          5, k included
``roofline``       1 / TPS = a + b L_in / L_out + c (L_in + L_out / 2), with a, b, c >= 0                3
``constant``       log TPS = b0                                                                          1
=================  ====================================================================================  ============

In ``roofline`` a node spends ``a`` seconds per output token on weights and everything else that does not
depend on lengths, ``b`` per input token on prefill, which the output tokens share, and ``c`` per token of
context on attention; the mean context while a query is answered is ``L_in + L_out / 2``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

FloatArray = npt.NDArray[np.float64]

FormName = Literal["oviedo", "total_length", "hinged", "roofline", "constant"]

_RANK_TOL = 1e-8
_STEP_TOL = 1e-10
_ROUNDING = 1e-12
_MAX_STEPS = 500


class InsufficientRowsError(ValueError):
    """The rows do not determine the model; the message says what is missing."""


@dataclass(frozen=True)
class Points:
    """What a form is fitted to: lengths in tokens, log TPS and weights (inverse variances), each of shape ``(n,)``."""

    input_tok: FloatArray
    output_tok: FloatArray
    log_tps: FloatArray
    weight: FloatArray


@dataclass(frozen=True)
class Solution:
    """Coefficients that minimise the weighted squares of log TPS, and which of them the points determined."""

    coef: FloatArray
    free: tuple[int, ...]
    n_coef: int
    """Coefficients that were sought: the free ones and those that ended at a bound."""
    notes: tuple[str, ...] = ()


class Form(Protocol):
    """A formula of log TPS with its coefficients; ``formula`` and ``coefficient_names`` are for people."""

    @property
    def name(self) -> FormName:
        """Name in files and options."""

    @property
    def formula(self) -> str:
        """The formula as text."""

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        """Names in the order of the coefficients."""

    def log_tps(self, coef: FloatArray, input_tok: FloatArray, output_tok: FloatArray) -> FloatArray:
        """Return log TPS at lengths of one shape, in that shape."""

    def gradient(self, coef: FloatArray, input_tok: FloatArray, output_tok: FloatArray) -> FloatArray:
        """Return the derivative of log TPS by each coefficient, shape ``(..., k)`` for lengths of shape ``(...)``."""

    def solve(self, points: Points) -> Solution:
        """Fit the coefficients; raises InsufficientRowsError where the points leave one of them open."""


@dataclass(frozen=True)
class LinearForm:
    """A form that is linear in its coefficients: weighted least squares on log TPS.

    A length that never varies over the points cannot have a coefficient of its own, which then stays 0.
    """

    name: FormName
    formula: str
    coefficient_names: tuple[str, ...]
    regressors: Callable[[FloatArray, FloatArray], tuple[FloatArray, ...]]
    """What the coefficients after the first multiply."""

    def log_tps(self, coef: FloatArray, input_tok: FloatArray, output_tok: FloatArray) -> FloatArray:
        """Return log TPS at lengths of one shape, in that shape."""
        log_tps = np.full(input_tok.shape, coef[0])
        for slope, values in zip(coef[1:], self.regressors(input_tok, output_tok), strict=True):
            log_tps += slope * values
        return log_tps

    def gradient(self, coef: FloatArray, input_tok: FloatArray, output_tok: FloatArray) -> FloatArray:
        """Return the regressors themselves, shape ``(..., k)``."""
        del coef
        return np.stack([np.ones_like(input_tok), *self.regressors(input_tok, output_tok)], axis=-1)

    def solve(self, points: Points) -> Solution:
        """Fit by weighted least squares."""
        design = self.gradient(np.empty(0), points.input_tok, points.output_tok)
        free = _varying(design)
        _need_rows(self.name, len(free), points)
        _need_rank(design[:, free])
        coef = np.zeros(design.shape[1])
        coef[free] = _least_squares(design[:, free], points)[0]
        return Solution(coef, tuple(free), len(free))


@dataclass(frozen=True)
class HingedForm:
    """The paper's form with one bend in log(L_out / L_in), at a knot that the points choose.

    Between two neighbouring values of log(L_out / L_in) the sum of squares is that of a linear fit, so the
    knot is found exactly (Hudson, JASA 61, 1966): the best of all interior optima and of the values themselves.
    """

    name: FormName = "hinged"
    formula: str = "log TPS = b0 + b1 log L_in + b2 log L_out + b3 max(0, log(L_out / L_in) - k)"
    coefficient_names: tuple[str, ...] = ("b0", "b1", "b2", "b3", "k")

    def log_tps(self, coef: FloatArray, input_tok: FloatArray, output_tok: FloatArray) -> FloatArray:
        """Return log TPS at lengths of one shape, in that shape."""
        log_in, log_out = np.log(input_tok), np.log(output_tok)
        beyond = np.maximum(0.0, log_out - log_in - coef[4])
        return np.asarray(coef[0] + coef[1] * log_in + coef[2] * log_out + coef[3] * beyond)

    def gradient(self, coef: FloatArray, input_tok: FloatArray, output_tok: FloatArray) -> FloatArray:
        """Return the derivative of log TPS by each coefficient; that by the knot is -b3 beyond it and 0 before."""
        log_in, log_out = np.log(input_tok), np.log(output_tok)
        beyond = np.maximum(0.0, log_out - log_in - coef[4])
        return np.stack([np.ones_like(log_in), log_in, log_out, beyond, -coef[3] * (beyond > 0)], axis=-1)

    def solve(self, points: Points) -> Solution:
        """Fit slopes and knot by weighted least squares."""
        log_in, log_out = np.log(points.input_tok), np.log(points.output_tok)
        lines = np.column_stack([np.ones_like(log_in), log_in, log_out])
        kept = _varying(lines)
        free = (*kept, 3, 4)
        _need_rows(self.name, len(free), points)
        fits = [
            (sum_squares, knot, slopes)
            for knot in _knots(lines[:, kept], log_out - log_in, points)
            for slopes, sum_squares in _hinge_at(knot, lines[:, kept], log_out - log_in, points)
        ]
        if not fits:
            raise InsufficientRowsError(
                "the rows do not determine a hinge; add rows on either side of L_out = L_in that vary both lengths"
            )
        _, knot, slopes = min(fits, key=lambda fit: fit[0])
        coef = np.zeros(5)
        coef[kept], coef[3], coef[4] = slopes[:-1], slopes[-1], knot
        _need_rank(self.gradient(coef, points.input_tok, points.output_tok)[:, list(free)])
        return Solution(coef, free, len(free))


@dataclass(frozen=True)
class RooflineForm:
    """Node-seconds per output token as a sum of costs that cannot be negative, fitted on log TPS.

    Gauss-Newton whose every step is a nonnegative least-squares problem, so that a cost that the points do
    not show comes out as exactly 0. Such a coefficient still counts as one that was sought, but has no error of
    its own: the errors are those of the others.
    """

    name: FormName = "roofline"
    formula: str = "1 / TPS = a + b L_in / L_out + c (L_in + L_out / 2), with a, b, c >= 0"
    coefficient_names: tuple[str, ...] = ("a", "b", "c")

    def log_tps(self, coef: FloatArray, input_tok: FloatArray, output_tok: FloatArray) -> FloatArray:
        """Return log TPS at lengths of one shape, in that shape."""
        node_s_per_tok = coef[0] + coef[1] * (input_tok / output_tok) + coef[2] * (input_tok + output_tok / 2)
        return np.asarray(-np.log(node_s_per_tok))

    def gradient(self, coef: FloatArray, input_tok: FloatArray, output_tok: FloatArray) -> FloatArray:
        """Return the derivative of log TPS by each coefficient."""
        design = _roofline_design(input_tok, output_tok)
        return np.asarray(-design / (design @ coef)[..., None])

    def solve(self, points: Points) -> Solution:
        """Fit the three costs by nonnegative least squares on log TPS."""
        _need_rows(self.name, 3, points)
        design = _roofline_design(points.input_tok, points.output_tok)
        _need_rank(design)
        scale = np.linalg.norm(design, axis=0)
        coef = _nonnegative_gauss_newton(design / scale, points) / scale
        names = ("fixed cost a", "prefill cost b", "attention cost c")
        notes = tuple(
            f"the {name} is at its bound of 0: the rows show no such cost, and its error is in no interval"
            for name, value in zip(names, coef, strict=True)
            if value == 0
        )
        return Solution(coef, tuple(np.flatnonzero(coef).tolist()), 3, notes)


def _roofline_design(input_tok: FloatArray, output_tok: FloatArray) -> FloatArray:
    return np.stack([np.ones_like(input_tok), input_tok / output_tok, input_tok + output_tok / 2], axis=-1)


def _nonnegative_gauss_newton(design: FloatArray, points: Points) -> FloatArray:
    """Minimise the weighted squares of log TPS + log(design @ coef) over coef >= 0.

    With t = design @ coef and residual r, the linearised problem is ``min |sqrt(w) (design / t @ new - (1 - r))|``.
    """
    root = np.sqrt(points.weight)

    def sum_squares(coef: FloatArray) -> float:
        with np.errstate(divide="ignore"):
            return float(points.weight @ (points.log_tps + np.log(design @ coef)) ** 2)

    relative = design * np.exp(points.log_tps)[:, None]
    coef, _ = nnls(relative, np.ones_like(root))
    for _ in range(_MAX_STEPS):
        node_s_per_tok = design @ coef
        residual = points.log_tps + np.log(node_s_per_tok)
        target, _ = nnls(design * (root / node_s_per_tok)[:, None], root * (1 - residual))
        step, limit = target - coef, sum_squares(coef) * (1 + _ROUNDING) + _ROUNDING**2 * points.weight.sum()
        share = 1.0
        while share > _ROUNDING and sum_squares(coef + share * step) > limit:
            share /= 2
        coef = np.asarray(coef + share * step)
        if np.max(np.abs(step)) <= _STEP_TOL * np.max(coef):
            return np.where(target == 0, 0.0, coef)
    raise InsufficientRowsError("the roofline form does not settle on these rows: they do not follow it")


def _knots(lines: FloatArray, ratio: FloatArray, points: Points) -> list[float]:
    values = np.unique(ratio)
    knots: list[float] = values[1:-1].tolist()
    for low, high in itertools.pairwise(values.tolist()):
        above = (ratio > low).astype(np.float64)
        design = np.column_stack([lines, ratio * above, above])
        if _has_rank(design):
            solution, _ = _least_squares(design, points)
            knot = -solution[-1] / solution[-2] if solution[-2] else np.inf
            if low < knot < high:
                knots.append(float(knot))
    return knots


def _hinge_at(knot: float, lines: FloatArray, ratio: FloatArray, points: Points) -> list[tuple[FloatArray, float]]:
    """Return the fit with its weighted sum of squares, or nothing where it has no bend or is not determined."""
    design = np.column_stack([lines, np.maximum(0.0, ratio - knot)])
    if not _has_rank(design):
        return []
    slopes, sum_squares = _least_squares(design, points)
    return [(slopes, sum_squares)] if abs(slopes[-1]) > _RANK_TOL else []


def _varying(design: FloatArray) -> list[int]:
    """Return the first column and every other whose value is not the same in all rows."""
    return [0, *(column for column in range(1, design.shape[1]) if np.ptp(design[:, column]) > 0)]


def _least_squares(design: FloatArray, points: Points) -> tuple[FloatArray, float]:
    root = np.sqrt(points.weight)
    solution = np.linalg.lstsq(design * root[:, None], points.log_tps * root, rcond=None)[0]
    return solution, float(points.weight @ (points.log_tps - design @ solution) ** 2)


def _need_rows(name: str, n_coef: int, points: Points) -> None:
    n_rows = len(points.log_tps)
    if n_rows < n_coef:
        raise InsufficientRowsError(
            f"the {name} form has {n_coef} coefficients to find and needs as many rows; got {n_rows}"
        )


def _need_rank(design: FloatArray) -> None:
    if not _has_rank(design):
        raise InsufficientRowsError(
            "input and output length vary together over the rows, so their effects cannot be told apart; "
            "add a row that changes one of them alone"
        )


def _has_rank(design: FloatArray) -> bool:
    norms = np.linalg.norm(design, axis=0)
    return bool(norms.min() > 0) and int(np.linalg.matrix_rank(design / norms, tol=_RANK_TOL)) == design.shape[1]


_OVIEDO = LinearForm(
    "oviedo",
    "log TPS = b0 + b1 log L_in + b2 log L_out",
    ("b0", "b1", "b2"),
    lambda input_tok, output_tok: (np.log(input_tok), np.log(output_tok)),
)
_TOTAL_LENGTH = LinearForm(
    "total_length",
    "log TPS = b0 + b1 log(L_in + L_out) + b2 log L_out",
    ("b0", "b1", "b2"),
    lambda input_tok, output_tok: (np.log(input_tok + output_tok), np.log(output_tok)),
)
_CONSTANT = LinearForm("constant", "log TPS = b0", ("b0",), lambda input_tok, output_tok: ())

FORMS: dict[FormName, Form] = {
    form.name: form for form in (_OVIEDO, _TOTAL_LENGTH, HingedForm(), RooflineForm(), _CONSTANT)
}
REFIT_FORMS: tuple[FormName, ...] = ("oviedo", "total_length", "hinged", "roofline")
"""The forms a refit chooses from; ``constant`` serves the paper's presets alone."""
