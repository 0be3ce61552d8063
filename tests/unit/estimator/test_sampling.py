import math
import random

import numpy as np
import pytest

from estimator.distributions import LogNormal
from estimator.fit import fit_oviedo_preset
from estimator.lengths import exponential_lengths
from estimator.presets import get_preset
from estimator.s1 import rows_for
from estimator.sampling import sample_pool_wh, sample_query_energy_wh, trimmed

Z95 = 1.6448536269514722


def loop_energy_wh(model: str, p_max_kw: float, n: int) -> list[float]:
    """The paper's Monte Carlo of the traditional regime written out one query at a time."""
    coef = fit_oviedo_preset(rows_for(model)).coef
    tps_max = max(row.tps_tok_per_s for row in rows_for(model))
    draw = random.Random(11)  # noqa: S311
    energies = []
    for _ in range(n):
        output_tok = max(1, round(draw.expovariate(math.log(2) / 300)))
        power_kw = p_max_kw * math.exp(draw.gauss(math.log(0.6), math.log(0.9 / 0.4) / 2 / Z95))
        pue = math.exp(draw.gauss(math.log(1.05 * 1.40) / 2, math.log(1.40 / 1.05) / 2 / Z95))
        log_tps = coef[0] + coef[1] * math.log(500) + coef[2] * math.log(output_tok)
        energies.append(power_kw * 1000 / 3600 * output_tok / min(math.exp(log_tps), tps_max) * pue)
    return energies


@pytest.mark.parametrize(("model", "gpus", "p_max_kw"), [("Llama 3.1 405B", 8, 11.3), ("DeepSeek-R1", 10, 14.1)])
def test_query_energies_agree_with_a_loop_over_single_queries(model, gpus, p_max_kw):
    preset = get_preset("corrected")
    ours = sample_query_energy_wh(
        np.random.default_rng(0),
        100_000,
        node_power_kw=preset.node_power_kw(gpus),
        pue=preset.pue(),
        lengths=preset.lengths("traditional"),
        tps=fit_oviedo_preset(rows_for(model)),
    )
    loop = np.array(loop_energy_wh(model, p_max_kw, 100_000))
    levels = [0.05, 0.25, 0.5, 0.75, 0.95]
    assert np.quantile(ours, levels) == pytest.approx(np.quantile(loop, levels), rel=0.03)
    assert ours.mean() == pytest.approx(loop.mean(), rel=0.02)


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
def test_the_pool_of_the_large_models_has_the_known_quartiles(preset, regime, quartiles):
    pool = sample_pool_wh(np.random.default_rng(1), 100_000, preset=get_preset(preset), regime=regime)
    assert np.quantile(pool, [0.25, 0.5, 0.75]) == pytest.approx(quartiles, rel=0.03)


@pytest.mark.parametrize(("model", "published_wh"), [("Llama 3.1 405B", 0.43), ("Mixtral 8x22B", 0.07)])
def test_single_models_have_the_published_medians_of_the_first_version(model, published_wh):
    pool = sample_pool_wh(
        np.random.default_rng(1),
        100_000,
        preset=get_preset("oviedo2025-v1"),
        regime="traditional",
        models=[model],
    )
    assert np.median(pool) == pytest.approx(published_wh, rel=0.08)


def test_untrimmed_pools_keep_every_sample_in_equal_shares():
    pool = sample_pool_wh(np.random.default_rng(1), 1000, preset=get_preset("corrected"), regime="traditional")
    assert pool.shape == (3000,)


def test_trimming_keeps_about_seventy_two_percent_and_the_median():
    sample = np.random.default_rng(0).lognormal(size=100_000)
    kept = trimmed(sample)
    assert kept.size / sample.size == pytest.approx(0.9 * 0.8, abs=0.001)
    assert np.median(kept) == pytest.approx(np.median(sample), rel=0.005)
    assert (kept.min(), kept.max()) == pytest.approx(np.quantile(sample, [0.14, 0.86]), rel=0.001)


def test_the_same_seed_draws_the_same_energies():
    def draw() -> list[float]:
        return sample_query_energy_wh(
            np.random.default_rng(9),
            10,
            node_power_kw=LogNormal(4, 9),
            pue=LogNormal(1.05, 1.4),
            lengths=exponential_lengths(300, 500),
            tps=fit_oviedo_preset(rows_for("Llama 3.1 70B")),
        ).tolist()

    assert draw() == draw()
