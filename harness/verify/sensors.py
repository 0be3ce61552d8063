"""Rules on what sensors say beside the cells: idle phases, and every meter beside the run's power source."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from harness.verify import devices, rederive, uncertainty
from harness.verify.checks import RAW_REL, Check, equal, same
from harness.verify.evidence import Cell, Evidence


def loaded_idle(evidence: Evidence) -> list[Check]:
    """Work out loaded idle."""
    return _idle(evidence, "idle")


def bare_idle(evidence: Evidence) -> list[Check]:
    """Work out bare idle, and see that it came before any load; where it is not known, the reason must be given."""
    checks, first = _idle(evidence, "bare_idle"), min((cell.quiet_s for cell in evidence.cells), default=math.inf)
    ends = [float(event["t_mono_s"]) for event in evidence.events if event["event"] == "bare_idle_end"]
    if ends:
        checks.append(Check(ends[-1] < first, "measured before the first cell"))
    if evidence.result.get("bare_idle") is None and "bare_idle_unknown" in evidence.result:
        why = evidence.result["bare_idle_unknown"]
        checks.append(Check(bool(why), f"unknown: {why}"))
    return checks


def _idle(evidence: Evidence, phase: str) -> list[Check]:
    times = {event["event"]: float(event["t_mono_s"]) for event in evidence.events}
    reported = evidence.result.get(phase)
    if f"{phase}_start" not in times or f"{phase}_end" not in times:
        return [] if reported is None else [Check(False, "idle watts are reported, but no idle phase was logged")]
    if reported is None:
        return [Check(False, "an idle phase was logged, but is not reported")]
    start_s, end_s = times[f"{phase}_start"], times[f"{phase}_end"]
    gpu_w, charged_w = rederive.watts_at_boundary(evidence.power, evidence.manifest, start_s, end_s)
    return [
        *same("seconds", reported["duration_s"], end_s - start_s),
        *same("W of the GPUs", reported["gpu_watts"], gpu_w, RAW_REL),
        *same(f"W at {reported['boundary']}", reported["watts"], charged_w, RAW_REL),
        *uncertainty.idle_parts(evidence, reported, start_s, end_s),
        *devices.figures_between(evidence, reported, (start_s, end_s)),
        *_meters(evidence, reported, start_s, end_s),
    ]


def meters(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> list[Check]:
    """Work out the figures of every meter beside the run's power source."""
    return _meters(evidence, cell.reported, start_s, end_s)


def _meters(evidence: Evidence, reported: Mapping[str, Any], start_s: float, end_s: float) -> list[Check]:
    described = {meter["name"]: meter for meter in evidence.manifest.get("meters", ())}
    readings = reported.get("meters", ())
    gpu_w = reported["gpu_watts"]
    return [
        Check(found.ok, f"{reading['source']}: {found.text}")
        for reading in readings
        for found in _meter(evidence, described[reading["source"]], reading, (start_s, end_s), gpu_w)
    ]


def _meter(
    evidence: Evidence,
    meter: Mapping[str, Any],
    reading: Mapping[str, Any],
    window_s: tuple[float, float],
    gpu_w: float | None,
) -> Iterator[Check]:
    start_s, end_s = window_s
    meter_w = rederive.summed_watts(evidence.power, meter["device_uuids"], start_s, end_s, meter)
    yield from same("W", reading["watts"], meter_w, RAW_REL)
    yield from same("J", reading["joules"], None if meter_w is None else meter_w * (end_s - start_s), RAW_REL)
    yield from same("gain", reading["gain_rel_u"], meter["gain_rel_u"])
    power = evidence.power
    rows = power[power["uuid"].isin(meter["device_uuids"]) & power["t_mono_s"].between(start_s, end_s)]
    yield equal("readings", reading["readings"], len(rows))
    standing_s = max((rederive.standing_s(own) for _, own in rows.groupby("uuid", observed=True)), default=0.0)
    yield from same("s without a change", reading["longest_repeat_s"], standing_s)
    charged_w = modelled_w = None
    if meter["boundary"] == "node":
        charged_w = rederive.metered_watts(evidence.manifest, meter_w)
        modelled_w = rederive.modelled_watts(evidence.manifest, gpu_w)
    yield from same("W charged", reading["charged_watts"], charged_w, RAW_REL)
    yield from same("W modelled", reading["modelled_watts"], modelled_w, RAW_REL)
    apart = charged_w / modelled_w - 1 if charged_w is not None and modelled_w else None
    yield from same("charged over modelled", reading["difference_rel"], apart, 0, 2 * RAW_REL)
