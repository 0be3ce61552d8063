"""S.III and S.IV: what input length and power that follows throughput change, as the paper does it and otherwise.

Every change is that of the pool's median, beside the main analysis, in % of the latter.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import brentq

from estimator.lengths import LengthDistribution
from estimator.power.node_power import ProportionalPower
from estimator.presets import Regime
from estimator.queries.energies import QueryEnergies
from estimator.queries.served import TOP_SHARE, ServedModel
from estimator.reproduction.recipe import Estimate, Recipe
from estimator.throughput.s1 import rows_for


def energies_counting_prefill_twice(
    recipe: Recipe, model: ServedModel, lengths: LengthDistribution, *, input_weight: float = 1.0
) -> QueryEnergies:
    """Return energies with ``L_eff = input_weight * L_in + L_out`` at the same TPS (S.III).

    This is not Eq. 1 as it holds: output TPS at an input length already pays for its prefill. It exists only to
    show what S.III says.
    """
    once = model.energies(lengths, model.node_power(recipe.preset), recipe.preset.pue())
    factor = (input_weight * lengths.input_tok + lengths.output_tok) / lengths.output_tok
    return replace(once, log_wh=once.log_wh + np.log(factor))


def input_length_change(recipe: Recipe, regime: Regime, input_tok: int) -> Estimate:
    """Return the change by prefill counted twice at ``input_tok``, with the TPS of that length (S.III)."""
    lengths = recipe.preset.lengths(regime)
    longer = LengthDistribution(np.full_like(lengths.input_tok, input_tok), lengths.output_tok, lengths.weight)
    drawn = recipe.pool(
        f"{regime} with prefill twice at {input_tok}",
        lambda model: energies_counting_prefill_twice(recipe, model, longer),
    )
    return drawn.median.change_percent(recipe.baseline(regime).median)


def input_weight_for_change(recipe: Recipe, regime: Regime, percent: float) -> Estimate:
    """Return the weight of an input token, beside 1 for one of the output, that changes the median by ``percent``.

    Solved in the exact distribution of the untrimmed pool; trimming does not move a median that lies within what
    is kept of every model.
    """
    lengths, models = recipe.preset.lengths(regime), recipe.pool_models()

    def share_below(energy_wh: float, weight: float) -> float:
        each = (energies_counting_prefill_twice(recipe, model, lengths, input_weight=weight) for model in models)
        return float(np.mean([energies.share_below(energy_wh) for energies in each]))

    near_wh = recipe.baseline(regime).median.value
    median_wh = brentq(lambda wh: share_below(wh, 0.0) - 0.5, 0.5 * near_wh, 2 * near_wh, rtol=1e-6)
    target_wh = (1 + percent / 100) * median_wh
    return Estimate(brentq(lambda weight: share_below(target_wh, weight) - 0.5, 0.0, 1.0, xtol=1e-6))


def proportional_power_change(recipe: Recipe, regime: Regime, top_of: str | None = None) -> Estimate:
    """Return the change by power that rises with TPS from idle to 0.9 P_max (S.IV).

    A node reaches 0.9 P_max at the largest TPS of its own model, or, for all models alike, of the model ``top_of``.
    """
    common = None if top_of is None else max(row.tps_tok_per_s for row in rows_for(top_of))

    def energies(model: ServedModel) -> QueryEnergies:
        power = model.node_power(recipe.preset, "proportional")
        if common is not None:
            power = ProportionalPower(model.p_idle_kw, TOP_SHARE * model.p_max_kw, common)
        return model.energies(recipe.preset.lengths(regime), power, recipe.preset.pue())

    drawn = recipe.pool(f"{regime} with proportional power, top of {top_of}", energies)
    return drawn.median.change_percent(recipe.baseline(regime).median)


def proportional_power_change_beside(recipe: Recipe, regime: Regime, median_share: float) -> Estimate:
    """Return the change of S.IV beside steady power with its median at ``median_share`` of P_max."""
    lower_base = recipe.preset.power_share().median / median_share
    return proportional_power_change(recipe, regime).plus(100).times(lower_base).plus(-100)
