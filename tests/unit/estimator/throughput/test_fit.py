import math
from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq, least_squares, minimize

from estimator.throughput.fit import InsufficientRowsError, excess_variance, fit_oviedo_preset, fit_tps
from estimator.throughput.s1 import TpsRow, load_s1, rows_for

GRID = [(i, o) for i in (128, 500, 2000) for o in (64, 256, 1024)]


def rows(points: list[tuple[int, int, float]]) -> list[TpsRow]:
    return [TpsRow("m", 8, "FP8", tps, i, o, "made") for i, o, tps in points]


@given(b0=st.floats(2, 10), b1=st.floats(-1, 1), b2=st.floats(-1, 1))
def test_the_paper_form_recovers_the_coefficients_of_exact_rows(b0, b1, b2):
    exact = rows([(i, o, math.exp(b0 + b1 * math.log(i) + b2 * math.log(o))) for i, o in GRID])
    model = fit_tps(exact, "oviedo", cap=False)
    assert model.coef == pytest.approx((b0, b1, b2), abs=1e-9)
    assert model.residual_sd_log == pytest.approx(0, abs=1e-9)
    assert model.dof == 6


def test_the_total_length_form_recovers_the_coefficients_of_exact_rows():
    exact = rows([(i, o, math.exp(9 - 0.8 * math.log(i + o) + 0.6 * math.log(o))) for i, o in GRID])
    assert fit_tps(exact, "total_length", cap=False).coef == pytest.approx((9, -0.8, 0.6), abs=1e-9)


def test_a_fit_over_one_input_length_equals_a_straight_line_with_its_covariance():
    tps = [900.0, 1500.0, 1400.0, 2500.0, 2600.0]
    outputs = [64, 128, 256, 512, 1024]
    model = fit_tps(rows([(500, o, t) for o, t in zip(outputs, tps, strict=True)]), "oviedo", cap=False)
    (slope, intercept), cov = np.polyfit(np.log(outputs), np.log(tps), 1, cov=True)
    assert model.coef == pytest.approx((intercept, 0.0, slope))
    assert model.cov is not None
    assert np.array(model.cov)[np.ix_([2, 0], [2, 0])] == pytest.approx(cov)
    assert model.cov[1] == (0.0, 0.0, 0.0)
    assert model.dof == 3


def test_a_fit_over_one_input_length_says_that_it_holds_only_there():
    model = fit_tps(rows([(500, o, 10.0 * o) for o in (64, 128, 300)]), "oviedo", cap=False)
    assert model.input_range_tok == (500, 500)
    assert model.notes[0] == "all rows have 500 input tokens: the model holds only at that input length"
    assert math.isfinite(float(model.predictive_sd_log(500, 100)))
    assert math.isnan(float(model.predictive_sd_log(501, 100)))


def test_the_total_length_form_can_be_found_from_one_input_length_and_still_says_so():
    exact = rows([(500, o, math.exp(9 - 0.8 * math.log(500 + o) + 0.6 * math.log(o))) for _, o in GRID[:3]])
    model = fit_tps(exact, "total_length", cap=False)
    assert model.coef == pytest.approx((9, -0.8, 0.6), abs=1e-6)
    assert "only at that input length" in model.notes[0]


@pytest.mark.parametrize("form", ["oviedo", "total_length"])
def test_repeats_at_one_point_give_their_geometric_mean_and_two_notes(form):
    model = fit_tps(rows([(500, 300, 100.0), (500, 300, 400.0)]), form, cap=False)
    assert float(model.predict_tok_per_s(500, 300)) == pytest.approx(200.0)
    assert model.coef[1:] == (0.0, 0.0)
    assert len(model.notes) == 2


@pytest.mark.parametrize("form", ["oviedo", "total_length"])
def test_a_fit_over_one_output_length_keeps_the_input_coefficient(form):
    model = fit_tps(rows([(i, 300, 1e5 / i) for i in (100, 200, 400)]), form, cap=False)
    assert model.coef[1] < 0
    assert model.coef[2] == 0.0
    assert "300 output tokens" in model.notes[0]


def test_too_few_rows_are_refused_with_what_is_missing():
    with pytest.raises(InsufficientRowsError, match="3 coefficients to find and needs as many rows; got 2"):
        fit_tps(rows([(100, 200, 10.0), (200, 100, 20.0)]), "oviedo", cap=False)


def test_no_rows_at_all_are_refused():
    with pytest.raises(InsufficientRowsError, match="got none"):
        fit_tps([], "constant", cap=True)


def test_lengths_that_only_vary_together_are_refused():
    with pytest.raises(InsufficientRowsError, match="cannot be told apart"):
        fit_tps(rows([(n, n, 10.0 * n) for n in (100, 200, 400, 800)]), "oviedo", cap=False)


def test_rows_of_two_models_or_node_sizes_are_refused():
    with pytest.raises(ValueError, match="share one model"):
        fit_tps(load_s1(), "oviedo", cap=True)


def test_a_cap_is_the_largest_observed_throughput():
    s1 = rows_for("Llama 3.1 405B")
    assert fit_tps(s1, "oviedo", cap=True).cap_tok_per_s == 4572.23
    assert fit_tps(s1, "oviedo", cap=False).cap_tok_per_s is None


def test_the_preset_uses_the_largest_throughput_of_a_model_with_two_rows():
    model = fit_oviedo_preset(rows_for("Llama-3.1 Nemotron Ultra 253B"))
    assert model.predict_tok_per_s([500, 5000], [100, 9000]) == pytest.approx([5200, 5200])
    assert (model.residual_sd_log, model.cov, model.dof) == (None, None, 0)
    assert "error is unknown" in model.notes[0]


def test_the_preset_passes_exactly_through_three_rows_and_claims_no_error():
    s1 = rows_for("DeepSeek-R1")
    model = fit_oviedo_preset(s1)
    predicted = [float(model.predict_tok_per_s(row.input_tok, row.output_tok)) for row in s1]
    assert predicted == pytest.approx([886, 1300, 378])
    assert (model.residual_sd_log, model.cov, model.dof) == (None, None, 0)
    assert model.gpus == 10


def test_the_preset_of_405b_solves_the_normal_equations_of_all_thirteen_rows():
    s1 = rows_for("Llama 3.1 405B")
    x = [(1.0, math.log(row.input_tok), math.log(row.output_tok)) for row in s1]
    y = [math.log(row.tps_tok_per_s) for row in s1]
    gram = np.array([[sum(a[i] * a[j] for a in x) for j in range(3)] for i in range(3)])
    moment = np.array([sum(a[i] * b for a, b in zip(x, y, strict=True)) for i in range(3)])
    model = fit_oviedo_preset(s1)
    assert model.coef == pytest.approx(np.linalg.solve(gram, moment))
    residual = [b - float(np.dot(model.coef, a)) for a, b in zip(x, y, strict=True)]
    assert model.residual_sd_log == pytest.approx(math.sqrt(sum(r * r for r in residual) / 10))


@pytest.mark.parametrize(("form", "percent"), [("oviedo", 42), ("total_length", 8.6)])
def test_in_sample_error_of_405b_v019_rows_is_as_known(form, percent):
    s1 = [row for row in rows_for("Llama 3.1 405B") if "v019" in row.source]
    model = fit_tps(s1, form, cap=False)
    errors = [abs(float(model.predict_tok_per_s(row.input_tok, row.output_tok)) / row.tps_tok_per_s - 1) for row in s1]
    assert 100 * sum(errors) / len(s1) == pytest.approx(percent, rel=0.02)


def test_the_roofline_recovers_the_costs_of_exact_rows():
    exact = rows([(i, o, 1 / (1.3e-4 + 1.1e-4 * i / o + 7e-8 * (i + o / 2))) for i, o in GRID])
    model = fit_tps(exact, "roofline", cap=False)
    assert model.coef == pytest.approx((1.3e-4, 1.1e-4, 7e-8), rel=1e-6)
    assert model.dof == 6


def test_the_roofline_fit_is_the_minimum_that_a_general_optimiser_finds():
    s1 = rows_for("Llama 3.1 70B")

    def squares(log_costs):
        a, b, c = np.exp(log_costs)
        return sum(
            (
                math.log(r.tps_tok_per_s)
                + math.log(a + b * r.input_tok / r.output_tok + c * (r.input_tok + r.output_tok / 2))
            )
            ** 2
            for r in s1
        )

    found = minimize(squares, np.log([5e-5, 5e-5, 1e-8]), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14})
    model = fit_tps(s1, "roofline", cap=False)
    assert model.coef == pytest.approx(np.exp(found.x), rel=1e-5)
    assert model.residual_sd_log == pytest.approx(math.sqrt(found.fun / 8), rel=1e-7)


def test_a_cost_that_the_rows_do_not_show_is_exactly_0_and_still_counts_as_a_coefficient():
    rising = rows([(i, o, 5000 * (1 + o / 1e4) / (1 + i / o)) for i, o in GRID])
    model = fit_tps(rising, "roofline", cap=False)
    assert model.coef[2] == 0.0
    assert model.cov is not None
    assert model.cov[2] == (0.0, 0.0, 0.0)
    assert model.dof == 6
    assert "attention cost c is at its bound of 0" in model.notes[0]


def test_the_hinged_form_recovers_slopes_and_knot_of_exact_rows():
    def tps(i, o):
        return math.exp(9 - 0.7 * math.log(i) + 0.6 * math.log(o) - 0.5 * max(0.0, math.log(o / i) - 0.4))

    exact = rows([(i, o, tps(i, o)) for i in (64, 200, 700, 3000) for o in (100, 400, 1500)])
    assert fit_tps(exact, "hinged", cap=False).coef == pytest.approx((9, -0.7, 0.6, -0.5, 0.4), abs=1e-6)


def test_the_knot_is_the_best_of_a_fine_grid():
    s1 = rows_for("Llama 3.1 405B")
    log_in, log_out, y = (
        np.log([getattr(row, name) for row in s1]) for name in ("input_tok", "output_tok", "tps_tok_per_s")
    )
    best = min(
        np.linalg.lstsq(np.column_stack([np.ones(13), log_in, log_out, np.maximum(0, log_out - log_in - k)]), y)[1][0]
        for k in np.linspace(-2.2, 2.7, 5001)
    )
    model = fit_tps(s1, "hinged", cap=False)
    assert model.residual_sd_log == pytest.approx(math.sqrt(best / 8), rel=1e-5)


def test_rows_on_a_plane_have_no_hinge():
    flat = rows([(i, o, math.exp(9 - 0.7 * math.log(i) + 0.2 * math.log(o))) for i, o in GRID])
    with pytest.raises(InsufficientRowsError, match="do not determine a hinge"):
        fit_tps(flat, "hinged", cap=False)


def test_one_output_length_does_not_determine_a_roofline():
    with pytest.raises(InsufficientRowsError, match="cannot be told apart"):
        fit_tps(rows([(i, 300, 1e5 / i) for i in (100, 200, 400, 800)]), "roofline", cap=False)


def weighted(sds):
    s1 = rows_for("Mixtral 8x22B")
    return [replace(row, tps_sd_log=sd) for row, sd in zip(s1, sds, strict=True)]


def test_weights_follow_the_errors_of_the_rows_and_what_the_form_misses():
    own = [0.02, 0.3, 0.02, 0.02, 0.4, 0.02, 0.02, 0.05, 0.02]
    noisy = weighted(own)
    model = fit_tps(noisy, "total_length", cap=False)
    x = np.array([[1, math.log(r.input_tok + r.output_tok), math.log(r.output_tok)] for r in noisy])
    y = np.log([r.tps_tok_per_s for r in noisy])
    assert model.residual_sd_log is not None
    tau2 = model.residual_sd_log**2 - np.mean(np.square(own))
    result = sm.WLS(y, x, weights=1 / (np.square(own) + tau2)).fit()
    assert model.coef == pytest.approx(result.params)
    assert np.array(model.cov) == pytest.approx(result.normalized_cov_params)
    assert float(np.sum((y - x @ result.params) ** 2 / (np.square(own) + tau2))) == pytest.approx(6, rel=1e-6)


def test_rows_whose_errors_explain_their_scatter_leave_nothing_to_the_form():
    model = fit_tps(weighted([0.8] * 9), "total_length", cap=False)
    assert model.residual_sd_log == pytest.approx(0.8)
    plain = fit_tps(rows_for("Mixtral 8x22B"), "total_length", cap=False)
    assert model.coef == pytest.approx(plain.coef)


def test_a_row_of_unknown_error_is_taken_to_have_the_typical_one():
    some = fit_tps(weighted([None, 0.1, 0.3, 0.1, 0.3, 0.1, 0.3, 0.1, 0.3]), "roofline", cap=False)
    typical = math.sqrt((0.1**2 + 0.3**2) / 2)
    assert some == fit_tps(weighted([typical, 0.1, 0.3, 0.1, 0.3, 0.1, 0.3, 0.1, 0.3]), "roofline", cap=False)


def test_the_excess_variance_is_the_root_of_the_generalised_q_of_paule_and_mandel():
    rng = np.random.default_rng(5)
    for spread in (0.05, 0.4, 1.0):
        values, variance = rng.normal(0, spread, 7), rng.uniform(0.01, 0.3, 7)

        def q(tau2, values=values, variance=variance):
            weight = 1 / (variance + tau2)
            return weight @ (values - (weight @ values) / weight.sum()) ** 2 - 6

        expected = 0.0 if q(0.0) <= 0 else brentq(q, 0, 100)
        found = excess_variance(
            lambda total, values=values: values - np.average(values, weights=1 / total), variance, 6
        )
        assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("model", ["Llama 3.1 405B", "Llama 3.1 70B", "Mixtral 8x22B"])
def test_no_start_of_a_general_optimiser_beats_the_roofline_fit_without_any_one_row(model):
    s1, rng = rows_for(model), np.random.default_rng(6)
    for out in range(len(s1)):
        kept = [row for index, row in enumerate(s1) if index != out]
        y = np.log([row.tps_tok_per_s for row in kept])
        x = np.array([(1, r.input_tok / r.output_tok, r.input_tok + r.output_tok / 2) for r in kept])

        def residual(share, scale, x=x, y=y):
            return y + np.log(x @ (share * scale))

        starts = [np.array([1e-4, 1e-4, 1e-7]) * np.exp(rng.normal(0, 3, 3)) for _ in range(3)]
        best = min(
            least_squares(residual, np.ones(3), bounds=(1e-12, np.inf), args=(at,), xtol=1e-12, ftol=1e-12).cost
            for at in starts
        )
        ours = np.sum(residual(np.array(fit_tps(kept, "roofline", cap=False).coef), 1.0) ** 2)
        assert ours <= 2 * best * (1 + 1e-9)


TRUTHS = {
    "oviedo": lambda i, o: 9.3 - 0.5 * np.log(i) + 0.3 * np.log(o),
    "total_length": lambda i, o: 11.4 - 0.95 * np.log(i + o) + 0.7 * np.log(o),
    "roofline": lambda i, o: -np.log(2.2e-4 + 1.1e-4 * i / o + 7.5e-8 * (i + o / 2)),
    "roofline without attention": lambda i, o: -np.log(2.2e-4 + 1.1e-4 * i / o),
}


@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize("taken", [range(11), (0, 1, 4, 7, 9)])
def test_intervals_of_a_known_form_hold_nine_in_ten_new_rows_at_lengths_not_measured(truth, taken):
    s1 = [r for r in rows_for("Llama 3.1 405B") if "tensorRT" in r.source]
    inputs, outputs = np.array([(s1[k].input_tok, s1[k].output_tok) for k in taken]).T
    new_in, new_out = np.array([(300, 300), (3000, 1500), (700, 4000), (10000, 1000), (200, 1000)]).T
    rng, inside = np.random.default_rng(7), 0
    for _ in range(150):
        tps = np.exp(TRUTHS[truth](inputs, outputs) + rng.normal(0, 0.1, inputs.size))
        seen = rows(list(zip(inputs.tolist(), outputs.tolist(), tps.tolist(), strict=True)))
        low, high = fit_tps(seen, truth.split()[0], cap=False).interval_tok_per_s(new_in, new_out)
        new = np.exp(TRUTHS[truth](new_in, new_out) + rng.normal(0, 0.1, 5))
        inside += int(np.sum((low <= new) & (new <= high)))
    assert 0.85 <= inside / 750 <= 0.95


def test_rows_that_repeat_others_exactly_are_said_to_and_so_is_a_fit_without_any_error():
    three = [(500, 2000, 2000.0), (5000, 500, 400.0), (128, 128, 3000.0)]
    notes = fit_tps(rows(three * 2), "oviedo", cap=False).notes
    assert any("meets every row exactly" in note for note in notes)
    assert any("3 row(s) repeat another one exactly" in note for note in notes)
    assert fit_tps(rows_for("Mixtral 8x22B"), "oviedo", cap=False).notes == ()
