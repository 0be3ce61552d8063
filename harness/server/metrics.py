"""Read what a vLLM server says of itself on /metrics.

Counters are cumulative since the server started; only differences mean anything. With data parallelism every
engine is a label: counters and queue lengths are summed over it, KV usage is averaged.
"""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class ServerCounters:
    """One scrape of one server; what it does not export is ``None``. Aborted and failed requests are not finished."""

    running: float | None = None
    waiting: float | None = None
    kv_usage_ratio: float | None = None
    generation_tok: float | None = None
    prompt_tok: float | None = None
    preemptions: float | None = None
    ttft_sum_s: float | None = None
    ttft_count: float | None = None
    itl_sum_s: float | None = None
    itl_count: float | None = None
    prefix_queries_tok: float | None = None
    prefix_hits_tok: float | None = None
    finished_requests: float | None = None


_NAMES: dict[str, tuple[str, ...]] = {
    "running": ("vllm:num_requests_running",),
    "waiting": ("vllm:num_requests_waiting",),
    "kv_usage_ratio": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    "generation_tok": ("vllm:generation_tokens_total",),
    "prompt_tok": ("vllm:prompt_tokens_total",),
    "preemptions": ("vllm:num_preemptions_total",),
    "ttft_sum_s": ("vllm:time_to_first_token_seconds_sum",),
    "ttft_count": ("vllm:time_to_first_token_seconds_count",),
    "itl_sum_s": ("vllm:inter_token_latency_seconds_sum", "vllm:time_per_output_token_seconds_sum"),
    "itl_count": ("vllm:inter_token_latency_seconds_count", "vllm:time_per_output_token_seconds_count"),
    "prefix_queries_tok": ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
    "prefix_hits_tok": ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
    "finished_requests": ("vllm:request_success_total",),
}
"""Field to sample names, today's first; a server that exports both must not be counted twice."""

_UNFINISHED = frozenset({"abort", "error"})
"""Reasons under which vLLM counts a request as ended that gave no whole answer."""
_WANTED = frozenset(name for names in _NAMES.values() for name in names)


def parse_counters(text: str) -> ServerCounters:
    """Return the counters in a /metrics answer, summed over engines; raises ``ValueError`` on malformed text."""
    lines = [line for line in text.splitlines() if line.split("{", 1)[0].split(" ", 1)[0] in _WANTED]
    by_name: dict[str, list[float]] = {}
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            if sample.labels.get("finished_reason") in _UNFINISHED:
                continue
            by_name.setdefault(sample.name, []).append(sample.value)
    found = {field: next((by_name[name] for name in names if name in by_name), None) for field, names in _NAMES.items()}
    totals = {field: sum(values) for field, values in found.items() if values}
    if "kv_usage_ratio" in totals:
        totals["kv_usage_ratio"] /= len(found["kv_usage_ratio"] or ())
    return ServerCounters(**totals)
