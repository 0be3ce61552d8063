import math

import numpy as np
import pytest
import scipy.stats
from scipy.signal import lfilter
from statsmodels.tsa.stattools import acf

from estimator.stationarity import (
    Change,
    autocorrelations,
    detrended,
    integrated_autocorrelation_time,
    linear_change,
    ramp_end,
    relative_change,
)


def autoregressive(rng, size, phi):
    return lfilter([1.0], [1.0, -phi], rng.normal(size=size + 1000))[1000:]


def test_autocorrelations_are_those_of_statsmodels():
    values = autoregressive(np.random.default_rng(1), 300, 0.8)
    assert autocorrelations(values) == pytest.approx(acf(values, nlags=299, fft=False))


@pytest.mark.parametrize(("phi", "time"), [(0.0, 1.0), (0.5, 3.0), (0.9, 19.0), (0.98, 99.0)])
def test_the_autocorrelation_time_of_an_autoregression_is_known(phi, time):
    found = integrated_autocorrelation_time(autoregressive(np.random.default_rng(2), 200_000, phi))
    assert found == pytest.approx(time, rel=0.15)


def test_a_series_that_takes_back_what_it_gave_has_a_time_of_one():
    assert integrated_autocorrelation_time(np.tile([1.0, -1.0], 100)) == 1.0
    assert integrated_autocorrelation_time(np.full(10, 3.3)) == 1.0


@pytest.mark.parametrize("values", [[], [1.0], [[1.0, 2.0]]])
def test_a_time_needs_a_series(values):
    with pytest.raises(ValueError, match="two values or more"):
        integrated_autocorrelation_time(values)


def scalar_mser(series):
    """The definition, value by value: the cut with the least sum of squares over the square of what is left."""

    def statistic(cut):
        rest = series[cut:]
        mean = sum(rest) / len(rest)
        return sum((value - mean) ** 2 for value in rest) / len(rest) ** 2

    return min(range(len(series) // 2 + 1), key=statistic)


@pytest.mark.parametrize("seed", range(6))
def test_the_end_of_one_ramp_is_that_of_mser_by_its_definition(seed):
    rng = np.random.default_rng(seed)
    values = 10 - 5 * np.exp(-np.arange(100) / rng.uniform(2, 15)) + rng.normal(0, 0.3, 100)
    assert ramp_end([values]) == scalar_mser(values.tolist())


def test_the_series_with_the_longest_ramp_decides():
    rng = np.random.default_rng(7)
    flat = rng.normal(5, 0.1, 100)
    ramp = flat - 4 * (np.arange(100) < 30)
    assert ramp_end([flat]) < 20
    assert 30 <= ramp_end([flat, ramp, flat + 2]) <= 32


def test_a_short_series_has_no_ramp():
    assert ramp_end([np.array([0.0, 9.0, 9.0])]) == 0


def test_the_change_is_that_of_a_regression_through_the_batches():
    values = np.random.default_rng(8).normal(50, 2, 200) + 0.01 * np.arange(200)
    means = values.reshape(10, 20).mean(axis=1)
    line = scipy.stats.linregress(np.arange(10) * 20 + 10, means)
    found = relative_change(values, 10)
    assert found.change == pytest.approx(line.slope * 200 / values.mean())
    assert found.standard_error == pytest.approx(line.stderr * 200 / values.mean())
    assert found.dof == 8
    in_units = linear_change(values, 10)
    assert in_units.change == pytest.approx(line.slope * 200)
    assert in_units.standard_error == pytest.approx(line.stderr * 200)
    assert in_units.dof == 8


@pytest.mark.parametrize(
    ("values", "batches", "message"),
    [(np.ones(9), 2, "3 batches"), (-np.ones(9), 3, "a positive mean"), (np.zeros(9), 3, "a positive mean")],
)
def test_a_change_needs_batches_and_a_relative_one_a_positive_mean(values, batches, message):
    with pytest.raises(ValueError, match=message):
        relative_change(values, batches)


@pytest.mark.parametrize(
    ("change", "inside", "outside"),
    [(0.0, True, False), (0.009, True, False), (0.012, False, False), (-0.04, False, True), (0.031, False, True)],
)
def test_equivalence_and_drift_are_two_claims_and_both_may_fail(change, inside, outside):
    found = Change(change, 0.01 / 2.3060, 8)  # half width 1%
    assert found.half_width() == pytest.approx(0.01, rel=1e-4)
    assert (found.inside(0.02), found.outside(0.02, 0.95)) == (inside, outside)


def test_a_detrended_series_has_neither_mean_nor_slope():
    values = detrended(3 + 2 * np.arange(50.0) + np.sin(np.arange(50)))
    assert values.mean() == pytest.approx(0, abs=1e-12)
    assert math.isclose(np.polyfit(np.arange(50), values, 1)[0], 0, abs_tol=1e-12)
