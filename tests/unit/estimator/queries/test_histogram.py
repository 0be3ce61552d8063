import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator.queries.histogram import RESOLUTION_REL, LogHistogram, bin_counts, pooled


def histogram(values_wh) -> LogHistogram:
    return LogHistogram(bin_counts(np.log(np.asarray(values_wh, dtype=float))), len(values_wh))


@given(st.lists(st.floats(1e-8, 1e8), min_size=1, max_size=50), st.floats(0.01, 0.99))
def test_a_quantile_is_that_of_the_sorted_samples_within_the_stated_resolution(values_wh, probability):
    in_order = sorted(values_wh)
    rank = math.ceil(round(probability * len(in_order), 9))
    expected_wh = in_order[max(rank, 1) - 1]
    assert histogram(values_wh).quantile_wh(probability) == pytest.approx(expected_wh, rel=1.01 * RESOLUTION_REL)


@given(st.lists(st.floats(1e-8, 1e8), min_size=1, max_size=50))
def test_the_mean_is_that_of_the_samples_within_the_stated_resolution(values_wh):
    mean_wh = math.fsum(values_wh) / len(values_wh)
    assert histogram(values_wh).mean_wh == pytest.approx(mean_wh, rel=RESOLUTION_REL * 0.51)


def test_the_standard_error_of_the_mean_is_sd_over_root_n():
    values = np.random.default_rng(0).lognormal(0, 0.8, 20_000)
    assert histogram(values).mean_se_wh == pytest.approx(values.std() / math.sqrt(values.size), rel=0.001)


def test_the_standard_error_of_a_quantile_is_that_of_repeated_samples():
    rng = np.random.default_rng(1)
    n, repeats = 2_000, 800
    for probability in (0.05, 0.5, 0.95):
        spread = np.std([np.quantile(rng.lognormal(0, 1, n), probability) for _ in range(repeats)])
        stated = np.mean([histogram(rng.lognormal(0, 1, n)).quantile_se_wh(probability) for _ in range(100)])
        assert stated == pytest.approx(spread, rel=0.12)


def test_the_standard_error_of_a_trimmed_quantile_is_that_of_repeated_trimmed_samples():
    rng = np.random.default_rng(2)
    n, repeats = 2_000, 400

    def drawn() -> LogHistogram:
        return histogram(rng.lognormal(0, 1, n)).trimmed(0.05, 0.95).trimmed(0.10, 0.90)

    samples = [drawn() for _ in range(repeats)]
    spread = np.std([each.quantile_wh(0.25) for each in samples])
    assert np.mean([each.quantile_se_wh(0.25) for each in samples[:50]]) == pytest.approx(spread, rel=0.12)


def test_trimming_keeps_the_middle_of_the_sorted_samples():
    values = np.random.default_rng(3).lognormal(size=100_000)
    kept = histogram(values).trimmed(0.05, 0.95).trimmed(0.10, 0.90)
    assert kept.counts.sum() == pytest.approx(72_000)
    assert (kept.quantile_wh(0), kept.quantile_wh(1)) == pytest.approx(np.quantile(values, [0.14, 0.86]), rel=0.001)


def test_pooling_puts_all_samples_together():
    low, high = histogram([1.0, 1.0]), histogram([100.0, 100.0, 100.0])
    both = pooled([low, high])
    assert both.n_drawn == 5
    assert both.mean_wh == pytest.approx(60.4, rel=0.001)


def test_samples_trimmed_differently_cannot_be_pooled():
    sample = histogram([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="trimmed differently"):
        pooled([sample, sample.trimmed(0.1, 0.9)])


@pytest.mark.parametrize("energy_wh", [1e-10, 1e10, math.inf, math.nan])
def test_an_absurd_energy_is_refused_instead_of_clipped(energy_wh):
    with pytest.raises(ValueError, match="outside 1e-9 to 1e9 Wh"):
        bin_counts(np.log(np.array([1.0, energy_wh])))


def unequal_strata(rng):
    parts = [(3_000, 0.0, 0.6), (1_000, 2.5, 0.9)]
    return [LogHistogram(bin_counts(rng.normal(mu, sd, n)), n) for n, mu, sd in parts]


LEVELS = (0.05, 0.5, 0.6, 0.95)


@cache
def stated_over_actual(trim: bool) -> tuple[float, ...]:
    """Return errors of the quantiles and the mean, from 4 seeds, over the scatter of their estimates over 60."""
    rng, estimates, stated = np.random.default_rng(8), [], []
    for number in range(60):
        one = pooled([h.trimmed(0.05, 0.95) if trim else h for h in unequal_strata(rng)])
        estimates.append([*(one.quantile_wh(level) for level in LEVELS), one.mean_wh])
        if number < 4:
            stated.append([*(one.quantile_se_wh(level) for level in LEVELS), one.mean_se_wh])
    return tuple((np.mean(stated, axis=0) / np.std(estimates, axis=0, ddof=1)).tolist())


@pytest.mark.parametrize("trim", [False, True])
@pytest.mark.parametrize("figure", range(len(LEVELS) + 1))
def test_the_error_of_pooled_samples_of_set_sizes_is_the_scatter_over_seeds(trim, figure):
    assert stated_over_actual(trim)[figure] == pytest.approx(1, abs=0.25)


def test_strata_of_set_sizes_make_a_mean_better_known_than_as_many_mixed_samples():
    one = pooled(unequal_strata(np.random.default_rng(1)))
    assert one.mean_se_wh < 0.9 * LogHistogram(one.counts, one.n_drawn).mean_se_wh


def test_pooling_in_steps_or_at_once_gives_one_error():
    a, b = unequal_strata(np.random.default_rng(2))
    assert pooled([pooled([a, b]), a]).mean_se_wh == pytest.approx(pooled([a, b, a]).mean_se_wh)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_no_quantile_of_a_constant_is_off_by_more_than_the_resolution(probability):
    for log_wh in np.random.default_rng(3).normal(0, 1, 20):
        constant = LogHistogram(bin_counts(np.full(5, log_wh)), 5)
        assert constant.quantile_wh(probability) == pytest.approx(math.exp(log_wh), rel=RESOLUTION_REL)
