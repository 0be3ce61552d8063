"""How far a fitted throughput model can be trusted: robust errors, and what single rows do to it.

Everything is taken from the fit's linearisation at its optimum, which for the linear forms is the fit itself: the
rows' derivatives by the free coefficients are the regressors, weighted as in the fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from estimator.throughput.fit import RowFit
from estimator.throughput.forms import FORMS

FloatArray = npt.NDArray[np.float64]

STUDENTIZED_LIMIT = 3.0

_ALONE = 1e-9
"""A leverage this close to 1 is that of a row which alone determines some coefficient: its residual says nothing."""


@dataclass(frozen=True)
class CoefficientError:
    """A coefficient with its classical and its heteroscedasticity-consistent (HC3) standard error.

    Both are None where the coefficient is fixed at a bound or 0, and the robust one where a row determines some
    coefficient alone.
    """

    name: str
    value: float
    standard_error: float | None
    hc3_standard_error: float | None


@dataclass(frozen=True)
class RowDiagnostics:
    """What one row does to the fit; None where too few degrees of freedom are left to say."""

    residual_log: float
    """Observed less fitted log TPS."""
    leverage: float
    studentized_residual: float | None
    """Externally studentized: by the residual spread of the fit without this row."""
    cooks_distance: float | None
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Diagnostics:
    """Errors of the coefficients and influence of the rows, both in the fit's order."""

    coefficients: tuple[CoefficientError, ...]
    rows: tuple[RowDiagnostics, ...]
    leverage_limit: float
    """2 k / n: twice the mean leverage."""
    cooks_limit: float
    """4 / n."""


def diagnose(fit: RowFit) -> Diagnostics:
    """Return robust errors and influence measures of a fit (MacKinnon and White 1985; Belsley, Kuh and Welsch 1980).

    A row is flagged for a leverage above 2 k / n, a Cook's distance above 4 / n, or a studentized residual
    beyond 3. Raises ValueError where the fit has no degrees of freedom: each row is then met exactly.

    >>> from estimator.throughput.fit import fit_rows
    >>> from estimator.throughput.s1 import rows_for
    >>> [round(row.leverage, 2) for row in diagnose(fit_rows(rows_for("Mixtral 8x22B"), "oviedo")).rows[:3]]
    [0.59, 0.3, 0.42]
    """
    if fit.dof == 0 or fit.cov is None:
        raise ValueError("a fit without degrees of freedom meets every row exactly: there is nothing to diagnose")
    design, residual, scale = _whitened(fit)
    results = _ols(design, residual)
    influence = results.get_influence()
    n, k = design.shape
    leverage = influence.hat_matrix_diag
    alone = leverage > 1 - _ALONE
    limits = (2 * k / n, 4 / n)
    with np.errstate(divide="ignore", invalid="ignore"):
        cooks = np.where(alone, np.nan, influence.cooks_distance[0])
        internal = np.where(alone, np.nan, influence.resid_studentized_internal)
        studentized = internal * np.sqrt((n - k - 1) / (n - k - internal**2))
        hc3_se = np.full(k, np.nan) if alone.any() else results.HC3_se / scale
    rows = tuple(
        _row(*values, limits)
        for values in zip(
            fit.residual_log.tolist(), leverage.tolist(), _defined(cooks),
            _defined(studentized) if n - k > 1 else [None] * n, strict=True,
        )
    )  # fmt: skip
    return Diagnostics(_coefficients(fit, hc3_se), rows, *limits)


def _whitened(fit: RowFit) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the weighted derivatives with columns of unit length, the weighted residuals and the column lengths."""
    root = np.sqrt(fit.points.weight / fit.points.weight.mean())
    design = fit.free_gradient * root[:, None]
    scale = np.linalg.norm(design, axis=0)
    return design / scale, fit.residual_log * root, scale


def _ols(design: FloatArray, residual: FloatArray) -> Any:
    from statsmodels.regression.linear_model import OLS  # type: ignore[import-untyped]

    return OLS(residual, design).fit()


def _defined(values: FloatArray) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]


def _row(
    residual_log: float, leverage: float, cook: float | None, student: float | None, limits: tuple[float, float]
) -> RowDiagnostics:
    reasons = {
        "leverage": leverage > min(limits[0], 1 - _ALONE),
        "influence": cook is not None and cook > limits[1],
        "outlier": student is not None and abs(student) > STUDENTIZED_LIMIT,
    }
    return RowDiagnostics(residual_log, leverage, student, cook, tuple(name for name, on in reasons.items() if on))


def _coefficients(fit: RowFit, hc3_se: FloatArray) -> tuple[CoefficientError, ...]:
    robust = dict(zip(fit.solution.free, hc3_se.tolist(), strict=True))
    classical = np.zeros(len(fit.solution.coef)) if fit.cov is None else np.sqrt(np.diag(fit.cov))
    return tuple(
        CoefficientError(
            name,
            float(fit.solution.coef[index]),
            float(classical[index]) if index in robust else None,
            robust[index] if index in robust and math.isfinite(robust[index]) else None,
        )
        for index, name in enumerate(FORMS[fit.form].coefficient_names)
    )
