import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator.throughput.forms import FORMS, REFIT_FORMS, Points
from estimator.throughput.s1 import rows_for

COEF = {
    "oviedo": (8.0, -0.5, 0.3),
    "total_length": (8.0, -1.0, 0.7),
    "hinged": (8.0, -0.7, 0.6, -0.5, 0.3),
    "roofline": (2e-4, 1e-4, 8e-8),
    "constant": (8.0,),
}


def points_of(model, repeats=None, weight=None) -> Points:
    rows = rows_for(model)
    times = repeats or [1] * len(rows)
    listed = [row for row, n in zip(rows, times, strict=True) for _ in range(n)]
    return Points(
        np.array([row.input_tok for row in listed], float),
        np.array([row.output_tok for row in listed], float),
        np.log([row.tps_tok_per_s for row in listed]),
        np.ones(len(listed)) if weight is None else np.array(weight, float),
    )


@pytest.mark.parametrize("name", FORMS)
def test_every_form_has_a_formula_and_a_name_for_each_coefficient(name):
    form = FORMS[name]
    assert form.name == name
    assert len(form.coefficient_names) == len(COEF[name])
    assert all(coefficient[0] in form.formula for coefficient in form.coefficient_names)


@pytest.mark.parametrize("name", FORMS)
@given(lengths=st.tuples(st.integers(1, 30_000), st.integers(1, 30_000)))
def test_the_gradient_is_that_of_small_steps(name, lengths):
    form, coef = FORMS[name], np.array(COEF[name])
    inputs, outputs = (np.array([float(length)]) for length in lengths)
    if name == "hinged" and abs(np.log(outputs / inputs)[0] - coef[4]) < 1e-4:
        return  # at the knot itself the derivative jumps
    found = form.gradient(coef, inputs, outputs)[0]
    for index, value in enumerate(coef):
        step = np.zeros(coef.size)
        step[index] = 1e-6 * abs(value)
        rise = form.log_tps(coef + step, inputs, outputs) - form.log_tps(coef - step, inputs, outputs)
        assert found[index] * 2 * step[index] == pytest.approx(float(rise[0]), rel=1e-4, abs=1e-12)


@pytest.mark.parametrize("name", REFIT_FORMS)
def test_a_weight_of_three_is_a_row_that_is_there_three_times(name):
    weight = [3, 1, 1, 1, 2, 1, 1, 1, 1]
    weighted = FORMS[name].solve(points_of("Mixtral 8x22B", weight=weight))
    repeated = FORMS[name].solve(points_of("Mixtral 8x22B", repeats=weight))
    assert weighted.coef == pytest.approx(repeated.coef, rel=1e-6)
    assert (weighted.free, weighted.n_coef) == (repeated.free, repeated.n_coef)


@pytest.mark.parametrize("name", REFIT_FORMS)
def test_a_faster_node_changes_the_level_alone(name):
    points = points_of("Llama 3.1 70B")
    faster = Points(points.input_tok, points.output_tok, points.log_tps + np.log(2), points.weight)
    slow, fast = (FORMS[name].solve(one).coef for one in (points, faster))
    at = (np.array([300.0, 900.0]), np.array([700.0, 200.0]))
    rise = FORMS[name].log_tps(fast, *at) - FORMS[name].log_tps(slow, *at)
    assert rise == pytest.approx([np.log(2)] * 2, abs=1e-8)
