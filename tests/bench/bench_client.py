"""What the load client costs: CPU per token beside ``vllm bench serve``, and how many tokens one core can take.

Both clients load the same stub, which gives every open request one token at each step, in the same run. What a client
costs is the CPU time of its whole process, less that of a process that starts and does nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.bench.drive_client import PROMPT_TOK
from tests.bench.record import record
from tests.fakes.stepping_stub import MODEL, stepping_stub
from workloads.tiny_model import write_tiny_model

STREAMS, STEPS_PER_S, OUTPUT_TOK = 256, 50, 1_000
REQUEST_S = OUTPUT_TOK / STEPS_PER_S
STREAMING_LIMIT, DEFAULT_LIMIT, DEFAULT_SHARE = 0.7, 0.1, 0.05
LONG_PROMPT_TOK = 5_000
MANY_STREAMS, MANY_TOK_PER_S, LAG_LIMIT_S = 512, 25_000, 0.05

# The command line of vLLM needs a distribution called vllm; this is what its ``bench serve`` calls.
VLLM_BENCH = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""


def cpu_s(argv: Sequence[str]) -> tuple[float, str]:
    """CPU seconds of a whole process, and what it printed."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdout is not None
    with process.stdout:
        output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, output
    return usage.ru_utime + usage.ru_stime, output


def drive(url: str, *words: object) -> tuple[float, dict[str, Any]]:
    seconds, output = cpu_s([sys.executable, "-m", "tests.bench.drive_client", url, *map(str, words)])
    document: dict[str, Any] = json.loads(output)
    assert document.get("errors", 0) == document.get("wrong_counts", 0) == 0
    return seconds, document


def vllm_bench_s(url: str, tokenizer: Path, result: Path, requests: int, output_tok: int) -> float:
    seconds, _ = cpu_s(
        [
            sys.executable, "-c", VLLM_BENCH, "--backend", "openai", "--base-url", url, "--endpoint", "/v1/completions",
            "--model", MODEL, "--tokenizer", str(tokenizer), "--dataset-name", "random", "--ignore-eos",
            "--random-input-len", str(PROMPT_TOK), "--random-output-len", str(output_tok), "--disable-tqdm",
            "--num-prompts", str(requests), "--max-concurrency", str(STREAMS), "--save-result",
            "--result-dir", str(result.parent), "--result-filename", result.name,
        ]
    )  # fmt: skip
    document = json.loads(result.read_text())
    assert document["total_output_tokens"] == requests * output_tok
    return seconds


@pytest.mark.timeout(600)
def test_the_client_costs_a_fraction_of_vllm_bench_serve(tmp_path: Path) -> None:
    tokenizer = write_tiny_model(tmp_path / "model")
    with stepping_stub(STEPS_PER_S) as url:
        vllm_start_s = vllm_bench_s(url, tokenizer, tmp_path / "tiny.json", 1, 2)
        vllm_s = vllm_bench_s(url, tokenizer, tmp_path / "full.json", STREAMS, OUTPUT_TOK) - vllm_start_s
        start_s, _ = drive(url)
        streaming_s, streaming = drive(
            url, "--streams", STREAMS, "--share", 1.0, "--output-tok", OUTPUT_TOK, "--seconds", 1.25 * REQUEST_S
        )
        default_s, default = drive(
            url, "--streams", STREAMS, "--share", DEFAULT_SHARE, "--output-tok", OUTPUT_TOK, "--seconds", 2 * REQUEST_S
        )
    vllm_us = vllm_s / (STREAMS * OUTPUT_TOK) * 1e6
    streaming_us = (streaming_s - start_s) / streaming["all_tok"] * 1e6
    default_us = (default_s - start_s) / default["all_tok"] * 1e6
    lines = [
        f"{STREAMS} streams stepped {STEPS_PER_S} times a second, {OUTPUT_TOK:,} tokens a request; CPU per token "
        "of the whole process less its own start-up",
        f"`vllm bench serve`: {vllm_us:.2f} us (start-up of {vllm_start_s:.1f} s taken off)",
        f"harness, all streaming: {streaming_us:.2f} us, {streaming_us / vllm_us:.2f}x (limit {STREAMING_LIMIT:g}x; "
        f"start-up of {start_s:.1f} s taken off)",
        f"harness, 5% streamed probes: {default_us:.2f} us, {default_us / vllm_us:.3f}x (limit {DEFAULT_LIMIT:g}x)",
    ]
    print("", *lines, sep="\n")
    assert streaming_us <= STREAMING_LIMIT * vllm_us
    assert default_us <= DEFAULT_LIMIT * vllm_us
    record("Load client: cost per token", lines)


@pytest.mark.timeout(180)
def test_prompts_of_5_000_tokens_do_not_stall_the_client() -> None:
    with stepping_stub(STEPS_PER_S) as url:
        _, figures = drive(
            url, "--streams", STREAMS, "--share", DEFAULT_SHARE, "--prompt-tok", LONG_PROMPT_TOK,
            "--output-tok", OUTPUT_TOK, "--warm-s", REQUEST_S, "--seconds", 1.5 * REQUEST_S,
        )  # fmt: skip
    request_ms = 1e3 * figures["warm_cpu_s"] / figures["warm_requests"]
    lines = [
        f"{STREAMS} in flight, {LONG_PROMPT_TOK:,} input and {OUTPUT_TOK:,} output tokens, 5% streamed probes, after "
        f"the first fills: {figures['warm_requests']:,} requests",
        f"{request_ms:.2f} ms of CPU a request, {1e3 * request_ms / OUTPUT_TOK:.2f} us an output token",
        f"event-loop lag p99 {figures['lag_p99_s'] * 1e3:.1f} ms (limit {LAG_LIMIT_S * 1e3:g} ms), largest "
        f"{figures['lag_max_s'] * 1e3:.1f} ms",
    ]
    print("", *lines, sep="\n")
    assert figures["lag_p99_s"] < LAG_LIMIT_S
    record("Load client: long prompts", lines)


@pytest.mark.timeout(120)
def test_one_core_takes_25_000_tokens_a_second_in_512_streams_without_lag() -> None:
    steps_per_s = 1.02 * MANY_TOK_PER_S / MANY_STREAMS
    core = min(os.sched_getaffinity(0))
    with stepping_stub(steps_per_s) as url:
        _, figures = drive(
            url, "--streams", MANY_STREAMS, "--output-tok", 500, "--warm-s", 5, "--seconds", 25, "--core", core
        )
    share = figures["warm_cpu_s"] / (figures["warm_tok"] / figures["warm_tok_per_s"])
    lines = [
        f"{MANY_STREAMS} streams, {figures['warm_tok_per_s']:,.0f} tok/s on one core (limit {MANY_TOK_PER_S:,}): "
        f"{share:.0%} of it used",
        f"event-loop lag p99 {figures['lag_p99_s'] * 1e3:.1f} ms (limit {LAG_LIMIT_S * 1e3:g} ms), largest "
        f"{figures['lag_max_s'] * 1e3:.1f} ms",
    ]
    print("", *lines, sep="\n")
    assert figures["warm_tok_per_s"] >= MANY_TOK_PER_S
    assert figures["lag_p99_s"] < LAG_LIMIT_S
    record("Load client: one core", lines)
