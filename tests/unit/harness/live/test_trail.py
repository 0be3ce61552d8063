"""Figures of the moment, from rounds made by hand."""

import pytest

from harness.live.trail import TRAIL_S, Moment, Trail
from harness.load.health import TickRow


def trail_of(seconds, tok_per_s=100.0, watts=(200.0, 300.0), until_s=1_000.0):
    trail = Trail()
    for i in range(int(2 * seconds) + 1):
        t_s = until_s - seconds + 0.5 * i
        joules = tuple((t_s - 0.03, w * (t_s - 0.03)) for w in watts)
        trail.add(Moment(t_s, tok_per_s * t_s, 1.0, 0.0, 0.5, joules))
    return trail


@pytest.mark.parametrize(("seconds", "over_s"), [(60, 10), (4, 4), (0.5, 0.5)])
def test_rates_are_over_the_span_asked_for_or_what_there_is(seconds, over_s):
    assert trail_of(seconds).tps(10.0) == pytest.approx((100.0, over_s))
    assert trail_of(seconds).gpu_watts(10.0) == pytest.approx((500.0, over_s))


def test_without_two_rounds_nothing_is_known():
    assert Trail().tps(10.0) is None
    assert trail_of(0).tps(10.0) is None
    assert trail_of(0).gpu_watts(10.0) is None


def test_a_server_without_a_counter_leaves_the_rate_unknown_and_a_failed_gpu_the_watts():
    trail = trail_of(20)
    trail.add(Moment(1_000.5, None, None, None, None, None))
    assert trail.tps(10.0) is None
    assert trail.gpu_watts(10.0) is None


def test_a_restarted_server_has_no_negative_rate():
    trail = trail_of(20)
    trail.add(Moment(1_000.5, 0.0, 0.0, 0.0, 0.0, None))
    assert trail.tps(10.0) is None


def test_a_gpu_seen_later_leaves_the_watts_unknown_until_the_span_has_it():
    trail = trail_of(20, watts=(200.0,))
    trail.add(Moment(1_000.5, 1.0, 1.0, 0.0, 0.5, ((1_000.4, 1.0), (1_000.4, 1.0))))
    assert trail.gpu_watts(10.0) is None


def test_a_span_that_was_idle_in_part_says_so_in_its_mean():
    trail = trail_of(20)
    for i in range(10):
        trail.add(Moment(1_000.5 + 0.5 * i, 100.0 * 1_000, 0.0, 0.0, 0.0, None))
    assert trail.tps(10.0) == pytest.approx((50.0, 10.0))


def test_the_parts_of_the_last_minutes_stand_still_and_hold_each_token_once():
    trail = trail_of(30, until_s=1_000.0)
    parts = trail.rates(60, 1_000.9)
    assert len(parts) == 60
    assert parts[:44] == [None] * 44
    assert parts[45:] == pytest.approx([100.0] * 15)
    assert trail.rates(60, 1_001.9) == parts


def test_what_is_long_past_is_forgotten():
    trail = trail_of(3_000)
    assert trail.moments[0].t_s >= 1_000.0 - 2 * TRAIL_S


def test_the_client_is_as_late_as_its_worst_process_lately():
    trail = Trail()
    assert (trail.client_lag_p99_s(), trail.client_cpu_share()) == (None, None)
    early = [TickRow(0.02 * i, 0, 0.5, 0.0) for i in range(100)]
    late = [TickRow(20 + 0.02 * i, 0, 0.001, 0.01 * i) for i in range(500)]
    other = [TickRow(20 + 0.02 * i, 1, 0.001 * (i >= 490), 0.002 * i) for i in range(500)]
    for rows in (early, late, other):
        trail.client_ticked(rows)
    assert trail.client_lag_p99_s() == 0.001
    assert trail.client_cpu_share() == pytest.approx(0.5)
