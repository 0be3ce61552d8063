import math

import numpy as np
import pytest

from estimator.throughput.fit import InsufficientRowsError, fit_tps
from estimator.throughput.pooling import (
    Population,
    fit_pooled,
    group_by_model,
    leave_model_out,
    population,
)
from estimator.throughput.s1 import TpsRow, load_s1, rows_for

ONE_ENGINE = [row for row in load_s1() if "tensorRT" in row.source]
THREE = ("Llama 3.1 405B", "Llama 3.1 70B", "Mixtral 8x22B")
R1 = [row for row in ONE_ENGINE if row.model == "DeepSeek-R1"]


def common(form, shape_sd, sd=0.1, mean=(-0.9, 0.7)) -> Population:
    spread = np.full(len(mean), float(shape_sd))
    return Population(
        form, ("a", "b", "c"), np.array(mean), spread, spread, sd, 20, np.array([[128.0, 128.0], [20000.0, 4096.0]])
    )


def design(rows):
    return np.array([[1.0, math.log(row.input_tok + row.output_tok), math.log(row.output_tok)] for row in rows])


def made(points, name="m"):
    return [TpsRow(name, 8, "FP8", tps, i, o, "s") for i, o, tps in points]


FOUR = made([(500, 300, 900.0), (2000, 300, 300.0), (500, 2000, 1500.0), (4000, 1000, 260.0)])


def test_a_linear_form_is_the_ridge_regression_with_the_priors_as_extra_rows():
    pooled = fit_pooled(FOUR, common("total_length", 0.2, sd=0.15))
    x = np.vstack([design(FOUR) / 0.15, [[0, 1 / 0.2, 0], [0, 0, 1 / 0.2]]])
    y = np.concatenate([np.log([row.tps_tok_per_s for row in FOUR]) / 0.15, [-0.9 / 0.2, 0.7 / 0.2]])
    expected, squares, *_ = np.linalg.lstsq(x, y, rcond=None)
    birge = max(1.0, float(squares[0]) / 3)
    assert pooled.coef == pytest.approx(expected.tolist())
    assert np.array(pooled.cov) == pytest.approx(birge * np.linalg.inv(x.T @ x))
    assert pooled.residual_sd_log == pytest.approx(0.15 * math.sqrt(birge))


def test_a_wide_population_leaves_the_rows_alone_and_a_narrow_one_leaves_them_the_level():
    rows = rows_for("Mixtral 8x22B")
    free = fit_pooled(rows, common("total_length", 1e4))
    assert free.coef == pytest.approx(fit_tps(rows, "total_length", cap=False).coef, rel=1e-5)
    tied = fit_pooled(rows, common("total_length", 1e-5))
    assert tied.coef[1:] == pytest.approx((-0.9, 0.7), abs=1e-6)
    level = np.mean(np.log([row.tps_tok_per_s for row in rows]) - design(rows)[:, 1:] @ [-0.9, 0.7])
    assert tied.coef[0] == pytest.approx(level, abs=1e-5)


def test_a_wide_population_gives_the_roofline_of_the_rows_with_its_errors():
    rows = rows_for("Llama 3.1 70B")
    alone = fit_tps(rows, "roofline", cap=False)
    pooled = fit_pooled(rows, common("roofline", 1e4, mean=(-0.3, -7.6)))
    assert pooled.coef == pytest.approx(alone.coef, rel=1e-5)
    assert pooled.residual_sd_log == pytest.approx(alone.residual_sd_log, rel=1e-6)
    assert float(pooled.predictive_sd_log(500, 300)) == pytest.approx(
        float(alone.predictive_sd_log(500, 300)), rel=1e-4
    )


def test_one_row_gives_the_level_and_the_population_the_shape():
    one = fit_pooled(R1, population(group_by_model(ONE_ENGINE).values(), "roofline"))
    assert one.n_rows == 1
    assert float(one.predict_tok_per_s(1024, 1024)) == pytest.approx(886.0)
    a, b, c = one.coef
    assert (b / a, c / a) == pytest.approx((0.76, 4.7e-4), rel=0.05)
    assert float(one.predictive_sd_log(1024, 1024)) < float(one.predictive_sd_log(128, 4096))
    assert any("borrowed" in note for note in one.notes)
    assert 1 < one.dof < 12


def test_the_population_is_the_precision_weighted_mean_of_alike_models_with_a_floor_on_their_spread():
    rng = np.random.default_rng(1)
    groups = [
        made(
            [(i, o, math.exp(level - 0.8 * math.log(i + o) + 0.5 * math.log(o) + rng.normal(0, 0.1)))
             for i in (100, 500, 3000) for o in (100, 400, 2000)],
            name,
        )
        for name, level in (("a", 9.0), ("b", 11.0), ("c", 13.0))
    ]  # fmt: skip
    found = population(groups, "total_length")
    fits = [fit_tps(rows, "total_length", cap=False) for rows in groups]
    for j in (1, 2):
        errors = [np.array(fit.cov)[j, j] for fit in fits]
        assert found.between_sd[j - 1] ** 2 >= np.median(errors) * (1 - 1e-12)
        weights = [1 / (error + found.between_sd[j - 1] ** 2) for error in errors]
        mean = sum(w * fit.coef[j] for w, fit in zip(weights, fits, strict=True)) / sum(weights)
        assert found.shape_mean[j - 1] == pytest.approx(mean)
        assert found.shape_sd[j - 1] ** 2 == pytest.approx(found.between_sd[j - 1] ** 2 + 1 / sum(weights))
    assert found.shape_mean.tolist() == pytest.approx([-0.8, 0.5], abs=0.06)
    assert found.residual_sd_log == pytest.approx(0.1, rel=0.35)


def test_two_or_three_rows_and_the_shape_of_the_others_predict_the_rest_of_a_left_out_model():
    groups = tuple(group_by_model(ONE_ENGINE).values())
    results = leave_model_out(groups, "roofline", (2, 3))
    assert [(out.model, out.n_given) for out in results] == [(model, given) for model in THREE for given in (2, 3)]
    assert [out.n_predicted for out in results] == [
        math.comb(n, given) * (n - given) for n in (11, 11, 9) for given in (2, 3)
    ]
    for out in results:
        assert out.mape < 0.09
        assert out.covered / out.n_predicted > 0.85


def test_rows_that_disagree_with_the_population_widen_the_interval_and_say_so():
    pooled = fit_pooled(rows_for("DeepSeek-R1"), population(group_by_model(ONE_ENGINE).values(), "roofline"))
    assert pooled.dof <= 2
    assert pooled.residual_sd_log is not None
    assert pooled.residual_sd_log > 0.2
    assert any("Birge" in note for note in pooled.notes)


def test_a_model_is_never_its_own_prior():
    with pytest.raises(ValueError, match="the population includes Mixtral 8x22B itself"):
        fit_pooled(rows_for("Mixtral 8x22B"), population(group_by_model(ONE_ENGINE).values(), "roofline"))


def test_one_well_determined_model_is_no_population():
    with pytest.raises(InsufficientRowsError, match=r"needs at least 2 models with 6 or more rows .* there are 1"):
        population([rows_for("Mixtral 8x22B"), rows_for("DeepSeek-R1")], "roofline")


def test_the_hinged_form_is_not_pooled():
    with pytest.raises(ValueError, match="the hinged form cannot be pooled"):
        population(group_by_model(ONE_ENGINE).values(), "hinged")


def test_no_rows_are_refused():
    with pytest.raises(InsufficientRowsError, match="got none"):
        fit_pooled([], common("total_length", 1.0))


def test_copies_of_few_rows_do_not_count_as_rows_that_determine_the_error():
    copies = made([(500, 2000, 2000.0), (5000, 500, 400.0), (128, 128, 3000.0)] * 2)
    pooled = fit_pooled(copies, population(group_by_model(ONE_ENGINE).values(), "roofline"))
    assert pooled.residual_sd_log is not None
    assert pooled.residual_sd_log > 0.05
    assert any("borrowed" in note for note in pooled.notes)


def simulated(rng, level, sd, name):
    lengths = np.array([(row.input_tok, row.output_tok) for row in rows_for("Mixtral 8x22B")], dtype=float)
    prefill, attention = np.exp(np.array([-0.27, -7.67]) + rng.normal(0, 0.1, 2))
    cost = 1 + prefill * lengths[:, 0] / lengths[:, 1] + attention * (lengths[:, 0] + lengths[:, 1] / 2)
    tps = np.exp(level + rng.normal(0, sd, len(lengths))) / cost
    return made([(int(i), int(o), float(t)) for (i, o), t in zip(lengths, tps, strict=True)], name)


def test_pooled_intervals_hold_at_least_their_nominal_share_of_a_new_models_other_rows():
    rng, inside, total = np.random.default_rng(4), 0, 0
    for _ in range(60):
        common = population([simulated(rng, rng.normal(8, 1), 0.07, name) for name in "abc"], "roofline")
        new = simulated(rng, 7.0, 0.07, "new")
        rng.shuffle(new)
        low, high = fit_pooled(new[:2], common).interval_tok_per_s(
            [row.input_tok for row in new[2:]], [row.output_tok for row in new[2:]]
        )
        seen = np.array([row.tps_tok_per_s for row in new[2:]])
        inside, total = inside + int(np.sum((low <= seen) & (seen <= high))), total + len(seen)
    assert 0.88 <= inside / total <= 0.995
