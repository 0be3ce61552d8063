"""The tables of a run's report: what was found, how certain it is, and what it was measured with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from results.report.reasons import UNCERTAINTY_PARTS, VERDICTS, reason_words
from results.report.view import RunView
from results.report.words import (
    NOT_KNOWN,
    duration,
    interval,
    percent,
    query_boundary,
    sig,
    signed,
    tokens,
)
from results.schema import CellResult, DeviceResult, IdleResult, MeterReading

FEW_CELLS = 4


@dataclass(frozen=True)
class Table:
    """A table: the first of each row names it; ``note`` is a line below, verdicts in ``verdict_column`` are badges."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    numeric: bool = True
    verdict_column: int | None = None


def verdict_table(view: RunView) -> Table:
    """Return the verdicts with the cells that have them, then every reason in words with its cells."""
    verdicts = {verdict: [c for c in view.cells if c.verdict == verdict] for verdict in ("invalid", "suspect", "valid")}
    codes = dict.fromkeys(code for cell in view.cells for code in cell.reasons)
    rows = [(verdict, VERDICTS[verdict], _listed(found, view.cells)) for verdict, found in verdicts.items() if found]
    rows += [
        (code, reason_words(code), _listed([cell for cell in view.cells if code in cell.reasons], view.cells))
        for code in codes
    ]
    head = ("verdict or reason", "in words", "cells")
    return Table("Verdicts and their reasons", head, tuple(rows), numeric=False, verdict_column=0)


def _listed(cells: Sequence[CellResult], every: Sequence[CellResult]) -> str:
    return f"all {len(every)}" if len(cells) == len(every) > 1 else ", ".join(cell.name for cell in cells)


def cells_table(view: RunView) -> Table:
    """Return the figures of all cells: quantities as rows for a few, cells as rows for many."""
    cells = view.result.cells
    if not cells:
        return Table("Cells", ("cell",), (), "no cell was measured")
    columns = [_quantities(cell) for cell in cells]
    names = tuple(name for name, _ in columns[0])
    if len(cells) <= FEW_CELLS:
        head = ("quantity", *(f"{cell.name} {cell.workload}" for cell in cells))
        rows = tuple((name, *(column[row][1] for column in columns)) for row, name in enumerate(names))
        return Table("Cells", head, rows, _cells_note(view))
    keep = [number for number, name in enumerate(names) if name not in _LEFT_OUT_OF_LONG_TABLES]
    kept_rows = tuple(
        (cell.name, cell.verdict, *(column[n][1] for n in keep)) for cell, column in zip(cells, columns, strict=True)
    )
    head = ("cell", "verdict", *(names[n] for n in keep))
    return Table("Cells", head, kept_rows, _cells_note(view), verdict_column=1)


_LEFT_OUT_OF_LONG_TABLES = {
    "verdict", "Wh/query, median (allocated)", "ln ratio: power", "ln ratio: length", "ln ratio: TPS", "ln ratio: PUE",
    "time to first token, median", "inter-token latency, median", "Wh/query boundary",
}  # fmt: skip


def _cells_note(view: RunView) -> str:
    run = view.result.run
    return (
        f"Watts and J/token are at the boundary {run.boundary} ({run.power_source}), without PUE; Wh/query has PUE "
        "where the node is covered. The interval of J/token is of the random error alone, that of Wh/query of all "
        "errors. The allocated median is the median length at the mean J/token, not a measured energy of any query."
    )


def _quantities(cell: CellResult) -> list[tuple[str, str]]:
    energy, predicted, split = cell.wh_per_query, cell.predicted_wh_per_query, cell.split
    ttft, itl = cell.ttft_s, cell.itl_s
    return [
        ("verdict", cell.verdict + (f": {', '.join(cell.reasons)}" if cell.reasons else "")),
        ("requests in flight", f"{cell.concurrency:,}"),
        ("input tokens, mean", tokens(cell.mean_input_tok)),
        ("output tokens, mean", output_tokens(cell)),
        ("output tokens, median (asked for)", tokens(cell.median_output_tok)),
        ("TPS (tok/s)", sig(cell.tps_tok_per_s, 4)),
        (f"W ({cell.power_source})", sig(cell.watts, 4)),
        (f"J/token ({cell.power_source})", sig(cell.joules_per_tok, 4)),
        ("J/token, 95% (random)", interval(cell.joules_per_tok_ci95, 4)),
        (f"Wh/query measured, mean ({cell.power_source})", sig(energy.mean if energy else None, 4)),
        ("Wh/query, 95% (all errors)", interval(energy.ci95 if energy else None, 4)),
        ("Wh/query, median (allocated)", sig(energy.p50 if energy else None, 4)),
        ("Wh/query boundary", query_boundary(cell)),
        ("Wh/query predicted, mean", sig(predicted.mean, 4) if predicted else "no prediction"),
        ("predicted P5 to P95 of the mean", interval((predicted.p5, predicted.p95)) if predicted else "no prediction"),
        ("measured / predicted", sig(cell.ratio, 4)),
        ("ln ratio: power", _signed(split.power if split else None)),
        ("ln ratio: length", _signed(split.length if split else None)),
        ("ln ratio: TPS", _signed(split.tps if split else None)),
        ("ln ratio: PUE", _signed(split.pue if split else None)),
        ("window", _window(cell)),
        ("time to first token, median", NOT_KNOWN if ttft is None or ttft.p50_s is None else f"{sig(ttft.p50_s)} s"),
        ("inter-token latency, median", NOT_KNOWN if itl is None or itl.p50_s is None else f"{sig(itl.p50_s)} s"),
        ("GPU utilisation", percent(cell.gpu_utilization_ratio)),
        ("KV cache in use", percent(cell.kv_usage_ratio)),
        ("scrapes with a queue", percent(cell.queue_share)),
        ("requests completed / errors", f"{cell.requests.completed:,} / {cell.requests.errors:,}"),
        ("limited by", cell.binding),
    ]  # fmt: skip


def output_tokens(cell: CellResult) -> str:
    """Return the mean output length that Wh/query is of, and what was asked for where the server chose another."""
    served = tokens(cell.served_output_tok)
    if cell.served_output_tok == cell.mean_output_tok:
        return served
    return f"{served} as served (asked for {tokens(cell.mean_output_tok)})"


def _signed(value: float | None) -> str:
    return NOT_KNOWN if value is None else signed(value)


def _window(cell: CellResult) -> str:
    if cell.window is None:
        return "none"
    return f"{duration(cell.window.duration_s)}, {sig(cell.window.mean_requests, 2)} mean requests"


def uncertainty_table(view: RunView) -> Table | None:
    """Return the parts of the uncertainty of each cell's energy, or None where no cell has any energy."""
    cells = [cell for cell in view.result.cells if cell.wh_per_query]
    if not cells:
        return None
    shown = (
        cells if len(cells) <= FEW_CELLS else [cell for cell in cells if cell.role == "compared"] or cells[:FEW_CELLS]
    )
    parts = list(
        dict.fromkeys(name for cell in shown if cell.wh_per_query for name in cell.wh_per_query.uncertainty_parts_rel)
    )
    rows = [
        (part, *UNCERTAINTY_PARTS.get(part, ("unknown", "a part that this version has no words for")),
         *(percent(cell.wh_per_query.uncertainty_parts_rel.get(part)) for cell in shown if cell.wh_per_query))
        for part in parts
    ]  # fmt: skip
    combined = (percent(cell.wh_per_query.standard_uncertainty_rel) for cell in shown if cell.wh_per_query)
    rows.append(("combined", "", "root of the sum of squares (JCGM 100)", *combined))
    return Table(
        "Uncertainty of the measured Wh/query",
        ("part", "kind", "what it is", *(cell.name for cell in shown)),
        tuple(rows),
        "Relative standard uncertainties (k = 1), PUE taken as exact. n/a: not known, and then nor is the combined one."
        + (" The watts are simulated, so no part says anything of a real sensor." if view.simulated else ""),
    )


def meters_table(view: RunView) -> Table | None:
    """Return what every meter beside the run's power source said, or None without meters."""
    readings = [
        (where, reading)
        for where, found in (
            *((cell.name, cell.meters) for cell in view.result.cells),
            *((name, idle.meters) for name, idle in _idles(view)),
        )
        for reading in found
    ]
    if not readings:
        return None
    return Table(
        "Meters beside the power source",
        ("where", "meter", "covers", "W", "charged to the run, W", "node model, W", "difference", "gain u", "reasons"),
        tuple(_meter_row(where, reading) for where, reading in readings),
        "Difference: charged over modelled, less 1. A meter of CPU and DRAM is part of a node and never added to it.",
    )


def _meter_row(where: str, reading: MeterReading) -> tuple[str, ...]:
    return (
        where,
        reading.source,
        reading.boundary,
        sig(reading.watts, 4),
        sig(reading.charged_watts, 4),
        sig(reading.modelled_watts, 4),
        NOT_KNOWN if reading.difference_rel is None else f"{reading.difference_rel:+.1%}",
        percent(reading.gain_rel_u),
        ", ".join(reading.reasons) or "none",
    )


def devices_table(view: RunView) -> Table | None:
    """Return energy and conditions of each device in each cell, or None where none were stored."""
    rows = [(cell.name, device) for cell in view.result.cells for device in cell.devices]
    if not rows:
        return None
    return Table(
        "Devices",
        ("cell", "device", "W", "J by counter", "integral over counter", "throttled", "hottest, °C", "SM clock, MHz",
         "limit, W", "memory, GiB", "ECC new, corrected / not", "XID", "others' processes", "reasons"),
        tuple((name, *_device_row(device)) for name, device in rows),
        "Throttled: share of readings, by any cause but idle and chosen clocks. n/a: the source does not tell."
        + (" The watts and joules are simulated." if view.simulated_gpus else ""),
    )  # fmt: skip


def _device_row(device: DeviceResult) -> tuple[str, ...]:
    causes = ", ".join(f"{cause} {percent(share)}" for cause, share in (device.throttled_by_cause or {}).items())
    memory = None if device.memory_max_b is None else device.memory_max_b / 2**30
    foreign = {None: "unknown", True: "yes", False: "no"}[device.foreign_processes]
    return (
        device.uuid,
        sig(device.mean_w, 4),
        sig(device.joules_counter, 4),
        NOT_KNOWN if device.integral_difference_rel is None else f"{device.integral_difference_rel:+.2%}",
        percent(device.throttled_share) + (f" ({causes})" if causes else ""),
        sig(device.temperature_max_c),
        sig(device.sm_clock_mean_mhz, 4),
        sig(device.power_limit_w, 4),
        sig(memory),
        f"{_count(device.ecc_corrected)} / {_count(device.ecc_uncorrected)}",
        NOT_KNOWN if device.xids is None else ", ".join(map(str, device.xids)) or "none",
        foreign + (f": {device.foreign_processes_why}" if device.foreign_processes is None else ""),
        ", ".join(device.reasons) or "none",
    )


def _count(value: int | None) -> str:
    return NOT_KNOWN if value is None else f"{value:,}"


def _idles(view: RunView) -> list[tuple[str, IdleResult]]:
    found = (("bare idle", view.result.bare_idle), ("loaded idle", view.result.idle))
    return [(name, idle) for name, idle in found if idle is not None]


def idle_table(view: RunView) -> Table | None:
    """Return power without requests, or None where it was not measured."""
    rows = [
        (name, sig(idle.watts, 4), sig(idle.gpu_watts, 4), duration(idle.duration_s), ", ".join(idle.reasons) or "none")
        for name, idle in _idles(view)
    ]
    if not rows:
        return None
    run = view.result.run
    why = f"Bare idle is unknown: {view.result.bare_idle_unknown}." if view.result.bare_idle_unknown else ""
    head = ("phase", f"W ({run.boundary}, {run.power_source})", "W of the GPUs", "over", "reasons")
    return Table("Power without requests", head, tuple(rows), why)
