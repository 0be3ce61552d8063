"""Make the prediction of a run: where its TPS comes from, its inputs, and the document that is stored."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from estimator.lengths import LengthDistribution
from estimator.predict import PredictionInputs, predict_mean
from estimator.presets import get_preset
from estimator.throughput.fit import InsufficientRowsError, fit_oviedo_preset, fit_tps
from estimator.throughput.s1 import match_s1_model, rows_for
from estimator.throughput.tps import TpsModel
from harness.plan import Plan
from harness.tps_rows import row_notes, tps_rows
from results.schema import CellResult, StoredPrediction
from workloads.replayed_tasks import TaskLengths

PRESET = "oviedo2026-v2"
PLUMBING_CHECK = (
    "plumbing check: the prediction's TPS was calibrated on this very server and the watts are simulated, so a ratio "
    "near 1 shows that the parts fit together, not that the prediction is right"
)
CALIBRATED = "the prediction's TPS was calibrated on this very server: the ratio tests power and lengths, not TPS"
S1_ENGINE = (
    "the prediction's TPS is that of TensorRT-LLM at fixed lengths over whole batches (Supplemental I): "
    "the difference includes engine and windowing"
)


@dataclass(frozen=True)
class TpsSource:
    """A TPS model for the prediction, or the reason why there is none; ``calibrate`` asks for a grid first."""

    model: TpsModel | None
    text: str
    label: str = ""
    calibrate: bool = False


def find_tps_source(plan: Plan, served_model: str) -> TpsSource:
    """Return a given model file, else the S.I rows of this very model, else ask for calibration."""
    if plan.config.arrival != "closed":
        return TpsSource(None, "no prediction: an open loop need not saturate, and Eq. 1's throughput is at saturation")
    if plan.boundary == "gpu":
        return TpsSource(None, "no prediction: Eq. 1 predicts a whole node, and the boundary here is the GPUs alone")
    if plan.profile is None:
        return TpsSource(None, "no prediction: Eq. 1 needs the node's maximum power, and there is no node profile")
    gpus = max(1, len(plan.devices))
    if plan.tps_model is not None:
        if plan.tps_model.gpus != gpus:
            text = f"no prediction: the TPS model is for {plan.tps_model.gpus} GPU(s), this run uses {gpus}"
            return TpsSource(None, text)
        return TpsSource(plan.tps_model, f"TPS model file {plan.config.tps_model}")
    s1_name = match_s1_model(served_model)
    on_h100_node = plan.profile is not None and plan.profile.name == "hgx-h100" and plan.replicas == 1
    if s1_name and on_h100_node and rows_for(s1_name)[0].gpus == gpus:
        return TpsSource(fit_oviedo_preset(rows_for(s1_name)), f"Supplemental I rows of {s1_name}", S1_ENGINE)
    return TpsSource(None, "calibration", calibrate=True)


def calibration_lengths(lengths: Mapping[str, LengthDistribution]) -> list[tuple[int, int, str]]:
    """Return the grid of fixed lengths to calibrate with, as (input, output, cell whose concurrency to use).

    The input is the workload's mean; outputs span both cells: half and twice the mean of each, and neither they nor
    input and output together are ever longer than the cell's own longest.
    """
    grid = []
    for name, cell in lengths.items():
        for input_tok in _calibration_inputs(cell):
            longest = min(int(cell.output_tok.max()), int((cell.input_tok + cell.output_tok).max()) - input_tok)
            outputs = [min(longest, max(1, round(cell.mean_output_tok * factor))) for factor in (0.5, 2)]
            grid += [(input_tok, output_tok, name) for output_tok in outputs]
    return grid


def _calibration_inputs(cell: LengthDistribution) -> list[int]:
    """Return the inputs to calibrate at: the mean, or for tasks, whose contexts grow, a short and a long one."""
    if not isinstance(cell, TaskLengths):
        return [round(cell.mean_input_tok)]
    return sorted({round(float(quantile)) for quantile in np.quantile(cell.input_tok, (0.1, 0.9))})


def calibrated_source(plan: Plan, model: str, cells: tuple[CellResult, ...]) -> TpsSource:
    """Fit the paper's form to calibration cells of this server."""
    rows = tps_rows(model, max(1, len(plan.devices)), cells, "calibration cells of this run")
    notes = row_notes(cells)
    label = PLUMBING_CHECK if plan.power == "simulated" and plan.boundary != "node" else CALIBRATED
    try:
        fitted = fit_tps(rows, "oviedo", cap=True)
    except InsufficientRowsError as error:
        why = "; ".join((str(error), *notes))
        return TpsSource(None, f"no prediction: calibration gave too few usable cells ({why})")
    return TpsSource(fitted, "; ".join(("calibration cells of this run", *notes)), label)


def make_prediction(plan: Plan, source: TpsSource, lengths: Mapping[str, LengthDistribution]) -> StoredPrediction:
    """Return the prediction of every compared cell with all its inputs."""
    if source.model is None or plan.profile is None:
        return StoredPrediction(created_wall_s=time.time(), tps_source=source.text, label=source.label)
    preset = get_preset(PRESET)
    node_power_kw = preset.power_share().scaled(plan.profile.p_max_share_kw(plan.node_share))
    idle_kw = plan.profile.allocated_idle_w(plan.node_share, plan.config.allocation) / 1000
    if node_power_kw.mean + idle_kw <= 0:
        text = f"no prediction: P_max of the node profile {plan.profile.name} leaves no power above its idle power"
        return StoredPrediction(created_wall_s=time.time(), tps_source=text, label=source.label)
    cells = {
        name: predict_mean(
            PredictionInputs(
                node_power_kw=node_power_kw,
                constant_power_kw=idle_kw,
                pue=preset.pue(),
                lengths=lengths[name],
                tps=source.model,
                seed=plan.config.seed,
            )
        ).to_dict()
        for name in lengths
    }
    for cell in cells.values():
        del cell["tps"]
    return StoredPrediction(
        created_wall_s=time.time(),
        tps_source=source.text,
        label=source.label,
        preset=PRESET,
        tps_model=json.loads(source.model.to_json()),
        cells=cells,
    )
