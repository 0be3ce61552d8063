import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.energy import (
    FATAL_REASONS,
    SUSPECT_REASONS,
    DeviceSeries,
    counter_edge_bound_j,
    counter_joules,
    device_energy,
    device_series,
    integral_joules,
    total_energy,
)
from harness.power.base import GPU_LOST, PowerRow

NAN = float("nan")
T = np.arange(0.0, 20.01, 0.1)


def series(power_w=None, energy_j=None, errors=None, t_s=T, uuid="gpu"):
    nothing = np.full(t_s.size, NAN)
    return DeviceSeries(
        uuid,
        t_s,
        nothing if power_w is None else power_w,
        nothing if energy_j is None else energy_j,
        tuple(errors) if errors is not None else (None,) * t_s.size,
    )


def with_errors(bad, text):
    return [text if here else None for here in bad]


CONSTANT = series(np.full(T.size, 300.0), 5e6 + 300.0 * T)

irregular_times = st.lists(st.floats(0.01, 0.9), min_size=30, max_size=80).map(
    lambda steps: np.cumsum(np.array([0.0, *steps]))
)
fractions = st.tuples(st.floats(0.0, 0.45), st.floats(0.55, 1.0))


@given(irregular_times, fractions, st.floats(1.0, 1000.0), st.floats(0.0, 1e9))
def test_a_constant_power_gives_power_times_duration_at_any_sampling(t_s, edges, power_w, base_j):
    start_s, end_s = np.array(edges) * t_s[-1]
    expected_j = power_w * (end_s - start_s)
    energy_j = base_j + power_w * t_s
    assert counter_joules(t_s, energy_j, start_s, end_s).joules == pytest.approx(expected_j, rel=1e-4)
    assert integral_joules(t_s, np.full(t_s.size, power_w), start_s, end_s).joules == pytest.approx(expected_j)


@given(irregular_times, fractions, st.floats(0.0, 50.0), st.floats(10.0, 500.0))
def test_a_linear_power_is_integrated_exactly(t_s, edges, slope_w_per_s, offset_w):
    start_s, end_s = np.array(edges) * t_s[-1]
    expected_j = offset_w * (end_s - start_s) + slope_w_per_s * (end_s**2 - start_s**2) / 2
    cut = integral_joules(t_s, offset_w + slope_w_per_s * t_s, start_s, end_s)
    assert cut.joules == pytest.approx(expected_j)


@given(irregular_times, st.lists(st.floats(20.0, 700.0), min_size=81, max_size=81), st.floats(0.2, 0.8))
def test_a_window_is_worth_the_sum_of_its_parts(t_s, powers, split):
    power_w = np.array(powers[: t_s.size])
    energy_j = np.concatenate([[0.0], np.cumsum(np.diff(t_s) * power_w[1:])])
    middle_s = split * t_s[-1]
    for values, cut in ((power_w, integral_joules), (energy_j, counter_joules)):
        whole = cut(t_s, values, 0.0, t_s[-1]).joules
        parts = cut(t_s, values, 0.0, middle_s).joules + cut(t_s, values, middle_s, t_s[-1]).joules
        assert parts == pytest.approx(whole)


def test_the_zero_of_the_counter_does_not_matter():
    assert counter_joules(T, 1e9 + 300 * T, 2.05, 12.05).joules == pytest.approx(3000.0)
    assert counter_joules(T, 300 * T, 2.05, 12.05).joules == pytest.approx(3000.0)


def test_a_trailing_average_is_shifted_by_its_lag_before_it_is_cut():
    # power steps from 100 W to 700 W at 10 s; the mean of the last second ramps from 10 s to 11 s
    power_w = 100 + 600 * np.clip(T - 10, 0, 1)
    assert integral_joules(T, power_w, 5.0, 10.0, power_lag_s=0.5).joules == pytest.approx(575.0, abs=2)
    assert integral_joules(T, power_w, 5.0, 15.0, power_lag_s=0.5).joules == pytest.approx(4000.0, abs=2)
    assert integral_joules(T, power_w, 5.0, 15.0).joules == pytest.approx(3700.0, abs=2)


def test_the_last_reading_is_held_where_readings_stop_within_the_lag():
    cut = integral_joules(T, np.full(T.size, 300.0), 10.0, 20.0, power_lag_s=0.5)
    assert cut.joules == pytest.approx(3000.0)


@pytest.mark.parametrize(("start_s", "end_s"), [(-0.1, 10.0), (10.0, 20.2), (30.0, 40.0)])
def test_a_window_beyond_the_readings_is_not_covered(start_s, end_s):
    assert counter_joules(T, 300 * T, start_s, end_s) == (None, "window_not_covered")
    assert integral_joules(T, 300 + 0 * T, start_s, end_s) == (None, "window_not_covered")
    energy = device_energy(CONSTANT, start_s, end_s)
    assert (energy.joules, energy.mean_w, energy.method) == (None, None, None)
    assert energy.reasons == ("window_not_covered",)


def test_a_counter_that_falls_is_reset_even_if_it_ends_higher():
    energy_j = np.where(T < 10, 300 * T, 1e6 * (T - 10))
    assert counter_joules(T, energy_j, 5.0, 15.0) == (None, "counter_reset")


def test_a_reset_outside_the_window_is_harmless():
    energy_j = np.where(T < 10, 300 * T, 300 * (T - 10))
    assert counter_joules(T, energy_j, 1.0, 9.0).joules == pytest.approx(2400.0)


def test_a_counter_that_stands_still_is_stuck():
    assert counter_joules(T, 300 * np.minimum(T, 12.0), 5.0, 15.0) == (None, "sensor_stuck")
    assert counter_joules(T, 0 * T, 5.0, 5.5) == (None, "sensor_stuck")


def test_a_counter_that_moves_in_steps_is_not_stuck():
    assert counter_joules(T, 300 * np.floor(T), 4.0, 14.0).joules == pytest.approx(3000.0)


@pytest.mark.parametrize(
    ("stuck_s", "energy_j", "stuck"),
    [(12.0, None, True), (9.0, None, False), (12.0, 300 * T, False), (12.0, 300 * np.minimum(T, 4.0), True)],
    ids=["too long", "short", "a counter that moves", "a counter that stands still too"],
)
def test_power_that_stands_still_is_stuck_unless_a_counter_moves(stuck_s, energy_j, stuck):
    power_w = 300 + T * np.greater_equal(T, stuck_s + 2)
    power_w[T < 2] += T[T < 2]
    energy = device_energy(series(power_w, energy_j), 1.0, 19.0, stuck_power_s=10.0)
    assert ("sensor_stuck" in energy.reasons) == stuck
    assert energy.repeat_s == pytest.approx(stuck_s, abs=0.11)
    assert energy.swing_w == pytest.approx(19.0)


def test_a_pause_of_the_sampling_is_not_a_stuck_counter():
    kept = (T < 8) | (T > 12)
    energy = device_energy(series((300 + 0 * T)[kept], 300 * T[kept], t_s=T[kept]), 5.0, 15.0)
    assert energy.joules == pytest.approx(3000.0)
    assert energy.reasons == ("power_gap",)


def test_the_counter_comes_first_and_the_integral_is_its_check():
    energy = device_energy(CONSTANT, 5.0, 15.0)
    assert (energy.method, energy.reasons) == ("counter", ())
    assert (energy.joules, energy.counter_j, energy.integral_j) == (pytest.approx(3000.0),) * 3
    assert (energy.mean_w, energy.peak_w) == (pytest.approx(300.0), 300.0)


@pytest.mark.parametrize(
    ("gain", "reasons"),
    [(1.02, ()), (1.04, ("counter_integral_disagree",)), (0.95, ("counter_integral_disagree",))],
)
def test_counter_and_integral_may_differ_by_three_percent(gain, reasons):
    energy = device_energy(series(300 * gain + 0 * T, 300 * T), 5.0, 15.0)
    assert energy.reasons == reasons
    assert energy.joules == pytest.approx(3000.0)


def test_either_of_power_and_counter_is_enough():
    only_power = device_energy(series(power_w=300 + 0 * T), 5.0, 15.0)
    assert (only_power.method, only_power.joules, only_power.reasons) == (
        "integral",
        pytest.approx(3000.0),
        (),
    )
    only_counter = device_energy(series(energy_j=300 * T), 5.0, 15.0)
    assert (only_counter.method, only_counter.peak_w, only_counter.reasons) == ("counter", None, ())


def test_a_device_without_any_reading_has_no_joules():
    energy = device_energy(series(), 5.0, 15.0)
    assert (energy.joules, energy.reasons) == (None, ("window_not_covered",))


def test_a_lost_gpu_has_no_joules():
    lost = T > 9
    errors = with_errors(lost, GPU_LOST)
    energy = device_energy(series(np.where(lost, NAN, 300), np.where(lost, NAN, 300 * T), errors), 5.0, 15.0)
    assert energy.joules is None
    assert energy.reasons == ("gpu_lost", "window_not_covered")


def test_a_counter_that_fails_in_the_whole_window_is_an_error_and_not_an_old_gpu():
    errors = with_errors(T >= 0, "energy_j: TIMEOUT")
    energy = device_energy(series(power_w=300 + 0 * T, errors=errors), 5.0, 15.0)
    assert (energy.method, energy.reasons) == ("integral", ("sensor_error",))


@pytest.mark.parametrize(
    ("error", "failed", "reasons"),
    [
        ("power_w: UNKNOWN", 1, ()),
        ("power_w: UNKNOWN", 5, ()),
        ("power_w: UNKNOWN", 6, ("sensor_error",)),
        ("energy_j: TIMEOUT", 6, ("sensor_error",)),
        ("timed out", 5, ()),
        ("timed out", 6, ("sensor_error",)),
        ("temperature_c: UNKNOWN", 60, ()),
    ],
)
def test_readings_that_fail_to_give_joules_may_be_a_twentieth(error, failed, reasons):
    bad = (T > 9.0) & (9.05 + 0.1 * failed > T)
    blank = bad & (error != "temperature_c: UNKNOWN")
    power_w, energy_j = np.where(blank, NAN, 300.0), np.where(blank, NAN, 300 * T)
    energy = device_energy(series(power_w, energy_j, with_errors(bad, error)), 5.0, 15.0)
    assert energy.reasons == reasons
    assert energy.joules == pytest.approx(3000.0)
    assert (energy.readings, energy.failed_readings) == (101, 0 if error.startswith("temp") else failed)


def test_a_single_failed_reading_of_a_short_window_is_no_failing_sensor():
    bad = np.abs(T - 10) < 0.05
    errors = with_errors(bad, "power_w: UNKNOWN")
    assert device_energy(series(np.where(bad, NAN, 300), 300 * T, errors), 9.5, 10.5).reasons == ()


def test_a_sensor_that_fails_for_over_a_second_of_a_long_window_leaves_a_gap():
    t_s = np.arange(0.0, 100.01, 0.1)
    bad = (t_s > 50) & (t_s < 51.5)
    blank = np.where(bad, NAN, 300.0)
    energy = device_energy(series(blank, blank * t_s, with_errors(bad, "timed out"), t_s=t_s), 5.0, 95.0)
    assert energy.reasons == ("power_gap",)
    assert (
        device_energy(
            series(blank, blank * t_s, with_errors(bad, "timed out"), t_s=t_s), 5.0, 95.0, max_gap_s=6.0
        ).reasons
        == ()
    )


def stepping(power_w, phase_s=0.03, step_s=0.1):
    """A counter that steps every 0.1 s, and how long before each reading it did."""
    stepped_s = np.floor((T - phase_s) / step_s + 1e-9) * step_s + phase_s
    return power_w * (stepped_s + 1.0), T - stepped_s


def test_a_counter_that_steps_is_cut_between_its_steps():
    energy_j, age_s = stepping(300.0)
    assert counter_joules(T, energy_j, 5.05, 15.01, age_s=age_s).joules == pytest.approx(300 * 9.96)
    one = DeviceSeries("gpu", T, T * NAN, energy_j, (None,) * T.size, age_s, 0 * T + 0.01)
    assert device_energy(one, 5.05, 15.01).joules == pytest.approx(300 * 9.96)
    assert device_energy(one, 5.05, 15.01).edge_bound_j == pytest.approx(2 * 0.01 * 300)


def test_where_steps_were_not_watched_the_mean_age_is_taken():
    energy_j, _ = stepping(300.0, phase_s=0.05)
    unknown = np.full(T.size, NAN)
    one = DeviceSeries("gpu", T, unknown, energy_j, (None,) * T.size, unknown, unknown)
    energy = device_energy(one, 5.0, 15.0, counter_lag_s=0.05)
    assert energy.joules == pytest.approx(3000.0)
    assert energy.edge_bound_j == pytest.approx(2 * 0.05 * 300)


def test_a_last_step_before_the_end_widens_the_bound_by_the_power_since():
    stepped_s, energy_j = np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 300.0, 600.0, 900.0])
    known = np.zeros(4)
    assert counter_edge_bound_j(stepped_s, energy_j, 0.5, 2.5, bound_s=known) == pytest.approx(0.0, abs=1e-9)
    assert counter_edge_bound_j(stepped_s, energy_j, 0.5, 3.2, bound_s=known) == pytest.approx(0.2 * 300)


def test_power_that_changes_between_two_steps_widens_the_bound():
    stepped_s, energy_j = np.arange(7.0), np.array([0.0, 100.0, 200.0, 300.0, 600.0, 900.0, 1200.0])
    bound_j = counter_edge_bound_j(stepped_s, energy_j, 0.5, 2.5, bound_s=np.zeros(7))
    # the edge at 0.5 s sees 100 W on both sides, that at 2.5 s powers from 100 to 300 W
    assert bound_j == pytest.approx(1.0 * (300 - 100) / 4)


def test_power_that_ends_early_beside_a_good_counter_leaves_the_joules_covered():
    energy = device_energy(series(np.where(T > 9, NAN, 300.0), 300 * T), 5.0, 15.0)
    assert (energy.joules, energy.integral_j, energy.reasons) == (pytest.approx(3000.0), None, ())


def test_an_error_outside_the_window_is_harmless():
    errors = with_errors(T < 1, "power_w: UNKNOWN")
    energy = device_energy(series(np.where(T < 1, NAN, 300.0), 300 * T, errors), 5.0, 15.0)
    assert energy.reasons == ()


def test_a_total_adds_devices_and_gathers_their_reasons_once():
    gap = T[(T < 8) | (T > 12)]
    doubtful = device_energy(series(100 + 0 * gap, 100 * gap, t_s=gap), 5.0, 15.0)
    total = total_energy([device_energy(CONSTANT, 5.0, 15.0), doubtful, doubtful])
    assert (total.joules, total.mean_w) == (pytest.approx(5000.0), pytest.approx(500.0))
    assert total.reasons == ("power_gap",)


@pytest.mark.parametrize("devices", [[], [CONSTANT, series()]])
def test_a_total_with_a_device_missing_is_none(devices):
    total = total_energy([device_energy(device, 5.0, 15.0) for device in devices])
    assert (total.joules, total.mean_w) == (None, None)


def test_rows_are_gathered_by_device_with_nan_for_what_is_missing():
    rows = [
        PowerRow(
            uuid,
            power_w,
            energy_j,
            error=error,
            t_mono_s=t_s,
            t_wall_s=0.0,
            late_s=0.0,
            source="s",
            boundary="gpu",
        )
        for t_s, uuid, power_w, energy_j, error in (
            (1.0, "b", 10.0, None, None),
            (1.0, "a", 20.0, 5.0, None),
            (2.0, "b", None, None, "power_w: UNKNOWN"),
            (2.0, "a", 30.0, 6.0, None),
        )
    ]
    b, a = device_series(rows)
    assert (b.uuid, a.uuid) == ("b", "a")
    np.testing.assert_array_equal(b.power_w, [10.0, NAN])
    np.testing.assert_array_equal(b.energy_j, [NAN, NAN])
    np.testing.assert_array_equal(a.energy_j, [5.0, 6.0])
    np.testing.assert_array_equal(a.t_s, [1.0, 2.0])
    np.testing.assert_array_equal(a.energy_age_s, [NAN, NAN])
    assert b.errors == (None, "power_w: UNKNOWN")


def test_every_reason_is_either_fatal_or_suspect():
    assert not FATAL_REASONS & SUSPECT_REASONS
    assert len(FATAL_REASONS | SUSPECT_REASONS) == 7
