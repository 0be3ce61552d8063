"""Named sets of the paper's parameters, each with where its value comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Literal

from estimator.distributions import LogNormal
from estimator.lengths import LengthDistribution, exponential_lengths
from estimator.names import unknown_name_error

Provenance = Literal["stated", "read", "inferred"]
Regime = Literal["traditional", "test-time"]


@dataclass(frozen=True)
class Parameter:
    """A value and its provenance: stated in the paper, read in its authors' scripts, or inferred to match."""

    value: float
    unit: str
    provenance: Provenance
    source: str


@dataclass(frozen=True)
class Preset:
    """The parameters of one version of the paper's Monte Carlo."""

    name: str
    power_share_p5: Parameter
    power_share_p95: Parameter
    pue_p5: Parameter
    pue_p95: Parameter
    input_tok: Parameter
    median_output_tok: Mapping[Regime, Parameter]
    p_max_kw: Mapping[int, Parameter]
    """Maximum power of a node by its number of GPUs."""
    p_idle_kw: Parameter
    trimmed: Parameter
    """Whether samples are trimmed before their quantiles are taken: 1 yes, 0 no."""

    def parameters(self) -> dict[str, Parameter]:
        """Return every parameter by its name, those of a mapping by ``name.key``.

        >>> get_preset("oviedo2025-v1").parameters()["pue_p95"].provenance
        'inferred'
        >>> get_preset("corrected").parameters()["median_output_tok.test-time"].value
        5000
        """
        named: dict[str, Parameter] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Parameter):
                named[field.name] = value
            elif isinstance(value, Mapping):
                named |= {f"{field.name}.{key}": each for key, each in value.items()}
        return named

    def p_max_for(self, gpus: int) -> float:
        """Return P_max in kW of a node of ``gpus``; raises ValueError where the paper states none."""
        if gpus not in self.p_max_kw:
            known = ", ".join(map(str, sorted(self.p_max_kw)))
            raise ValueError(f"preset {self.name} gives P_max for nodes of {known} GPUs, not {gpus}")
        return self.p_max_kw[gpus].value

    def power_share(self) -> LogNormal:
        """Return the distribution of P_node as a share of P_max."""
        return LogNormal(self.power_share_p5.value, self.power_share_p95.value)

    def pue(self) -> LogNormal:
        """Return the distribution of PUE."""
        return LogNormal(self.pue_p5.value, self.pue_p95.value)

    def lengths(self, regime: Regime, multiplier: float = 1.0) -> LengthDistribution:
        """Return the lengths of a regime: exponential outputs, multiplied, at the fixed input length."""
        return exponential_lengths(multiplier * self.median_output_tok[regime].value, int(self.input_tok.value))


def _stated(value: float, unit: str, where: str) -> Parameter:
    return Parameter(value, unit, "stated", where)


_V2 = Preset(
    name="oviedo2026-v2",
    power_share_p5=_stated(0.4, "P_max", "section 2; its centre of 0.7 cannot hold beside P5 and P95, 0.60 results"),
    power_share_p95=_stated(0.9, "P_max", "section 2"),
    pue_p5=_stated(1.05, "1", "section 2"),
    pue_p95=_stated(1.40, "1", "section 2"),
    input_tok=_stated(500, "tok", "section 2"),
    median_output_tok=MappingProxyType(
        {"traditional": _stated(300, "tok", "section 2"), "test-time": _stated(5000, "tok", "section 2")}
    ),
    p_max_kw=MappingProxyType(
        {
            8: _stated(11.3, "kW", "section 2, 8xH100"),
            10: _stated(14.1, "kW", "section 2, 10xH100 for DeepSeek-R1"),
        }
    ),
    p_idle_kw=_stated(2.7, "kW", "S.IV and S.V, 8xH100"),
    trimmed=Parameter(
        1,
        "flag",
        "read",
        "microsoft/aienergy_simulation: per model P5-P95, then P10-P90 of the rest, then pooled",
    ),
)

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            replace(
                _V2,
                name="oviedo2025-v1",
                pue_p95=Parameter(
                    1.60,
                    "1",
                    "inferred",
                    "the stated 1.40 gives the second version's figures, 1.60 the first's",
                ),
            ),
            _V2,
            replace(
                _V2,
                name="corrected",
                trimmed=_stated(0, "flag", "section 2 describes quantiles of all samples, without trimming"),
            ),
        )
    }
)


def get_preset(name: str) -> Preset:
    """Return the preset called ``name``; raises ValueError naming the nearest name.

    >>> get_preset("oviedo2026-v2").pue_p95.value
    1.4
    """
    if name not in PRESETS:
        raise unknown_name_error("preset", name, PRESETS)
    return PRESETS[name]
