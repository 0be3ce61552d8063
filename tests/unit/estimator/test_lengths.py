import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator.lengths import LengthDistribution, empirical_lengths, exponential_lengths, fixed_lengths


def joint(input_tok: list[int], output_tok: list[int], weight: list[float]) -> LengthDistribution:
    return LengthDistribution(np.array(input_tok), np.array(output_tok), np.array(weight))


@given(median=st.floats(20, 5000))
def test_an_exponential_has_its_median_and_the_mean_median_over_ln_2(median):
    lengths = exponential_lengths(median, 500)
    assert lengths.weight.sum() == pytest.approx(1.0)
    assert abs(lengths.median_output_tok - median) <= 1
    assert lengths.mean_output_tok == pytest.approx(median / math.log(2), rel=2e-3)
    assert lengths.mean_input_tok == pytest.approx(500)


@pytest.mark.parametrize("median", [5_000, 75_000, 300_000, 5e6, 3e10])
def test_however_long_an_exponential_takes_little_memory_and_keeps_its_moments(median):
    """Moments of an exponential of mean m: E[L^p] = m^p Gamma(1 + p); a share x is longer than -m ln x."""
    lengths, mean = exponential_lengths(median, 500), median / math.log(2)
    assert lengths.weight.size < 300_000
    assert (np.diff(lengths.output_tok) > 0).all()
    assert lengths.weight.sum() == pytest.approx(1, rel=1e-9)
    assert lengths.median_output_tok == pytest.approx(median, rel=1e-3)
    for power in (0.7, 1.0, 1.3):
        moment = float(lengths.weight @ lengths.output_tok.astype(float) ** power)
        assert moment == pytest.approx(mean**power * math.gamma(1 + power), rel=3e-4)
    for share in (0.5, 0.05, 1e-4):
        length = -mean * math.log(share)
        assert lengths.weight[lengths.output_tok > length].sum() == pytest.approx(share, rel=0.01)


def test_up_to_262144_tokens_every_length_has_its_own_probability():
    lengths = exponential_lengths(5e6, 500)
    mean = 5e6 / math.log(2)
    at = np.array([2, 1000, 262_144])
    expected = np.exp(-(at - 0.5) / mean) - np.exp(-(at + 0.5) / mean)
    assert lengths.output_tok[at - 1].tolist() == at.tolist()
    assert lengths.weight[at - 1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("median", "quartiles"), [(300, (129, 618)), (5000, (2040, 9717))])
def test_samples_have_the_quartiles_the_paper_states(median, quartiles):
    _, output_tok = exponential_lengths(median, 500).sample(np.random.default_rng(1), 200_000)
    # The paper's are of 10,000 draws, whose quartiles scatter by about 2%.
    assert np.quantile(output_tok, [0.25, 0.75]) == pytest.approx(quartiles, rel=0.04)


@given(cap=st.integers(501, 3000))
def test_the_capped_share_is_the_tail_beyond_the_room_left_by_the_input(cap):
    capped, share = exponential_lengths(300, 500).capped(cap)
    assert share == pytest.approx(math.exp(-(cap - 500 + 0.5) * math.log(2) / 300), abs=1e-8)
    assert (capped.input_tok + capped.output_tok).max() <= cap


def test_a_cap_without_room_for_output_is_refused():
    with pytest.raises(ValueError, match="leaves no room"):
        fixed_lengths(500, 10).capped(500)


def test_sampling_draws_each_joint_length_with_its_weight():
    lengths = joint([10, 20, 30], [1, 2, 3], [0.2, 0.5, 0.3])
    inputs, outputs = lengths.sample(np.random.default_rng(0), 50_000)
    assert (inputs == 10 * outputs).all()
    assert np.bincount(outputs)[1:] / 50_000 == pytest.approx([0.2, 0.5, 0.3], abs=0.01)


def test_queries_in_flight_are_drawn_in_proportion_to_their_length():
    lengths = joint([5, 5], [1, 3], [0.5, 0.5])
    _, outputs = lengths.sample_length_biased(np.random.default_rng(0), 50_000)
    assert np.mean(outputs == 3) == pytest.approx(0.75, abs=0.01)


def test_recorded_lengths_are_equally_likely():
    lengths = empirical_lengths([10, 20, 30, 40], [1, 2, 3, 10])
    assert lengths.mean_output_tok == pytest.approx(4.0)
    assert lengths.mean_input_tok == pytest.approx(25.0)
    assert lengths.median_output_tok == 2


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (([1], [1, 2], [1.0]), "equal length"),
        (([], [], []), "at least one"),
        (([0], [1], [1.0]), "at least 1 token"),
        (([1], [0], [1.0]), "at least 1 token"),
        (([1, 1], [1, 1], [0.5, 0.4]), "sum to 1"),
        (([1, 1], [1, 1], [1.5, -0.5]), "non-negative"),
    ],
)
def test_lengths_that_make_no_sense_are_refused(lengths, message):
    with pytest.raises(ValueError, match=message):
        joint(*lengths)


def test_a_median_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="positive"):
        exponential_lengths(0, 500)
