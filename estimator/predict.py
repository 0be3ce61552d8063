"""Predict the mean energy of a workload's queries, with the uncertainty of that mean.

A measurement averages over the workload's lengths, so it is set against the distribution of the mean, which
is uncertain in node power, PUE and throughput. The much wider spread over single queries is context only.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from estimator.distributions import LogNormal
from estimator.eq1 import Eq1Terms, energy_per_query_wh
from estimator.lengths import LengthDistribution
from estimator.power.node_power import IndependentPower
from estimator.queries.energies import query_energies
from estimator.queries.montecarlo import sample
from estimator.throughput.tps import TpsModel

FloatArray = npt.NDArray[np.float64]

_LEAST_SHARE = 1e-3
"""Of mean node power: a negative constant can outweigh the lowest draws, and energy is never negative."""


@dataclass(frozen=True)
class PredictionInputs:
    """What a prediction is made from; ``pue`` is a distribution, or one measured value taken as exact.

    ``constant_power_kw`` is power that does not follow the load, such as that of idle GPUs: it is added to
    ``node_power_kw``, or taken off where it is negative.
    """

    node_power_kw: LogNormal
    pue: LogNormal | float
    lengths: LengthDistribution
    tps: TpsModel
    seed: int
    n_samples: int = 100_000
    constant_power_kw: float = 0.0


@dataclass(frozen=True)
class QueryQuantiles:
    """Spread of the energy over single queries in Wh: context, never an interval of the mean."""

    p5_wh: float
    p25_wh: float
    p50_wh: float
    p75_wh: float
    p95_wh: float
    mean_wh: float


@dataclass(frozen=True)
class MeanPrediction:
    """Predicted mean Wh/query of a workload, what it was computed from, and what its interval leaves out."""

    mean_wh: float
    """Mean over lengths, node power and PUE at the central TPS prediction: Eq. 1 of ``reference``."""
    p5_wh: float
    p50_wh: float
    p95_wh: float
    reference: Eq1Terms
    """Mean PUE, mean node power, mean output length and the workload's mixed TPS."""
    per_query: QueryQuantiles
    node_power_kw: LogNormal
    """Without ``constant_power_kw``."""
    constant_power_kw: float
    pue: LogNormal
    mean_input_tok: float
    median_output_tok: float
    tps: TpsModel
    tps_sd_log: float | None
    """Standard deviation of the log of the mixed TPS; None where unknown, and then ``notes`` says why."""
    extrapolated_share: float
    """Share of queries with a length outside the throughput model's fitted range."""
    seed: int
    n_samples: int
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction as nested dicts of plain numbers, texts and tuples, ready for JSON."""
        return asdict(self)


def predict_mean(inputs: PredictionInputs) -> MeanPrediction:
    """Return the predicted distribution of the mean Wh/query over the workload's lengths.

    The quantiles of the mean come from ``n_samples`` draws of node power, PUE and one error of TPS common to
    all lengths, Student-t with the fit's degrees of freedom. Deterministic in ``seed``. Raises ValueError where mean
    node power is not positive.
    """
    pue = LogNormal.constant(inputs.pue) if isinstance(inputs.pue, (int, float)) else inputs.pue
    tps_sd_log = inputs.tps.mixed_sd_log(inputs.lengths)
    reference = Eq1Terms(
        pue=pue.mean,
        node_power_kw=inputs.node_power_kw.mean + inputs.constant_power_kw,
        output_tok=inputs.lengths.mean_output_tok,
        tps_tok_per_s=inputs.tps.mixed_tps_tok_per_s(inputs.lengths),
    )
    of_mean = np.random.default_rng(np.random.SeedSequence(inputs.seed, spawn_key=(0, 0)))
    p5_wh, p50_wh, p95_wh = np.quantile(
        _sample_mean_wh(of_mean, inputs, pue, reference, tps_sd_log), [0.05, 0.50, 0.95]
    ).tolist()
    extrapolated_share = inputs.tps.extrapolated_share(inputs.lengths)
    return MeanPrediction(
        mean_wh=reference.energy_wh,
        p5_wh=p5_wh,
        p50_wh=p50_wh,
        p95_wh=p95_wh,
        reference=reference,
        per_query=_per_query(inputs, pue),
        node_power_kw=inputs.node_power_kw,
        constant_power_kw=inputs.constant_power_kw,
        pue=pue,
        mean_input_tok=inputs.lengths.mean_input_tok,
        median_output_tok=inputs.lengths.median_output_tok,
        tps=inputs.tps,
        tps_sd_log=None if math.isnan(tps_sd_log) else tps_sd_log,
        extrapolated_share=extrapolated_share,
        seed=inputs.seed,
        n_samples=inputs.n_samples,
        notes=_notes(inputs.tps, tps_sd_log, extrapolated_share),
    )


def _sample_mean_wh(
    rng: np.random.Generator, inputs: PredictionInputs, pue: LogNormal, reference: Eq1Terms, tps_sd_log: float
) -> FloatArray:
    n = inputs.n_samples
    tps_factor: npt.ArrayLike = 1.0
    if not math.isnan(tps_sd_log):
        # Few degrees of freedom make tails that overflow; the clip lies far outside P5 to P95.
        tps_factor = np.exp(np.clip(tps_sd_log * rng.standard_t(inputs.tps.dof, n), -100, 100))
    sampled_pue = pue.sample(rng, n)
    node_power_kw = inputs.node_power_kw.sample(rng, n) + inputs.constant_power_kw
    return energy_per_query_wh(
        pue=sampled_pue,
        node_power_kw=np.maximum(node_power_kw, _LEAST_SHARE * reference.node_power_kw),
        output_tok=reference.output_tok,
        tps_tok_per_s=reference.tps_tok_per_s * np.asarray(tps_factor),
    )


def _per_query(inputs: PredictionInputs, pue: LogNormal) -> QueryQuantiles:
    power = IndependentPower(inputs.node_power_kw.plus(inputs.constant_power_kw))
    energies = query_energies(lengths=inputs.lengths, tps=inputs.tps, node_power=power, pue=pue)
    drawn = sample(energies, inputs.n_samples, seed=inputs.seed, stream=1)
    p5_wh, p25_wh, p50_wh, p75_wh, p95_wh = (drawn.quantile_wh(q) for q in (0.05, 0.25, 0.50, 0.75, 0.95))
    return QueryQuantiles(p5_wh, p25_wh, p50_wh, p75_wh, p95_wh, energies.mean_wh)


def _notes(tps: TpsModel, tps_sd_log: float, extrapolated_share: float) -> tuple[str, ...]:
    notes = list(tps.notes)
    if math.isnan(tps_sd_log):
        reason = "its fit has no degrees of freedom" if tps.dof == 0 else "its rows do not cover these lengths"
        notes.append(
            f"the interval leaves out the error of the throughput model, which is unknown because {reason}: "
            "the true interval is wider"
        )
    if extrapolated_share > 0:
        notes.append(f"extrapolated: {extrapolated_share:.1%} of queries have a length outside the fitted range")
    return tuple(notes)
