import math
import random
import tracemalloc

import numpy as np
import pytest

from estimator.distributions import LogNormal
from estimator.power.node_power import IndependentPower, ProportionalPower
from estimator.queries.montecarlo import sample
from estimator.queries.tasks import TaskEnergies, TaskShape
from estimator.throughput.tps import TpsModel

PUE = LogNormal(1.05, 1.40)
POWER = IndependentPower(LogNormal(4.0, 9.0))
ONE_TOKEN = 0.01
"""A median this small makes every output a single token."""


LOG_1000 = math.log(1000)


def tps_model(b0=LOG_1000, b1=-1.0, b2=0.0, cap=None):
    return TpsModel(
        model="m", form="oviedo", coef=(b0, b1, b2), cov=None, residual_sd_log=None, dof=0, cap_tok_per_s=cap,
        n_rows=3, gpus=8, input_range_tok=(500, 5000), output_range_tok=(100, 2000), source="made up",
    )  # fmt: skip


def shape(**changes):
    given = {
        "steps": 3, "samples_per_step": 2, "input_tok": 10, "median_output_tok": ONE_TOKEN,
        "tool_result_tok": 5, "kept_output_share": 1.0, "input_limit_tok": None,
    }  # fmt: skip
    return TaskShape(**(given | changes))


def energies(task, tps=None, gain=None, power=POWER, pue=PUE):
    given = {} if gain is None else {"gain": gain}
    return TaskEnergies(task, tps or tps_model(), power, pue, **given)


@pytest.mark.parametrize(
    ("changes", "inputs"),
    [
        ({}, [10, 16, 22]),
        ({"kept_output_share": 0.0}, [10, 15, 20]),
        ({"tool_result_tok": 0}, [10, 11, 12]),
        ({"input_limit_tok": 18}, [10, 16, 18]),
        ({"kept_output_share": 0.0, "input_limit_tok": 18}, [10, 15, 18]),
        ({"steps": 1}, [10]),
    ],
)
def test_a_task_of_one_token_outputs_costs_what_its_growing_inputs_cost(changes, inputs):
    """At TPS = 1000 / L_in a request of one token takes L_in / 1000 s, twice a step."""
    task = energies(shape(**changes))
    expected_wh = math.sqrt(1.05 * 1.40) / 3.6 * 6.0 * 2 * sum(inputs) / 1000
    drawn_wh = np.exp(task.draw_log_wh(np.random.default_rng(0), 50))
    assert drawn_wh == pytest.approx(np.full(50, expected_wh), rel=1e-12)
    mean_factor = math.exp((PUE.sigma**2 + POWER.sigma_log**2) / 2)
    assert task.mean_wh == pytest.approx(mean_factor * expected_wh, rel=1e-9)


def scalar_tasks_wh(n, *, steps, samples, start_tok, median_tok, tool_tok, kept, limit_tok, seed):
    """Tasks one by one, with b = (9, -0.4, 0.2) capped at 3000 tok/s, power of 6 kW and PUE of 1.2."""
    draw = random.Random(seed)  # noqa: S311
    results = []
    for _ in range(n):
        context, wh = start_tok, 0.0
        for _ in range(steps):
            for _ in range(samples):
                out = max(1, round(draw.expovariate(math.log(2) / median_tok)))
                tps = min(math.exp(9 - 0.4 * math.log(context) + 0.2 * math.log(out)), 3000.0)
                wh += 1.2 * 6.0 / 3.6 * out / tps
            context = min(context + round(kept * out) + tool_tok, limit_tok)
        results.append(wh)
    return np.sort(results)


@pytest.mark.parametrize(("kept", "limit_tok"), [(1.0, math.inf), (0.3, 2500), (0.0, math.inf)])
def test_tasks_cost_what_a_plain_loop_over_them_gives(kept, limit_tok):
    loop_wh = scalar_tasks_wh(
        20_000, steps=4, samples=2, start_tok=800, median_tok=300, tool_tok=400, kept=kept, limit_tok=limit_tok, seed=3
    )
    task = energies(
        shape(
            steps=4, input_tok=800, median_output_tok=300, tool_result_tok=400, kept_output_share=kept,
            input_limit_tok=None if limit_tok == math.inf else limit_tok,
        ),
        tps_model(9.0, -0.4, 0.2, cap=3000.0),
        power=IndependentPower(LogNormal.constant(6.0)),
        pue=LogNormal.constant(1.2),
    )  # fmt: skip
    ours_wh = np.exp(task.draw_log_wh(np.random.default_rng(5), 100_000))
    levels = [0.05, 0.25, 0.5, 0.75, 0.95]
    assert np.quantile(ours_wh, levels) == pytest.approx(np.quantile(loop_wh, levels), rel=0.02)
    loop_se_wh = loop_wh.std() / math.sqrt(loop_wh.size)
    assert abs(task.mean_wh - loop_wh.mean()) < 4 * math.hypot(loop_se_wh, task.mean_se_wh)


def test_the_mean_is_exact_only_where_the_context_is_the_same_in_every_task():
    growing = energies(shape(median_output_tok=100))
    fixed = energies(shape(median_output_tok=100, kept_output_share=0.0))
    assert growing.mean_se_wh > 0
    assert fixed.mean_se_wh == 0
    drawn_wh = np.exp(fixed.draw_log_wh(np.random.default_rng(1), 200_000)) * math.exp(fixed.sigma_log**2 / 2)
    assert abs(drawn_wh.mean() - fixed.mean_wh) < 4 * drawn_wh.std() / math.sqrt(drawn_wh.size)


def test_power_pue_and_gain_are_one_draw_for_a_task():
    gain = LogNormal(1.5, 3.0)
    task, plain = energies(shape(), gain=gain), energies(shape())
    assert task.sigma_log == pytest.approx(math.hypot(PUE.sigma, POWER.kw.sigma, gain.sigma))
    assert task.mean_wh / plain.mean_wh == pytest.approx(math.exp(gain.sigma**2 / 2) / gain.median)


def test_power_that_follows_throughput_is_that_of_each_request():
    """TPS is 100, 62.5 and 1000/22 tok/s at the inputs 10, 16 and 22."""
    power = ProportionalPower(idle_kw=1.0, top_kw=3.0, top_tok_per_s=100.0)
    task = energies(shape(samples_per_step=1), power=power, pue=LogNormal.constant(1.0))
    expected_wh = sum((1 + 2 * tps / 100) / 3.6 / tps for tps in (100, 62.5, 1000 / 22))
    assert task.mean_wh == pytest.approx(expected_wh, rel=1e-9)


def test_requests_outside_the_throughput_data_are_counted():
    """Inputs of 400, 600 and 800 against data from 500 on: a third; single tokens out against 100 on: all."""
    growing = {"input_tok": 400, "tool_result_tok": 200, "kept_output_share": 0.0}
    assert energies(shape(**growing)).extrapolated_share == 1
    inputs_only = energies(shape(**growing, median_output_tok=1e6), tps_model())
    assert inputs_only.extrapolated_share > 0.99
    wide = TpsModel(**(vars(tps_model()) | {"output_range_tok": (1, 10)}))
    assert energies(shape(**growing), wide).extrapolated_share == pytest.approx(1 / 3)


def test_the_same_generator_gives_the_same_tasks_and_workers_do_not_matter():
    task = energies(shape(steps=2, samples_per_step=1, median_output_tok=50))
    first, second = (task.draw_log_wh(np.random.default_rng(7), 70_000) for _ in range(2))
    assert (first == second).all()
    one, two = (sample(task, 2_200_000, seed=1, workers=workers) for workers in (1, 2))
    assert (one.counts == two.counts).all()


def test_the_memory_of_a_draw_hardly_exceeds_its_result():
    task = energies(shape(steps=2, samples_per_step=1, median_output_tok=50))
    n = 1 << 20
    tracemalloc.start()
    try:
        task.draw_log_wh(np.random.default_rng(0), n)
        peak_b = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_b < 2.5 * 8 * n


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"samples_per_step": 0}, "samples_per_step must be at least 1"),
        ({"input_tok": 0}, "input_tok must be at least 1"),
        ({"median_output_tok": 0}, "median_output_tok must be positive"),
        ({"median_output_tok": math.nan}, "median_output_tok must be positive"),
        ({"tool_result_tok": -1}, "tool_result_tok must not be negative"),
        ({"kept_output_share": 1.1}, "kept_output_share must be between 0 and 1"),
        ({"kept_output_share": math.nan}, "kept_output_share must be between 0 and 1"),
        ({"input_limit_tok": 9}, "input_limit_tok must be at least input_tok, 10, not 9"),
    ],
)
def test_what_is_no_task_is_refused_with_its_key(changes, message):
    with pytest.raises(ValueError, match=message):
        shape(**changes)
