import math
import random

import numpy as np
import pytest

from estimator.lengths import fixed_lengths
from estimator.presets import get_preset
from estimator.queries.served import s1_model
from estimator.reproduction.recipe import Recipe
from estimator.reproduction.supplements import (
    energies_counting_prefill_twice,
    input_length_change,
    input_weight_for_change,
    proportional_power_change,
    proportional_power_change_beside,
)
from tests.unit.estimator import scalar_loop
from tests.unit.estimator.scalar_loop import Z95

POOL = ("DeepSeek-R1", "Llama 3.1 405B", "Llama-3.1 Nemotron Ultra 253B")
LARGEST_TPS = {"DeepSeek-R1": 1300.0, "Llama 3.1 405B": 4572.23, "Llama-3.1 Nemotron Ultra 253B": 5200.0}
N_LOOP = 60_000


@pytest.fixture(scope="module")
def recipe():
    return Recipe(get_preset("oviedo2026-v2"), samples=400_000, seed=2, workers=2)


def pool_wh(regime, energy_wh):
    """Loop over queries of the pool; ``energy_wh(model, gpus, tps, output_tok, power_share)`` without PUE."""
    draw = random.Random(8)  # noqa: S311
    sigma = {"power": math.log(0.9 / 0.4) / (2 * Z95), "pue": math.log(1.40 / 1.05) / (2 * Z95)}
    mean_tok = scalar_loop.MEDIAN_OUTPUT_TOK[regime] / math.log(2)
    kept = []
    for model in POOL:
        gpus, tps = scalar_loop._throughput(model)
        energies = []
        for _ in range(N_LOOP):
            output_tok = max(1, round(draw.expovariate(1 / mean_tok)))
            share = 0.6 * math.exp(draw.gauss(0, sigma["power"]))
            pue = math.sqrt(1.05 * 1.40) * math.exp(draw.gauss(0, sigma["pue"]))
            energies.append(pue * energy_wh(model, gpus, tps(output_tok), output_tok, share))
        kept += scalar_loop.trimmed_twice(sorted(energies))
    return sorted(kept)


def steady(model, gpus, tps, output_tok, share):
    return share * scalar_loop.P_MAX_KW[gpus] * output_tok / tps / 3.6


def prefill_twice(model, gpus, tps, output_tok, share):
    return steady(model, gpus, tps, output_tok, share) * (500 + output_tok) / output_tok


def proportional(top_of):
    def energy_wh(model, gpus, tps, output_tok, share):
        top = LARGEST_TPS[top_of or model]
        idle_kw, p_max_kw = 2.7 * gpus / 8, scalar_loop.P_MAX_KW[gpus]
        power_kw = idle_kw + (0.9 * p_max_kw - idle_kw) * min(1.0, tps / top)
        return power_kw * output_tok / tps / 3.6

    return energy_wh


def change_percent(regime, energy_wh):
    medians = [scalar_loop.quantile(pool_wh(regime, each), 0.5) for each in (energy_wh, steady)]
    return 100 * (medians[0] / medians[1] - 1)


@pytest.mark.parametrize(("regime", "tolerance"), [("traditional", 8.0), ("test-time", 2.5)])
def test_prefill_counted_twice_changes_the_median_as_in_the_loop(recipe, regime, tolerance):
    ours = input_length_change(recipe, regime, 500)
    assert ours.value == pytest.approx(change_percent(regime, prefill_twice), abs=tolerance)


@pytest.mark.parametrize("regime", ["traditional", "test-time"])
@pytest.mark.parametrize("top_of", [None, "Llama 3.1 405B", "Llama-3.1 Nemotron Ultra 253B"])
def test_power_that_follows_throughput_changes_the_median_as_in_the_loop(recipe, regime, top_of):
    ours = proportional_power_change(recipe, regime, top_of)
    assert ours.value == pytest.approx(change_percent(regime, proportional(top_of)), abs=2.5)


def test_beside_a_higher_steady_power_the_same_energy_is_less_of_a_change(recipe):
    change = proportional_power_change(recipe, "test-time")
    beside = proportional_power_change_beside(recipe, "test-time", 0.7)
    assert 1 + beside.value / 100 == pytest.approx((1 + change.value / 100) * 0.6 / 0.7)


def test_the_whole_input_counts_once_more_than_eq_1_has_it(recipe):
    model, lengths = s1_model("DeepSeek-R1", recipe.preset), fixed_lengths(500, 250)
    once = model.energies(lengths, model.node_power(recipe.preset), recipe.preset.pue())
    twice = energies_counting_prefill_twice(recipe, model, lengths)
    assert twice.mean_wh == pytest.approx(3 * once.mean_wh)


@pytest.mark.parametrize(("regime", "percent"), [("traditional", 10), ("test-time", 1)])
def test_the_solved_weight_of_an_input_token_gives_the_change_it_was_solved_for(recipe, regime, percent):
    weight = input_weight_for_change(recipe, regime, percent).value
    lengths = recipe.preset.lengths(regime)
    weighted = recipe.pool(
        f"{regime} weighted", lambda model: energies_counting_prefill_twice(recipe, model, lengths, input_weight=weight)
    )
    change = weighted.median.change_percent(recipe.baseline(regime).median)
    assert 0 < weight < 1
    assert abs(change.value - percent) < 4 * change.se


def test_cases_are_drawn_once_and_independently_of_the_order(recipe):
    again = Recipe(recipe.preset, samples=1_000, seed=5, workers=1)
    first = again.baseline("traditional", "model")
    assert again.baseline("traditional", "model") is first
    other = Recipe(recipe.preset, samples=1_000, seed=5, workers=2)
    other.baseline("test-time")
    assert np.array_equal(other.baseline("traditional", "model").every.counts, first.every.counts)
    assert not np.array_equal(other.baseline("traditional").every.counts, first.every.counts)
