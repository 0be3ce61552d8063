import math

import numpy as np
import pytest

from estimator.throughput.s1 import load_s1
from estimator.throughput.without_rows import population_model


def test_a_model_without_rows_gets_a_wide_interval_that_holds_every_benchmarked_model():
    sizes = {"Llama 3.1 405B": 405, "Llama 3.1 70B": 70, "Mixtral 8x22B": 141, "DeepSeek-R1": 671}
    for name, weight_gb in sizes.items():
        for row in (row for row in load_s1() if "tensorRT" in row.source and row.model == name):
            low, high = population_model(weight_gb, row.gpus).interval_tok_per_s(row.input_tok, row.output_tok)
            assert low < row.tps_tok_per_s < high
            assert high / low > 5
    assert "extrapolated" in population_model(70, 8).notes[0]
    assert population_model(70, 8).dof == 3


def test_all_parameters_predict_a_left_out_model_better_than_the_activated_ones():
    """Leave-one-out errors of a straight line by hand, on one saturated row of each model at 500 to 2,000 tokens."""
    log_tps_per_gpu = np.log([3661.85 / 8, 14630.41 / 8, 21421.86 / 8, 1300 / 10, 5200 / 8])

    def error(params):
        x, errors = np.log(params), []
        for left_out in range(5):
            rest = [i for i in range(5) if i != left_out]
            slope, intercept = np.polyfit(x[rest], log_tps_per_gpu[rest], 1)
            errors.append(log_tps_per_gpu[left_out] - slope * x[left_out] - intercept)
        return math.sqrt(np.mean(np.square(errors)))

    assert error([405, 70, 141, 671, 253]) < 0.7 * error([405, 70, 39, 37, 253])


def test_the_population_model_scales_with_gpus_and_is_widest_far_from_the_sizes_it_knows():
    one, eight = population_model(70, 1), population_model(70, 8)
    assert float(eight.predict_tok_per_s(500, 300)) == pytest.approx(8 * float(one.predict_tok_per_s(500, 300)))
    assert float(population_model(1, 8).predictive_sd_log(500, 300)) > float(eight.predictive_sd_log(500, 300))


@pytest.mark.parametrize(("weight_gb", "gpus"), [(0, 8), (-3, 8), (math.nan, 8), (math.inf, 8), (70, 0)])
def test_a_size_that_makes_no_sense_is_refused(weight_gb, gpus):
    with pytest.raises(ValueError, match="need a positive size"):
        population_model(weight_gb, gpus)
