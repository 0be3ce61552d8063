"""Throughput models: output tokens per second of a saturated node as a function of the two lengths.

A model is a log-linear formula with its errors and its range of validity, and lives in a versioned JSON file.
"""

from __future__ import annotations

import json
from dataclasses import field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, TypeAdapter
from pydantic.dataclasses import dataclass

from estimator.lengths import LengthDistribution

FloatArray = npt.NDArray[np.float64]

Form = Literal["oviedo", "total_length", "constant"]
Triple = tuple[float, float, float]

SCHEMA: Literal["tps-model/1"] = "tps-model/1"


def regressors(form: Form, input_tok: npt.ArrayLike, output_tok: npt.ArrayLike) -> FloatArray:
    """Return what the coefficients of ``form`` multiply, shape ``(..., 3)`` for lengths of shape ``(...)``.

    ======================  ==================================================
    ``oviedo`` (S.II)       1, log L_in, log L_out
    ``total_length``        1, log(L_in + L_out), log L_out
    ``constant``            1, 0, 0
    ======================  ==================================================
    """
    inputs, outputs = np.broadcast_arrays(np.asarray(input_tok, np.float64), np.asarray(output_tok, np.float64))
    if not (np.all(inputs >= 1) and np.all(outputs >= 1)):
        raise ValueError("lengths must be at least 1 token")
    one = np.ones_like(inputs)
    if form == "constant":
        return np.stack([one, 0 * one, 0 * one], axis=-1)
    first = inputs if form == "oviedo" else inputs + outputs
    return np.stack([one, np.log(first), np.log(outputs)], axis=-1)


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class TpsModel:
    """A fitted throughput model of one server: ``log TPS = coef @ regressors``, capped where a cap is set."""

    model: str
    form: Form
    coef: Triple
    cov: tuple[Triple, Triple, Triple] | None
    """Covariance of the coefficients; None where the fit leaves no degrees of freedom to estimate it."""
    residual_sd_log: NonNegativeFloat | None
    dof: NonNegativeInt
    cap_tok_per_s: PositiveFloat | None
    n_rows: PositiveInt
    gpus: PositiveInt
    input_range_tok: tuple[PositiveInt, PositiveInt]
    output_range_tok: tuple[PositiveInt, PositiveInt]
    source: str
    notes: tuple[str, ...] = ()
    schema: Literal["tps-model/1"] = field(default=SCHEMA)

    def __post_init__(self) -> None:
        """Reject errors without the degrees of freedom behind them, and the reverse."""
        if not ((self.cov is None) == (self.residual_sd_log is None) == (self.dof == 0)):
            raise ValueError("cov and residual_sd_log must both be given with dof > 0, or neither with dof = 0")

    def predict_tok_per_s(self, input_tok: npt.ArrayLike, output_tok: npt.ArrayLike) -> FloatArray:
        """Return the node's output TPS at the given lengths, in their broadcast shape."""
        tps = np.exp(regressors(self.form, input_tok, output_tok) @ np.array(self.coef))
        return np.asarray(tps if self.cap_tok_per_s is None else np.minimum(tps, self.cap_tok_per_s))

    def predictive_sd_log(self, input_tok: npt.ArrayLike, output_tok: npt.ArrayLike) -> FloatArray:
        """Return the standard deviation of log TPS of a new measurement at the given lengths.

        Residual and coefficient variance add; a cap is ignored, so that it never makes a prediction look
        better known. The result, in the lengths' broadcast shape, is NaN where the error is unknown: without
        degrees of freedom, or off the single length at which all rows were taken.
        """
        x = regressors(self.form, input_tok, output_tok)
        sd = self._sd_log(x)
        known = np.ones(sd.shape, dtype=bool)
        for length_tok, (low, high) in (
            (input_tok, self.input_range_tok),
            (output_tok, self.output_range_tok),
        ):
            if low == high:
                known &= np.asarray(length_tok) == low
        return np.where(known, sd, np.nan)

    def _sd_log(self, x: FloatArray) -> FloatArray:
        if self.residual_sd_log is None or self.cov is None:
            return np.full(x.shape[:-1], np.nan)
        coefficient_variance = np.einsum("...i,ij,...j->...", x, np.array(self.cov), x)
        return np.asarray(np.sqrt(self.residual_sd_log**2 + coefficient_variance))

    def extrapolated_share(self, lengths: LengthDistribution) -> float:
        """Return the share of queries whose input or output length lies outside the fitted range."""
        outside = np.zeros(lengths.weight.shape, dtype=bool)
        for length_tok, (low, high) in (
            (lengths.input_tok, self.input_range_tok),
            (lengths.output_tok, self.output_range_tok),
        ):
            outside |= (length_tok < low) | (length_tok > high)
        return float(lengths.weight[outside].sum())

    def mixed_tps_tok_per_s(self, lengths: LengthDistribution) -> float:
        """Return the TPS of a node that serves the whole mix: E[L_out] / E[L_out / TPS(L_in, L_out)]."""
        return lengths.mean_output_tok / float(lengths.weight @ self._node_s(lengths))

    def mixed_sd_log(self, lengths: LengthDistribution) -> float:
        """Return the standard deviation of the log of the mixed TPS, or NaN where any length's is unknown.

        First-order propagation: a coefficient moves the log of the mean node time by its regressor averaged
        over the lengths' shares of node time, and one residual is common to all lengths.
        """
        if np.isnan(self.predictive_sd_log(lengths.input_tok, lengths.output_tok)[lengths.weight > 0]).any():
            return float("nan")
        node_s = lengths.weight * self._node_s(lengths)
        x = regressors(self.form, lengths.input_tok, lengths.output_tok)
        return float(self._sd_log(node_s @ x / node_s.sum()))

    def _node_s(self, lengths: LengthDistribution) -> FloatArray:
        return lengths.output_tok / self.predict_tok_per_s(lengths.input_tok, lengths.output_tok)

    def to_json(self) -> str:
        """Return the model as JSON text; ``from_json`` gives back an equal model."""
        return TypeAdapter(TpsModel).dump_json(self, indent=2).decode()

    @staticmethod
    def from_json(text: str) -> TpsModel:
        """Return the model that ``to_json`` wrote; raises ValueError on another schema or unknown keys."""
        document = json.loads(text)
        schema = document.get("schema") if isinstance(document, dict) else None
        if schema != SCHEMA:
            raise ValueError(
                f'a throughput model file must say "schema": "{SCHEMA}", this one says {schema!r}; '
                "it is another kind of file or was written by another version"
            )
        return TypeAdapter(TpsModel).validate_json(text)

    def save(self, path: Path) -> None:
        """Write the model to a JSON file."""
        path.write_text(self.to_json() + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> TpsModel:
        """Read a model from a JSON file; raises ValueError naming the file where the content is wrong."""
        try:
            return TpsModel.from_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
