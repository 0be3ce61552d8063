"""Fit throughput models to benchmark rows by least squares on log TPS, weighted where rows carry errors.

Row i has variance s_i^2 + tau^2 in log TPS: its own error and what the form misses. Where some rows carry an error
and others do not, these get the root mean square of the known ones. tau^2
is the moment estimate of Paule and Mandel, the root of ``sum r_i^2 / (s_i^2 + tau^2) = n - k`` with the residuals
r_i of the fit at that tau^2, or 0 where the left side is smaller already. Without any s_i this is ordinary least
squares and tau^2 its residual variance. The residual standard deviation that a model reports is that of another
row like these: the root of tau^2 + mean(s_i^2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

from estimator.throughput.forms import FORMS, FormName, InsufficientRowsError, Points, Solution
from estimator.throughput.s1 import TpsRow
from estimator.throughput.tps import TpsModel

__all__ = ["InsufficientRowsError", "RowFit", "excess_variance", "fit_oviedo_preset", "fit_rows", "fit_tps"]

FloatArray = npt.NDArray[np.float64]

EXACT_SD_LOG = 1e-9
"""Residual standard deviation of log TPS below which a form meets its rows but for rounding, as no measurement does."""


@dataclass(frozen=True)
class RowFit:
    """A form fitted to rows: ``points.weight`` holds the weights of the last iteration."""

    form: FormName
    points: Points
    solution: Solution
    dof: int
    residual_sd_log: float | None
    """None where no degrees of freedom are left, and with it every error."""
    cov: FloatArray | None
    """Covariance of all coefficients, 0 for those that are not free."""

    @property
    def free_gradient(self) -> FloatArray:
        """Derivative of log TPS by the free coefficients at the rows, shape ``(n, k)``."""
        gradient = FORMS[self.form].gradient(self.solution.coef, self.points.input_tok, self.points.output_tok)
        return gradient[:, list(self.solution.free)]

    @property
    def residual_log(self) -> FloatArray:
        """Observed less fitted log TPS, shape ``(n,)``."""
        return _residual(self.form, self.solution, self.points)


def fit_tps(rows: Sequence[TpsRow], form: FormName, *, cap: bool) -> TpsModel:
    """Return ``form`` fitted to the rows of one model, capped at the largest observed TPS if ``cap``.

    ``constant`` is the largest observed TPS itself. A form whose length never varies over the rows keeps that
    coefficient at 0 and says so in ``notes``. Raises InsufficientRowsError where the rows leave a coefficient
    open, and ValueError where they mix models or node sizes.

    >>> from estimator.throughput.s1 import rows_for
    >>> model = fit_tps(rows_for("Mixtral 8x22B"), "roofline", cap=False)
    >>> model.dof, round(float(model.predict_tok_per_s(500, 2000)), -3)
    (6.0, 21000.0)
    """
    fit = None if form == "constant" else fit_rows(rows, form)
    largest = float(max(row.tps_tok_per_s for row in _one_model(rows)))
    lengths = [(row.input_tok, row.output_tok) for row in rows]
    inputs, outputs = zip(*lengths, strict=True)
    coef = (float(np.log(largest)),) if fit is None else tuple(fit.solution.coef.tolist())
    return TpsModel(
        model=rows[0].model,
        form=form,
        coef=coef,
        cov=None if fit is None or fit.cov is None else tuple(tuple(row) for row in fit.cov.tolist()),
        residual_sd_log=None if fit is None else fit.residual_sd_log,
        dof=0 if fit is None else fit.dof,
        cap_tok_per_s=largest if cap else None,
        n_rows=len(rows),
        gpus=rows[0].gpus,
        input_range_tok=(min(inputs), max(inputs)),
        output_range_tok=(min(outputs), max(outputs)),
        source="; ".join(dict.fromkeys(row.source for row in rows)),
        notes=("the largest observed TPS at every length: its error is unknown",)
        if fit is None
        else (*_notes(fit), *_copies(rows)),
    )


def fit_oviedo_preset(rows: Sequence[TpsRow]) -> TpsModel:
    """Return the paper's model of the rows: S.II with its cap, or the largest TPS of fewer than three rows.

    >>> from estimator.throughput.s1 import rows_for
    >>> fit_oviedo_preset(rows_for("Llama-3.1 Nemotron Ultra 253B")).form
    'constant'
    >>> fit_oviedo_preset(rows_for("DeepSeek-R1")).dof
    0.0
    """
    return fit_tps(rows, "constant" if len(rows) < 3 else "oviedo", cap=True)


def fit_rows(rows: Sequence[TpsRow], form: FormName) -> RowFit:
    """Return ``form`` fitted to the rows of one model with what diagnostics need; errors as in ``fit_tps``."""
    own_sd = _own_sd_log(_one_model(rows))
    points = Points(
        np.array([row.input_tok for row in rows], dtype=np.float64),
        np.array([row.output_tok for row in rows], dtype=np.float64),
        np.log([row.tps_tok_per_s for row in rows]),
        np.ones(len(rows)),
    )
    solution = FORMS[form].solve(points)
    dof = len(rows) - solution.n_coef
    if dof == 0:
        return RowFit(form, points, solution, 0, None, None)
    if not own_sd.any():
        tau2 = float(np.sum(_residual(form, solution, points) ** 2)) / dof
    else:
        tau2 = excess_variance(lambda variance: _residual(form, *_at(form, points, variance)), own_sd**2, dof)
        solution, points = _at(form, points, own_sd**2 + tau2)
        dof = len(rows) - solution.n_coef
    fit = RowFit(form, points, solution, dof, float(np.sqrt(tau2 + np.mean(own_sd**2))), None)
    return replace(fit, cov=_covariance(fit, own_sd**2 + tau2))


def excess_variance(residual: Callable[[FloatArray], FloatArray], own_variance: FloatArray, dof: float) -> float:
    """Return the tau^2 of Paule and Mandel for rows whose known variances, shape ``(n,)``, may include zeros.

    ``residual`` gives the residuals of the fit weighted with the inverse of a vector of variances. With equal
    known variances the answer is the residual variance less the known one, or 0:

    >>> values = np.array([1.0, 2.0, 4.0, 5.0])
    >>> round(excess_variance(lambda variance: values - values.mean(), np.full(4, 0.5), dof=3), 9)
    2.833333333
    """
    spread = float(np.sum(residual(np.ones_like(own_variance)) ** 2))

    def excess(tau2: float) -> float:
        variance = own_variance + tau2
        return float(np.sum(residual(variance) ** 2 / variance)) - dof

    smallest, largest = 1e-12 * spread, spread / dof
    if spread == 0 or excess(smallest) <= 0:
        return 0.0
    while excess(largest) > 0:
        largest *= 2
    return float(brentq(excess, smallest, largest, xtol=1e-9 * largest, rtol=1e-9))


def _own_sd_log(rows: Sequence[TpsRow]) -> FloatArray:
    known = [row.tps_sd_log for row in rows if row.tps_sd_log is not None]
    typical = float(np.sqrt(np.mean(np.square(known)))) if known else 0.0
    return np.array([typical if row.tps_sd_log is None else row.tps_sd_log for row in rows])


def _one_model(rows: Sequence[TpsRow]) -> Sequence[TpsRow]:
    if not rows:
        raise InsufficientRowsError("a throughput model needs at least one row, got none")
    if len({(row.model, row.gpus) for row in rows}) > 1:
        raise ValueError("the rows of one throughput model must share one model name and one GPU count")
    return rows


def _at(form: FormName, points: Points, variance: FloatArray) -> tuple[Solution, Points]:
    weighted = replace(points, weight=1 / variance)
    return FORMS[form].solve(weighted), weighted


def _residual(form: FormName, solution: Solution, points: Points) -> FloatArray:
    return points.log_tps - FORMS[form].log_tps(solution.coef, points.input_tok, points.output_tok)


def _covariance(fit: RowFit, variance: FloatArray) -> FloatArray:
    """Return the inverse of the weighted Gram matrix of the free coefficients' derivatives, (X' V^-1 X)^-1."""
    free = list(fit.solution.free)
    gradient = fit.free_gradient
    scale = np.linalg.norm(gradient, axis=0)
    _, factor = np.linalg.qr(gradient / scale / np.sqrt(_floored(variance))[:, None])
    root = np.linalg.inv(factor) / scale[:, None]
    cov = np.zeros((fit.solution.coef.size, fit.solution.coef.size))
    cov[np.ix_(free, free)] = root @ root.T
    return cov


def _floored(variance: FloatArray) -> FloatArray:
    """Keep the variances of rows that a form meets exactly above 0."""
    return np.maximum(variance, np.finfo(np.float64).tiny)


def _notes(fit: RowFit) -> tuple[str, ...]:
    notes = [
        f"all rows have {lengths[0]:.0f} {kind} tokens: the model holds only at that {kind} length"
        for kind, lengths in (("input", fit.points.input_tok), ("output", fit.points.output_tok))
        if np.ptp(lengths) == 0
    ]
    notes += fit.solution.notes
    if fit.dof == 0:
        n_rows = len(fit.points.log_tps)
        notes.append(f"as many coefficients as rows ({n_rows}): no degrees of freedom are left, its error is unknown")
    elif fit.residual_sd_log is not None and fit.residual_sd_log < EXACT_SD_LOG:
        notes.append("the form meets every row exactly, as no measurement would: its error of 0 is not to be believed")
    return tuple(notes)


def _copies(rows: Sequence[TpsRow]) -> tuple[str, ...]:
    n_copies = len(rows) - len(set(rows))
    if n_copies == 0:
        return ()
    return (f"{n_copies} row(s) repeat another one exactly and are counted as measurements of their own: "
            "if they are copies, all errors are too small",)  # fmt: skip
