import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator.uncertainty import EnergyErrors, batch_means_ratio, combine_relative, relative_interval_95


def test_a_constant_ratio_has_no_error():
    tokens = np.array([10.0, 20.0, 15.0, 5.0])
    estimate = batch_means_ratio(3 * tokens, tokens, 4)
    assert estimate.ratio == pytest.approx(3.0)
    assert estimate.standard_error == pytest.approx(0.0, abs=1e-12)


def test_with_a_constant_denominator_the_error_is_that_of_a_mean():
    joules = np.array([1.0, 2.0, 4.0, 9.0])
    estimate = batch_means_ratio(joules, np.ones(4), 4)
    assert estimate.ratio == pytest.approx(4.0)
    assert estimate.standard_error == pytest.approx(joules.std(ddof=1) / 2)
    assert estimate.half_width_95 == pytest.approx(3.182446 * estimate.standard_error)


def test_batches_are_contiguous_sums():
    joules = np.array([1.0, 3.0, 2.0, 6.0, 5.0, 7.0])
    halves = batch_means_ratio(joules, np.ones(6), 3)
    assert halves.standard_error == pytest.approx(np.std([2.0, 4.0, 6.0], ddof=1) / math.sqrt(3))


def test_the_interval_covers_the_true_ratio_as_often_as_it_says():
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(1000):
        tokens = rng.gamma(20, 5, 400)
        joules = 2.5 * tokens + np.convolve(rng.normal(0, 20, 409), np.ones(10) / 10, "valid")
        estimate = batch_means_ratio(joules, tokens, 10)
        covered += abs(estimate.ratio - 2.5) <= estimate.half_width_95
    assert 0.92 <= covered / 1000 <= 0.97


@pytest.mark.parametrize(
    ("numerator", "denominator", "n_batches", "message"),
    [
        ([1, 2, 3], [1, 2], 2, "one shape"),
        ([[1, 2]], [[1, 2]], 2, "one shape"),
        ([1, 2, 3], [1, 2, 3], 1, "at least 2"),
        ([1, 2, 3], [1, 2, 3], 4, "a value in each"),
        ([1, math.nan], [1, 2], 2, "finite"),
        ([1, 2], [0, 0], 2, "more than 0"),
    ],
)
def test_series_without_a_ratio_are_refused(numerator, denominator, n_batches, message):
    with pytest.raises(ValueError, match=message):
        batch_means_ratio(numerator, denominator, n_batches)


@given(st.lists(st.floats(0, 1), max_size=6))
def test_relative_uncertainties_add_in_squares(parts):
    assert combine_relative(*parts) == pytest.approx(math.sqrt(sum(part * part for part in parts)), abs=1e-12)


def half_width_of(errors):
    low, high = relative_interval_95(errors)
    return (high - low) / 2


@pytest.mark.parametrize(
    ("errors", "half_width"),
    [
        (EnergyErrors(gain=0.05 / math.sqrt(3)), 0.95 * 0.05),
        (EnergyErrors(gain=0.05 / math.sqrt(3), gpu_share=0.8, fixed_share=0.2), 0.8 * 0.95 * 0.05),
        (EnergyErrors(random=0.01, random_dof=5), 2.5706 * 0.01),
        (EnergyErrors(random=0.01, random_dof=1), 12.706 * 0.01),
        (EnergyErrors(offset=0.03, slope=0.04), 1.96 * 0.05),
        (EnergyErrors(offset=0.03, slope=0.04, correlation=-1.0), 1.96 * 0.01),
        (EnergyErrors(offset=0.03, slope=0.04, correlation=0.5), 1.96 * math.sqrt(0.0037)),
        (EnergyErrors(others=(0.01, 0.02)), 1.96 * math.sqrt(0.0005)),
        # The difference of two uniform errors of half width h passes 2 h (1 - sqrt(0.05)) one time in twenty.
        (EnergyErrors(clock=0.01 * math.sqrt(2 / 3)), 2 * 0.01 * (1 - math.sqrt(0.05))),
        (EnergyErrors(tokens=0.01 * math.sqrt(2 / 3)), 2 * 0.01 * (1 - math.sqrt(0.05))),
    ],
)
def test_a_single_error_gives_the_interval_of_its_own_distribution(errors, half_width):
    assert half_width_of(errors) == pytest.approx(half_width, rel=0.02)


def test_no_error_gives_an_interval_of_no_width():
    assert relative_interval_95(EnergyErrors()) == (1.0, 1.0)


def test_the_same_errors_always_give_the_same_interval():
    errors = EnergyErrors(random=0.01, random_dof=9, gain=0.03, clock=0.001)
    assert relative_interval_95(errors) == relative_interval_95(errors)
