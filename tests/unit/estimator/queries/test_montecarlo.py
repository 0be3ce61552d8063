import math

import numpy as np
import pytest

from estimator.presets import get_preset
from estimator.queries import montecarlo
from estimator.queries.energies import QueryEnergies
from estimator.queries.histogram import RESOLUTION_REL
from estimator.queries.montecarlo import sample
from estimator.queries.served import BASELINE_MODELS, s1_model, sample_pool
from estimator.throughput.s1 import load_s1
from tests.unit.estimator import scalar_loop

N_LOOP = 200_000
MODELS = sorted({row.model for row in load_s1()})


def energies_of(model: str, regime: str, preset_name: str = "corrected") -> QueryEnergies:
    preset = get_preset(preset_name)
    served = s1_model(model, preset)
    return served.energies(preset.lengths(regime), served.node_power(preset), preset.pue())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("regime", ["traditional", "test-time"])
def test_the_median_of_a_million_agrees_with_a_loop_over_single_queries_within_monte_carlo_error(model, regime):
    ours = sample(energies_of(model, regime), 1_000_000, seed=7, workers=2)
    loop = scalar_loop.energies_wh(model, regime, N_LOOP, seed=11)
    rank = math.sqrt(0.25 / N_LOOP)
    loop_se_wh = (scalar_loop.quantile(loop, 0.5 + rank) - scalar_loop.quantile(loop, 0.5 - rank)) / 2
    error_wh = math.hypot(ours.quantile_se_wh(0.5), loop_se_wh)
    assert abs(ours.quantile_wh(0.5) - scalar_loop.quantile(loop, 0.5)) < 4 * error_wh
    assert error_wh < 0.005 * ours.quantile_wh(0.5)


@pytest.mark.parametrize("probability", [0.05, 0.25, 0.75, 0.95])
def test_the_other_quantiles_agree_with_the_loop_too(probability):
    ours = sample(energies_of("DeepSeek-R1", "traditional"), 1_000_000, seed=7)
    loop = scalar_loop.energies_wh("DeepSeek-R1", "traditional", N_LOOP, seed=11)
    assert ours.quantile_wh(probability) == pytest.approx(scalar_loop.quantile(loop, probability), rel=0.02)


@pytest.mark.parametrize("model", MODELS)
def test_sampled_quantiles_and_mean_are_those_of_the_closed_form(model):
    energies = energies_of(model, "test-time")
    ours = sample(energies, 1_000_000, seed=3)
    for probability in (0.05, 0.5, 0.95):
        rank_se = math.sqrt(probability * (1 - probability) / 1_000_000)
        assert abs(energies.share_below(ours.quantile_wh(probability)) - probability) < 5 * rank_se
    assert abs(ours.mean_wh - energies.mean_wh) < 5 * ours.mean_se_wh + RESOLUTION_REL * ours.mean_wh


# Quartiles that the recipe is known to give, to two digits; tolerance 3%.
@pytest.mark.parametrize(
    ("preset", "regime", "quartiles"),
    [
        ("oviedo2026-v2", "traditional", (0.17, 0.31, 0.61)),
        ("oviedo2026-v2", "test-time", (2.1, 3.8, 6.7)),
        ("oviedo2025-v1", "traditional", (0.18, 0.34, 0.65)),
        ("oviedo2025-v1", "test-time", (2.2, 4.1, 7.2)),
    ],
)
def test_the_trimmed_pool_of_the_large_models_has_the_known_quartiles(preset, regime, quartiles):
    energies = [energies_of(model, regime, preset) for model in BASELINE_MODELS]
    pool = sample_pool(energies, 1_000_000, seed=0, workers=2, trimmed=True)
    assert [pool.quantile_wh(q) for q in (0.25, 0.5, 0.75)] == pytest.approx(quartiles, rel=0.03)


def test_the_trimmed_pool_is_that_of_the_loop():
    loops = [scalar_loop.energies_wh(model, "traditional", N_LOOP, seed=5) for model in BASELINE_MODELS]
    loop = sorted(energy for each in loops for energy in scalar_loop.trimmed_twice(each))
    energies = [energies_of(model, "traditional") for model in BASELINE_MODELS]
    pool = sample_pool(energies, 1_000_000, seed=0, workers=2, trimmed=True)
    for probability in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert pool.quantile_wh(probability) == pytest.approx(scalar_loop.quantile(loop, probability), rel=0.015)


@pytest.mark.parametrize(("model", "published_wh"), [("Llama 3.1 405B", 0.43), ("Mixtral 8x22B", 0.07)])
def test_single_models_have_the_published_medians_of_the_first_version(model, published_wh):
    ours = sample(energies_of(model, "traditional", "oviedo2025-v1"), 100_000, seed=1)
    assert ours.quantile_wh(0.5) == pytest.approx(published_wh, rel=0.08)


def test_the_answer_for_a_seed_does_not_depend_on_the_number_of_workers(monkeypatch):
    monkeypatch.setattr(montecarlo, "BLOCK", 1_000)
    energies = energies_of("Llama 3.1 70B", "traditional")
    counts = [sample(energies, 9_500, seed=4, workers=workers).counts for workers in (1, 2, 3, 16)]
    assert all(np.array_equal(counts[0], other) for other in counts)
    assert counts[0].sum() == 9_500


def test_seeds_and_streams_give_other_samples_of_the_same_energies():
    energies = energies_of("Llama 3.1 70B", "traditional")
    drawn = [sample(energies, 1_000, seed=seed, stream=stream) for seed, stream in ((0, 0), (1, 0), (0, 1))]
    assert len({each.mean_wh for each in drawn}) == 3
    assert np.array_equal(drawn[0].counts, sample(energies, 1_000, seed=0, stream=0).counts)


@pytest.mark.parametrize(("n", "workers"), [(0, 1), (-1, 1), (1, 0)])
def test_nothing_to_draw_or_nobody_to_draw_it_is_refused(n, workers):
    with pytest.raises(ValueError, match="at least 1"):
        sample(energies_of("Llama 3.1 70B", "traditional"), n, seed=0, workers=workers)
