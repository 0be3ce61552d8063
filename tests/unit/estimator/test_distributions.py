import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from estimator.distributions import LogNormal


@given(p5=st.floats(1e-3, 1e3), ratio=st.floats(1.0, 100.0), q=st.floats(0.001, 0.999))
def test_quantiles_are_those_of_a_normal_logarithm_through_the_two_percentiles(p5, ratio, q):
    distribution = LogNormal(p5, p5 * ratio)
    z95 = NormalDist().inv_cdf(0.95)
    expected = math.sqrt(p5 * p5 * ratio) * math.exp(math.log(ratio) / (2 * z95) * NormalDist().inv_cdf(q))
    assert float(distribution.quantile(q)) == pytest.approx(expected, rel=1e-6)
    assert distribution.quantile([0.05, 0.95]) == pytest.approx([p5, p5 * ratio], rel=1e-9)


def test_the_median_is_the_geometric_mean_and_mu_its_logarithm():
    share = LogNormal(0.4, 0.9)
    assert share.median == pytest.approx(0.6)
    assert share.mu == pytest.approx(math.log(0.6))
    assert share.sigma == pytest.approx(math.log(0.9 / 0.4) / (2 * 1.6448536269514722))


def test_samples_have_the_stated_percentiles_median_and_mean():
    share = LogNormal(0.4, 0.9)
    sample = share.sample(np.random.default_rng(3), 200_000)
    assert np.quantile(sample, [0.05, 0.5, 0.95]) == pytest.approx([0.4, 0.6, 0.9], rel=0.01)
    assert sample.mean() == pytest.approx(share.mean, rel=0.005)


def test_equal_percentiles_make_an_exact_constant():
    constant = LogNormal.constant(1.13)
    assert constant.mean == constant.median == 1.13
    assert (constant.sample(np.random.default_rng(0), 5) == 1.13).all()
    assert constant.quantile([0.01, 0.99]).tolist() == [1.13, 1.13]


def test_scaling_scales_both_percentiles():
    assert LogNormal(1.0, 2.0).scaled(3.0) == LogNormal(3.0, 6.0)


@pytest.mark.parametrize(("p5", "p95"), [(0, 1), (-1, 1), (2, 1), (1, math.inf), (math.nan, 1), (1, math.nan)])
def test_percentiles_that_are_not_finite_positive_and_ordered_are_refused(p5, p95):
    with pytest.raises(ValueError, match="p5"):
        LogNormal(p5, p95)


@pytest.mark.parametrize("constant", [-3.0, 0.0, 2.5])
def test_a_sum_with_a_constant_keeps_mean_and_variance(constant):
    one = LogNormal(4.0, 9.0)
    made = one.plus(constant)
    expected = stats.lognorm(one.sigma, scale=one.median)
    found = stats.lognorm(made.sigma, scale=made.median)
    assert (found.mean(), found.var()) == pytest.approx((expected.mean() + constant, expected.var()))


def test_a_sum_that_is_not_positive_on_average_is_no_log_normal():
    with pytest.raises(ValueError, match="positive mean"):
        LogNormal(4.0, 9.0).plus(-7.0)
