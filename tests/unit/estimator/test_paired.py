import math

import numpy as np
import pytest
from scipy import stats

from estimator.nodes import NodeProfile
from estimator.paired import (
    Interval,
    common_ratio_rel_u,
    energy_exponent,
    fitted_exponent,
    independent_ratio,
    metered_ratio_rel_u,
    paired_ratio,
    repeated,
)

PROFILE = NodeProfile(
    name="n", simulated=False, gpu_name_patterns=("x",), gpu_count=8, p_max_kw=11.3, p_idle_kw=2.7, offset_kw=1.6,
    slope=1.22, u_offset_kw=0.17, u_slope=0.05, correlation=-0.8, source="made up",
)  # fmt: skip


def test_the_ratio_of_repeated_runs_has_the_paired_t_interval_of_its_logarithms():
    before, after = [1.0, 1.1, 0.95, 1.02], [10.2, 11.4, 9.1, 10.5]
    found = paired_ratio([[pair] for pair in zip(before, after, strict=True)])
    expected = stats.ttest_rel(np.log(after), np.log(before)).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((math.exp(expected.low), math.exp(expected.high)))
    assert found.value == pytest.approx(stats.gmean(after) / stats.gmean(before))
    assert (found.n, found.basis) == (4, "between_runs")


def test_pairs_on_one_start_count_as_one_run_where_there_are_several():
    runs = [[(1.0, 10.0), (1.0, 12.0)], [(1.0, 9.0), (1.0, 11.0)], [(1.0, 10.5), (1.0, 10.6)]]
    averaged = [[(1.0, math.sqrt(run[0][1] * run[1][1]))] for run in runs]
    found, expected = paired_ratio(runs), paired_ratio(averaged)
    assert (found.low, found.value, found.high) == pytest.approx((expected.low, expected.value, expected.high))
    assert found.n == 3


def test_a_linear_drift_cancels_in_abba_but_not_in_abab():
    """Cells at times 0 to 3, each 5% dearer than the one before; the true ratio is 10."""

    def pairs(order):
        energy = [1.05**time * {"a": 1.0, "b": 10.0}[cell] for time, cell in enumerate(order)]
        a = [value for value, cell in zip(energy, order, strict=True) if cell == "a"]
        b = [value for value, cell in zip(energy, order, strict=True) if cell == "b"]
        return [list(zip(a, b, strict=True))]

    assert paired_ratio(pairs("abba")).value == pytest.approx(10, rel=1e-12)
    assert paired_ratio(pairs("abab")).value == pytest.approx(10.5)


def test_a_single_pair_has_the_normal_interval_of_its_windows_errors():
    found = paired_ratio([[(2.0, 30.0)]], random_rel_u=0.02)
    assert (found.low, found.high) == pytest.approx((15 * math.exp(-1.959964 * 0.02), 15 * math.exp(1.959964 * 0.02)))
    assert found.basis == "within_windows"


def test_without_any_error_known_a_ratio_has_no_interval():
    assert paired_ratio([[(2.0, 30.0)]]) == Interval(15.0, None, None, 1, "unknown")


def test_what_all_pairs_share_widens_the_interval_in_quadrature():
    alone = paired_ratio([[(1.0, 10.0)]], random_rel_u=0.03)
    wider = paired_ratio([[(1.0, 10.0)]], random_rel_u=0.03, common_rel_u=0.04)
    assert math.log(wider.high / 10) == pytest.approx(math.log(alone.high / 10) * 5 / 3)


@pytest.mark.parametrize("pairs", [[], [[]], [[(0.0, 1.0)]], [[(1.0, -1.0)]]])
def test_no_pair_or_one_that_is_not_positive_is_refused(pairs):
    with pytest.raises(ValueError, match="pair"):
        paired_ratio(pairs)


def test_paired_intervals_cover_the_truth_as_often_as_they_say():
    """2,000 synthetic studies of four runs of two pairs, with spread between and within runs."""
    rng, covered, studies = np.random.default_rng(1), 0, 2_000
    for _ in range(studies):
        between = rng.normal(0, 0.03, 4)
        runs = [[(1.0, 10 * math.exp(shift + rng.normal(0, 0.02))) for _ in range(2)] for shift in between]
        found = paired_ratio(runs)
        covered += found.low <= 10 <= found.high
    assert 0.935 <= covered / studies <= 0.965


def test_unpaired_runs_have_welchs_interval():
    before, after = [1.0, 1.1, 0.9], [2.0, 2.3, 2.2, 1.9]
    found = independent_ratio(before, after)
    expected = stats.ttest_ind(np.log(after), np.log(before), equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((math.exp(expected.low), math.exp(expected.high)))


def test_single_unpaired_runs_have_the_errors_of_their_windows_alone():
    found = independent_ratio([2.0, 2.1], [4.0], random_rel_u=0.01)
    assert found.basis == "within_windows"
    assert math.log(found.high / found.value) == pytest.approx(0.0195996, rel=1e-4)


@pytest.mark.parametrize("sides", [([], [1.0]), ([1.0], []), ([0.0], [1.0])])
def test_unpaired_ratios_need_positive_values_on_both_sides(sides):
    with pytest.raises(ValueError, match="ratio"):
        independent_ratio(*sides)


def test_the_exponent_of_a_ratio_is_its_logarithm_to_the_base_of_the_lengths():
    found = energy_exponent(Interval(8.0, 4.0, 16.0, 3, "between_runs"), 4.0)
    assert (found.low, found.value, found.high) == pytest.approx((1.0, 1.5, 2.0))


def test_the_exponent_of_a_shorter_length_keeps_its_bounds_in_order():
    found = energy_exponent(Interval(1 / 8, 1 / 16, 1 / 4, 3, "between_runs"), 1 / 4)
    assert (found.low, found.value, found.high) == pytest.approx((1.0, 1.5, 2.0))


@pytest.mark.parametrize("length_ratio", [1.0, 0.0, -2.0])
def test_an_exponent_needs_two_lengths(length_ratio):
    with pytest.raises(ValueError, match="two different lengths"):
        energy_exponent(Interval(2.0, None, None, 1, "unknown"), length_ratio)


def test_a_fitted_exponent_is_the_least_squares_slope_with_its_t_interval():
    length, energy = [64, 128, 256, 512, 1024], [0.9, 2.1, 4.0, 8.8, 17.0]
    line = stats.linregress(np.log(length), np.log(energy))
    half = stats.t.ppf(0.975, 3) * line.stderr
    found = fitted_exponent(length, energy)
    assert (found.value, found.low, found.high) == pytest.approx((line.slope, line.slope - half, line.slope + half))


def test_two_lengths_give_a_slope_without_an_interval():
    assert fitted_exponent([10, 20], [1.0, 4.0]) == Interval(pytest.approx(2.0), None, None, 2, "unknown")


@pytest.mark.parametrize(
    ("length", "energy"), [([10], [1.0]), ([10, 10], [1.0, 2.0]), ([10, 20], [1.0, 0.0]), ([0, 20], [1.0, 1.0])]
)
def test_a_fitted_exponent_needs_different_lengths_and_positive_values(length, energy):
    with pytest.raises(ValueError, match="exponent"):
        fitted_exponent(length, energy)


def test_the_spread_between_runs_is_found_again_from_many_runs():
    rng = np.random.default_rng(2)
    values = 5 * (1 + rng.normal(0, 0.03, 4_000) + rng.normal(0, 0.04, 4_000))
    found = repeated(list(values), [0.04] * 4_000)
    assert found.u_run_rel == pytest.approx(0.05, rel=0.03)
    assert found.u_between_rel == pytest.approx(0.03, rel=0.05)
    assert found.u_mean_rel == pytest.approx(0.05 / math.sqrt(4_000), rel=0.03)


def test_runs_closer_than_their_own_errors_leave_nothing_between_them():
    assert repeated([1.0, 1.001], [0.1, 0.1]).u_between_rel == 0


def test_one_run_says_nothing_of_spread():
    assert repeated([1.0], [0.1]) is None


@pytest.mark.parametrize(("values", "errors"), [([1.0, 2.0], [0.1]), ([0.0, 1.0], [0.1, 0.1])])
def test_repeated_values_must_be_positive_and_each_have_an_error(values, errors):
    with pytest.raises(ValueError, match="values"):
        repeated(values, errors)


def test_what_the_node_leaves_in_a_ratio_agrees_with_drawing_gain_offset_and_slope():
    rng, n, gpu_w, share, gain_u = np.random.default_rng(3), 200_000, (900.0, 2_400.0), 0.5, 0.029
    cov = -0.8 * 170 * 0.05
    offset, slope = rng.multivariate_normal([1600, 1.22], [[170**2, cov], [cov, 0.05**2]], n).T
    gain = rng.normal(1, gain_u, n)
    ratio = (share * offset + slope * gain * gpu_w[1]) / (share * offset + slope * gain * gpu_w[0])
    assert common_ratio_rel_u(gpu_w, gain_u, PROFILE, share) == pytest.approx(np.std(np.log(ratio)), rel=0.02)


IDLE_KNOWN = PROFILE.model_copy(update={"u_idle_kw": 0.12})


@pytest.mark.parametrize(("allocation", "weight"), [("marginal", -0.125), ("whole", 0.875)])
def test_idle_power_that_an_allocation_charges_stays_in_a_ratio(allocation, weight):
    rng, n, gpu_w, gain_u = np.random.default_rng(5), 200_000, (400.0, 600.0), 0.029
    cov = -0.8 * 170 * 0.05
    offset, slope = rng.multivariate_normal([1600, 1.22], [[170**2, cov], [cov, 0.05**2]], n).T
    idle, gain = rng.normal(2700, 120, n), rng.normal(1, gain_u, n)
    first, second = (0.125 * offset + slope * gain * watts + weight * idle for watts in gpu_w)
    found = common_ratio_rel_u(gpu_w, gain_u, IDLE_KNOWN, 0.125, allocation)
    assert found == pytest.approx(np.std(np.log(second / first)), rel=0.03)
    assert common_ratio_rel_u(gpu_w, gain_u, PROFILE, 0.125, allocation) is None  # u of its idle power is unknown


@pytest.mark.parametrize(("allocation", "weight"), [("share", 0.875), ("marginal", 1.0)])
def test_idle_power_taken_off_a_meters_reading_stays_in_a_ratio_and_so_does_the_meters_gain(allocation, weight):
    rng, n, metered_w, gain_u = np.random.default_rng(6), 200_000, (4000.0, 4400.0), 0.01
    idle, gain = rng.normal(2700, 60, n), 1 + 0.01 * math.sqrt(3) * rng.uniform(-1, 1, n)
    first, second = (watts * gain - weight * idle for watts in metered_w)
    charged_w = tuple(watts - weight * 2700 for watts in metered_w)
    node = PROFILE.model_copy(update={"u_idle_kw": 0.06})
    found = metered_ratio_rel_u(charged_w, gain_u, node, 0.125, allocation)
    assert found == pytest.approx(np.std(np.log(second / first)), rel=0.03)
    assert metered_ratio_rel_u(charged_w, gain_u, PROFILE, 0.125, allocation) is None
    assert metered_ratio_rel_u(charged_w, None, node, 0.125, allocation) is None


def test_a_meters_gain_cancels_where_the_whole_node_is_charged_even_if_it_is_unknown():
    assert metered_ratio_rel_u((3000.0, 5000.0), None, PROFILE, 0.125, "whole") == 0
    assert metered_ratio_rel_u((3000.0, 5000.0), None, PROFILE, 1.0, "share") == 0


@pytest.mark.parametrize("unknown", [{"gain": None}, {"u_offset_kw": None, "u_slope": None, "correlation": None}])
def test_what_is_unknown_of_a_node_leaves_its_ratio_unknown(unknown):
    gain, node = unknown.pop("gain", 0.03), PROFILE.model_copy(update=unknown)
    assert common_ratio_rel_u((900.0, 2400.0), gain, node) is None


@pytest.mark.parametrize("runs", [[[(1, 2), (1, 2.02)]], [[(1, 2)], [(1, 2.02)]], [[(1, 2)]]])
def test_no_scatter_bounds_a_ratio_whose_common_error_is_unknown(runs):
    found = paired_ratio(runs, 0.01, None)
    assert (found.low, found.high, found.basis) == (None, None, "unknown")
    found = independent_ratio([1.0, 1.1], [2.0, 2.1], 0.01, None)
    assert (found.low, found.high, found.basis) == (None, None, "unknown")


def test_runs_that_do_not_differ_at_all_have_the_errors_of_their_windows_and_the_common_one():
    found = independent_ratio([1.0, 1.0], [2.0, 2.0], 0.03, 0.04)
    assert math.log(found.high / 2) == pytest.approx(1.959964 * 0.05)
    assert found.basis == "within_windows"
    assert independent_ratio([1.0, 1.0], [2.0, 2.0]).basis == "unknown"


def test_the_gain_of_one_sensor_cancels_in_a_ratio_of_its_own_readings():
    assert common_ratio_rel_u((100.0, 300.0), 0.03) == 0


@pytest.mark.parametrize(
    ("runs", "of_pair"),
    [
        ([[(1.0, 2.0), (3.0, 6.0)]], 1.0),
        ([[(1.0, 2.0)], [(2.0, 4.0)]], 1.0),
        ([[(1.0, 2.0), (1.0, 2.0001)]], math.sqrt(1 / 2)),
        ([[(1.0, 2.0)], [(1.0, 2.0001)], [(1.0, 1.9999)]], math.sqrt(1 / 3)),
        ([[(1.0, 2.0), (1.0, 2.0)], [(1.0, 2.0001)]], math.sqrt((1 / 2) ** 2 * (1 / 2 + 1))),
    ],
    ids=["equal pairs", "equal runs", "two pairs that agree by luck", "three runs", "two pairs and one"],
)
def test_pairs_that_agree_by_chance_keep_the_errors_of_their_windows(runs, of_pair):
    """The mean over R runs of k pairs each has the error of one pair over root(R k); equal values have that of one."""
    found = paired_ratio(runs, 0.05)
    assert math.log(found.high / found.value) == pytest.approx(1.959964 * 0.05 * of_pair, rel=1e-6)
    assert math.log(found.value / found.low) == pytest.approx(1.959964 * 0.05 * of_pair, rel=1e-6)
    equal = of_pair == 1.0
    assert found.basis == ("within_windows" if equal else "between_runs" if len(runs) > 1 else "between_pairs")
    assert (paired_ratio(runs).high is None) == equal  # nothing tells the error of equal pairs but their windows


def test_scatter_wider_than_the_windows_errors_is_students_t_alone():
    runs = [[(1.0, 10.0)], [(1.0, 11.0)], [(1.0, 12.5)]]
    assert paired_ratio(runs, 0.001) == paired_ratio(runs)
    assert independent_ratio([1.0, 1.2], [2.0, 2.5], 0.001) == independent_ratio([1.0, 1.2], [2.0, 2.5])


def test_unpaired_runs_that_agree_by_chance_keep_the_errors_of_their_windows():
    found = independent_ratio([1.0, 1.0001], [2.0, 2.0001, 2.0002], 0.05)
    assert math.log(found.high / found.value) == pytest.approx(1.959964 * 0.05 / math.sqrt(2), rel=1e-6)


def test_two_pairs_by_chance_alike_miss_the_truth_no_more_often_than_the_windows_errors_would():
    """20,000 studies of two pairs; of the tenth with the least scatter Student's t alone would miss 60%."""
    rng, u = np.random.default_rng(8), 0.03
    pairs = rng.normal(0, u, (20_000, 2))
    alike = pairs[np.argsort(np.abs(np.diff(pairs)[:, 0]))[:2_000]]
    found = [[paired_ratio([[(1.0, math.exp(log)) for log in logs]], known) for logs in alike] for known in (None, u)]
    missed = [np.mean([not each.low <= 1 <= each.high for each in intervals]) for intervals in found]
    assert missed[0] > 0.4
    assert missed[1] == pytest.approx(0.05, abs=0.02)
