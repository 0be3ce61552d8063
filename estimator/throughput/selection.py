"""Choose a form by its error on rows it has not seen: leave-one-out for each form, nested for the choice itself.

The leave-one-out error of the form with the smallest one is too small, since the same rows chose it. The
nested error is that of the whole procedure: for each row, choose a form on the others and predict this one.

The prediction interval of a chosen form takes that form as given: it leaves out that the rows chose it. In simulations
at the lengths of Supplemental I, with one of the forms true, intervals of nominal 90% hold 85-93% of new rows after
the choice. The coverage counted in the nested error includes the choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from estimator.throughput.fit import InsufficientRowsError, fit_tps
from estimator.throughput.forms import FORMS, REFIT_FORMS, FormName
from estimator.throughput.s1 import TpsRow
from estimator.throughput.tps import TpsModel

LEVEL = 0.9
"""Nominal coverage of the prediction intervals whose coverage of held-out rows is counted."""

_TIE_DECIMALS = 9


@dataclass(frozen=True)
class HeldOut:
    """One row predicted by a model that has not seen it; TPS in tok/s, bounds None where the error is unknown."""

    row: TpsRow
    form: FormName
    predicted_tok_per_s: float
    low_tok_per_s: float | None
    high_tok_per_s: float | None

    @property
    def error_log(self) -> float:
        """Log of predicted over observed TPS."""
        return float(np.log(self.predicted_tok_per_s / self.row.tps_tok_per_s))

    @property
    def covered(self) -> bool | None:
        """Whether the observed TPS lies in the interval; None where there is none."""
        if self.low_tok_per_s is None or self.high_tok_per_s is None:
            return None
        return self.low_tok_per_s <= self.row.tps_tok_per_s <= self.high_tok_per_s


@dataclass(frozen=True)
class HeldOutError:
    """Errors over held-out rows: mean absolute relative error of TPS, root mean square log error, coverage."""

    mape: float
    rmse_log: float
    covered: int
    n_intervals: int
    """Rows whose interval is known; ``covered`` of them lie in it."""
    n_rows: int


@dataclass(frozen=True)
class FormScore:
    """A form with its leave-one-out error, or the reason why there is none."""

    name: FormName
    error: HeldOutError | None
    reason: str | None


@dataclass(frozen=True)
class NestedScore:
    """The error of choosing by leave-one-out, with the form that each fold chose, or the reason why there is none."""

    error: HeldOutError | None
    chosen: tuple[FormName, ...]
    reason: str | None


def held_out_error(held: Sequence[HeldOut]) -> HeldOutError:
    """Return the errors over held-out rows.

    >>> row = TpsRow("m", 8, "FP8", 100.0, 500, 300, "made up")
    >>> error = held_out_error([HeldOut(row, "oviedo", 110.0, 90.0, 130.0), HeldOut(row, "oviedo", 80.0, None, None)])
    >>> round(error.mape, 9), error.covered, error.n_intervals, error.n_rows
    (0.15, 1, 1, 2)
    """
    log = np.array([one.error_log for one in held])
    known = [one.covered for one in held if one.covered is not None]
    return HeldOutError(
        mape=float(np.mean(np.abs(np.expm1(log)))),
        rmse_log=float(np.sqrt(np.mean(log**2))),
        covered=sum(known),
        n_intervals=len(known),
        n_rows=len(held),
    )


def predict_held_out(model: TpsModel, row: TpsRow) -> HeldOut:
    """Return the model's prediction of a row, with its interval of nominal coverage ``LEVEL``."""
    low, high = (float(bound) for bound in model.interval_tok_per_s(row.input_tok, row.output_tok, LEVEL))
    known = np.isfinite(low)
    return HeldOut(
        row,
        model.form,
        float(model.predict_tok_per_s(row.input_tok, row.output_tok)),
        low if known else None,
        high if known else None,
    )


def leave_one_out(rows: Sequence[TpsRow], form: FormName, *, cap: bool) -> tuple[HeldOut, ...]:
    """Return each row as predicted by ``form`` fitted to all others, in order.

    Raises InsufficientRowsError, with the row's number from 1, where the others do not determine the form or
    all share one length that the row does not have.

    >>> from estimator.throughput.s1 import rows_for
    >>> rows = [row for row in rows_for("Llama 3.1 405B") if "tensorRT" in row.source]
    >>> [round(held_out_error(leave_one_out(rows, form, cap=False)).mape, 2) for form in ("oviedo", "total_length")]
    [0.74, 0.13]
    """
    held = []
    for number, row in enumerate(rows, start=1):
        try:
            model = fit_tps(_without(rows, number - 1), form, cap=cap)
        except InsufficientRowsError as error:
            raise InsufficientRowsError(f"without row {number}: {error}") from error
        single = _single_length_missed(model, row)
        if single:
            raise InsufficientRowsError(f"without row {number}: {single}")
        held.append(predict_held_out(model, row))
    return tuple(held)


def score_form(rows: Sequence[TpsRow], form: FormName, *, cap: bool) -> FormScore:
    """Return the leave-one-out error of a form, or the reason why it cannot be had."""
    try:
        fitted = fit_tps(rows, form, cap=cap)
        if fitted.dof == 0:
            return FormScore(form, None, f"as many coefficients as rows ({len(rows)}): no error can be given")
        return FormScore(form, held_out_error(leave_one_out(rows, form, cap=cap)), None)
    except InsufficientRowsError as error:
        return FormScore(form, None, str(error))


def rank_forms(rows: Sequence[TpsRow], *, cap: bool) -> tuple[FormScore, ...]:
    """Return every form that a refit offers, smallest leave-one-out log error first, those without one last.

    A form with as many coefficients as every fold has rows comes after all whose intervals held-out rows can test: its
    fits meet their rows exactly, and a small error may be luck. Errors equal to nine decimals count as a tie, which
    the form with fewer coefficients wins.
    """

    def order(score: FormScore) -> tuple[bool, float, int]:
        error = np.inf if score.error is None else round(score.error.rmse_log, _TIE_DECIMALS)
        untested = score.error is None or score.error.n_intervals == 0
        return untested, error, len(FORMS[score.name].coefficient_names)

    return tuple(sorted((score_form(rows, form, cap=cap) for form in REFIT_FORMS), key=order))


def nested_leave_one_out(rows: Sequence[TpsRow], *, cap: bool) -> NestedScore:
    """Return the error of the whole procedure: choose a form on all rows but one, and predict that one."""
    held = []
    for number, row in enumerate(rows, start=1):
        others = _without(rows, number - 1)
        best = rank_forms(others, cap=cap)[0] if others else None
        if best is None or best.error is None:
            reason = f"without row {number} no form has a leave-one-out error: {len(others)} row(s) are too few"
            return NestedScore(None, (), reason)
        model = fit_tps(others, best.name, cap=cap)
        single = _single_length_missed(model, row)
        if single:
            return NestedScore(None, (), f"without row {number}: {single}")
        held.append(predict_held_out(model, row))
    if not held:
        return NestedScore(None, (), "there are no rows")
    return NestedScore(held_out_error(held), tuple(one.form for one in held), None)


def _without(rows: Sequence[TpsRow], index: int) -> list[TpsRow]:
    return [*rows[:index], *rows[index + 1 :]]


def _single_length_missed(model: TpsModel, row: TpsRow) -> str | None:
    for kind, length_tok, (low, high) in (
        ("input", row.input_tok, model.input_range_tok),
        ("output", row.output_tok, model.output_range_tok),
    ):
        if low == high != length_tok:
            return f"all other rows have {low} {kind} tokens, so its {length_tok} cannot be predicted"
    return None
