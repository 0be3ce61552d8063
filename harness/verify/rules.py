"""The rules of ``harness verify``, in the order they are printed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from harness.verify import (
    clients,
    compared,
    copies,
    devices,
    figures,
    judged,
    record,
    sensing,
    sensors,
    swept,
    tasks,
    uncertainty,
    verdicts,
    windows,
)
from harness.verify.checks import Check, Finding, Rule, by_cell, by_window
from harness.verify.covered import coverage
from harness.verify.evidence import Evidence

NO_TASKS = "no cell replays tasks"
NO_WINDOW = "no cell has a window with such figures"
NO_PREDICTION = "the run has no prediction"
NO_HASHES = "the run has not ended, and has no hashes.json yet"
NO_DEVICES = "the run does not report its devices"
NO_JOULES = "no cell has an energy per token"
NO_SWEEP = "the run is no sweep"
NO_PAIR = "the run has no pair of a plain and a multiplied cell"


def _listed(check: Callable[[Evidence], Iterable[Check]]) -> Callable[[Evidence], list[Check]]:
    return lambda evidence: list(check(evidence))


RULES = (
    Rule("schemas", "every document can be read by its schema", _listed(record.schemas), "no document"),
    Rule("hashes", "no file has changed since the run ended", record.hashes, NO_HASHES),
    Rule(
        "cells",
        "every cell of the log is reported, as defined before its load",
        record.cells,
        "no cell",
        covers=(
            "cells.multiplier",
            "cells.concurrency",
            "cells.mean_input_tok",
            "cells.mean_output_tok",
            "cells.median_output_tok",
            "cells.capped_share",
            "cells.doubling_gain_rel",
        ),
    ),
    Rule("run", "the result names the run of the manifest", copies.run_summary, "no run", covers=("run.*",)),
    Rule("cell_files", "cells/*.json say what result.json says", copies.cell_files, "the run has no such files"),
    Rule("cells_csv", "cells.csv says what result.json says", copies.cells_csv, "the run has no such file"),
    Rule(
        "prediction_first",
        "the prediction was stored before the first cell compared with it, and has not changed",
        _listed(record.prediction_came_first),
        NO_PREDICTION,
    ),
    Rule(
        "prediction",
        "each predicted mean is Eq. 1 of its stored inputs; their means are those of their distributions",
        compared.prediction_by_hand,
        NO_PREDICTION,
    ),
    Rule(
        "prediction_reported",
        "predictions are reported as stored",
        by_cell(compared.prediction_as_stored),
        NO_PREDICTION,
        covers=("cells.predicted_wh_per_query.*",),
    ),
    Rule(
        "windows",
        "windows lie under load, after fill and warm-up, and begin and end at scrapes",
        by_window(record.windows),
        NO_WINDOW,
        covers=("cells.window.start_mono_s", "cells.window.end_mono_s", "cells.window.duration_s"),
    ),
    Rule("boundaries", "every cell says boundary and source of its joules", by_cell(record.boundary_labels), "no cell"),
    Rule("simulated", "simulated joules are called so everywhere", record.simulated_said, "no simulated power"),
    Rule(
        "tps",
        "TPS is tokens over the window's time",
        by_window(figures.throughput),
        NO_WINDOW,
        covers=("cells.tps_tok_per_s",),
    ),
    Rule(
        "tps_error",
        "the error of TPS is that of batch means and of tokens at the window's edges",
        by_window(uncertainty.throughput_error),
        NO_WINDOW,
        covers=("cells.tps_ci95", "cells.tps_standard_uncertainty_rel"),
    ),
    Rule(
        "watts",
        "watts are the counters' difference, else integrated power, lifted to the boundary, within 0.5%",
        by_window(figures.watts),
        NO_WINDOW,
        covers=("cells.watts", "cells.gpu_watts"),
    ),
    Rule(
        "counter_integral",
        "counter and integrated power over 3% apart are reported",
        by_window(figures.counter_and_integral),
        "no GPU has both a counter and power readings over a window",
    ),
    Rule(
        "meters",
        "figures of every meter beside the source",
        by_window(sensors.meters),
        "the run has no further meter",
        covers=("cells.meters.*",),
    ),
    Rule("devices", "every device of the run is reported", devices.by_stretch(devices.every_device), NO_DEVICES),
    Rule(
        "device_figures",
        "joules by counter and integral, throttling by cause and use of each device over the window",
        by_cell(devices.in_window),
        NO_DEVICES,
        covers=(
            "cells.devices.mean_w",
            "cells.devices.joules_*",
            "cells.devices.integral_difference_rel",
            "cells.devices.*_max_*",
            "cells.devices.*_mean_*",
            "cells.devices.throttled_*",
        ),
    ),
    Rule(
        "device_states",
        "ECC and XID errors, power limit and others' processes of each device around the load",
        devices.by_stretch(devices.around_load),
        NO_DEVICES,
        covers=("cells.devices.ecc_*", "cells.devices.power_limit_w", "cells.devices.xids"),
    ),
    Rule(
        "device_reasons",
        "devices, cells and idle phases have the reasons that the devices' figures call for",
        devices.by_stretch(devices.reasons),
        NO_DEVICES,
    ),
    Rule(
        "sensor_reasons",
        "devices, meters, cells and idle phases have the reasons that the sensors' readings call for",
        devices.by_stretch(sensing.sensor_reasons),
        NO_DEVICES,
    ),
    Rule(
        "joules_per_token",
        "J/token is joules over tokens, within its interval",
        by_cell(figures.energy_per_token),
        NO_JOULES,
        covers=("cells.joules_per_tok",),
    ),
    Rule(
        "window_choice",
        "a window begins after the ramp and ends with the first look that nothing speaks against, or with the load",
        by_window(windows.chosen),
        NO_WINDOW,
    ),
    Rule(
        "autocorrelation",
        "the autocorrelation time is the longest of throughput, power and J/token, by direct sums",
        by_window(windows.memory),
        NO_WINDOW,
        covers=("cells.window.autocorrelation_s",),
    ),
    Rule(
        "changes",
        "a line through batches of each rate changes as reported, and is known as well",
        by_window(windows.changes),
        NO_WINDOW,
        covers=("cells.window.changes.*",),
    ),
    Rule(
        "window_size",
        "requests in a window are its tokens over theirs; batches are as long as a request and 5 autocorrelation times",
        by_window(windows.size),
        NO_WINDOW,
        covers=("cells.window.mean_requests", "cells.window.batches"),
    ),
    Rule(
        "random_error",
        "the random error and J/token's interval are those of batch means",
        by_window(figures.random_error),
        NO_JOULES,
        covers=("cells.joules_per_tok_ci95", "cells.wh_per_query.uncertainty_parts_rel.random"),
    ),
    Rule(
        "uncertainty",
        "the parts of the uncertainty add up in quadrature",
        by_cell(figures.combined_error),
        NO_JOULES,
        covers=("cells.wh_per_query.standard_uncertainty_rel",),
    ),
    Rule(
        "uncertainty_parts",
        "the systematic parts of the uncertainty follow from sensor, node model and edges",
        by_window(uncertainty.parts),
        NO_JOULES,
        covers=("cells.wh_per_query.uncertainty_parts_rel.*",),
    ),
    Rule(
        "interval",
        "the 95% interval of Wh/query is that of other random draws of the same errors",
        by_window(uncertainty.interval),
        NO_JOULES,
        covers=("cells.wh_per_query.ci95",),
    ),
    Rule(
        "wh_per_query",
        "Wh/query is Eq. 1 of what was measured",
        by_cell(figures.measured_eq1),
        NO_JOULES,
        covers=(
            "cells.wh_per_query.mean",
            "cells.wh_per_query.output_tok",
            "cells.wh_per_query.p50",
            "cells.wh_per_query.mean_without_pue",
            "cells.wh_per_query.pue",
        ),
    ),
    Rule(
        "ratio", "the ratio is measured over predicted", by_cell(compared.ratio), NO_PREDICTION, covers=("cells.ratio",)
    ),
    Rule(
        "split",
        "the terms of the split are re-derived and add up to ln of the ratio",
        by_cell(compared.split),
        NO_PREDICTION,
        covers=("cells.split.*",),
    ),
    Rule(
        "tokens",
        "usage <= counter <= usage plus what others asked for, or a mismatch is reported",
        by_cell(judged.token_check),
        "no cell",
        covers=("cells.tokens.*",),
    ),
    Rule(
        "requests",
        "requests are counted by outcome",
        by_cell(figures.request_counts),
        "no cell",
        covers=("cells.requests.*",),
    ),
    Rule(
        "latencies",
        "latencies are those of the streamed requests due in the window",
        by_window(figures.latencies),
        NO_WINDOW,
        covers=("cells.ttft_s.*", "cells.itl_s.*"),
    ),
    Rule(
        "client",
        "the health of the load clients is that of their ticks and of the requests",
        by_window(clients.client_health),
        "the run has no record of its clients",
        covers=("cells.client.*",),
    ),
    Rule(
        "goodput",
        "goodput is the share of streamed requests within the objective",
        by_window(clients.goodput),
        "no objective was given",
        covers=("cells.goodput.*",),
    ),
    Rule(
        "gauges",
        "queue, KV usage, preemptions and utilisation over the window",
        by_window(figures.gauges),
        NO_WINDOW,
        covers=("cells.queue_share", "cells.kv_usage_ratio", "cells.preemptions", "cells.gpu_utilization_ratio"),
    ),
    Rule(
        "prefix_cache",
        "the prefix cache's share of prompt tokens is that of the server's counters",
        by_window(tasks.prefix_cache),
        "no server says that it looked up a prefix",
        covers=("cells.prefix_cache_hit_ratio",),
    ),
    Rule(
        "tasks",
        "tokens, requests and number of whole tasks",
        by_cell(tasks.task_shape),
        NO_TASKS,
        covers=("cells.task.mean_*", "cells.task.cut_share"),
    ),
    Rule(
        "tasks_completed",
        "tasks that ended in the window",
        by_window(tasks.tasks_completed),
        NO_TASKS,
        covers=("cells.task.completed", "cells.task.own_output_share"),
    ),
    Rule(
        "wh_per_task",
        "Wh/task is Wh/query times the requests of a task",
        by_cell(tasks.task_energy),
        NO_TASKS,
        covers=(
            "cells.task.wh_per_task",
            "cells.task.ci95",
            "cells.task.predicted_wh_per_task",
            "cells.task.served_output_tok",
        ),
    ),
    Rule(
        "saturation",
        "saturation is shown, or called unproven",
        by_window(judged.saturation),
        "no cell is to be saturated",
    ),
    Rule(
        "config_limited",
        "a batch limit that holds throughput down is reported",
        by_window(judged.config_limited),
        "max_num_seqs binds in no cell",
    ),
    Rule(
        "steadiness",
        "what speaks against a window by its length, ramp, changes and precision is a reason, and only that",
        by_cell(judged.steadiness),
        NO_WINDOW,
    ),
    Rule("reasons", "what the record shows to be wrong is a reason", by_cell(judged.reasons_of_facts), "no cell"),
    Rule("known_reasons", "every reason code is known", judged.known_reasons, "no cell"),
    Rule(
        "verdict",
        "verdicts follow from the reasons that are worked out, and these are the reported ones",
        by_cell(verdicts.verdict),
        "no cell",
    ),
    Rule(
        "idle",
        "loaded idle watts are those of the idle phase",
        sensors.loaded_idle,
        "the run has no idle phase",
        covers=("idle.*",),
    ),
    Rule(
        "bare_idle",
        "bare idle watts are those of the phase before launch, or unknown with a reason",
        sensors.bare_idle,
        "the run says nothing of bare idle",
        covers=("bare_idle.*",),
    ),
    Rule(
        "energy_ratio",
        "the energy ratio is that of its pairs of cells",
        compared.energy_ratio,
        NO_PAIR,
        covers=(
            "energy_ratio.measured",
            "energy_ratio.multiplier",
            "energy_ratio.pairs",
            "energy_ratio.exponent",
            "energy_ratio.eq1",
            "energy_ratio.paper_reference",
        ),
    ),
    Rule(
        "ratio_interval",
        "error and intervals of the energy ratio are those of its cells",
        uncertainty.ratio_interval,
        NO_PAIR,
        covers=("energy_ratio.measured_*", "energy_ratio.exponent_ci95"),
    ),
    Rule("ratio_verdict", "the energy ratio has the worst verdict of its cells", judged.ratio_verdict, NO_PAIR),
    Rule("sweep", "sweep.json says of its cells what result.json says", swept.lines, NO_SWEEP),
    Rule("sweep_knee", "knee and cost of unsaturated serving follow from the ladder", swept.ladder, NO_SWEEP),
    Rule("sweep_exponents", "energy exponents are slopes over the grid", swept.exponents, "the run has no such grid"),
)


def apply_rules(evidence: Evidence) -> tuple[Finding, ...]:
    """Return what every rule finds of a run, and whether the rules that applied leave a number out."""
    found = tuple(rule.find(evidence) for rule in RULES)
    return (*found, coverage(evidence, RULES, found))
