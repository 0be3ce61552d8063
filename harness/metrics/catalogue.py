"""Every metric that is exported: name, type, labels, unit and meaning, written once.

Names are stable and follow Prometheus' conventions: base units, ``_total`` on counters. Everything with joules or watts
carries its source and boundary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.live.state import PHASES
from harness.power.conditions import THROTTLE_CAUSES

Kind = Literal["gauge", "counter", "summary", "histogram"]
Exporter = Literal["run", "node", "both"]

PREDICTION_SOURCE = "eq1"
PROFILE_SOURCE = "node_profile"


@dataclass(frozen=True)
class Definition:
    """One metric; ``by`` tells who exports it: a run, the long-lived exporter of a node, or both."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    unit: str
    meaning: str
    by: Exporter = "both"


_POWER = ("source", "boundary")
_DEVICE = ("device", *_POWER)
_NODE = (*_POWER, "node_profile")

RUN_INFO = Definition("harness_info", "gauge", ("run", "version"), "1", "The run being measured.", "run")
EXPORTER_INFO = Definition("harness_exporter_info", "gauge", ("version",), "1", "The exporter of this node.", "node")
PHASE = Definition(
    "harness_phase", "gauge", ("phase",), "1", f"1 for the phase the run is in, of {', '.join(PHASES)}.", "run"
)
CELL_INFO = Definition("harness_cell_info", "gauge", ("cell",), "1", "The cell being loaded.", "run")
CELL_OUTPUT = Definition(
    "harness_cell_output_tokens", "gauge", ("cell",), "tokens",
    "Mean output of a query of the cell being measured; live energy per query is J/token times it.", "run",
)  # fmt: skip
QUERY_ENERGY = Definition(
    "harness_query_energy_joules", "gauge", ("cell", "kind", "stat", *_POWER), "J",
    "Energy per query, measured or predicted; 3600 J are 1 Wh. Of the measured, stat is mean, ci95_low or ci95_high; "
    "of the predicted mean it is mean, p5, p50 or p95.", "run",
)  # fmt: skip
REQUESTS = Definition(
    "harness_requests_total",
    "counter",
    ("outcome",),
    "requests",
    "Requests the harness sent, by outcome: completed, error, or aborted at the end of a load.",
    "run",
)
CLIENT_LAG = Definition(
    "harness_client_event_loop_lag_seconds", "histogram", ("client",), "s",
    "How late the load client's event loop came to a timer that ticks 50 times a second.", "run",
)  # fmt: skip
CLIENT_CPU = Definition(
    "harness_client_cpu_seconds_total", "counter", ("client",), "s",
    "Processor time of a load client while it ticks; its rate is in cores.", "run",
)  # fmt: skip

POWER = Definition("harness_power_watts", "gauge", _DEVICE, "W", "Power of a device as its sensor reports it.")
ENERGY = Definition(
    "harness_energy_joules_total", "counter", _DEVICE, "J",
    "Energy of a device since the first reading, by its own counter or else by integrating its power.",
)  # fmt: skip
COUNTER_ENERGY = Definition(
    "harness_energy_accumulated_joules_total", "counter", _DEVICE, "J",
    "Energy of a device by its own counter alone; left out where it has none.",
)  # fmt: skip
INTEGRAL_ENERGY = Definition(
    "harness_energy_integrated_joules_total", "counter", _DEVICE, "J",
    "Energy of a device by integrating its power alone; left out where it tells none.",
)  # fmt: skip
DEVICE_UP = Definition(
    "harness_device_up", "gauge", _DEVICE, "1",
    "1 if the last reading of the device carried power or energy, 0 if it failed or the device is lost.",
)  # fmt: skip
READINGS = Definition(
    "harness_power_readings_total", "counter", _DEVICE, "readings",
    "Readings of a device, with those in which something failed.",
)  # fmt: skip
READING_ERRORS = Definition(
    "harness_power_reading_errors_total", "counter", _DEVICE, "readings", "Readings in which something failed."
)
SAMPLES_MISSED = Definition(
    "harness_power_samples_missed_total", "counter", (), "readings", "Power readings missed: deadlines run past."
)
SOURCE_INFO = Definition(
    "harness_power_source_info", "gauge", (*_POWER, "kind"), "1",
    "Where watts come from; kind is measured, replayed (a recording) or simulated (invented).",
)  # fmt: skip
UTILIZATION = Definition(
    "harness_gpu_utilization_ratio", "gauge", _DEVICE, "0 to 1", "Share of time the device was busy."
)
TEMPERATURE = Definition("harness_gpu_temperature_celsius", "gauge", _DEVICE, "°C", "Temperature of the device.")
THROTTLED = Definition(
    "harness_gpu_throttled_seconds_total", "counter", (*_DEVICE, "cause"), "s",
    f"Time that clocks were throttled, by cause, which overlap: {', '.join(THROTTLE_CAUSES.values())}.",
)  # fmt: skip
NODE_POWER = Definition(
    "harness_node_power_watts", "gauge", _NODE, "W",
    "Power of the node, modelled from its GPUs; left out while one does not answer.",
)  # fmt: skip
NODE_ENERGY = Definition(
    "harness_node_energy_joules_total", "counter", _NODE, "J",
    "Energy of the node, modelled from that of its GPUs; left out while one does not answer.",
)  # fmt: skip
NODE_POWER_MAX = Definition(
    "harness_node_power_max_watts", "gauge", _NODE, "W",
    "P_max of the node profile, for the share of the node that is used.",
)  # fmt: skip
PUE = Definition(
    "harness_pue_ratio", "gauge", ("source",), "1",
    "Power usage effectiveness that the energy of a node is multiplied by; source is measured or assumed.",
)  # fmt: skip

RUNNING = Definition("harness_requests_running", "gauge", ("server",), "requests", "Requests the server runs.")
WAITING = Definition("harness_requests_waiting", "gauge", ("server",), "requests", "Requests that queue.")
KV_USAGE = Definition("harness_kv_cache_usage_ratio", "gauge", ("server",), "0 to 1", "Share of the KV cache in use.")
GENERATED = Definition(
    "harness_generated_tokens_total", "counter", ("server",), "tokens", "Output tokens by the server's own counter."
)
PROMPT = Definition(
    "harness_prompt_tokens_total", "counter", ("server",), "tokens", "Input tokens by the server's own counter."
)
FINISHED = Definition(
    "harness_finished_requests_total", "counter", ("server",), "requests",
    "Requests that the server finished, whoever sent them; aborted and failed ones are left out.",
)  # fmt: skip
PREEMPTIONS = Definition(
    "harness_preemptions_total", "counter", ("server",), "preemptions", "Requests the server put off for want of KV."
)
TTFT = Definition(
    "harness_time_to_first_token_seconds", "summary", ("server",), "s",
    "Time to first token by the server's own count and sum; vLLM itself exports the distribution.",
)  # fmt: skip
ITL = Definition(
    "harness_inter_token_latency_seconds", "summary", ("server",), "s",
    "Time between tokens by the server's own count and sum; vLLM itself exports the distribution.",
)  # fmt: skip
SERVER_UP = Definition(
    "harness_server_up", "gauge", ("server",), "1", "1 if the last scrape of the server's /metrics succeeded."
)
SERVER_INFO = Definition("harness_server_info", "gauge", ("server", "url"), "1", "The address of a server in use.")
SERVER_RESTARTS = Definition(
    "harness_server_restarts_total", "counter", ("server",), "restarts",
    "Times that the server's counters began again from zero.",
)  # fmt: skip
RECENT_SPAN = Definition(
    "harness_recent_span_seconds", "gauge", (), "s",
    "How long the figures of the last five minutes are over: less while not all servers have answered for so long.",
    "node",
)  # fmt: skip
RECENT_TOKEN_ENERGY = Definition(
    "harness_recent_token_energy_joules", "gauge", _POWER, "J",
    "Energy per output token over the last five minutes; left out where no token came or a server or device does not "
    "answer.", "node",
)  # fmt: skip
RECENT_QUERY_ENERGY = Definition(
    "harness_recent_query_energy_joules", "gauge", _POWER, "J",
    "Energy per finished request over the last five minutes, idle time and aborted requests borne by them; 3600 J are "
    "1 Wh. Left out where none finished or a server or device does not answer.", "node",
)  # fmt: skip

METRICS: tuple[Definition, ...] = tuple(value for value in list(vars().values()) if isinstance(value, Definition))
"""All of them, in the order above."""
