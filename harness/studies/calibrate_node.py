"""Fit a node profile to a meter: record or read the levels, fit, and write the profile with its record."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from estimator.nodes import NodeProfile
from estimator.power.node_fit import NodeFit, fit_node, fitted_profile
from harness.calibrate_node import read_record, record_levels, settled_stretches
from harness.errors import ConfigError, MeasurementError, not_written
from harness.power.base import DeviceIdentity, PowerSource
from harness.power.meters import open_meter
from harness.power.nvml import open_nvml
from harness.power.replay import ReplaySource, load_recording
from harness.studies.checks import check_writable

SCHEMA = "inference-energy/calibrate-node/1"
MIN_LOADS = 2
DRIFT_SHARE = 0.01


@dataclass(frozen=True)
class CalibrationOptions:
    """What ``harness calibrate-node`` was told; None where it was not."""

    meter: str | None
    record: Path | None
    levels: int
    seconds: float
    settle: float
    command: tuple[str, ...]
    gpu_power: str
    gpu_name: str | None
    gpu_count: int | None
    gpu_limit_w: float | None
    p_max_kw: float | None
    meter_accuracy_pct: float | None
    name: str | None
    out: Path


@dataclass(frozen=True)
class _Record:
    table: pd.DataFrame
    meter: str
    gpu_source: str
    meter_gain_rel_u: float | None
    notes: tuple[str, ...]
    gpus: tuple[DeviceIdentity, ...]


def calibrate_node(options: CalibrationOptions, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the calibration as a document, after writing the profile and, if made now, the record beside it.

    Raises ``ConfigError`` for options that cannot be used together, ``MeasurementError`` where the levels give no line.
    """
    if (options.meter is None) == (options.record is None):
        raise ConfigError("Give either --meter, to measure now, or --from, a record made earlier.")
    if options.out.suffix not in {".yaml", ".yml"}:
        raise ConfigError(f"--out {options.out}: a node profile is a .yaml file")
    _check_out(options)
    record = _stored(options.record) if options.record else _measured(options, say)
    record_path = options.record or options.out.with_suffix(".csv")
    if options.record is None:
        _write(record_path, record.table.to_csv(index=False))
    meter_rel_u = record.meter_gain_rel_u
    if options.meter_accuracy_pct is not None:
        meter_rel_u = options.meter_accuracy_pct / 100 / math.sqrt(3)
    gpu_name, gpu_count, gpu_limit_w = _gpus(options, record.gpus)
    try:
        fit = fit_node(settled_stretches(record.table, options.settle), meter_rel_u)
        profile = fitted_profile(
            fit, name=options.name or options.out.stem, gpu_name=gpu_name, gpu_count=gpu_count,
            gpu_limit_w=gpu_limit_w, p_max_kw=options.p_max_kw, source=_source(record, fit),
            calibrated_gpu_uuids=[gpu.uuid for gpu in record.gpus],
        )  # fmt: skip
    except ValueError as error:
        raise MeasurementError(
            "No node model can be fitted.", why=str(error),
            fix=f"load the node in clearly different steps and measure longer; the readings are in {record_path}",
        ) from error  # fmt: skip
    _write(options.out, profile.to_yaml())
    notes = (*record.notes, *_notes(fit, options, profile, record_path))
    return _document(options, record, fit, profile, notes) | {"record": str(record_path), "profile": str(options.out)}


def _check_out(options: CalibrationOptions) -> None:
    """Make the folder of --out, and raise ``StoreError`` unless what is measured can be written into it."""
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_written(str(options.out.parent), error) from error
    for path in (options.out, *([] if options.record else [options.out.with_suffix(".csv")])):
        check_writable(path, "--out")


def _stored(path: Path) -> _Record:
    return _Record(read_record(path), f"the meter of {path.name}", f"the GPU power of {path.name}", None, (), ())


def _measured(options: CalibrationOptions, say: Callable[[str], None]) -> _Record:
    if options.levels < MIN_LOADS:
        raise ConfigError(f"--levels {options.levels}: a line that can be doubted needs at least {MIN_LOADS} loads")
    meter = open_meter(options.meter or "")
    try:
        source = _gpu_source(options.gpu_power)
        try:
            hold_s = options.settle + options.seconds
            table = record_levels(source, meter, options.levels, hold_s, options.command, say)
        finally:
            source.close()
    finally:
        meter.close()
    real = source.devices if options.gpu_power == "nvml" else ()
    return _Record(table, meter.name, source.name, meter.gain_rel_u, (*source.notes, *meter.notes), real)


def _gpu_source(text: str) -> PowerSource:
    kind, _, file = text.partition(":")
    if text == "nvml":
        return open_nvml()
    if kind == "replay" and file:
        return ReplaySource(load_recording(Path(file), boundary="gpu"))
    raise ConfigError(f"--gpu-power {text}: give nvml or replay:FILE")


def _gpus(options: CalibrationOptions, gpus: tuple[DeviceIdentity, ...]) -> tuple[str, int, float | None]:
    """Return name, count and power limit of the node's GPUs: as given, else as the driver says."""
    names = {gpu.name for gpu in gpus}
    if len(names) > 1:
        raise ConfigError("The node's GPUs are not all alike.", why=", ".join(sorted(names)))
    name, count = options.gpu_name or next(iter(names), None), options.gpu_count or len(gpus) or None
    if name is None or count is None:
        raise ConfigError(
            "The node's GPUs are unknown.", fix="give --gpu-name and --gpu-count, as nvidia-smi -L says them"
        )
    limits_w = {gpu.power_limit_w for gpu in gpus}
    return name, count, options.gpu_limit_w or (limits_w.pop() if len(limits_w) == 1 else None)


def _source(record: _Record, fit: NodeFit) -> str:
    accuracy = (
        f"unknown, and so are the uncertainties, of which scatter and misfit alone are {_scatter(fit)}"
        if fit.meter_cov is None
        else "included in the uncertainties"
    )
    return (
        f"harness calibrate-node: least squares through {len(fit.levels)} steady levels of {record.gpu_source} against "
        f"{record.meter}; the meter's accuracy is {accuracy}; the gain of the GPUs' own sensors is part of the slope"
    )


def _scatter(fit: NodeFit) -> str:
    u_offset_w, u_slope = np.sqrt(np.diag(fit.random_cov))
    return f"{u_offset_w:.0f} W of the offset and {u_slope:.4f} of the slope"


def _notes(fit: NodeFit, options: CalibrationOptions, profile: NodeProfile, record_path: Path) -> list[str]:
    notes = []
    if fit.meter_cov is None:
        notes.append(
            "the meter's accuracy is unknown, so every Wh/query through this profile has an unknown uncertainty: give "
            f"it with --meter-accuracy, now or later with --from {record_path}"
        )
    if options.p_max_kw is None:
        notes.append(f"P_max = {profile.p_max_kw:.2f} kW is the line at the GPUs' power limit, not a measurement")
    if fit.slope + 2 * (fit.u_slope or math.sqrt(fit.random_cov[1, 1])) < 1:
        notes.append("the slope is below 1: the meter misses a part of the GPUs' power, or one of the sensors is off")
    notes += [
        f"level {level.level} drifted by {level.drift_w:.0f} W beside its GPUs: settle or measure longer"
        for level in fit.levels
        if abs(level.drift_w) > DRIFT_SHARE * level.node_w
    ]
    return notes


def _document(
    options: CalibrationOptions, record: _Record, fit: NodeFit, profile: NodeProfile, notes: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "name": profile.name,
        "meter": record.meter,
        "gpu_source": record.gpu_source,
        "boundary": "node",
        "gpu_name_patterns": list(profile.gpu_name_patterns),
        "gpu_count": profile.gpu_count,
        "settle_s": options.settle,
        "offset_w": fit.offset_w,
        "slope": fit.slope,
        "u_offset_w": fit.u_offset_w,
        "u_slope": fit.u_slope,
        "correlation": fit.correlation,
        "random_cov": fit.random_cov.tolist(),
        "meter_cov": None if fit.meter_cov is None else fit.meter_cov.tolist(),
        "degrees_of_freedom": fit.degrees_of_freedom,
        "misfit_w": fit.misfit_w,
        "idle_w": fit.idle_w,
        "u_idle_w": fit.u_idle_w,
        "p_max_kw": profile.p_max_kw,
        "levels": [asdict(level) for level in fit.levels],
        "notes": list(notes),
    }


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise not_written(str(path), error) from error
