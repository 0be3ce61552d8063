import json
import math
import random
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from estimator.distributions import LogNormal
from estimator.lengths import exponential_lengths, fixed_lengths
from estimator.predict import PredictionInputs, predict_mean
from estimator.throughput.fit import fit_oviedo_preset, fit_tps
from estimator.throughput.s1 import TpsRow, rows_for
from estimator.throughput.tps import TpsModel

MODEL_405B = fit_tps(rows_for("Llama 3.1 405B"), "oviedo", cap=True)
INPUTS = PredictionInputs(
    node_power_kw=LogNormal(0.4 * 11.3, 0.9 * 11.3),
    pue=LogNormal(1.05, 1.40),
    lengths=exponential_lengths(300, 500),
    tps=MODEL_405B,
    seed=4,
)


def with_error(dof: int, sd: float) -> TpsModel:
    zero = (0.0, 0.0, 0.0)
    return replace(MODEL_405B, cov=(zero, zero, zero), residual_sd_log=sd, dof=dof)


def test_the_mean_is_equation_1_of_the_reference_terms_exactly():
    prediction = predict_mean(INPUTS)
    assert prediction.mean_wh == prediction.reference.energy_wh
    assert prediction.reference.pue == INPUTS.pue.mean
    assert prediction.reference.node_power_kw == INPUTS.node_power_kw.mean
    assert prediction.reference.output_tok == INPUTS.lengths.mean_output_tok
    assert prediction.reference.tps_tok_per_s == MODEL_405B.mixed_tps_tok_per_s(INPUTS.lengths)


def test_the_mean_is_that_of_many_single_queries():
    prediction = predict_mean(INPUTS)
    assert prediction.per_query.mean_wh == pytest.approx(prediction.mean_wh, rel=0.015)


def test_a_single_query_spreads_far_wider_than_the_mean_over_queries():
    prediction = predict_mean(replace(INPUTS, tps=with_error(10, 0.1)))
    queries = prediction.per_query
    assert queries.p5_wh < queries.p25_wh < queries.p50_wh < queries.p75_wh < queries.p95_wh
    assert queries.p95_wh / queries.p5_wh > 5 * prediction.p95_wh / prediction.p5_wh


def test_without_throughput_error_the_mean_is_the_log_normal_product_of_power_and_pue():
    prediction = predict_mean(replace(INPUTS, tps=with_error(10, 0.0)))
    sigma = math.hypot(INPUTS.node_power_kw.sigma, INPUTS.pue.sigma)
    seconds = prediction.reference.output_tok / prediction.reference.tps_tok_per_s
    median_wh = INPUTS.pue.median * INPUTS.node_power_kw.median * 1000 / 3600 * seconds
    expected = [median_wh * math.exp(z * sigma) for z in (-1.6448536, 0.0, 1.6448536)]
    assert [prediction.p5_wh, prediction.p50_wh, prediction.p95_wh] == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("dof", [1, 3, 30])
def test_with_all_else_fixed_the_interval_is_student_t_in_the_log_of_throughput(dof):
    inputs = replace(INPUTS, node_power_kw=LogNormal.constant(6.0), pue=1.2, tps=with_error(dof, 0.3))
    prediction = predict_mean(inputs)
    half_log_width = 0.3 * stats.t.ppf(0.95, dof)
    assert math.log(prediction.p95_wh / prediction.mean_wh) == pytest.approx(half_log_width, rel=0.03)
    assert math.log(prediction.p5_wh / prediction.mean_wh) == pytest.approx(-half_log_width, rel=0.03)
    assert prediction.p50_wh == pytest.approx(prediction.mean_wh, rel=0.01)


def test_the_interval_agrees_with_a_loop_over_single_draws():
    prediction = predict_mean(INPUTS)
    draw = random.Random(5)  # noqa: S311
    sd, dof = MODEL_405B.mixed_sd_log(INPUTS.lengths), MODEL_405B.dof
    energies = []
    for _ in range(50_000):
        t = draw.gauss(0, 1) / math.sqrt(draw.gammavariate(dof / 2, 2) / dof)
        power_w = 11300 * math.exp(draw.gauss(math.log(0.6), math.log(0.9 / 0.4) / 2 / 1.6448536))
        pue = math.exp(draw.gauss(math.log(1.05 * 1.40) / 2, math.log(1.40 / 1.05) / 2 / 1.6448536))
        tps = prediction.reference.tps_tok_per_s * math.exp(sd * t)
        energies.append(pue * power_w * INPUTS.lengths.mean_output_tok / tps / 3600)
    expected = np.quantile(energies, [0.05, 0.5, 0.95])
    assert [prediction.p5_wh, prediction.p50_wh, prediction.p95_wh] == pytest.approx(expected, rel=0.03)


def test_a_measured_pue_is_taken_as_exact():
    prediction = predict_mean(replace(INPUTS, pue=1.13))
    assert prediction.reference.pue == 1.13
    assert prediction.pue == LogNormal.constant(1.13)


def test_an_unknown_throughput_error_is_left_out_and_said():
    prediction = predict_mean(replace(INPUTS, tps=fit_oviedo_preset(rows_for("DeepSeek-R1"))))
    assert prediction.tps_sd_log is None
    assert any("no degrees of freedom: the true interval is wider" in note for note in prediction.notes)


def test_a_model_of_one_input_length_used_at_another_says_that_its_error_is_unknown():
    rows = [TpsRow("m", 8, "FP8", 9.0 * o**0.5, 500, o, "made") for o in (64, 128, 300, 600)]
    inputs = replace(INPUTS, lengths=fixed_lengths(1000, 300), tps=fit_tps(rows, "oviedo", cap=False))
    prediction = predict_mean(inputs)
    assert prediction.tps_sd_log is None
    assert prediction.extrapolated_share == 1.0
    assert any("its rows do not cover these lengths" in note for note in prediction.notes)
    assert any("extrapolated: 100.0%" in note for note in prediction.notes)


def test_inside_the_fitted_range_there_is_nothing_to_note():
    assert predict_mean(replace(INPUTS, lengths=fixed_lengths(500, 300))).notes == ()


@pytest.mark.parametrize("constant_kw", [9.9, -2.55, -6.0])
def test_constant_power_is_added_to_the_share_of_the_maximum_and_never_scaled_by_it(constant_kw):
    """With PUE and TPS exact, quantiles of the mean are those of power; 0.4 of 11.3 kW less 6 kW would be negative."""
    exact = {"tps": with_error(10, 0.0), "pue": 1.2, "constant_power_kw": constant_kw}
    prediction = predict_mean(replace(INPUTS, **exact))
    wh_per_kw = 1.2 / 3.6 * prediction.reference.output_tok / prediction.reference.tps_tok_per_s
    sigma = math.log(0.9 / 0.4) / (2 * 1.6448536)
    mean_kw = 0.6 * 11.3 * math.exp(sigma**2 / 2) + constant_kw
    assert prediction.reference.node_power_kw == pytest.approx(mean_kw, rel=1e-6)
    assert prediction.mean_wh == pytest.approx(wh_per_kw * mean_kw, rel=1e-6)
    expected = [max(0.001 * mean_kw, share * 11.3 + constant_kw) * wh_per_kw for share in (0.4, 0.6, 0.9)]
    assert [prediction.p5_wh, prediction.p50_wh, prediction.p95_wh] == pytest.approx(expected, rel=0.02)
    queries = predict_mean(replace(INPUTS, constant_power_kw=constant_kw)).per_query
    assert queries.mean_wh == pytest.approx(prediction.mean_wh * INPUTS.pue.mean / 1.2, rel=0.015)


def test_a_prediction_depends_on_its_seed_alone():
    assert predict_mean(INPUTS) == predict_mean(INPUTS)
    assert predict_mean(INPUTS).p50_wh != predict_mean(replace(INPUTS, seed=5)).p50_wh


def test_a_prediction_becomes_plain_json_with_all_its_numbers():
    prediction = predict_mean(INPUTS)
    document = json.loads(json.dumps(prediction.to_dict(), allow_nan=False))
    assert document["mean_wh"] == prediction.mean_wh
    assert document["reference"]["tps_tok_per_s"] == prediction.reference.tps_tok_per_s
    assert document["per_query"]["p50_wh"] == prediction.per_query.p50_wh
    assert document["node_power_kw"] == {"p5": 0.4 * 11.3, "p95": 0.9 * 11.3}
    assert TpsModel.from_json(json.dumps(document["tps"])) == MODEL_405B
