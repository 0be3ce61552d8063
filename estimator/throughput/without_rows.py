"""Throughput models of models without any row: the level from the size of their weights, the shape of the others."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from estimator.throughput import shapes
from estimator.throughput.pooling import Population, fit_pooled, group_by_model, population
from estimator.throughput.s1 import load_s1, s1_models
from estimator.throughput.tps import TpsModel

FloatArray = npt.NDArray[np.float64]


def population_model(weight_gb: float, gpus: int) -> TpsModel:
    """Return a throughput model of a model without any row, from the size of its weights in GB alone.

    The log TPS per GPU at the population's middle lengths is a straight line in the log of the weights, over the
    five models of Supplemental I (H100 or H200 nodes, TensorRT-LLM, FP8: one byte a parameter); its error is the
    scatter about that line, Student-t with 3 degrees of freedom. The shape is the population's. TPS is taken as
    proportional to GPUs. All parameters count, not the activated ones alone: they take the memory that a batch needs,
    and predict the left-out model of the five better. This is an extrapolation, and its interval spans an order of
    magnitude. With any one of the five left out, the interval from the other four holds it, twice barely; five of five
    says no more than that the coverage is above 0.47 (one-sided 97.5%). Raises ValueError for a size or GPU count that
    is not positive.

    >>> low, high = population_model(70, gpus=8).interval_tok_per_s(500, 2000)
    >>> bool(5 < high / low < 50)
    True
    """
    if not (0 < weight_gb < np.inf and gpus >= 1):
        raise ValueError(f"need a positive size and GPU count, not {weight_gb} GB on {gpus} GPU(s)")
    common, reference, size, level = _levels_per_gpu()
    design = np.column_stack([np.ones_like(size), size])
    (intercept, slope), squares, *_ = np.linalg.lstsq(design, level, rcond=None)
    dof, x = size.size - 2, np.log(weight_gb)
    spread = float(np.sum((size - size.mean()) ** 2))
    level_variance = float(squares[0]) / dof * (1 + 1 / size.size + (x - size.mean()) ** 2 / spread)
    theta = np.concatenate([[0.0], common.shape_mean])
    at_reference = shapes.gradient(common.form, theta, reference)[0]
    theta[0] = intercept + slope * x + np.log(gpus) - shapes.log_tps(common.form, theta, reference)[0]
    to_theta = np.eye(theta.size)
    to_theta[0, 1:] = -at_reference[1:]
    cov = to_theta @ np.diag([level_variance, *common.shape_sd**2]) @ to_theta.T
    notes = (
        f"no row of this model: extrapolated from {size.size} models of Supplemental I (one generation of hardware, "
        f"one engine, FP8) by {weight_gb:g} GB of weights and {gpus} GPU(s)",
        f"TPS per GPU goes as the weights to the power {slope:.2f}, with a scatter of "
        f"{float(np.sqrt(squares[0] / dof)):.2f} in log TPS over models and {dof} degrees of freedom",
    )
    name = f"population at {weight_gb:g} GB of weights"
    n_rows = len(load_s1())
    return common.tps_model(
        name, theta, cov, common.residual_sd_log, dof, n_rows, gpus, common.lengths, "Supplemental I", notes
    )


@cache
def _levels_per_gpu() -> tuple[Population, FloatArray, FloatArray, FloatArray]:
    """Return the population of S.I, its middle lengths, and each model's log size and log TPS per GPU there."""
    groups = group_by_model(load_s1())
    one_engine = group_by_model(row for row in load_s1() if "tensorRT" in row.source)
    common = population(one_engine.values(), "roofline")
    reference = np.exp(np.log(common.lengths).mean(axis=0))[None, :]
    size, level = [], []
    for known in s1_models():
        many = known.model in common.models
        own = one_engine[known.model] if many else groups[known.model]
        prior = population([rows for rows in one_engine.values() if rows[0].model != known.model], "roofline")
        model = fit_pooled(own, prior)
        size.append(np.log(known.total_params_billions))
        level.append(float(np.log(model.predict_tok_per_s(*reference[0]))) - np.log(model.gpus))
    return common, reference, np.array(size), np.array(level)
