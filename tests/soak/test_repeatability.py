"""The criterion of the repeated pairs, on runs whose spread is known."""

import numpy as np
import pytest

from tests.soak.repeatability import Measured, agreements

RANDOM = 0.01


def share_inside(between_rel, claimed_rel, shift=0.0, by_chance_alone=False):
    """Return the share of pairs inside, over many sets of twenty runs drawn with the given spread."""
    rng, inside = np.random.default_rng(5), []
    for _ in range(100):
        errors = rng.normal(0, np.hypot(between_rel, RANDOM), 20) + shift * np.repeat([0, 1], 10)
        pairs = agreements([Measured(100 * float(np.exp(error)), claimed_rel) for error in errors])
        inside += [pair.inside_by_chance_alone if by_chance_alone else pair.inside for pair in pairs]
    return np.mean(inside)


@pytest.mark.parametrize("between_rel", [0.0, 0.01, 0.05])
def test_nineteen_in_twenty_pairs_agree_whatever_the_spread_between_runs(between_rel):
    assert share_inside(between_rel, RANDOM) == pytest.approx(0.95, abs=0.02)


def test_without_the_spread_between_runs_far_fewer_agree():
    assert share_inside(0.03, RANDOM, by_chance_alone=True) < 0.6


def test_a_claimed_error_that_is_too_small_is_made_up_for_by_the_spread_it_leaves_unexplained():
    assert share_inside(0.0, RANDOM / 3) == pytest.approx(0.95, abs=0.02)
    assert share_inside(0.0, RANDOM / 3, by_chance_alone=True) < 0.6


def test_the_pair_that_is_judged_does_not_set_its_own_limit():
    runs = [Measured(100.0 + 0.1 * (-1) ** number, 0.001) for number in range(20)]
    runs[13] = Measured(150.0, 0.001)
    (odd,) = [pair for pair in agreements(runs) if not pair.inside]
    assert (odd.first, odd.second) == (3, 13)
    assert odd.difference == pytest.approx(np.log(150.0 / runs[3].value))
    assert odd.limit < 0.005


def test_pairs_lie_half_the_runs_apart_so_that_a_slow_drift_counts_against_them():
    pairs = agreements([Measured(100.0 + number, 0.01) for number in range(6)])
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 3), (1, 4), (2, 5)]
