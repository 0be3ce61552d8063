import math
from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm

from estimator.nodes import load_profile
from estimator.power.node_fit import Stretch, fit_node, fitted_profile, mean_error_w

LOADS = ((0, 600.0), (1, 2000.0), (2, 3500.0), (3, 5200.0))
TRUE_OFFSET_W, TRUE_SLOPE = 1600.0, 1.22


def stretch(level, gpu_w, noise_w, offset_w=TRUE_OFFSET_W, slope=TRUE_SLOPE):
    t_s = np.arange(noise_w.size, dtype=float)
    return Stretch(level, t_s, np.full(noise_w.size, gpu_w), t_s, offset_w + slope * gpu_w + noise_w)


def correlated(rng, phi, size, std_w):
    shocks = rng.normal(0, std_w * math.sqrt(1 - phi**2), size)
    noise = [float(rng.normal(0, std_w))]
    for shock in shocks[1:]:
        noise.append(phi * noise[-1] + shock)
    return np.array(noise)


def stretches(rng, phi=0.0, size=60, std_w=30.0, loads=LOADS):
    return [stretch(level, gpu_w, correlated(rng, phi, size, std_w)) for level, gpu_w in loads]


@pytest.mark.parametrize(("phi", "least"), [(0.0, 0.93), (0.5, 0.91), (0.8, 0.91)])
def test_intervals_cover_the_truth_under_correlated_noise(phi, least):
    rng = np.random.default_rng(4)
    fits = [fit_node(stretches(rng, phi), 0.0) for _ in range(300)]
    assert np.mean([abs(fit.slope - TRUE_SLOPE) < 1.96 * fit.u_slope for fit in fits]) >= least
    assert np.mean([abs(fit.offset_w - TRUE_OFFSET_W) < 1.96 * fit.u_offset_w for fit in fits]) >= least


def test_intervals_are_not_needlessly_wide():
    rng = np.random.default_rng(5)
    loads = tuple(enumerate(np.linspace(600, 5200, 6)))
    fits = [fit_node(stretches(rng, loads=loads), 0.0) for _ in range(200)]
    spread = np.std([fit.slope for fit in fits])
    assert spread < np.mean([fit.u_slope for fit in fits]) < 2 * spread


@pytest.mark.parametrize("levels", [3, 4, 6])
def test_intervals_cover_the_truth_where_every_level_lies_off_the_line(levels):
    """Fans and the like move the node by 30 W from level to level, far more than the readings of a level scatter."""
    rng, loads, studies = np.random.default_rng(11), tuple(enumerate(np.linspace(600, 5200, levels))), 400
    fits = []
    for _ in range(studies):
        points = [stretch(level, gpu_w, rng.normal(0, 5, 60) + rng.normal(0, 30)) for level, gpu_w in loads]
        fits.append(fit_node(points, 0.0))
    assert 0.92 <= np.mean([abs(fit.slope - TRUE_SLOPE) < 1.96 * fit.u_slope for fit in fits]) <= 0.98
    assert 0.92 <= np.mean([abs(fit.offset_w - TRUE_OFFSET_W) < 1.96 * fit.u_offset_w for fit in fits]) <= 0.98


def test_a_curved_node_is_given_the_errors_of_ordinary_least_squares():
    bends_w = np.array([40.0, -60.0, -20.0, 40.0])
    quiet = np.tile([0.0, 1.0], 30)
    points = [stretch(level, gpu_w, quiet + bend) for (level, gpu_w), bend in zip(LOADS, bends_w, strict=True)]
    fit = fit_node(points)
    gpu_w, node_w = np.array([load for _, load in LOADS]), np.array([point.node_w.mean() for point in points])
    oracle = sm.OLS(node_w, sm.add_constant(gpu_w)).fit()
    assert (fit.offset_w, fit.slope) == pytest.approx(tuple(oracle.params), rel=1e-9)
    wider = (4.302653 / 1.959964) ** 2  # the 95% quantile of Student's t with two degrees of freedom, over the normal
    assert fit.random_cov == pytest.approx(wider * oracle.cov_params(), rel=1e-6)
    assert fit.misfit_w == pytest.approx(math.sqrt(oracle.mse_resid), rel=1e-9)
    assert fit.degrees_of_freedom == 2
    assert [level.leverage for level in fit.levels] == pytest.approx(oracle.get_influence().hat_matrix_diag, rel=1e-9)
    assert fit_node(points, 0.0).correlation < -0.5  # a line through positive powers


def test_the_error_of_a_mean_of_independent_readings_is_the_textbook_one():
    rng = np.random.default_rng(6)
    errors = [mean_error_w(stretch(1, 100.0, rng.normal(0, 30, 100)), 1.2) for _ in range(200)]
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(30 / math.sqrt(100), rel=0.25)
    assert np.sqrt(np.mean(np.square(errors))) >= 0.95 * 3.0


def test_gpu_power_that_the_meter_follows_adds_no_error():
    swing_w = 300 * np.sin(np.arange(120) / 3)
    t_s = np.arange(120.0)
    follows = Stretch(1, t_s, 2000 + swing_w, t_s, 1600 + 1.22 * (2000 + swing_w))
    assert mean_error_w(follows, 1.22) < 1.0
    assert mean_error_w(follows, 0.0) > 5.0


def test_a_meter_of_coarse_steps_is_never_taken_as_exact():
    points = [stretch(level, gpu_w, np.zeros(60)) for level, gpu_w in LOADS]
    assert all(level.u_w == pytest.approx(1 / math.sqrt(12)) for level in fit_node(points).levels)
    coarse = [replace(p, node_w=np.where(p.node_t_s > 30, 16.0, 0.0) + np.round(p.node_w / 16) * 16) for p in points]
    assert all(mean_error_w(point, 1.22) >= 16 / math.sqrt(12) for point in coarse)


def test_the_accuracy_of_the_meter_scales_offset_and_slope_together():
    points = stretches(np.random.default_rng(7))
    plain, gained = fit_node(points), fit_node(points, 0.03)
    assert plain.meter_cov is None
    assert gained.random_cov == pytest.approx(plain.random_cov)
    rng = np.random.default_rng(8)
    refits = []
    for gain in 1 + rng.normal(0, 0.03, 400):
        fit = fit_node([replace(point, node_w=point.node_w * gain) for point in points])
        refits.append((fit.offset_w, fit.slope))
    assert np.cov(np.array(refits).T) == pytest.approx(gained.meter_cov, rel=0.15)


def test_a_lag_that_is_over_before_the_stretch_begins_does_not_bias_the_line():
    points = [
        Stretch(
            level,
            (t := np.arange(200.0)),
            np.full(200, gpu_w),
            t[40:],
            (1600 + 1.22 * gpu_w - 800 * np.exp(-t / 8))[40:],
        )
        for level, gpu_w in LOADS
    ]
    fit = fit_node(points)
    assert (fit.offset_w, fit.slope) == (pytest.approx(1600, abs=2), pytest.approx(1.22, abs=1e-3))


def test_a_drift_within_a_level_is_told():
    points = [stretch(level, gpu_w, np.linspace(0, 100, 60)) for level, gpu_w in LOADS]
    assert [level.drift_w for level in fit_node(points).levels] == pytest.approx([50.8] * 4, abs=0.1)


QUIET = np.tile([0.0, 2.0], 30)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([stretch(level, load, QUIET) for level, load in LOADS[1:]], "no idle"),
        ([stretch(level, load, QUIET) for level, load in LOADS[:2]], "2 levels"),
        ([stretch(level, load, QUIET) for level, load in ((0, 4000.0), (1, 4300.0), (2, 5000.0))], "do not spread"),
        ([stretch(level, load, QUIET) for level, load in ((0, 600.0), (1, 610.0), (2, 620.0), (3, 5000.0))], "level 3"),
        ([stretch(level, load, QUIET, slope=0.2) for level, load in LOADS], "meter does not react"),
        ([stretch(level, load, QUIET[:6]) for level, load in LOADS], "6 settled meter"),
        ([stretch(level, load, QUIET * np.nan) for level, load in LOADS], "not finite"),
        ([stretch(level, load, QUIET[:0]) for level, load in LOADS], "missing"),
        ([], "no idle"),
    ],
)
def test_readings_that_give_no_line_are_refused(points, message):
    with pytest.raises(ValueError, match=message):
        fit_node(points)


def test_a_stretch_whose_gpu_readings_stop_early_is_refused():
    points = [stretch(level, load, QUIET) for level, load in LOADS]
    points[2] = replace(points[2], gpu_t_s=points[2].gpu_t_s[:20], gpu_w=points[2].gpu_w[:20])
    with pytest.raises(ValueError, match="level 2: the GPU readings leave out"):
        fit_node(points)


def test_the_profile_of_a_fit_loads_and_says_the_same(tmp_path):
    fit = fit_node(stretches(np.random.default_rng(9)), 0.02)
    details = {"name": "mine", "gpu_name": "NVIDIA H100 (96GB)", "gpu_count": 8, "gpu_limit_w": 700.0}
    profile = fitted_profile(fit, **details, p_max_kw=None, source="a test")
    path = tmp_path / "mine.yaml"
    path.write_text(profile.to_yaml())
    loaded = load_profile(path)
    assert loaded == profile
    assert loaded.node_watts(5000) == pytest.approx(fit.offset_w + fit.slope * 5000)
    at = np.array([1, 5000.0])
    assert loaded.node_watts_std(5000) == pytest.approx(math.sqrt(at @ (fit.random_cov + fit.meter_cov) @ at))
    assert loaded.p_max_kw == pytest.approx((fit.offset_w + fit.slope * 5600) / 1000, abs=1e-3)
    assert loaded.p_idle_kw == pytest.approx((TRUE_OFFSET_W + TRUE_SLOPE * 600) / 1000, abs=0.02)
    assert loaded.u_idle_kw == pytest.approx(math.hypot(fit.levels[0].u_w, 0.02 * fit.idle_w) / 1000)
    assert loaded.gpu_name_patterns == (r"^NVIDIA\ H100\ \(96GB\)$",)


def test_a_meter_of_unknown_accuracy_leaves_every_uncertainty_unknown():
    fit = fit_node(stretches(np.random.default_rng(9)))
    assert (fit.u_offset_w, fit.u_slope, fit.correlation, fit.u_idle_w) == (None, None, None, None)
    details = {"name": "mine", "gpu_name": "G", "gpu_count": 8, "gpu_limit_w": 700.0, "p_max_kw": None, "source": "s"}
    profile = fitted_profile(fit, **details)
    assert profile.node_watts_std(5000) is None
    assert profile.allocated_idle_std_w(0.5, "whole") is None


def test_a_profile_without_a_maximum_or_with_a_negative_offset_is_refused():
    details = {"name": "mine", "gpu_name": "G", "gpu_count": 8, "gpu_limit_w": None, "p_max_kw": None, "source": "s"}
    with pytest.raises(ValueError, match="maximum power is unknown"):
        fitted_profile(fit_node([stretch(level, load, QUIET) for level, load in LOADS]), **details)
    negative = fit_node([stretch(level, load, QUIET, offset_w=-100) for level, load in LOADS])
    with pytest.raises(ValueError, match="offset is negative"):
        fitted_profile(negative, **{**details, "p_max_kw": 10.0})
