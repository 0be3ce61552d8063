import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator.compare import split_log_ratio
from estimator.eq1 import Eq1Terms

positive = st.floats(1e-3, 1e6)
terms = st.builds(Eq1Terms, pue=positive, node_power_kw=positive, output_tok=positive, tps_tok_per_s=positive)


@given(measured=terms, predicted=terms)
def test_the_four_terms_sum_to_the_log_ratio_of_the_energies(measured, predicted):
    split = split_log_ratio(measured, predicted)
    assert split.total == split.power + split.length + split.tps + split.pue
    assert split.total == pytest.approx(math.log(measured.energy_wh / predicted.energy_wh), abs=1e-9)


@pytest.mark.parametrize(
    ("term", "field", "sign"),
    [
        ("power", "node_power_kw", 1),
        ("length", "output_tok", 1),
        ("tps", "tps_tok_per_s", -1),
        ("pue", "pue", 1),
    ],
)
def test_doubling_one_measured_term_moves_its_part_alone(term, field, sign):
    base = {"pue": 1.2, "node_power_kw": 6.0, "output_tok": 300.0, "tps_tok_per_s": 1500.0}
    split = split_log_ratio(Eq1Terms(**base | {field: 2 * base[field]}), Eq1Terms(**base))
    expected = {"power": 0.0, "length": 0.0, "tps": 0.0, "pue": 0.0, term: sign * math.log(2)}
    assert vars(split) == pytest.approx(expected)
