"""The document of a refit: what was compared, what was chosen, and how far it can be trusted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from estimator.power.joules import JouleSplit
from estimator.throughput.diagnostics import Diagnostics, diagnose
from estimator.throughput.fit import fit_rows, fit_tps
from estimator.throughput.forms import FORMS, FormName, InsufficientRowsError
from estimator.throughput.s1 import TpsRow
from estimator.throughput.selection import LEVEL, FormScore, HeldOutError, NestedScore, score_form
from estimator.throughput.tps import TpsModel
from harness.studies.refit_pooled import PooledModels, score_over_models

INTERVAL_NOTE = (
    "the model's interval takes its form as given; what the nested error says of the interval includes the choice"
)
SCHEMA = "inference-energy/refit/1"
NOT_FITTED_ALONE = "a pooled fit leans on other models: single rows have no leverage of their own"


@dataclass(frozen=True)
class Fitted:
    """The model of the target rows with its report; ``model`` is None where a pooled refit names no target."""

    selected: FormName
    model: TpsModel | None
    scores: tuple[FormScore, ...]
    nested: NestedScore
    pooled: PooledModels | None = None


def report(
    fitted: Fitted, rows: Sequence[TpsRow], split: tuple[JouleSplit | None, str | None, tuple[str, ...]], *, cap: bool
) -> dict[str, Any]:
    """Return the document of a refit but for its power model and the files written.

    ``rows`` are those of the fitted model, none where several were pooled and none is named.
    """
    model = fitted.model
    joules, joules_reason, joule_notes = split
    return {
        "schema": SCHEMA,
        "forms": [_form(score, rows, fitted, cap=cap) for score in fitted.scores],
        "selected": fitted.selected,
        "cap": cap,
        "nested": {**_error(fitted.nested.error), "chosen": fitted.nested.chosen, "reason": fitted.nested.reason},
        "model": None if model is None else json.loads(model.to_json()),
        "diagnostics": None if model is None else _diagnostics(model, rows, pooled=fitted.pooled is not None),
        "joules": None
        if joules is None or joules.reason
        else asdict(joules) | {"notes": (*joules.notes, *joule_notes)},
        "joules_reason": joules_reason,
        "validity": None if model is None else _validity(model),
        "pooled": None if fitted.pooled is None else fitted.pooled.document(),
        "notes": [*_notes(rows, model), *([] if fitted.nested.error is None else [INTERVAL_NOTE])],
    }


def _form(score: FormScore, rows: Sequence[TpsRow], fitted: Fitted, *, cap: bool) -> dict[str, Any]:
    """Return a form's formula, fit and error, and that error with and without a cap at the largest TPS seen."""
    form = FORMS[score.name]
    try:
        coef = fit_tps(rows, score.name, cap=False).coef
    except InsufficientRowsError:
        coef = None
    if fitted.pooled is None:
        other = score_form(rows, score.name, cap=not cap)
    else:
        other = score_over_models(fitted.pooled.groups, score.name, cap=not cap)
    capped, uncapped = (score, other) if cap else (other, score)
    return {
        "name": score.name,
        "formula": form.formula,
        "coefficient_names": form.coefficient_names,
        "coefficients": coef,
        **_error(score.error),
        "n_rows": len(rows) if score.error is None else score.error.n_rows,
        "with_cap": _error(capped.error),
        "without_cap": _error(uncapped.error),
        "reason": score.reason,
        "selected": score.name == fitted.selected,
    }


def _error(error: HeldOutError | None) -> dict[str, Any]:
    return {
        "loo_mape": None if error is None else error.mape,
        "loo_rmse_log": None if error is None else error.rmse_log,
        "interval_level": LEVEL,
        "interval_covered": None if error is None else error.covered,
        "interval_rows": None if error is None else error.n_intervals,
    }


def _diagnostics(model: TpsModel, rows: Sequence[TpsRow], *, pooled: bool) -> dict[str, Any]:
    """Return coefficients with robust errors and the table of residuals and influence."""
    found: Diagnostics | None = None
    reason: str | None = NOT_FITTED_ALONE if pooled else "no degrees of freedom: the rows say nothing about the error"
    if not pooled and model.dof > 0:
        found, reason = diagnose(fit_rows(rows, model.form)), None
    return {
        "coefficients": None if found is None else [asdict(one) for one in found.coefficients],
        "leverage_limit": None if found is None else found.leverage_limit,
        "cooks_limit": None if found is None else found.cooks_limit,
        "reason": reason,
        "rows": [_row(model, row, found, index) for index, row in enumerate(rows)],
    }


def _row(model: TpsModel, row: TpsRow, found: Diagnostics | None, index: int) -> dict[str, Any]:
    predicted = float(model.predict_tok_per_s(row.input_tok, row.output_tok))
    low, high = (float(bound) for bound in model.interval_tok_per_s(row.input_tok, row.output_tok, LEVEL))
    known = model.dof > 0
    influence = None if found is None else asdict(found.rows[index])
    unknown = {"leverage": None, "studentized_residual": None, "cooks_distance": None, "flags": ()}
    return {
        "input_tok": row.input_tok,
        "output_tok": row.output_tok,
        "source": row.source,
        "tps_sd_log": row.tps_sd_log,
        "observed_tok_per_s": row.tps_tok_per_s,
        "predicted_tok_per_s": predicted,
        "interval_low_tok_per_s": low if known else None,
        "interval_high_tok_per_s": high if known else None,
        **(influence or unknown),
    }


def _validity(model: TpsModel) -> dict[str, Any]:
    return {
        "input_range_tok": model.input_range_tok,
        "output_range_tok": model.output_range_tok,
        "outside": "extrapolated, with an interval that assumes that the form still holds",
    }


def _notes(rows: Sequence[TpsRow], model: TpsModel | None) -> list[str]:
    notes = [] if model is None else list(model.notes)
    sources = {row.source for row in rows}
    if len(sources) > 1 and not all(source.startswith("run ") for source in sources):
        notes.append(
            f"the rows come from {len(sources)} sources ({', '.join(sorted(sources))}), which may differ in engine or "
            "hardware: --source TEXT keeps one"
        )
    if rows and not any(row.tps_sd_log for row in rows):
        notes.append("no row carries an error of its own: all weigh the same")
    return notes
