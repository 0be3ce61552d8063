"""Estimate Wh per query by the paper's Monte Carlo, for named models, their pool, or a fitted TPS model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np

from estimator.fit import fit_oviedo_preset
from estimator.nodes import load_profile
from estimator.presets import Preset, Regime, get_preset
from estimator.s1 import load_s1, rows_for
from estimator.sampling import sample_pool_wh, sample_query_energy_wh
from estimator.tps import TpsModel
from harness.errors import ConfigError, WorkloadError

ESTIMATE_SCHEMA = "inference-energy/estimate/1"
BASELINE = "baseline"
QUANTILES = {"p5": 0.05, "p25": 0.25, "p50": 0.50, "p75": 0.75, "p95": 0.95}


def estimate_document(
    model: str | None,
    tps_model: Path | None,
    regime: str,
    preset_name: str,
    node_profile: str,
    samples: int,
    seed: int,
) -> dict[str, Any]:
    """Return the estimates asked for, as the document that ``--json`` prints; all models if none is named."""
    if regime not in get_args(Regime):
        raise ConfigError(f"unknown regime {regime!r}", fix=f"choose one of {', '.join(get_args(Regime))}")
    if samples < 1:
        raise ConfigError(f"samples = {samples}: at least one query must be drawn")
    if model is not None and tps_model is not None:
        raise ConfigError("model and tps-model exclude each other", fix="give one of them")
    try:
        preset = get_preset(preset_name)
        if tps_model is not None:
            sampled = {f"file {tps_model}": _from_file(tps_model, preset, regime, node_profile, samples, seed)}
        else:
            names = [model] if model else [*dict.fromkeys(row.model for row in load_s1()), BASELINE]
            sampled = {name: _named(name, preset, regime, samples, seed) for name in names}
    except (OSError, ValueError) as error:
        raise WorkloadError(str(error)) from error
    estimates = [
        {
            "model": name,
            "regime": regime,
            "preset": preset.name,
            "boundary": "node x PUE",
            "wh_per_query": {
                **dict(zip(QUANTILES, np.quantile(energy_wh, list(QUANTILES.values())).tolist(), strict=True)),
                "mean": float(energy_wh.mean()),
            },
        }
        for name, energy_wh in sampled.items()
    ]
    return {"schema": ESTIMATE_SCHEMA, "samples_per_model": samples, "seed": seed, "estimates": estimates}


def _named(name: str, preset: Preset, regime: Any, samples: int, seed: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    if name == BASELINE:
        return sample_pool_wh(rng, samples, preset=preset, regime=regime)
    rows = rows_for(name)
    return sample_query_energy_wh(
        rng,
        samples,
        node_power_kw=preset.node_power_kw(rows[0].gpus),
        pue=preset.pue(),
        lengths=preset.lengths(regime),
        tps=fit_oviedo_preset(rows),
    )


def _from_file(
    path: Path, preset: Preset, regime: Any, node_profile: str, samples: int, seed: int
) -> np.ndarray[Any, Any]:
    profile, tps = load_profile(node_profile), TpsModel.load(path)
    return sample_query_energy_wh(
        np.random.default_rng(seed),
        samples,
        node_power_kw=preset.power_share().scaled(profile.p_max_share_kw(profile.share(tps.gpus))),
        pue=preset.pue(),
        lengths=preset.lengths(regime),
        tps=tps,
    )
