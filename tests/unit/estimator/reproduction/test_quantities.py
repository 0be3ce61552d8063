"""Values of ours against arithmetic by hand and against a loop over single queries."""

import math
from bisect import bisect_right

import pytest

from estimator.reproduction.claims import QUANTITY_FORMS
from estimator.reproduction.table import QUANTITIES, Reproduction, estimates
from tests.unit.estimator import scalar_loop
from tests.unit.estimator.scalar_loop import Z95

V1, V2 = "oviedo2025-v1", "oviedo2026-v2"
PUE_P95 = {V1: 1.60, V2: 1.40}
POOL = ("DeepSeek-R1", "Llama 3.1 405B", "Llama-3.1 Nemotron Ultra 253B")
N_LOOP = 100_000


@pytest.fixture(scope="module")
def ours():
    drawn = Reproduction(samples=400_000, seed=1, workers=2)

    def value(quantity, preset=V1):
        values = tuple(estimate.value for estimate in estimates(drawn.value(quantity, preset)))
        return values[0] if len(values) == 1 else values

    return value


@pytest.fixture(scope="module")
def loops():
    drawn = {}

    def energies(model, regime, preset):
        case = model, regime, preset
        if case not in drawn:
            drawn[case] = scalar_loop.energies_wh(model, regime, N_LOOP, seed=9, pue_p95=PUE_P95[preset])
        return drawn[case]

    return energies


def log_normal(p5, p95):
    """Median and sigma of the logarithm."""
    return math.sqrt(p5 * p95), math.log(p95 / p5) / (2 * Z95)


def test_every_form_of_a_quantity_can_be_computed_and_no_other():
    assert set(QUANTITIES) == set(QUANTITY_FORMS) - {"none"}


@pytest.mark.parametrize(
    ("quantity", "by_hand"),
    [
        ("kw.dynamic", 11.3 - 2.7),
        ("kwh.node_uniform", 271.2),
        ("kwh.node_sinusoidal", 2.7 * 24 + 8.6 * 24 * 0.75),
        ("beta.load_shape", 219.6 / 271.2 / 0.75),
        ("beta.total", 1.10 * 1.12 * 219.6 / 271.2 / 0.75),
        ("beta.load_percent", (50.0, 100.0)),
        ("beta.redundancy_percent", 10.0),
        ("arithmetic.gwh_30_mw", 30 * 0.8 * 24 / 1000),
        ("arithmetic.gwh_web_search", 0.3),
        ("arithmetic.p_max_10_kw", 14.125),
        ("arithmetic.mlenergy_fp8", 0.931 / 1.7),
        ("arithmetic.ai_energy_score_fp8", 0.86),
        ("arithmetic.combined_example", (1.5 * 3 * 2, 2 * 4 * 3)),
        ("implied.hyperscaler_twh_year", 22.0),
        ("implied.us_data_centers_twh_year", 132.0),
        ("implied.television_gwh_day", 222.5),
        ("eq1.constant", 3.6),
        ("ratio.tokens", 5000 / 300),
        ("ratio.references", 2.25 / 0.092),
        ("length.traditional.mean", 300 / math.log(2)),
        ("preset.power_share.p50", 0.6),
        ("alpha.model.p5_p95", (1.5, 10.0)),
        ("alpha.model.p50", math.sqrt(15)),
        ("alpha.serving.p25_p75", tuple(math.sqrt(7.5) * (5 / 1.5) ** (z / 2) for z in (-0.410056, 0.410056))),
        ("s1.nemotron_over_deepseek", (720 / 378, 5200 / 1300)),
        ("s1.gpus.DeepSeek-R1", 10.0),
        ("s1.output_tok.max", 4096.0),
        ("s1.tps_min.Mixtral 8x22B", 2227.63),
        ("settings.traditional_share", 90.0),
    ],
)
def test_exact_quantities_are_those_worked_out_by_hand(ours, quantity, by_hand):
    assert ours(quantity) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize(("regime", "median_tok"), [("traditional", 300), ("test-time", 5000)])
def test_length_quartiles_are_those_of_an_exponential_to_the_nearest_token(ours, regime, median_tok):
    assert abs(ours(f"length.{regime}.p25") - median_tok * math.log2(4 / 3)) <= 1
    assert abs(ours(f"length.{regime}.p75") - median_tok * 2) <= 1


@pytest.mark.parametrize("preset", [V1, V2])
@pytest.mark.parametrize("regime", ["traditional", "test-time"])
def test_the_trimmed_quartiles_of_the_pool_are_those_of_the_loop(ours, loops, preset, regime):
    pool = sorted(wh for model in POOL for wh in scalar_loop.trimmed_twice(loops(model, regime, preset)))
    for stat, probability in (("p25", 0.25), ("p50", 0.50), ("p75", 0.75)):
        expected_wh = scalar_loop.quantile(pool, probability)
        assert ours(f"wh.baseline.{regime}.{stat}", preset) == pytest.approx(expected_wh, rel=0.015)


@pytest.mark.parametrize("model", ["Llama 3.1 405B", "Mixtral 8x22B", "Llama 3.1 70B"])
def test_a_single_models_median_is_that_of_the_loop(ours, loops, model):
    median_wh = scalar_loop.quantile(loops(model, "traditional", V1), 0.5)
    assert ours(f"wh.model.{model}.traditional.p50") == pytest.approx(median_wh, rel=0.015)


def test_the_ratio_of_medians_and_the_share_of_long_queries_are_those_of_the_loop(ours, loops):
    pools = {r: sorted(wh for model in POOL for wh in loops(model, r, V1)) for r in ("traditional", "test-time")}
    ratio = scalar_loop.quantile(pools["test-time"], 0.5) / scalar_loop.quantile(pools["traditional"], 0.5)
    assert ours("ratio.test-time_over_traditional.p50") == pytest.approx(ratio, rel=0.02)
    above = 100 * (1 - bisect_right(pools["test-time"], 10.0) / len(pools["test-time"]))
    assert ours("share.above.10_wh.test-time") == pytest.approx(above, abs=0.5)


def test_a_fleet_uses_beta_times_the_mean_of_all_samples(ours, loops):
    mean = {r: sum(sum(loops(m, r, V2)) for m in POOL) / (3 * N_LOOP) for r in ("traditional", "test-time")}
    median_gain, sigma = log_normal(1.5, 3.0)
    gain = math.exp(sigma**2 / 2) / median_gain
    assert ours("gwh.baseline", V2) == pytest.approx(1.33 * mean["traditional"], rel=0.01)
    mixed = 1.33 * (0.9 * mean["traditional"] + 0.1 * mean["test-time"])
    assert ours("gwh.mixed", V2) == pytest.approx(mixed, rel=0.015)
    assert ours("gwh.mixed_optimised", V2) == pytest.approx(gain * mixed, rel=0.015)
    assert ours("ratio.gwh.optimised_over_baseline", V2) == pytest.approx(gain, rel=1e-9)
    assert ours("twh_year.optimised") == pytest.approx(3.65 * ours("gwh.optimised"), rel=1e-9)


def test_non_production_estimates_are_held_against_the_medians_of_their_models(ours, loops):
    cited = {"Llama 3.1 70B": 0.86, "Mixtral 8x22B": 1.25, "DeepSeek-R1": 2.25}
    over = sorted(wh / scalar_loop.quantile(loops(m, "traditional", V1), 0.5) for m, wh in cited.items())
    assert ours("ratio.non_production_over_ours") == pytest.approx((over[0], over[-1]), rel=0.015)


def gained(pool, levers, generator):
    spreads = [log_normal(*alpha) for alpha in levers]
    median = math.prod(m for m, _ in spreads)
    sigma = math.hypot(*(s for _, s in spreads))
    return sorted(wh / (median * math.exp(generator.gauss(0, sigma))) for wh in pool)


def test_reductions_are_those_of_dividing_every_energy_of_the_loop(ours, loops):
    import random

    generator = random.Random(3)  # noqa: S311
    pool = [wh for model in POOL for wh in loops(model, "traditional", V1)]
    base_wh = scalar_loop.quantile(sorted(pool), 0.5)
    hardware, serving, model = (1.5, 2.5), (1.5, 5.0), (1.5, 10.0)
    for quantity, levers in (
        ("reduction.serving.traditional.p50", [serving]),
        ("reduction.all", [hardware, serving, model]),
    ):
        expected = base_wh / scalar_loop.quantile(gained(pool, levers, generator), 0.5)
        assert ours(quantity) == pytest.approx(expected, rel=0.02)
