import numpy as np
import pytest

from estimator.nodes import load_profile
from estimator.power.node_power import IndependentPower, ProportionalPower
from estimator.presets import get_preset
from estimator.queries.served import largest_tok_per_s, model_on_node, s1_model
from estimator.throughput.fit import fit_tps
from estimator.throughput.s1 import rows_for

CORRECTED = get_preset("corrected")


def test_a_model_of_the_table_stands_on_the_node_of_its_benchmark():
    r1, llama = s1_model("DeepSeek-R1", CORRECTED), s1_model("Llama 3.1 405B", CORRECTED)
    assert (r1.p_max_kw, r1.p_idle_kw) == (14.1, pytest.approx(2.7 * 10 / 8))
    assert (llama.p_max_kw, llama.p_idle_kw) == (11.3, 2.7)


def test_a_model_on_part_of_a_node_bears_that_part():
    tps = fit_tps([row for row in rows_for("Llama 3.1 70B") if row.gpus == 8], "oviedo", cap=True)
    whole = model_on_node("whole", tps, load_profile("hgx-h100"))
    assert (whole.p_max_kw, whole.p_idle_kw) == (11.3, 2.55)


def test_power_is_independent_proportional_or_given():
    served = s1_model("Llama 3.1 405B", CORRECTED)
    independent = served.node_power(CORRECTED)
    assert isinstance(independent, IndependentPower)
    assert (independent.kw.p5, independent.kw.p95) == pytest.approx((0.4 * 11.3, 0.9 * 11.3))
    assert served.node_power(CORRECTED, "proportional") == ProportionalPower(2.7, 0.9 * 11.3, 4572.23)
    given = ProportionalPower(1, 2, 3)
    assert served.node_power(CORRECTED, given) is given


def test_without_a_cap_the_largest_throughput_is_the_predicted_one_over_the_fitted_range():
    tps = fit_tps(rows_for("Llama 3.1 405B"), "total_length", cap=False)
    every = tps.predict_tok_per_s(128, np.arange(128, 4097))
    assert largest_tok_per_s(tps) == pytest.approx(every.max(), rel=1e-3)
