"""The second derivation against closed forms, and apart from the first."""

import ast
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import harness.verify
from harness.verify import rederive

SENSOR = {"power_lag_s": 0.0, "counter_lag_s": 0.0}
NODE = {"offset_kw": 1.6, "slope": 1.22, "p_idle_kw": 2.7}


def readings(power_w, joules, t_s=None, age_s=math.nan):
    """Return readings every 0.1 s of a power and its integral, both functions of time."""
    t_s = np.arange(0, 60.05, 0.1) if t_s is None else t_s
    age = 0.0 if math.isnan(age_s) else age_s
    return pd.DataFrame({
        "t_mono_s": t_s, "power_w": [power_w(t) for t in t_s], "energy_j": [joules(t - age) for t in t_s],
        "energy_age_s": age_s, "uuid": "gpu-a",
    })  # fmt: skip


@pytest.mark.parametrize(
    ("power_w", "joules"),
    [
        (lambda t: 300.0, lambda t: 300 * t),
        (lambda t: 100 + 10 * t, lambda t: 100 * t + 5 * t**2),
        (lambda t: 400 + 100 * math.sin(t), lambda t: 400 * t - 100 * math.cos(t)),
    ],
    ids=["constant", "ramp", "sine"],
)
def test_counter_and_integral_give_the_joules_of_a_known_power(power_w, joules):
    found = rederive.device_joules(readings(power_w, joules), 10.03, 50.07, SENSOR)
    exact = joules(50.07) - joules(10.03)
    assert found.counter == pytest.approx(exact, rel=1e-4)
    assert found.integral == pytest.approx(exact, rel=1e-3)


def test_lags_are_taken_out_before_the_window_is_cut():
    late = readings(lambda t: 100 + 10 * (t - 0.5), lambda t: 100 * t + 5 * t**2, age_s=0.3)
    found = rederive.device_joules(late, 10, 50, {"power_lag_s": 0.5})
    assert found.counter == found.integral == pytest.approx(100 * 40 + 5 * (50**2 - 10**2), rel=1e-5)


@pytest.mark.parametrize(
    "joules",
    [lambda t: 300 * t - (9000 if t > 30 else 0), lambda t: 300 * min(t, 30), lambda t: 5.0, lambda t: math.nan],
    ids=["reset", "stuck half way", "never moves", "none"],
)
def test_a_counter_that_fails_is_not_believed(joules):
    found = rederive.device_joules(readings(lambda t: 300.0, joules), 10, 50, SENSOR)
    assert found.counter is None
    assert found.best == pytest.approx(300 * 40)


def test_readings_that_do_not_span_the_window_give_nothing():
    found = rederive.device_joules(readings(lambda t: 300.0, lambda t: 300 * t), 50, 70, SENSOR)
    assert found.best is None


def test_joules_between_edges_add_up_to_those_of_the_window():
    power = readings(lambda t: 100 + 10 * t, lambda t: 100 * t + 5 * t**2)
    manifest = {"boundary": "gpu", "power": SENSOR, "devices": [{"uuid": "gpu-a"}]}
    found = rederive.joules_between(power, manifest, np.array([10.0, 20.0, 50.0]))
    assert found == pytest.approx([100 * 10 + 5 * 300, 100 * 30 + 5 * 2100])


@pytest.mark.parametrize(
    ("allocation", "modelled_w", "charged_w"),
    [("share", 800 + 2440, 5000 - 1350), ("whole", 800 + 2440 + 1350, 5000), ("marginal", 800 + 2440 - 1350, 2300)],
)
def test_half_a_node_is_charged_by_its_allocation(allocation, modelled_w, charged_w):
    manifest = {"node_profile": NODE, "node_share": 0.5, "allocation": allocation}
    assert rederive.modelled_watts(manifest, 2000.0) == pytest.approx(modelled_w)
    assert rederive.metered_watts(manifest, 5000.0) == pytest.approx(charged_w)


def test_a_meter_without_a_profile_is_charged_whole_or_not_at_all():
    manifest = {"node_profile": None, "node_share": 0.5, "allocation": "share"}
    assert rederive.metered_watts(manifest, 5000.0) is None
    assert rederive.metered_watts(manifest | {"allocation": "whole"}, 5000.0) == 5000.0


def test_the_best_node_meter_is_taken():
    meters = [{"name": name, "boundary": "node"} for name in ("replay", "hwmon", "ipmi")]
    assert rederive.node_meter({"meters": [*meters, {"name": "redfish", "boundary": "gpu"}]})["name"] == "ipmi"


def test_eq1_gives_the_joules_of_a_known_query():
    assert rederive.eq1_wh(1.2, 6.0, 300, 1500) == pytest.approx(1.2 * 6000 * 0.2 / 3600)


def test_the_log_normal_mean_is_that_of_many_draws():
    sigma = math.log(1.4 / 1.05) / 2 / 1.6448536
    draws = np.random.default_rng(0).lognormal(math.log(math.sqrt(1.05 * 1.4)), sigma, 400_000)
    assert rederive.log_normal_mean(1.05, 1.4) == pytest.approx(draws.mean(), rel=5e-4)


def test_usage_is_spread_over_the_time_a_request_took():
    requests = pd.DataFrame({
        "send_mono_s": [0.0, 0.0, 0.0], "first_mono_s": [math.nan, 5.0, 0.0], "end_mono_s": [10.0, 15.0, 10.0],
        "output_tok": [100.0, 50.0, 70.0], "outcome": ["completed", "completed", "aborted"],
    })  # fmt: skip
    assert rederive.usage_by(requests, np.array([0.0, 5.0, 10.0, 20.0])).tolist() == [0.0, 50.0, 125.0, 150.0]


def test_a_counter_that_one_server_lacks_has_no_sum():
    scrapes = pd.DataFrame(
        {"t_mono_s": [0.0, 0.0, 1.0, 1.0], "server": [0, 1, 0, 1], "n": [1.0, math.nan, 3.0, math.nan]}
    )
    assert rederive.growth(scrapes, "n", 0, 1) is None
    assert rederive.growth(scrapes[scrapes["server"] == 0], "n", 0, 1) == 2.0


def test_nothing_of_the_first_analysis_is_imported():
    folder = Path(harness.verify.__file__).parent
    for path in folder.glob("*.py"):
        imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        ours = {str(node.module) for node in imports if str(node.module).split(".")[0] in ("harness", "estimator")}
        assert all(name.startswith("harness.verify") or name == "harness.errors" for name in ours), (path, ours)
