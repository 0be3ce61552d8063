"""The tabular files of a run: their columns, units and types. A run folder holds each as a folder of parquet parts."""

from __future__ import annotations

import pyarrow as pa

TABLE_SCHEMA_VERSION = "1"


def _schema(*columns: tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema(list(columns), metadata={"table_schema": TABLE_SCHEMA_VERSION})


POWER = _schema(
    ("t_mono_s", pa.float64()),
    ("t_wall_s", pa.float64()),
    ("late_s", pa.float64()),
    ("source", pa.string()),
    ("boundary", pa.string()),
    ("uuid", pa.string()),
    ("power_w", pa.float64()),
    ("energy_j", pa.float64()),
    ("utilization_ratio", pa.float64()),
    ("memory_used_b", pa.int64()),
    ("temperature_c", pa.float64()),
    ("sm_clock_mhz", pa.float64()),
    ("throttle_reasons", pa.int64()),
    ("power_instant_w", pa.float64()),
    ("memory_clock_mhz", pa.float64()),
    ("xid", pa.int64()),
    ("energy_age_s", pa.float64()),
    ("energy_age_bound_s", pa.float64()),
    ("error", pa.string()),
)
"""One row per device and reading; ``energy_j`` is cumulative with an arbitrary zero.

``power_instant_w`` is for traces only.
``throttle_reasons`` is NVML's mask of clock event reasons; ``xid`` an error the driver reported since the row before.
The counter stepped to ``energy_j`` a time of ``energy_age_s`` before ``t_mono_s``, known to +-``energy_age_bound_s``.
"""

SERVER = _schema(
    ("t_mono_s", pa.float64()),
    ("t_wall_s", pa.float64()),
    ("server", pa.int32()),
    ("running", pa.float64()),
    ("waiting", pa.float64()),
    ("kv_usage_ratio", pa.float64()),
    ("generation_tok", pa.float64()),
    ("prompt_tok", pa.float64()),
    ("preemptions", pa.float64()),
    ("ttft_sum_s", pa.float64()),
    ("ttft_count", pa.float64()),
    ("itl_sum_s", pa.float64()),
    ("itl_count", pa.float64()),
    ("prefix_queries_tok", pa.float64()),
    ("prefix_hits_tok", pa.float64()),
    ("error", pa.string()),
)
"""One row per server and scrape; counters are cumulative since the server started.

Prefix-cache queries are prompt tokens that were looked up, hits those whose KV was reused.
"""

REQUESTS = _schema(
    ("cell", pa.string()),
    ("server", pa.int32()),
    ("slot", pa.int32()),
    ("first_fill", pa.bool_()),
    ("streamed", pa.bool_()),
    ("input_tok_sent", pa.int64()),
    ("output_tok_asked", pa.int64()),
    ("send_mono_s", pa.float64()),
    ("first_mono_s", pa.float64()),
    ("end_mono_s", pa.float64()),
    ("prompt_tok", pa.int64()),
    ("output_tok", pa.int64()),
    ("outcome", pa.string()),
    ("error", pa.string()),
    ("client", pa.int32()),
    ("scheduled_mono_s", pa.float64()),
    ("held_back", pa.bool_()),
    ("packets", pa.int64()),
    ("gap_p50_s", pa.float64()),
    ("gap_p99_s", pa.float64()),
    ("gap_max_s", pa.float64()),
    ("task", pa.int64()),
    ("task_step", pa.int32()),
    ("task_sample", pa.int32()),
    ("task_last_step", pa.bool_()),
    ("token_ids_tok", pa.int64()),
)
"""One row per request; ``prompt_tok`` and ``output_tok`` are the server's usage.

``scheduled_mono_s`` is when an open-loop request was due; ``gap_*`` are between packets, which are not tokens.
``task`` numbers the tasks of a cell, ``task_step`` and ``task_sample`` count from 0; ``token_ids_tok`` is how many
ids of generated tokens the server returned, null where not asked for.
"""

CLIENT = _schema(
    ("t_mono_s", pa.float64()),
    ("client", pa.int32()),
    ("lag_s", pa.float64()),
    ("cpu_s", pa.float64()),
)
"""One row per deadline of a load client's timer: how late its event loop came, and the process's CPU time by then."""

TABLES: dict[str, pa.Schema] = {"power": POWER, "server": SERVER, "requests": REQUESTS, "client": CLIENT}
TIME_COLUMNS = {name: "end_mono_s" if name == "requests" else "t_mono_s" for name in TABLES}
"""When a row was written, about: a request's when it ended."""
