import math

import numpy as np
import pytest

from estimator.distributions import LogNormal
from estimator.fleet.beta import NETWORK, REDUNDANCY, Beta, load_shape_factor
from estimator.fleet.total import Fleet, QueryClass, largest_remainder
from estimator.presets import get_preset
from estimator.queries.energies import NO_GAIN
from estimator.queries.interventions import INTERVENTIONS
from estimator.queries.served import BASELINE_MODELS, s1_model
from tests.unit.estimator.scalar_loop import MEDIAN_OUTPUT_TOK, P_MAX_KW, Z95, _throughput, energies_wh, quantile

BETA = Beta(load_shape_factor(low=0.5, high=1.0, idle_kw=2.7, peak_kw=11.3), REDUNDANCY, NETWORK).total
LEVELS = [0.05, 0.25, 0.5, 0.75, 0.95]


def classes(long_share, *, preset="oviedo2026-v2", gain=NO_GAIN):
    chosen = get_preset(preset)
    made = []
    for regime, share in (("traditional", 1 - long_share), ("test-time", long_share)):
        for name in BASELINE_MODELS if share else ():
            model = s1_model(name, chosen)
            energies = model.energies(chosen.lengths(regime), model.node_power(chosen), chosen.pue(), gain)
            made.append(QueryClass(regime, name, share / 3, energies))
    return tuple(made)


def fleet(long_share=0.1, *, queries=1e9, beta=BETA, **given):
    return Fleet(queries, classes(long_share, **given), beta)


def log_normal_mean(p5, p95):
    return math.sqrt(p5 * p95) * math.exp((math.log(p95 / p5) / (2 * Z95)) ** 2 / 2)


def exact_mean_wh(model, regime):
    """E[PUE] E[share] P_max / 3.6 * sum of p(L) L / TPS(500, L) over the rounded exponential, one term at a time."""
    gpus, tps = _throughput(model)
    rate = math.log(2) / MEDIAN_OUTPUT_TOK[regime]
    node_s, length = 0.0, 1
    while math.exp(-rate * (length - 0.5)) > 1e-12:
        below = 1.0 if length == 1 else math.exp(-rate * (length - 0.5))
        node_s += (below - math.exp(-rate * (length + 0.5))) * length / tps(length)
        length += 1
    return log_normal_mean(1.05, 1.40) * log_normal_mean(0.4, 0.9) * P_MAX_KW[gpus] / 3.6 * node_s


def test_the_mean_is_beta_times_queries_times_the_mean_over_models_and_lengths():
    by_regime = {
        regime: sum(exact_mean_wh(model, regime) for model in BASELINE_MODELS) / 3
        for regime in ("traditional", "test-time")
    }
    beta = 1.10 * 1.12 * (2.7 + 8.6 * 0.75) / (0.75 * 11.3)
    expected = {regime: beta * share * wh for (regime, wh), share in zip(by_regime.items(), (0.9, 0.1), strict=True)}
    ours = fleet(0.1)
    assert ours.mean_gwh() == pytest.approx(sum(expected.values()), rel=1e-6)
    assert {kind: ours.mean_gwh(kind) for kind in expected} == pytest.approx(expected, rel=1e-6)
    assert ours.gwh_per_day.mean == pytest.approx(ours.mean_gwh(), rel=1e-12)


@pytest.mark.parametrize(
    ("preset", "long_share", "gain", "published_gwh"),
    [
        ("oviedo2026-v2", 0.0, None, 0.7),
        ("oviedo2026-v2", 0.1, None, 1.7),
        ("oviedo2026-v2", 0.1, "line-of-sight", 0.8),
        ("oviedo2025-v1", 0.0, None, 0.81),
        ("oviedo2025-v1", 0.1, None, 1.8),
        ("oviedo2025-v1", 0.1, "line-of-sight", 0.89),
    ],
)
def test_the_presets_give_the_published_totals(preset, long_share, gain, published_gwh):
    """Within 6%: the published figures have one or two digits."""
    ours = fleet(long_share, preset=preset, gain=INTERVENTIONS[gain] if gain else NO_GAIN)
    assert ours.mean_gwh() == pytest.approx(published_gwh, rel=0.06)


def test_line_of_sight_gains_halve_the_total():
    """E[1/alpha] of the log-normal from 1.5 to 3 is 0.48; the paper goes from 1.8 to 0.89."""
    sigma = math.log(2) / (2 * Z95)
    factor = math.exp(sigma**2 / 2) / math.sqrt(1.5 * 3)
    assert fleet(gain=INTERVENTIONS["line-of-sight"]).mean_gwh() / fleet().mean_gwh() == pytest.approx(factor)
    assert factor == pytest.approx(0.89 / 1.8, rel=0.05)


def test_the_days_quantiles_are_those_of_drawing_once_what_the_fleet_shares():
    gain, redundancy, network = LogNormal(1.5, 3.0), LogNormal(1.05, 1.25), LogNormal(1.1, 1.14)
    rng = np.random.default_rng(2)

    def draw(p5, p95):
        return np.sqrt(p5 * p95) * np.exp(math.log(p95 / p5) / (2 * Z95) * rng.standard_normal(1_000_000))

    mean_node_hours_kw = sum(
        share / 3 * exact_mean_wh(model, regime) / log_normal_mean(1.05, 1.40) / log_normal_mean(0.4, 0.9)
        for regime, share in (("traditional", 0.9), ("test-time", 0.1))
        for model in BASELINE_MODELS
    )
    total = mean_node_hours_kw * draw(1.05, 1.40) * draw(0.4, 0.9) / draw(1.5, 3.0) * draw(1.05, 1.25) * draw(1.1, 1.14)
    beta = Beta(1.0, redundancy, network).total
    ours = fleet(0.1, beta=beta, gain=gain).gwh_per_day
    assert ours.quantile(LEVELS) == pytest.approx(np.quantile(total, LEVELS), rel=0.005)
    assert ours.mean == pytest.approx(total.mean(), rel=0.005)


def test_single_queries_of_the_mix_have_the_quantiles_of_a_plain_loop():
    loop_wh = sorted(
        wh
        for regime, n in (("traditional", 90_000), ("test-time", 10_000))
        for seed, model in enumerate(BASELINE_MODELS)
        for wh in energies_wh(model, regime, n, seed=seed)
    )
    ours = fleet(0.1).sample_queries(1_000_000, seed=0, workers=1)
    assert [ours.quantile_wh(q) for q in LEVELS] == pytest.approx([quantile(loop_wh, q) for q in LEVELS], rel=0.03)
    exact_wh = fleet(0.1).mean_wh_per_query
    assert abs(ours.mean_wh - exact_wh) < 4 * ours.mean_se_wh
    assert ours.n_drawn == 1_000_000


def test_single_queries_do_not_depend_on_the_workers():
    one, three = (fleet(0.1).sample_queries(15_000_000, seed=4, workers=workers) for workers in (1, 3))
    assert (one.counts == three.counts).all()


def test_a_share_too_small_for_a_sample_is_left_out_of_the_samples_alone():
    tiny = fleet(1e-6)
    assert tiny.sample_queries(1_000, seed=0, workers=1).n_drawn == 1_000
    assert tiny.mean_gwh("test-time") == pytest.approx(1e-6 * fleet(1.0).mean_gwh())


@pytest.mark.parametrize("n", [1, 7, 1000, 10**9])
def test_the_samples_of_the_classes_sum_and_miss_their_share_by_less_than_one(n):
    shares = [0.3, 0.3, 0.3, 0.1 / 3, 0.1 / 3, 0.1 / 3]
    counts = largest_remainder(shares, n)
    assert sum(counts) == n
    assert all(abs(count - share * n) < 1 for count, share in zip(counts, shares, strict=True))


@pytest.mark.parametrize("queries", [0, -1, math.nan, math.inf])
def test_a_number_of_queries_that_is_none_is_refused(queries):
    with pytest.raises(ValueError, match="queries per day must be positive and finite"):
        fleet(queries=queries)


def test_shares_that_do_not_sum_to_one_are_refused():
    with pytest.raises(ValueError, match="sum to 1"):
        Fleet(1e9, classes(0.1)[:-1], BETA)


def test_kinds_that_do_not_share_their_spread_are_refused():
    mixed = classes(0.0)[:2] + classes(0.0, gain=LogNormal(1.5, 3.0))[2:]
    with pytest.raises(ValueError, match="share none"):
        Fleet(1e9, mixed, BETA)
