import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.fit import fit_oviedo_preset, fit_tps
from estimator.lengths import LengthDistribution, exponential_lengths, fixed_lengths
from estimator.s1 import load_s1, rows_for
from estimator.tps import TpsModel

MODEL_405B = fit_tps(rows_for("Llama 3.1 405B"), "oviedo", cap=True)


def made(**changes) -> TpsModel:
    model = TpsModel(
        model="m",
        form="oviedo",
        coef=(7.0, -0.5, 0.25),
        cov=None,
        residual_sd_log=None,
        dof=0,
        cap_tok_per_s=None,
        n_rows=3,
        gpus=8,
        input_range_tok=(100, 1000),
        output_range_tok=(50, 2000),
        source="made",
    )
    return replace(model, **changes)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("oviedo", math.exp(7.0) * 400**-0.5 * 625**0.25),
        ("total_length", math.exp(7.0) * 1025**-0.5 * 625**0.25),
        ("constant", math.exp(7.0)),
    ],
)
def test_each_form_predicts_its_formula(form, expected):
    assert float(made(form=form).predict_tok_per_s(400, 625)) == pytest.approx(expected)


def test_predictions_broadcast_and_never_pass_the_cap():
    tps = made(cap_tok_per_s=200.0).predict_tok_per_s(np.array([[100], [400]]), np.array([50, 500, 5000]))
    assert tps.shape == (2, 3)
    assert tps.max() == 200.0
    assert tps.min() < 200.0


def test_lengths_below_one_token_are_refused():
    with pytest.raises(ValueError, match="at least 1 token"):
        made().predict_tok_per_s(0, 5)


def test_predictive_error_adds_residual_and_coefficient_variance():
    model = made(cov=((0.04, 0, 0), (0, 0.01, 0), (0, 0, 0.0025)), residual_sd_log=0.3, dof=5)
    variance = 0.3**2 + 0.04 + 0.01 * math.log(400) ** 2 + 0.0025 * math.log(625) ** 2
    assert float(model.predictive_sd_log(400, 625)) == pytest.approx(math.sqrt(variance))


def test_predictive_error_of_a_straight_line_is_the_textbook_formula():
    outputs, logs = np.array([64, 128, 256, 512, 1024]), np.array([5.0, 5.4, 5.9, 6.1, 6.7])
    rows = [
        replace(load_s1()[0], input_tok=500, output_tok=int(o), tps_tok_per_s=math.exp(y))
        for o, y in zip(outputs, logs, strict=True)
    ]
    x = np.log(outputs)
    slope, intercept = np.polyfit(x, logs, 1)
    s = math.sqrt(np.sum((logs - intercept - slope * x) ** 2) / 3)
    spread = np.sum((x - x.mean()) ** 2)
    expected = s * math.sqrt(1 + 1 / 5 + (math.log(300) - x.mean()) ** 2 / spread)
    assert float(fit_tps(rows, "oviedo", cap=False).predictive_sd_log(500, 300)) == pytest.approx(expected)


def test_without_degrees_of_freedom_the_error_is_unknown_everywhere():
    assert np.isnan(made().predictive_sd_log([100, 400], [100, 100])).all()
    assert math.isnan(made().mixed_sd_log(fixed_lengths(400, 100)))


def test_the_extrapolated_share_is_the_weight_outside_either_range():
    lengths = LengthDistribution(
        np.array([100, 99, 500, 500]), np.array([50, 60, 2001, 2000]), np.array([0.1, 0.2, 0.3, 0.4])
    )
    assert made().extrapolated_share(lengths) == pytest.approx(0.5)


def test_the_throughput_of_a_mix_is_total_tokens_over_total_node_time():
    lengths = LengthDistribution(np.array([100, 400]), np.array([50, 800]), np.array([0.75, 0.25]))
    model = made()
    tokens = seconds = 0.0
    for input_tok, output_tok, count in ((100, 50, 3), (400, 800, 1)):
        tokens += count * output_tok
        seconds += count * output_tok / (math.exp(7.0) * input_tok**-0.5 * output_tok**0.25)
    assert model.mixed_tps_tok_per_s(lengths) == pytest.approx(tokens / seconds)


def test_at_one_length_the_mix_is_the_point_prediction_with_its_error():
    lengths = fixed_lengths(500, 300)
    assert MODEL_405B.mixed_tps_tok_per_s(lengths) == pytest.approx(float(MODEL_405B.predict_tok_per_s(500, 300)))
    assert MODEL_405B.mixed_sd_log(lengths) == pytest.approx(float(MODEL_405B.predictive_sd_log(500, 300)))


def test_the_error_of_a_mix_is_that_of_redrawn_coefficients_and_one_common_residual():
    model = fit_tps(rows_for("Llama 3.1 405B"), "total_length", cap=False)
    assert model.cov is not None
    assert model.residual_sd_log is not None
    lengths = exponential_lengths(300, 500)
    rng = np.random.default_rng(5)
    logs = []
    for coef in rng.multivariate_normal(model.coef, np.array(model.cov), 4000):
        log_tps = (
            coef[0] + coef[1] * np.log(lengths.input_tok + lengths.output_tok) + coef[2] * np.log(lengths.output_tok)
        )
        seconds = lengths.weight @ (lengths.output_tok / np.exp(log_tps + rng.normal(0, model.residual_sd_log)))
        logs.append(math.log(lengths.mean_output_tok / seconds))
    assert model.mixed_sd_log(lengths) == pytest.approx(np.std(logs), rel=0.05)


@pytest.mark.parametrize("model", sorted({row.model for row in load_s1()}))
def test_every_benchmark_model_survives_json_exactly(model):
    fitted = fit_oviedo_preset(rows_for(model))
    assert TpsModel.from_json(fitted.to_json()) == fitted


@settings(max_examples=50)
@given(coef=st.tuples(*[st.floats(-1e300, 1e300)] * 3), sd=st.floats(0, 1e300))
def test_any_floats_survive_json_exactly(coef, sd):
    model = made(coef=coef, residual_sd_log=sd, dof=1, cov=(coef, coef, coef))
    assert TpsModel.from_json(model.to_json()) == model


def test_a_saved_model_loads_equal(tmp_path):
    MODEL_405B.save(tmp_path / "tps.json")
    assert TpsModel.load(tmp_path / "tps.json") == MODEL_405B


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "tps-model/2"}, "tps-model/2"),
        ({"schema": None}, "None"),
        ({"slope": 1.0}, "slope"),
        ({"gpus": 0}, "gpus"),
        ({"form": "cubic"}, "form"),
        ({"dof": 0}, "dof"),
    ],
)
def test_a_file_of_another_schema_or_with_wrong_content_is_refused_by_path(tmp_path, change, message):
    path = tmp_path / "tps.json"
    path.write_text(json.dumps(json.loads(MODEL_405B.to_json()) | change))
    with pytest.raises(ValueError, match=message) as error:
        TpsModel.load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", "not json"])
def test_text_that_is_no_model_is_refused(text):
    with pytest.raises(ValueError):
        TpsModel.from_json(text)
