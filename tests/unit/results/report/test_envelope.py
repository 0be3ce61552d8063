import numpy as np
import pytest

from results.report.envelope import envelope


def reduced_by_hand(t_s, values, buckets):
    """Return (mean, low, high) of each equal stretch of time that holds a value, by a loop."""
    width = (t_s[-1] - t_s[0]) / buckets
    stretches = {}
    for at_s, value in zip(t_s, values, strict=True):
        stretches.setdefault(min(buckets - 1, int((at_s - t_s[0]) / width)), []).append(value)
    return [(sum(found) / len(found), min(found), max(found)) for _, found in sorted(stretches.items())]


def test_each_stretch_has_the_mean_and_the_extremes_of_its_values():
    rng = np.random.default_rng(1)
    t_s, values = np.sort(rng.uniform(0, 100, 5_000)), rng.normal(300, 40, 5_000)
    found = envelope(t_s, values, buckets=50)
    expected = reduced_by_hand(t_s.tolist(), values.tolist(), 50)
    assert len(expected) == found.mean.size
    np.testing.assert_allclose(np.column_stack([found.mean, found.low, found.high]), expected)


def test_no_peak_of_a_long_series_is_lost():
    values = np.full(100_000, 400.0)
    values[61_803] = 700.0
    assert envelope(np.arange(100_000.0), values).high.max() == 700.0


def test_values_that_are_missing_are_left_out():
    found = envelope([0.0, 1.0, 2.0, 3.0], [1.0, np.nan, 3.0, 4.0])
    assert found.mean.tolist() == [1.0, 3.0, 4.0]


@pytest.mark.parametrize("size", [40, 4_000])
def test_no_line_bridges_a_time_without_readings(size):
    t_s = np.concatenate([np.linspace(0, 100, size), np.linspace(600, 700, size)])
    found = envelope(t_s, np.ones(2 * size), buckets=500)
    gaps = np.flatnonzero(np.isnan(found.mean))
    assert gaps.size == 1
    assert 100 < found.t_s[gaps[0]] < 600


def test_an_empty_series_stays_empty():
    assert envelope([], []).t_s.size == 0
