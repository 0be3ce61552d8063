"""Pool the models of a table: one form for all, each model's fit drawn to the shape of the others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from estimator.throughput.forms import FORMS, FormName, InsufficientRowsError
from estimator.throughput.pooling import (
    POOLED_FORMS,
    ModelOut,
    Population,
    fit_pooled,
    group_by_model,
    leave_model_out,
    population,
    well_determined,
)
from estimator.throughput.s1 import TpsRow
from estimator.throughput.selection import LEVEL, FormScore, HeldOut, held_out_error, leave_one_out
from estimator.throughput.tps import TpsModel

GIVEN_ROWS = (2, 3)


@dataclass(frozen=True)
class PooledModels:
    """Every model of the rows, fitted with the shape of the others, and how well that predicts."""

    form: FormName
    groups: dict[str, tuple[TpsRow, ...]]
    scores: tuple[FormScore, ...]
    """Leave-one-out of each form over all well-determined models, best first."""
    population: Population
    models: dict[str, TpsModel]
    left_out: tuple[ModelOut, ...]
    left_out_reason: str | None

    def document(self) -> dict[str, Any]:
        """Return the whole as plain JSON values."""
        common = self.population
        return {
            "form": self.form,
            "population": {
                "models": common.models,
                "shape_names": shape_names(self.form),
                "shape_mean": common.shape_mean.tolist(),
                "shape_sd": common.shape_sd.tolist(),
                "between_sd": common.between_sd.tolist(),
                "residual_sd_log": common.residual_sd_log,
            },
            "models": [json.loads(model.to_json()) for model in self.models.values()],
            "leave_one_model_out": [
                asdict(out) | {"interval_level": LEVEL, "coverage": out.covered / out.n_predicted}
                for out in self.left_out
            ],
            "leave_one_model_out_reason": self.left_out_reason,
        }


def fit_all_pooled(rows: Sequence[TpsRow], form: FormName | None) -> PooledModels:
    """Fit every model of the rows, in ``form`` or the best one over the well-determined models.

    Raises InsufficientRowsError where too few models are well determined, and ValueError for a form that cannot be
    pooled or rows of one model on nodes of different size.
    """
    groups = group_by_model(rows)
    scores = tuple(
        sorted(
            (score_over_models(groups, name, cap=False) for name in (POOLED_FORMS if form is None else (form,))),
            key=lambda score: np.inf if score.error is None else score.error.rmse_log,
        )
    )
    chosen = scores[0].name
    common = population(groups.values(), chosen)
    models = {
        name: fit_pooled(own, population([rows for other, rows in groups.items() if other != name], chosen))
        for name, own in groups.items()
    }
    try:
        left_out, reason = leave_model_out(tuple(groups.values()), chosen, GIVEN_ROWS), None
    except InsufficientRowsError as error:
        left_out, reason = (), str(error)
    return PooledModels(chosen, groups, scores, common, models, left_out, reason)


def score_over_models(groups: dict[str, tuple[TpsRow, ...]], form: FormName, *, cap: bool) -> FormScore:
    """Return the leave-one-out error of a form over the rows of all models that determine it."""
    held: list[HeldOut] = []
    for rows in groups.values():
        if well_determined(rows, form) is not None:
            held += leave_one_out(rows, form, cap=cap)
    if not held:
        return FormScore(form, None, "no model has rows enough to determine it")
    return FormScore(form, held_out_error(held), None)


def shape_names(form: FormName) -> tuple[str, ...]:
    """Return what the population's shape entries are.

    >>> shape_names("roofline")
    ('log(b / a)', 'log(c / a)')
    """
    return ("log(b / a)", "log(c / a)") if form == "roofline" else FORMS[form].coefficient_names[1:]
