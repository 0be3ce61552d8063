"""Quantities that follow from the energy of queries: per query, ratios, gains, fleets and the supplements' changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from estimator.fleet.beta import LOAD_SHAPE, NETWORK, REDUNDANCY, Beta, load_shape_factor
from estimator.fleet.total import Fleet, QueryClass
from estimator.presets import Preset, Regime
from estimator.reproduction.claims import load_claims
from estimator.reproduction.recipe import Estimate, Recipe
from estimator.reproduction.supplements import (
    input_length_change,
    input_weight_for_change,
    proportional_power_change,
    proportional_power_change_beside,
)

Figure = Estimate | tuple[Estimate, Estimate]
"""One value of ours, or the low and high end of a range."""
Quantity = Callable[..., Figure]
"""Takes the recipe and, by name, what stands in the places of the quantity's form."""

QUERIES_PER_DAY = 1e9
LONG_SHARE = 0.10
SCALED_UP = 10
"""Queries a day, the share of them that are long, and the factor for as many as web searches (section 4)."""
US_DATA_CENTERS_TWH_YEAR = 176.0
"""Electricity of all US data centers in 2023, TWh/year: A. Shehabi et al., 2024 United States Data Center Energy
Usage Report, Lawrence Berkeley National Laboratory, LBNL-2001637. Not from the paper, which states none."""

SINGLE_LEVERS = ("hardware", "serving", "model")
_NON_PRODUCTION = ("ai-energy-score-70b-fp8", "iea-mixtral", "iea-deepseek-r1")
_GPUS_OF_BETA = 8


def beta(preset: Preset) -> Beta:
    """Return beta as S.V builds it, for the node of 8 GPUs."""
    low, high = LOAD_SHAPE
    load_shape = load_shape_factor(
        low=low, high=high, idle_kw=preset.p_idle_kw.value, peak_kw=preset.p_max_for(_GPUS_OF_BETA)
    )
    return Beta(load_shape, REDUNDANCY, NETWORK)


def gwh_per_day(recipe: Recipe, *levers: str, long_share: float = 0.0) -> Estimate:
    """Return the exact mean energy of the fleet: beta x queries x mean of all energies of the pool, untrimmed."""
    shares: dict[Regime, float] = {"traditional": 1 - long_share, "test-time": long_share}
    models = recipe.pool_models()
    classes = tuple(
        QueryClass(regime, model.name, share / len(models), recipe.energies(model, regime, *levers))
        for regime, share in shares.items()
        if share > 0
        for model in models
    )
    return Estimate(Fleet(QUERIES_PER_DAY, classes, beta(recipe.preset).total).mean_gwh())


def reduction(recipe: Recipe, regime: Regime, *levers: str) -> Estimate:
    """Return the pool's median without ``levers`` over that with them."""
    return recipe.baseline(regime).median.over(recipe.baseline(regime, *levers).median)


def _mixed(recipe: Recipe, *levers: str) -> Estimate:
    return gwh_per_day(recipe, *levers, long_share=LONG_SHARE)


def _twh_year(recipe: Recipe) -> Estimate:
    return gwh_per_day(recipe, "line-of-sight").times(SCALED_UP * 365 / 1000)


def _lowest_and_highest(estimates: Iterable[Estimate]) -> tuple[Estimate, Estimate]:
    in_order = sorted(estimates, key=lambda estimate: estimate.value)
    return in_order[0], in_order[-1]


def _single_reductions(recipe: Recipe) -> Figure:
    regimes: tuple[Regime, ...] = ("traditional", "test-time")
    return _lowest_and_highest(reduction(recipe, regime, lever) for regime in regimes for lever in SINGLE_LEVERS)


def _non_production_over_ours(recipe: Recipe) -> Figure:
    cited = {claim.id: claim for claim in load_claims()}
    models = {name: cited[name].quantity.removeprefix("wh.model.").split(".traditional")[0] for name in _NON_PRODUCTION}
    return _lowest_and_highest(
        Estimate(cited[name].figures[0]).over(recipe.model(model, "traditional").median)
        for name, model in models.items()
    )


def _share_above(recipe: Recipe, regime: Regime, wh: str) -> Figure:
    models = recipe.pool_models()
    below = [recipe.energies(model, regime).share_below(float(wh)) for model in models]
    return Estimate(100 * (1 - sum(below) / len(below)))


SAMPLED: Mapping[str, Quantity] = MappingProxyType(
    {
        "wh.baseline.{regime}.{stat}": lambda recipe, regime, stat: recipe.baseline(regime).stat(stat),
        "wh.baseline.{regime}.{lever}.{stat}": (
            lambda recipe, regime, lever, stat: recipe.baseline(regime, lever).stat(stat)
        ),
        "wh.model.{model}.{regime}.{stat}": lambda recipe, model, regime, stat: recipe.model(model, regime).stat(stat),
        "share.above.{wh}_wh.{regime}": _share_above,
        "ratio.test-time_over_traditional.{stat}": (
            lambda recipe, stat: recipe.baseline("test-time").stat(stat).over(recipe.baseline("traditional").stat(stat))
        ),
        "ratio.non_production_over_ours": _non_production_over_ours,
        "ratio.gwh.optimised_over_baseline": (
            lambda recipe: gwh_per_day(recipe, "line-of-sight").over(gwh_per_day(recipe))
        ),
        "ratio.gwh.mixed_over_baseline": lambda recipe: _mixed(recipe).over(gwh_per_day(recipe)),
        "reduction.{lever}.{regime}.p50": lambda recipe, lever, regime: reduction(recipe, regime, lever),
        "reduction.single": _single_reductions,
        "reduction.serving_to_model.{regime}.p50": (
            lambda recipe, regime: (reduction(recipe, regime, "serving"), reduction(recipe, regime, "model"))
        ),
        "reduction.combined": lambda recipe: (
            reduction(recipe, "traditional", "hardware", "model"),
            reduction(recipe, "traditional", *SINGLE_LEVERS),
        ),
        "reduction.all": lambda recipe: reduction(recipe, "traditional", *SINGLE_LEVERS),
        "gwh.baseline": gwh_per_day,
        "gwh.optimised": lambda recipe: gwh_per_day(recipe, "line-of-sight"),
        "gwh.mixed": _mixed,
        "gwh.mixed_optimised": lambda recipe: _mixed(recipe, "line-of-sight"),
        "twh_year.optimised": _twh_year,
        "twh_year.baseline": lambda recipe: gwh_per_day(recipe).times(SCALED_UP * 365 / 1000),
        "share.us_data_centers": lambda recipe: _twh_year(recipe).times(100 / US_DATA_CENTERS_TWH_YEAR),
        "outside.us_data_centers_twh_year": lambda _: Estimate(US_DATA_CENTERS_TWH_YEAR),
        "s3.{regime}.{input_tok}.change": (
            lambda recipe, regime, input_tok: input_length_change(recipe, regime, int(input_tok))
        ),
        "s3.{regime}.input_weight.{percent}": (
            lambda recipe, regime, percent: input_weight_for_change(recipe, regime, float(percent))
        ),
        "s4.{regime}.change": proportional_power_change,
        "s4.{regime}.common_top.{model}.change": (
            lambda recipe, regime, model: proportional_power_change(recipe, regime, top_of=model)
        ),
        "s4.{regime}.beside_{share}.change": (
            lambda recipe, regime, share: proportional_power_change_beside(recipe, regime, float(share))
        ),
    }
)
"""Every form of a quantity that needs the energy of queries, by its name in ``QUANTITY_FORMS``."""
