import numpy as np
import pytest

from estimator.throughput import shapes

THETA = {"oviedo": np.array([8.0, -0.5, 0.3]), "roofline": np.array([8.5, -0.3, -7.7])}
LENGTHS = np.array([[128.0, 2048.0], [5000.0, 500.0]])


@pytest.mark.parametrize("form", THETA)
def test_level_and_shape_come_back_from_the_coefficients(form):
    assert shapes.theta_of(form, shapes.coef_of(form, THETA[form])) == pytest.approx(THETA[form])


@pytest.mark.parametrize("form", THETA)
def test_a_step_in_the_level_moves_log_tps_alike_at_all_lengths(form):
    step = np.array([0.1, 0.0, 0.0])
    rise = shapes.log_tps(form, THETA[form] + step, LENGTHS) - shapes.log_tps(form, THETA[form], LENGTHS)
    assert rise == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize("form", THETA)
def test_derivatives_are_those_of_small_steps(form):
    theta = THETA[form]
    for index in range(3):
        step = np.zeros(3)
        step[index] = 1e-6
        of_log = (shapes.log_tps(form, theta + step, LENGTHS) - shapes.log_tps(form, theta - step, LENGTHS)) / 2e-6
        of_coef = (shapes.coef_of(form, theta + step) - shapes.coef_of(form, theta - step)) / 2e-6
        assert shapes.gradient(form, theta, LENGTHS)[:, index] == pytest.approx(of_log, rel=1e-6)
        assert shapes.jacobian(form, theta)[:, index] == pytest.approx(of_coef, rel=1e-6)
