import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from estimator.agreement import (
    TERMS,
    Comparison,
    PartialTerms,
    Rung,
    agreement,
    by_group,
    exact_proportion,
    judge_ladder,
    moments,
    power_shares,
    split_known_terms,
)
from estimator.distributions import LogNormal

PRIOR = LogNormal(0.4, 0.9)


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 7), (3, 7), (7, 7), (11, 14), (90, 100)])
@pytest.mark.parametrize("level", [0.90, 0.95])
def test_the_interval_of_a_proportion_is_that_of_clopper_and_pearson(k, n, level):
    seen = exact_proportion(k, n, level)
    oracle = stats.binomtest(k, n).proportion_ci(confidence_level=level, method="exact")
    assert (seen.low, seen.high) == pytest.approx((oracle.low, oracle.high), abs=1e-12)
    assert (seen.k, seen.n, seen.share) == (k, n, k / n)


def test_the_bounds_of_a_proportion_leave_exactly_the_tails_of_the_binomial():
    seen = exact_proportion(4, 9)
    at_least_four = sum(math.comb(9, i) * seen.low**i * (1 - seen.low) ** (9 - i) for i in range(4, 10))
    at_most_four = sum(math.comb(9, i) * seen.high**i * (1 - seen.high) ** (9 - i) for i in range(5))
    assert (at_least_four, at_most_four) == pytest.approx((0.025, 0.025))


def test_nothing_seen_leaves_every_proportion_possible():
    assert (exact_proportion(0, 0).low, exact_proportion(0, 0).high, exact_proportion(0, 0).share) == (0.0, 1.0, None)


@pytest.mark.parametrize(("k", "n", "level"), [(-1, 3, 0.95), (4, 3, 0.95), (1, 3, 1.0), (1, 3, 0.0)])
def test_an_impossible_proportion_is_refused(k, n, level):
    with pytest.raises(ValueError, match="0 <= k <= n"):
        exact_proportion(k, n, level)


def test_bias_and_spread_by_hand():
    seen = moments([0.1, -0.3, 0.5, 0.1])
    assert seen.mean == pytest.approx(0.1)
    assert seen.sd == pytest.approx(math.sqrt(0.32 / 3))
    assert seen.standard_error == pytest.approx(math.sqrt(0.32 / 3) / 2)
    assert seen.sd_standard_error == pytest.approx(math.sqrt(0.32 / 3) / math.sqrt(6))


def test_the_stated_error_of_a_spread_is_the_scatter_of_many_spreads():
    draws = np.random.default_rng(3).normal(0, 2, (20_000, 15))
    of_sd = np.mean([moments(row).sd_standard_error for row in draws])
    assert of_sd == pytest.approx(float(np.std(draws.std(axis=1, ddof=1))), rel=0.03)


def test_too_few_values_leave_spread_and_errors_unknown():
    assert moments([]) == moments(iter(())) and moments([]).mean is None
    one = moments([0.7])
    assert (one.n, one.mean, one.sd, one.standard_error) == (1, 0.7, None, None)


def test_known_terms_split_and_unknown_ones_stay_unknown():
    measured = PartialTerms(pue=1.0, power_kw=4.0, output_tok=300.0, tps_tok_per_s=1000.0)
    predicted = PartialTerms(pue=1.0, power_kw=2.0, output_tok=None, tps_tok_per_s=2000.0)
    split = split_known_terms(measured, predicted)
    assert split["power"] == pytest.approx(math.log(2))
    assert split["tps"] == pytest.approx(math.log(2))
    assert (split["length"], split["total"], split["pue"]) == (None, None, 0.0)
    whole = split_known_terms(measured, PartialTerms(1.0, 2.0, 100.0, 2000.0))
    assert whole["total"] == pytest.approx(math.log(4.0 * 300 / 1000 / (2.0 * 100 / 2000)))


LADDER = (
    Rung("8", 233.0, 8, 8.0, 3260 / 233),
    Rung("64", 1200.0, 64, 63.9, 4000 / 1200),
    Rung("256", 2363.0, 256, 255.9, 4875 / 2363),
)


def test_the_cell_with_the_largest_tps_stands_for_saturation_and_the_smallest_cap_is_set_against_it():
    ladder = judge_ladder(LADDER)
    assert (ladder.top.cell, ladder.bottom.cell) == ("256", "8")
    assert ladder.top.joules_per_tok == pytest.approx(2.063, abs=5e-4)
    assert ladder.energy_ratio == pytest.approx(6.78, abs=5e-3)


@pytest.mark.parametrize(
    ("last", "saturation", "said"),
    [
        (Rung("t", 1300.0, 128, 100.0), "proven", "100.0 of 128 slots"),
        (Rung("t", 1300.0, 128, 127.9), "unproven", "rises by 8% a doubling"),
        (Rung("t", 1230.0, 128, 127.9), "proven", "rises by 2% a doubling"),
        (Rung("t", 1100.0, 128, 127.9), "proven", "128 slots give no more TPS than 64"),
    ],
)
def test_saturation_is_proven_by_empty_slots_or_a_plateau(last, saturation, said):
    ladder = judge_ladder((*LADDER[:2], last))
    assert ladder.saturation == saturation
    assert said in ladder.evidence


def test_one_cap_says_nothing_about_saturation_unless_the_source_does():
    only = judge_ladder([Rung("a", 100.0, 8, 8.0, 2.0), Rung("b", 110.0, 8, 8.0, 2.0)])
    assert (only.saturation, only.energy_ratio, only.bottom) == ("unknown", None, None)
    assert judge_ladder([Rung("a", 100.0)]).saturation == "unknown"
    assert judge_ladder([Rung("a", 100.0, source_says_saturated=True)]).saturation == "proven"


def test_an_empty_ladder_is_refused():
    with pytest.raises(ValueError, match="at least one cell"):
        judge_ladder([])


@given(st.permutations(LADDER), st.lists(st.sampled_from(LADDER), max_size=4))
def test_the_order_and_repetition_of_cells_change_no_ladder(rungs, repeated):
    assert judge_ladder([*rungs, *repeated]) == judge_ladder(LADDER)


def compared(group, total, half_width=0.5, share=0.6):
    terms = {"power": total / 2, "tps": total / 2, "length": 0.0, "pue": 0.0, "total": total}
    return Comparison(group, terms, ln_p5=-half_width, ln_p95=half_width, power_share=share)


def test_a_group_counts_once_with_the_mean_of_its_ladders():
    groups = by_group([compared("b", 0.2), compared("a", 0.9), compared("a", 0.3), compared("a", 0.0)])
    assert [group.group for group in groups] == ["a", "b"]
    assert groups[0].ln_terms["total"] == pytest.approx(0.4)
    assert [group.covered for group in groups] == [True, True]
    assert by_group([compared("a", 0.9), compared("a", 0.3)])[0].covered is False


def test_the_averaged_bounds_of_a_group_are_the_quantiles_of_a_mean_whose_errors_move_together():
    z = np.random.default_rng(2).normal(size=200_000)
    mean_error = (0.3 * z + 0.9 * z) / 2
    bounds = [Comparison("a", dict.fromkeys(TERMS, 0.0), -1.6448536 * sd, 1.6448536 * sd) for sd in (0.3, 0.9)]
    group = by_group(bounds)[0]
    assert (group.ln_p5, group.ln_p95) == pytest.approx(tuple(np.quantile(mean_error, [0.05, 0.95])), rel=0.02)


def test_a_ladder_without_a_prediction_enters_no_coverage_but_its_power_counts():
    unknown = Comparison("a", dict.fromkeys(TERMS), power_share=0.95)
    result = agreement(by_group([unknown, compared("b", 0.1)]), PRIOR)
    assert (result.coverage.k, result.coverage.n) == (1, 1)
    assert result.ln_ratio["total"].n == 1
    assert (result.power_shares.inside.k, result.power_shares.inside.n) == (1, 2)


def test_agreement_by_hand():
    result = agreement(by_group([compared("a", 0.2), compared("b", -0.4), compared("c", 0.8)]), PRIOR)
    assert (result.coverage.k, result.coverage.n) == (2, 3)
    assert result.ln_ratio["total"].mean == pytest.approx(0.2)
    assert result.ln_ratio["total"].sd == pytest.approx(0.6)
    assert result.ln_ratio["power"].mean == pytest.approx(0.1)
    assert result.median_p95_over_p5 == pytest.approx(math.e)


def test_power_shares_against_the_prior_by_hand():
    shares = power_shares([0.3, 0.6, 0.9], PRIOR)
    assert (shares.inside.k, shares.inside.n, shares.quantiles["p50"]) == (2, 3, pytest.approx(0.6))
    assert shares.ln_over_prior_median.mean == pytest.approx((math.log(0.5) + 0 + math.log(1.5)) / 3)
    gap = shares.ln_over_prior_median.mean - shares.ln_over_prior_mean.mean
    assert gap == pytest.approx(math.log(0.61851 / 0.6), abs=1e-5)
    assert power_shares([], PRIOR).quantiles == {}


def test_without_groups_nothing_is_claimed():
    result = agreement((), PRIOR)
    assert (result.coverage.n, result.ln_ratio["total"].mean, result.median_p95_over_p5) == (0, None, None)


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.floats(-2, 2)), min_size=1, max_size=12), st.randoms())
def test_the_order_of_cells_changes_no_summary(cells, order: random.Random):
    comparisons = [compared(group, total) for group, total in cells]
    shuffled = list(comparisons)
    order.shuffle(shuffled)
    assert agreement(by_group(shuffled), PRIOR) == agreement(by_group(comparisons), PRIOR)
