"""What is reported of one cell, from its log: figures of its window, Eq. 1 beside the prediction, reasons, verdict."""

from __future__ import annotations

from typing import Any

from estimator.compare import split_log_ratio
from estimator.eq1 import Eq1Terms
from harness.analysis import judge, measured, tasks
from harness.analysis.celllog import CellLog
from harness.analysis.devices import Stretch, device_results
from harness.analysis.loaded import client_reasons, load_fields
from harness.analysis.measured import PowerModel, WindowFigures
from harness.analysis.objections import CHANGE_UNITS
from harness.analysis.saturation import CONFIG_LIMITED, NO_PLATEAU, config_limited
from harness.analysis.throughput import throughput
from harness.analysis.uncertainty import energy_interval_rel, energy_uncertainty, token_rel_u
from harness.load.usage import usage_is_incomplete
from results.schema import (
    LENGTHS_AS_SERVED,
    CellDefinition,
    CellResult,
    ChangeResult,
    DeviceResult,
    Manifest,
    MeterReading,
    PredictedQueryEnergy,
    QueryEnergy,
    SplitResult,
    StoredPrediction,
    TokenCheck,
    WindowResult,
)

P50_RULE = "allocated: every output token bears the mean J/token; not a measured per-query energy"
_IDENTITY = set(CellResult.model_fields) & set(CellDefinition.model_fields)


def cell_result(log: CellLog, model: PowerModel, manifest: Manifest, prediction: StoredPrediction) -> CellResult:
    """Return what is reported of a cell, with the reasons that speak against it."""
    figures = measured.window_figures(log, model)
    tokens = measured.check_tokens(log)
    devices = _devices(log, figures, model)
    reasons = (*_reasons(log, figures, tokens, devices), *_meter_reasons(log, figures, model))
    in_window = {} if figures is None else _in_window(log, figures, model, manifest, prediction)
    return CellResult(
        **log.definition.model_dump(include=_IDENTITY),
        **in_window,
        power_source=model.source_name,
        boundary=model.boundary,
        devices=devices,
        requests=measured.count_requests(log),
        tokens=tokens,
        verdict=judge.verdict(reasons),
        reasons=reasons,
    )


def _in_window(
    log: CellLog, figures: WindowFigures, model: PowerModel, manifest: Manifest, prediction: StoredPrediction
) -> dict[str, Any]:
    """Everything that needs a window: figures as measured, and beside the prediction where there is one."""
    window = figures.window
    predicted = prediction.cells.get(log.definition.name)
    predicted_energy = _predicted(predicted)
    fields: dict[str, Any] = {
        "tps_tok_per_s": figures.tps_tok_per_s,
        **_tps_error(log, figures),
        "watts": figures.watts,
        "gpu_watts": figures.energy.mean_w,
        "meters": _meters(log, figures, model),
        "energy_method": " and ".join(sorted({d.method for d in figures.energy.devices if d.method})) or None,
        "gpu_utilization_ratio": measured.utilization_ratio(log, window),
        "ttft_s": measured.time_to_first_token(log, window),
        "itl_s": measured.inter_token_latency(log, window),
        **load_fields(log, window, manifest.config),
        "window": _window_result(figures),
        "queue_share": measured.queue_share(log, window),
        "kv_usage_ratio": measured.gauge_mean(log, window, "kv_usage_ratio"),
        "preemptions": measured.growth(log, window, "preemptions"),
        "predicted_wh_per_query": predicted_energy,
        "prefix_cache_hit_ratio": tasks.prefix_cache_hit_ratio(log, window),
        "task": tasks.task_result(log, window, None, predicted_energy),
    }
    if figures.joules_per_tok is None or not figures.watts or measured.served_length_ratio(log) == 0:
        return fields  # Eq. 1 needs tokens and watts; the reasons say which are missing
    terms = _measured_terms(log, figures.watts, figures.tps_tok_per_s, manifest)
    estimate = figures.joules_per_tok
    energy = _query_energy(log, figures, terms, model, manifest)
    fields |= {
        "joules_per_tok": estimate.ratio,
        "joules_per_tok_ci95": (
            estimate.ratio - estimate.half_width_95,
            estimate.ratio + estimate.half_width_95,
        ),
        "wh_per_query": energy,
        "task": tasks.task_result(log, window, energy, predicted_energy),
    }
    if predicted is not None:
        fields |= {"ratio": terms.energy_wh / predicted["mean_wh"], "split": _split(terms, predicted)}
    return fields


def _tps_error(log: CellLog, figures: WindowFigures) -> dict[str, Any]:
    known = throughput(log, figures.window, token_rel_u(log, figures)) if figures.tps_tok_per_s > 0 else None
    if known is None:
        return {}
    return {"tps_ci95": known.ci95, "tps_standard_uncertainty_rel": known.standard_uncertainty_rel}


def _devices(log: CellLog, figures: WindowFigures | None, model: PowerModel) -> tuple[DeviceResult, ...]:
    window_s = None if figures is None else (figures.window.start_s, figures.window.end_s)
    energies = () if figures is None else figures.energy.devices
    stretch = Stretch(log.before_s, log.load_stop_s, window_s)
    return device_results(energies, model.device_uuids, model.source.name, log.power, stretch, log.states)


def _meters(log: CellLog, figures: WindowFigures, model: PowerModel) -> tuple[MeterReading, ...]:
    window = figures.window
    return measured.meter_readings(log.power, window.start_s, window.end_s, model, figures.energy.mean_w)


def _meter_reasons(log: CellLog, figures: WindowFigures | None, model: PowerModel) -> list[str]:
    """Return what is wrong with the meter that the cell's watts come from; other meters' faults are their own."""
    if figures is None or model.meter is None:
        return []
    readings = [reading for reading in _meters(log, figures, model) if reading.source == model.meter.name]
    return [reason for reading in readings for reason in reading.reasons]


def _measured_terms(log: CellLog, watts: float, tps_tok_per_s: float, manifest: Manifest) -> Eq1Terms:
    """Feed what was measured into Eq. 1. At the gpu boundary there is no facility overhead to multiply with."""
    served = measured.served_length_ratio(log)
    return Eq1Terms(
        pue=manifest.pue.mean if manifest.boundary != "gpu" else 1.0,
        node_power_kw=watts / 1000,
        output_tok=log.definition.mean_output_tok * (1.0 if served is None else served),
        tps_tok_per_s=tps_tok_per_s,
    )


def _query_energy(
    log: CellLog, figures: WindowFigures, terms: Eq1Terms, model: PowerModel, manifest: Manifest
) -> QueryEnergy:
    uncertainty, parts = energy_uncertainty(log, figures, model)
    factors = energy_interval_rel(log, figures, model)
    with_pue = model.boundary != "gpu"
    return QueryEnergy(
        mean=terms.energy_wh,
        output_tok=terms.output_tok,
        p50=terms.energy_wh * log.definition.median_output_tok / log.definition.mean_output_tok,
        p50_rule=P50_RULE,
        boundary=f"{model.boundary} x PUE" if with_pue else model.boundary,
        pue=terms.pue,
        pue_source=manifest.pue.source if with_pue else "none: the GPUs alone",
        mean_without_pue=terms.energy_wh / terms.pue,
        ci95=None if factors is None else (factors[0] * terms.energy_wh, factors[1] * terms.energy_wh),
        standard_uncertainty_rel=uncertainty,
        uncertainty_parts_rel=parts,
    )


def _predicted(predicted: dict[str, Any] | None) -> PredictedQueryEnergy | None:
    if predicted is None:
        return None
    return PredictedQueryEnergy(
        mean=predicted["mean_wh"],
        p5=predicted["p5_wh"],
        p95=predicted["p95_wh"],
        per_query_p5=predicted["per_query"]["p5_wh"],
        per_query_p95=predicted["per_query"]["p95_wh"],
    )


def _split(terms: Eq1Terms, predicted: dict[str, Any]) -> SplitResult:
    split = split_log_ratio(terms, Eq1Terms(**predicted["reference"]))
    return SplitResult(power=split.power, length=split.length, tps=split.tps, pue=split.pue, total=split.total)


def _window_result(figures: WindowFigures) -> WindowResult:
    window, estimate = figures.window, figures.joules_per_tok
    return WindowResult(
        start_mono_s=window.start_s,
        end_mono_s=window.end_s,
        duration_s=figures.duration_s,
        mean_requests=window.mean_requests,
        ended=window.ended,
        changes={
            name: ChangeResult(change=change.change, half_width_95=change.half_width(), unit=CHANGE_UNITS[name])
            for name, change in window.changes.items()
        },
        autocorrelation_s=window.autocorrelation_s,
        batches=None if estimate is None else estimate.n_batches,
    )


def _reasons(
    log: CellLog, figures: WindowFigures | None, tokens: TokenCheck, devices: tuple[DeviceResult, ...]
) -> tuple[str, ...]:
    reasons = [judge.INTERRUPTED] if log.end_s is None else []
    if log.server_lost:
        reasons.append(judge.SERVER_LOST)
    reasons += _request_reasons(log, tokens)
    reasons += dict.fromkeys(reason for device in devices for reason in device.reasons)
    if figures is None:
        return (*reasons, judge.NO_WINDOW)
    reasons += [*figures.window.reasons, *client_reasons(log, figures.window)]
    if figures.tps_tok_per_s <= 0:
        reasons.append(judge.NO_TOKENS)
    elif log.definition.role in ("compared", "grid"):
        plateau = None if log.definition.binds in NO_PLATEAU else log.definition.plateau_tps_tok_per_s
        queue = measured.queue_share(log, figures.window)
        if not judge.Saturation(figures.tps_tok_per_s, plateau, queue).proven:
            reasons.append(judge.SATURATION_UNPROVEN)
        kv_usage_ratio = measured.gauge_mean(log, figures.window, "kv_usage_ratio")
        if config_limited(log.definition.binds, log.definition.doubling_gain_rel, kv_usage_ratio):
            reasons.append(CONFIG_LIMITED)
    return tuple(reasons)


def _request_reasons(log: CellLog, tokens: TokenCheck) -> list[str]:
    reasons = []
    errors, total = int((log.requests["outcome"] == "error").sum()), len(log.requests)
    if total and errors / total > judge.MAX_ERROR_SHARE:
        reasons.append(judge.TOO_MANY_ERRORS)
    if measured.served_length_ratio(log) not in (None, 1.0):
        # a server without counters need not know ignore_eos and min_tokens; its cell is that of the lengths it served
        reasons.append(LENGTHS_AS_SERVED if log.tokens_from_usage else judge.LENGTHS_NOT_FORCED)
    if tokens.consistent is False:
        reasons.append(judge.TOKEN_COUNT_MISMATCH)
    if log.tokens_from_usage and usage_is_incomplete(log.requests, log.load_stop_s):
        reasons.append(judge.USAGE_INCOMPLETE)
    return reasons
