import math

import numpy as np
import pytest

from estimator.distributions import LogNormal
from estimator.fleet.beta import NETWORK, REDUNDANCY, Beta, load_shape_factor


@pytest.mark.parametrize(
    ("low", "high", "idle_kw", "peak_kw"),
    [(0.5, 1.0, 2.7, 11.3), (0.1, 0.6, 2.7, 11.3), (0.3, 0.3, 0, 5), (0.2, 1, 5, 5)],
)
def test_the_factor_of_the_load_shape_is_the_integral_over_a_day_of_the_sinusoid(low, high, idle_kw, peak_kw):
    hour = np.linspace(0, 24, 200_001)
    load = (low + high) / 2 + (high - low) / 2 * np.sin(2 * math.pi * hour / 24)
    energy_kwh = np.trapezoid(idle_kw + (peak_kw - idle_kw) * load, hour)
    work = np.trapezoid(load, hour)
    per_work_at_full_load_kwh = peak_kw * 24 / 24
    factor = load_shape_factor(low=low, high=high, idle_kw=idle_kw, peak_kw=peak_kw)
    assert factor == pytest.approx(energy_kwh / work / per_work_at_full_load_kwh, rel=1e-9)


def test_the_papers_beta_comes_out_of_its_own_steps():
    """S.V: 271.2 kWh a day at full load, 219.6 under the sinusoid, 1.08, and 1.33 in all."""
    load_shape = load_shape_factor(low=0.5, high=1.0, idle_kw=2.7, peak_kw=11.3)
    assert load_shape == pytest.approx(219.6 / 271.2 / 0.75, rel=1e-12)
    assert round(load_shape, 2) == 1.08
    assert round(Beta(load_shape, REDUNDANCY, NETWORK).total.mean, 2) == 1.33


def test_a_fleet_at_full_load_pays_nothing_for_its_shape():
    assert load_shape_factor(low=1, high=1, idle_kw=2.7, peak_kw=11.3) == 1


def test_uncertain_parts_make_beta_uncertain():
    rng = np.random.default_rng(0)
    redundancy, network = LogNormal(1.05, 1.2), LogNormal(1.08, 1.16)
    drawn = 1.08 * redundancy.sample(rng, 400_000) * network.sample(rng, 400_000)
    total = Beta(1.08, redundancy, network).total
    assert (total.p5, total.median, total.p95) == pytest.approx(np.quantile(drawn, [0.05, 0.5, 0.95]), rel=2e-3)
    assert total.mean == pytest.approx(drawn.mean(), rel=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": 0}, "0 < low <= high <= 1"),
        ({"low": 0.9, "high": 0.8}, "0 < low <= high <= 1"),
        ({"high": 1.1}, "0 < low <= high <= 1"),
        ({"low": math.nan}, "0 < low <= high <= 1"),
        ({"idle_kw": 12}, "0 <= idle <= peak"),
        ({"idle_kw": -1}, "0 <= idle <= peak"),
        ({"idle_kw": 0, "peak_kw": 0}, "0 <= idle <= peak"),
        ({"peak_kw": math.nan}, "0 <= idle <= peak"),
        ({"peak_kw": math.inf}, "0 <= idle <= peak"),
    ],
)
def test_a_load_or_power_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        load_shape_factor(**({"low": 0.5, "high": 1.0, "idle_kw": 2.7, "peak_kw": 11.3} | change))


@pytest.mark.parametrize("part", ["redundancy", "network"])
def test_a_share_given_as_a_factor_is_refused(part):
    parts = {"redundancy": REDUNDANCY, "network": NETWORK} | {part: LogNormal.constant(0.1)}
    with pytest.raises(ValueError, match=f"{part} is a factor on energy of at least 1"):
        Beta(1.08, **parts)
