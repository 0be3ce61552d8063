import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.lengths import LengthDistribution, exponential_lengths, fixed_lengths
from estimator.throughput.fit import fit_oviedo_preset, fit_tps
from estimator.throughput.s1 import load_s1, rows_for
from estimator.throughput.tps import TpsModel

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


COEF = {
    "oviedo": (7.0, -0.5, 0.25),
    "total_length": (7.0, -0.5, 0.25),
    "hinged": (7.0, -0.5, 0.25, -0.3, 0.2),
    "roofline": (2e-4, 3e-5, 4e-8),
    "constant": (7.0,),
}


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("oviedo", math.exp(7.0) * 400**-0.5 * 625**0.25),
        ("total_length", math.exp(7.0) * 1025**-0.5 * 625**0.25),
        ("hinged", math.exp(7.0) * 400**-0.5 * 625**0.25 * (625 / 400 / math.exp(0.2)) ** -0.3),
        ("roofline", 1 / (2e-4 + 3e-5 * 400 / 625 + 4e-8 * (400 + 312.5))),
        ("constant", math.exp(7.0)),
    ],
)
def test_each_form_predicts_its_formula(form, expected):
    assert float(made(form=form, coef=COEF[form]).predict_tok_per_s(400, 625)) == pytest.approx(expected)


@pytest.mark.parametrize("form", COEF)
def test_the_coefficient_error_of_each_form_is_that_of_small_steps_in_its_coefficients(form):
    coef = COEF[form]
    sd = [1e-3 * abs(value) for value in coef]
    cov = tuple(tuple(s * s if i == j else 0.0 for j in range(len(sd))) for i, s in enumerate(sd))
    model = made(form=form, coef=coef, cov=cov, residual_sd_log=0.1, dof=4)
    variance = 0.1**2
    for i, step in enumerate(sd):
        moved = [
            made(form=form, coef=tuple(v + sign * step * (i == j) for j, v in enumerate(coef))) for sign in (1, -1)
        ]
        up, down = (math.log(float(m.predict_tok_per_s(300, 900))) for m in moved)
        variance += ((up - down) / 2) ** 2
    assert float(model.predictive_sd_log(300, 900)) ** 2 == pytest.approx(variance, rel=1e-5)


def test_the_interval_is_that_of_student_t_in_log_tps():
    model = made(cov=((0.04, 0, 0), (0, 0, 0), (0, 0, 0)), residual_sd_log=0.3, dof=5)
    low, high = model.interval_tok_per_s(400, 625, level=0.95)
    centre, half = float(model.predict_tok_per_s(400, 625)), 2.5705818 * math.sqrt(0.13)
    assert (float(low), float(high)) == pytest.approx((centre * math.exp(-half), centre * math.exp(half)), rel=1e-6)


def test_without_degrees_of_freedom_there_is_no_interval():
    low, high = made().interval_tok_per_s([400, 500], 625)
    assert np.isnan(low).all()
    assert np.isnan(high).all()


@pytest.mark.parametrize("level", [0, 1, -0.5, float("nan")])
def test_a_level_that_is_no_probability_is_refused(level):
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        made().interval_tok_per_s(400, 625, level)


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
        ({"schema": "tps-model/1"}, "another version"),
        ({"schema": None}, "None"),
        ({"slope": 1.0}, "slope: Unexpected keyword argument$"),
        ({"input_range_tok": [900, 100]}, "input_range_tok falls from 900 to 100"),
        ({"gpus": 0}, "gpus"),
        ({"form": "cubic"}, "form"),
        ({"dof": 0}, "dof"),
        ({"coef": [1.0, 2.0]}, "coef of oviedo must hold 3 numbers"),
        ({"cov": [[1.0]]}, "cov of oviedo must be 3 rows of 3"),
        ({"form": "roofline", "coef": [1e-4, -1e-5, 1e-8]}, "costs of at least 0"),
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
