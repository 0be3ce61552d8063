import math

import numpy as np
import pytest
import statsmodels.api as sm

from estimator.distributions import LogNormal
from estimator.power.node_power import IndependentPower, MeasuredPower, ProportionalPower
from estimator.power.power_fit import PowerFit, fit_power


def test_independent_power_is_the_same_at_every_throughput():
    power = IndependentPower(LogNormal(4.0, 9.0))
    assert power.median_kw(np.array([1.0, 1e4])).tolist() == pytest.approx([6.0, 6.0])
    assert power.sigma_log == pytest.approx(np.log(9 / 4) / 2 / 1.6448536)


@pytest.mark.parametrize(("tps", "kw"), [(0.0, 2.7), (2286.115, 6.435), (4572.23, 10.17), (9000.0, 10.17)])
def test_proportional_power_rises_from_idle_to_nine_tenths_of_the_maximum(tps, kw):
    power = ProportionalPower(idle_kw=2.7, top_kw=0.9 * 11.3, top_tok_per_s=4572.23)
    assert power.median_kw(np.array([tps])) == pytest.approx(kw)
    assert power.sigma_log == 0


def measured(tps, power_kw) -> PowerFit:
    return fit_power(tps, power_kw, model="m", gpus=8, boundary="node_modelled", source="made up")


@pytest.mark.parametrize("n", [3, 4, 12])
def test_measured_power_spreads_as_the_prediction_interval_of_the_line_on_average_over_its_range(n):
    rng = np.random.default_rng(n)
    tps = np.linspace(500, 4000, n)
    fit = measured(tps, 3 + 5e-4 * tps + rng.normal(0, 0.1, n))
    oracle = sm.OLS(3 + 5e-4 * tps + np.random.default_rng(n).normal(0, 0.1, n), sm.add_constant(tps)).fit()
    grid = np.linspace(500, 4000, 101)
    frame = oracle.get_prediction(sm.add_constant(grid)).summary_frame(alpha=0.1)
    half_kw = math.sqrt(np.mean(((frame.obs_ci_upper - frame.obs_ci_lower) / 2) ** 2))
    middle_kw = oracle.params @ [1, 2250]
    assert 1.6448536 * MeasuredPower(fit).sigma_log == pytest.approx(half_kw / middle_kw)


def test_the_mean_of_measured_power_is_the_fitted_line():
    power = MeasuredPower(measured([500.0, 1500.0, 2500.0, 4000.0], [3.2, 4.1, 4.0, 5.1]))
    mean_kw = power.median_kw(np.array([1000.0])) * math.exp(power.sigma_log**2 / 2)
    assert mean_kw == pytest.approx(power.fit.predict_kw([1000.0]))


def test_measured_power_covers_new_measurements_about_as_often_as_a_log_normal_says():
    rng, inside = np.random.default_rng(4), 0
    tps = np.array([600.0, 1500.0, 2500.0, 3500.0])
    for _ in range(400):
        power = MeasuredPower(measured(tps, 3 + 5e-4 * tps + rng.normal(0, 0.15, 4)))
        at = rng.uniform(600, 3500)
        new_kw = 3 + 5e-4 * at + rng.normal(0, 0.15)
        inside += abs(math.log(new_kw / power.median_kw(np.array([at]))[0])) < 1.6448536 * power.sigma_log
    assert inside / 400 == pytest.approx(0.9, abs=0.05)


def test_power_of_unknown_error_has_no_spread_and_its_fit_says_so():
    power = MeasuredPower(measured([500.0, 1500.0], [3.2, 4.1]))
    assert power.sigma_log == 0
    assert "left out of what is predicted" in power.fit.notes[0]
