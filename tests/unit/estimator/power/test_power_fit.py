import json
import math

import numpy as np
import pytest
import statsmodels.api as sm

from estimator.power.power_fit import PowerFit, fit_power
from estimator.throughput.forms import InsufficientRowsError

TPS, POWER_KW = [230.0, 900.0, 1700.0, 2360.0], [3.3, 4.1, 4.5, 4.9]


def fitted(tps=TPS, power_kw=POWER_KW) -> PowerFit:
    return fit_power(tps, power_kw, model="m", gpus=8, boundary="node_modelled", source="made up")


def test_the_line_and_its_covariance_are_those_of_ordinary_least_squares():
    fit, oracle = fitted(), sm.OLS(POWER_KW, sm.add_constant(TPS)).fit()
    assert (fit.p0_kw, fit.p1_kw_s_per_tok) == pytest.approx(tuple(oracle.params))
    assert np.array(fit.cov) == pytest.approx(oracle.cov_params())
    assert fit.residual_sd_kw == pytest.approx(math.sqrt(oracle.scale))
    assert (fit.dof, fit.n_pairs, fit.tps_range_tok_per_s, fit.power_range_kw) == (2, 4, (230.0, 2360.0), (3.3, 4.9))
    assert fit.predict_kw([500, 1000]) == pytest.approx(oracle.predict(sm.add_constant([500, 1000])))


def test_two_pairs_give_a_line_of_unknown_error():
    fit = fitted([100, 200], [3.0, 3.5])
    assert (fit.cov, fit.residual_sd_kw, fit.dof) == (None, None, 0)
    assert "error is unknown" in fit.notes[0]


@pytest.mark.parametrize("tps", [[], [100.0], [100.0, 100.0]])
def test_one_throughput_is_no_line(tps):
    with pytest.raises(InsufficientRowsError, match="two or more different TPS"):
        fitted(tps, [3.0] * len(tps))


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_values_that_are_not_positive_are_refused(bad):
    with pytest.raises(ValueError, match="tps_tok_per_s must be positive"):
        fitted([100.0, bad], [3.0, 4.0])
    with pytest.raises(ValueError, match="power_kw must be positive"):
        fitted([100.0, 200.0], [3.0, bad])


def test_a_line_that_falls_below_0_is_not_followed_there():
    with pytest.raises(ValueError, match="no positive power"):
        fitted([100.0, 200.0], [4.0, 2.0]).predict_kw([150, 400])


def test_a_saved_model_loads_equal(tmp_path):
    fitted().save(tmp_path / "power.json")
    assert PowerFit.load(tmp_path / "power.json") == fitted()
    assert json.loads((tmp_path / "power.json").read_text())["schema"] == "inference-energy/power-model/1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tps_range_tok_per_s": [9, 1]}, "falls from 9 to 1"),
        ({"schema": "other/1"}, "other/1"),
        ({"slope": 1}, "slope"),
        ({"dof": 0}, "dof"),
        ({"gpus": 0}, "gpus"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_path(tmp_path, change, message):
    path = tmp_path / "power.json"
    path.write_text(json.dumps(json.loads(fitted().to_json()) | change))
    with pytest.raises(ValueError, match=message) as error:
        PowerFit.load(path)
    assert str(path) in str(error.value)
