import numpy as np
import pytest

from estimator.distributions import LogNormal
from estimator.fleet.footprint import carbon_tonnes, water_litres

LEVELS = [0.05, 0.25, 0.5, 0.75, 0.95]


@pytest.mark.parametrize(("footprint", "per_gwh"), [(water_litres, 1e6), (carbon_tonnes, 1.0)])
def test_a_footprint_combines_the_uncertainty_of_energy_and_of_intensity(footprint, per_gwh):
    rng = np.random.default_rng(1)
    energy, intensity = LogNormal(0.5, 1.2), LogNormal(0.2, 1.8)
    drawn = per_gwh * energy.sample(rng, 1_000_000) * intensity.sample(rng, 1_000_000)
    total = footprint(energy, intensity)
    assert total.quantile(LEVELS) == pytest.approx(np.quantile(drawn, LEVELS), rel=0.01)
    assert total.mean == pytest.approx(drawn.mean(), rel=0.01)


def test_units_are_litres_and_tonnes():
    a_gwh = LogNormal.constant(1.0)
    assert water_litres(a_gwh, LogNormal.constant(1.5)).median == pytest.approx(1.5e6)
    assert carbon_tonnes(a_gwh, LogNormal.constant(400.0)).median == pytest.approx(400)
