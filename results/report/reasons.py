"""Reason codes and parts of uncertainty in words."""

from __future__ import annotations

REASONS = {
    "gpu_lost": "A GPU stopped answering: the power of the rest says nothing about the whole.",
    "sensor_error": "More than 5% of the power readings failed.",
    "sensor_stuck": "The energy counter, or without one the power, stood still under load, as no working sensor does.",
    "counter_reset": "The energy counter went backwards in the window.",
    "window_not_covered": "There are no power readings over the whole window.",
    "no_window": "The cell ended before there was any window to take figures from.",
    "no_steady_state": "Throughput, power or KV-cache use never settled; the reason beside it says how it moved.",
    "no_tokens": "The servers generated no tokens in the window.",
    "server_lost": "A server died under load.",
    "interrupted": "The cell was cut short.",
    "too_many_errors": "More than 1% of the requests failed.",
    "lengths_not_forced": "The server did not generate the lengths asked for, so the workload is another one.",
    "lengths_as_served": "The server chose its own output lengths: the figures are of the mean length it served.",
    "usage_incomplete": "Requests were cut off on a server that counts no tokens: what they generated is not known.",
    "token_count_mismatch": "The server's token counter and the usage of its requests contradict each other.",
    "drift": "Throughput or power changed by over 2% of its mean, or KV-cache use by over 2 points, in the window.",
    "level_shift": "Throughput, power or KV-cache use stepped from one level to another in the window.",
    "cohorts_in_step": "Requests began together and march in step, so that throughput swings with their length.",
    "rate_collapses": "Throughput and KV-cache use fell away together for seconds at a time, as in preemption storms.",
    "steadiness_unproven": "A change below 2% could not be shown: the window may be steady or may not.",
    "window_too_short": "The window is shorter than asked for, or too few scrapes or requests show slow changes.",
    "autocorrelation_too_long": "The window is short against the memory of its noise: its interval may not hold.",
    "ramp_not_over": "The beginning of the log still differs from the rest: the ramp may not be over.",
    "precision_not_reached": "The budget ended before J/token was known to the target.",
    "saturation_unproven": "Neither within 5% of the ladder's best throughput nor queueing in 95% of scrapes.",
    "config_limited": "The queue is one of max_num_seqs while KV memory is free: a larger batch would serve more.",
    "client_bound": "The load client may have set the pace, not the server.",
    "power_gap": "Power readings are missing for a while within the window.",
    "counter_integral_disagree": "The energy counter and the integral of power differ by more than 3%.",
    "meter_silent": "The meter gave no readings over the window.",
    "meter_stale": "The meter repeated one value for more than half of the window.",
    "hardware_throttled": "Heat or a slowdown from outside held the clocks down in more than 5% of the readings.",
    "ecc_uncorrected": "A GPU had uncorrected memory errors: what it computed may be wrong.",
    "xid_error": "The driver reported a GPU fault during the load; at what cost it was overcome is unknown.",
    "power_limit_changed": "The power limit changed during the load: the figures mix two settings.",
    "foreign_processes": "Processes of others computed on a GPU: the joules cover their work too.",
    "gpu_unused": "A GPU whose joules are counted did nothing: --gpu leaves out those that the server does not use.",
}  # fmt: skip

VERDICTS = {
    "valid": "Nothing speaks against the figures.",
    "suspect": "Something may have moved the figures: read the reasons before using them, and do not publish them.",
    "invalid": "The figures are wrong or mean something else: do not use them.",
}

UNCERTAINTY_PARTS = {
    "random": ("random", "scatter of J/token between batches of the window; a longer window makes it smaller"),
    "sensor_gain": ("systematic", "the power sensor's gain, common to all devices; no repetition shows it"),
    "meter_gain": ("systematic", "the node meter's gain; no repetition shows it"),
    "node_model": ("systematic", "offset and slope of the node model"),
    "node_idle": ("systematic", "idle power of the node, where the allocation rule charges for it"),
    "clock_edges": ("systematic", "the window's two edges in time"),
    "token_count": ("systematic", "the window's two edges in tokens"),
}


def reason_words(code: str) -> str:
    """Return a reason code in words.

    >>> reason_words("no_tokens")
    'The servers generated no tokens in the window.'
    """
    return REASONS.get(code, "This version of the report has no words for this code; the run was made by another one.")
