import math
from dataclasses import replace

import numpy as np
import pytest

from estimator.throughput.fit import InsufficientRowsError, fit_tps
from estimator.throughput.s1 import TpsRow, rows_for
from estimator.throughput.selection import (
    LEVEL,
    held_out_error,
    leave_one_out,
    nested_leave_one_out,
    predict_held_out,
    rank_forms,
    score_form,
)

V019 = [row for row in rows_for("Llama 3.1 405B") if "tensorRT" in row.source]


def regressors(form, row):
    first = row.input_tok if form == "oviedo" else row.input_tok + row.output_tok
    return [1.0, math.log(first), math.log(row.output_tok)]


@pytest.mark.parametrize(("form", "mape"), [("oviedo", 0.74), ("total_length", 0.13)])
def test_the_known_leave_one_out_errors_of_405b_come_out(form, mape):
    assert len(V019) == 11
    assert held_out_error(leave_one_out(V019, form, cap=False)).mape == pytest.approx(mape, rel=0.02)


@pytest.mark.parametrize("model", ["Llama 3.1 405B", "Llama 3.1 70B", "Mixtral 8x22B"])
@pytest.mark.parametrize("form", ["oviedo", "total_length"])
def test_leaving_out_each_row_is_the_residual_over_one_less_its_leverage(model, form):
    rows = rows_for(model)
    x, y = np.array([regressors(form, row) for row in rows]), np.log([row.tps_tok_per_s for row in rows])
    hat = x @ np.linalg.inv(x.T @ x) @ x.T
    expected = (y - hat @ y) / (1 - np.diag(hat))
    errors = [-one.error_log for one in leave_one_out(rows, form, cap=False)]
    assert errors == pytest.approx(expected.tolist(), rel=1e-7)


@pytest.mark.parametrize(("model", "limit"), [("Llama 3.1 70B", 0.055), ("Mixtral 8x22B", 0.035)])
def test_the_roofline_predicts_unseen_rows_of_one_engine_to_a_few_percent(model, limit):
    assert held_out_error(leave_one_out(rows_for(model), "roofline", cap=False)).mape < limit


def test_a_cap_is_that_of_the_rows_that_are_kept():
    largest = max(V019, key=lambda row: row.tps_tok_per_s)
    held = leave_one_out(V019, "roofline", cap=True)[V019.index(largest)]
    assert held.predicted_tok_per_s <= sorted(row.tps_tok_per_s for row in V019)[-2]


def test_forms_are_ranked_by_log_error_with_those_that_have_none_last():
    scores = rank_forms(V019, cap=False)
    assert [score.name for score in scores] == ["roofline", "total_length", "hinged", "oviedo"]
    few = rank_forms(V019[:5], cap=False)
    assert few[-1].name == "hinged"
    assert few[-1].error is None
    assert few[-1].reason == "as many coefficients as rows (5): no error can be given"


def test_a_form_that_no_held_out_row_can_test_comes_after_those_that_one_can():
    measured = {(64, 64): 3533, (64, 256): 4037, (512, 128): 1483, (512, 512): 2009, (2048, 64): 221, (2048, 256): 615}
    rows = [TpsRow("tiny", 1, "as served", float(tps), *lengths, "s") for lengths, tps in measured.items()]
    scores = {score.name: score.error for score in rank_forms(rows, cap=False)}
    assert next(iter(scores)) == "roofline"
    assert scores["hinged"].rmse_log < scores["roofline"].rmse_log
    assert (scores["hinged"].n_intervals, scores["roofline"].n_intervals) == (0, 6)


def test_intervals_of_a_form_chosen_from_half_a_board_of_lengths_hold_the_other_half_at_the_nominal_rate():
    rng = np.random.default_rng(7)
    board = [(i, o) for i in (64, 512, 2048) for o in (64, 128, 256, 512)]
    covered = known = 0
    for _ in range(60):
        rows = [
            TpsRow("m", 1, "FP8", math.exp(rng.normal(0, 0.1)) / (2e-4 + 6e-4 * i / o + 1e-7 * (i + o / 2)), i, o, "s")
            for i, o in board
        ]
        seen = [row for number, row in enumerate(rows) if (number // 4 + number) % 2 == 0]
        model = fit_tps(seen, rank_forms(seen, cap=False)[0].name, cap=False)
        error = held_out_error([predict_held_out(model, row) for row in rows if row not in seen])
        covered, known = covered + error.covered, known + error.n_intervals
    assert known == 360
    assert covered / known == pytest.approx(LEVEL, abs=0.04)


def test_a_tie_goes_to_the_form_with_fewer_coefficients():
    rows = [replace(row, tps_tok_per_s=1e5 / row.input_tok * row.output_tok**0.3) for row in V019]
    assert rank_forms(rows, cap=False)[0].name == "oviedo"


def test_the_nested_error_is_that_of_choosing_anew_without_each_row():
    rows = V019[:8]
    nested = nested_leave_one_out(rows, cap=False)
    logs, chosen = [], []
    for out in range(8):
        kept = [row for index, row in enumerate(rows) if index != out]
        errors = {}
        for form in ("oviedo", "total_length", "hinged", "roofline"):
            score = score_form(kept, form, cap=False)
            if score.error is not None:
                errors[form] = score.error.rmse_log
        chosen.append(min(errors, key=errors.__getitem__))
        model = fit_tps(kept, chosen[-1], cap=False)
        predicted = float(model.predict_tok_per_s(rows[out].input_tok, rows[out].output_tok))
        logs.append(math.log(predicted / rows[out].tps_tok_per_s))
    assert nested.chosen == tuple(chosen)
    assert nested.error is not None
    assert nested.error.rmse_log == pytest.approx(math.sqrt(sum(e * e for e in logs) / 8))


def test_nothing_can_be_said_of_too_few_rows_and_the_reason_is_given():
    nested = nested_leave_one_out(rows_for("DeepSeek-R1"), cap=False)
    assert nested.error is None
    assert "2 row(s) are too few" in (nested.reason or "")


def test_a_row_with_the_only_other_length_cannot_be_left_out():
    rows = [TpsRow("m", 8, "FP8", 10.0 * o, i, o, "s") for i, o in [(500, 64), (500, 128), (500, 300), (900, 300)]]
    with pytest.raises(InsufficientRowsError, match=r"without row 4: all other rows have 500 input tokens"):
        leave_one_out(rows, "oviedo", cap=False)


def test_prediction_intervals_cover_about_their_nominal_share_of_unseen_rows():
    rng = np.random.default_rng(3)
    lengths = [(i, o) for i in (100, 400, 1600) for o in (100, 400, 1600)]
    covered = known = 0
    for _ in range(60):
        rows = [
            TpsRow(
                "m", 8, "FP8", float(np.exp(9 - 0.5 * np.log(i + o) + 0.4 * np.log(o) + rng.normal(0, 0.1))), i, o, "s"
            )
            for i, o in lengths
        ]
        error = held_out_error(leave_one_out(rows, "total_length", cap=False))
        covered, known = covered + error.covered, known + error.n_intervals
    assert known == 540
    assert covered / known == pytest.approx(0.9, abs=0.04)
