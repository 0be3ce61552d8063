"""The options of ``harness stress``: default and meaning of each, for the command line and the configuration schema.

They stand apart from the schema so that the command line appears without loading what validates them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple


class Option(NamedTuple):
    """One option: ``None`` as its default means that the node decides."""

    default: Any
    description: str


LARGEST_MULTIPLIER = 1000.0
"""Beyond it outputs would be of millions of tokens."""

STRESS_OPTIONS: Mapping[str, Option] = MappingProxyType(
    {
        "model": Option(None, "Model to serve: a Hugging Face id, a folder, or 'tiny' (random weights, no download)."),
        "tensor_parallel": Option(None, "GPUs per replica."),
        "replicas": Option(None, "Servers to launch; the load is spread over them."),
        "gpu": Option((), "GPU index or UUID to use (repeatable; default: those of CUDA_VISIBLE_DEVICES, else all)."),
        "server_arg": Option((), "Argument passed on to vLLM, e.g. --server-arg=--max-num-seqs=256."),
        "url": Option((), "Running server to use instead of launching one (repeatable)."),
        "workload": Option(
            None,
            "traditional, test-time, small, fixed:500x2000, a trace (azure:, mooncake:, burstgpt:, sharegpt: or "
            "vllm:FILE), task:NAME_OR_FILE or a profile FILE.yaml.",
        ),
        "prompts": Option("random", "What prompts are made of: random (token ids) or text:FILE (slices of a text)."),
        "multiplier": Option(15.0, "Output-length multiplier of the second cell."),
        "concurrency": Option("auto", "Requests kept in flight, or 'auto' to search."),
        "budget": Option(
            None,
            "Most seconds of load a cell; else what its window needs, in 5 minutes a job (GPU an hour); "
            "sweep: 35 (GPU 300).",
        ),
        "order": Option("ab", "Order of the two cells: ab, or abba, which measures each twice and cancels drift."),
        "repeats": Option(1, "Times to do it all on servers started anew, for the spread between runs."),
        "stream_share": Option(0.05, "Share of the requests that stream; 1 makes every one stream, as in production."),
        "arrival": Option(
            "closed", "When to send requests: closed, trace, trace:RATE, poisson:RATE (a second, or 80%)."
        ),
        "clients": Option(1, "Load client processes."),
        "slo_ttft_s": Option(None, "Seconds to the first token that a request within the objective may take."),
        "slo_itl_s": Option(None, "Seconds between tokens that a request within the objective may take."),
        "precision": Option(0.02, "Half width of J/token (95%, relative) at which a cell ends before its budget."),
        "min_window": Option(None, "Seconds of load before a cell may end; GPU 60, else 20."),
        "idle": Option(None, "Seconds of bare and of loaded idle to measure; GPU 60, else 8."),
        "ready_timeout": Option(
            1800.0, "Seconds a launched server may take to become ready, once its weights are downloaded."
        ),
        "keep_server": Option(False, "Leave the launched server running at the end."),
        "power": Option("auto", "GPU power: auto, nvml, simulated or replay:FILE (a run folder or CSV)."),
        "node_meter": Option((), "Meter beside the GPUs (repeatable): redfish, ipmi, hwmon, rapl or replay:FILE."),
        "boundary": Option("auto", "Hardware the joules cover: gpu, node_modelled, or node (metered)."),
        "allocation": Option("share", "Unused GPUs: share (n/N of the node), marginal (above idle) or whole."),
        "node_profile": Option(None, "Node profile: a shipped name or a YAML file."),
        "pue": Option(None, "Measured PUE; without it both sides share Eq. 1's."),
        "tps_model": Option(None, "TPS model file written by harness refit."),
        "metrics_address": Option("127.0.0.1:9477", "HOST:PORT of the Prometheus metrics; 'none' turns them off."),
        "linger": Option(None, "Seconds the metrics outlast the last cell; GPU 15, else 5."),
        "drain": Option(False, "Finish requests in flight at the end of a cell, for exact token counts."),
        "out": Option(Path("results/runs"), "Folder that receives the run folder."),
        "seed": Option(0, "Seed of every random draw."),
    }
)

NOT_FOR_SWEEPS = ("order", "repeats", "arrival")
"""Options of pairs and of open loops: a sweep has cells of its own and keeps each concurrency full."""
