"""The window rule on records whose ramps, drifts and troubles are known."""

import math

import numpy as np
import pytest

from harness.analysis.objections import COHORTS_IN_STEP, DRIFT, LEVEL_SHIFT, RATE_COLLAPSES, STEADINESS_UNPROVEN
from harness.analysis.steady import (
    AUTOCORRELATION_TOO_LONG,
    NO_STEADY_STATE,
    PRECISION_NOT_REACHED,
    RAMP_NOT_OVER,
    WINDOW_TOO_SHORT,
    Record,
    choose_window,
    window_so_far,
)
from tests.unit.harness.synthetic_record import JOULES, KV, TOK, TRUE_JOULES_PER_TOK, Condition, record_of, rule, study

N = 600
T = np.arange(N)


def noisy(seed, shape=1.0, kv_shape=None, sd_rel=0.005):
    """Five minutes of white noise about the given shape, of which power shows a third."""
    rng = np.random.default_rng(seed)
    shape = shape * np.ones(N)
    noise = rng.normal(1, sd_rel, (3, N))
    kv_shape = shape if kv_shape is None else kv_shape
    return record_of(TOK * shape * noise[0], JOULES * (2 + shape) / 3 * noise[1], KV * kv_shape * noise[2])


def test_a_steady_cell_ends_at_the_first_look_without_objections():
    window = choose_window(noisy(1), rule())
    assert (window.ended, window.reasons) == ("precision_reached", ())
    assert window.end_s in (20.0, 40.0, 80.0, 160.0)
    assert window.start_s < 0.1 * window.end_s
    assert window.joules_per_tok.ratio == pytest.approx(TRUE_JOULES_PER_TOK, rel=0.002)
    assert set(window.changes) == {"throughput", "power", "kv_usage"}


@pytest.mark.parametrize("length_s", [5, 15, 30])
def test_the_window_starts_after_a_linear_ramp(length_s):
    ramp = np.minimum(1.0, 0.2 + 0.8 * T * 0.5 / length_s)
    window = choose_window(noisy(2, ramp), rule())
    assert window.reasons == ()
    assert window.start_s >= 0.97 * length_s
    assert window.joules_per_tok.ratio == pytest.approx(TRUE_JOULES_PER_TOK, rel=0.005)


@pytest.mark.parametrize("constant_s", [2, 5, 10])
def test_the_window_starts_where_an_exponential_ramp_has_faded(constant_s):
    window = choose_window(noisy(3, 1 - 0.6 * np.exp(-T * 0.5 / constant_s)), rule())
    assert window.reasons == ()
    assert 0.6 * math.exp(-window.start_s / constant_s) < 0.02


def test_a_ramp_of_kv_usage_alone_is_seen_too():
    window = choose_window(noisy(4, 1.0, np.minimum(1.0, T / 60)), rule())
    assert window.reasons == ()
    assert window.start_s >= 29


@pytest.mark.parametrize("step", [-0.5, -0.1, 0.1, 1.0])
def test_the_window_starts_after_a_level_shift_that_the_log_outlasts(step):
    window = choose_window(noisy(5, np.where(T < 80, 1.0, 1 + step)), rule(min_window_s=100.0))
    assert window.reasons == ()
    assert window.start_s >= 39.5


SWINGING = 1 + 0.3 * np.sign(np.sin(2 * np.pi * (T + 0.5) / 40))
SAWTOOTH = 2 * ((T % 40) + 0.5) / 40
STORMS = np.where((T % 97) < 12, 0.2, 1.0)
REFUSED = {
    "a drift of a tenth": (1 + 0.1 * T / N, None, rule(min_window_s=150.0), {DRIFT}),
    "a drift down by a third": (1 - 0.33 * T / N, None, rule(), {DRIFT}),
    "a drift of kv usage alone": (np.ones(N), 1 + 0.5 * T / N, rule(min_window_s=299.0), {DRIFT}),
    "a ramp as long as the log": (0.2 + 0.8 * T / N, None, rule(), {DRIFT, RAMP_NOT_OVER}),
    "a level shift late in the log": (np.where(T < 400, 1.0, 1.2), None, rule(min_window_s=250.0), {LEVEL_SHIFT}),
    "cohorts in step, in rate and memory": (SWINGING, SAWTOOTH, rule(20.0), {COHORTS_IN_STEP}),
    "cohorts in step, in memory alone": (np.ones(N), SAWTOOTH, rule(20.0), {COHORTS_IN_STEP}),
    "preemption storms": (STORMS, STORMS, rule(min_window_s=75.0), {RATE_COLLAPSES}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_steady_state_is_refused_with_its_reason(name):
    shape, kv_shape, asked, expected = REFUSED[name]
    for seed in range(5):
        window = choose_window(noisy(10 + seed, shape, kv_shape), asked)
        assert window.ended == "budget_spent"
        assert expected | {NO_STEADY_STATE} <= set(window.reasons)


@pytest.mark.parametrize("rise", [-0.04, 0.0, 0.01, 0.03, 0.2])
def test_the_change_is_the_rise_of_a_line_over_its_mean(rise):
    # r0 (1 + rise * t / T) rises by r0 * rise, and its mean is r0 (1 + rise / 2).
    shape = 1 + rise * (T + 0.5) / N
    window = choose_window(record_of(TOK * shape), rule(min_window_s=300.0))
    share = (window.last - window.first) / N
    middle = 1 + rise * (window.first + window.last) / 2 / N
    assert window.changes["throughput"].change == pytest.approx(rise * share / middle, rel=0.02, abs=1e-9)
    # The part of the ramp that the rule leaves out makes the change in the rest smaller, not smaller than the bound.
    assert (DRIFT in window.reasons) == (abs(rise * share / middle) > 0.02)


@pytest.mark.parametrize("usage", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("points", [-5.0, 3.0, 5.0])
def test_kv_usage_may_change_by_two_points_of_the_capacity_however_full_the_cache_is(usage, points):
    kv = usage + points / 100 * (T + 0.5) / N
    window = choose_window(record_of(np.full(N, TOK), np.full(N, JOULES), kv), rule(min_window_s=300.0))
    change = points / 100 * (window.last - window.first) / N
    assert window.changes["kv_usage"].change == pytest.approx(change, rel=0.02)
    assert (DRIFT in window.reasons) == (abs(change) > 0.02) == (abs(points) == 5)


def in_use(rng, slots, intervals, request):
    """KV usage of slots that are refilled at once, over its mean: an input of 0.3 outputs, outputs exponential."""
    t = np.arange(intervals)
    total = np.zeros(intervals)
    for _ in range(slots):
        later = np.cumsum(rng.exponential(request, size=3 * intervals // request))
        begins = np.concatenate([[-rng.exponential(request)], later])
        total += 0.3 * request + t - begins[np.searchsorted(begins, t, side="right") - 1]
    return total / (slots * 1.3 * request)


@pytest.mark.parametrize("usage", [0.05, 0.5])
def test_mixed_lengths_are_steady_though_kv_usage_wanders(usage):
    """Usage of 256 slots with lengths of CV 1 swings by some 5% of its mean, for a mean request at a time."""
    windows = []
    for seed in range(6):
        rng = np.random.default_rng(30 + seed)
        kv = usage * in_use(rng, slots=256, intervals=2400, request=40)
        tokens, joules = TOK * rng.normal(1, 0.005, 2400), JOULES * rng.normal(1, 0.005, 2400)
        windows.append(choose_window(record_of(tokens, joules, kv), rule(request_s=20.0)))
    assert all(window.reasons == () for window in windows)
    swings = [abs(window.changes["kv_usage"].change) / usage for window in windows]
    assert max(swings) > 0.02


@pytest.mark.parametrize("seed", range(4))
def test_scrapes_that_come_late_are_no_noise_of_the_throughput(seed):
    """One answer in twenty begins up to 0.45 s after the server has read its counters, and the next is on time."""
    rng = np.random.default_rng(seed)
    even = record_of(TOK * rng.normal(1, 0.005, 600), JOULES * rng.normal(1, 0.005, 600), np.full(600, KV))
    late_s = np.where(rng.random(601) < 0.05, rng.uniform(0, 0.45, 601), 0)
    late_s[[0, -1]] = 0
    seen = Record(even.t_s + late_s, even.tokens, even.kv_usage, even.interval_joules)
    rates = np.diff(seen.tokens) / np.diff(seen.t_s)
    assert rates.std() / rates.mean() > 0.2
    assert choose_window(seen, rule()).reasons == ()


def test_too_noisy_a_cell_keeps_its_figure_and_says_what_was_not_shown():
    window = choose_window(noisy(20, sd_rel=0.2), rule())
    assert set(window.reasons) == {STEADINESS_UNPROVEN, PRECISION_NOT_REACHED}
    assert window.ended == "budget_spent"
    assert window.joules_per_tok.half_width_rel > 0.02


def test_requests_longer_than_a_sixth_of_the_window_make_it_too_short():
    assert WINDOW_TOO_SHORT in choose_window(noisy(21), rule(request_s=60.0)).reasons
    assert WINDOW_TOO_SHORT not in choose_window(noisy(21), rule(request_s=45.0)).reasons


def test_slow_wandering_needs_thirty_autocorrelation_times():
    window = choose_window(Condition(0.98, False, 0.02, 8).record(np.random.default_rng(22)), rule())
    assert AUTOCORRELATION_TOO_LONG in window.reasons
    assert window.autocorrelation_s > 10


def test_the_decision_does_not_depend_on_what_was_logged_after_it():
    whole = noisy(23)
    window = choose_window(whole, rule())
    for later in (1, 7, 50):
        kept = slice(window.last + 1 + later)
        partial = Record(whole.t_s[kept], whole.tokens[kept], whole.kv_usage[kept], whole.interval_joules)
        assert choose_window(partial, rule()) == window


def test_looks_come_at_doubling_lengths_only():
    ends = [
        window.end_s
        for seed in range(40)
        if (window := choose_window(noisy(seed, sd_rel=0.02), rule())).ended == "precision_reached"
    ]
    assert ends
    assert set(ends) <= {20.0, 40.0, 80.0, 160.0}


def test_warm_up_and_load_stop_bound_the_window():
    window = choose_window(noisy(24), rule(earliest_s=30.2, latest_s=47.7, min_window_s=30.0))
    assert (window.start_s, window.end_s) == (30.5, 47.5)
    assert (window.ended, WINDOW_TOO_SHORT in window.reasons) == ("budget_spent", True)


def test_without_joules_the_budget_is_spent_and_throughput_is_still_judged():
    window = choose_window(record_of(TOK * np.random.default_rng(25).normal(1, 0.005, N)), rule())
    assert (window.ended, window.joules_per_tok, set(window.changes)) == ("budget_spent", None, {"throughput"})


def test_a_server_that_generates_nothing_has_no_change_and_no_figure():
    window = choose_window(record_of(np.zeros(N), np.full(N, JOULES)), rule())
    assert (window.changes, window.joules_per_tok, window.mean_requests) == ({}, None, 0.0)


@pytest.mark.parametrize("latest_s", [-1.0, 0.0, 0.5])
def test_fewer_than_three_scrapes_are_no_window(latest_s):
    assert choose_window(noisy(26), rule(latest_s=latest_s)) is None
    assert choose_window(record_of(np.empty(0)), rule()) is None


@pytest.mark.parametrize("phi", [0.0, 0.9])
@pytest.mark.parametrize("ramp", [False, True])
def test_the_interval_covers_the_truth_with_stopping_included(phi, ramp):
    """The full study is ``make soak``. A coverage of 90% would show as less than 80% of 80 runs once in 300 tries."""
    found = study(Condition(phi, ramp, 0.02, 100), runs=80, seed=3)
    assert found.covered >= 0.80
    assert found.answered >= 0.90


def test_a_cell_under_load_ends_by_the_same_look_as_when_it_is_analysed_again():
    record = noisy(1)
    assert window_so_far(record, rule()) == choose_window(record, rule())


def test_a_cell_under_load_tells_of_its_last_look_though_later_readings_are_not_there_yet():
    whole = noisy(1)

    def readings_until_200_s(edges_s):
        return whole.interval_joules(edges_s) if edges_s[-1] <= 200 else None

    record = Record(whole.t_s, whole.tokens, whole.kv_usage, readings_until_200_s)
    window = window_so_far(record, rule(precision_rel=1e-9))
    assert (window.end_s, window.reasons) == (160.0, (PRECISION_NOT_REACHED,))
    assert window.joules_per_tok.ratio == pytest.approx(TRUE_JOULES_PER_TOK, rel=0.002)
    assert choose_window(record, rule(precision_rel=1e-9)).joules_per_tok is None


def test_before_the_first_look_there_is_nothing_to_tell():
    record = noisy(1)
    assert window_so_far(record, rule(min_window_s=400.0)) is None
