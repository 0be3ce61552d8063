"""Models on their nodes: the paper's five of Supplemental I, their pool, or any throughput model on a profiled node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from estimator.distributions import LogNormal
from estimator.lengths import LengthDistribution
from estimator.nodes import NodeProfile
from estimator.power.node_power import IndependentPower, NodePower, ProportionalPower
from estimator.presets import Preset
from estimator.queries.energies import NO_GAIN, Energies, QueryEnergies, query_energies
from estimator.queries.histogram import LogHistogram, pooled
from estimator.queries.montecarlo import sample
from estimator.throughput.fit import fit_oviedo_preset
from estimator.throughput.s1 import rows_for
from estimator.throughput.tps import TpsModel

BASELINE_MODELS = ("DeepSeek-R1", "Llama 3.1 405B", "Llama-3.1 Nemotron Ultra 253B")
"""The models above 200B parameters that the paper pools in equal shares (section 3)."""

TOP_SHARE = 0.9
"""Share of P_max that a node draws at its largest throughput (S.IV)."""

PowerAssumption = Literal["independent", "proportional"] | NodePower


@dataclass(frozen=True)
class ServedModel:
    """A model's throughput on a node, and the power limits of that node."""

    name: str
    tps: TpsModel
    p_max_kw: float
    p_idle_kw: float

    def node_power(self, preset: Preset, assumption: PowerAssumption = "independent") -> NodePower:
        """Return P_node: independent of throughput, rising with it (S.IV), or as measured."""
        if assumption == "independent":
            return IndependentPower(preset.power_share().scaled(self.p_max_kw))
        if assumption == "proportional":
            return ProportionalPower(self.p_idle_kw, TOP_SHARE * self.p_max_kw, largest_tok_per_s(self.tps))
        return assumption

    def energies(
        self, lengths: LengthDistribution, node_power: NodePower, pue: LogNormal, gain: LogNormal = NO_GAIN
    ) -> QueryEnergies:
        """Return the energies of this model's queries (Eq. 1)."""
        return query_energies(lengths=lengths, tps=self.tps, node_power=node_power, pue=pue, gain=gain)


def largest_tok_per_s(tps: TpsModel) -> float:
    """Return the largest throughput: the cap, or without one the prediction's largest over the fitted range."""
    if tps.cap_tok_per_s is not None:
        return tps.cap_tok_per_s
    inputs, outputs = (np.geomspace(*limits, num=100) for limits in (tps.input_range_tok, tps.output_range_tok))
    return float(tps.predict_tok_per_s(inputs[:, None], outputs).max())


def s1_model(name: str, preset: Preset) -> ServedModel:
    """Return a model of Supplemental I on the node of its benchmark, its throughput fitted as the paper does.

    Idle power, stated for 8 GPUs, scales with their number as P_max does. Raises ValueError for an unknown name.

    >>> from estimator.presets import get_preset
    >>> s1_model("DeepSeek-R1", get_preset("corrected")).p_max_kw
    14.1
    """
    tps = fit_oviedo_preset(rows_for(name))
    return ServedModel(name, tps, preset.p_max_for(tps.gpus), preset.p_idle_kw.value * tps.gpus / 8)


def model_on_node(name: str, tps: TpsModel, profile: NodeProfile) -> ServedModel:
    """Return a throughput model on its share of a profiled node; raises ValueError if it has too few GPUs."""
    share = profile.share(tps.gpus)
    return ServedModel(name, tps, profile.p_max_share_kw(share), share * profile.p_idle_kw)


def sample_pool(energies: Sequence[Energies], n_each: int, *, seed: int, workers: int, trimmed: bool) -> LogHistogram:
    """Draw ``n_each`` energies of every model and pool them in equal shares.

    ``trimmed`` takes of each model the samples between P5 and P95, and of those the ones between P10 and P90,
    as the published pooled quantiles were taken; it narrows their spread and hardly moves the median.
    """
    samples = [sample(each, n_each, seed=seed, stream=i, workers=workers) for i, each in enumerate(energies)]
    return pooled([trimmed_twice(each) for each in samples] if trimmed else samples)


def trimmed_twice(samples: LogHistogram) -> LogHistogram:
    """Return the samples between P5 and P95, and of those the ones between P10 and P90."""
    return samples.trimmed(0.05, 0.95).trimmed(0.10, 0.90)
