import numpy as np
import pytest

from estimator.distributions import LogNormal
from estimator.power.node_power import IndependentPower, ProportionalPower


def test_independent_power_is_the_same_at_every_throughput():
    power = IndependentPower(LogNormal(4.0, 9.0))
    assert power.median_kw(np.array([1.0, 1e4])).tolist() == pytest.approx([6.0, 6.0])
    assert power.sigma_log == pytest.approx(np.log(9 / 4) / 2 / 1.6448536)


@pytest.mark.parametrize(("tps", "kw"), [(0.0, 2.7), (2286.115, 6.435), (4572.23, 10.17), (9000.0, 10.17)])
def test_proportional_power_rises_from_idle_to_nine_tenths_of_the_maximum(tps, kw):
    power = ProportionalPower(idle_kw=2.7, top_kw=0.9 * 11.3, top_tok_per_s=4572.23)
    assert power.median_kw(np.array([tps])) == pytest.approx(kw)
    assert power.sigma_log == 0
