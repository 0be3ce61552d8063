"""The result of ``harness measure``, for a person."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from harness.console.terminal import stdout_console

J_PER_WH = 3600.0


def print_measure(document: dict[str, Any]) -> None:
    """Print joules by device and boundary, how the devices ran, and the verdict with its reasons."""
    console = stdout_console()
    if document["simulated"]:
        console.print("SIMULATED: these joules are invented; no sensor was read")
    console.print(f"{document['window_s']:.3f} s{_what(document)}")
    if document["gpus"]:
        console.print(_device_table(f"{document['source']}, boundary gpu", document["gpus"]))
    for meter in document["meters"]:
        console.print(_device_table(f"{meter['source']}, boundary {meter['boundary']}", meter["devices"]))
    for line in _totals(document):
        console.print(line)
    for gpu in document["gpus"]:
        _print_conditions(console, gpu)
    for sampling in document["sampling"]:
        console.print(_sampling(sampling))
    for note in document["notes"]:
        console.print(f"note: {note}")
    reasons = f": {', '.join(document['reasons'])}" if document["reasons"] else ""
    console.print(f"verdict: {document['verdict']}{reasons}")


def _what(document: dict[str, Any]) -> str:
    if document["command"] is None:
        return ""
    return f"  {' '.join(document['command'])}  (exit code {document['exit_code']})"


def _device_table(title: str, devices: list[dict[str, Any]]) -> Table:
    table = Table(title=title, header_style="bold")
    for name in ("device", "counter J", "integral J", "mean W", "peak W", "edges ± J"):
        table.add_column(name, justify="left" if name == "device" else "right")
    for device in devices:
        figures = ("joules_counter", "joules_integral", "mean_w", "peak_w", "edge_bound_j")
        table.add_row(device["uuid"], *(_number(device[figure]) for figure in figures))
    return table


def _totals(document: dict[str, Any]) -> list[str]:
    lines = [_total(document)]
    if document["node"] is not None:
        lines.append(f"{_total(document['node'])} (profile {document['node']['profile']})")
    elif document["gpus"]:
        lines.append(f"node: unknown ({document['node_why']})")
    return lines + [_total(meter) for meter in document["meters"] if meter["boundary"] != document["boundary"]]


def _total(block: dict[str, Any]) -> str:
    """Return joules, watts and uncertainty of a block at its boundary."""
    if block["joules"] is None:
        return f"{block['boundary']}: unknown"
    rel_u = block["uncertainty"]["combined_rel_u"] or None  # 0 is the simulation's: there is no sensor to be wrong
    error = "uncertainty unknown" if rel_u is None else f"standard uncertainty {rel_u:.1%}"
    peak = f", peak {_number(block['peak_w'])} W" if block.get("peak_w") is not None else ""
    joules, watts = block["joules"], block["mean_w"]
    return f"{block['boundary']}: {joules:.1f} J ({joules / J_PER_WH:.4g} Wh), mean {_number(watts)} W{peak}, {error}"


def _print_conditions(console: Console, gpu: dict[str, Any]) -> None:
    causes = ", ".join(f"{cause} {share:.0%}" for cause, share in gpu["throttling"]["by_cause"].items())
    share = gpu["throttling"]["share"]
    throttled = "throttling unknown" if share is None else f"throttled {share:.0%}" + (f" ({causes})" if causes else "")
    hottest = _number(gpu["temperature_max_c"])
    console.print(f"{gpu['uuid']}: {throttled}, hottest {hottest} C, limit {_number(gpu['power_limit_w'])} W")
    if gpu["processes"]["foreign"] is not False:
        state = "used by others" if gpu["processes"]["foreign"] else "use by others unknown"
        console.print(f"  {state}: {gpu['processes']['why']}")


def _sampling(block: dict[str, Any]) -> str:
    late_s = block["lateness_p99_s"]
    late = "" if late_s is None else f", lateness p99 {1e3 * late_s:.1f} ms"
    cost = "" if block["cpu_share"] is None else f", {block['cpu_share']:.1%} of a core"
    return f"{block['source']} read {block['rounds']} times, {block['missed']} missed{late}{cost}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f}"
