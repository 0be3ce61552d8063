"""The error of a rung's throughput, and how often the interval of a gain made of two of them holds."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import t as student_t

from harness.analysis.rung_error import rung_error
from harness.analysis.saturation import Rung, choose, gain_of, next_step, plateau_shown

PERIOD_S = 0.5
TRUE_GAIN = 1.05


def tokens(rng, phi, count, tps, sd_rel=0.05):
    """Tokens of scrape intervals: throughput is first-order autoregressive."""
    shocks = rng.normal(size=count + 300) * np.sqrt(1 - phi**2)
    return tps * PERIOD_S * (1 + sd_rel * lfilter([1.0], [1.0, -phi], shocks)[300:])


def rung(rng, phi, count, tps):
    new_tok = tokens(rng, phi, count, tps)
    error = rung_error(new_tok, [PERIOD_S] * count, 0.0)
    rate = new_tok.sum() / (count * PERIOD_S)
    return Rung(16, rate, 0.0, error.u_tok_per_s, tps_dof=error.dof, seconds=count * PERIOD_S)


@pytest.mark.parametrize(("phi", "count", "at_least"), [(0.0, 86, 0.92), (0.0, 258, 0.92), (0.9, 258, 0.88)])
def test_the_interval_of_a_gain_holds_about_as_often_as_it_says(phi, count, at_least):
    """Batches of three scrapes and a normal quantile, whatever the memory, would hold in half of the cases at 0.9."""
    rng = np.random.default_rng(3)
    gains = [gain_of(rung(rng, phi, count, 1000.0), rung(rng, phi, count, 1000.0 * TRUE_GAIN)) for _ in range(300)]
    held = [abs(gain - TRUE_GAIN) < half_width for gain, half_width in gains if half_width is not None]
    assert len(held) > 200
    assert np.mean(held) >= at_least


@pytest.mark.parametrize("count", [10, 30, 86])
def test_a_rung_too_short_for_its_memory_seldom_claims_an_interval_that_does_not_hold(count):
    rng = np.random.default_rng(4)
    gains = [gain_of(rung(rng, 0.9, count, 1000.0), rung(rng, 0.9, count, 1000.0 * TRUE_GAIN)) for _ in range(300)]
    missed = [half_width is not None and abs(gain - TRUE_GAIN) >= half_width for gain, half_width in gains]
    assert np.mean(missed) <= 0.05


def test_the_error_is_that_of_batches_no_shorter_than_a_mean_request():
    """Alternating rates have no memory, but requests of six intervals make batches of six: 100, 110 tok/s in turn."""
    new_tok = np.repeat([50.0, 55.0] * 2, 6) + np.tile([10.0, -10.0], 12)
    error = rung_error(new_tok, [PERIOD_S] * 24, request_tok=float(new_tok.sum()) / 4)
    assert error.dof == 3
    assert error.u_tok_per_s == pytest.approx(np.std([100, 110, 100, 110], ddof=1) / 2)


@pytest.mark.parametrize("request_s", [10.0, 50.0])
def test_requests_too_long_for_two_batches_leave_the_error_unknown_and_tell_when_it_would_be_known(request_s):
    new_tok = tokens(np.random.default_rng(5), 0.0, 30, 100.0)
    error = rung_error(new_tok, [PERIOD_S] * 30, request_tok=100.0 * request_s)
    assert (error.u_tok_per_s, error.dof) == (None, None)
    assert error.seconds_to_know == pytest.approx(2 * request_s, rel=0.05)


@pytest.mark.parametrize("new_tok", [[], [1.0, 2.0], [0.0] * 20])
def test_nothing_is_known_of_a_rung_with_hardly_a_scrape_or_without_tokens(new_tok):
    assert rung_error(new_tok, [PERIOD_S] * len(new_tok), 10.0) == rung_error([], [], 0.0)


def test_two_batches_each_need_the_quantile_of_few_degrees_of_freedom():
    before, after = (Rung(c, 100.0, 0.0, 2.0, tps_dof=1) for c in (16, 32))
    gain, half_width = gain_of(before, after)
    assert gain == 1.0
    assert half_width == pytest.approx(student_t.ppf(0.975, 2) * 0.02 * 2**0.5)


def test_a_plateau_that_is_said_to_be_established_is_seldom_noise():
    """True gains of 7%, throughput that remembers itself for 10 s: the estimate alone stops one ladder in three."""
    rng, ladders = np.random.default_rng(6), []
    for _ in range(200):
        before, after = (rung(rng, 0.9, 86, tps) for tps in (1000.0, 1070.0))
        ladders.append([before, replace(after, concurrency=32, extensions=2)])
    stopped = [ladder for ladder in ladders if next_step(ladder) == "stop"]
    shown = [ladder for ladder in stopped if plateau_shown(ladder, "compute_or_bandwidth")]
    assert len(stopped) > 40
    assert len(shown) <= 0.05 * len(ladders)
    unknown = [ladder for ladder in stopped if ladder not in shown]
    assert all("not statistically established" in choose(ladder).binding for ladder in unknown)
