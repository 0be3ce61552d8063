"""The numeric claims of the paper and of a brief about it, as data: what was published, where, at which boundary.

``data/claims.yaml`` holds them; nothing here computes anything. A claim's ``quantity`` names what to set beside it,
in one of the forms of ``QUANTITY_FORMS``; ``parse_quantity`` takes such a name apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Literal

import yaml
from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from estimator.presets import get_preset
from estimator.throughput.s1 import load_s1

Kind = Literal["computed", "reference", "input", "benchmark", "external"]
"""Computed by the estimator; published by others; a parameter; a property of S.I; from literature, never computed."""

Boundary = Literal[
    "node x PUE",
    "node x PUE x beta",
    "node",
    "GPU only",
    "full stack",
    "data center",
    "user-side estimate",
    "heuristic from FLOPs",
    "not stated",
    "not an energy",
]
"""What a published figure covers; the last is for lengths, rates, shares and the like."""

Unit = Literal[
    "Wh/query",
    "kWh/problem",
    "kWh/day",
    "GWh/day",
    "TWh/year",
    "kW",
    "MW",
    "P_max",
    "tok",
    "thousand tok",
    "tok/s",
    "queries",
    "billion queries/day",
    "billion parameters",
    "GPUs",
    "models",
    "rows",
    "x",
    "%",
    "1",
]
"""``x`` is a factor between two like quantities, ``P_max`` a share of a node's maximum power, ``1`` dimensionless."""

QUANTITY_FORMS: Mapping[str, str] = MappingProxyType(
    {
        "none": "nothing of ours to set beside the claim",
        # Energy per query, Wh, node x PUE
        "wh.baseline.{regime}.{stat}": "of the pool of three models",
        "wh.baseline.{regime}.{lever}.{stat}": "of the pool, divided by one lever's alpha",
        "wh.model.{model}.{regime}.{stat}": "of one model",
        "share.above.{wh}_wh.{regime}": "% of the pool's queries, untrimmed, that take more than so many Wh",
        # Lengths, tok
        "length.{regime}.{stat}": "output length",
        # Ratios, x
        "ratio.tokens": "median output length, test-time over traditional",
        "ratio.test-time_over_traditional.{stat}": "energy of the pool, quantile over the same quantile",
        "ratio.non_production_over_ours": (
            "lowest and highest of the claims ai-energy-score-70b-fp8, iea-mixtral and iea-deepseek-r1, each over our "
            "traditional median of its model"
        ),
        "ratio.references": "largest over smallest published of the claims of kind reference in Wh/query",
        "ratio.gwh.optimised_over_baseline": "gwh.optimised over gwh.baseline",
        "ratio.gwh.mixed_over_baseline": "gwh.mixed over gwh.baseline",
        # Levers, x
        "alpha.{lever}.p5_p95": "P5 and P95 of alpha",
        "alpha.{lever}.p25_p75": "quartiles of alpha",
        "alpha.{lever}.p50": "median of alpha",
        "reduction.{lever}.{regime}.p50": "median energy of the pool without the lever over that with it",
        "reduction.single": "lowest and highest reduction of hardware, serving and model, over both regimes",
        "reduction.serving_to_model.{regime}.p50": "reduction by serving and reduction by model, as a pair",
        "reduction.combined": "traditional reduction by hardware with model, and by all three levers, as a pair",
        "reduction.all": "traditional reduction by all three levers",
        # Fleets, node x PUE x beta
        "gwh.baseline": "GWh/day of 1 billion traditional queries",
        "gwh.optimised": "gwh.baseline with the line-of-sight alpha",
        "gwh.mixed": "GWh/day of 1 billion queries, 10% of them test-time",
        "gwh.mixed_optimised": "gwh.mixed with the line-of-sight alpha on all queries",
        "twh_year.optimised": "TWh/year of 10 billion queries/day: gwh.optimised x 10 x 365 / 1000",
        "twh_year.baseline": "TWh/year of 10 billion queries/day without gains: gwh.baseline x 10 x 365 / 1000",
        "share.us_data_centers": "% that twh_year.optimised is of outside.us_data_centers_twh_year",
        "outside.us_data_centers_twh_year": "TWh/year of all US data centers in 2023, an input from outside the texts",
        # Supplements: the median of the pool with the change over that without, in % of the latter
        "s3.{regime}.{input_tok}.change": "L_eff = L_in + L_out at that L_in, with the TPS of that L_in",
        "s3.{regime}.input_weight.{percent}": (
            "weight of an input token, an output token's being 1, that changes the median by so many %"
        ),
        "s4.{regime}.change": "P_node linear in TPS from idle to 0.9 P_max, reached at the model's own largest TPS",
        "s4.{regime}.common_top.{model}.change": "the same, reached by every model at the largest TPS of one",
        "s4.{regime}.beside_{share}.change": "s4.{regime}.change beside P_node with that median share of P_max",
        # Beta (S.V)
        "beta.total": "redundancy x load shape x network",
        "beta.load_shape": "kwh.node_sinusoidal / kwh.node_uniform / mean load",
        "beta.redundancy": "factor of the nodes kept in reserve",
        "beta.redundancy_percent": "the same as an addition in %",
        "beta.network": "factor of the InfiniBand network",
        "beta.network_percent": "the same as an addition in %",
        "beta.load_percent": "lowest and highest load in %",
        "beta.load_mean": "mean load as a share",
        "beta.load_mean_percent": "mean load in %",
        "kw.dynamic": "P_max - idle of 8xH100, kW",
        "kwh.node_uniform": "kWh/day of a node at P_max",
        "kwh.node_sinusoidal": "kWh/day of a node under the sinusoidal load",
        # Arithmetic on figures in the text
        "arithmetic.mlenergy_fp8": "Wh/query: 0.931 / 1.7",
        "arithmetic.ai_energy_score_fp8": "Wh/query: 1.72 / 2",
        "arithmetic.p_max_10_kw": "P_max of 8 GPUs x 10 / 8, kW",
        "arithmetic.combined_example": "lowest and highest product of 1.5-2, 3-4 and 2-3",
        "arithmetic.gwh_30_mw": "GWh/day of 30 MW at 80%",
        "arithmetic.gwh_web_search": "GWh/day of 1 billion searches at 0.3 Wh",
        "implied.hyperscaler_twh_year": "TWh/year of which the stated energy would be the stated share",
        "implied.us_data_centers_twh_year": "TWh/year of which the stated energy would be the stated share",
        "implied.television_gwh_day": "GWh/day of which the stated energy would be the stated share",
        "eq1.constant": "P_node x L_eff / TPS / E_query of Eq. 1 with PUE = 1, in kW, tok, tok/s and Wh",
        # The preset's parameters
        "preset.power_share.p50": "median of P_node / P_max",
        "preset.power_share_p5": "P5 of P_node / P_max",
        "preset.power_share_p95": "P95 of P_node / P_max",
        "preset.pue_p5": "P5 of PUE",
        "preset.pue_p95": "P95 of PUE",
        "preset.input_tok": "L_in of the main analysis, tok",
        "preset.median_output_tok.{regime}": "median L_out, tok",
        "preset.p_max_kw.{gpus}": "P_max of a node by its GPUs, kW",
        "preset.p_idle_kw": "idle power of 8xH100, kW",
        "pool.models": "models in the baseline",
        # Settings with which the claims are reproduced
        "settings.samples": "samples drawn",
        "settings.queries": "queries a day, in billions",
        "settings.long_share": "% of test-time queries in the mix",
        "settings.traditional_share": "100 - settings.long_share, %",
        "settings.data_center_mw": "power of the reference data center, MW",
        "settings.data_center_utilization": "its utilization, %",
        "settings.s3_input_tok": "the two further L_in of S.III, tok",
        "settings.s4_top_share": "highest power of S.IV as a share of P_max",
        # The table S.I
        "s1.rows": "rows",
        "s1.rows.{model}": "rows of a model",
        "s1.models": "models",
        "s1.gpus.{model}": "GPUs of a model's rows",
        "s1.tps_min.{model}": "lowest TPS of a model, tok/s",
        "s1.tps_max.{model}": "highest TPS of a model, tok/s",
        "s1.input_tok.{extreme}": "shortest or longest input, tok",
        "s1.output_tok.{extreme}": "shortest or longest output, tok",
        "s1.nemotron_over_deepseek": (
            "lowest and highest TPS of Llama-3.1 Nemotron Ultra 253B over DeepSeek-R1 at equal lengths"
        ),
    }
)
"""Every form of a quantity and what it means, with its unit where the claim's own does not say it."""

_PLACE = re.compile(r"\{(?P<quantity>[^{}:]+):(?P<format>[^{}]+)\}")


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Claim:
    """One published figure."""

    id: str
    where: str
    """Places that state the figure, separated by commas: abstract, section 1 to 5, S.I to S.V, brief, version 2."""
    text: str
    """The words of the first place, left-out ones marked by ``...``; a description for S.I and version 2."""
    published: float | tuple[float, float]
    """The figure, or the low and high end of a range, in ``unit``."""
    unit: Unit
    kind: Kind
    boundary: Boundary
    """What the published figure covers."""
    quantity: str
    preset: str = "oviedo2025-v1"
    """Preset with which ours is computed."""
    bound: Literal["lower", "upper"] | None = None
    """Whether the text states the figure as a limit: "over", "more than", "or more"; "under", "less than"."""
    note: str | None = None
    """What one must know to read the claim, or why ours cannot be computed, whatever ours is."""
    difference: str | None = None
    """Why ours differs by more than 10%. In both texts ``{quantity:format}`` stands for our value of a quantity."""

    @property
    def places(self) -> tuple[str, ...]:
        """Each place that states the figure."""
        return tuple(self.where.split(", "))

    @property
    def figures(self) -> tuple[float, ...]:
        """The published figure alone, or both ends of its range."""
        return self.published if isinstance(self.published, tuple) else (self.published,)


@cache
def load_claims() -> tuple[Claim, ...]:
    """Return all claims, in the order of the text.

    >>> next(claim.published for claim in load_claims() if claim.id == "traditional-p50")
    0.34
    """
    return parse_claims((files("estimator") / "data" / "claims.yaml").read_text(encoding="utf-8"))


def parse_claims(text: str) -> tuple[Claim, ...]:
    """Return the claims in YAML ``text``.

    Raises ValueError with the offending key for a missing or unknown field, unit, kind or boundary, and with the id
    for one that occurs twice, an unknown preset, a quantity of no known form, also in a note, a range whose ends
    are not in order, and a limit or a claim without a quantity that has no note.
    """
    claims = TypeAdapter(tuple[Claim, ...]).validate_python(yaml.safe_load(text))
    for name, times in Counter(claim.id for claim in claims).items():
        if times > 1:
            raise ValueError(f"claim {name} occurs {times} times")
    for claim in claims:
        _check(claim)
    return claims


def parse_quantity(quantity: str) -> tuple[str, dict[str, str]]:
    """Return the form of ``quantity`` in ``QUANTITY_FORMS`` and what stands in its places.

    Raises ValueError where no form fits.

    >>> parse_quantity("wh.model.Llama 3.1 405B.traditional.p50")[1]
    {'model': 'Llama 3.1 405B', 'regime': 'traditional', 'stat': 'p50'}
    """
    for form, pattern in _patterns().items():
        match = pattern.fullmatch(quantity)
        if match:
            return form, match.groupdict()
    raise ValueError(f"quantity '{quantity}' has none of the known forms")


def fill_template(template: str, value_of: Callable[[str], float]) -> str:
    """Return ``template`` with every ``{quantity:format}`` replaced by the value of that quantity.

    >>> fill_template("Ours is {gwh.mixed:.1f} GWh.", {"gwh.mixed": 1.84}.__getitem__)
    'Ours is 1.8 GWh.'
    """
    return _PLACE.sub(lambda place: format(value_of(place["quantity"]), place["format"]), template)


def _check(claim: Claim) -> None:
    in_notes = _PLACE.finditer(f"{claim.note} {claim.difference}")
    try:
        get_preset(claim.preset)
        for quantity in (claim.quantity, *(place["quantity"] for place in in_notes)):
            parse_quantity(quantity)
    except ValueError as error:
        raise ValueError(f"claim {claim.id}: {error}") from error
    if list(claim.figures) != sorted(claim.figures):
        raise ValueError(f"claim {claim.id}: the range {claim.published} must go from low to high")
    if (claim.quantity == "none" or claim.bound) and not claim.note:
        raise ValueError(f"claim {claim.id}: without a quantity, or as a limit, it needs a note that says why")


@cache
def _patterns() -> Mapping[str, re.Pattern[str]]:
    places = {
        "regime": "traditional|test-time",
        "stat": "mean|p5|p25|p50|p75|p95",
        "lever": "model|serving|hardware|line-of-sight",
        "model": "|".join(re.escape(name) for name in dict.fromkeys(row.model for row in load_s1())),
        "gpus": r"\d+",
        "input_tok": r"\d+",
        "percent": r"\d+",
        "wh": r"\d+",
        "share": r"0\.\d+",
        "extreme": "min|max",
    }

    def pattern(form: str) -> re.Pattern[str]:
        named = {place: f"(?P<{place}>{choices})" for place, choices in places.items()}
        return re.compile(re.escape(form).replace(r"\{", "{").replace(r"\}", "}").format(**named))

    return {form: pattern(form) for form in QUANTITY_FORMS}
