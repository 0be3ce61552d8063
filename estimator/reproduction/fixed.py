"""Quantities that need no energy of a query: parameters, S.I, lengths, beta, and arithmetic on stated figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from types import MappingProxyType

import numpy as np

from estimator.eq1 import energy_per_query_wh
from estimator.fleet.beta import LOAD_SHAPE
from estimator.fleet.references import DATA_CENTRE_MW, DATA_CENTRE_UTILISATION, daily_references
from estimator.presets import Regime
from estimator.queries.interventions import INTERVENTIONS
from estimator.queries.served import BASELINE_MODELS, TOP_SHARE
from estimator.reproduction.claims import load_claims
from estimator.reproduction.recipe import Estimate, Recipe
from estimator.reproduction.sampled import LONG_SHARE, QUERIES_PER_DAY, Figure, Quantity, beta
from estimator.throughput.s1 import load_s1, rows_for

S3_INPUT_TOK = (1000.0, 5000.0)
"""The two further input lengths of S.III."""
_COMBINED_EXAMPLE = ("combined-example-hardware", "combined-example-model", "combined-example-serving")


def _exact(value: float) -> Estimate:
    return Estimate(float(value))


def _pair(low: float, high: float) -> Figure:
    return _exact(low), _exact(high)


def _published(name: str) -> tuple[float, ...]:
    return next(claim.figures for claim in load_claims() if claim.id == name)


def _length(recipe: Recipe, regime: Regime, stat: str) -> Figure:
    lengths = recipe.preset.lengths(regime)
    if stat == "mean":
        return _exact(lengths.mean_output_tok)
    order = np.argsort(lengths.output_tok, kind="stable")
    at = np.searchsorted(np.cumsum(lengths.weight[order]), int(stat.removeprefix("p")) / 100)
    return _exact(lengths.output_tok[order][at])


def _spread_of_references(_: Recipe) -> Figure:
    figures = [
        figure
        for claim in load_claims()
        if claim.kind == "reference" and claim.unit == "Wh/query"
        for figure in claim.figures
    ]
    return _exact(max(figures) / min(figures))


def _alpha(_: Recipe, lever: str, low: float, high: float) -> Figure:
    return _pair(*(float(INTERVENTIONS[lever].quantile(p)) for p in (low, high)))


def _nemotron_over_deepseek(_: Recipe) -> Figure:
    nemotron, deepseek = (
        {(row.input_tok, row.output_tok): row.tps_tok_per_s for row in rows_for(model)}
        for model in ("Llama-3.1 Nemotron Ultra 253B", "DeepSeek-R1")
    )
    ratios = [nemotron[lengths] / deepseek[lengths] for lengths in nemotron.keys() & deepseek.keys()]
    return _pair(min(ratios), max(ratios))


def _combined_example(_: Recipe) -> Figure:
    low, high = (prod(ends) for ends in zip(*map(_published, _COMBINED_EXAMPLE), strict=True))
    return _pair(low, high)


def _quotient(over: str, under: str, factor: float = 1.0) -> Quantity:
    """Return the quotient of two published figures, and so what the text implies."""
    return lambda _: _exact(factor * _published(over)[0] / _published(under)[0])


def _eq1_constant(_: Recipe) -> Figure:
    energy_wh = float(energy_per_query_wh(pue=1.0, node_power_kw=1.0, output_tok=1.0, tps_tok_per_s=1.0))
    return _exact(1 / energy_wh)


def _kwh_node(recipe: Recipe, load: float) -> float:
    """Return the kWh a day of a node of 8 GPUs under a mean ``load``, power rising linearly with it."""
    idle_kw, p_max_kw = recipe.preset.p_idle_kw.value, recipe.preset.p_max_for(8)
    return 24 * (idle_kw + (p_max_kw - idle_kw) * load)


def _tps(model: str) -> list[float]:
    return [row.tps_tok_per_s for row in rows_for(model)]


def _end(values: Iterable[float], extreme: str) -> Figure:
    return _exact(min(values) if extreme == "min" else max(values))


_LOAD_MEAN = sum(LOAD_SHAPE) / 2

FIXED: Mapping[str, Quantity] = MappingProxyType(
    {
        "length.{regime}.{stat}": _length,
        "ratio.tokens": lambda recipe: _exact(
            recipe.preset.median_output_tok["test-time"].value / recipe.preset.median_output_tok["traditional"].value
        ),
        "ratio.references": _spread_of_references,
        "alpha.{lever}.p5_p95": lambda recipe, lever: _alpha(recipe, lever, 0.05, 0.95),
        "alpha.{lever}.p25_p75": lambda recipe, lever: _alpha(recipe, lever, 0.25, 0.75),
        "alpha.{lever}.p50": lambda _, lever: _exact(INTERVENTIONS[lever].median),
        "beta.total": lambda recipe: _exact(beta(recipe.preset).total.mean),
        "beta.load_shape": lambda recipe: _exact(beta(recipe.preset).load_shape),
        "beta.redundancy": lambda recipe: _exact(beta(recipe.preset).redundancy.mean),
        "beta.redundancy_percent": lambda recipe: _exact(100 * (beta(recipe.preset).redundancy.mean - 1)),
        "beta.network": lambda recipe: _exact(beta(recipe.preset).network.mean),
        "beta.network_percent": lambda recipe: _exact(100 * (beta(recipe.preset).network.mean - 1)),
        "beta.load_percent": lambda _: _pair(*(100 * load for load in LOAD_SHAPE)),
        "beta.load_mean": lambda _: _exact(_LOAD_MEAN),
        "beta.load_mean_percent": lambda _: _exact(100 * _LOAD_MEAN),
        "kw.dynamic": lambda recipe: _exact(recipe.preset.p_max_for(8) - recipe.preset.p_idle_kw.value),
        "kwh.node_uniform": lambda recipe: _exact(_kwh_node(recipe, 1.0)),
        "kwh.node_sinusoidal": lambda recipe: _exact(_kwh_node(recipe, _LOAD_MEAN)),
        "arithmetic.mlenergy_fp8": _quotient("mlenergy-405b-bf16", "bf16-over-fp8"),
        "arithmetic.ai_energy_score_fp8": lambda _: _exact(_published("ai-energy-score-70b-fp16")[0] / 2),
        "arithmetic.p_max_10_kw": lambda recipe: _exact(recipe.preset.p_max_for(8) * 10 / 8),
        "arithmetic.combined_example": _combined_example,
        "arithmetic.gwh_30_mw": lambda _: _exact(daily_references(QUERIES_PER_DAY)[1].gwh_per_day),
        "arithmetic.gwh_web_search": lambda _: _exact(daily_references(QUERIES_PER_DAY)[0].gwh_per_day),
        "implied.hyperscaler_twh_year": _quotient("twh-year", "hyperscaler-share", 100),
        "implied.us_data_centers_twh_year": _quotient("twh-year", "us-data-center-share", 100),
        "implied.television_gwh_day": _quotient("gwh-mixed-optimised", "television-share", 100),
        "eq1.constant": _eq1_constant,
        "preset.power_share.p50": lambda recipe: _exact(recipe.preset.power_share().median),
        "preset.power_share_p5": lambda recipe: _exact(recipe.preset.power_share_p5.value),
        "preset.power_share_p95": lambda recipe: _exact(recipe.preset.power_share_p95.value),
        "preset.pue_p5": lambda recipe: _exact(recipe.preset.pue_p5.value),
        "preset.pue_p95": lambda recipe: _exact(recipe.preset.pue_p95.value),
        "preset.input_tok": lambda recipe: _exact(recipe.preset.input_tok.value),
        "preset.median_output_tok.{regime}": (
            lambda recipe, regime: _exact(recipe.preset.median_output_tok[regime].value)
        ),
        "preset.p_max_kw.{gpus}": lambda recipe, gpus: _exact(recipe.preset.p_max_for(int(gpus))),
        "preset.p_idle_kw": lambda recipe: _exact(recipe.preset.p_idle_kw.value),
        "pool.models": lambda _: _exact(len(BASELINE_MODELS)),
        "settings.samples": lambda recipe: _exact(recipe.samples),
        "settings.queries": lambda _: _exact(QUERIES_PER_DAY / 1e9),
        "settings.long_share": lambda _: _exact(100 * LONG_SHARE),
        "settings.traditional_share": lambda _: _exact(100 * (1 - LONG_SHARE)),
        "settings.data_center_mw": lambda _: _exact(DATA_CENTRE_MW),
        "settings.data_center_utilization": lambda _: _exact(100 * DATA_CENTRE_UTILISATION),
        "settings.s3_input_tok": lambda _: _pair(*S3_INPUT_TOK),
        "settings.s4_top_share": lambda _: _exact(TOP_SHARE),
        "s1.rows": lambda _: _exact(len(load_s1())),
        "s1.rows.{model}": lambda _, model: _exact(len(rows_for(model))),
        "s1.models": lambda _: _exact(len({row.model for row in load_s1()})),
        "s1.gpus.{model}": lambda _, model: _exact(rows_for(model)[0].gpus),
        "s1.tps_min.{model}": lambda _, model: _exact(min(_tps(model))),
        "s1.tps_max.{model}": lambda _, model: _exact(max(_tps(model))),
        "s1.input_tok.{extreme}": lambda _, extreme: _end([row.input_tok for row in load_s1()], extreme),
        "s1.output_tok.{extreme}": lambda _, extreme: _end([row.output_tok for row in load_s1()], extreme),
        "s1.nemotron_over_deepseek": _nemotron_over_deepseek,
    }
)
"""Every other form of a quantity, by its name in ``estimator.reproduction.claims.QUANTITY_FORMS``."""
