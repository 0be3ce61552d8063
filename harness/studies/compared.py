"""One measured cell beside its prediction, at one boundary; and the cells of a run folder in that form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import log
from pathlib import Path
from typing import Any

from estimator.agreement import Comparison, PartialTerms, Rung, split_known_terms
from harness.analysis import judge
from harness.analysis.run import analyse_run, open_run
from harness.prediction import CALIBRATED, PLUMBING_CHECK
from harness.studies.described import server_arguments
from results.schema import CellResult, Manifest, RunResult, StoredPrediction

UNKNOWN_TERMS = PartialTerms(pue=None, power_kw=None, output_tok=None, tps_tok_per_s=None)


@dataclass(frozen=True)
class PredictedEnergy:
    """What is predicted for a cell: the terms at its boundary, and the mean energy where all terms are known."""

    terms: PartialTerms = UNKNOWN_TERMS
    mean_wh: float | None = None
    p5_wh: float | None = None
    p95_wh: float | None = None
    tps_source: str = "none"
    why_missing: Mapping[str, str] = field(default_factory=dict)
    """By term: why it is not predicted, or enters no summary."""
    by_construction: Mapping[str, str] = field(default_factory=dict)
    """By term: why measured and predicted agree in it whatever was measured."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ComparedCell:
    """A measured cell, its prediction, and where it belongs."""

    source: str
    group: str
    task: str
    boundary: str
    rung: Rung
    measured: PartialTerms
    measured_wh: float | None
    predicted: PredictedEnergy
    power_share: float | None = None
    """Measured power of the GPUs over their limit."""
    gpu_limit_w: float | None = None
    """Of all GPUs of the server together."""
    left_out: str = ""
    """Why the cell enters no ladder and no summary; empty if it does."""
    notes: tuple[str, ...] = ()

    @property
    def ln_terms(self) -> dict[str, float | None]:
        """ln(measured / predicted) by term and in total."""
        return split_known_terms(self.measured, self.predicted.terms)

    @property
    def inside(self) -> bool | None:
        """Whether the measured energy lies between P5 and P95 of the predicted mean."""
        low, high = self.predicted.p5_wh, self.predicted.p95_wh
        return None if self.measured_wh is None or low is None or high is None else low <= self.measured_wh <= high

    def comparison(self) -> Comparison:
        """Return what enters the summary: nothing that was fitted to this very cell."""
        predicted = self.predicted
        terms = {term: None if term in predicted.why_missing else value for term, value in self.ln_terms.items()}
        if terms["total"] is None or not (predicted.mean_wh and predicted.p5_wh and predicted.p95_wh):
            return Comparison(self.group, terms, power_share=self.power_share)
        return Comparison(
            self.group,
            terms,
            ln_p5=log(predicted.p5_wh / predicted.mean_wh),
            ln_p95=log(predicted.p95_wh / predicted.mean_wh),
            power_share=self.power_share,
        )

    def to_json(self, *, saturated: bool) -> dict[str, Any]:
        """Return the cell as plain JSON values; ``saturated`` says whether it stands for its ladder."""
        predicted = self.predicted
        return {
            "cell": self.rung.cell,
            "source": self.source,
            "group": self.group,
            "task": self.task,
            "boundary": self.boundary,
            "concurrency_cap": self.rung.concurrency_cap,
            "mean_concurrency": self.rung.mean_concurrency,
            "stands_for_saturation": saturated,
            "left_out": self.left_out or None,
            "measured": {**asdict(self.measured), "wh_per_query": self.measured_wh},
            "predicted": {
                **asdict(predicted.terms),
                "wh_per_query": {"mean": predicted.mean_wh, "p5": predicted.p5_wh, "p95": predicted.p95_wh},
                "tps_source": predicted.tps_source,
            },
            "ln_ratio": self.ln_terms,
            "inside_p5_p95": self.inside,
            "gpu_power_share_of_limit": self.power_share,
            "gpu_limit_w": self.gpu_limit_w,
            "not_in_summary": dict(predicted.why_missing),
            "zero_by_construction": dict(predicted.by_construction),
            "notes": [*self.notes, *predicted.notes],
        }


def cells_of_run(folder: Path) -> tuple[ComparedCell, ...]:
    """Return the compared cells of a run with the prediction that was stored before they were measured."""
    reader, manifest = open_run(folder)
    result = analyse_run(folder)
    stored = (
        StoredPrediction.model_validate(reader.json("prediction.json"))
        if reader.has("prediction.json")
        else StoredPrediction(created_wall_s=0, tps_source="none: the run ended before its prediction", label="")
    )
    return tuple(_cell_of_run(cell, result, manifest, stored) for cell in result.cells)


def _cell_of_run(cell: CellResult, result: RunResult, manifest: Manifest, stored: StoredPrediction) -> ComparedCell:
    energy, limit_w = cell.wh_per_query, _gpu_limit_w(manifest)
    return ComparedCell(
        source=str(result.run.path),
        group=f"{result.run.model} on {_server_label(manifest)}",
        task=cell.workload if cell.multiplier == 1 else f"{cell.workload} {cell.multiplier:g}x",
        boundary=energy.boundary if energy else cell.boundary,
        rung=Rung(
            cell=f"{result.run.id}/{cell.name}",
            tps_tok_per_s=cell.tps_tok_per_s or 0.0,
            concurrency_cap=cell.concurrency,
            joules_per_tok=cell.joules_per_tok,
            source_says_saturated=cell.role != "ladder" and judge.SATURATION_UNPROVEN not in cell.reasons,
        ),
        measured=_measured_terms(cell),
        measured_wh=energy.mean if energy else None,
        predicted=_stored_prediction(cell, manifest, stored),
        power_share=cell.gpu_watts / limit_w if cell.gpu_watts and limit_w else None,
        gpu_limit_w=limit_w,
        left_out=_why_left_out(cell),
        notes=result.run.labels,
    )


def _measured_terms(cell: CellResult) -> PartialTerms:
    """Return the terms whose Eq. 1 is the cell's energy; the length is the one served."""
    energy = cell.wh_per_query
    if energy is None or not cell.watts or not cell.tps_tok_per_s:
        return PartialTerms(pue=None, power_kw=None, output_tok=None, tps_tok_per_s=cell.tps_tok_per_s or None)
    power_kw = cell.watts / 1000
    output_tok = 3.6 * energy.mean * cell.tps_tok_per_s / (energy.pue * power_kw)
    return PartialTerms(pue=energy.pue, power_kw=power_kw, output_tok=output_tok, tps_tok_per_s=cell.tps_tok_per_s)


def _stored_prediction(cell: CellResult, manifest: Manifest, stored: StoredPrediction) -> PredictedEnergy:
    predicted = stored.cells.get(cell.name)
    if predicted is None:
        return PredictedEnergy(
            tps_source=stored.tps_source,
            why_missing=dict.fromkeys(("power", "tps", "length", "pue", "total"), stored.tps_source),
        )
    reference = predicted["reference"]
    return PredictedEnergy(
        terms=PartialTerms(
            pue=reference["pue"],
            power_kw=reference["node_power_kw"],
            output_tok=reference["output_tok"],
            tps_tok_per_s=reference["tps_tok_per_s"],
        ),
        mean_wh=predicted["mean_wh"],
        p5_wh=predicted["p5_wh"],
        p95_wh=predicted["p95_wh"],
        tps_source=stored.tps_source,
        why_missing=_fitted_to_this_server(manifest, stored),
        notes=tuple(predicted.get("notes", ())),
    )


def _fitted_to_this_server(manifest: Manifest, stored: StoredPrediction) -> dict[str, str]:
    source = str((stored.tps_model or {}).get("source", ""))
    if stored.label in (CALIBRATED, PLUMBING_CHECK) or f"run {manifest.id}" in source.split("; "):
        return dict.fromkeys(("tps", "total"), "the prediction's TPS was fitted to cells of this very server")
    return {}


def _why_left_out(cell: CellResult) -> str:
    if "simulated" in cell.power_source:
        return "its power is simulated, not measured"
    if cell.power_source.startswith("replay of"):
        return "its power is replayed from a recording, not measured"
    if cell.verdict == "invalid" or cell.wh_per_query is None:
        return f"its verdict is {cell.verdict}: {', '.join(cell.reasons) or 'no energy was measured'}"
    if cell.arrival != "closed":
        return f"its load is an open loop ({cell.arrival}): it says nothing about saturation"
    return ""


def _gpu_limit_w(manifest: Manifest) -> float | None:
    """Return the summed limit of the GPUs, as the driver gave it or else as the node profile has it."""
    limits = [device.get("power_limit_w") for device in manifest.devices]
    if limits and all(limits):
        return float(sum(limit for limit in limits if limit is not None))
    per_gpu = (manifest.node_profile or {}).get("gpu_limit_w")
    return None if per_gpu is None else float(per_gpu) * len(manifest.devices)


def _server_label(manifest: Manifest) -> str:
    names = sorted({str(device.get("name")) for device in manifest.devices})
    replicas = [f"{len(manifest.servers)} servers"] if len(manifest.servers) > 1 else []
    return ", ".join(
        (
            f"{len(manifest.devices)}x{' and '.join(names)}",
            *replicas,
            f"server version {manifest.server_version or 'unknown'}",
            _settings(manifest),
        )
    )


def _settings(manifest: Manifest) -> str:
    """Return the servers' arguments in one order, which tell servers of one version apart."""
    if not all(server.argv for server in manifest.servers):
        return "arguments unknown"
    arguments = server_arguments([server.argv for server in manifest.servers])
    return " ".join(name if value is True else f"{name} {value}" for name, value in sorted(arguments.items()))
