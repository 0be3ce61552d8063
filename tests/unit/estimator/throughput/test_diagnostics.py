import math

import numpy as np
import pytest

from estimator.throughput.diagnostics import diagnose
from estimator.throughput.fit import fit_rows
from estimator.throughput.s1 import TpsRow, rows_for

ROWS = rows_for("Llama 3.1 405B")


def textbook(form):
    first = [row.input_tok + (row.output_tok if form == "total_length" else 0) for row in ROWS]
    x = np.column_stack([np.ones(len(ROWS)), np.log(first), np.log([row.output_tok for row in ROWS])])
    y = np.log([row.tps_tok_per_s for row in ROWS])
    inverse = np.linalg.inv(x.T @ x)
    residual = y - x @ inverse @ x.T @ y
    return x, inverse, residual, np.einsum("ij,jk,ik->i", x, inverse, x)


@pytest.mark.parametrize("form", ["oviedo", "total_length"])
def test_hc3_errors_are_the_sandwich_with_residuals_over_one_less_leverage(form):
    x, inverse, residual, leverage = textbook(form)
    meat = sum(np.outer(a, a) * (e / (1 - h)) ** 2 for a, e, h in zip(x, residual, leverage, strict=True))
    expected = np.sqrt(np.diag(inverse @ meat @ inverse))
    found = diagnose(fit_rows(ROWS, form)).coefficients
    assert [one.hc3_standard_error for one in found] == pytest.approx(expected.tolist())


@pytest.mark.parametrize("form", ["oviedo", "total_length"])
def test_influence_measures_are_their_definitions(form):
    _, _, residual, leverage = textbook(form)
    n, k = len(ROWS), 3
    variance = np.sum(residual**2) / (n - k)
    rows = diagnose(fit_rows(ROWS, form)).rows
    for row, e, h in zip(rows, residual, leverage, strict=True):
        without = ((n - k) * variance - e * e / (1 - h)) / (n - k - 1)
        assert row.leverage == pytest.approx(h)
        assert row.residual_log == pytest.approx(e)
        assert row.cooks_distance == pytest.approx(e * e * h / (k * variance * (1 - h) ** 2))
        assert row.studentized_residual == pytest.approx(e / math.sqrt(without * (1 - h)))


def test_the_row_of_another_engine_is_flagged_in_the_roofline():
    rows = diagnose(fit_rows(ROWS, "roofline")).rows
    assert rows[0].flags == ("influence", "outlier")
    assert rows[0].residual_log < -0.4
    assert sum(row.leverage for row in rows) == pytest.approx(3)


def test_a_lone_row_that_a_coefficient_serves_alone_is_flagged_and_leaves_no_robust_error():
    rows = [TpsRow("m", 8, "FP8", tps, i, o, "s") for i, o, tps in
            [(100, 50, 9.0), (100, 100, 14.0), (100, 200, 30.0), (100, 400, 43.0), (900, 50, 2.0)]]  # fmt: skip
    found = diagnose(fit_rows(rows, "oviedo"))
    lone = found.rows[-1]
    assert lone.leverage == pytest.approx(1)
    assert (lone.cooks_distance, lone.studentized_residual, lone.flags) == (None, None, ("leverage",))
    assert all(one.hc3_standard_error is None and one.standard_error for one in found.coefficients)


def test_a_fit_that_meets_every_row_has_nothing_to_diagnose():
    with pytest.raises(ValueError, match="nothing to diagnose"):
        diagnose(fit_rows(rows_for("DeepSeek-R1"), "oviedo"))
