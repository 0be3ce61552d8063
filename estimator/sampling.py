"""The paper's Monte Carlo: energies of single queries, and their pool over models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from estimator.distributions import LogNormal
from estimator.eq1 import energy_per_query_wh
from estimator.fit import fit_oviedo_preset
from estimator.lengths import LengthDistribution
from estimator.presets import Preset, Regime
from estimator.s1 import rows_for
from estimator.tps import TpsModel

FloatArray = npt.NDArray[np.float64]

BASELINE_MODELS = ("DeepSeek-R1", "Llama 3.1 405B", "Llama-3.1 Nemotron Ultra 253B")
"""The models above 200B parameters that the paper pools in equal shares (section 3)."""


def sample_query_energy_wh(
    rng: np.random.Generator,
    n: int,
    *,
    node_power_kw: LogNormal,
    pue: LogNormal,
    lengths: LengthDistribution,
    tps: TpsModel,
) -> FloatArray:
    """Draw the energies of ``n`` queries in Wh, shape ``(n,)``.

    Lengths, node power and PUE are drawn independently for each query, and TPS is the model's at that query's
    lengths, without error (section 2).
    """
    input_tok, output_tok = lengths.sample(rng, n)
    return energy_per_query_wh(
        pue=pue.sample(rng, n),
        node_power_kw=node_power_kw.sample(rng, n),
        output_tok=output_tok,
        tps_tok_per_s=tps.predict_tok_per_s(input_tok, output_tok),
    )


def trimmed(energy_wh: FloatArray) -> FloatArray:
    """Return the energies between P5 and P95, and of those the ones between P10 and P90.

    So the published pooled quantiles were taken; it narrows their spread and hardly moves the median.

    >>> kept = trimmed(np.arange(1001.0))
    >>> kept.min(), kept.max()
    (np.float64(140.0), np.float64(860.0))
    """
    for low, high in ((0.05, 0.95), (0.10, 0.90)):
        bounds = np.quantile(energy_wh, [low, high])
        energy_wh = energy_wh[(energy_wh >= bounds[0]) & (energy_wh <= bounds[1])]
    return energy_wh


def sample_pool_wh(
    rng: np.random.Generator,
    n_per_model: int,
    *,
    preset: Preset,
    regime: Regime,
    models: Sequence[str] = BASELINE_MODELS,
) -> FloatArray:
    """Draw query energies in Wh of Supplemental I models and pool them in equal shares.

    Each model's energies are trimmed first where the preset says so.
    """
    lengths = preset.lengths(regime)
    samples = []
    for model in models:
        tps = fit_oviedo_preset(rows_for(model))
        energy_wh = sample_query_energy_wh(
            rng,
            n_per_model,
            node_power_kw=preset.node_power_kw(tps.gpus),
            pue=preset.pue(),
            lengths=lengths,
            tps=tps,
        )
        samples.append(trimmed(energy_wh) if preset.trimmed.value else energy_wh)
    return np.concatenate(samples)
