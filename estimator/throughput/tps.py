"""Throughput models: output tokens per second of a saturated node as a function of the two lengths.

A model is one of the named forms of ``estimator.throughput.forms`` with its coefficients, their errors and its range of
validity, and lives in a versioned JSON file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt, TypeAdapter
from pydantic.dataclasses import dataclass
from scipy.special import stdtrit

from estimator.lengths import LengthDistribution
from estimator.problems import problems
from estimator.throughput.forms import FORMS, Form, FormName

FloatArray = npt.NDArray[np.float64]

SCHEMA: Literal["inference-energy/tps-model/2"] = "inference-energy/tps-model/2"


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class TpsModel:
    """A fitted throughput model of one server: a form with its coefficients, capped where a cap is set."""

    model: str
    form: FormName
    coef: tuple[float, ...]
    """In the order of the form's ``coefficient_names``."""
    cov: tuple[tuple[float, ...], ...] | None
    """Covariance of the coefficients; None where the fit leaves no degrees of freedom to estimate it."""
    residual_sd_log: NonNegativeFloat | None
    dof: NonNegativeFloat
    """Degrees of freedom of the errors: rows less coefficients, or the effective number where models are pooled."""
    cap_tok_per_s: PositiveFloat | None
    n_rows: PositiveInt
    gpus: PositiveInt
    input_range_tok: tuple[PositiveInt, PositiveInt]
    output_range_tok: tuple[PositiveInt, PositiveInt]
    source: str
    notes: tuple[str, ...] = ()
    schema: Literal["inference-energy/tps-model/2"] = field(default=SCHEMA)

    def __post_init__(self) -> None:
        """Reject a wrong number of coefficients, and errors without the degrees of freedom behind them."""
        names = self._form.coefficient_names
        if len(self.coef) != len(names):
            raise ValueError(f"coef of {self.form} must hold {len(names)} numbers ({', '.join(names)})")
        if self.cov is not None and [len(row) for row in self.cov] != [len(names)] * len(names):
            raise ValueError(f"cov of {self.form} must be {len(names)} rows of {len(names)} numbers")
        if not ((self.cov is None) == (self.residual_sd_log is None) == (self.dof == 0)):
            raise ValueError("cov and residual_sd_log must both be given with dof > 0, or neither with dof = 0")
        for key, (low, high) in (
            ("input_range_tok", self.input_range_tok),
            ("output_range_tok", self.output_range_tok),
        ):
            if low > high:
                raise ValueError(f"{key} falls from {low} to {high}")
        if self.form == "roofline" and not (min(self.coef) >= 0 and max(self.coef) > 0):
            raise ValueError("coef of roofline must be costs of at least 0, and not all 0")

    def noting(self, notes: Sequence[str]) -> TpsModel:
        """Return the model with more notes."""
        return replace(self, notes=(*self.notes, *notes))

    @property
    def _form(self) -> Form:
        return FORMS[self.form]

    def predict_tok_per_s(self, input_tok: npt.ArrayLike, output_tok: npt.ArrayLike) -> FloatArray:
        """Return the node's output TPS at the given lengths, in their broadcast shape.

        Raises ValueError for a length below 1 token.
        """
        tps = np.exp(self._form.log_tps(np.array(self.coef), *_lengths(input_tok, output_tok)))
        return np.asarray(tps if self.cap_tok_per_s is None else np.minimum(tps, self.cap_tok_per_s))

    def predictive_sd_log(self, input_tok: npt.ArrayLike, output_tok: npt.ArrayLike) -> FloatArray:
        """Return the standard deviation of log TPS of a new measurement at the given lengths.

        Residual and coefficient variance add, the latter to first order (delta method); a cap is ignored, so
        that it never makes a prediction look better known. The result, in the lengths' broadcast shape, is
        NaN where the error is unknown: without degrees of freedom, or off the single length at which all rows
        were taken.
        """
        sd = self._sd_log(self._gradient(input_tok, output_tok))
        known = np.ones(sd.shape, dtype=bool)
        for length_tok, (low, high) in (
            (input_tok, self.input_range_tok),
            (output_tok, self.output_range_tok),
        ):
            if low == high:
                known &= np.asarray(length_tok) == low
        return np.where(known, sd, np.nan)

    def interval_tok_per_s(
        self, input_tok: npt.ArrayLike, output_tok: npt.ArrayLike, level: float = 0.9
    ) -> tuple[FloatArray, FloatArray]:
        """Return the bounds of the central prediction interval of TPS for a new measurement, tok/s.

        Student-t in log TPS with ``dof`` degrees of freedom, in the lengths' broadcast shape; NaN where the
        error is unknown (see ``predictive_sd_log``). Raises ValueError unless 0 < level < 1.

        >>> from estimator.throughput.fit import fit_tps
        >>> from estimator.throughput.s1 import rows_for
        >>> low, high = fit_tps(rows_for("Mixtral 8x22B"), "roofline", cap=False).interval_tok_per_s(500, 2000)
        >>> bool(low < 21421.86 < high)
        True
        """
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, not {level}")
        tps = self.predict_tok_per_s(input_tok, output_tok)
        if self.dof == 0:
            return np.full(tps.shape, np.nan), np.full(tps.shape, np.nan)
        half_width = float(stdtrit(self.dof, (1 + level) / 2)) * self.predictive_sd_log(input_tok, output_tok)
        return np.asarray(tps * np.exp(-half_width)), np.asarray(tps * np.exp(half_width))

    def _gradient(self, input_tok: npt.ArrayLike, output_tok: npt.ArrayLike) -> FloatArray:
        return self._form.gradient(np.array(self.coef), *_lengths(input_tok, output_tok))

    def _sd_log(self, gradient: FloatArray) -> FloatArray:
        if self.residual_sd_log is None or self.cov is None:
            return np.full(gradient.shape[:-1], np.nan)
        coefficient_variance = np.einsum("...i,ij,...j->...", gradient, np.array(self.cov), gradient)
        return np.asarray(np.sqrt(self.residual_sd_log**2 + np.maximum(0.0, coefficient_variance)))

    def is_extrapolated(self, input_tok: npt.ArrayLike, output_tok: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Return whether either length lies outside the range of validity, in the lengths' broadcast shape."""
        inputs, outputs = np.broadcast_arrays(np.asarray(input_tok), np.asarray(output_tok))
        outside = (inputs < self.input_range_tok[0]) | (inputs > self.input_range_tok[1])
        outside |= (outputs < self.output_range_tok[0]) | (outputs > self.output_range_tok[1])
        return np.asarray(outside)

    def extrapolated_share(self, lengths: LengthDistribution) -> float:
        """Return the share of queries whose input or output length lies outside the range of validity."""
        return float(lengths.weight[self.is_extrapolated(lengths.input_tok, lengths.output_tok)].sum())

    def mixed_tps_tok_per_s(self, lengths: LengthDistribution) -> float:
        """Return the TPS of a node that serves the whole mix: E[L_out] / E[L_out / TPS(L_in, L_out)]."""
        return lengths.mean_output_tok / float(lengths.weight @ self._node_s(lengths))

    def mixed_sd_log(self, lengths: LengthDistribution) -> float:
        """Return the standard deviation of the log of the mixed TPS, or NaN where any length's is unknown.

        First-order propagation: a coefficient moves the log of the mean node time by its derivative averaged
        over the lengths' shares of node time, and one residual is common to all lengths.
        """
        if np.isnan(self.predictive_sd_log(lengths.input_tok, lengths.output_tok)[lengths.weight > 0]).any():
            return float("nan")
        node_s = lengths.weight * self._node_s(lengths)
        gradient = self._gradient(lengths.input_tok, lengths.output_tok)
        return float(self._sd_log(node_s @ gradient / node_s.sum()))

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
                "it is another kind of file or was written by another version: write it anew with harness refit"
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
            raise ValueError(f"{path}: {problems(error)}") from error


def _lengths(input_tok: npt.ArrayLike, output_tok: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    inputs, outputs = np.broadcast_arrays(np.asarray(input_tok, np.float64), np.asarray(output_tok, np.float64))
    if not (np.all(inputs >= 1) and np.all(outputs >= 1)):
        raise ValueError("lengths must be at least 1 token")
    return inputs, outputs
