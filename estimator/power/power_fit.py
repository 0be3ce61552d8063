"""Node power as measured beside throughput: a straight line through (TPS, watts) pairs, in a versioned JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, TypeAdapter
from pydantic.dataclasses import dataclass

from estimator.problems import problems
from estimator.throughput.forms import InsufficientRowsError

FloatArray = npt.NDArray[np.float64]

SCHEMA: Literal["inference-energy/power-model/1"] = "inference-energy/power-model/1"


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class PowerFit:
    """P_node [kW] = p0_kw + p1_kw_s_per_tok * TPS [tok/s], without PUE."""

    model: str
    p0_kw: float
    p1_kw_s_per_tok: float
    cov: tuple[tuple[float, float], tuple[float, float]] | None
    """Covariance of (p0, p1); None where two pairs leave no degrees of freedom."""
    residual_sd_kw: NonNegativeFloat | None
    dof: NonNegativeInt
    n_pairs: PositiveInt
    gpus: PositiveInt
    boundary: str
    tps_range_tok_per_s: tuple[PositiveFloat, PositiveFloat]
    power_range_kw: tuple[PositiveFloat, PositiveFloat]
    source: str
    notes: tuple[str, ...] = ()
    schema: Literal["inference-energy/power-model/1"] = field(default=SCHEMA)

    def __post_init__(self) -> None:
        """Reject errors without the degrees of freedom behind them, and the reverse."""
        if not ((self.cov is None) == (self.residual_sd_kw is None) == (self.dof == 0)):
            raise ValueError("cov and residual_sd_kw must both be given with dof > 0, or neither with dof = 0")
        for key, (low, high) in (
            ("tps_range_tok_per_s", self.tps_range_tok_per_s),
            ("power_range_kw", self.power_range_kw),
        ):
            if low > high:
                raise ValueError(f"{key} falls from {low:g} to {high:g}")

    def predict_kw(self, tps_tok_per_s: npt.ArrayLike) -> FloatArray:
        """Return node power in kW at the given TPS, in its shape; outside ``tps_range_tok_per_s`` it extrapolates.

        Raises ValueError where the line leaves the positive: no node draws such power.
        """
        power_kw = self.p0_kw + self.p1_kw_s_per_tok * np.asarray(tps_tok_per_s, dtype=np.float64)
        if not np.all(power_kw > 0):
            raise ValueError(
                "the power model gives no positive power at some of these TPS: they are far outside its range"
            )
        return np.asarray(power_kw)

    def to_json(self) -> str:
        """Return the model as JSON text; ``from_json`` gives back an equal model."""
        return TypeAdapter(PowerFit).dump_json(self, indent=2).decode()

    @staticmethod
    def from_json(text: str) -> PowerFit:
        """Return the model that ``to_json`` wrote; raises ValueError on another schema or unknown keys."""
        document = json.loads(text)
        schema = document.get("schema") if isinstance(document, dict) else None
        if schema != SCHEMA:
            raise ValueError(f'a power model file must say "schema": "{SCHEMA}", this one says {schema!r}')
        return TypeAdapter(PowerFit).validate_json(text)

    def save(self, path: Path) -> None:
        """Write the model to a JSON file."""
        path.write_text(self.to_json() + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> PowerFit:
        """Read a model from a JSON file; raises ValueError naming the file where the content is wrong."""
        try:
            return PowerFit.from_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: {problems(error)}") from error


def fit_power(
    tps_tok_per_s: Sequence[float],
    power_kw: Sequence[float],
    *,
    model: str,
    gpus: int,
    boundary: str,
    source: str,
    notes: tuple[str, ...] = (),
) -> PowerFit:
    """Return the least-squares line through pairs of TPS in tok/s and node power in kW, both of shape ``(n,)``.

    Raises InsufficientRowsError for fewer than two different TPS, and ValueError for values that are not positive.

    >>> about = dict(model="m", gpus=8, boundary="node_modelled", source="made up")
    >>> fit = fit_power([1000, 2000, 3000], [4.0, 4.6, 5.2], **about)
    >>> round(fit.p0_kw, 9), round(fit.p1_kw_s_per_tok, 9), fit.dof
    (3.4, 0.0006, 1)
    """
    tps, kilowatts = np.asarray(tps_tok_per_s, dtype=np.float64), np.asarray(power_kw, dtype=np.float64)
    for name, values in (("tps_tok_per_s", tps), ("power_kw", kilowatts)):
        if not np.all((values > 0) & np.isfinite(values)):
            raise ValueError(f"{name} must be positive and finite everywhere")
    if np.unique(tps).size < 2:
        raise InsufficientRowsError(
            f"a power model needs pairs at two or more different TPS, got {np.unique(tps).size}"
        )
    centre = float(tps.mean())
    spread = float(np.sum((tps - centre) ** 2))
    slope = float(np.sum((tps - centre) * kilowatts)) / spread
    intercept = float(kilowatts.mean()) - slope * centre
    n, dof = tps.size, tps.size - 2
    cov, sd = None, None
    if dof:
        variance = float(np.sum((kilowatts - intercept - slope * tps) ** 2)) / dof
        cross = -variance * centre / spread
        cov, sd = (
            ((variance * (1 / n + centre**2 / spread), cross), (cross, variance / spread)),
            float(np.sqrt(variance)),
        )
    unknown = (
        ()
        if dof
        else ("the line passes through both pairs: its error is unknown, and left out of what is predicted with it",)
    )
    return PowerFit(
        model=model, p0_kw=intercept, p1_kw_s_per_tok=slope, cov=cov, residual_sd_kw=sd, dof=dof, n_pairs=n, gpus=gpus,
        boundary=boundary, tps_range_tok_per_s=(float(tps.min()), float(tps.max())),
        power_range_kw=(float(kilowatts.min()), float(kilowatts.max())), source=source, notes=(*notes, *unknown),
    )  # fmt: skip
