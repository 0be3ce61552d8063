"""How fast the estimator is: a billion queries, a million, and the start of the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

BILLION = 1_000_000_000
FLEET_LIMIT_S, FLEET_LIMIT_MB, HELP_LIMIT_S = 25.0, 600.0, 0.4
CORES = len(os.sched_getaffinity(0))


def timed(*words: str) -> tuple[float, float, str]:
    """Seconds, peak memory in MB and standard output of one harness command."""
    start_s = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "harness.cli", *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return time.perf_counter() - start_s, usage.ru_maxrss / 1024, output


def plain_draw_ns(n: int = 1 << 22) -> float:
    """Nanoseconds a query to draw its length, node power and PUE with numpy, and nothing else, on all cores."""

    def draw(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(4):
            rng.standard_exponential(n)
            rng.standard_normal(n)
            rng.standard_normal(n)

    with ThreadPoolExecutor(CORES) as threads:
        start_s = time.perf_counter()
        list(threads.map(draw, range(CORES)))
        return (time.perf_counter() - start_s) / (CORES * 4 * n) * 1e9


def test_a_billion_queries_of_the_fleet() -> None:
    fleet = ("fleet", "--queries", "1e9", "--long-share", "0.1", "--preset", "oviedo2026-v2", "--json")
    start_up_s, _, _ = timed(*fleet, "--samples", "1000")
    seconds, peak_mb, output = timed(*fleet, "--samples", str(BILLION))
    document = json.loads(output)
    print(f"\n{BILLION:,} queries of three models, 10% long, on {CORES} cores: {seconds:.1f} s, peak {peak_mb:.0f} MB")
    print(f"  {(seconds - start_up_s) / BILLION * 1e9:.1f} ns a query without start-up ({start_up_s:.2f} s)")
    print(f"  {plain_draw_ns():.1f} ns a query for a plain numpy draw of the same variates, the reference limit")
    print(f"  quantiles in Wh: {document['wh_per_query']}")
    assert seconds <= FLEET_LIMIT_S
    assert peak_mb <= FLEET_LIMIT_MB


def test_a_million_samples_of_one_model_are_dominated_by_start_up() -> None:
    words = ("estimate", "--model", "Llama 3.1 405B", "--json", "--samples")
    start_up_s = min(timed(*words, "100")[0] for _ in range(3))
    seconds = min(timed(*words, "1000000")[0] for _ in range(3))
    print(f"\nestimate of 1,000,000 samples: {seconds:.2f} s, of them start-up {start_up_s:.2f} s")
    assert seconds - start_up_s < start_up_s


def test_the_help_appears_at_once() -> None:
    seconds = min(timed("--help")[0] for _ in range(5))
    print(f"\nharness --help: {seconds:.2f} s")
    assert seconds < HELP_LIMIT_S
