"""Fit throughput models to benchmark rows by ordinary least squares on log TPS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from estimator.s1 import TpsRow
from estimator.tps import Form, TpsModel, Triple, regressors

FloatArray = npt.NDArray[np.float64]


class InsufficientRowsError(ValueError):
    """The rows do not determine the model; the message says what is missing."""


def fit_tps(rows: Sequence[TpsRow], form: Form, *, cap: bool) -> TpsModel:
    """Return ``form`` fitted to the rows of one model, capped at the largest observed TPS if ``cap``.

    ``constant`` is the largest observed TPS itself. A form whose length never varies over the rows keeps that
    coefficient at 0 and says so in ``notes``. Raises InsufficientRowsError where the rows leave a coefficient
    open, and ValueError where they mix models or node sizes.
    """
    if not rows:
        raise InsufficientRowsError("a throughput model needs at least one row, got none")
    if len({(row.model, row.gpus) for row in rows}) > 1:
        raise ValueError("the rows of one throughput model must share one model name and one GPU count")
    input_tok = np.array([row.input_tok for row in rows])
    output_tok = np.array([row.output_tok for row in rows])
    tps = np.array([row.tps_tok_per_s for row in rows])
    fit = _largest(tps) if form == "constant" else _least_squares(form, input_tok, output_tok, np.log(tps))
    return TpsModel(
        model=rows[0].model,
        form=form,
        coef=fit.coef,
        cov=fit.cov,
        residual_sd_log=fit.residual_sd_log,
        dof=fit.dof,
        cap_tok_per_s=float(tps.max()) if cap else None,
        n_rows=len(rows),
        gpus=rows[0].gpus,
        input_range_tok=(int(input_tok.min()), int(input_tok.max())),
        output_range_tok=(int(output_tok.min()), int(output_tok.max())),
        source="; ".join(dict.fromkeys(row.source for row in rows)),
        notes=fit.notes,
    )


def fit_oviedo_preset(rows: Sequence[TpsRow]) -> TpsModel:
    """Return the paper's model of the rows: S.II with its cap, or the largest TPS of fewer than three rows.

    >>> from estimator.s1 import rows_for
    >>> fit_oviedo_preset(rows_for("Llama-3.1 Nemotron Ultra 253B")).form
    'constant'
    >>> fit_oviedo_preset(rows_for("DeepSeek-R1")).dof
    0
    """
    return fit_tps(rows, "constant" if len(rows) < 3 else "oviedo", cap=True)


@dataclass(frozen=True)
class _Fit:
    coef: Triple
    cov: tuple[Triple, Triple, Triple] | None
    residual_sd_log: float | None
    dof: int
    notes: tuple[str, ...]


def _largest(tps: FloatArray) -> _Fit:
    note = "the largest observed TPS at every length: its error is unknown"
    return _Fit((float(np.log(tps.max())), 0.0, 0.0), None, None, 0, (note,))


def _least_squares(
    form: Form, input_tok: npt.NDArray[np.int_], output_tok: npt.NDArray[np.int_], log_tps: FloatArray
) -> _Fit:
    kept, notes = _identifiable(form, input_tok, output_tok)
    design = regressors(form, input_tok, output_tok)[:, kept]
    dof = len(log_tps) - len(kept)
    if dof < 0:
        raise InsufficientRowsError(
            f"the {form} form has {len(kept)} coefficients to find and needs as many rows; got {len(log_tps)}"
        )
    solution, _, rank, _ = np.linalg.lstsq(design, log_tps, rcond=None)
    if rank < len(kept):
        raise InsufficientRowsError(
            "input and output length vary together over the rows, so their effects cannot be told apart; "
            "add a row that changes one of them alone"
        )
    coef = np.zeros(3)
    coef[kept] = solution
    if dof == 0:
        note = f"the fit passes through all {len(log_tps)} rows with no degrees of freedom: its error is unknown"
        return _Fit(_triple(coef), None, None, 0, (*notes, note))
    variance = float(np.sum((log_tps - design @ solution) ** 2)) / dof
    cov = np.zeros((3, 3))
    cov[np.ix_(kept, kept)] = variance * np.linalg.inv(design.T @ design)
    rows_of_cov = (_triple(cov[0]), _triple(cov[1]), _triple(cov[2]))
    return _Fit(_triple(coef), rows_of_cov, float(np.sqrt(variance)), dof, notes)


def _identifiable(
    form: Form, input_tok: npt.NDArray[np.int_], output_tok: npt.NDArray[np.int_]
) -> tuple[list[int], tuple[str, ...]]:
    """Return the regressors that the rows can tell about, and a note on each length that never varies."""
    one_input, one_output = len(set(input_tok)) == 1, len(set(output_tok)) == 1
    kept, notes = [0, 1, 2], []
    if one_input:
        notes.append(f"all rows have {input_tok[0]} input tokens: the model holds only at that input length")
        if form == "oviedo" or one_output:
            kept.remove(1)
    if one_output:
        notes.append(f"all rows have {output_tok[0]} output tokens: the model holds only at that output length")
        kept.remove(2)
    return kept, tuple(notes)


def _triple(values: FloatArray) -> Triple:
    first, second, third = values.tolist()
    return first, second, third
