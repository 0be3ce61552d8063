"""Predict the energy of imported cells at the boundary of their measurement: the GPUs alone, with PUE 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from math import ceil, floor, log

import numpy as np

from estimator.agreement import PartialTerms, Rung
from estimator.lengths import LengthDistribution, exponential_lengths
from estimator.nodes import profile_for_published_gpu
from estimator.predict import PredictionInputs, predict_mean
from estimator.presets import Regime, get_preset
from estimator.throughput.fit import fit_oviedo_preset
from estimator.throughput.s1 import load_s1, match_s1_model, rows_for
from estimator.throughput.tps import TpsModel
from harness.prediction import PRESET, S1_ENGINE
from harness.studies.compared import ComparedCell, PredictedEnergy
from results.imported import ImportedCell, ImportedCells

H100_PROFILE = "hgx-h100"
BYTES_PER_PARAMETER = {
    "fp8": 1.0, "bfloat16": 2.0, "bf16": 2.0, "float16": 2.0, "fp16": 2.0, "mxfp4": 0.53, "int4": 0.5,
}  # fmt: skip
"""By the number format of the weights; mxfp4 carries a scale for every 32 values."""
IN_SAMPLE = "the prediction's TPS was fitted to this very row"
LENGTH_BY_CONSTRUCTION = "0 by construction: the prediction is made at the measured mean length"
PUE_BY_CONSTRUCTION = "0 by construction: at the gpu boundary PUE is 1 on both sides"


@dataclass(frozen=True)
class Assumptions:
    """What a prediction of imported cells takes as given where the table is silent."""

    input_tok: int
    regimes: Mapping[str, Regime] = field(default_factory=dict)
    """By task; the empty name stands for every other task."""
    tps_model: TpsModel | None = None
    seed: int = 0

    def regime(self, task: str) -> Regime | None:
        """Return the regime stated for a task, or None."""
        return self.regimes.get(task, self.regimes.get(""))


@dataclass(frozen=True)
class TpsChoice:
    """The throughput model of a cell, or the reason why there is none."""

    model: TpsModel | None
    text: str
    in_sample: bool = False
    notes: tuple[str, ...] = ()


def compared_cells(document: ImportedCells, source: str, given: Assumptions) -> tuple[ComparedCell, ...]:
    """Return every cell of an imported document beside its prediction."""
    return tuple(_compared(cell, source, given) for cell in document.cells)


def _compared(cell: ImportedCell, source: str, given: Assumptions) -> ComparedCell:
    limit_w, limit_note = _gpu_limit_w(cell)
    return ComparedCell(
        source=source,
        group=cell.group,
        task=cell.task,
        boundary="gpu" if cell.watts else "none: power is not published",
        rung=Rung(
            cell=cell.id,
            tps_tok_per_s=cell.tps_tok_per_s,
            concurrency_cap=cell.concurrency_cap,
            mean_concurrency=cell.mean_concurrency,
            joules_per_tok=cell.joules_per_tok,
            source_says_saturated=cell.source_says_saturated,
        ),
        measured=PartialTerms(
            pue=1.0,
            power_kw=cell.watts / 1000 if cell.watts else None,
            output_tok=cell.mean_output_tok,
            tps_tok_per_s=cell.tps_tok_per_s,
        ),
        measured_wh=cell.wh_per_query,
        predicted=_predict(cell, limit_w, limit_note, given),
        power_share=cell.watts / limit_w if cell.watts and limit_w else None,
        gpu_limit_w=limit_w,
        notes=(*cell.notes, *((limit_note,) if limit_w and limit_note else ())),
    )


def _gpu_limit_w(cell: ImportedCell) -> tuple[float | None, str]:
    """Return the limit of all the server's GPUs and what finding it assumed, or None and why it is unknown."""
    name = cell.server.gpu_model
    found = profile_for_published_gpu(name) if name else None
    if found is None or found[0].gpu_limit_w is None:
        return None, f"no node profile gives the power limit of {name or 'an unnamed GPU'}"
    profile, assumption = found
    return cell.server.gpus * found[0].gpu_limit_w, assumption if profile.gpu_limit_w else ""


def _predict(cell: ImportedCell, limit_w: float | None, limit_note: str, given: Assumptions) -> PredictedEnergy:
    choice, lengths = _choose_tps(cell, given), _lengths(cell, given)
    power_kw = None if limit_w is None else get_preset(PRESET).power_share().scaled(limit_w / 1000)
    regime = given.regime(cell.task)
    terms = PartialTerms(
        pue=1.0,
        power_kw=power_kw.mean if power_kw else None,
        output_tok=lengths.mean_output_tok,
        tps_tok_per_s=choice.model.mixed_tps_tok_per_s(lengths) if choice.model else None,
    )
    notes = [*choice.notes, *_length_notes(cell, choice.model, lengths, regime)]
    by_construction = {"pue": PUE_BY_CONSTRUCTION} | ({} if regime else {"length": LENGTH_BY_CONSTRUCTION})
    mean = None
    if choice.model is not None and power_kw is not None:
        mean = predict_mean(PredictionInputs(power_kw, 1.0, lengths, choice.model, given.seed))
        notes += mean.notes
    return PredictedEnergy(
        terms,
        mean_wh=mean.mean_wh if mean else None,
        p5_wh=mean.p5_wh if mean else None,
        p95_wh=mean.p95_wh if mean else None,
        tps_source=choice.text,
        why_missing=_why_missing(cell, choice, power_note=None if limit_w else limit_note),
        by_construction=by_construction,
        notes=tuple(notes),
    )


def _why_missing(cell: ImportedCell, choice: TpsChoice, power_note: str | None) -> dict[str, str]:
    why: dict[str, str] = {}
    if cell.watts is None:
        why["power"] = "power is not published"
    elif power_note is not None:
        why["power"] = power_note
    if choice.model is None or choice.in_sample:
        why["tps"] = IN_SAMPLE if choice.in_sample else choice.text
    if why:
        why["total"] = "; ".join(f"{term}: {reason}" for term, reason in why.items())
    return why


def _lengths(cell: ImportedCell, given: Assumptions) -> LengthDistribution:
    """Return the stated regime's lengths, else the measured mean length for every query."""
    input_tok = round(cell.mean_input_tok) if cell.mean_input_tok else given.input_tok
    regime = given.regime(cell.task)
    if regime is not None:
        return exponential_lengths(get_preset(PRESET).median_output_tok[regime].value, input_tok)
    low, high = floor(cell.mean_output_tok), ceil(cell.mean_output_tok)
    if low == high:
        return LengthDistribution(np.array([input_tok]), np.array([low]), np.array([1.0]))
    above = cell.mean_output_tok - low
    return LengthDistribution(np.array([input_tok] * 2), np.array([low, high]), np.array([1 - above, above]))


def _length_notes(
    cell: ImportedCell, model: TpsModel | None, lengths: LengthDistribution, regime: Regime | None
) -> list[str]:
    notes = [] if regime is None else [f"predicted at the lengths of the regime {regime} of {PRESET}"]
    if cell.mean_input_tok is not None:
        return notes
    assumed = int(lengths.input_tok[0])
    text = f"input length is not published: {assumed} tok assumed"
    if model is not None:
        central = log(model.mixed_tps_tok_per_s(lengths))
        others = (max(1, assumed // 4), 4 * assumed)
        changes = [log(model.mixed_tps_tok_per_s(_with_input(lengths, other))) - central for other in others]
        listed = ", ".join(f"{change:+.2f} at {other} tok" for other, change in zip(others, changes, strict=True))
        text += f"; ln of the predicted TPS changes by {listed}"
    return [*notes, text]


def _with_input(lengths: LengthDistribution, input_tok: int) -> LengthDistribution:
    return LengthDistribution(np.full_like(lengths.input_tok, input_tok), lengths.output_tok, lengths.weight)


def _choose_tps(cell: ImportedCell, given: Assumptions) -> TpsChoice:
    """Return the model file given, else the S.I rows of this very model, else the population of models."""
    gpus, model = cell.server.gpus, given.tps_model
    if model is not None:
        if model.gpus != gpus:
            return TpsChoice(None, f"the TPS model file is for {model.gpus} GPU(s), this server has {gpus}")
        return TpsChoice(model, f"TPS model file of {model.model}")
    if not _may_be_h100(cell):
        return TpsChoice(None, f"every shipped throughput row is of H100 GPUs, this server has {cell.server.gpu_model}")
    in_sample = _is_s1_row(cell)
    s1_name = _s1_name(cell)
    if s1_name is not None and rows_for(s1_name)[0].gpus == gpus:
        return TpsChoice(
            fit_oviedo_preset(rows_for(s1_name)), f"Supplemental I rows of {s1_name}", in_sample, (S1_ENGINE,)
        )
    why_not_s1 = (
        "Supplemental I has no rows of this model in this number format"
        if s1_name is None
        else f"Supplemental I has {s1_name} on {rows_for(s1_name)[0].gpus} GPUs, this server has {gpus}"
    )
    weight_gb = _weight_gb(cell)
    if weight_gb is None:
        return TpsChoice(None, f"{why_not_s1}, and without the size of its weights no population model applies")
    try:
        return TpsChoice(
            _population_model(weight_gb, gpus),
            f"population of models, at {weight_gb:g} GB of weights on {gpus} GPU(s)",
            in_sample,
            (f"{why_not_s1}: TPS comes from the population of models by the size of the weights",),
        )
    except ValueError as error:
        return TpsChoice(None, f"{why_not_s1}, and the population model does not apply: {error}")


def _weight_gb(cell: ImportedCell) -> float | None:
    bytes_each = BYTES_PER_PARAMETER.get((cell.server.precision or "").casefold())
    if bytes_each is None or cell.total_params_billions is None:
        return None
    return bytes_each * cell.total_params_billions


@cache
def _population_model(weight_gb: float, gpus: int) -> TpsModel:
    from estimator.throughput.without_rows import population_model

    return population_model(weight_gb, gpus)


def _may_be_h100(cell: ImportedCell) -> bool:
    name = cell.server.gpu_model
    found = profile_for_published_gpu(name) if name else None
    return name is None or (found is not None and found[0].name == H100_PROFILE)


def _s1_name(cell: ImportedCell) -> str | None:
    precision = cell.server.precision
    if cell.model in {row.model for row in load_s1()}:
        return cell.model if precision and precision.casefold().startswith("fp8") else None
    return match_s1_model(cell.model, precision)


def _is_s1_row(cell: ImportedCell) -> bool:
    measured = (cell.model, cell.mean_input_tok, cell.mean_output_tok, cell.tps_tok_per_s)
    return measured in {(row.model, row.input_tok, row.output_tok, row.tps_tok_per_s) for row in load_s1()}
