import math

import numpy as np
import pytest
import statsmodels.api as sm

from estimator.power.joules import EnergyCell, split_joules

GRID = [(i, o) for i in (200, 1000, 4000) for o in (100, 800, 3000)]


def cells(a, b, c, noise=None):
    noise = noise if noise is not None else [0.0] * len(GRID)
    return [
        EnergyCell(i, o, (a * i + b * o + c * o * (i + o / 2)) * (1 + e)) for (i, o), e in zip(GRID, noise, strict=True)
    ]


def test_costs_and_intervals_are_those_of_weighted_least_squares_where_all_are_positive():
    noise = [0.02, -0.03, 0.01, 0.0, 0.02, -0.01, -0.02, 0.03, -0.01]
    measured = cells(0.02, 0.5, 1e-4, noise)
    split = split_joules(measured)
    x = np.array([[m.input_tok, m.output_tok, m.output_tok * (m.input_tok + m.output_tok / 2)] for m in measured])
    joules = np.array([m.joules_per_query for m in measured])
    fit = sm.WLS(joules, x, weights=joules**-2.0).fit()
    bounds = fit.conf_int(0.05)
    for term, value, (low, high) in zip(
        (split.prefill, split.decode, split.attention), fit.params, bounds, strict=True
    ):
        assert term is not None
        assert term.value == pytest.approx(value)
        assert (term.low_95, term.high_95) == pytest.approx((max(0.0, low), high))
    assert split.residual_sd_rel == pytest.approx(math.sqrt(fit.scale))
    assert (split.dof, split.n_cells, split.reason) == (6, 9, None)


def test_intervals_cover_the_true_costs_about_as_often_as_they_say():
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(200):
        split = split_joules(cells(0.02, 0.5, 1e-4, rng.normal(0, 0.03, 9)))
        for term, truth in ((split.prefill, 0.02), (split.decode, 0.5), (split.attention, 1e-4)):
            assert term is not None
            inside += term.low_95 <= truth <= term.high_95
    assert inside / 600 == pytest.approx(0.95, abs=0.03)


def test_a_cost_that_is_not_there_is_0_with_an_upper_limit_and_a_note():
    split = split_joules(cells(0.0, 0.5, 1e-4, [-0.02, 0.03, 0.01, -0.03, 0.0, -0.01, -0.04, 0.02, 0.01]))
    assert split.prefill is not None
    assert split.prefill.value == split.prefill.low_95 == 0.0
    assert split.prefill.high_95 > 0
    assert "prefill cost is at its bound of 0" in split.notes[0]


@pytest.mark.parametrize("truth", [(0.0, 0.5, 1e-4), (0.02, 0.5, 0.0), (0.02, 0.5, 2e-6), (0.02, 0.0, 1e-4)])
def test_intervals_still_cover_where_a_cost_is_0_or_hardly_seen(truth):
    rng, inside = np.random.default_rng(6), np.zeros(3)
    for _ in range(200):
        split = split_joules(cells(*truth, rng.normal(0, 0.03, 9)))
        for index, term in enumerate((split.prefill, split.decode, split.attention)):
            assert term is not None
            inside[index] += term.low_95 <= truth[index] <= term.high_95
    assert inside.min() / 200 >= 0.91


@pytest.mark.parametrize("n", [0, 1, 3])
def test_too_few_cells_give_no_costs_but_a_reason(n):
    split = split_joules(cells(0.02, 0.5, 1e-4)[:n])
    assert (split.prefill, split.decode, split.attention) == (None, None, None)
    assert split.reason == f"{n} cell(s): three costs with an error need at least four"


def test_lengths_that_vary_together_give_no_costs_but_a_reason():
    split = split_joules([EnergyCell(n, 2 * n, 3.0 * n) for n in (100, 200, 400, 800)])
    assert split.prefill is None
    assert "vary together" in (split.reason or "")


def test_a_narrow_grid_says_that_its_costs_can_hardly_be_told_apart():
    narrow = [
        EnergyCell(i, o, 0.02 * i + 0.5 * o + 1e-4 * o * (i + o / 2)) for i in (500, 520) for o in (300, 310, 320)
    ]
    assert any("hardly be told apart" in note for note in split_joules(narrow).notes)
    assert split_joules(cells(0.02, 0.5, 1e-4)).notes == ()


@pytest.mark.parametrize("values", [(0, 5, 5.0), (5, 5, math.nan), (5, 5, -1.0), (5, 5, math.inf)])
def test_a_cell_that_makes_no_sense_is_refused_by_number(values):
    with pytest.raises(ValueError, match="cell 2: lengths and joules per query must be positive"):
        split_joules([EnergyCell(5, 5, 5.0), EnergyCell(*values)])
