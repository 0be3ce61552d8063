import math

import numpy as np
import pytest

from estimator.queries.interventions import INTERVENTIONS, combined, parse_gain


@pytest.mark.parametrize(
    ("name", "p5", "p95"),
    [("model", 1.5, 10), ("serving", 1.5, 5), ("hardware", 1.5, 2.5), ("line-of-sight", 1.5, 3)],
)
def test_the_named_gains_are_those_the_paper_states(name, p5, p95):
    assert (parse_gain(name).p5, parse_gain(name).p95) == (p5, p95)


@pytest.mark.parametrize("text", ["2-4", "2.0 - 4.0", "0.2e1-4"])
def test_a_range_gives_p5_and_p95(text):
    assert (parse_gain(text).p5, parse_gain(text).p95) == (2, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("servng", "did you mean 'serving'"),
        ("3-1.5", "0 < p5 <= p95"),
        ("0-2", "0 < p5 <= p95"),
        ("3", "must be LOW-HIGH"),
        ("1.5-", "must be LOW-HIGH"),
        ("-1-2", "must be LOW-HIGH"),
        ("nan-2", "unknown intervention"),
        ("1.2.3-4", "could not convert"),
    ],
)
def test_what_is_no_gain_is_refused_with_the_reason(text, message):
    with pytest.raises(ValueError, match=message):
        parse_gain(text)


def test_combined_gains_are_those_of_multiplied_draws():
    gains = [INTERVENTIONS["model"], INTERVENTIONS["serving"], INTERVENTIONS["hardware"]]
    rng = np.random.default_rng(0)
    drawn = math.prod(gain.sample(rng, 400_000) for gain in gains)
    both = combined(gains)
    assert np.quantile(drawn, [0.05, 0.5, 0.95]) == pytest.approx([both.p5, both.median, both.p95], rel=0.01)


def test_no_gain_changes_nothing():
    assert (combined([]).p5, combined([]).p95) == (1, 1)
