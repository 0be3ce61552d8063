import numpy as np
import pytest
import scipy.stats

from harness.steady import DRIFT, MIN_INTERVALS, WINDOW_TOO_SHORT, choose_window

T = np.arange(0.0, 60.01, 0.5)
INF = float("inf")


def tokens_of(rate, t_s=T):
    """Count what a rate that is given at each interval's middle generates, from an arbitrary start."""
    return 1e6 + np.concatenate([[0.0], np.cumsum(np.diff(t_s) * rate((t_s[1:] + t_s[:-1]) / 2))])


def constant(middle_s):
    return np.full(middle_s.size, 800.0)


def test_a_constant_rate_is_accepted_and_has_no_change():
    window = choose_window(T, tokens_of(constant), 0.0, 60.0)
    assert window.change_rel == pytest.approx(0, abs=1e-9)
    assert window.change_half_width_rel == pytest.approx(0, abs=1e-9)
    assert window.reasons == ()


@pytest.mark.parametrize("rise", [-0.5, -0.04, 0.03, 0.2, 1.0])
def test_the_change_of_a_linear_ramp_is_its_rise_over_the_mean_rate(rise):
    # Rate r0 (1 + rise * t / T): it rises by r0 * rise, and its mean is r0 (1 + rise / 2).
    window = choose_window(T, tokens_of(lambda t: 500 * (1 + rise * t / 60)), 0.0, 60.0)
    assert window.change_rel == pytest.approx(rise / (1 + rise / 2))
    assert window.change_half_width_rel == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("change", "reasons"), [(0.049, ()), (-0.049, ()), (0.051, (DRIFT,)), (-0.051, (DRIFT,))])
def test_a_change_of_more_than_five_percent_either_way_is_a_drift(change, reasons):
    rise = change / (1 - change / 2)
    window = choose_window(T, tokens_of(lambda t: 500 * (1 + rise * t / 60)), 0.0, 60.0)
    assert window.reasons == reasons


@pytest.mark.parametrize(("step", "reasons"), [(0.02, ()), (0.10, (DRIFT,))])
def test_the_change_of_a_level_shift_in_the_middle_is_one_and_a_half_times_the_step(step, reasons):
    # Least squares through a symmetric step of height h over a width of T has the slope 3 h / (2 T).
    t_s = np.linspace(0, 100, 20_001)
    window = choose_window(t_s, tokens_of(lambda t: 100 * (1 + step * (t > 50)), t_s), 0.0, 100.0)
    assert window.change_rel == pytest.approx(1.5 * step / (1 + step / 2), rel=1e-3)
    assert window.reasons == reasons


def test_change_and_half_width_are_those_of_an_ordinary_regression():
    rng = np.random.default_rng(3)
    t_s = np.cumsum(rng.uniform(0.3, 0.7, 80))
    counts = tokens_of(lambda t: 700 + 2 * t + rng.normal(0, 40, t.size), t_s)
    window = choose_window(t_s, counts, 0.0, INF)
    line = scipy.stats.linregress((t_s[1:] + t_s[:-1]) / 2, np.diff(counts) / np.diff(t_s))
    scale = (t_s[-1] - t_s[0]) / ((counts[-1] - counts[0]) / (t_s[-1] - t_s[0]))
    assert window.change_rel == pytest.approx(line.slope * scale)
    assert window.change_half_width_rel == pytest.approx(2 * line.stderr * scale)


def test_the_half_width_covers_the_change_of_a_flat_noisy_rate_nineteen_times_in_twenty():
    rng = np.random.default_rng(4)
    runs = [choose_window(T, tokens_of(lambda t: rng.normal(800, 40, t.size)), 0.0, 60.0) for _ in range(400)]
    covered = np.mean([abs(run.change_rel) <= run.change_half_width_rel for run in runs])
    assert covered == pytest.approx(0.95, abs=0.03)
    assert np.mean([run.reasons == () for run in runs]) > 0.9


@pytest.mark.parametrize(
    ("earliest_s", "latest_s", "start_s", "end_s"),
    [(12.0, 48.0, 12.0, 48.0), (12.1, 47.9, 12.5, 47.5), (-5.0, 99.0, 0.0, 60.0)],
)
def test_the_window_is_all_scrapes_between_warm_up_and_the_end_of_the_load(earliest_s, latest_s, start_s, end_s):
    window = choose_window(T, tokens_of(constant), earliest_s, latest_s)
    assert (window.start_s, window.end_s) == (start_s, end_s)
    assert (T[window.first], T[window.last]) == (start_s, end_s)


def test_a_ramp_before_the_window_does_not_count():
    window = choose_window(T, tokens_of(lambda t: 800 * np.minimum(1, t / 10)), 10.0, 60.0)
    assert window.change_rel == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("latest_s", [-1.0, 0.0, 0.5])
def test_fewer_than_three_scrapes_are_no_window(latest_s):
    assert choose_window(T, tokens_of(constant), 0.0, latest_s) is None


def test_no_scrapes_at_all_are_no_window():
    assert choose_window(np.empty(0), np.empty(0), 0.0, 60.0) is None


@pytest.mark.parametrize("intervals", range(2, MIN_INTERVALS + 2))
def test_fewer_than_eight_intervals_are_too_short_to_test(intervals):
    window = choose_window(T, tokens_of(constant), 0.0, intervals * 0.5)
    assert (WINDOW_TOO_SHORT in window.reasons) == (intervals < MIN_INTERVALS)


def test_a_window_without_tokens_has_an_unknown_change():
    window = choose_window(T, np.full(T.size, 7.0), 0.0, 60.0)
    assert window.change_half_width_rel == INF
