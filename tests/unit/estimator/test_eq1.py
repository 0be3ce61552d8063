import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator.eq1 import Eq1Terms, energy_per_query_wh

positive = st.floats(1e-3, 1e6)


def test_one_kilowatt_for_an_hour_over_one_query_is_a_thousand_watt_hours():
    energy_wh = energy_per_query_wh(pue=1.0, node_power_kw=1.0, output_tok=3600, tps_tok_per_s=1.0)
    assert math.isclose(float(energy_wh), 1000.0, rel_tol=1e-12)


@given(pue=positive, power=positive, length=positive, tps=positive, factor=st.floats(0.1, 10))
def test_energy_is_linear_in_pue_power_and_length_and_inverse_in_throughput(pue, power, length, tps, factor):
    def energy(a: float, b: float, c: float, d: float) -> float:
        return Eq1Terms(pue=a, node_power_kw=b, output_tok=c, tps_tok_per_s=d).energy_wh

    expected = factor * energy(pue, power, length, tps)
    assert energy(factor * pue, power, length, tps) == pytest.approx(expected, rel=1e-12)
    assert energy(pue, factor * power, length, tps) == pytest.approx(expected, rel=1e-12)
    assert energy(pue, power, factor * length, tps) == pytest.approx(expected, rel=1e-12)
    assert energy(pue, power, length, tps / factor) == pytest.approx(expected, rel=1e-12)


def test_arguments_broadcast_to_a_common_shape():
    energy_wh = energy_per_query_wh(
        pue=np.array([1.0, 1.2])[:, None],
        node_power_kw=np.array([5.0, 6.0, 7.0]),
        output_tok=300,
        tps_tok_per_s=1000,
    )
    assert energy_wh.shape == (2, 3)
    assert energy_wh[1, 2] == pytest.approx(1.2 * 7.0 * 1000 / 3600 * 300 / 1000)


@pytest.mark.parametrize("name", ["pue", "node_power_kw", "output_tok", "tps_tok_per_s"])
@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_a_term_that_is_not_positive_and_finite_is_refused_by_name(name, bad):
    terms = {"pue": 1.2, "node_power_kw": 6.0, "output_tok": 300.0, "tps_tok_per_s": 1500.0, name: bad}
    with pytest.raises(ValueError, match=name):
        energy_per_query_wh(**terms)
    with pytest.raises(ValueError, match=name):
        Eq1Terms(**terms)


def test_one_bad_value_in_an_array_is_refused():
    with pytest.raises(ValueError, match="output_tok"):
        energy_per_query_wh(pue=1.2, node_power_kw=6.0, output_tok=[300, 0], tps_tok_per_s=1500)
