"""Partial pooling: throughput models of models with few rows, from what models with many rows have in common.

A form's coefficients are seen as one level and a shape. The level is the log TPS that lengths leave alone; the shape is
how TPS changes with lengths: the slopes, or for the roofline form the logarithms of b / a and c / a. Over models of
one hardware and engine the levels differ by orders of magnitude and the shapes hardly, so that

    level_m ~ flat,    shape_m ~ Normal(mu, diag(v)),    log TPS_mi ~ Normal(f(level_m, shape_m; L_mi), sigma^2).

Empirical Bayes: mu and v come from the well-determined models, those with at least ``MIN_DOF`` more rows than
coefficients and none of these at a bound. For each shape coefficient j, with estimates t_m and their variances u_m,

    tau_j^2 = max(Paule-Mandel excess variance of t_m over u_m, median of u_m)     (between models; never 0)
    mu_j    = sum_m t_m / (u_m + tau_j^2) / sum_m 1 / (u_m + tau_j^2)
    v_j     = tau_j^2 + 1 / sum_m 1 / (u_m + tau_j^2)                              (of a model not among them)

and sigma^2 is their common residual variance. The between-model covariance is taken as diagonal: a handful of
models does not determine correlations. A model's fit is the mode of its posterior (MAP), by Gauss-Newton, with the
covariance of Laplace's approximation, (X' X / sigma^2 + diag(0, 1 / v))^-1. Where the minimum of the objective,
chi-squared with n - 1 degrees of freedom, exceeds n - 1, the rows disagree with the population by more than
expected, and all variances are multiplied by its ratio to n - 1 (Birge). The prior of a model never includes that
model's own rows.

The intervals are rather too wide than too narrow, by the floor under tau and by Birge's factor, which is never below 1:
in simulated populations of two to six models, with one to three rows of a further one, those of nominal 90% hold
92-99% of its other rows, the more the fewer models. A row's own error is added to sigma^2, which holds it already
where the rows behind sigma^2 had errors like it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from estimator.throughput import shapes
from estimator.throughput.fit import EXACT_SD_LOG, InsufficientRowsError, RowFit, excess_variance, fit_rows
from estimator.throughput.forms import FORMS, FormName
from estimator.throughput.s1 import TpsRow
from estimator.throughput.selection import LEVEL
from estimator.throughput.tps import TpsModel

FloatArray = npt.NDArray[np.float64]

POOLED_FORMS: tuple[FormName, ...] = ("oviedo", "total_length", "roofline")
"""Forms that are smooth in their coefficients, as Laplace's approximation needs; the hinged one is not in its knot."""

MIN_DOF = 3
MIN_MODELS = 2

_STEPS = 200
_STEP_TOL = 1e-10


@dataclass(frozen=True)
class Population:
    """What well-determined models have in common; ``shape_*`` have one entry per coefficient after the first."""

    form: FormName
    models: tuple[str, ...]
    shape_mean: FloatArray
    shape_sd: FloatArray
    """Root of v: of the shape of one more model."""
    between_sd: FloatArray
    """tau, spread over models, never below the median standard error of the models' own estimates."""
    residual_sd_log: float
    residual_dof: int
    lengths: FloatArray
    """(input, output) tokens of all rows behind it, shape ``(n, 2)``."""

    def tps_model(
        self, name: str, theta: FloatArray, cov: FloatArray, sd: float, dof: float, n_rows: int, gpus: int,
        lengths: FloatArray, source: str, notes: tuple[str, ...],
    ) -> TpsModel:  # fmt: skip
        """Return the throughput model with this level and shape ``theta``, valid over the range of ``lengths``."""
        jacobian = shapes.jacobian(self.form, theta)
        low, high = lengths.min(axis=0), lengths.max(axis=0)
        return TpsModel(
            model=name,
            form=self.form,
            coef=tuple(shapes.coef_of(self.form, theta).tolist()),
            cov=tuple(tuple(row) for row in (jacobian @ cov @ jacobian.T).tolist()),
            residual_sd_log=sd,
            dof=dof,
            cap_tok_per_s=None,
            n_rows=n_rows,
            gpus=gpus,
            input_range_tok=(int(low[0]), int(high[0])),
            output_range_tok=(int(low[1]), int(high[1])),
            source=source,
            notes=notes,
        )


@dataclass(frozen=True)
class ModelOut:
    """How well a model was predicted from a few of its rows and the shape of the other models alone.

    Over all subsets of ``n_given`` rows and all rows left out of them. The subsets share rows: ``covered`` of
    ``n_predicted`` are not independent, and no binomial interval holds for them.
    """

    model: str
    n_given: int
    n_predicted: int
    mape: float
    rmse_log: float
    covered: int
    """Of ``n_predicted``, those inside their interval of nominal coverage ``LEVEL``."""


def group_by_model(rows: Iterable[TpsRow]) -> dict[str, tuple[TpsRow, ...]]:
    """Return the rows of each model, in order of appearance."""
    groups: dict[str, tuple[TpsRow, ...]] = {}
    for row in rows:
        groups[row.model] = (*groups.get(row.model, ()), row)
    return groups


def population(groups: Iterable[Sequence[TpsRow]], form: FormName) -> Population:
    """Return what the well-determined of the models have in common; each group holds the rows of one model.

    Raises InsufficientRowsError where fewer than ``MIN_MODELS`` are well determined, and ValueError for a form that
    cannot be pooled.

    >>> three = ("Llama 3.1 405B", "Llama 3.1 70B", "Mixtral 8x22B")
    >>> from estimator.throughput.s1 import load_s1
    >>> rows = [row for row in load_s1() if "tensorRT" in row.source]
    >>> common = population(group_by_model(rows).values(), "roofline")
    >>> common.models == three, np.exp(common.shape_mean[0]).round(2)
    (True, np.float64(0.76))
    """
    if form not in POOLED_FORMS:
        raise ValueError(f"the {form} form cannot be pooled; these can: {', '.join(POOLED_FORMS)}")
    fits = {rows[0].model: fit for rows in groups if (fit := well_determined(rows, form)) is not None}
    if len(fits) < MIN_MODELS:
        n_coef = len(FORMS[form].coefficient_names)
        raise InsufficientRowsError(
            f"pooling the {form} form needs at least {MIN_MODELS} models with {n_coef + MIN_DOF} or more rows "
            f"that determine it; there are {len(fits)}"
        )
    shapes, variances = np.array([_shape_and_variance(fit) for fit in fits.values()]).transpose(1, 2, 0)
    moments = [_moments(shape, variance) for shape, variance in zip(shapes, variances, strict=True)]
    mean, sd, between = (np.array(values) for values in zip(*moments, strict=True))
    dof = sum(fit.dof for fit in fits.values())
    squares = sum(fit.dof * (fit.residual_sd_log or 0.0) ** 2 for fit in fits.values())
    lengths = [np.column_stack([fit.points.input_tok, fit.points.output_tok]) for fit in fits.values()]
    return Population(form, tuple(fits), mean, sd, between, float(np.sqrt(squares / dof)), dof, np.concatenate(lengths))


def well_determined(rows: Sequence[TpsRow], form: FormName) -> RowFit | None:
    """Return the fit of a model's own rows if they determine coefficients and error, with ``MIN_DOF`` to spare.

    Rows that the form meets exactly, such as copies of one another, do not determine its error.
    """
    try:
        fit = fit_rows(rows, form)
    except InsufficientRowsError:
        return None
    free = len(fit.solution.free) == len(FORMS[form].coefficient_names)
    return fit if free and fit.dof >= MIN_DOF and (fit.residual_sd_log or 0.0) > EXACT_SD_LOG else None


def fit_pooled(rows: Sequence[TpsRow], common: Population) -> TpsModel:
    """Return the form fitted to one or more rows of a model, with its shape drawn to the population's.

    Level free, shape shrunk. The residual error is the model's own where its rows determine it, else the population's.
    The range of validity is that of the population and the rows together. Raises InsufficientRowsError without rows,
    and ValueError where the population includes the model or the rows mix models or node sizes.

    >>> from estimator.throughput.s1 import load_s1
    >>> rows = [row for row in load_s1() if "tensorRT" in row.source]
    >>> common = population(group_by_model(rows).values(), "roofline")
    >>> model = fit_pooled([row for row in rows if row.model == "DeepSeek-R1"], common)
    >>> model.n_rows, bool(model.predictive_sd_log(1024, 1024) < model.predictive_sd_log(20000, 2000))
    (1, True)
    """
    if not rows:
        raise InsufficientRowsError("a pooled throughput model needs at least one row of its own, got none")
    if len({(row.model, row.gpus) for row in rows}) > 1:
        raise ValueError("the rows of one throughput model must share one model name and one GPU count")
    if rows[0].model in common.models:
        raise ValueError(f"the population includes {rows[0].model} itself: leave it out")
    own = well_determined(rows, common.form)
    sd = common.residual_sd_log if own is None or own.residual_sd_log is None else own.residual_sd_log
    lengths = np.array([(row.input_tok, row.output_tok) for row in rows], dtype=np.float64)
    log_tps = np.log([row.tps_tok_per_s for row in rows])
    variance = sd**2 + np.array([row.tps_sd_log or 0.0 for row in rows]) ** 2
    theta, cov, objective = _posterior_mode(common, lengths, log_tps, variance)
    birge = max(1.0, objective / (len(rows) - 1)) if len(rows) > 1 else 1.0
    cov, sd = cov * birge, sd * float(np.sqrt(birge))
    dof = _effective_dof(common, theta, cov, sd, common.residual_dof if own is None else own.dof)
    dof = min(dof, len(rows) - 1) if birge > 1 else dof
    model = rows[0]
    return common.tps_model(
        model.model, theta, cov, sd, dof, len(rows), model.gpus, np.concatenate([lengths, common.lengths]),
        "; ".join(dict.fromkeys(row.source for row in rows)), _pooled_notes(common, rows, own is None, birge),
    )  # fmt: skip


def leave_model_out(groups: Sequence[Sequence[TpsRow]], form: FormName, n_given: Iterable[int]) -> tuple[ModelOut, ...]:
    """Return how well each well-determined model is predicted from a few of its rows and the other models' shape.

    Raises InsufficientRowsError where fewer than ``MIN_MODELS`` + 1 models are well determined.
    """
    results = []
    for rows in groups:
        if well_determined(rows, form) is None:
            continue
        common = population([other for other in groups if other[0].model != rows[0].model], form)
        results += [_model_out(rows, common, given) for given in n_given if given < len(rows)]
    return tuple(results)


def _model_out(rows: Sequence[TpsRow], common: Population, n_given: int) -> ModelOut:
    errors, covered = [], 0
    for given in combinations(range(len(rows)), n_given):
        model = fit_pooled([rows[index] for index in given], common)
        rest = [row for index, row in enumerate(rows) if index not in given]
        inputs, outputs = [row.input_tok for row in rest], [row.output_tok for row in rest]
        observed = np.array([row.tps_tok_per_s for row in rest])
        low, high = model.interval_tok_per_s(inputs, outputs, LEVEL)
        covered += int(np.sum((low <= observed) & (observed <= high)))
        errors.append(np.log(model.predict_tok_per_s(inputs, outputs) / observed))
    log = np.concatenate(errors)
    return ModelOut(
        rows[0].model,
        n_given,
        log.size,
        float(np.mean(np.abs(np.expm1(log)))),
        float(np.sqrt(np.mean(log**2))),
        covered,
    )


def _shape_and_variance(fit: RowFit) -> tuple[FloatArray, FloatArray]:
    theta = shapes.theta_of(fit.form, fit.solution.coef)
    inverse = np.linalg.inv(shapes.jacobian(fit.form, theta))
    cov = inverse @ np.asarray(fit.cov) @ inverse.T
    return theta[1:], np.diag(cov)[1:]


def _moments(values: FloatArray, variance: FloatArray) -> tuple[float, float, float]:
    """Return mu, the root of v, and tau of one shape coefficient from its estimates over models."""

    def residual(total: FloatArray) -> FloatArray:
        return np.asarray(values - np.average(values, weights=1 / total))

    tau2 = max(excess_variance(residual, variance, values.size - 1), float(np.median(variance)))
    weight = 1 / (variance + tau2)
    return float(np.average(values, weights=weight)), float(np.sqrt(tau2 + 1 / weight.sum())), float(np.sqrt(tau2))


def _posterior_mode(
    common: Population, lengths: FloatArray, log_tps: FloatArray, variance: FloatArray
) -> tuple[FloatArray, FloatArray, float]:
    """Return level and shape at the mode, their Laplace covariance, and twice the negative log posterior there."""
    prior = np.concatenate([[0.0], common.shape_sd**-2.0])
    centre = np.concatenate([[0.0], common.shape_mean])
    theta = centre.copy()
    theta[0] = np.mean(log_tps - shapes.log_tps(common.form, theta, lengths))

    def objective(theta: FloatArray) -> float:
        residual = log_tps - shapes.log_tps(common.form, theta, lengths)
        return float(np.sum(residual**2 / variance) + prior @ (theta - centre) ** 2)

    for _ in range(_STEPS):
        gradient = shapes.gradient(common.form, theta, lengths)
        precision = gradient.T @ (gradient / variance[:, None]) + np.diag(prior)
        residual = log_tps - shapes.log_tps(common.form, theta, lengths)
        step = np.linalg.solve(precision, gradient.T @ (residual / variance) - prior * (theta - centre))
        before, share = objective(theta), 1.0
        while share > _STEP_TOL and objective(theta + share * step) > before + _STEP_TOL:
            share /= 2
        theta = theta + share * step
        if np.max(np.abs(step)) < _STEP_TOL:
            return theta, np.linalg.inv(precision), objective(theta)
    raise InsufficientRowsError(f"the pooled {common.form} form does not settle on these rows: they do not follow it")


def _effective_dof(common: Population, theta: FloatArray, cov: FloatArray, sd: float, residual_dof: int) -> float:
    """Return the degrees of freedom of Welch and Satterthwaite over the population's lengths.

    The coefficients' share of the variance has one less than the models behind the prior, the residual's its own.
    """
    gradient = shapes.gradient(common.form, theta, common.lengths)
    of_coef = float(np.mean(np.einsum("ni,ij,nj->n", gradient, cov, gradient)))
    between_dof = len(common.models) - 1
    return (of_coef + sd**2) ** 2 / (of_coef**2 / between_dof + sd**4 / residual_dof)


def _pooled_notes(common: Population, rows: Sequence[TpsRow], borrowed: bool, birge: float) -> tuple[str, ...]:
    inputs, outputs = [row.input_tok for row in rows], [row.output_tok for row in rows]
    notes = [
        f"partially pooled: the level is that of {len(rows)} row(s) with inputs of {min(inputs)} to {max(inputs)} and "
        f"outputs of {min(outputs)} to {max(outputs)} tokens; the shape is drawn to that of {', '.join(common.models)}"
    ]
    if borrowed:
        notes.append(
            f"the residual standard deviation of log TPS ({common.residual_sd_log:.3f}) is borrowed from those models"
        )
    if birge > 1:
        notes.append(
            f"the rows disagree with the population's shape by more than its spread: all variances are multiplied by "
            f"{birge:.3g} (Birge), and the degrees of freedom are at most {len(rows) - 1}"
        )
    return tuple(notes)
