"""What is reported of an idle phase, from its log."""

from __future__ import annotations

from harness.analysis import measured
from harness.analysis.boundaries import meter_energy
from harness.analysis.celllog import IdleLog, stored_series
from harness.analysis.devices import Stretch, device_results
from harness.analysis.measured import PowerModel
from harness.analysis.uncertainty import idle_uncertainty
from results.schema import IdleResult


def idle_result(log: IdleLog, model: PowerModel) -> IdleResult:
    """Return watts of an idle phase at the run's boundary, with devices, meters and what speaks against them."""
    energy = measured.window_energy(stored_series(log.power, model.device_uuids), log.start_s, log.end_s, model.source)
    watts = None if energy.mean_w is None else model.lift_w(energy.mean_w)
    meters = measured.meter_readings(log.power, log.start_s, log.end_s, model, energy.mean_w)
    metered = [reading for reading in meters if model.meter is not None and reading.source == model.meter.name]
    of_meter = None
    if model.boundary == "node":
        watts = metered[0].charged_watts if metered else None
    if model.meter is not None:
        series = stored_series(log.power, model.meter.device_uuids)
        of_meter = meter_energy(model.meter, series, log.start_s, log.end_s)
    uncertainty, parts = idle_uncertainty(energy, of_meter, watts, model, log.end_s - log.start_s)
    stretch = Stretch(log.start_s, log.end_s, (log.start_s, log.end_s), loaded=False)
    devices = device_results(energy.devices, model.device_uuids, model.source.name, log.power, stretch, log.states)
    device_reasons = dict.fromkeys(reason for device in devices for reason in device.reasons)
    return IdleResult(
        duration_s=log.end_s - log.start_s,
        gpu_watts=energy.mean_w,
        watts=watts,
        standard_uncertainty_rel=uncertainty,
        uncertainty_parts_rel=parts,
        boundary=model.boundary,
        power_source=model.source_name,
        devices=devices,
        meters=meters,
        reasons=(*device_reasons, *(reason for reading in metered for reason in reading.reasons)),
    )
