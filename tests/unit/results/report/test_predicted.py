import numpy as np
import pytest
from scipy.integrate import cumulative_trapezoid

from estimator.distributions import LogNormal
from estimator.lengths import exponential_lengths
from estimator.predict import PredictionInputs, predict_mean
from estimator.throughput.fit import fit_tps
from estimator.throughput.s1 import rows_for
from results.report.figures.predicted import mean_density
from results.schema import StoredPrediction


@pytest.mark.parametrize("model", ["Mixtral 8x22B", "DeepSeek-R1"])  # with an error of TPS, and without
def test_the_density_has_the_quantiles_of_the_stored_prediction(model):
    tps = fit_tps(rows_for(model), "oviedo", cap=True)
    lengths = exponential_lengths(300, 500)
    inputs = PredictionInputs(LogNormal(4.5, 10.2), LogNormal(1.05, 1.4), lengths, tps, seed=3)
    cell = predict_mean(inputs).to_dict()
    stored = StoredPrediction(created_wall_s=0, tps_source="", label="", tps_model={"dof": tps.dof}, cells={"1x": cell})
    ln_wh = np.linspace(np.log(cell["p50_wh"]) - 8, np.log(cell["p50_wh"]) + 8, 20_001)
    below = cumulative_trapezoid(mean_density(stored, "1x", ln_wh), ln_wh, initial=0.0)
    assert below[-1] == pytest.approx(1, abs=0.01)
    for name, share in (("p5_wh", 0.05), ("p50_wh", 0.50), ("p95_wh", 0.95)):
        assert np.interp(share, below, ln_wh) == pytest.approx(np.log(cell[name]), abs=0.02)


def test_a_prediction_without_its_inputs_has_no_density():
    stored = StoredPrediction(created_wall_s=0, tps_source="", label="", cells={"1x": {"mean_wh": 1.0}})
    assert mean_density(stored, "1x", np.zeros(1)) is None
